package aggregate

import (
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// side is a record turned towards one internal endpoint.
type side struct {
	rec          *flow.Record
	kind         kind
	dir          flow.Direction
	host, remote netip.Addr
	role         flow.Role // the host's
	bogon        bool
	spoofed      bool
	tenant       addr16
}

// addSide adds the record's spans to the host's windows and keeps its flow row.
// It reports whether the host's window of the record's end took it.
func (a *Aggregator) addSide(s *side, t times) bool {
	s.tenant = a.nets.tenant(s.host)
	stored := false
	first := 0
	if s.spoofed {
		first = len(a.spans) - 1 // one record and no packets: the host did not send them
	}
	for i := first; i < len(a.spans); i++ {
		last := i == len(a.spans)-1
		w := a.window(a.spans[i].start, s.rec.Received)
		stored = a.addSpan(w, s, &a.spans[i], last)
	}
	if a.wantsFlow(s) {
		a.pending.Flows = append(a.pending.Flows, flowRow(s, t))
	}
	return stored
}

// addSpan adds one span to the window's tables; last says that the record
// itself, and what it is evidence of, counts here. Without room for the host
// nothing of the span is kept, so that no host is missing under its services.
func (a *Aggregator) addSpan(w *window, s *side, p *span, last bool) bool {
	h, i := w.hosts.at(hostKey{tenant: s.tenant, rate: s.rec.SamplingRate}, &a.hosts)
	if h == nil {
		a.stats.LostPackets += p.packets
		a.stats.LostBytes += p.bytes
		return false
	}
	addHost(&h.val, s, p, last)
	if isHot(h.val.attempts, h.val.OutPackets, s.rec.SamplingRate) {
		w.hosts.heat(h, i)
	}
	if s.spoofed || s.bogon {
		return true
	}
	a.addService(w, s, p, last)
	a.addPair(w, s, p, last)
	return true
}

func isHot(attempts, outPackets uint64, rate uint32) bool {
	return attempts >= hotAttempts || outPackets*uint64(rate) >= hotOutPackets
}

func addHost(h *host, s *side, p *span, last bool) {
	if s.spoofed {
		h.spoofOut++
		return
	}
	addCounts(&h.Counts, s.dir, p, last)
	if s.bogon {
		if last && s.dir == flow.Out {
			h.bogonOut++
		}
		return
	}
	if s.dir == flow.Out {
		switch s.rec.IPProto {
		case flow.ProtoUDP:
			h.udpOut += p.packets
		case flow.ProtoICMP, flow.ProtoICMPv6:
			h.icmpOut += p.packets
		}
	}
	if !last {
		return
	}
	addClasses(&h.Classes, s)
	if s.dir == flow.Out {
		if s.kind.class == flow.ClassICMPErr {
			h.icmpErrOut++
		}
		if s.kind.isAttempt() {
			h.attempts++
		}
	}
}

func (a *Aggregator) addService(w *window, s *side, p *span, last bool) {
	key := serviceKey{tenant: s.tenant, rate: s.rec.SamplingRate, svc: s.kind.svc, proto: s.rec.IPProto, role: s.role}
	e, i := w.services.at(key, &a.services)
	if e == nil {
		return
	}
	v := &e.val
	addCounts(&v.Counts, s.dir, p, last)
	if last {
		addClasses(&v.Classes, s)
		if s.dir == flow.Out && s.kind.isAttempt() {
			v.attempts++
			if v.remotes.add(hashRemote(s.remote)) >= maxSet {
				a.pending.Services = append(a.pending.Services, serviceRow(w, e))
				return
			}
		}
	}
	if isHot(v.attempts, v.OutPackets, key.rate) {
		w.services.heat(e, i)
	}
}

func (a *Aggregator) addPair(w *window, s *side, p *span, last bool) {
	key := pairKey{tenant: s.tenant, remote: s.remote.As16(), rate: s.rec.SamplingRate, proto: uint32(s.rec.IPProto)}
	e, i := w.pairs.at(key, &a.pairs)
	if e == nil {
		return
	}
	v := &e.val
	addCounts(&v.Counts, s.dir, p, last)
	out := s.dir == flow.Out
	switch {
	case out && s.kind.class == flow.ClassSYN:
		v.synPackets += p.syn
	case out && s.kind.class == flow.ClassEst:
		v.estOut += p.packets
	case !out && s.kind.class == flow.ClassRST:
		v.rstIn += p.packets
	}
	ports := len(v.ports)
	if last {
		addClasses(&v.Classes, s)
		if out && s.kind.class == flow.ClassSYN && hasPorts(s.rec) {
			ports = v.ports.add(s.rec.DstPort)
		}
	}
	if ports >= maxSet {
		a.pending.Pairs = append(a.pending.Pairs, pairRow(w, e))
		return
	}
	answers := v.rstIn
	if s.rec.IPProto == flow.ProtoUDP {
		answers = v.InPackets
	}
	if ports >= hotPorts || v.OutPackets*uint64(key.rate) >= hotPairOut || answers*uint64(key.rate) >= hotPairIn {
		w.pairs.heat(e, i)
	}
}

func addCounts(c *flow.Counts, dir flow.Direction, p *span, last bool) {
	var n uint64
	if last {
		n = 1
	}
	if dir == flow.Out {
		c.OutRecords += n
		c.OutPackets += p.packets
		c.OutBytes += p.bytes
		return
	}
	c.InRecords += n
	c.InPackets += p.packets
	c.InBytes += p.bytes
}

// addClasses counts what the record is evidence of. The flow record of a whole
// conversation, sent by its server, holds a SYN-ACK too and counts as both: at
// 1:1 it is the only sign that attempts are answered, and the scan rules weigh
// attempts against SYN-ACKs.
func addClasses(c *flow.Classes, s *side) {
	out := s.dir == flow.Out
	syn, est, synack, rst := &c.SYNIn, &c.EstIn, &c.SYNACKIn, &c.RSTIn
	if out {
		syn, est, synack, rst = &c.SYNOut, &c.EstOut, &c.SYNACKOut, &c.RSTOut
	}
	switch s.kind.class {
	case flow.ClassSYN:
		*syn++
		if out && isRawSYN(s.rec) {
			c.RawSYN++
		}
	case flow.ClassSYNACK:
		*synack++
	case flow.ClassRST:
		*rst++
	case flow.ClassEst:
		*est++
	case flow.ClassNoFlags:
		c.NoFlags++
	}
	if s.kind.answered {
		*synack++
	}
	if s.kind.reset {
		*rst++
	}
}
