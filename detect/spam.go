package detect

import (
	"math"
	"net/netip"
	"time"

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
	// ExemptTag is the role tag of mail servers. They are judged by what is usual
	// for them: TaggedTimes the 99th percentile of the servers that they sent to
	// in five minutes over the last TaggedDays. 0 times: not at all.
	ExemptTag   string  `yaml:"exempt_tag" json:"exempt_tag"`
	TaggedTimes float64 `yaml:"tagged_times" json:"tagged_times"`
	TaggedDays  int     `yaml:"tagged_days" json:"tagged_days"`
}

const (
	spamVersion = 2
	portSMTP    = 25
)

func defaultSpam() SpamConfig {
	return SpamConfig{WindowsS: []int{300, 1800}, Rate: 0.2, NotifyScore: 14, Packets: 20, MinServers: 12, ExemptTag: TagMail, TaggedTimes: 5, TaggedDays: 7}
}

func (cfg *SpamConfig) validate(v *validator, path string) {
	v.windows(path+".windows_s", cfg.WindowsS)
	v.rate(path+".rate", cfg.Rate)
	v.rate(path+".notify_score", cfg.NotifyScore)
	if !(cfg.Packets >= 1) {
		v.add(path+".packets", "is %g: write 1 or more, as 20", cfg.Packets)
	}
	v.atLeast1(path+".min_servers", cfg.MinServers)
	if cfg.TaggedTimes != 0 && !(cfg.TaggedTimes >= 1) {
		v.add(path+".tagged_times", "is %g: write 1 or more, as 5, or 0 for never", cfg.TaggedTimes)
	}
	if cfg.TaggedDays < 0 || cfg.TaggedTimes != 0 && cfg.TaggedDays == 0 {
		v.add(path+".tagged_days", "is %d: write 1 or more, as 7", cfg.TaggedDays)
	}
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

const (
	// usualStep is the time that a tagged server's usual number is taken over.
	usualStep = 5 * time.Minute
	// usualSteps is how many of them with mail must be known: two days' worth,
	// so that a new server is not judged by its first evening.
	usualSteps = 2 * 24 * 12
	// usualKept is how long an answer is good: it reads days of rows.
	usualKept = 6 * time.Hour
	// usualAsks bounds the servers asked for in one tick.
	usualAsks = 2
)

// unusual judges a mail server by what is usual for it: u servers over r where
// usual is the 99th percentile of five minutes. Both are as seen, so that the
// sampling rate must have been the same.
func unusual(cfg *SpamConfig, s *flow.ServiceStat, p flow.Peers, usual flow.Usual, r flow.Range) (flow.Finding, bool) {
	u := float64(min(p.Remotes, s.OutPackets))
	score := excess(u, cfg.TaggedTimes*max(float64(usual.P99), 1)*r.Seconds()/usualStep.Seconds())
	if usual.Steps < usualSteps || score < cfg.NotifyScore || u < float64(cfg.MinServers) {
		return flow.Finding{}, false
	}
	f := flow.Finding{Tenant: s.Tenant, Rule: flow.RuleSpam, Tier: flow.TierNotify, IPProto: s.IPProto, Port: s.SvcPort,
		Samples: s.OutPackets, Distinct: uint64(u), SamplingRate: effectiveRate(s.Rate), Score: score, Threshold: cfg.NotifyScore,
		EstRate: u / r.Seconds(), From: r.From, To: r.To, RuleVersion: spamVersion}
	f.Reason = unusualReason(&f, usual)
	return f, true
}

// maybeUnusual reports whether a tagged server sends so much that its servers
// are worth counting: there are no more of them than packets.
func (t *tickState) maybeUnusual(cfg *SpamConfig, s *flow.ServiceStat, r flow.Range) bool {
	if cfg.TaggedTimes == 0 {
		return false
	}
	u := t.usual(cfg, s.Tenant)
	_, ok := unusual(cfg, s, flow.Peers{Remotes: s.OutPackets}, u, r)
	return ok
}

// usual returns what a tagged server's usual number is, asked for seldom.
func (t *tickState) usual(cfg *SpamConfig, tenant netip.Addr) flow.Usual {
	known := t.d.guards.usual[tenant]
	if known != nil && t.ts.Sub(known.at) < usualKept || t.usualAsked >= usualAsks {
		if known == nil {
			return flow.Usual{}
		}
		return known.Usual
	}
	t.usualAsked++
	to := floorTo(t.ts, usualKept)
	u, err := t.d.deps.Windows.Usual(t.ctx, flow.PeerQuery{Tenant: tenant, IPProto: flow.ProtoTCP, Role: flow.RoleClient, SvcPort: portSMTP,
		Range: flow.Range{From: to.AddDate(0, 0, -cfg.TaggedDays), To: to}}, usualStep)
	if err != nil { // one slow answer must not hide the other findings; an ended context the next query tells
		t.d.m.errors.WithLabelValues(stepKnownPeers).Inc()
		t.d.warn(t.ts, "usual number of mail servers not available", err)
		u = flow.Usual{}
	}
	t.d.guards.usual[tenant] = &usualOf{t.ts, u}
	return u
}

// usualOf is an answer and when it was given.
type usualOf struct {
	at time.Time
	flow.Usual
}
