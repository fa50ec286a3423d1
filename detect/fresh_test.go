package detect

import (
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// A long range that holds what was answered already does not hide a short one
// that is new, however much stronger it is; without anything new, it is told.
func TestFreshGoesFirst(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	released := now.Add(-2 * time.Minute)
	tenant := netip.MustParseAddr("11.0.0.1")
	find := func(length time.Duration, tier flow.Tier, score float64) flow.Finding {
		return flow.Finding{Tenant: tenant, Rule: flow.RuleNetscan, Port: 22, Tier: tier, Score: score, From: now.Add(-length), To: now}
	}
	fresh := func(_ netip.Addr, from time.Time) bool { return !from.Before(released) }
	short, long, longer := find(time.Minute, flow.TierNotify, 20), find(5*time.Minute, flow.TierSuspend, 400), find(30*time.Minute, flow.TierSuspend, 900)
	for _, tc := range []struct {
		name  string
		fresh func(netip.Addr, time.Time) bool
		in    []flow.Finding
		want  time.Duration
	}{
		{"the short one is new", fresh, []flow.Finding{short, long, longer}, time.Minute},
		{"in whatever order", fresh, []flow.Finding{longer, long, short}, time.Minute},
		{"none is new", fresh, []flow.Finding{long, longer}, 30 * time.Minute},
		{"all are", func(netip.Addr, time.Time) bool { return true }, []flow.Finding{short, long, longer}, 30 * time.Minute},
		{"nobody says", nil, []flow.Finding{short, long, longer}, 30 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := New(Defaults(), Deps{Fresh: tc.fresh})
			s := &tickState{d: d, ts: now, best: map[findingKey]flow.Finding{}}
			for _, f := range tc.in {
				s.keep(f, f.To.Sub(f.From))
			}
			if len(s.best) != 1 {
				t.Fatalf("%d findings", len(s.best))
			}
			for _, f := range s.best {
				if got := f.To.Sub(f.From); got != tc.want {
					t.Errorf("kept the range of %s, want that of %s", got, tc.want)
				}
			}
		})
	}
}
