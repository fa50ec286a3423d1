package detect

import (
	"math"

	"github.com/flowcordon/flowcordon/flow"
)

// BlockscanConfig holds the thresholds of the block scan: one tenant, many
// addresses, many TCP ports (detection.md §4).
type BlockscanConfig struct {
	WindowsS     []int   `yaml:"windows_s" json:"windows_s"` // lengths judged, seconds
	Rate         float64 `yaml:"rate" json:"rate"`           // R0: new (address, port) pairs per second that a benign host may try
	NotifyScore  float64 `yaml:"notify_score" json:"notify_score"`
	SuspendScore float64 `yaml:"suspend_score" json:"suspend_score"`
	// PersistScore is the evidence that each of two parts of the range must
	// carry for a suspension.
	PersistScore float64 `yaml:"persist_score" json:"persist_score"`
	// Distinct pairs needed, and distinct addresses: fewer are the portscan's.
	NotifyPairs  uint64 `yaml:"notify_pairs" json:"notify_pairs"`
	SuspendPairs uint64 `yaml:"suspend_pairs" json:"suspend_pairs"`
	MinRemotes   uint64 `yaml:"min_remotes" json:"min_remotes"`
	// Sizes of the pool of pairs that the distinct count must speak for.
	NotifyPool  float64 `yaml:"notify_pool" json:"notify_pool"`
	SuspendPool float64 `yaml:"suspend_pool" json:"suspend_pool"`
	// RawShare of the SYNs must be raw-crafted for a suspension: a
	// peer-to-peer program that starts up does the rest.
	RawShare float64 `yaml:"raw_share" json:"raw_share"`
	// KernelS is the least length, in seconds, that kernel SYNs are judged over:
	// a flow cache exports a failure sooner than a conversation.
	KernelS int `yaml:"kernel_s" json:"kernel_s"`
	// TopShare: a port with this share of the pairs is the netscan's to judge.
	TopShare float64 `yaml:"top_share" json:"top_share"`
}

const blockscanVersion = 1

func defaultBlockscan() BlockscanConfig {
	return BlockscanConfig{WindowsS: []int{60, 300, 1800}, Rate: 10, NotifyScore: 14, SuspendScore: 30, PersistScore: 10,
		NotifyPairs: 15, SuspendPairs: 40, MinRemotes: 12, NotifyPool: 60, SuspendPool: 200, RawShare: 0.8, KernelS: 300, TopShare: 0.5}
}

func (cfg *BlockscanConfig) validate(v *validator, path string) {
	v.windows(path+".windows_s", cfg.WindowsS)
	v.rate(path+".rate", cfg.Rate)
	v.scores(path, cfg.NotifyScore, cfg.SuspendScore)
	v.rate(path+".persist_score", cfg.PersistScore)
	v.atLeast1(path+".notify_pairs", cfg.NotifyPairs)
	v.ordered(path+".suspend_pairs", cfg.NotifyPairs, cfg.SuspendPairs)
	v.atLeast1(path+".min_remotes", cfg.MinRemotes)
	v.rate(path+".notify_pool", cfg.NotifyPool)
	v.rate(path+".suspend_pool", cfg.SuspendPool)
	v.share(path+".raw_share", cfg.RawShare)
	v.share(path+".top_share", cfg.TopShare)
}

// hostCounts reads the scan evidence out of a tenant's client side of all ports;
// u are pairs of address and port.
func hostCounts(s *flow.AttemptStat) scanCounts {
	syn := float64(s.SYNOut)
	c := scanCounts{u: math.Min(float64(s.Pairs), syn), s: syn, raw: math.Min(float64(s.RawSYN), syn),
		e: float64(s.EstOut), a: float64(s.SYNACKIn), i: float64(s.EstIn), n: effectiveRate(s.Rate)}
	c.alien = c.isAlien()
	return c
}

// blockscan judges one tenant's attempts on all TCP ports over r. Kernel SYNs
// are notify at most, whatever the evidence, and raw ones are only suspended
// where a kernel that sends them itself is refuted.
func blockscan(cfg *BlockscanConfig, s *flow.AttemptStat, r flow.Range) (flow.Finding, bool) {
	c := hostCounts(s)
	if s.Remotes < cfg.MinRemotes || float64(s.TopDistinct) >= cfg.TopShare*float64(s.Pairs) {
		return flow.Finding{}, false
	}
	score := cfg.score(c, r.Seconds())
	f := flow.Finding{Tenant: s.Tenant, Rule: flow.RuleBlockscan, IPProto: s.IPProto,
		Samples: s.SYNOut, Distinct: uint64(c.u), SamplingRate: c.n, Score: score,
		EstRate: c.u / r.Seconds(), From: r.From, To: r.To, RuleVersion: blockscanVersion}
	switch {
	case score >= cfg.SuspendScore && c.u >= float64(cfg.SuspendPairs) && cfg.isRaw(c) && c.alien &&
		poolAtLeast(c.u, c.s, cfg.SuspendPool):
		f.Tier, f.Threshold = flow.TierSuspend, cfg.SuspendScore
	case score >= cfg.NotifyScore && c.u >= float64(cfg.NotifyPairs) && (cfg.isRaw(c) || r.Seconds() >= float64(cfg.KernelS)) && poolAtLeast(c.u, c.s, cfg.NotifyPool):
		f.Tier, f.Threshold = flow.TierNotify, cfg.NotifyScore
	default:
		return flow.Finding{}, false
	}
	f.Reason = blockscanReason(&f, s)
	return f, true
}

// isRaw reports whether the SYNs were made by a scanner's own code.
func (cfg *BlockscanConfig) isRaw(c scanCounts) bool { return c.raw >= cfg.RawShare*c.s }

// score is the smaller of "too many pairs" and "too few answered". Λb has no
// place here: it is not safe for hosts that dial many ports (detection.md §2.3).
func (cfg *BlockscanConfig) score(c scanCounts, seconds float64) float64 {
	return math.Min(excess(c.u, cfg.Rate*seconds/c.n), max(c.lambdaA(), c.lambdaC()))
}

// twice reports whether both parts of a range show the scan on their own.
func (cfg *BlockscanConfig) twice(whole, late scanCounts, seconds, lateS float64) bool {
	late = late.at(whole.n)
	late.alien = whole.alien
	early := whole.minus(late)
	return cfg.score(late, lateS) >= cfg.PersistScore && cfg.score(early, seconds-lateS) >= cfg.PersistScore
}
