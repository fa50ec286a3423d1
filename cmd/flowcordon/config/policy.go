package config

import (
	"fmt"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Policy is how far the automation may go, beyond the rules' modes. Numbers
// and times of 0 mean none, not the default; the defaults are in Default.
type Policy struct {
	Caps   Caps   `yaml:"caps"`
	Freeze Freeze `yaml:"freeze"`
	// Ladders are the measures of a rule, milder first; a cut where none are given.
	Ladders         map[flow.Rule][]LadderStep `yaml:"ladders"`
	SkipUnsupported bool                       `yaml:"skip_unsupported"` // take the next step where an adapter cannot take one
	RepeatFactor    float64                    `yaml:"repeat_factor"`    // grows the time of a repeater's temporary measures
	RepeatMax       time.Duration              `yaml:"repeat_max"`
	Probation       time.Duration              `yaml:"probation"`      // after a release
	RefuseAfter     int                        `yaml:"refuse_after"`   // the offence that goes to a human with refusal in view
	OffenceWindow   time.Duration              `yaml:"offence_window"` // how long an offence counts
	Cooldown        time.Duration              `yaml:"cooldown"`       // after a release, without automatic acts
	DryRun          bool                       `yaml:"dry_run"`
	InventoryMaxAge time.Duration              `yaml:"inventory_max_age"`
	// PrivateNICs says whether a cut takes a server's NICs without a public
	// address too: keep, cut.
	PrivateNICs   string        `yaml:"private_nics"`
	Reassert      time.Duration `yaml:"reassert"`
	Orphans       string        `yaml:"orphans"` // report, release
	MarkBy        string        `yaml:"mark_by"`
	Breaker       Breaker       `yaml:"breaker"`
	Fallback      string        `yaml:"fallback"` // name of a suspender
	FallbackAfter time.Duration `yaml:"fallback_after"`
}

// Caps bound automatic acts beside max_per_hour.
type Caps struct {
	Per10Min     int     `yaml:"per_10min"`
	PerDay       int     `yaml:"per_day"`
	TenantPerDay int     `yaml:"tenant_per_day"`
	NodePerHour  int     `yaml:"node_per_hour"`
	FleetShare   float64 `yaml:"fleet_share"`
}

// Freeze holds a rule when many tenants trip it at once.
type Freeze struct {
	Tenants    int           `yaml:"tenants"`
	Window     time.Duration `yaml:"window"`
	Share      float64       `yaml:"share"`
	AllTenants int           `yaml:"all_tenants"`
	For        time.Duration `yaml:"for"`
}

// Breaker leaves a node alone that fails.
type Breaker struct {
	After int           `yaml:"after"`
	For   time.Duration `yaml:"for"`
}

// LadderStep is one measure.
type LadderStep struct {
	Measure flow.MeasureKind `yaml:"measure"`
	KbitS   uint64           `yaml:"kbit_s"` // of rate_limit
	After   time.Duration    `yaml:"after"`  // how long the abuse goes on before the next step
	For     time.Duration    `yaml:"for"`    // how long it stays; 0: until released
}

func defaultPolicy() Policy {
	return Policy{
		Caps:          Caps{Per10Min: 10, PerDay: 50, TenantPerDay: 6, NodePerHour: 10, FleetShare: 0.05},
		Freeze:        Freeze{Tenants: 10, Window: 5 * time.Minute, Share: 0.01, AllTenants: 30, For: 30 * time.Minute},
		RepeatFactor:  2,
		RepeatMax:     7 * 24 * time.Hour,
		OffenceWindow: 180 * 24 * time.Hour,
		Reassert:      time.Minute,
		Orphans:       "report",
		PrivateNICs:   "keep",
		MarkBy:        "flowcordon",
		Breaker:       Breaker{After: 5, For: 30 * time.Second},
		FallbackAfter: 2 * time.Minute,
	}
}

func (c *Config) checkPolicy(d *decoder) {
	p := &c.Respond.Policy
	for path, n := range map[string]int{
		"caps.per_10min": p.Caps.Per10Min, "caps.per_day": p.Caps.PerDay, "caps.tenant_per_day": p.Caps.TenantPerDay,
		"caps.node_per_hour": p.Caps.NodePerHour, "freeze.tenants": p.Freeze.Tenants, "freeze.all_tenants": p.Freeze.AllTenants,
		"refuse_after": p.RefuseAfter,
	} {
		if n < 0 {
			d.bad("respond."+path, "%d is less than zero; write 0 for none", n)
		}
	}
	for path, v := range map[string]float64{"caps.fleet_share": p.Caps.FleetShare, "freeze.share": p.Freeze.Share} {
		if v < 0 || v > 1 {
			d.bad("respond."+path, "%v is no share; write a number from 0 to 1, for example 0.05", v)
		}
	}
	if p.RepeatFactor < 1 {
		d.bad("respond.repeat_factor", "%v would shorten a repeater's measures; write 1 or more", p.RepeatFactor)
	}
	d.positive("respond.offence_window", p.OffenceWindow)
	d.positive("respond.freeze.window", p.Freeze.Window)
	d.positive("respond.breaker.for", p.Breaker.For)
	if p.Breaker.After < 1 {
		d.bad("respond.breaker.after", "%d; write after how many failures in a row a node is left alone, for example 5", p.Breaker.After)
	}
	d.oneOf("respond.private_nics", p.PrivateNICs, "keep", "cut")
	d.oneOf("respond.orphans", p.Orphans, "report", "release")
	if p.Fallback != "" && !slices.ContainsFunc(c.Respond.Suspenders, func(s Suspender) bool { return s.Name == p.Fallback }) {
		d.bad("respond.fallback", "%q is no suspender; write the name of one under respond.suspenders", p.Fallback)
	}
	for rule, steps := range p.Ladders {
		c.checkLadder(d, rule, steps)
	}
}

func (c *Config) checkLadder(d *decoder, rule flow.Rule, steps []LadderStep) {
	at := "respond.ladders." + string(rule)
	if _, known := c.Detect.Rules[rule]; !known {
		d.bad(at, "there is no rule of that name")
	}
	rank := 0
	for i, s := range steps {
		here := fmt.Sprintf("%s[%d]", at, i)
		switch n := s.Measure.Rank(); {
		case n == 0:
			d.bad(here+".measure", "%q is none of block_port, rate_limit, cut", s.Measure)
		case n <= rank:
			d.bad(here+".measure", "%s does not take more than the step before it; write the milder first", s.Measure)
		default:
			rank = n
		}
		if (s.Measure == flow.MeasureLimit) != (s.KbitS > 0) {
			d.bad(here+".kbit_s", "belongs to rate_limit, and only there: what the tenant may send, for example 10000")
		}
		if s.After < 0 || s.For < 0 {
			d.bad(here, "after and for cannot be negative")
		}
		if i < len(steps)-1 && s.After == 0 {
			d.bad(here+".after", "is missing; write how long the abuse must go on before the next step, for example 5m")
		}
	}
}
