package detect

import (
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// floorCase builds, for c events seen over r at 1:n, what the rule's own code
// judges: the floor follows every threshold.
type floorCase struct {
	rule       flow.Rule
	what, unit string
	windowsS   func(*Thresholds) []int
	judge      func(th *Thresholds, ports *portTable, c uint64, n float64, r flow.Range) flow.Tier
}

func tierOf(f flow.Finding, ok bool) flow.Tier {
	if !ok {
		return flow.TierNone
	}
	return f.Tier
}

func scanStat(port uint16, raw bool, c uint64, n float64) *flow.ServiceStat {
	s := &flow.ServiceStat{IPProto: flow.ProtoTCP, SvcPort: port, Attempts: c, Distinct: c, Rate: n, Classes: flow.Classes{SYNOut: c},
		Counts: flow.Counts{OutRecords: c, OutPackets: c, OutBytes: 60 * c}}
	if raw {
		s.RawSYN = c
	}
	return s
}

func pairStat(proto uint8, c uint64, size uint64, n float64) *flow.PairStat {
	return &flow.PairStat{IPProto: proto, Rate: n, Counts: flow.Counts{OutRecords: c, OutPackets: c, OutBytes: size * c}}
}

var floorCases = []floorCase{
	{flow.RuleNetscan, "raw SYNs, abuse-prone port", "destinations", func(t *Thresholds) []int { return t.Netscan.WindowsS },
		func(t *Thresholds, p *portTable, c uint64, n float64, r flow.Range) flow.Tier {
			return tierOf(netscan(&t.Netscan, p, scanStat(22, true, c, n), r))
		}},
	{flow.RuleNetscan, "kernel SYNs, abuse-prone port", "destinations", func(t *Thresholds) []int { return t.Netscan.WindowsS },
		func(t *Thresholds, p *portTable, c uint64, n float64, r flow.Range) flow.Tier {
			return tierOf(netscan(&t.Netscan, p, scanStat(22, false, c, n), r))
		}},
	{flow.RuleNetscan, "raw SYNs, web port", "destinations", func(t *Thresholds) []int { return t.Netscan.WindowsS },
		func(t *Thresholds, p *portTable, c uint64, n float64, r flow.Range) flow.Tier {
			return tierOf(netscan(&t.Netscan, p, scanStat(443, true, c, n), r))
		}},
	{flow.RulePortscan, "", "ports", func(t *Thresholds) []int { return t.Portscan.WindowsS },
		func(t *Thresholds, _ *portTable, c uint64, n float64, r flow.Range) flow.Tier {
			p := pairStat(flow.ProtoTCP, c, 60, n)
			p.SYNOut, p.SYNPackets, p.Ports = c, c, c
			return tierOf(portscan(&t.Portscan, p, r))
		}},
	{flow.RuleBlockscan, "raw SYNs", "pairs of address and port", func(t *Thresholds) []int { return t.Blockscan.WindowsS },
		func(t *Thresholds, _ *portTable, c uint64, n float64, r flow.Range) flow.Tier {
			return tierOf(blockscan(&t.Blockscan, &flow.AttemptStat{Attempts: c, Pairs: c, Remotes: c, TopDistinct: 1, Rate: n, Classes: flow.Classes{SYNOut: c, RawSYN: c}}, r))
		}},
	{flow.RuleUDPSweep, "", "destinations", func(t *Thresholds) []int { return t.UDPSweep.WindowsS },
		func(t *Thresholds, p *portTable, c uint64, n float64, r flow.Range) flow.Tier {
			s := scanStat(1900, false, c, n)
			s.IPProto, s.Classes = flow.ProtoUDP, flow.Classes{}
			return tierOf(udpSweep(&t.UDPSweep, p, s, r))
		}},
	{flow.RuleICMPSweep, "", "destinations", func(t *Thresholds) []int { return t.ICMPSweep.WindowsS },
		func(t *Thresholds, _ *portTable, c uint64, n float64, r flow.Range) flow.Tier {
			s := scanStat(0, false, c, n)
			s.IPProto, s.Classes = flow.ProtoICMP, flow.Classes{}
			return tierOf(icmpSweep(&t.ICMPSweep, s, r))
		}},
	{flow.RuleSYNFlood, "one address", "packets", func(t *Thresholds) []int { return t.SYNFlood.WindowsS },
		func(t *Thresholds, _ *portTable, c uint64, n float64, r flow.Range) flow.Tier {
			p := pairStat(flow.ProtoTCP, c, 40, n)
			p.SYNOut, p.SYNPackets = c, c
			return tierOf(synFlood(&t.SYNFlood, p, r))
		}},
	{flow.RuleUDPFlood, "one address, small packets", "packets", func(t *Thresholds) []int { return t.UDPFlood.WindowsS },
		func(t *Thresholds, _ *portTable, c uint64, n float64, r flow.Range) flow.Tier {
			return tierOf(udpFlood(&t.UDPFlood, pairStat(flow.ProtoUDP, c, 100, n), r))
		}},
	{flow.RuleICMPFlood, "one address, echo requests", "packets", func(t *Thresholds) []int { return t.ICMPFlood.WindowsS },
		func(t *Thresholds, _ *portTable, c uint64, n float64, r flow.Range) flow.Tier {
			return tierOf(icmpFlood(&t.ICMPFlood, pairStat(flow.ProtoICMP, c, 84, n), icmpTotals{echo: float64(c), all: float64(c), n: n}, r))
		}},
	{flow.RulePacketFlood, "one address, small packets", "packets", func(t *Thresholds) []int { return t.PacketFlood.WindowsS },
		func(t *Thresholds, _ *portTable, c uint64, n float64, r flow.Range) flow.Tier {
			return tierOf(packetFlood(&t.PacketFlood, pairStat(flow.ProtoTCP, c, 40, n), r))
		}},
	{flow.RuleReflector, "DNS", "packets", func(t *Thresholds) []int { return t.Reflector.WindowsS }, reflectorFloor(53)},
	{flow.RuleReflector, "other amplifiers", "packets", func(t *Thresholds) []int { return t.Reflector.WindowsS }, reflectorFloor(389)},
	{flow.RuleSpam, "20 packets for each server", "servers", func(t *Thresholds) []int { return t.Spam.WindowsS },
		func(t *Thresholds, _ *portTable, c uint64, n float64, r flow.Range) flow.Tier {
			s := scanStat(portSMTP, false, c, n)
			return tierOf(spam(&t.Spam, s, flow.Peers{Remotes: c, Packets: c}, r))
		}},
	{flow.RuleBruteforce, "15 packets for each login", "connections", func(t *Thresholds) []int { return t.Bruteforce.WindowsS },
		func(t *Thresholds, _ *portTable, c uint64, n float64, r flow.Range) flow.Tier {
			s := scanStat(22, false, c, n) // SYN and SYN-ACK of each
			s.SYNOut, s.SYNACKIn = (c+1)/2, c/2
			s.OutRecords, s.OutPackets, s.OutBytes = 15*c/2, 15*c/2, 15*c/2*110
			if n < unsampledBelow {
				s.OutRecords, s.SYNOut, s.SYNACKIn = c, 0, c
				s.OutPackets, s.OutBytes = 15*c, 15*c*110
			}
			return tierOf(bruteforce(&t.Bruteforce, s, r))
		}},
	{flow.RuleBlockedPort, "", "attempts", func(t *Thresholds) []int { return t.BlockedPort.WindowsS },
		func(t *Thresholds, _ *portTable, c uint64, n float64, r flow.Range) flow.Tier {
			return tierOf(blockedPort(&t.BlockedPort, scanStat(445, false, c, n), r))
		}},
	{flow.RuleSpoofed, "", "packets", func(t *Thresholds) []int { return t.Spoofed.WindowsS },
		func(t *Thresholds, _ *portTable, c uint64, n float64, r flow.Range) flow.Tier {
			return tierOf(spoofed(&t.Spoofed, &flow.SpoofStat{Records: c, Packets: c, Sources: c, Rate: n}, netip.IPv4Unspecified(), r))
		}},
}

func reflectorFloor(port uint16) func(*Thresholds, *portTable, uint64, float64, flow.Range) flow.Tier {
	return func(t *Thresholds, _ *portTable, c uint64, n float64, r flow.Range) flow.Tier {
		s := scanStat(port, false, c, n)
		s.IPProto, s.Classes = flow.ProtoUDP, flow.Classes{}
		s.OutBytes, s.InPackets, s.InBytes = 1200*c, c, 60*c // each answers a small question
		return tierOf(reflector(&t.Reflector, s, r))
	}
}
