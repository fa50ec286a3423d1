package scenario

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// ForgerMAC is the Ethernet source of the tenant who forges IP sources.
var ForgerMAC = [6]byte{0x52, 0x54, 0, 0, 0, 0x77}

// turn makes r incoming if the packet is.
func turn(r flow.Record, out bool) flow.Record {
	if !out {
		r.Src, r.Dst, r.SrcPort, r.DstPort = r.Dst, r.Src, r.DstPort, r.SrcPort
	}
	return r
}

func (s *Source) finish(r *flow.Record, q pkt, flags uint8) {
	switch {
	case s.proto == flow.ProtoTCP && !s.noFlags:
		r.Has |= flow.HasTCPFlags
		r.TCPFlags = flags
	case s.proto == flow.ProtoICMP || s.proto == flow.ProtoICMPv6:
		r.Has |= flow.HasICMP
		r.ICMPType = s.echo(q.out != s.server)
	case s.udp.icmp && q.out:
		r.IPProto, r.Has = flow.ProtoICMP, flow.HasIPProto|flow.HasICMP
		r.ICMPType, r.ICMPCode, r.SrcPort, r.DstPort = 3, 3, 0, 0
	}
	if s.udp.errors && !q.out {
		r.IPProto, r.Has = flow.ProtoICMP, flow.HasIPProto|flow.HasICMP
		r.ICMPType, r.SrcPort, r.DstPort = 11, 0, 0 // time exceeded
	}
	switch {
	case s.spoofed && q.out:
		r.InIf, r.OutIf = IfExternal, IfTenants
	case s.forged != "" && q.out:
		r.InIf, r.OutIf = IfForger, IfExternal
		if r.Protocol == flow.SFlow5 {
			r.SrcMAC = ForgerMAC
			r.Has |= flow.HasSrcMAC
		}
	case q.out:
		r.InIf, r.OutIf = IfTenants, IfExternal
	default:
		r.InIf, r.OutIf = IfExternal, IfTenants
	}
	r.Has |= flow.HasInIf | flow.HasOutIf
}

// echo is the ICMP type of a request or of a reply.
func (s *Source) echo(request bool) uint8 {
	switch {
	case s.proto == flow.ProtoICMPv6 && request:
		return 128
	case s.proto == flow.ProtoICMPv6:
		return 129
	case request:
		return 8
	}
	return 0
}

func (g *Generator) sample(s *Source, r flow.Record, at time.Time, q pkt) {
	r = turn(r, q.out)
	r.Protocol, r.Packets, r.Bytes, r.IPLen = flow.SFlow5, 1, uint64(q.length), q.length
	r.Received = at.Add(sflowDelay).UnixNano()
	r.Start, r.End = r.Received, r.Received
	r.Has |= flow.HasIPLen | flow.HasTTL
	if r.TTL = 60; q.out && s.proto == flow.ProtoTCP {
		r.TTL = s.tcp.ttl
	}
	s.finish(&r, q, q.flags)
	g.emit(r)
}

// cache exports the sampled packets of one direction as a NetFlow cache does:
// one record until the flow was silent for the inactive timeout or lasted the
// active timeout.
func (g *Generator) cache(s *Source, r flow.Record, at time.Time, pkts []pkt, out bool) {
	var cur flow.Record
	var first, last float64
	flush := func(end float64, wait time.Duration) {
		if cur.Packets > 0 {
			cur.Received = at.Add(time.Duration(end*float64(time.Second)) + wait).UnixNano()
			g.emit(cur)
			cur = flow.Record{}
		}
	}
	sorted := slices.Clone(pkts)
	slices.SortFunc(sorted, func(a, b pkt) int { return int(math.Copysign(1, a.at-b.at)) })
	for _, q := range sorted {
		if q.out != out {
			continue
		}
		if cur.Packets > 0 && q.at-last > InactiveTimeout.Seconds() {
			flush(last, InactiveTimeout)
		} else if cur.Packets > 0 && q.at-first > ActiveTimeout.Seconds() {
			flush(q.at, 0)
		}
		ns := at.Add(time.Duration(q.at * float64(time.Second))).UnixNano()
		if cur.Packets == 0 {
			cur = turn(r, out)
			cur.Protocol, cur.Start, first = flow.NetFlow9, ns, q.at
			cur.Has |= flow.HasTimes
		}
		s.finish(&cur, q, cur.TCPFlags|q.flags)
		cur.End, last = ns, q.at
		cur.Packets++
		cur.Bytes += uint64(q.length)
	}
	flush(last, InactiveTimeout)
}

// runStream makes packets of constant rate on pool flows: a download, a tunnel,
// a flood.
func (g *Generator) runStream(s *Source, start time.Time, from, to time.Duration) {
	length := (to - from).Seconds()
	for i := range s.pool {
		r := g.addresses(s, true)
		r.Dst = s.member(i)
		if len(s.ports) > 0 {
			own, svc := cmp.Or(s.own, uint16(40000+i)), s.ports[0]
			r.SrcPort, r.DstPort = own, svc
			if s.server {
				r.SrcPort, r.DstPort = svc, own
			}
		}
		for _, out := range []bool{true, false} {
			pps, size := s.rate/float64(s.pool), s.udp.size
			if !out {
				pps, size = pps*s.udp.ok, s.udp.insize
			}
			if g.netflow {
				g.streamRecord(s, turn(r, out), start, from, to, pps, size, out)
				continue
			}
			for range g.poisson(pps * length / float64(g.n)) {
				at := start.Add(from + time.Duration(g.rng.Float64()*float64(to-from)))
				g.sample(s, r, at, pkt{0, out, s.streamFlags(out), uint16(size)})
			}
		}
	}
}

// streamRecord exports a stream by the active timeout, counted from its start.
func (g *Generator) streamRecord(s *Source, r flow.Record, start time.Time, from, to time.Duration, pps float64, size int, out bool) {
	begin := s.from + (from-s.from)/s.active*s.active
	end := min(begin+s.active, s.to)
	if to < end {
		return
	}
	n := uint64(g.poisson(pps * (end - begin).Seconds() / float64(g.n)))
	if n == 0 {
		return
	}
	wait := time.Duration(0)
	if end == s.to {
		wait = InactiveTimeout
	}
	r.Protocol, r.Packets, r.Bytes = flow.NetFlow9, n, n*uint64(size)
	r.Start, r.End = start.Add(begin).UnixNano(), start.Add(end).UnixNano()
	r.Received = r.End + int64(wait)
	r.Has |= flow.HasTimes
	s.finish(&r, pkt{out: out}, s.streamFlags(out))
	g.emit(r)
}

func (s *Source) streamFlags(out bool) uint8 {
	if out && s.flags != 0 {
		return s.flags
	}
	return flow.ACK
}
