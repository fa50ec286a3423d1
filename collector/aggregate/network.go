package aggregate

import (
	"encoding/binary"
	"net/netip"

	"github.com/gaissmai/bart"
)

// networks answers what an address is: internal, bogon, or the Internet.
type networks struct {
	internal bart.Lite
	bogons   bart.Lite
	external map[Interface]struct{}
	v6Bits   int
}

func newNetworks(c Config) *networks {
	n := &networks{external: make(map[Interface]struct{}, len(c.External)), v6Bits: c.V6TenantBits}
	for _, p := range c.Internal {
		n.internal.Insert(p.Masked())
	}
	for _, p := range c.Bogons {
		n.bogons.Insert(p.Masked())
	}
	for _, i := range c.External {
		n.external[i] = struct{}{}
	}
	return n
}

func (n *networks) isExternal(exporter netip.Addr, ifIndex uint32) bool {
	if len(n.external) == 0 {
		return false
	}
	_, ok := n.external[Interface{Exporter: exporter, IfIndex: ifIndex}]
	return ok
}

// isBogon reports whether no router carries a packet to a. Internal wins:
// operators do number their own networks from these blocks.
func (n *networks) isBogon(a netip.Addr, internal bool) bool {
	return !internal && n.bogons.Contains(a)
}

// tenant is the window key of an internal address: the v4 address itself, or
// the first address of the v6 prefix delegated to its holder.
func (n *networks) tenant(a netip.Addr) addr16 {
	b := addr16(a.As16())
	if a.Is4() || n.v6Bits >= 128 {
		return b
	}
	for i := n.v6Bits / 8; i < 16; i++ {
		keep := n.v6Bits - i*8
		if keep <= 0 {
			b[i] = 0
		} else {
			b[i] &= byte(0xff << (8 - keep))
		}
	}
	return b
}

// addr16 is an address without pointers, v4 mapped, so that tables keyed by it
// are never scanned by the garbage collector.
type addr16 [16]byte

func (b addr16) addr() netip.Addr { return netip.AddrFrom16(b).Unmap() }

// hashRemote maps a remote to the 64-bit value that stands for it in
// ServiceWindow.Remotes: a v4 address by itself, a v6 address by its /64, since
// one host may use any address of it. It is the same in every process and
// version, because hashes of different rows are united in the store. For
// either family the map is one-to-one, so that counting it counts exactly.
func hashRemote(a netip.Addr) uint64 {
	b := a.As16()
	hi := binary.BigEndian.Uint64(b[:8])
	var lo uint64
	if a.Is4() {
		lo = binary.BigEndian.Uint64(b[8:])
	}
	return mix64(mix64(hi+0x9e3779b97f4a7c15) ^ lo)
}

// mix64 is the finaliser of SplitMix64 (Steele, Lea, Flood 2014), a bijection.
func mix64(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
