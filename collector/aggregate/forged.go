package aggregate

import (
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// A record that came in by a tenant's interface with a source that is nobody's
// here is forged (BCP 38). It is kept as a flow row, for the rule that asks whose
// port it was; it counts for no host.
//
// What is not forged: sources that no router carries, which are leaks of
// containers and tunnels; and those of a network behind us that nobody listed
// as internal. Packets to such a network come in from outside, to a forger's
// victim they do not.

const (
	// forgedSlots attachments, by hash, may have forgedMost rows each in a window:
	// in five minutes six times what the rule wants to be sure, and a flood costs
	// no more than that.
	forgedSlots = 1024
	forgedMost  = 20
	// transitSlots networks behind us are remembered for transitFor.
	transitSlots = 4096
	transitFor   = int64(3600e9) // ns
)

type forgeries struct {
	window  int64 // that rows counts
	rows    [forgedSlots]uint8
	transit [transitSlots]transitNet
}

// transitNet is a v4 /24 or a v6 /48 that packets from outside went to.
type transitNet struct {
	net  ip
	seen int64 // ns, of the last
}

func transitOf(a ip) ip {
	if a.is4() {
		return ip{a.hi, a.lo &^ 0xff}
	}
	return ip{hi: a.hi &^ 0xffff}
}

func (f *forgeries) slot(a ip) *transitNet {
	return &f.transit[hashTenant(a)%transitSlots]
}

// transit remembers a destination that is not internal, of packets that did not
// come in by a tenant's interface.
func (f *Front) transit(r *flow.Record, dst ip) {
	if f.nets.fromInside(r) {
		return
	}
	n := transitOf(dst)
	*f.forgeries.slot(n) = transitNet{n, r.Received}
}

// isForged judges a record whose source is neither internal nor a bogon.
func (f *Front) isForged(r *flow.Record, src ip) bool {
	if !f.nets.fromInside(r) {
		return false
	}
	n := transitOf(src)
	s := f.forgeries.slot(n)
	return s.net != n || r.Received-s.seen > transitFor
}

// forge adds the item of a forged record, unless its attachment had its share.
func (f *Front) forge(r *flow.Record, k *kind, t times, src, dst ip, blocks []*Block, only bool) {
	g := &f.forgeries
	if no := windowNo(r.Received); no != g.window {
		g.window, g.rows = no, [forgedSlots]uint8{}
	}
	mac := uint64(0)
	for _, b := range r.SrcMAC {
		mac = mac<<8 | uint64(b)
	}
	at := &g.rows[hashTenant(ip{f.lastIP.lo ^ uint64(r.InIf)<<32 ^ f.lastIP.hi, mac ^ uint64(r.VLAN)<<48})%forgedSlots]
	if *at >= forgedMost {
		if only {
			f.dropped[dropNotInternal]++
		}
		return
	}
	*at++
	it := f.item(ip{}, r.SamplingRate, blocks)
	it.fill(r, k, t)
	it.host, it.exporter, it.remote, it.hostPort, it.remotePort = src, f.lastIP, dst, r.SrcPort, r.DstPort
	it.dir, it.role, it.counter = out, k.sender, noCounter
	it.set = itemSpoofed | itemForged
	if only {
		it.set |= itemPrimary
	}
}

// fromInside reports whether r came in by an interface of a router whose outer
// interfaces are known, and not by one of those.
func (n *networks) fromInside(r *flow.Record) bool {
	if len(n.external) == 0 || r.Has&flow.HasInIf == 0 || r.InIf == 0 {
		return false
	}
	return n.outerKnown[r.Exporter] && !n.isExternal(r.Exporter, r.InIf)
}

// outerKnown are the exporters that have an outer interface.
func outerKnown(external []Interface) map[netip.Addr]bool {
	known := make(map[netip.Addr]bool, len(external))
	for _, i := range external {
		known[i.Exporter] = true
	}
	return known
}
