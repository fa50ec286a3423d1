package detect

import (
	"github.com/flowcordon/flowcordon/flow"
)

// ICMPSweepConfig holds the thresholds of the ping sweep: one tenant, echo
// requests to many destinations, few replies (detection.md §4).
type ICMPSweepConfig struct {
	WindowsS     []int   `yaml:"windows_s" json:"windows_s"` // lengths judged, seconds
	NotifyRate   float64 `yaml:"notify_rate" json:"notify_rate"`
	SuspendRate  float64 `yaml:"suspend_rate" json:"suspend_rate"` // R0 of each tier, new destinations per second
	NotifyScore  float64 `yaml:"notify_score" json:"notify_score"`
	SuspendScore float64 `yaml:"suspend_score" json:"suspend_score"`
	// PersistScore is the evidence that each of two parts of the range must
	// carry for a suspension.
	PersistScore   float64 `yaml:"persist_score" json:"persist_score"`
	NotifyDistinct uint64  `yaml:"notify_distinct" json:"notify_distinct"`
	// Sizes of the pool of destinations that the distinct count must speak for.
	NotifyPool  float64 `yaml:"notify_pool" json:"notify_pool"`
	SuspendPool float64 `yaml:"suspend_pool" json:"suspend_pool"`
	// ReplyShare: a suspension needs fewer replies than this share of the
	// requests, and the proof of it.
	ReplyShare float64 `yaml:"reply_share" json:"reply_share"`
}

const icmpSweepVersion = 1

func defaultICMPSweep() ICMPSweepConfig {
	return ICMPSweepConfig{WindowsS: []int{60, 300, 1800}, NotifyRate: 1, SuspendRate: 2, NotifyScore: 14, SuspendScore: 30, PersistScore: 10,
		NotifyDistinct: 15, NotifyPool: 60, SuspendPool: 1000, ReplyShare: 0.3}
}

func (cfg *ICMPSweepConfig) validate(v *validator, path string) {
	v.windows(path+".windows_s", cfg.WindowsS)
	v.rate(path+".notify_rate", cfg.NotifyRate)
	if !(cfg.SuspendRate >= cfg.NotifyRate) {
		v.add(path+".suspend_rate", "is %g: write at least notify_rate (%g)", cfg.SuspendRate, cfg.NotifyRate)
	}
	v.scores(path, cfg.NotifyScore, cfg.SuspendScore)
	v.rate(path+".persist_score", cfg.PersistScore)
	v.atLeast1(path+".notify_distinct", cfg.NotifyDistinct)
	v.rate(path+".notify_pool", cfg.NotifyPool)
	v.rate(path+".suspend_pool", cfg.SuspendPool)
	v.share(path+".reply_share", cfg.ReplyShare)
}

// icmpSweep judges one tenant's echo requests over r. s has service port 0:
// ICMP has none, and errors are not replies (they are nobody's answer to a
// request that counts).
func icmpSweep(cfg *ICMPSweepConfig, s *flow.ServiceStat, r flow.Range) (flow.Finding, bool) {
	c := sweepOf(s)
	score := c.score(cfg.NotifyRate, r.Seconds())
	f := flow.Finding{Tenant: s.Tenant, Rule: flow.RuleICMPSweep, IPProto: s.IPProto,
		Samples: s.Attempts, Distinct: uint64(c.u), SamplingRate: c.n, Score: score,
		EstRate: c.u / r.Seconds(), From: r.From, To: r.To, RuleVersion: icmpSweepVersion}
	strong := c.score(cfg.SuspendRate, r.Seconds())
	switch {
	case strong >= cfg.SuspendScore && shortfall(c.in, c.s, cfg.ReplyShare) >= cfg.SuspendScore && poolAtLeast(c.u, c.s, cfg.SuspendPool):
		f.Tier, f.Score, f.Threshold = flow.TierSuspend, strong, cfg.SuspendScore
	case score >= cfg.NotifyScore && c.u >= float64(cfg.NotifyDistinct) && poolAtLeast(c.u, c.s, cfg.NotifyPool):
		f.Tier, f.Threshold = flow.TierNotify, cfg.NotifyScore
	default:
		return flow.Finding{}, false
	}
	f.Reason = icmpSweepReason(&f, s)
	return f, true
}
