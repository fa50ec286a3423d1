package detect

import (
	"github.com/flowcordon/flowcordon/flow"
)

// UDPSweepConfig holds the thresholds of the UDP sweep: one tenant, many
// destinations, one UDP port, few answers (detection.md §4).
type UDPSweepConfig struct {
	WindowsS     []int   `yaml:"windows_s" json:"windows_s"` // lengths judged, seconds
	Rate         float64 `yaml:"rate" json:"rate"`           // R0: new destinations per second that a benign host may leave without an answer
	NotifyScore  float64 `yaml:"notify_score" json:"notify_score"`
	SuspendScore float64 `yaml:"suspend_score" json:"suspend_score"`
	// PersistScore is the evidence that each of two parts of the range must
	// carry for a suspension.
	PersistScore   float64 `yaml:"persist_score" json:"persist_score"`
	NotifyDistinct uint64  `yaml:"notify_distinct" json:"notify_distinct"`
	// Sizes of the pool of destinations that the distinct count must speak for.
	NotifyPool  float64 `yaml:"notify_pool" json:"notify_pool"`
	SuspendPool float64 `yaml:"suspend_pool" json:"suspend_pool"`
	// SuspendSize is the mean packet in bytes up to which a sweep can be
	// suspended: probes are small, media that is pushed is not.
	SuspendSize float64 `yaml:"suspend_size" json:"suspend_size"`
	// Ports from SkipFrom to SkipTo are traceroute's.
	SkipFrom uint16 `yaml:"skip_from" json:"skip_from"`
	SkipTo   uint16 `yaml:"skip_to" json:"skip_to"`
}

const udpSweepVersion = 2

func defaultUDPSweep() UDPSweepConfig {
	return UDPSweepConfig{WindowsS: []int{60, 300, 1800}, Rate: 1, NotifyScore: 14, SuspendScore: 30, PersistScore: 10,
		NotifyDistinct: 15, NotifyPool: 60, SuspendPool: 1000, SuspendSize: 700, SkipFrom: 33434, SkipTo: 33690}
}

func (cfg *UDPSweepConfig) validate(v *validator, path string) {
	v.windows(path+".windows_s", cfg.WindowsS)
	v.rate(path+".rate", cfg.Rate)
	v.scores(path, cfg.NotifyScore, cfg.SuspendScore)
	v.rate(path+".persist_score", cfg.PersistScore)
	v.atLeast1(path+".notify_distinct", cfg.NotifyDistinct)
	v.rate(path+".notify_pool", cfg.NotifyPool)
	v.rate(path+".suspend_pool", cfg.SuspendPool)
	v.rate(path+".suspend_size", cfg.SuspendSize)
	if cfg.SkipTo < cfg.SkipFrom {
		v.add(path+".skip_to", "is %d: write at least skip_from (%d)", cfg.SkipTo, cfg.SkipFrom)
	}
}

// Who sends more than streamPackets to each destination does not look for anybody:
// that is streams, most of whose packets need no answer. streamProof is the
// exponent of the proof; a sweep is held by chance in 7 of 1,000 ranges.
const (
	streamPackets = 16
	streamProof   = 5
)

// udpSweep judges one tenant's requests to one UDP port over r.
func udpSweep(cfg *UDPSweepConfig, ports *portTable, s *flow.ServiceStat, r flow.Range) (flow.Finding, bool) {
	c := sweepOf(s)
	if s.SvcPort >= cfg.SkipFrom && s.SvcPort <= cfg.SkipTo {
		return flow.Finding{}, false
	}
	score := c.score(cfg.Rate, r.Seconds())
	f := flow.Finding{Tenant: s.Tenant, Rule: flow.RuleUDPSweep, IPProto: s.IPProto, Port: s.SvcPort,
		Samples: s.Attempts, Distinct: uint64(c.u), SamplingRate: c.n, Score: score,
		EstRate: c.u / r.Seconds(), From: r.From, To: r.To, RuleVersion: udpSweepVersion}
	small := float64(s.OutBytes) <= cfg.SuspendSize*float64(s.OutPackets)
	switch {
	case score >= cfg.SuspendScore && small && poolAtLeast(c.u, c.s, cfg.SuspendPool):
		f.Tier, f.Threshold = flow.TierSuspend, cfg.SuspendScore
	case score >= cfg.NotifyScore && c.u >= float64(cfg.NotifyDistinct) && poolAtLeast(c.u, c.s, cfg.NotifyPool):
		f.Tier, f.Threshold = flow.TierNotify, cfg.NotifyScore
	default:
		return flow.Finding{}, false
	}
	if repeats(float64(s.OutPackets), c.u, float64(s.OutPackets)*c.n/streamPackets) >= streamProof {
		hold(&f, GateStreams)
	}
	if _, p2p := ports.lookup(s.SvcPort); p2p {
		hold(&f, GateP2PPort)
	}
	f.Reason = udpSweepReason(&f, s)
	return f, true
}
