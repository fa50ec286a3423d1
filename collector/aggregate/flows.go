package aggregate

import "github.com/flowcordon/flowcordon/flow"

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
