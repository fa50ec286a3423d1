package aggregate

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestPlacesAgreeWithTheTries: the tables answer what the prefixes say, at
// their edges too.
func TestPlacesAgreeWithTheTries(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	any4 := func() netip.Addr {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], r.Uint32())
		return netip.AddrFrom4(b)
	}
	any6 := func() netip.Addr {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], r.Uint64())
		binary.BigEndian.PutUint64(b[8:], r.Uint64())
		b[0] = 0x20
		return netip.AddrFrom16(b)
	}
	for round := range 20 {
		var cfg Config
		var ask []netip.Addr
		for i := range 60 {
			p := netip.PrefixFrom(any4(), r.IntN(33))
			if i%3 == 0 {
				p = netip.PrefixFrom(any6(), 1+r.IntN(64+64*(round%2)))
			}
			if p.Bits() < 6 {
				continue
			}
			p = p.Masked()
			ask = append(ask, p.Addr(), p.Addr().Prev(), last(p), last(p).Next())
			if i%2 == 0 {
				cfg.Internal = append(cfg.Internal, p)
			} else {
				cfg.Bogons = append(cfg.Bogons, p)
			}
		}
		for range 2000 {
			ask = append(ask, any4(), any6())
		}
		n := newNetworks(cfg)
		for range 2 { // the second time from what is remembered
			for _, a := range ask {
				if !a.IsValid() {
					continue
				}
				var want place
				if contains(cfg.Internal, a) {
					want = placeInternal
				} else if contains(cfg.Bogons, a) {
					want = placeBogon
				}
				if got := n.place(a, ipOf(a)); got != want {
					t.Fatalf("round %d: %s is %d, want %d", round, a, got, want)
				}
			}
		}
	}
}

func contains(ps []netip.Prefix, a netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
