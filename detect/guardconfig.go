package detect

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// GuardConfig says when the exporters, the fleet or the sources of packets are
// not to be trusted, so that nobody is cut off on their word (detection.md §5.2,
// G1 to G3). It is for all tenants.
type GuardConfig struct {
	// LossShare of an exporter's datagrams or records may be missing by sequence
	// number over the last ten minutes.
	LossShare float64 `yaml:"loss_share" json:"loss_share"`
	ClockS    float64 `yaml:"clock_s" json:"clock_s"` // an exporter's clock may be off by, seconds
	// SettleS is how long, in seconds, nothing is acted on after an exporter
	// changed its sampling rate.
	SettleS int `yaml:"settle_s" json:"settle_s"`
	// Rates an exporter may announce; exporters in none of the entries may any.
	Rates []ExpectedRates `yaml:"rates" json:"rates,omitempty"`
	// FleetShare of the active tenants, and FleetMin of them at the least, that
	// newly show one scan within FleetS seconds are no scans but a fault; of
	// floods and reflectors four times as many. New is who was quiet for
	// FleetAgainS.
	FleetShare  float64 `yaml:"fleet_share" json:"fleet_share"`
	FleetMin    int     `yaml:"fleet_min" json:"fleet_min"`
	FleetS      int     `yaml:"fleet_s" json:"fleet_s"`
	FleetAgainS int     `yaml:"fleet_again_s" json:"fleet_again_s"`
	// AnswerDrop is by how much the share of answered connections of the whole
	// fleet may fall, and Surge how many times more of them may begin in a minute
	// than in the ten before: both are faults of the network or of the export.
	AnswerDrop float64 `yaml:"answer_drop" json:"answer_drop"`
	Surge      float64 `yaml:"surge" json:"surge"`
	// RateSlack is how many times denser than claimed an exporter may sample.
	RateSlack float64 `yaml:"rate_slack" json:"rate_slack"`
	// ForeignShare of a finding's records may come from ports of others.
	ForeignShare float64 `yaml:"foreign_share" json:"foreign_share"`
	// RequireSource acts only on what is seen to come from the tenant's own port.
	RequireSource bool `yaml:"require_source" json:"require_source"`
	// SingleExport says that no packet is exported twice, so that what several
	// exporters saw may be added up without a second look.
	SingleExport bool `yaml:"single_export" json:"single_export"`
}

// ExpectedRates are the sampling rates 1:N of the exporters of a prefix.
type ExpectedRates struct {
	Exporter netip.Prefix `yaml:"exporter" json:"exporter"`
	Rates    []uint32     `yaml:"rates" json:"rates"`
}

func defaultGuards() GuardConfig {
	return GuardConfig{LossShare: 0.05, ClockS: 10, SettleS: 1800, FleetShare: 0.005, FleetMin: 5, FleetS: 300, FleetAgainS: 1800,
		AnswerDrop: 0.3, Surge: 3, RateSlack: 3, ForeignShare: 0.05}
}

func (cfg *GuardConfig) validate(v *validator, path string) {
	v.share(path+".loss_share", cfg.LossShare)
	v.rate(path+".clock_s", cfg.ClockS)
	v.share(path+".fleet_share", cfg.FleetShare)
	v.share(path+".answer_drop", cfg.AnswerDrop)
	v.share(path+".foreign_share", cfg.ForeignShare)
	for _, x := range []struct {
		name string
		v    float64
	}{{"surge", cfg.Surge}, {"rate_slack", cfg.RateSlack}} {
		if !(x.v > 1) || x.v > 1e6 {
			v.add(path+"."+x.name, "is %g: write a number above 1, as 3", x.v)
		}
	}
	for _, x := range []struct {
		name string
		v    int
	}{{"settle_s", cfg.SettleS}, {"fleet_min", cfg.FleetMin}, {"fleet_s", cfg.FleetS}, {"fleet_again_s", cfg.FleetAgainS}} {
		if x.v < 1 {
			v.add(path+"."+x.name, "is %d: write 1 or more", x.v)
		}
	}
	for i, e := range cfg.Rates {
		at := fmt.Sprintf("%s.rates[%d]", path, i)
		if !e.Exporter.IsValid() {
			v.add(at+".exporter", "is missing: write a prefix like 192.0.2.1/32")
		}
		if len(e.Rates) == 0 || slices.Contains(e.Rates, 0) {
			v.add(at+".rates", "is %v: write the N of each 1:N, as [1000]", e.Rates)
		}
	}
}

// names reports whether an entry lists 1:rate for an exporter.
func (cfg *GuardConfig) names(exporter netip.Addr, rate uint32) bool {
	return slices.ContainsFunc(cfg.Rates, func(e ExpectedRates) bool { return e.Exporter.Contains(exporter) && slices.Contains(e.Rates, rate) })
}

// expects reports whether an exporter may announce 1:rate.
func (cfg *GuardConfig) expects(exporter netip.Addr, rate uint32) bool {
	return cfg.names(exporter, rate) || !slices.ContainsFunc(cfg.Rates, func(e ExpectedRates) bool { return e.Exporter.Contains(exporter) })
}

// fanOut are the rules that look the same where answers are lost upstream.
var fanOut = append(slices.Clone(scans), flow.RuleSYNFlood)

// fleetRules are those of which many at once are a fault; for floods and
// reflectors fewer of the causes are.
var fleetRules = append(slices.Clone(scans), flow.RuleSYNFlood, flow.RuleUDPFlood, flow.RuleICMPFlood, flow.RulePacketFlood, flow.RuleReflector)

// floodFactor is how many times more tenants it takes with a rule that is no
// scan: several servers of one customer do take part in one attack.
const floodFactor = 4
