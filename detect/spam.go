package detect

import (
	"math"

	"github.com/flowcordon/flowcordon/flow"
)

// SpamConfig holds the thresholds of direct mail delivery: one tenant, many
// mail servers (detection.md §4). It is notify at most: flows cannot tell
// unwanted mail from wanted.
type SpamConfig struct {
	WindowsS    []int   `yaml:"windows_s" json:"windows_s"` // lengths judged, seconds
	Rate        float64 `yaml:"rate" json:"rate"`           // R0: mail servers per second of a tenant that is no mail server
	NotifyScore float64 `yaml:"notify_score" json:"notify_score"`
	// Packets are those that a client sends to deliver one message: a server is
	// seen if any of them is sampled.
	Packets float64 `yaml:"packets" json:"packets"`
	// MinServers is the least number of distinct servers seen.
	MinServers uint64 `yaml:"min_servers" json:"min_servers"`
	// ExemptTag is the role tag of mail servers.
	ExemptTag string `yaml:"exempt_tag" json:"exempt_tag"`
}

const (
	spamVersion = 1
	portSMTP    = 25
)

func defaultSpam() SpamConfig {
	return SpamConfig{WindowsS: []int{300, 1800}, Rate: 0.2, NotifyScore: 14, Packets: 20, MinServers: 12, ExemptTag: TagMail}
}

func (cfg *SpamConfig) validate(v *validator, path string) {
	v.windows(path+".windows_s", cfg.WindowsS)
	v.rate(path+".rate", cfg.Rate)
	v.rate(path+".notify_score", cfg.NotifyScore)
	if !(cfg.Packets >= 1) {
		v.add(path+".packets", "is %g: write 1 or more, as 20", cfg.Packets)
	}
	v.atLeast1(path+".min_servers", cfg.MinServers)
}

// seenPerSecond is how many of R0's deliveries leave at least one of their
// packets in a sample of 1:n.
func (cfg *SpamConfig) seenPerSecond(n float64) float64 {
	return cfg.Rate * -math.Expm1(cfg.Packets*math.Log1p(-1/max(n, 1)))
}

// spamScreen reports whether spam could find anything, before the store is
// asked for the servers: there are no more of them than packets.
func spamScreen(cfg *SpamConfig, s *flow.ServiceStat, r flow.Range) bool {
	return s.OutPackets >= cfg.MinServers && excess(float64(s.OutPackets), cfg.seenPerSecond(effectiveRate(s.Rate))*r.Seconds()) >= cfg.NotifyScore
}

// spam judges the mail servers that one tenant talked to on port 25 over r.
func spam(cfg *SpamConfig, s *flow.ServiceStat, p flow.Peers, r flow.Range) (flow.Finding, bool) {
	n := effectiveRate(s.Rate)
	u := float64(min(p.Remotes, s.OutPackets))
	score := excess(u, cfg.seenPerSecond(n)*r.Seconds())
	if score < cfg.NotifyScore || u < float64(cfg.MinServers) {
		return flow.Finding{}, false
	}
	f := flow.Finding{Tenant: s.Tenant, Rule: flow.RuleSpam, Tier: flow.TierNotify, IPProto: s.IPProto, Port: s.SvcPort,
		Samples: s.OutPackets, Distinct: uint64(u), SamplingRate: n, Score: score, Threshold: cfg.NotifyScore,
		EstRate: u / r.Seconds(), From: r.From, To: r.To, RuleVersion: spamVersion}
	f.Reason = spamReason(&f)
	return f, true
}
