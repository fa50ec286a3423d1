package detect

import (
	"math"

	"github.com/flowcordon/flowcordon/flow"
)

// ICMPFloodConfig holds the thresholds of the ping flood: one tenant, one
// remote, echo requests (detection.md §4).
type ICMPFloodConfig struct {
	WindowsS     []int   `yaml:"windows_s" json:"windows_s"` // lengths judged, seconds; only those of 60 or more can suspend
	Rate         float64 `yaml:"rate" json:"rate"`           // R0: echo requests per second that a benign host may send to one remote
	NotifyScore  float64 `yaml:"notify_score" json:"notify_score"`
	SuspendScore float64 `yaml:"suspend_score" json:"suspend_score"`
	// PersistScore is the evidence that must be left for a suspension without
	// the two strongest sixths of the range.
	PersistScore float64 `yaml:"persist_score" json:"persist_score"`
}

const icmpFloodVersion = 2

func defaultICMPFlood() ICMPFloodConfig {
	return ICMPFloodConfig{WindowsS: []int{10, 60, 300}, Rate: 300, NotifyScore: 14, SuspendScore: 30, PersistScore: 10}
}

func (cfg *ICMPFloodConfig) validate(v *validator, path string) {
	v.windows(path+".windows_s", cfg.WindowsS)
	v.rate(path+".rate", cfg.Rate)
	v.scores(path, cfg.NotifyScore, cfg.SuspendScore)
	v.rate(path+".persist_score", cfg.PersistScore)
}

// icmpTotals are a tenant's outgoing ICMP packets over a range, as seen at 1:n.
type icmpTotals struct {
	echo, all float64 // echo requests; every type
	n         float64
}

// echoAtLeast bounds from below how many of the ICMP packets that a tenant sent
// to one remote were echo requests: pairs do not tell types apart, and the
// replies of somebody who is flooded himself must not count. What the tenant
// sent of other types may all have gone to this remote. n is the pair's rate.
func (t icmpTotals) echoAtLeast(out, n float64) float64 {
	f := t.n / n
	return math.Max(0, math.Min(t.echo*f, out-math.Max(0, t.all-t.echo)*f))
}

// icmpFlood judges the echo requests that one tenant sent to one remote over r.
func icmpFlood(cfg *ICMPFloodConfig, p *flow.PairStat, totals icmpTotals, r flow.Range) (flow.Finding, bool) {
	n := effectiveRate(p.Rate)
	echo := totals.echoAtLeast(float64(p.OutPackets), n)
	score := excess(echo, cfg.Rate*r.Seconds()/n)
	if score < cfg.NotifyScore {
		return flow.Finding{}, false
	}
	f := flow.Finding{Tenant: p.Tenant, Rule: flow.RuleICMPFlood, Tier: flow.TierNotify, IPProto: p.IPProto, Remote: p.Remote,
		Samples: uint64(echo), Distinct: 1, SamplingRate: n, Score: score, Threshold: cfg.NotifyScore,
		EstRate: echo * n / r.Seconds(), From: r.From, To: r.To, RuleVersion: icmpFloodVersion}
	if score >= cfg.SuspendScore {
		f.Tier, f.Threshold = flow.TierSuspend, cfg.SuspendScore
	}
	f.Reason = icmpFloodReason(&f)
	return f, true
}

// answeredPings is the share of replies below which it is proved that a flood is not
// ping -f: replies to nearly all of its requests make it as fast as it is.
const answeredPings = 0.5

// tests is floodRule's.
func (cfg *ICMPFloodConfig) tests(p *flow.PairStat) float64 {
	if shortfall(float64(p.InPackets), float64(p.OutPackets), answeredPings) >= cfg.PersistScore {
		return 0
	}
	return cfg.Rate
}

// goesOn reports whether the flood is there without its strongest parts:
// packets are those of the rest, share the part of them that is echo requests.
func (cfg *ICMPFloodConfig) goesOn(packets, share, n, seconds float64) bool {
	return excess(packets*share, cfg.Rate*seconds/n) >= cfg.PersistScore
}
