package respond

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Step is one measure of a rule's ladder.
type Step struct {
	Measure flow.MeasureKind
	KbitS   uint64 // of rate_limit
	// After is how long this measure is in force before abuse that goes on, at
	// whichever port, is answered by the next step. Until then another port is
	// blocked as well.
	After time.Duration
	// For is how long the measure stays; 0: until it is released. It grows for
	// who offends again (Config.RepeatFactor).
	For time.Duration
}

// ladder is the steps of a rule; a cut where none are given.
func (c Config) ladder(r flow.Rule) []Step {
	if l := c.Ladders[r]; len(l) > 0 {
		return l
	}
	return []Step{{Measure: flow.MeasureCut}}
}

// CheckLadder says what is wrong with the steps of a rule, all at once; nil
// when nothing is. The place of a step is its index.
func CheckLadder(r flow.Rule, steps []Step) []error {
	var errs []error
	bad := func(i int, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s[%d]: "+format, append([]any{r, i}, args...)...))
	}
	for i, s := range steps {
		switch {
		case s.Measure.Rank() == 0:
			bad(i, "measure %q: write block_port, rate_limit or cut", s.Measure)
		case i > 0 && s.Measure.Rank() <= steps[i-1].Measure.Rank():
			bad(i, "%s is no stronger than %s before it: write milder steps first, each measure once", s.Measure, steps[i-1].Measure)
		}
		if (s.Measure == flow.MeasureLimit) != (s.KbitS > 0) {
			bad(i, "%s with kbit_s %d: rate_limit needs it, nothing else takes it", s.Measure, s.KbitS)
		}
		if s.Measure == flow.MeasureBlockPort && !blockable(flow.Finding{Rule: r, Port: 1}) {
			bad(i, "block_port: the packets of %s are not known by a port, begin with rate_limit or cut", r)
		}
		if s.After < 0 || s.For < 0 {
			bad(i, "after %s, for %s: times cannot be negative", s.After, s.For)
		}
		if s.For > 0 && i < len(steps)-1 && s.After >= s.For {
			bad(i, "after %s: the measure ends before it, after %s", s.After, s.For)
		}
	}
	return errs
}

// step is what a finding asks to be taken.
type step struct {
	measure flow.Measure
	hold    time.Duration
	reason  Reason // "": the usual one of the mode
}

// blockable reports whether a finding names the one port whose packets are the
// abuse. A flood's port is only the most used one, a reflector's is its own.
func blockable(f flow.Finding) bool {
	if f.Port == 0 {
		return false
	}
	switch f.Rule {
	case flow.RuleNetscan, flow.RuleBlockscan, flow.RuleUDPSweep, flow.RuleSpam, flow.RuleBruteforce, flow.RuleBlockedPort:
		return true
	}
	return false
}

func portOf(f flow.Finding) flow.PortRule { return flow.PortRule{Proto: f.IPProto, Port: f.Port} }

// barOf is the tier that a finding counts as: on probation a notice's is worth
// an act.
func barOf(f flow.Finding, in Input) flow.Tier {
	if in.Probation && f.Tier >= flow.TierNotify {
		return flow.TierSuspend
	}
	return f.Tier
}

// nextStep is the measure that one finding asks for, on top of what is in
// force already. ok is false when there is none; then reason says why, if it
// is because the adapter cannot take it.
func nextStep(cfg Config, f flow.Finding, in Input, ts time.Time) (s step, ok bool) {
	if in.InForce.Kind != "" && f.From.Before(in.InForceSince.Add(cfg.Settle)) && !in.grown(cfg, f) {
		return step{}, false // it counts what was sent before the measure
	}
	if barOf(f, in) < flow.TierSuspend {
		return blockOnly(cfg, f, in)
	}
	ladder := cfg.ladder(f.Rule)
	i := 0
	reason := Reason("")
	switch {
	case in.refused(cfg) && f.Tier >= flow.TierSuspend:
		if in.InForce.Kind == flow.MeasureCut {
			return step{}, false
		}
		return step{flow.Measure{Kind: flow.MeasureCut}, 0, ReasonRefuse}, true
	case in.Probation && f.Tier >= flow.TierSuspend:
		i, reason = len(ladder)-1, ReasonProbation
	case in.InForce.Kind != "":
		var wait bool
		if i, reason, wait = climb(ladder, f, in, ts); wait {
			return step{}, false
		}
	case in.Probation:
		reason = ReasonProbation
	}
	for ; i < len(ladder); i++ {
		st := ladder[i]
		switch {
		case st.Measure == flow.MeasureBlockPort && !blockable(f):
			continue
		case st.Measure != flow.MeasureCut && !slices.Contains(in.Measures, st.Measure), st.Measure == flow.MeasureLimit && st.KbitS == 0:
			if !cfg.SkipUnsupported {
				return step{reason: ReasonNoMeasure}, false
			}
			continue
		}
		return step{measureOf(st, f), cfg.holdOf(st, in), reason}, true
	}
	return step{reason: ReasonNoMeasure}, false
}

// grown reports whether a finding shows that the offence was more than what the
// measure in force was taken for: on probation a young scan gets the first step
// as a notice, and the offence itself, not its going on, is worth the last.
func (in Input) grown(cfg Config, f flow.Finding) bool {
	return in.InForceAuto && f.Tier >= flow.TierSuspend && (in.Probation || in.refused(cfg))
}

// climb finds the step after the measure in force. wait says that it is too
// early for it.
func climb(ladder []Step, f flow.Finding, in Input, ts time.Time) (i int, reason Reason, wait bool) {
	at := -1 // the last step that is no stronger than what is in force
	for j, st := range ladder {
		if st.Measure.Rank() <= in.InForce.Kind.Rank() {
			at = j
		}
	}
	since := in.StepSince
	if since.IsZero() {
		since = in.InForceSince
	}
	early := at >= 0 && ts.Before(since.Add(ladder[at].After))
	// Who goes from port to port is not followed forever: what is blocked is seen
	// no more, so another port is how the abuse goes on.
	if j := slices.IndexFunc(ladder, func(s Step) bool { return s.Measure == flow.MeasureBlockPort }); j >= 0 && widens(in.InForce, f) &&
		(early || at+1 >= len(ladder)) {
		return j, ReasonMorePorts, false
	}
	if early {
		return 0, "", true
	}
	return at + 1, ReasonGoesOn, at+1 >= len(ladder)
}

// maxBlockedPorts bounds one measure. Who scans more of them is not stopped by
// blocking ports, and rules of a hypervisor are few.
const maxBlockedPorts = 32

// widens reports whether the finding's port can be added to what is blocked.
func widens(have flow.Measure, f flow.Finding) bool {
	return have.Kind == flow.MeasureBlockPort && blockable(f) && !slices.Contains(have.Ports, portOf(f)) && len(have.Ports) < maxBlockedPorts
}

// blockOnly is what tier block_port asks for: its port, and nothing beyond.
func blockOnly(cfg Config, f flow.Finding, in Input) (step, bool) {
	if !blockable(f) || !slices.Contains(in.Measures, flow.MeasureBlockPort) {
		return step{reason: ReasonNoMeasure}, false
	}
	st := Step{Measure: flow.MeasureBlockPort}
	if i := slices.IndexFunc(cfg.ladder(f.Rule), func(s Step) bool { return s.Measure == flow.MeasureBlockPort }); i >= 0 {
		st = cfg.ladder(f.Rule)[i]
	}
	reason := Reason("")
	if in.InForce.Kind != "" {
		if !widens(in.InForce, f) {
			return step{}, false
		}
		reason = ReasonMorePorts
	}
	return step{measureOf(st, f), cfg.holdOf(st, in), reason}, true
}

func measureOf(st Step, f flow.Finding) flow.Measure {
	m := flow.Measure{Kind: st.Measure}
	switch st.Measure {
	case flow.MeasureBlockPort:
		m.Ports = []flow.PortRule{portOf(f)}
	case flow.MeasureLimit:
		m.KbitS = st.KbitS
	}
	return m
}

// holdOf is how long a step's measure stays, with what earlier offences add.
func (c Config) holdOf(st Step, in Input) time.Duration {
	if st.For <= 0 {
		return 0
	}
	grown := float64(st.For) * math.Pow(c.RepeatFactor, float64(in.Offences))
	return max(st.For, time.Duration(min(grown, float64(c.RepeatMax))))
}

// join makes one measure of two steps that are asked for at once: the
// stronger; of equal ones every port, the lower limit and the longer time.
func join(a, b step) step {
	switch {
	case a.measure.Kind.Rank() > b.measure.Kind.Rank():
		return a
	case a.measure.Kind.Rank() < b.measure.Kind.Rank():
		return b
	}
	out := a
	out.measure.Ports = joinPorts(a.measure.Ports, b.measure.Ports)
	if k := b.measure.KbitS; k != 0 {
		out.measure.KbitS = min(out.measure.KbitS, k)
	}
	if out.hold = max(a.hold, b.hold); a.hold == 0 || b.hold == 0 {
		out.hold = 0
	}
	out.reason = cmp.Or(a.reason, b.reason)
	return out
}

// joinPorts is every port of both, in order and once.
func joinPorts(a, b []flow.PortRule) []flow.PortRule {
	if len(a)+len(b) == 0 {
		return nil
	}
	out := slices.Concat(a, b)
	slices.SortFunc(out, func(x, y flow.PortRule) int {
		return cmp.Or(cmp.Compare(x.Proto, y.Proto), cmp.Compare(x.Port, y.Port))
	})
	out = slices.Compact(out)
	return out[:min(len(out), maxBlockedPorts)]
}

// covers reports whether what is in force does at least what is wanted.
func covers(have, want flow.Measure) bool {
	if have.Kind != want.Kind {
		return false
	}
	// Products count in whole kB/s or MB/s: what reads back may be rounded up.
	if want.Kind == flow.MeasureLimit && (have.KbitS == 0 || have.KbitS > want.KbitS+want.KbitS/20+8) {
		return false
	}
	for _, p := range want.Ports {
		if !slices.Contains(have.Ports, p) {
			return false
		}
	}
	return true
}
