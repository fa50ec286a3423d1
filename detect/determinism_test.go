package detect

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/cmd/flowgen/scenario"
	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/flow"
)

// capture is what one run of a scenario exports, with times relative to its
// beginning: what is replayed.
type capture struct {
	records []flow.Record // in the order of their arrival
	length  time.Duration
}

func record(t *testing.T, name string, n uint32, netflow bool) capture {
	t.Helper()
	s, err := scenario.Read("testdata/" + name + ".scenario")
	if err != nil {
		t.Fatal(err)
	}
	c := capture{length: min(s.Length, 2*time.Minute)}
	g := scenario.NewGenerator(7, n, netflow)
	for e := time.Duration(0); e < c.length; e += step {
		for i := range s.Sources {
			g.Run(&s.Sources[i], epoch, e)
		}
		for _, r := range g.Take(epoch.Add(e + step)) {
			r.Received, r.Start, r.End = r.Received-epoch.UnixNano(), r.Start-epoch.UnixNano(), r.End-epoch.UnixNano()
			c.records = append(c.records, r)
		}
	}
	return c
}

// replay runs a capture as if it had begun at base, and returns the findings
// with their times relative to it.
func (c *capture) replay(t *testing.T, base time.Time) []flow.Finding {
	t.Helper()
	var b flow.Batch
	agg := aggregate.NewLocal(aggregate.Config{Internal: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")}, FlowPolicy: aggregate.FlowAll}, collect(&b))
	mem := newMemWindows()
	d := New(Config{}, Deps{Windows: mem})
	var out []flow.Finding
	next := 0
	for e := step; e <= c.length+time.Minute; e += step {
		for ; next < len(c.records) && c.records[next].Received < int64(e); next++ {
			r := c.records[next]
			r.Received, r.Start, r.End = r.Received+base.UnixNano(), r.Start+base.UnixNano(), r.End+base.UnixNano()
			agg.Add(&r)
		}
		agg.Flush(base.Add(e).UnixNano(), false)
		mem.add(&b)
		b = flow.Batch{}
		fs, err := d.Tick(context.Background(), base.Add(e))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fs {
			for _, at := range []*time.Time{&f.Time, &f.From, &f.To} {
				*at = time.Unix(0, 0).UTC().Add(at.Sub(base))
			}
			out = append(out, f)
		}
	}
	return out
}

// The same capture gives the same findings, twice and on another day: nothing
// depends on the order of a store's answers, on maps, on the date or on the year.
func TestSameCaptureSameFindings(t *testing.T) {
	days := map[string]time.Time{
		"the next day":              epoch.AddDate(0, 0, 1),
		"over the end of a year":    time.Date(2027, 12, 31, 23, 59, 0, 0, time.UTC),
		"over a leap day":           time.Date(2028, 2, 28, 23, 58, 0, 0, time.UTC),
		"while clocks are set back": time.Date(2026, 10, 25, 0, 58, 0, 0, time.UTC),
	}
	for _, c := range []struct {
		name    string
		n       uint32
		netflow bool
		rule    flow.Rule // that must be there, or the comparison says nothing
	}{
		{"a01", 256, false, flow.RuleNetscan}, {"a03", 1, true, flow.RuleNetscan}, {"a13", 256, false, flow.RuleReflector}, {"a14", 256, true, flow.RulePortscan},
		{"a16", 256, false, flow.RuleBlockscan}, {"a19", 1000, true, flow.RuleICMPFlood}, {"a34", 256, false, flow.RulePacketFlood}, {"a39", 1000, false, flow.RuleUDPFlood},
		{"b30", 256, false, flow.RuleSYNFlood}, {"a23", 256, false, flow.RuleSpam},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rec := record(t, c.name, c.n, c.netflow)
			first := rec.replay(t, epoch)
			has := false
			for i := range first {
				has = has || first[i].Rule == c.rule
			}
			if !has {
				t.Fatalf("no finding of %s among %d", c.rule, len(first))
			}
			same := func(what string, again []flow.Finding) {
				if d := cmp.Diff(first, again, cmpopts.EquateComparable(netip.Addr{})); d != "" {
					t.Errorf("%s (-first +again):\n%s", what, d)
				}
			}
			same("twice", rec.replay(t, epoch))
			for what, base := range days {
				same(what, rec.replay(t, base))
			}
		})
	}
}
