package detect

import (
	"fmt"
	"net"

	"github.com/flowcordon/flowcordon/flow"
)

func blockscanReason(f *flow.Finding, s *flow.AttemptStat) string {
	return fmt.Sprintf("tried %s combinations of address and TCP port, of %s addresses, in %s%s; %s",
		count(f.Distinct), count(s.Remotes), length(f), sampled(f), answered(s.SYNACKIn, f))
}

func udpSweepReason(f *flow.Finding, s *flow.ServiceStat) string {
	return fmt.Sprintf("sent UDP to port %d of %s different addresses in %s%s; %s",
		s.SvcPort, count(f.Distinct), length(f), sampled(f), answered(s.InRecords, f))
}

func icmpSweepReason(f *flow.Finding, s *flow.ServiceStat) string {
	return fmt.Sprintf("pinged %s different addresses in %s%s; %s",
		count(f.Distinct), length(f), sampled(f), answered(s.InRecords, f))
}

func icmpFloodReason(f *flow.Finding) string {
	return fmt.Sprintf("sent at least %s pings per second to %s for %s%s", count(uint64(f.EstRate)), f.Remote, length(f), sampled(f))
}

func packetFloodReason(f *flow.Finding, p *flow.PairStat) string {
	return fmt.Sprintf("sent %s %s packets per second to %s for %s and got almost nothing back%s",
		about(f), protocolName(p.IPProto), p.Remote, length(f), sampled(f))
}

// protocolName is what the reason calls a protocol that packet_flood counts.
func protocolName(p uint8) string {
	switch p {
	case flow.ProtoTCP:
		return "TCP (no connection requests)"
	case flow.ProtoICMP, flow.ProtoICMPv6:
		return "ICMP"
	case protoGRE:
		return "GRE"
	case protoESP:
		return "ESP"
	}
	return fmt.Sprintf("IP protocol %d", p)
}

// IANA protocol numbers.
const (
	protoGRE = 47
	protoESP = 50
)

func reflectorReason(f *flow.Finding, s *flow.ServiceStat) string {
	times := "none of the questions was seen"
	if s.InBytes > 0 {
		times = fmt.Sprintf("%s times the bytes of the questions", count(s.OutBytes/s.InBytes))
	}
	return fmt.Sprintf("its UDP port %d sent %s answers per second of %s bytes to few addresses for %s (%s), as an abused amplifier does%s",
		s.SvcPort, about(f), count(s.OutBytes/max(s.OutPackets, 1)), length(f), times, sampled(f))
}

func spamReason(f *flow.Finding) string {
	return fmt.Sprintf("sent mail directly to %s different mail servers in %s%s and is not known as a mail server",
		count(f.Distinct), length(f), sampled(f))
}

func unusualReason(f *flow.Finding, u flow.Usual) string {
	return fmt.Sprintf("sent mail directly to %s different mail servers in %s%s; five minutes of it are usually up to %s",
		count(f.Distinct), length(f), sampled(f), count(u.P99))
}

func bruteforceReason(f *flow.Finding, packets float64) string {
	return fmt.Sprintf("opened %s connections per minute to TCP port %d for %s, each of about %.0f packets, as guessing passwords does%s",
		about60(f), f.Port, length(f), packets, sampled(f))
}

func about60(f *flow.Finding) string {
	g := *f
	g.EstRate *= 60
	return about(&g)
}

func blockedPortReason(f *flow.Finding) string {
	name := "TCP"
	if f.IPProto == flow.ProtoUDP {
		name = "UDP"
	}
	where := "of " + count(f.Distinct) + " addresses"
	if f.Distinct == 0 { // no connection was seen to begin, and only those tell addresses apart
		where = "in connections whose beginning was not seen"
	}
	return fmt.Sprintf("tried the closed %s port %d %s, %s packets or connections seen in %s%s",
		name, f.Port, where, count(f.Samples), length(f), sampled(f))
}

func spoofedReason(f *flow.Finding, s *flow.SpoofStat) string {
	return fmt.Sprintf("%s packets from %s source addresses that are not its own came from its port (%s, interface %d, MAC %s, VLAN %d) in %s%s",
		count(s.Packets), count(s.Sources), s.Exporter, s.InIf, net.HardwareAddr(s.SrcMAC[:]), s.VLAN, length(f), sampled(f))
}
