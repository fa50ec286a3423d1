package detect

import (
	"math"

	"github.com/flowcordon/flowcordon/flow"
)

// NetscanConfig holds the thresholds of the horizontal scan: one tenant, many
// destinations, one TCP port (detection.md §2.5).
type NetscanConfig struct {
	WindowsS     []int   `yaml:"windows_s" json:"windows_s"` // lengths judged, seconds
	NotifyScore  float64 `yaml:"notify_score" json:"notify_score"`
	SuspendScore float64 `yaml:"suspend_score" json:"suspend_score"`
	// PersistScore is the evidence that each of two parts of the range must
	// carry for a suspension.
	PersistScore float64 `yaml:"persist_score" json:"persist_score"`
	// Distinct destinations needed. Suspend needs fewer where the SYNs were
	// made by a scanner's own code.
	NotifyDistinct     uint64 `yaml:"notify_distinct" json:"notify_distinct"`
	SuspendDistinct    uint64 `yaml:"suspend_distinct" json:"suspend_distinct"`
	SuspendDistinctRaw uint64 `yaml:"suspend_distinct_raw" json:"suspend_distinct_raw"`
	// Sizes of the pool of destinations that the distinct count must speak for.
	NotifyPool     float64 `yaml:"notify_pool" json:"notify_pool"`
	SuspendPool    float64 `yaml:"suspend_pool" json:"suspend_pool"`
	SuspendPoolRaw float64 `yaml:"suspend_pool_raw" json:"suspend_pool_raw"`
	// RawShare of the SYNs must be raw-crafted for the two Raw thresholds.
	RawShare float64 `yaml:"raw_share" json:"raw_share"`
	// A suspension needs the port to have PortShare of all the tenant's
	// destinations, or PortRate destinations per second (scaled).
	PortShare float64 `yaml:"port_share" json:"port_share"`
	PortRate  float64 `yaml:"port_rate" json:"port_rate"`
	// SlowShare of the port's rate is what a benign host may have over hours
	// whose destinations hardly ever answer. Notify at most.
	SlowShare float64 `yaml:"slow_share" json:"slow_share"`
}

const netscanVersion = 1

func defaultNetscan() NetscanConfig {
	return NetscanConfig{WindowsS: []int{60, 300, 1800}, NotifyScore: 14, SuspendScore: 30, PersistScore: 10, NotifyDistinct: 12,
		SuspendDistinct: 60, SuspendDistinctRaw: 30, NotifyPool: 60, SuspendPool: 1000, SuspendPoolRaw: 200,
		RawShare: 0.8, PortShare: 0.5, PortRate: 50, SlowShare: 0.02}
}

func (cfg *NetscanConfig) validate(v *validator, path string) {
	v.windowsOrHours(path+".windows_s", cfg.WindowsS)
	v.scores(path, cfg.NotifyScore, cfg.SuspendScore)
	v.rate(path+".persist_score", cfg.PersistScore)
	v.atLeast1(path+".notify_distinct", cfg.NotifyDistinct)
	v.ordered(path+".suspend_distinct_raw", cfg.NotifyDistinct, cfg.SuspendDistinctRaw)
	v.ordered(path+".suspend_distinct", cfg.NotifyDistinct, cfg.SuspendDistinct)
	v.rate(path+".notify_pool", cfg.NotifyPool)
	v.rate(path+".suspend_pool", cfg.SuspendPool)
	v.rate(path+".suspend_pool_raw", cfg.SuspendPoolRaw)
	v.share(path+".raw_share", cfg.RawShare)
	v.share(path+".port_share", cfg.PortShare)
	v.rate(path+".port_rate", cfg.PortRate)
	v.share(path+".slow_share", cfg.SlowShare)
}

// serviceCounts reads the scan evidence out of a tenant's client side of a port.
func serviceCounts(s *flow.ServiceStat) scanCounts {
	syn := float64(s.SYNOut)
	c := scanCounts{
		u: math.Min(float64(s.Distinct), syn), s: syn, raw: math.Min(float64(s.RawSYN), syn),
		e: float64(s.EstOut), a: float64(s.SYNACKIn), i: float64(s.EstIn),
		n: effectiveRate(s.Rate),
	}
	c.alien = c.isAlien()
	return c
}

// effectiveRate guards against rows without a sampling rate: never below 1, and
// a rate that is no number counts as 1, which makes μ0 largest.
func effectiveRate(n float64) float64 {
	if math.IsNaN(n) || math.IsInf(n, 0) || n < 1 {
		return 1
	}
	return n
}

// netscan judges one tenant's attempts on one TCP port over r. The tier is what
// the counts alone support, held at notify on P2P ports.
func netscan(cfg *NetscanConfig, ports *portTable, s *flow.ServiceStat, r flow.Range) (flow.Finding, bool) {
	r0, p2p := ports.lookup(s.SvcPort)
	f, ok := netscanAbove(cfg, s, r, r0, flow.TierSuspend)
	if ok && p2p {
		hold(&f, GateP2PPort)
		f.Reason = netscanReason(&f, s)
	}
	return f, ok
}

// netscanAbove judges against the rate r0, up to the tier most.
func netscanAbove(cfg *NetscanConfig, s *flow.ServiceStat, r flow.Range, r0 float64, most flow.Tier) (flow.Finding, bool) {
	c := serviceCounts(s)
	tier, score := cfg.judge(c, r0, r.Seconds())
	if tier == flow.TierNone {
		return flow.Finding{}, false
	}
	tier = min(tier, most)
	f := flow.Finding{Tenant: s.Tenant, Rule: flow.RuleNetscan, Tier: tier, IPProto: s.IPProto, Port: s.SvcPort,
		Samples: s.SYNOut, Distinct: uint64(c.u), SamplingRate: c.n, Score: score, Threshold: cfg.NotifyScore,
		EstRate: c.u / r.Seconds(), From: r.From, To: r.To, RuleVersion: netscanVersion}
	if tier == flow.TierSuspend {
		f.Threshold = cfg.SuspendScore
	}
	f.Reason = netscanReason(&f, s)
	return f, true
}

// judge returns the tier that the counts support over seconds, and the
// evidence: the smaller of "too many" and "too few answered".
func (cfg *NetscanConfig) judge(c scanCounts, r0, seconds float64) (flow.Tier, float64) {
	rate := excess(c.u, r0*seconds/c.n)
	score := math.Min(rate, c.lambda())
	raw := c.raw >= cfg.RawShare*c.s && c.u >= float64(cfg.SuspendDistinctRaw) && poolAtLeast(c.u, c.s, cfg.SuspendPoolRaw)
	kernel := c.u >= float64(cfg.SuspendDistinct) && poolAtLeast(c.u, c.s, cfg.SuspendPool)
	switch {
	case score >= cfg.SuspendScore && (raw || kernel):
		return flow.TierSuspend, score
	case score >= cfg.NotifyScore && c.u >= float64(cfg.NotifyDistinct) && poolAtLeast(c.u, c.s, cfg.NotifyPool):
		return flow.TierNotify, score
	}
	return flow.TierNone, 0
}

// concentrated reports whether the port is what the tenant is busy with:
// hostSYN are its SYN records on all ports, at the finding's sampling rate. Destinations on other ports cannot
// be more than the SYNs sent there.
func (cfg *NetscanConfig) concentrated(f *flow.Finding, hostSYN float64) bool {
	u := float64(f.Distinct)
	other := hostSYN - float64(f.Samples)
	return u >= cfg.PortShare*(u+math.Max(0, other)) || u*f.SamplingRate/f.To.Sub(f.From).Seconds() >= cfg.PortRate
}

// twice reports whether both parts of a range show the scan on their own:
// whole is the range's counts, late those of its last lateS seconds.
func (cfg *NetscanConfig) twice(whole, late scanCounts, r0, seconds, lateS float64) bool {
	late = late.at(whole.n) // the sampling rates of a part may be others
	late.alien = whole.alien
	early := whole.minus(late)
	return cfg.part(late, r0, lateS) && cfg.part(early, r0, seconds-lateS)
}

// part asks for the evidence only: that the counts are enough to speak of many
// destinations is asked of the whole.
func (cfg *NetscanConfig) part(c scanCounts, r0, seconds float64) bool {
	return math.Min(excess(c.u, r0*seconds/c.n), c.lambda()) >= cfg.PersistScore
}
