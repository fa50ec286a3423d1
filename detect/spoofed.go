package detect

import (
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// SpoofedConfig holds the thresholds of packets with forged sources that leave a
// tenant's port (detection.md §4).
type SpoofedConfig struct {
	WindowsS      []int  `yaml:"windows_s" json:"windows_s"` // lengths judged, seconds
	NotifyRecords uint64 `yaml:"notify_records" json:"notify_records"`
	BlockRecords  uint64 `yaml:"block_records" json:"block_records"` // samples, unscaled
}

const spoofedVersion = 1

func defaultSpoofed() SpoofedConfig {
	return SpoofedConfig{WindowsS: []int{300}, NotifyRecords: 10, BlockRecords: 100}
}

func (cfg *SpoofedConfig) validate(v *validator, path string) {
	v.windows(path+".windows_s", cfg.WindowsS)
	v.atLeast1(path+".notify_records", cfg.NotifyRecords)
	v.ordered(path+".block_records", cfg.NotifyRecords, cfg.BlockRecords)
}

// spoofed judges what came in over r by one attachment with sources that are not
// its own. owner is the tenant whose port it is; the sources are never blamed.
// A block is of the port: it is reversible and harms nobody who sends with
// addresses of his own.
func spoofed(cfg *SpoofedConfig, s *flow.SpoofStat, owner netip.Addr, r flow.Range) (flow.Finding, bool) {
	if s.Records < cfg.NotifyRecords || !owner.IsValid() {
		return flow.Finding{}, false
	}
	n := effectiveRate(s.Rate)
	f := flow.Finding{Tenant: owner, Rule: flow.RuleSpoofed, Tier: flow.TierNotify,
		Samples: s.Records, Distinct: s.Sources, SamplingRate: n, Score: float64(s.Records), Threshold: float64(cfg.NotifyRecords),
		EstRate: float64(s.Packets) * n / r.Seconds(), From: r.From, To: r.To, RuleVersion: spoofedVersion}
	if s.Records >= cfg.BlockRecords {
		f.Tier, f.Threshold = flow.TierBlockPort, float64(cfg.BlockRecords)
	}
	f.Reason = spoofedReason(&f, s)
	return f, true
}
