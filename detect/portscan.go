package detect

import (
	"math"

	"github.com/flowcordon/flowcordon/flow"
)

// PortscanConfig holds the thresholds of the vertical scan: one tenant, one
// remote, many TCP ports (detection.md §4).
type PortscanConfig struct {
	WindowsS     []int   `yaml:"windows_s" json:"windows_s"` // lengths judged, seconds
	Rate         float64 `yaml:"rate" json:"rate"`           // R0: new ports per second that a benign host may try
	NotifyScore  float64 `yaml:"notify_score" json:"notify_score"`
	SuspendScore float64 `yaml:"suspend_score" json:"suspend_score"`
	// PersistScore is the evidence that each of two parts of the range must
	// carry for a suspension.
	PersistScore float64 `yaml:"persist_score" json:"persist_score"`
	NotifyPorts  uint64  `yaml:"notify_ports" json:"notify_ports"`
	SuspendPorts uint64  `yaml:"suspend_ports" json:"suspend_ports"`
	// Sizes of the pool of ports that the distinct count must speak for: the
	// services of one dead host, tried again and again, are a small pool.
	NotifyPool  float64 `yaml:"notify_pool" json:"notify_pool"`
	SuspendPool float64 `yaml:"suspend_pool" json:"suspend_pool"`
}

const portscanVersion = 1

func defaultPortscan() PortscanConfig {
	return PortscanConfig{WindowsS: []int{60, 300, 1800}, Rate: 0.33, NotifyScore: 14, SuspendScore: 30, PersistScore: 10,
		NotifyPorts: 10, SuspendPorts: 25, NotifyPool: 60, SuspendPool: 200}
}

func (cfg *PortscanConfig) validate(v *validator, path string) {
	v.windows(path+".windows_s", cfg.WindowsS)
	v.scores(path, cfg.NotifyScore, cfg.SuspendScore)
	v.rate(path+".rate", cfg.Rate)
	v.rate(path+".persist_score", cfg.PersistScore)
	v.atLeast1(path+".notify_ports", cfg.NotifyPorts)
	v.ordered(path+".suspend_ports", cfg.NotifyPorts, cfg.SuspendPorts)
	v.rate(path+".notify_pool", cfg.NotifyPool)
	v.rate(path+".suspend_pool", cfg.SuspendPool)
}

// pairCounts reads the scan evidence out of one pair; u are ports.
func pairCounts(p *flow.PairStat) scanCounts {
	syn := float64(p.SYNOut)
	return scanCounts{u: math.Min(float64(p.Ports), syn), s: syn, raw: math.Min(float64(p.RawSYN), syn),
		e: float64(p.EstOut), a: float64(p.SYNACKIn), i: float64(p.EstIn), n: effectiveRate(p.Rate)}
}

// portscan judges the ports that one tenant tried at one remote over r. The
// evidence is the smaller of "too many ports" and Λa: conversations on those
// ports speak against a scan at both tiers, or passive FTP would be one.
func portscan(cfg *PortscanConfig, p *flow.PairStat, r flow.Range) (flow.Finding, bool) {
	c := pairCounts(p)
	score := cfg.score(c, r.Seconds())
	f := flow.Finding{Tenant: p.Tenant, Rule: flow.RulePortscan, IPProto: p.IPProto, Remote: p.Remote,
		Samples: p.SYNOut, Distinct: uint64(c.u), SamplingRate: c.n, Score: score,
		EstRate: c.u / r.Seconds(), From: r.From, To: r.To, RuleVersion: portscanVersion}
	switch {
	case score >= cfg.SuspendScore && c.u >= float64(cfg.SuspendPorts) && poolAtLeast(c.u, c.s, cfg.SuspendPool):
		f.Tier, f.Threshold = flow.TierSuspend, cfg.SuspendScore
	case score >= cfg.NotifyScore && c.u >= float64(cfg.NotifyPorts) && poolAtLeast(c.u, c.s, cfg.NotifyPool):
		f.Tier, f.Threshold = flow.TierNotify, cfg.NotifyScore
	default:
		return flow.Finding{}, false
	}
	f.Reason = portscanReason(&f, p)
	return f, true
}

func (cfg *PortscanConfig) score(c scanCounts, seconds float64) float64 {
	return math.Min(excess(c.u, cfg.Rate*seconds/c.n), c.lambdaA())
}

// twice reports whether both parts of a range show the scan on their own.
func (cfg *PortscanConfig) twice(whole, late scanCounts, seconds, lateS float64) bool {
	late = late.at(whole.n)
	early := whole.minus(late)
	return cfg.score(late, lateS) >= cfg.PersistScore && cfg.score(early, seconds-lateS) >= cfg.PersistScore
}
