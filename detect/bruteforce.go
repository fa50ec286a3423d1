package detect

import (
	"math"

	"github.com/flowcordon/flowcordon/flow"
)

// BruteforceConfig holds the thresholds of password guessing: one tenant, one
// login port, many short conversations of a login's size (detection.md §4). It
// is notify at most: a deployment tool logs in just so.
type BruteforceConfig struct {
	WindowsS    []int    `yaml:"windows_s" json:"windows_s"` // lengths judged, seconds
	Ports       []uint16 `yaml:"ports" json:"ports"`         // TCP ports with a login
	Rate        float64  `yaml:"rate" json:"rate"`           // R0: connections per second
	NotifyScore float64  `yaml:"notify_score" json:"notify_score"`
	// What the tenant sends in one connection: packets beside the SYN, bytes.
	MinPackets float64 `yaml:"min_packets" json:"min_packets"`
	MaxPackets float64 `yaml:"max_packets" json:"max_packets"`
	MinBytes   float64 `yaml:"min_bytes" json:"min_bytes"`
	MaxBytes   float64 `yaml:"max_bytes" json:"max_bytes"`
	// Fewer remotes than MinRemotes are only judged over LongS seconds or more.
	MinRemotes uint64 `yaml:"min_remotes" json:"min_remotes"`
	LongS      int    `yaml:"long_s" json:"long_s"`
}

const bruteforceVersion = 1

func defaultBruteforce() BruteforceConfig {
	return BruteforceConfig{WindowsS: []int{300, 1800}, Ports: []uint16{21, 22, 23, 465, 587, 1433, 2222, 3306, 3389, 5432, 5900},
		Rate: 0.2, NotifyScore: 14, MinPackets: 5, MaxPackets: 40, MinBytes: 600, MaxBytes: 6000, MinRemotes: 3, LongS: 600}
}

func (cfg *BruteforceConfig) validate(v *validator, path string) {
	v.windows(path+".windows_s", cfg.WindowsS)
	v.rate(path+".rate", cfg.Rate)
	v.rate(path+".notify_score", cfg.NotifyScore)
	v.rate(path+".min_packets", cfg.MinPackets)
	if !(cfg.MaxPackets >= cfg.MinPackets) {
		v.add(path+".max_packets", "is %g: write at least min_packets (%g)", cfg.MaxPackets, cfg.MinPackets)
	}
	v.rate(path+".min_bytes", cfg.MinBytes)
	if !(cfg.MaxBytes >= cfg.MinBytes) {
		v.add(path+".max_bytes", "is %g: write at least min_bytes (%g)", cfg.MaxBytes, cfg.MinBytes)
	}
	v.atLeast1(path+".min_remotes", cfg.MinRemotes)
}

// packetsPerRecord from which records are flows of several packets, which hold
// their SYN among others: half a packet more than a sample.
const packetsPerRecord = 1.5

// openings returns the samples that show a connection being opened, and how many
// of them one connection gives at 1:1. A packet sample shows the SYN or the
// SYN-ACK. A flow record of a whole conversation is counted as a SYN-ACK once,
// by the server's half, however often the active timeout cuts it.
func openings(s *flow.ServiceStat) (count, per float64) {
	if float64(s.OutPackets) >= packetsPerRecord*float64(s.OutRecords) {
		return float64(s.SYNACKIn), 1
	}
	return float64(s.SYNOut + s.SYNACKIn), 2
}

// bruteforce judges the shape and number of one tenant's connections to one
// login port over r. Whom it calls is asked by targets: both must hold.
func bruteforce(cfg *BruteforceConfig, s *flow.ServiceStat, r flow.Range) (flow.Finding, bool) {
	n := effectiveRate(s.Rate)
	count, per := openings(s)
	score := excess(count, per*cfg.Rate*r.Seconds()/n)
	if score < cfg.NotifyScore {
		return flow.Finding{}, false
	}
	conns := count / per
	packets, bytes := float64(s.OutPackets)/conns-1, float64(s.OutBytes)/conns // without the SYN
	slack := 1.0                                                               // of the bands: the number of connections is estimated, with a standard error of 1/√count
	if n >= unsampledBelow {
		slack += 2 / math.Sqrt(count)
	}
	if packets*slack < cfg.MinPackets || packets > cfg.MaxPackets*slack || bytes*slack < cfg.MinBytes || bytes > cfg.MaxBytes*slack {
		return flow.Finding{}, false
	}
	f := flow.Finding{Tenant: s.Tenant, Rule: flow.RuleBruteforce, Tier: flow.TierNotify, IPProto: s.IPProto, Port: s.SvcPort,
		Samples: uint64(count), SamplingRate: n, Score: score, Threshold: cfg.NotifyScore,
		EstRate: conns * n / r.Seconds(), From: r.From, To: r.To, RuleVersion: bruteforceVersion}
	f.Reason = bruteforceReason(&f, packets+1)
	return f, true
}

// targets reports whether those called speak for guessing: strangers, and
// several of them or one for long. known is the most that may be known.
func (cfg *BruteforceConfig) targets(p flow.Peers, known, seconds float64) bool {
	return p.Remotes > 0 && float64(p.Known) < known*float64(p.Remotes) &&
		(p.Remotes >= cfg.MinRemotes || seconds >= float64(cfg.LongS))
}
