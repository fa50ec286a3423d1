package detect

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/flowcordon/flowcordon/flow"
)

// policy is what a set of overrides makes of the configuration. There are as
// many as sets that some tenant has, not one for each tenant.
type policy struct {
	th     Thresholds
	modes  map[flow.Rule]flow.Mode // of overrides; absent: nothing is capped
	hashes map[flow.Rule]string
	set    []int // the overrides laid over each other, widest first

	mu     sync.Mutex
	floors map[uint32][]Floor // by sampling rate; see floorsAt
}

// policies makes and keeps them. Any goroutine may ask.
type policies struct {
	cfg   *Config
	order []int
	mu    sync.Mutex
	bySet map[string]*policy
}

func newPolicies(cfg *Config) *policies {
	return &policies{cfg: cfg, order: cfg.inheritance(), bySet: map[string]*policy{}}
}

// of returns the policy of a tenant.
func (p *policies) of(tenant netip.Addr, h flow.Holder, tags []string) *policy {
	var buf [16]int
	set := buf[:0]
	for _, i := range p.order {
		if p.cfg.Overrides[i].Match.covers(tenant, h, tags) {
			set = append(set, i)
		}
	}
	key := fmt.Sprint(set)
	p.mu.Lock()
	defer p.mu.Unlock()
	if have := p.bySet[key]; have != nil {
		return have
	}
	made := p.compile(append([]int(nil), set...))
	p.bySet[key] = made
	return made
}

// compile lays the overrides of a set over the configuration. A rule whose
// numbers do not fit together, which Validate can only miss where very many
// overrides meet, keeps those of all tenants.
func (p *policies) compile(set []int) *policy {
	out := &policy{th: p.cfg.Thresholds, modes: map[flow.Rule]flow.Mode{}, hashes: map[flow.Rule]string{}, set: set}
	for _, i := range set {
		o := &p.cfg.Overrides[i]
		if err := o.apply(&out.th); err != nil {
			panic("detect: an override that Validate refuses: " + err.Error())
		}
		for r, values := range o.Rules {
			if m, ok := values[keyMode]; ok {
				out.modes[r] = flow.Mode(m)
			}
		}
	}
	for _, r := range rules {
		v := &validator{}
		if out.th.of(r).(interface{ validate(*validator, string) }).validate(v, ""); len(v.errs) > 0 {
			base := p.cfg.Thresholds
			copyRule(&out.th, &base, r)
		}
		out.hashes[r] = out.th.hash(r)
	}
	return out
}

// th returns the thresholds that hold for a tenant.
func (t *tickState) th(tenant netip.Addr) *Thresholds { return &t.policy(tenant).th }

func (t *tickState) policy(tenant netip.Addr) *policy {
	d := t.d
	if len(d.cfg.Overrides) == 0 {
		return d.base
	}
	if p := t.policies[tenant]; p != nil {
		return p
	}
	if t.policies == nil {
		t.policies = map[netip.Addr]*policy{}
	}
	h := d.holder(tenant)
	p := d.policies.of(tenant, h, d.tags(tenant, h))
	t.policies[tenant] = p
	return p
}

func (d *Detector) holder(tenant netip.Addr) flow.Holder {
	if d.deps.Holder == nil {
		return flow.Holder{}
	}
	h, ok := d.deps.Holder(tenant)
	if !ok {
		return flow.Holder{}
	}
	return h
}

// tags returns a tenant's role tags.
func (d *Detector) tags(tenant netip.Addr, h flow.Holder) []string {
	if d.deps.Tags != nil {
		return d.deps.Tags(tenant)
	}
	return h.Tags
}

// Policy returns what holds for a tenant: the thresholds, and the mode of a rule,
// which an override may have lowered.
func (d *Detector) Policy(tenant netip.Addr) (Thresholds, func(flow.Rule) flow.Mode) {
	h := d.holder(tenant)
	p := d.policies.of(tenant, h, d.tags(tenant, h))
	return p.th, func(r flow.Rule) flow.Mode {
		if m, ok := p.modes[r]; ok {
			return m
		}
		return d.cfg.mode(r)
	}
}

// capModes drops what is off for a tenant, and lowers what an override only lets
// be recorded or told.
func (t *tickState) capModes(fs []flow.Finding) []flow.Finding {
	if len(t.d.cfg.Overrides) == 0 {
		return fs
	}
	out := fs[:0]
	for _, f := range fs {
		most := flow.TierSuspend
		switch t.policy(f.Tenant).modes[f.Rule] {
		case flow.ModeOff:
			continue
		case flow.ModeObserve:
			most = flow.TierLog
		case flow.ModeNotify:
			most = flow.TierNotify
		}
		if f.Tier > most {
			f.Tier = most
			f.Gates = append(f.Gates, GatePolicy)
		}
		out = append(out, f)
	}
	return out
}

// describe names an override for people.
func (c *Config) describe(i int) string {
	return fmt.Sprintf("detect.overrides[%d] (%s)", i, c.Overrides[i].Match)
}

func copyRule(to, from *Thresholds, r flow.Rule) {
	for k, v := range flatten(from.of(r)) {
		if !strings.HasPrefix(v, "[") {
			_ = setThreshold(to.of(r), k, strings.Trim(v, `"`)) // a value that was one already
		}
	}
}
