package aggregate

import (
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// emit appends the window's rows: all that counted anything if it closed, else
// the hot ones. Emitted counters start again at zero.
func (a *Aggregator) emit(w *window, closed bool, b *flow.Batch) {
	a.order = w.hosts.order(a.order[:0], !closed, compareHost)
	b.Hosts = slices.Grow(b.Hosts, len(a.order))
	for _, i := range a.order {
		b.Hosts = append(b.Hosts, hostRow(w, &w.hosts.rows[i]))
	}
	a.order = w.services.order(a.order[:0], !closed, compareService)
	b.Services = slices.Grow(b.Services, len(a.order))
	for _, i := range a.order {
		b.Services = append(b.Services, serviceRow(w, &w.services.rows[i]))
	}
	a.order = w.pairs.order(a.order[:0], !closed, comparePair)
	for _, i := range a.order {
		e := &w.pairs.rows[i]
		if !closed || e.val.emitted || PairFloor(e.key.rate, e.val.OutPackets, e.val.synPackets, len(e.val.ports)) {
			b.Pairs = append(b.Pairs, pairRow(w, e))
			continue
		}
		a.stats.PairsBelowFloor++
		e.val.reset()
	}
}

// release takes a window out whose rows were all emitted.
func (a *Aggregator) release(w *window) {
	delete(a.windows, w.start)
	if a.last == w {
		a.last = nil
	}
	w.hosts.release(&a.hosts)
	w.services.release(&a.services)
	for i := range w.pairs.rows {
		w.pairs.rows[i].val.emitted = false
	}
	w.pairs.release(&a.pairs)
	if len(a.spare) < maxSpare {
		a.spare = append(a.spare, w)
	}
}

func hostRow(w *window, e *entry[hostKey, host]) flow.HostWindow {
	v := &e.val
	row := flow.HostWindow{
		Key:            flow.Key{Start: w.start, Tenant: e.key.tenant.addr(), Rate: e.key.rate},
		Counts:         v.Counts,
		Classes:        v.Classes,
		UDPOutPackets:  v.udpOut,
		ICMPOutPackets: v.icmpOut,
		ICMPErrOut:     v.icmpErrOut,
		BogonOut:       v.bogonOut,
		SpoofOut:       v.spoofOut,
	}
	v.reset()
	e.dirty = false
	return row
}

func serviceRow(w *window, e *entry[serviceKey, service]) flow.ServiceWindow {
	v := &e.val
	row := flow.ServiceWindow{
		Key:      flow.Key{Start: w.start, Tenant: e.key.tenant.addr(), Rate: e.key.rate},
		IPProto:  e.key.proto,
		Role:     e.key.role,
		SvcPort:  e.key.svc,
		Counts:   v.Counts,
		Classes:  v.Classes,
		Attempts: v.attempts,
		Remotes:  v.remotes.sorted(),
	}
	v.reset()
	e.dirty = false
	return row
}

func pairRow(w *window, e *entry[pairKey, pair]) flow.PairWindow {
	v := &e.val
	row := flow.PairWindow{
		Key:           flow.Key{Start: w.start, Tenant: e.key.tenant.addr(), Rate: e.key.rate},
		Remote:        e.key.remote.addr(),
		IPProto:       uint8(e.key.proto),
		Counts:        v.Counts,
		Classes:       v.Classes,
		SYNPackets:    v.synPackets,
		EstOutPackets: v.estOut,
		RSTInPackets:  v.rstIn,
	}
	if len(v.ports) > 0 {
		row.Ports = slices.Clone([]uint16(v.ports))
	}
	v.emitted = true
	v.reset()
	e.dirty = false
	return row
}

// wantsFlow applies the flow policy to one side of a record.
func (a *Aggregator) wantsFlow(s *side) bool {
	switch a.cfg.FlowPolicy {
	case FlowAll:
		return true
	case FlowOff:
		return false
	}
	if s.bogon || s.spoofed {
		return true
	}
	switch s.kind.class {
	case flow.ClassSYN, flow.ClassSYNACK, flow.ClassRST, flow.ClassICMPErr, flow.ClassEcho:
		return true
	case flow.ClassUDP:
		return s.role == flow.RoleClient
	}
	return false
}

func flowRow(s *side, t times) flow.FlowRow {
	r := s.rec
	row := flow.FlowRow{
		Time: t.end, Start: t.start, End: t.end,
		Exporter: r.Exporter, Tenant: s.tenant.addr(), Host: s.host, Remote: s.remote,
		HostPort: r.SrcPort, RemotePort: r.DstPort, SvcPort: s.kind.svc,
		Dir: s.dir, IPProto: r.IPProto, Role: s.role, Class: s.kind.class,
		TCPFlags: r.TCPFlags, ICMPType: r.ICMPType, ICMPCode: r.ICMPCode,
		Packets: r.Packets, Bytes: r.Bytes, IPLen: r.IPLen, TTL: r.TTL, Rate: r.SamplingRate,
		InIf: r.InIf, OutIf: r.OutIf, SrcMAC: r.SrcMAC, VLAN: r.VLAN,
		Bogon: s.bogon, Spoofed: s.spoofed,
	}
	if s.dir == flow.In {
		row.HostPort, row.RemotePort = r.DstPort, r.SrcPort
	}
	if r.Has&flow.HasFragment != 0 {
		row.HostPort, row.RemotePort = 0, 0
	}
	return row
}
