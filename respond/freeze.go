package respond

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Freeze holds automatic acts of a rule when many tenants trip it at once:
// then the data is more likely wrong than they. Zero values mean the defaults
// beside the fields.
type Freeze struct {
	Tenants    int           // 10 tenants that trip one rule …
	Window     time.Duration // … within 5 min …
	Share      float64       // … and that are more than 0.01 of all servers, where Deps.FleetSize tells
	AllTenants int           // 30 tenants that trip any rules within Window freeze all rules
	For        time.Duration // 30 min of quiet lift it; negative: only a person does
}

func (f Freeze) withDefaults() Freeze {
	orDefault(&f.Tenants, 10)
	orDefault(&f.Window, 5*time.Minute)
	orDefault(&f.Share, 0.01)
	orDefault(&f.AllTenants, 3*f.Tenants)
	orDefault(&f.For, 30*time.Minute)
	return f
}

// reached reports whether n tenants of a fleet are too many to be true.
func (f Freeze) reached(n, bound, fleet int) bool {
	return bound > 0 && n >= bound && (fleet <= 0 || float64(n) > f.Share*float64(fleet))
}

// freeze is one that lasts; the zero value is none.
type freeze struct {
	since    time.Time
	incident string
	tenants  int
	by       string // who froze: only a person lifts what a person froze
	why      string
}

// trip is a tenant that a rule began to find worth an act.
type trip struct {
	rule   flow.Rule
	tenant netip.Addr
	at     time.Time
}

// worthAnAct is the tier from which a finding of an enforced rule may act.
const worthAnAct = flow.TierBlockPort

// tripped lists the rules that find something worth an act in fs.
func tripped(fs []flow.Finding) []flow.Rule {
	var out []flow.Rule
	for _, f := range fs {
		if f.Tier >= worthAnAct && !slices.Contains(out, f.Rule) {
			out = append(out, f.Rule)
		}
	}
	return out
}

// foldTrips keeps that a tenant tripped a rule: the first time in an incident.
func (s *state) foldTrips(old, r record, b body, ev flow.Event) {
	if b.Exemption != "" {
		return
	}
	had := tripped(old.inc.Findings)
	for _, rule := range tripped(b.Findings) {
		if !slices.Contains(had, rule) {
			s.trips = append(s.trips, trip{rule, r.inc.Tenant, ev.Time})
		}
	}
}

// frozen returns the freeze of a rule, or that of all rules.
func (s *state) frozen(rule flow.Rule) (freeze, bool) {
	for _, k := range []flow.Rule{rule, ""} {
		if f, _ := lookup(s, func(s *state) map[flow.Rule]freeze { return s.freezes }, k); !f.since.IsZero() {
			return f, true
		}
	}
	return freeze{}, false
}

// tripping are the tenants that rules find worth an act, by rule, "" for any:
// those of the tick and those that began within the window.
func (c *Controller) tripping(s *state, ts time.Time, tick []flow.Finding) map[flow.Rule]map[netip.Addr]bool {
	out := map[flow.Rule]map[netip.Addr]bool{"": {}}
	add := func(rule flow.Rule, tenant netip.Addr) {
		if c.cfg.mode(rule) != flow.ModeEnforce {
			return
		}
		if out[rule] == nil {
			out[rule] = map[netip.Addr]bool{}
		}
		out[rule][tenant], out[""][tenant] = true, true
	}
	since := ts.Add(-c.cfg.Freeze.Window)
	for st := s; st != nil; st = st.parent {
		for i := len(st.trips) - 1; i >= 0 && !st.trips[i].at.Before(since.Add(-time.Hour)); i-- {
			if st.trips[i].at.After(since) {
				add(st.trips[i].rule, st.trips[i].tenant)
			}
		}
	}
	for _, f := range tick {
		if r, live := s.liveOf(f.Tenant); f.Tier < worthAnAct || live && slices.Contains(tripped(r.inc.Findings), f.Rule) {
			continue
		}
		h, _ := c.deps.Inventory.Holder(f.Tenant, ts)
		if _, ok := c.cfg.exempt(f, h, ts, c.deps.Exempt); !ok {
			add(f.Rule, f.Tenant)
		}
	}
	return out
}

// closeFreeze stores a freeze as soon as one is due, in the name of the
// incident that shows it, and pages staff once.
func (c *Controller) closeFreeze(t *txn, ts time.Time, id string, trips map[flow.Rule]map[netip.Addr]bool) {
	fleet := c.fleetSize()
	due := func(rule flow.Rule, bound int) bool {
		_, already := t.st.frozen(rule)
		return !already && c.cfg.Freeze.reached(len(trips[rule]), bound, fleet)
	}
	if due("", c.cfg.Freeze.AllTenants) {
		c.emitFreeze(t, ts, id, actorController, "", len(trips[""]), freezeText("", len(trips[""]), c.cfg.Freeze.Window))
		return
	}
	for _, rule := range slices.Sorted(maps.Keys(trips)) {
		if rule != "" && due(rule, c.cfg.Freeze.Tenants) {
			c.emitFreeze(t, ts, id, actorController, rule, len(trips[rule]), freezeText(rule, len(trips[rule]), c.cfg.Freeze.Window))
		}
	}
}

func (c *Controller) emitFreeze(t *txn, ts time.Time, id, actor string, rule flow.Rule, n int, why string) {
	r, _ := t.st.rec(id)
	b := body{Rule: rule, Count: n, Detail: why}
	if len(t.st.freezesNow()) == 0 { // a freeze that widens is no second page
		b.Notices = c.dues(t, r, noticeFrozen, r.inc.State)
	}
	t.emit(newEvent(id, EventFrozen, actor, ReasonFreeze, ts, b))
	c.m.frozen.WithLabelValues(cmp.Or(string(rule), "all")).Inc()
}

func freezeText(rule flow.Rule, n int, window time.Duration) string {
	return fmt.Sprintf("%d tenants tripped %s within %s", n, cmp.Or(string(rule), "the rules"), window)
}

func (c *Controller) fleetSize() int {
	if c.deps.FleetSize == nil {
		return 0
	}
	return c.deps.FleetSize()
}

func (s *state) freezesNow() []flow.Frozen {
	seen := map[flow.Rule]bool{}
	var out []flow.Frozen
	for ; s != nil; s = s.parent {
		for rule, f := range s.freezes {
			if !seen[rule] && !f.since.IsZero() {
				out = append(out, flow.Frozen{Rule: rule, Since: f.since, Tenants: f.tenants, Incident: f.incident, By: f.by, Why: f.why})
			}
			seen[rule] = true
		}
	}
	slices.SortFunc(out, func(a, b flow.Frozen) int { return strings.Compare(string(a.Rule), string(b.Rule)) })
	return out
}

// Freezes lists the freezes that last, that of all rules first.
func (c *Controller) Freezes() []flow.Frozen {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.st.freezesNow()
}

// ErrNotFrozen means that there is no freeze to lift.
var ErrNotFrozen = fmt.Errorf("%w: nothing is frozen", ErrState)

// Unfreeze lifts every freeze. What was held acts again when it is found again,
// within the caps.
func (c *Controller) Unfreeze(ctx context.Context, actor, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return ErrReason
	}
	return c.transact(ctx, func(t *txn) error {
		list := t.st.freezesNow()
		if len(list) == 0 {
			return ErrNotFrozen
		}
		for _, f := range list {
			t.emit(newEvent(f.Incident, EventUnfrozen, actor, ReasonUnfrozen, c.now(), body{Rule: f.Rule, Detail: clip(reason, maxText)}))
		}
		return nil
	})
}

// thaw lifts the freezes, other than a person's, whose rules were quiet for long enough: fewer tenants
// than froze it were found worth an act, for Freeze.For.
func (c *Controller) thaw(t *txn, now time.Time) {
	if c.cfg.Freeze.For < 0 {
		return
	}
	for _, f := range t.st.freezesNow() {
		if f.By != actorController {
			continue
		}
		c.mu.RLock()
		busy := c.busy[f.Rule]
		if busy.Before(c.started) {
			busy = c.started // nobody looked while we were away
		}
		c.mu.RUnlock()
		if busy.Before(f.Since) {
			busy = f.Since
		}
		if !now.Before(busy.Add(c.cfg.Freeze.For)) {
			t.emit(newEvent(f.Incident, EventUnfrozen, actorController, ReasonUnfrozen, now, body{Rule: f.Rule, Detail: "quiet for " + c.cfg.Freeze.For.String()}))
		}
	}
}

// noteBusy remembers that a tick still finds as many tenants worth an act as
// would freeze the rule.
func (c *Controller) noteBusy(ts time.Time, fs []flow.Finding) {
	per := map[flow.Rule]map[netip.Addr]bool{}
	for _, f := range fs {
		for _, rule := range []flow.Rule{f.Rule, ""} {
			if f.Tier >= worthAnAct {
				if per[rule] == nil {
					per[rule] = map[netip.Addr]bool{}
				}
				per[rule][f.Tenant] = true
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for rule, tenants := range per {
		if bound := c.cfg.Freeze.Tenants; len(tenants) >= bound {
			c.busy[rule] = ts
		}
	}
}
