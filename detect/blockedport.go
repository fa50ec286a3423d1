package detect

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// BlockedPortConfig says which ports are closed towards outside and for whom
// they are open. A finding is notify at most: what enforces the rule is the
// network's access list, and this tells who runs into it.
type BlockedPortConfig struct {
	WindowsS []int         `yaml:"windows_s" json:"windows_s"` // lengths judged, seconds
	Closed   []ClosedPorts `yaml:"closed" json:"closed"`
	// Sampled: this many samples to this many destinations, over any length.
	MinSamples  uint64 `yaml:"min_samples" json:"min_samples"`
	MinDistinct uint64 `yaml:"min_distinct" json:"min_distinct"`
	// At 1:1: this many attempts or this many destinations in 300 s, and in
	// proportion over longer.
	MinAttempts1 uint64 `yaml:"min_attempts_unsampled" json:"min_attempts_unsampled"`
	MinDistinct1 uint64 `yaml:"min_distinct_unsampled" json:"min_distinct_unsampled"`
}

// ClosedPorts are ports of one or both protocols, and those for whom they are
// open.
type ClosedPorts struct {
	TCP      []uint16       `yaml:"tcp" json:"tcp"`
	UDP      []uint16       `yaml:"udp" json:"udp"`
	OpenFor  []netip.Prefix `yaml:"open_for" json:"open_for"`   // tenants' addresses
	OpenTags []string       `yaml:"open_tags" json:"open_tags"` // tenants' role tags
}

const blockedPortVersion = 1

func defaultBlockedPort() BlockedPortConfig {
	windows := []uint16{135, 137, 138, 139, 445}
	return BlockedPortConfig{WindowsS: []int{300, 1800}, Closed: []ClosedPorts{
		{UDP: []uint16{17, 111, 389, 427, 520, 1900, 3702, 11211}},
		{TCP: []uint16{portSMTP}, OpenTags: []string{TagMail}},
		{TCP: windows, UDP: slices.Clone(windows)},
	}, MinSamples: 3, MinDistinct: 2, MinAttempts1: 20, MinDistinct1: 5}
}

func (cfg *BlockedPortConfig) validate(v *validator, path string) {
	v.windows(path+".windows_s", cfg.WindowsS)
	for i := range cfg.Closed {
		for j, p := range cfg.Closed[i].OpenFor {
			if !p.IsValid() || p.Addr().Is4In6() {
				v.add(fmt.Sprintf("%s.closed[%d].open_for[%d]", path, i, j), "is %v: write a prefix like 198.51.100.0/24", p)
			}
		}
	}
	v.atLeast1(path+".min_samples", cfg.MinSamples)
	v.atLeast1(path+".min_distinct", cfg.MinDistinct)
	v.atLeast1(path+".min_attempts_unsampled", cfg.MinAttempts1)
	v.atLeast1(path+".min_distinct_unsampled", cfg.MinDistinct1)
}

// ports are all those closed for anybody.
func (cfg *BlockedPortConfig) ports(ipProto uint8) []uint16 {
	var out []uint16
	for i := range cfg.Closed {
		out = append(out, cfg.Closed[i].of(ipProto)...)
	}
	return out
}

func (c *ClosedPorts) of(ipProto uint8) []uint16 {
	if ipProto == flow.ProtoTCP {
		return c.TCP
	}
	return c.UDP
}

// closedFor reports whether a port is closed for a tenant with these tags. One
// entry that opens it is enough.
func (cfg *BlockedPortConfig) closedFor(tenant netip.Addr, tags []string, ipProto uint8, port uint16) bool {
	closed := false
	for i := range cfg.Closed {
		c := &cfg.Closed[i]
		if !slices.Contains(c.of(ipProto), port) {
			continue
		}
		closed = true
		for _, p := range c.OpenFor {
			if p.Contains(tenant) {
				return false
			}
		}
		for _, t := range tags {
			if slices.Contains(c.OpenTags, t) {
				return false
			}
		}
	}
	return closed
}

// blockedPortSeconds is what the counts for 1:1 are meant for.
const blockedPortSeconds = 300

// blockedPort judges one tenant's attempts at a closed port over r. Established
// packets count too: where nothing enforces the rule, they are what is seen.
func blockedPort(cfg *BlockedPortConfig, s *flow.ServiceStat, r flow.Range) (flow.Finding, bool) {
	n := effectiveRate(s.Rate)
	tries := s.Attempts + s.EstOut
	u := min(s.Distinct, tries)
	found := tries >= cfg.MinSamples && u >= cfg.MinDistinct
	least := cfg.MinSamples
	if n < unsampledBelow {
		times := math.Max(1, r.Seconds()/blockedPortSeconds)
		// By UDP two destinations at least: the port of one may be a client's that
		// the tenant answers, see docs/detectors.md.
		many := float64(tries) >= float64(cfg.MinAttempts1)*times && (s.IPProto == flow.ProtoTCP || u >= cfg.MinDistinct)
		found, least = many || float64(u) >= float64(cfg.MinDistinct1)*times, cfg.MinAttempts1
	}
	if !found {
		return flow.Finding{}, false
	}
	f := flow.Finding{Tenant: s.Tenant, Rule: flow.RuleBlockedPort, Tier: flow.TierNotify, IPProto: s.IPProto, Port: s.SvcPort,
		Samples: tries, Distinct: u, SamplingRate: n, Score: float64(tries), Threshold: float64(least),
		EstRate: float64(tries) * n / r.Seconds(), From: r.From, To: r.To, RuleVersion: blockedPortVersion}
	f.Reason = blockedPortReason(&f)
	return f, true
}
