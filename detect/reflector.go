package detect

import (
	"fmt"
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// ReflectorConfig holds the thresholds of the amplifier that is abused: the
// tenant answers small forged questions with large answers, to few addresses
// (detection.md §4). It ends in a port block at most: the tenant is a victim.
type ReflectorConfig struct {
	WindowsS    []int             `yaml:"windows_s" json:"windows_s"` // lengths judged, seconds
	Services    []AmplifierConfig `yaml:"services" json:"services"`
	NotifyScore float64           `yaml:"notify_score" json:"notify_score"`
	BlockScore  float64           `yaml:"block_score" json:"block_score"`
	// PersistScore is the evidence that each of two parts of the range must
	// carry for a block.
	PersistScore float64 `yaml:"persist_score" json:"persist_score"`
	// Bytes out per byte in.
	NotifyRatio float64 `yaml:"notify_ratio" json:"notify_ratio"`
	BlockRatio  float64 `yaml:"block_ratio" json:"block_ratio"`
	MinSize     float64 `yaml:"min_size" json:"min_size"` // mean bytes of an answer
	// MaxVictims is the effective number of destinations, 1/Σp², up to which
	// the answers are an attack: everybody who asks a name server is many.
	MaxVictims float64 `yaml:"max_victims" json:"max_victims"`
}

// AmplifierConfig are UDP ports of one kind.
type AmplifierConfig struct {
	Ports []uint16 `yaml:"ports" json:"ports"`
	Rate  float64  `yaml:"rate" json:"rate"` // R0: answers per second of an ordinary server
	// NotifyOnly is for ports on which ordinary servers send more than they get.
	NotifyOnly bool `yaml:"notify_only" json:"notify_only"`
}

const reflectorVersion = 2

func defaultReflector() ReflectorConfig {
	return ReflectorConfig{WindowsS: []int{60, 300}, Services: []AmplifierConfig{
		{Ports: []uint16{53}, Rate: 1000},
		{Ports: []uint16{123}, Rate: 2000},
		{Ports: []uint16{17, 19, 69, 111, 137, 161, 389, 427, 520, 1434, 1900, 3283, 3702, 5353, 10001, 11211}, Rate: 50},
		{Ports: []uint16{27015}, Rate: 2000, NotifyOnly: true},
	}, NotifyScore: 14, BlockScore: 30, PersistScore: 10, NotifyRatio: 3, BlockRatio: 5, MinSize: 200, MaxVictims: 40}
}

func (cfg *ReflectorConfig) validate(v *validator, path string) {
	v.windows(path+".windows_s", cfg.WindowsS)
	for i := range cfg.Services {
		v.rate(fmt.Sprintf("%s.services[%d].rate", path, i), cfg.Services[i].Rate)
	}
	v.rate(path+".notify_score", cfg.NotifyScore)
	if !(cfg.BlockScore >= cfg.NotifyScore) {
		v.add(path+".block_score", "is %g: write at least notify_score (%g)", cfg.BlockScore, cfg.NotifyScore)
	}
	v.rate(path+".persist_score", cfg.PersistScore)
	v.rate(path+".notify_ratio", cfg.NotifyRatio)
	if !(cfg.BlockRatio >= cfg.NotifyRatio) {
		v.add(path+".block_ratio", "is %g: write at least notify_ratio (%g)", cfg.BlockRatio, cfg.NotifyRatio)
	}
	v.rate(path+".min_size", cfg.MinSize)
	if !(cfg.MaxVictims >= 1) {
		v.add(path+".max_victims", "is %g: write 1 or more", cfg.MaxVictims)
	}
}

// ports are all of them, for the store.
func (cfg *ReflectorConfig) ports() []uint16 {
	var out []uint16
	for i := range cfg.Services {
		out = append(out, cfg.Services[i].Ports...)
	}
	return out
}

// service returns the kind that a port belongs to; nil: none.
func (cfg *ReflectorConfig) service(port uint16) *AmplifierConfig {
	for i := range cfg.Services {
		if slices.Contains(cfg.Services[i].Ports, port) {
			return &cfg.Services[i]
		}
	}
	return nil
}

// reflector judges what one tenant answers on one UDP port over r by its amount
// and size. Whom it answers is asked by victims: both must hold.
func reflector(cfg *ReflectorConfig, s *flow.ServiceStat, r flow.Range) (flow.Finding, bool) {
	kind := cfg.service(s.SvcPort)
	if kind == nil || s.OutPackets == 0 {
		return flow.Finding{}, false
	}
	n := effectiveRate(s.Rate)
	out, in := float64(s.OutPackets), float64(s.InPackets)
	outBytes, inBytes := float64(s.OutBytes), float64(s.InBytes)
	size := outBytes / out
	asked := size // of a question; as long as none is seen, as large as an answer
	if in > 0 && inBytes > 0 {
		asked = inBytes / in
	}
	score := excess(out, kind.Rate*r.Seconds()/n)
	// That no more bytes go out than come in must be refuted, by packets of the
	// mean sizes seen; how much more is a point estimate.
	larger := shortfall(in, out, size/asked)
	if score < cfg.NotifyScore || larger < cfg.NotifyScore || size < cfg.MinSize || outBytes < cfg.NotifyRatio*inBytes {
		return flow.Finding{}, false
	}
	f := flow.Finding{Tenant: s.Tenant, Rule: flow.RuleReflector, Tier: flow.TierNotify, IPProto: s.IPProto, Port: s.SvcPort,
		Samples: s.OutPackets, SamplingRate: n, Score: score, Threshold: cfg.NotifyScore,
		EstRate: out * n / r.Seconds(), From: r.From, To: r.To, RuleVersion: reflectorVersion}
	if score >= cfg.BlockScore && outBytes >= cfg.BlockRatio*inBytes {
		f.Tier, f.Threshold = flow.TierBlockPort, cfg.BlockScore
		if kind.NotifyOnly {
			hold(&f, GateSharedPort)
		}
	}
	f.Reason = reflectorReason(&f, s)
	return f, true
}

// victimsProof is the exponent at which "five times as many destinations" is
// refuted, and how many times that is: notify's, 8e-7.
const (
	victimsProof = 14
	victimsMore  = 5
)

// victims reports whether the answers go to few addresses. Of n packets, pairs
// that went to the same address are Σ nᵢ(nᵢ−1)/2, and n(n−1)/2·Σp² are expected
// whatever the sampling rate: the birthday problem. From so many that share
// nothing, a few pairs prove little, so that they must also refute a benign
// server with five times the destinations.
func (cfg *ReflectorConfig) victims(p flow.Peers) bool {
	n := float64(p.Packets)
	if n < 2 {
		return false
	}
	pairs, same := n*(n-1)/2, (float64(p.Squares)-n)/2
	return same*cfg.MaxVictims >= pairs && excess(same, pairs/(victimsMore*cfg.MaxVictims)) >= victimsProof
}

// knownRatio is how many times the bytes of the questions a server may send to
// clients of long standing: texts, keys and signatures are 430 bytes for 78 (F31),
// questions that are forged to amplify are chosen for 28 times and more (TA14-017A).
const knownRatio = 10

// serves reports whether the answers are those of a name server to its clients: to
// remotes of which at least share had asked more than a day ago, and not proved to
// be larger than that. Who is flooded in somebody's name has not asked before.
func (cfg *ReflectorConfig) serves(s *flow.ServiceStat, p flow.Peers, share float64) bool {
	if s.SvcPort != portDNS || s.InPackets == 0 || s.InBytes == 0 || p.Remotes == 0 || float64(p.Known) < share*float64(p.Remotes) {
		return false
	}
	in, out := float64(s.InPackets), float64(s.OutPackets)
	times := float64(s.OutBytes) / out / (float64(s.InBytes) / in) // of an answer to a question
	return shortfall(in, out, times/knownRatio) < victimsProof
}

const portDNS = 53

// twice reports whether both parts of a range show the answers on their own.
func (cfg *ReflectorConfig) twice(whole, late *flow.ServiceStat, seconds, lateS float64) bool {
	kind := cfg.service(whole.SvcPort)
	n := effectiveRate(whole.Rate)
	all, end := float64(whole.OutPackets), float64(late.OutPackets)*effectiveRate(late.Rate)/n
	return excess(end, kind.Rate*lateS/n) >= cfg.PersistScore && excess(all-end, kind.Rate*(seconds-lateS)/n) >= cfg.PersistScore
}
