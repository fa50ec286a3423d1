package aggregate

import "github.com/flowcordon/flowcordon/flow"

// wantsFlow applies the flow policy to one side of a record.
func (a *Aggregator) wantsFlow(it *Item) bool {
	if a.cfg.FlowPolicy == FlowAll || it.set&(itemBogon|itemSpoofed) != 0 {
		return true
	}
	switch it.class {
	case flow.ClassSYN, flow.ClassSYNACK, flow.ClassRST, flow.ClassICMPErr, flow.ClassEcho:
		return true
	case flow.ClassUDP:
		return it.role == flow.RoleClient
	}
	return false
}

func (a *Aggregator) addFlow(it *Item) {
	a.chunk.room()
	dir := flow.Out
	if it.dir == in {
		dir = flow.In
	}
	a.chunk.batch.Flows = append(a.chunk.batch.Flows, flow.FlowRow{
		Time: it.end, Start: it.start, End: it.end,
		Exporter: it.exporter.addr(), Tenant: it.tenant(a.mask).addr(), Host: it.host.addr(), Remote: it.remote.addr(),
		HostPort: it.hostPort, RemotePort: it.remotePort, SvcPort: it.svc,
		Dir: dir, IPProto: it.proto, Role: it.role, Class: it.class,
		TCPFlags: it.tcpFlags, ICMPType: it.icmpType, ICMPCode: it.icmpCode,
		Packets: it.packets, Bytes: it.bytes, IPLen: it.ipLen, TTL: it.ttl, Rate: it.rate,
		InIf: it.inIf, OutIf: it.outIf, SrcMAC: it.mac, VLAN: it.vlan,
		Bogon: it.set&itemBogon != 0, Spoofed: it.set&itemSpoofed != 0,
	})
}
