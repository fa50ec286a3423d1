package aggregate

import (
	"encoding/binary"
	"net/netip"

	"github.com/gaissmai/bart"

	"github.com/flowcordon/flowcordon/flow"
)

// networks answers what an address is: internal, bogon, or the Internet. Most
// addresses are v4 and answered by one or two bytes of a table; only where a
// prefix is longer than /24 is the trie asked.
type networks struct {
	internal bart.Lite
	bogons   bart.Lite
	external map[Interface]struct{}
	// outerKnown are the exporters of which an external interface is known.
	outerKnown map[netip.Addr]bool
	v6Bits     int
	mask       ip // of v6 tenants

	v4   [1 << 16]place            // by the upper 16 bits
	fine map[uint16]*[1 << 8]place // by the next 8, where v4 says mixed

	v6      [v6Slots]v6Slot // what the trie said of the /64s seen last
	v6Whole bool            // no v6 prefix is longer than /64
}

// place is what an address is, or that its block is not all one.
type place uint8

const (
	placeInternal place = 1 << iota
	placeBogon          // and not internal: operators do number their networks from these blocks
	placeMixed
)

const v6Slots = 1024

type v6Slot struct {
	hi    uint64
	known bool
	place place
}

func newNetworks(c Config) *networks {
	n := &networks{external: make(map[Interface]struct{}, len(c.External)), v6Bits: c.V6TenantBits,
		fine: make(map[uint16]*[1 << 8]place), v6Whole: true}
	n.mask = maskOf(c.V6TenantBits)
	for _, p := range c.Internal {
		n.internal.Insert(p.Masked())
	}
	for _, p := range c.Bogons {
		n.bogons.Insert(p.Masked())
	}
	for _, i := range c.External {
		n.external[i] = struct{}{}
	}
	n.outerKnown = outerKnown(c.External)
	n.compile(append(append([]netip.Prefix(nil), c.Internal...), c.Bogons...))
	return n
}

// compile fills the tables. A block that a longer prefix cuts is mixed.
func (n *networks) compile(prefixes []netip.Prefix) {
	v4 := func(x uint32) netip.Addr {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], x)
		return netip.AddrFrom4(b)
	}
	for i := range n.v4 {
		n.v4[i] = n.ask(v4(uint32(i) << 16))
	}
	var cut []uint32 // first addresses of /24s that a longer prefix cuts
	for _, p := range prefixes {
		if p.Addr().Is6() {
			n.v6Whole = n.v6Whole && p.Bits() <= 64
			continue
		}
		b := p.Masked().Addr().As4()
		x := binary.BigEndian.Uint32(b[:])
		if p.Bits() > 16 {
			n.v4[x>>16] = placeMixed
		}
		if p.Bits() > 24 {
			cut = append(cut, x)
		}
	}
	for i, p := range n.v4 {
		if p != placeMixed {
			continue
		}
		t := new([1 << 8]place)
		for j := range t {
			t[j] = n.ask(v4(uint32(i)<<16 | uint32(j)<<8))
		}
		n.fine[uint16(i)] = t
	}
	for _, x := range cut {
		n.fine[uint16(x>>16)][x>>8&0xff] = placeMixed
	}
}

// ask asks the tries.
func (n *networks) ask(a netip.Addr) place {
	switch {
	case n.internal.Lookup(a):
		return placeInternal
	case n.bogons.Lookup(a):
		return placeBogon
	}
	return 0
}

// place returns what a is; x is the same address.
func (n *networks) place(a netip.Addr, x ip) place {
	if x.is4() {
		p := n.v4[x.lo>>16&0xffff]
		if p == placeMixed {
			if p = n.fine[uint16(x.lo>>16)][x.lo>>8&0xff]; p == placeMixed {
				p = n.ask(a)
			}
		}
		return p
	}
	if !n.v6Whole {
		return n.ask(a)
	}
	s := &n.v6[flow.Mix64(x.hi)%v6Slots]
	if s.hi != x.hi || !s.known {
		*s = v6Slot{hi: x.hi, known: true, place: n.ask(a)}
	}
	return s.place
}

func (n *networks) isExternal(exporter netip.Addr, ifIndex uint32) bool {
	if len(n.external) == 0 {
		return false
	}
	_, ok := n.external[Interface{Exporter: exporter, IfIndex: ifIndex}]
	return ok
}

// maskOf is the mask of a v6 prefix of that length.
func maskOf(bits int) ip {
	if bits >= 128 {
		return ip{^uint64(0), ^uint64(0)}
	}
	if bits > 64 {
		return ip{^uint64(0), ^(^uint64(0) >> (bits - 64))}
	}
	return ip{^(^uint64(0) >> bits), 0}
}

// tenant is the window key of an internal address: the v4 address itself, or
// the first address of the v6 prefix delegated to its holder.
func (a ip) tenant(mask ip) ip {
	if a.is4() {
		return a
	}
	return ip{a.hi & mask.hi, a.lo & mask.lo}
}
