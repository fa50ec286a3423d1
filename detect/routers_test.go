package detect

import (
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/flow"
)

// An upload that is answered by 5 % of its packets (B18), whose answers come by
// another router: another shard or collector, perhaps another sampling rate.
// It must look like the same upload through one router.
// So must traffic that several routers see a part of, at rates of their own.
func TestUploadBySeveralRouters(t *testing.T) {
	const length = 6 * time.Minute
	remote := netip.MustParseAddr("203.0.113.77")
	type stream struct {
		router int
		out    bool
		pps    float64
		rate   uint32
	}
	for _, c := range []struct {
		name    string
		streams []stream
		want    flow.Tier // the most that is found
	}{
		{"one router", []stream{{0, true, 80_000, 1000}, {0, false, 4_000, 1000}}, flow.TierNone},
		{"answers by another", []stream{{0, true, 80_000, 1000}, {1, false, 4_000, 1000}}, flow.TierNone},
		{"answers by another that samples less", []stream{{0, true, 80_000, 1000}, {1, false, 4_000, 10_000}}, flow.TierNone},
		{"answers by another that samples more", []stream{{0, true, 80_000, 4000}, {1, false, 4_000, 100}}, flow.TierNone},
		// 12,000/s one way is below the 15,000 that may be, whoever sees them.
		{"one way below the limit by two", []stream{{0, true, 11_000, 10}, {1, true, 1_000, 1000}}, flow.TierNone},
		{"flood by two", []stream{{0, true, 50_000, 1000}, {1, true, 50_000, 4000}}, flow.TierSuspend},
		{"answers by another, 1:4096", []stream{{0, true, 80_000, 4096}, {1, false, 4_000, 4096}}, flow.TierNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			var aggs []*aggregate.Local
			var b flow.Batch
			for range 2 {
				aggs = append(aggs, aggregate.NewLocal(aggregate.Config{Internal: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")},
					Bogons: []netip.Prefix{}, FlowPolicy: aggregate.FlowOff}, collect(&b)))
			}
			mem := newMemWindows()
			d := New(Config{}, Deps{Windows: mem})
			most := flow.TierNone
			sent := make([]float64, len(c.streams))
			for e := time.Duration(0); e < length; e += step {
				ts := epoch.Add(e + step)
				for i, s := range c.streams {
					for sent[i] += s.pps / float64(s.rate) * step.Seconds(); sent[i] >= 1; sent[i]-- {
						at := ts.Add(-time.Second).UnixNano()
						r := flow.Record{Exporter: exporter, Protocol: flow.SFlow5, Received: at, Start: at, End: at,
							Src: tenant4, Dst: remote, SrcPort: 51820, DstPort: 51821, IPProto: flow.ProtoUDP, Packets: 1, Bytes: 1400,
							SamplingRate: s.rate, Has: flow.HasPorts | flow.HasIPProto}
						if !s.out {
							r.Src, r.Dst, r.SrcPort, r.DstPort = r.Dst, r.Src, r.DstPort, r.SrcPort
						}
						aggs[s.router].Add(&r)
					}
				}
				for _, a := range aggs {
					a.Flush(ts.UnixNano(), false)
				}
				mem.add(&b)
				b = flow.Batch{}
				found, err := d.Tick(t.Context(), ts)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range found {
					most = max(most, f.Tier)
					if f.Tier > c.want {
						t.Fatalf("after %v: %s %s: %s", e+step, f.Rule, f.Tier, f.Reason)
					}
				}
			}
			if most != c.want {
				t.Errorf("found %s at most, want %s", most, c.want)
			}
		})
	}
}
