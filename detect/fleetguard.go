package detect

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Guard G3 of detection.md §5.2: where many begin to look guilty at once, the
// network or the export is at fault. No statistic of one tenant can see it.

// guardMemory is what the guards remember from tick to tick, and by Deps.Memory
// from one process to the next.
type guardMemory struct {
	health  healthLog
	entries map[flow.Rule]map[netip.Addr]*entry
	pruned  time.Time
	answers answerLog
	rates   rateLog
	asked   map[findingKey]*sourceVerdict
	usual   map[netip.Addr]*usualOf // of tagged mail servers
	changed bool                    // since it was saved
	blind   time.Time               // until then the past is not known, and verdicts are held
}

// entry is when a tenant began to show a rule, and when it last did.
type entry struct {
	first, last time.Time
	exporter    netip.Addr // that most of its records came by; invalid: not asked
}

func newGuardMemory() *guardMemory {
	return &guardMemory{entries: map[flow.Rule]map[netip.Addr]*entry{}, asked: map[findingKey]*sourceVerdict{}, usual: map[netip.Addr]*usualOf{}}
}

// ofItsOwn are gates that name a reason in the tenant itself: whom they hold is
// no sign of a fault of the network.
var ofItsOwn = []string{GateP2PPort, GateRoleTag, GatePolicy, GateSharedPort, GateRefused}

// guilty reports whether a finding, but for gates that are not the tenant's own,
// would have been acted on. Notices are too many to tell anything: peer-to-peer
// programs alone give some all the time.
func guilty(f *flow.Finding) bool {
	return (f.Tier > flow.TierNotify || len(f.Gates) > 0) &&
		!slices.ContainsFunc(f.Gates, func(g string) bool { return slices.Contains(ofItsOwn, g) })
}

// note remembers who shows what at ts.
func (g *guardMemory) note(cfg *GuardConfig, fs []flow.Finding, ts time.Time) {
	again := time.Duration(cfg.FleetAgainS) * time.Second
	for i := range fs {
		f := &fs[i]
		if !guilty(f) || !slices.Contains(fleetRules, f.Rule) {
			continue
		}
		m := g.entries[f.Rule]
		if m == nil {
			m = map[netip.Addr]*entry{}
			g.entries[f.Rule] = m
		}
		e := m[f.Tenant]
		if e == nil || ts.Sub(e.last) > again {
			e = &entry{first: ts}
			m[f.Tenant] = e
			g.changed = true
		}
		e.last = ts
	}
	if ts.Sub(g.pruned) < time.Minute {
		return
	}
	g.pruned = ts
	for _, m := range g.entries {
		for a, e := range m {
			if ts.Sub(e.last) > again {
				delete(m, a)
			}
		}
	}
	for a, u := range g.usual {
		if ts.Sub(u.at) > 2*usualKept {
			delete(g.usual, a)
		}
	}
	for k, v := range g.asked {
		if ts.Sub(v.at) > sourcesKept {
			delete(g.asked, k)
		}
	}
}

// newcomers counts the tenants that newly show a rule, in all and by the
// exporter that they came by, where that is known.
func (g *guardMemory) newcomers(cfg *GuardConfig, r flow.Rule, ts time.Time) (all int, by map[netip.Addr]int) {
	by = map[netip.Addr]int{}
	for _, e := range g.entries[r] {
		if ts.Sub(e.first) <= time.Duration(cfg.FleetS)*time.Second {
			all++
			if e.exporter.IsValid() {
				by[e.exporter]++
			}
		}
	}
	return all, by
}

// leastNewcomers is how many freeze a rule among active tenants.
func (cfg *GuardConfig) leastNewcomers(r flow.Rule, active float64) float64 {
	n := max(float64(cfg.FleetMin), cfg.FleetShare*active)
	if !slices.Contains(scans, r) {
		n *= floodFactor
	}
	return n
}

// answerLog is the fleet's answers, looked at once a minute.
type answerLog struct {
	at    time.Time // of the look
	stats flow.FleetAnswers
	// base is the share of answers from before a drop, kept while it lasts: the
	// ten minutes before are soon spoiled themselves.
	base    float64
	dropped time.Time // when it fell; zero: it has not
	// surged is when all tenants last opened several times more connections than
	// before, which is the export's doing, or what comes after an outage. It holds
	// until the ten minutes before are of the same kind.
	surged time.Time
	// normal is the share of answers when they had last not fallen: after a start
	// the ten minutes before are known in part, and may all lie in an outage.
	normal   float64
	normalAt time.Time
	restored time.Time // when this was read from what another process saved
}

func (l *answerLog) surge(ts time.Time) bool {
	return !l.surged.IsZero() && ts.Sub(l.surged) < answersBase
}

// fallen reports whether fewer connections are answered than used to be.
func (l *answerLog) fallen() bool { return !l.dropped.IsZero() }

const (
	answersNow  = time.Minute
	answersBase = 10 * time.Minute
	// answersShift puts the look into a slot in which no long range is due.
	answersShift = 50 * time.Second
	// answersForget is when a fallen share becomes the normal one.
	answersForget = 6 * time.Hour
	// leastBase is how many times longer than the later range what is stored of
	// the base range must be.
	leastBase = 2
	// fleetTenants is how many tenants make a fleet.
	fleetTenants = 5
)

// lookAtFleet asks for the fleet's answers once a minute, whether or not there
// is a finding: what was normal must be known before it ends.
func (t *tickState) lookAtFleet() error {
	g := t.d.guards
	if !slices.ContainsFunc(fanOut, t.d.cfg.on) {
		return nil
	}
	if g.answers.at.IsZero() || due(answersNow*dueShare, t.prev.Add(-answersShift), t.ts.Add(-answersShift)) {
		return t.askFleet()
	}
	return nil
}

// askFleet looks now, unless that was done in this window. A verdict on somebody
// new does not wait for the minute.
func (t *tickState) askFleet() error {
	return t.askFleetWithout(nil)
}

// askFleetWithout leaves out some tenants besides those that are noted.
func (t *tickState) askFleetWithout(too []netip.Addr) error {
	g := t.d.guards
	if t.ts.Sub(g.answers.at) < window {
		return nil
	}
	now := span(t.ts, answersNow)
	base := flow.Range{From: now.From.Add(-answersBase), To: now.From}
	except := append(g.noted(t.ts), too...)
	slices.SortFunc(except, netip.Addr.Compare)
	s, err := t.d.deps.Windows.FleetAnswers(t.ctx, base, now, slices.Compact(except))
	switch {
	case t.ctx.Err() != nil:
		return t.ctx.Err()
	case err != nil: // what was seen a minute ago stands
		t.d.m.errors.WithLabelValues(stepFleet).Inc()
		t.d.warn(t.ts, "answers of the fleet not available", err)
		return nil
	}
	before := g.answers
	g.answers.see(&t.d.cfg.Thresholds.Guards, s, now, t.ts)
	g.changed = g.changed || g.answers.dropped != before.dropped || g.answers.surged != before.surged
	return nil
}

// noted are the tenants that show anything now: whether the fleet is well, the
// others tell. In a small fleet one scanner would be most of it.
func (g *guardMemory) noted(ts time.Time) []netip.Addr {
	seen := map[netip.Addr]bool{}
	for _, m := range g.entries {
		for a, e := range m {
			if ts.Sub(e.last) <= answersNow {
				seen[a] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(seen), netip.Addr.Compare)
}

// see judges a look. What the base range holds counts as far as anything is
// stored of it: a service that was just started knows no normal yet.
func (l *answerLog) see(cfg *GuardConfig, s flow.FleetAnswers, now flow.Range, ts time.Time) {
	l.at, l.stats = ts, s
	times := float64(s.Windows) * flow.WindowSeconds / now.Seconds()
	if s.Tenants < fleetTenants || s.BaseOpened <= 0 || times < leastBase {
		return
	}
	if excess(s.Opened, cfg.Surge*s.BaseOpened/times) >= oneWayProof {
		l.surged = ts
	}
	base := s.BaseAnswered / s.BaseOpened
	if !l.restored.IsZero() && ts.Sub(l.restored) <= answersBase && ts.Sub(l.normalAt) < answersForget {
		base = max(base, l.normal)
	}
	if !l.dropped.IsZero() && ts.Sub(l.dropped) < answersForget {
		base = max(base, l.base)
	}
	least := (1 - cfg.AnswerDrop) * base
	drop := least > 0 && least < 1 && shortfall(s.Answered, s.Opened-s.Answered, least/(1-least)) >= oneWayProof
	switch {
	case !drop:
		// Few samples prove nothing: what fell stays fallen until it is seen well.
		if s.Opened > 0 && s.Answered >= least*s.Opened {
			l.dropped, l.base = time.Time{}, 0
		}
	case l.dropped.IsZero() || ts.Sub(l.dropped) >= answersForget:
		l.dropped, l.base = ts, base
	}
	if !l.fallen() {
		l.normal, l.normalAt = base, ts
	}
}

// fleetGate holds what is above notify where the fleet shows a fault.
func (t *tickState) fleetGate(fs []flow.Finding) {
	g, cfg := t.d.guards, &t.d.cfg.Thresholds.Guards
	type count struct {
		all int
		by  map[netip.Addr]int
	}
	counts := map[flow.Rule]count{}
	active := float64(g.answers.stats.Active)
	records, total := t.recordShares()
	for i := range fs {
		f := &fs[i]
		if f.Tier <= flow.TierNotify || f.Rule == flow.RuleSpoofed {
			continue
		}
		c, ok := counts[f.Rule]
		if !ok {
			c.all, c.by = g.newcomers(cfg, f.Rule, t.ts)
			counts[f.Rule] = c
		}
		var exporter netip.Addr
		if e := g.entries[f.Rule][f.Tenant]; e != nil {
			exporter = e.exporter
		}
		share := 1.0
		if total > 0 {
			share = records[exporter] / total
		}
		switch {
		case g.answers.surge(t.ts),
			g.answers.fallen() && slices.Contains(fanOut, f.Rule),
			float64(c.all) >= cfg.leastNewcomers(f.Rule, active),
			exporter.IsValid() && float64(c.by[exporter]) >= cfg.leastNewcomers(f.Rule, active*share):
			hold(f, GateFleet)
		}
	}
}

// recordShares is how many records each exporter sent lately: what stands for
// the share of the tenants that are behind it.
func (t *tickState) recordShares() (map[netip.Addr]float64, float64) {
	out, total := map[netip.Addr]float64{}, 0.0
	for i := range t.exporters {
		n := float64(t.d.guards.health.since(&t.exporters[i]).records)
		out[t.exporters[i].Exporter] = n
		total += n
	}
	return out, total
}
