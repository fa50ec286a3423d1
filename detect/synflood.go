package detect

import (
	"github.com/flowcordon/flowcordon/flow"
)

// SYNFloodConfig holds the thresholds of the SYN flood: one tenant, one remote
// (detection.md §4).
type SYNFloodConfig struct {
	WindowsS     []int   `yaml:"windows_s" json:"windows_s"` // lengths judged, seconds; only those of 60 or more can suspend
	Rate         float64 `yaml:"rate" json:"rate"`           // R0: SYN packets per second that a benign host may send to one remote
	NotifyScore  float64 `yaml:"notify_score" json:"notify_score"`
	SuspendScore float64 `yaml:"suspend_score" json:"suspend_score"`
	// PersistScore is the evidence that must be left for a suspension without
	// the two strongest sixths of the range.
	PersistScore float64 `yaml:"persist_score" json:"persist_score"`
	SuspendSYN   uint64  `yaml:"suspend_syn" json:"suspend_syn"` // SYN packets seen, unscaled
	// Suspend only below these shares of the SYNs: packets of established
	// connections, and refusals (RST in; above it, it is a program that
	// reconnects in a loop).
	EstShare float64 `yaml:"est_share" json:"est_share"`
	RSTShare float64 `yaml:"rst_share" json:"rst_share"`
	// A client whose backend falls silent is no flood up to KnownRate SYNs per
	// second and up to KnownFactor times the packets per second that the two
	// exchanged before. See reconnect.go.
	KnownRate   float64 `yaml:"known_rate" json:"known_rate"`
	KnownFactor float64 `yaml:"known_factor" json:"known_factor"`
}

const synFloodVersion = 2

func defaultSYNFlood() SYNFloodConfig {
	return SYNFloodConfig{WindowsS: []int{10, 60, 300}, Rate: 500, NotifyScore: 14, SuspendScore: 30, PersistScore: 10, SuspendSYN: 30,
		EstShare: 0.2, RSTShare: 0.5, KnownRate: 5000, KnownFactor: 20}
}

func (cfg *SYNFloodConfig) validate(v *validator, path string) {
	v.windows(path+".windows_s", cfg.WindowsS)
	v.scores(path, cfg.NotifyScore, cfg.SuspendScore)
	v.rate(path+".persist_score", cfg.PersistScore)
	v.rate(path+".rate", cfg.Rate)
	v.atLeast1(path+".suspend_syn", cfg.SuspendSYN)
	v.share(path+".est_share", cfg.EstShare)
	v.share(path+".rst_share", cfg.RSTShare)
	v.rate(path+".known_rate", cfg.KnownRate)
	v.rate(path+".known_factor", cfg.KnownFactor)
}

// A client that completes its handshake sends at least one ACK for each SYN
// (RFC 9293 §3.5), and a refused SYN is answered by one RST: the benign
// proportions that few samples must speak against.
const (
	ackPerSYN = 1.0
	rstPerSYN = 1.0
)

// synFlood judges the SYNs that one tenant sent to one remote over r.
func synFlood(cfg *SYNFloodConfig, p *flow.PairStat, r flow.Range) (flow.Finding, bool) {
	n := effectiveRate(p.Rate)
	syn, est, rst := float64(p.SYNPackets), float64(p.EstOutPackets), float64(p.RSTInPackets)
	score := excess(syn, cfg.Rate*r.Seconds()/n)
	if score < cfg.NotifyScore || shortfall(est, syn, ackPerSYN) < cfg.NotifyScore {
		return flow.Finding{}, false
	}
	f := flow.Finding{Tenant: p.Tenant, Rule: flow.RuleSYNFlood, Tier: flow.TierNotify, IPProto: p.IPProto, Remote: p.Remote,
		Samples: p.SYNPackets, Distinct: 1, SamplingRate: n, Score: score, Threshold: cfg.NotifyScore,
		EstRate: syn * n / r.Seconds(), From: r.From, To: r.To, RuleVersion: synFloodVersion}
	if score >= cfg.SuspendScore && p.SYNPackets >= cfg.SuspendSYN && est < cfg.EstShare*syn &&
		shortfall(est, syn, ackPerSYN) >= cfg.SuspendScore {
		f.Tier, f.Threshold = flow.TierSuspend, cfg.SuspendScore
		if rst >= cfg.RSTShare*syn || shortfall(rst, syn, rstPerSYN) < cfg.SuspendScore {
			hold(&f, GateRefused)
		}
	}
	f.Reason = synFloodReason(&f, p)
	return f, true
}

// goesOn reports whether the flood is there without its strongest parts: syn
// are the packets of the rest, seconds its length.
func (cfg *SYNFloodConfig) goesOn(syn, n, seconds float64) bool {
	return excess(syn, cfg.Rate*seconds/n) >= cfg.PersistScore
}
