package detect

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// TestSlotsForgetTenants: tenants come and go, as addresses of a big IPv6 prefix
// do; sums stay right, and who was long gone takes no memory.
func TestSlotsForgetTenants(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	const keep = 10 * time.Minute
	c := newSlotCache(nil, flow.ScreenQuery{}, keep)
	want := map[int64]map[netip.Addr]float64{}
	ts := time.Unix(1_800_000_000, 0)
	for tick := range 400 {
		ts = ts.Add(window)
		c.tenants.most = 100
		c.begin(ts)
		s, truth := &slot{}, map[netip.Addr]float64{}
		for range 20 {
			a := netip.AddrFrom4([4]byte{11, byte(tick / 50), byte(r.IntN(2)), byte(r.IntN(40))})
			if _, ok := truth[a]; ok {
				continue
			}
			truth[a] = float64(1 + r.IntN(100))
			s.shows[flow.SignUDP] = append(s.shows[flow.SignUDP], shown{c.tenants.get(a), float32(truth[a])})
		}
		at := ts.Add(-window).Unix()
		c.windows[at], want[at] = s, truth
		if tick < 10 {
			continue
		}
		over := flow.Range{From: ts.Add(-time.Minute - 30*time.Second), To: ts}
		sums := map[netip.Addr]float64{}
		for from := over.From.Unix(); from < ts.Unix(); from += flow.WindowSeconds {
			for a, much := range want[from] {
				sums[a] += much
			}
		}
		maps.DeleteFunc(sums, func(_ netip.Addr, much float64) bool { return much < 120 })
		got := map[netip.Addr]float64{}
		c.tiles(over, func(from int64, step time.Duration) { // a settled minute is its windows
			if step == time.Minute {
				m := &slot{}
				for w := from; w < from+60; w += flow.WindowSeconds {
					m.shows[flow.SignUDP] = append(m.shows[flow.SignUDP], c.windows[w].shows[flow.SignUDP]...)
				}
				c.minutes[from] = m
			}
		})
		c.over(&bound{sign: flow.SignUDP, least: 120}, over, func(a netip.Addr) { got[a] = sums[a] })
		if !maps.Equal(got, sums) {
			t.Fatalf("tick %d: %v, want %v", tick, got, sums)
		}
	}
	c.tenants.most = 1
	before := len(c.tenants.of)
	c.begin(ts.Add(time.Hour)) // nothing is kept so long
	c.forget()
	if len(c.tenants.of) >= before {
		t.Errorf("%d names of nobody, %d before", len(c.tenants.of), before)
	}
}
