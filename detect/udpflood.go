package detect

import (
	"math"

	"github.com/flowcordon/flowcordon/flow"
)

// UDPFloodConfig holds the thresholds of the UDP flood: one tenant, one remote
// (detection.md §4).
type UDPFloodConfig struct {
	WindowsS     []int   `yaml:"windows_s" json:"windows_s"` // lengths judged, seconds; only those of 60 or more can suspend
	Rate         float64 `yaml:"rate" json:"rate"`           // R0: packets per second that a benign host may send one way to one remote
	Mbps         float64 `yaml:"mbps" json:"mbps"`           // the same in megabits per second; the lower of the two counts
	NotifyScore  float64 `yaml:"notify_score" json:"notify_score"`
	SuspendScore float64 `yaml:"suspend_score" json:"suspend_score"`
	// PersistScore is the evidence that must be left for a suspension without
	// the two strongest sixths of the range.
	PersistScore float64 `yaml:"persist_score" json:"persist_score"`
	// Packets that come back, as a share of those sent: anything that two
	// sides speak is above NotifyReturn, a flood below SuspendReturn.
	NotifyReturn  float64 `yaml:"notify_return" json:"notify_return"`
	SuspendReturn float64 `yaml:"suspend_return" json:"suspend_return"`
}

const udpFloodVersion = 3

func defaultUDPFlood() UDPFloodConfig {
	return UDPFloodConfig{WindowsS: []int{10, 60, 300}, Rate: 15000, Mbps: 400, NotifyScore: 14, SuspendScore: 30, PersistScore: 10,
		NotifyReturn: 0.05, SuspendReturn: 0.02}
}

func (cfg *UDPFloodConfig) validate(v *validator, path string) {
	v.windows(path+".windows_s", cfg.WindowsS)
	v.scores(path, cfg.NotifyScore, cfg.SuspendScore)
	v.rate(path+".persist_score", cfg.PersistScore)
	v.rate(path+".rate", cfg.Rate)
	v.rate(path+".mbps", cfg.Mbps)
	v.share(path+".notify_return", cfg.NotifyReturn)
	v.share(path+".suspend_return", cfg.SuspendReturn)
	if cfg.SuspendReturn > cfg.NotifyReturn {
		v.add(path+".suspend_return", "is %g: write at most notify_return (%g)", cfg.SuspendReturn, cfg.NotifyReturn)
	}
}

// packetRate is R0 in packets per second for packets of the mean size seen.
func (cfg *UDPFloodConfig) packetRate(packets, bytes uint64) float64 {
	if packets == 0 || bytes == 0 {
		return cfg.Rate
	}
	return math.Min(cfg.Rate, cfg.Mbps*1e6/8*float64(packets)/float64(bytes))
}

// udpFlood judges what one tenant sent to one remote by UDP over r. The share
// of packets that come back must be proved to be below NotifyReturn, not only
// happen to be: see shortfall.
func udpFlood(cfg *UDPFloodConfig, p *flow.PairStat, r flow.Range) (flow.Finding, bool) {
	n := effectiveRate(p.Rate)
	out, in := float64(p.OutPackets), float64(p.InPackets)
	score := excess(out, cfg.packetRate(p.OutPackets, p.OutBytes)*r.Seconds()/n)
	oneWay := shortfall(in, out, cfg.NotifyReturn)
	if score < cfg.NotifyScore || oneWay < cfg.NotifyScore {
		return flow.Finding{}, false
	}
	f := flow.Finding{Tenant: p.Tenant, Rule: flow.RuleUDPFlood, Tier: flow.TierNotify, IPProto: p.IPProto, Remote: p.Remote,
		Samples: p.OutPackets, Distinct: 1, SamplingRate: n, Score: score, Threshold: cfg.NotifyScore,
		EstRate: out * n / r.Seconds(), From: r.From, To: r.To, RuleVersion: udpFloodVersion}
	if score >= cfg.SuspendScore && oneWay >= cfg.SuspendScore && in < cfg.SuspendReturn*out {
		f.Tier, f.Threshold = flow.TierSuspend, cfg.SuspendScore
	}
	f.Reason = udpFloodReason(&f, p)
	return f, true
}

// goesOn reports whether the flood is there without its strongest parts.
func (cfg *UDPFloodConfig) goesOn(packets, r0, n, seconds float64) bool {
	return excess(packets, r0*seconds/n) >= cfg.PersistScore
}
