package complaint

import (
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/complaint/parse"
	"github.com/flowcordon/flowcordon/flow"
)

// claim is a line turned towards our side.
type claim struct {
	line       int // index into Result.Lines
	tenant     netip.Addr
	host       netip.Addr
	remote     netip.Addr   // zero: not named
	net        netip.Prefix // of the remote, when only that is named
	hostPort   uint16       // 0: not stated
	remotePort uint16
	usual      []uint16 // ports of the other side, when none is stated
	proto      uint8
	from, to   time.Time   // what is claimed, without tolerance
	readings   []time.Time // other readings of from
	answer     bool
	k          uint64 // packets from our side that the claim needs at least
	stated     bool
	connected  bool // of a stood TCP connection
}

// named reports whether the claim can be looked for: by a target, or by a service.
func (c *claim) named() bool { return c.remote.IsValid() || c.service() }

func (c *claim) service() bool {
	return !c.remote.IsValid() && (c.remotePort > 0 || len(c.usual) > 0 || c.net.IsValid())
}

// sides finds which end of the line is ours. Where the line does not say who
// did it, ours is taken for the source.
func (m *Matcher) sides(l *Line) (c claim, ours bool) {
	src, dst := m.deps.TenantKey(l.Src.Addr), netip.Addr{}
	if l.Dst.Addr.IsValid() {
		dst = m.deps.TenantKey(l.Dst.Addr)
	}
	c = claim{proto: l.IPProto, answer: l.Answer, from: l.Time, to: l.Time, usual: l.Usual}
	switch {
	case src.IsValid():
		l.Side, c.tenant = "source", src
		c.host, c.hostPort = l.Src.Addr, l.Src.Port
		c.remote, c.net, c.remotePort = l.Dst.Addr, l.Dst.Prefix, l.Dst.Port
		if dst.IsValid() {
			l.note("both_ours")
		}
	case dst.IsValid():
		l.Side, c.tenant = "destination", dst
		c.host, c.hostPort = l.Dst.Addr, l.Dst.Port
		c.remote, c.remotePort = l.Src.Addr, l.Src.Port
		c.usual = nil
		if l.RolesAssumed {
			l.note("roles_swapped")
		} else {
			l.note("ours_is_target")
		}
	default:
		l.Side = "none"
		return c, false
	}
	l.Host, l.Remote = c.host, c.remote
	if l.End.After(l.Time) {
		c.to = l.End
	}
	if l.What == parse.WhatBan {
		c.from = c.from.Add(-banAfter)
		l.note("ban")
	}
	for _, a := range l.Zone.Alternatives {
		c.readings = append(c.readings, a.Time)
	}
	if c.proto != 0 && c.proto != flow.ProtoTCP && c.proto != flow.ProtoUDP {
		c.hostPort, c.remotePort, c.usual = 0, 0, nil
	}
	m.claimed(l, &c)
	return c, true
}

// claimed is how many packets of ours the line stands for at least. A line is a
// packet; a stood TCP connection with a port of its own is four: SYN, ACK, data,
// FIN or RST (RFC 9293 §3.5, §3.6). Several logins or requests may share a
// connection, so that without the port one packet is all that is sure. Where
// only attempts are stored, only the SYN counts.
func (m *Matcher) claimed(l *Line, c *claim) {
	c.k, c.stated, c.connected = 1, l.Count > 0, l.What.Connected()
	if c.stated {
		c.k = min(l.Count, 1<<40)
	}
	if l.What.Connected() && c.hostPort > 0 && m.cfg.FlowPolicy != "attempts" {
		c.k = max(c.k, 4)
	}
}

// matches reports whether a flow row is what the claim tells, whenever it was,
// and whether both ports are equal.
func (c *claim) matches(r *flow.FlowRow) (ok, exact bool) {
	if r.Tenant != c.tenant || r.Spoofed || c.proto != 0 && r.IPProto != c.proto || r.Host != c.host {
		return false, false
	}
	switch {
	case c.remote.IsValid():
		if r.Remote != c.remote {
			return false, false
		}
	case c.net.IsValid():
		if !c.net.Contains(r.Remote) {
			return false, false
		}
	}
	if c.remotePort > 0 && r.RemotePort != c.remotePort {
		return false, false
	}
	if c.remotePort == 0 && len(c.usual) > 0 && !slices.Contains(c.usual, r.RemotePort) {
		return false, false
	}
	// Where the line names our port only, as an attacked service's, it must be that.
	if c.remotePort == 0 && c.hostPort > 0 && len(c.usual) == 0 && r.HostPort != c.hostPort {
		return false, false
	}
	return true, c.hostPort > 0 && r.HostPort == c.hostPort
}

// within reports whether the row is at the claimed time, moved by off, with the
// tolerance.
func (c *claim) within(r *flow.FlowRow, off, tolerance time.Duration) bool {
	return r.End >= c.from.Add(off-tolerance).UnixNano() && r.Start <= c.to.Add(off+tolerance).UnixNano()
}

// span is the claimed time with what lies around it.
func (c *claim) span(d time.Duration) flow.Range {
	return flow.Range{From: c.from.Add(-d), To: c.to.Add(d + time.Nanosecond)}
}

// merge unites ranges that overlap or are close, so that at most n are left.
func merge(l []flow.Range, gap time.Duration, n int) []flow.Range {
	if len(l) == 0 {
		return nil
	}
	slices.SortFunc(l, func(a, b flow.Range) int { return a.From.Compare(b.From) })
	for ; ; gap = 2*gap + time.Minute {
		out := []flow.Range{l[0]}
		for _, r := range l[1:] {
			last := &out[len(out)-1]
			if r.From.After(last.To.Add(gap)) {
				out = append(out, r)
			} else if r.To.After(last.To) {
				last.To = r.To
			}
		}
		if len(out) <= n {
			return out
		}
		l = out
	}
}
