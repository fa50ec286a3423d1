package detect

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
)

// handshakes are what tenants of an exporter that samples one in claimed/factor
// show of their connections.
func handshakes(r *rand.Rand, tenants, answered int, claimed uint32, factor float64) []flow.RateCheck {
	var out []flow.RateCheck
	for i := range tenants {
		c := flow.RateCheck{Exporter: netip.MustParseAddr("10.0.0.1"), Tenant: netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), Rate: claimed,
			Answered: uint64(answered/2 + r.IntN(answered+1))}
		for range c.Answered {
			if r.Float64() < factor/float64(claimed) {
				c.Both++
			}
		}
		out = append(out, c)
	}
	return out
}

func TestWrongRates(t *testing.T) {
	for _, c := range []struct {
		tenants, answered int
		claimed           uint32
		found             bool // with a rate claimed ten times too high
	}{
		{4, 10, 200, false},  // the first minutes of few tenants: too little to tell
		{20, 100, 200, true}, // half an hour of them
		{100, 100, 200, true},
		{256, 100, 200, true},
		{12, 1000, 200, true}, // every tenant shows connections of which both were sampled, at the right rate too
		{100, 5000, 1000, true},
		{40, 10_000, 100, true},
		{256, 20, 1000, true},
		{100, 5, 4096, false},
		{2, 5000, 200, false}, // nobody but two
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			for seed := range uint64(20) {
				r := rand.New(rand.NewPCG(seed, 1))
				for _, honest := range []float64{1, 2} {
					if w := wrongRates(handshakes(r, c.tenants, c.answered, c.claimed, honest), 3); len(w) != 0 {
						t.Errorf("seed %d: %v at %g times the claimed rate", seed, w, honest)
					}
				}
				if w := wrongRates(handshakes(r, c.tenants, c.answered, c.claimed, 10), 3); (len(w) == 1) != c.found {
					t.Errorf("seed %d: ten times: %v", seed, w)
				}
			}
		})
	}
}

// TestOddTenantsMoveNoRate: who connects from one port again and again shows both
// halves of nearly all connections. Some of those must not put their router in
// doubt, which would save every attacker behind it.
func TestOddTenantsMoveNoRate(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for _, answered := range []int{5, 100, 3000} {
		checks := handshakes(r, 100, answered, 1000, 1)
		for i := range 8 {
			checks[i].Both = checks[i].Answered
		}
		if w := wrongRates(checks, 3); len(w) != 0 {
			t.Errorf("%d connections: %v", answered, w)
		}
	}
}
