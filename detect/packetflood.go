package detect

import (
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// PacketFloodConfig holds the thresholds of floods that are neither SYNs nor
// UDP: TCP packets of all other flags and fragments of TCP, ICMP of any type,
// GRE and every other protocol; one tenant, one remote (detection.md §4).
type PacketFloodConfig struct {
	WindowsS     []int   `yaml:"windows_s" json:"windows_s"` // lengths judged, seconds; only those of 60 or more can suspend
	Rate         float64 `yaml:"rate" json:"rate"`           // R0: packets per second that a benign host may send one way to one remote
	NotifyScore  float64 `yaml:"notify_score" json:"notify_score"`
	SuspendScore float64 `yaml:"suspend_score" json:"suspend_score"`
	// PersistScore is the evidence that must be left for a suspension without
	// the two strongest sixths of the range.
	PersistScore float64 `yaml:"persist_score" json:"persist_score"`
	// Return is the share of packets that come back, resets not counted: what
	// two sides speak is above it.
	Return float64 `yaml:"return" json:"return"`
	// Tunnels are IP protocols that carry ordinary traffic; LargeSize is the mean
	// size in bytes from which TCP may be an upload. Both are only suspended
	// where the export is known to show what comes in.
	Tunnels   []uint8 `yaml:"tunnels" json:"tunnels"`
	LargeSize float64 `yaml:"large_size" json:"large_size"`
}

const packetFloodVersion = 2

// Protocols that tunnels and other honest speakers use: IP in IP 4, IPv6 41,
// GRE 47, ESP 50, AH 51, EtherIP 97, L2TP 115, SCTP 132 (IANA protocol numbers).
var tunnelProtocols = []uint8{4, 41, 47, 50, 51, 97, 115, 132}

func defaultPacketFlood() PacketFloodConfig {
	return PacketFloodConfig{WindowsS: []int{10, 60, 300}, Rate: 50_000, NotifyScore: 14, SuspendScore: 30, PersistScore: 10,
		Return: 0.01, Tunnels: slices.Clone(tunnelProtocols), LargeSize: 200}
}

func (cfg *PacketFloodConfig) validate(v *validator, path string) {
	v.windows(path+".windows_s", cfg.WindowsS)
	v.rate(path+".rate", cfg.Rate)
	v.scores(path, cfg.NotifyScore, cfg.SuspendScore)
	v.rate(path+".persist_score", cfg.PersistScore)
	v.share(path+".return", cfg.Return)
	v.rate(path+".large_size", cfg.LargeSize)
}

// floodPackets are the packets of a pair that this rule counts: of TCP those
// that are no SYNs, which have a rule of their own.
func floodPackets(p *flow.PairStat) uint64 {
	if p.IPProto == flow.ProtoTCP {
		return p.OutPackets - min(p.OutPackets, p.SYNPackets)
	}
	return p.OutPackets
}

// packetFlood judges what one tenant sent to one remote over r, other than SYNs
// and UDP. Resets that come back are no conversation: they are what a host
// answers that never opened one (RFC 9293 §3.10.7.1).
func packetFlood(cfg *PacketFloodConfig, p *flow.PairStat, r flow.Range) (flow.Finding, bool) {
	n := effectiveRate(p.Rate)
	out := floodPackets(p)
	back := float64(p.InPackets - min(p.InPackets, p.RSTInPackets))
	score := excess(float64(out), cfg.Rate*r.Seconds()/n)
	oneWay := shortfall(back, float64(out), cfg.Return)
	if score < cfg.NotifyScore || oneWay < cfg.NotifyScore {
		return flow.Finding{}, false
	}
	f := flow.Finding{Tenant: p.Tenant, Rule: flow.RulePacketFlood, Tier: flow.TierNotify, IPProto: p.IPProto, Remote: p.Remote,
		Samples: out, Distinct: 1, SamplingRate: n, Score: score, Threshold: cfg.NotifyScore,
		EstRate: float64(out) * n / r.Seconds(), From: r.From, To: r.To, RuleVersion: packetFloodVersion}
	if score >= cfg.SuspendScore && oneWay >= cfg.SuspendScore {
		f.Tier, f.Threshold = flow.TierSuspend, cfg.SuspendScore
	}
	f.Reason = packetFloodReason(&f, p)
	return f, true
}

// mayBeHonest reports whether the packets could be an upload or a tunnel whose
// answers the export does not show.
func (cfg *PacketFloodConfig) mayBeHonest(p *flow.PairStat) bool {
	if p.IPProto == flow.ProtoTCP {
		return float64(p.OutBytes) >= cfg.LargeSize*float64(p.OutPackets)
	}
	return slices.Contains(cfg.Tunnels, p.IPProto)
}

// goesOn reports whether the flood is there without its strongest parts.
func (cfg *PacketFloodConfig) goesOn(packets, n, seconds float64) bool {
	return excess(packets, cfg.Rate*seconds/n) >= cfg.PersistScore
}
