package respond

import (
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Input is everything a decision about one tenant may look at. Findings are
// those of one tick, already rid of stale ones.
type Input struct {
	Findings []flow.Finding
	Holder   flow.Holder // now
	Known    bool        // the inventory has a holder now
	// Before is the holder at the start of the oldest window counted.
	Before      flow.Holder
	KnownBefore bool
	Adapter     bool               // Holder.Hypervisor names a configured adapter and there is a NIC
	Measures    []flow.MeasureKind // milder than the cut, that the adapter can take
	OtherCut    string             // incident that holds the same server cut, if any
	LastHour    int                // suspend intents of the last 60 minutes
	Counts      Counts
	// InForce is the measure that the incident has in force, since when it is
	// read back; without a kind there is none.
	InForce      flow.Measure
	InForceSince time.Time
	// StepSince is since when a measure of that kind is in force: more ports
	// begin a measure anew, not the step.
	StepSince    time.Time
	InForceAuto  bool // no person chose it
	Offences     int  // earlier incidents of the same holder that ended with a release
	Probation    bool // the last of them a short time ago
	Frozen       bool // automatic acts of one of the rules are frozen
	InventoryAge time.Duration
	Released     time.Time // last release of the same holder; zero: none
	Held         Reason    // why the incident is held, if it is
	Waiting      time.Time // since when a notice waits (see Config.NotifyAfter); zero: none does yet
	Exempt       Exempter  // beside Config.Exemptions; nil: none
}

// Decision is what is to become of an incident: State is the state it should
// be in ("" leaves it where it is) and Exemption the first exemption that
// covered a finding.
type Decision struct {
	State     flow.State
	Exemption string
	Measure   flow.Measure  // of StateSuspending, StateApproval and StateHeld
	Hold      time.Duration // how long it stays; 0: until released
	// Climb says that the incident keeps its state, with a measure in force, and
	// that the next one is held back or needs a person: Held and Approval only.
	Climb bool
}

// refused reports whether this offence is the one that a human must judge.
func (in Input) refused(cfg Config) bool {
	return cfg.RefuseAfter > 0 && in.Offences+1 >= cfg.RefuseAfter
}

// wish is what findings ask for.
type wish struct {
	state  flow.State
	reason Reason
	step   step
}

// want is what one finding asks for by its tier, the mode of its rule, and
// what the adapter can do.
func want(cfg Config, f flow.Finding, in Input, ts time.Time) wish {
	mode := cfg.mode(f.Rule)
	switch {
	case mode == flow.ModeOff || f.Tier == flow.TierNone:
		return wish{}
	case mode == flow.ModeObserve || f.Tier == flow.TierLog:
		return wish{state: flow.StateOpen, reason: ReasonObserved}
	case mode == flow.ModeNotify:
		return wish{state: flow.StateNotified, reason: ReasonNotify} // nothing can follow that would replace the notice
	case mode != flow.ModeApprove && mode != flow.ModeEnforce:
		return wish{state: flow.StateOpen, reason: ReasonObserved} // an unknown mode never acts
	case barOf(f, in) < flow.TierBlockPort:
		return wish{state: flow.StateNotified, reason: ReasonNotifyWait}
	}
	s, ok := nextStep(cfg, f, in, ts)
	switch {
	case !ok && barOf(f, in) < flow.TierSuspend:
		return wish{state: flow.StateNotified, reason: ReasonNotifyWait}
	case !ok:
		return wish{state: flow.StateNotified, reason: ReasonNoMeasure}
	case mode == flow.ModeApprove:
		return wish{flow.StateApproval, ReasonApprove, s}
	}
	reason := ReasonEnforce
	if s.reason != "" {
		reason = s.reason
	}
	return wish{flow.StateSuspending, reason, s}
}

// rank orders what findings may ask for and what a live incident already got.
func rank(s flow.State) int {
	switch s {
	case flow.StateOpen:
		return 1
	case flow.StateNotified:
		return 2
	case flow.StateHeld:
		return 3
	case flow.StateApproval:
		return 4
	case flow.StateSuspending:
		return 5
	}
	return 0
}

// decide says what follows from one tick's findings for a tenant whose live
// incident is in state ("" when it has none). It is pure; ts is event time.
func decide(cfg Config, state flow.State, in Input, ts time.Time) (Decision, Reason) {
	w, exemption := wishOf(cfg, in, ts)
	if w.state == "" {
		return Decision{}, ReasonNothingNew
	}
	d := Decision{Exemption: exemption}
	switch state {
	case "", flow.StateOpen, flow.StateNotified, flow.StateHeld, flow.StateApproval:
	case flow.StateSuspended, flow.StateVerified, flow.StateUnverified:
		return decideNext(cfg, in, w, d, ts)
	default: // an act is under way, or failed and in a human's hands
		return d, ReasonNothingNew
	}
	target, reason := w.state, w.reason
	if reason == ReasonNotifyWait {
		if waits(cfg, in, ts) {
			target = flow.StateOpen
		} else {
			reason = ReasonNotify
		}
	}
	if acts(w.state) {
		d.Measure, d.Hold = w.step.measure, w.step.hold
		if held := safety(cfg, in, w.state == flow.StateSuspending, ts); held != "" {
			target, reason = flow.StateHeld, held
		}
	}
	switch {
	case state == flow.StateHeld && target == flow.StateHeld:
		if in.Held == reason || in.Held == ReasonApprovalLate {
			return d, ReasonNothingNew
		}
	case state == flow.StateHeld && target == flow.StateApproval && in.Held == ReasonApprovalLate:
		return d, ReasonNothingNew // nobody answered; asking again each tick helps nobody
	case state == flow.StateApproval && target == flow.StateHeld:
		// The request goes on unless a safety appeared that approval cannot override.
		if overridable(reason) {
			return d, ReasonNothingNew
		}
	case state == flow.StateOpen && reason == ReasonNotifyWait:
		return d, reason // it is where it should be, and the time counts from the first such verdict
	case rank(target) <= rank(state):
		return d, ReasonNothingNew
	}
	d.State = target
	return d, reason
}

// decideNext decides on an incident that has a measure in force: on the next
// step, or on more ports. What holds it back leaves the state as it is.
func decideNext(cfg Config, in Input, w wish, d Decision, ts time.Time) (Decision, Reason) {
	m := w.step.measure
	if !acts(w.state) || in.InForce.Kind == "" || m.Kind.Rank() < in.InForce.Kind.Rank() {
		return d, ReasonNothingNew
	}
	if m.Kind == in.InForce.Kind {
		if m.Ports = joinPorts(in.InForce.Ports, m.Ports); covers(in.InForce, m) {
			return d, ReasonNothingNew
		}
	}
	d.Measure, d.Hold = m, w.step.hold
	reason := w.reason
	d.State = w.state
	if held := safety(cfg, in, w.state == flow.StateSuspending, ts); held != "" {
		d.State, reason = flow.StateHeld, held
	}
	if d.State == flow.StateSuspending {
		return d, reason
	}
	if in.Held == reason { // said already
		return Decision{Exemption: d.Exemption}, ReasonNothingNew
	}
	d.Climb = true
	return d, reason
}

// acts reports whether a state is one that asks for a measure.
func acts(s flow.State) bool { return s == flow.StateSuspending || s == flow.StateApproval }

// wishOf is the strongest that the findings ask for, exempt ones left out.
func wishOf(cfg Config, in Input, ts time.Time) (best wish, exemption string) {
	for _, f := range in.Findings {
		w := want(cfg, f, in, ts)
		if w.state == "" {
			continue
		}
		if name, ok := cfg.exempt(f, in.Holder, ts, in.Exempt); ok {
			w = wish{state: flow.StateOpen, reason: ReasonExempt}
			if exemption == "" {
				exemption = name
			}
		}
		switch {
		case rank(w.state) > rank(best.state):
			best = w
		case w.state != best.state:
		case acts(w.state):
			best.step = join(best.step, w.step)
			if best.step.reason != "" && w.state == flow.StateSuspending {
				best.reason = best.step.reason
			}
		case w.reason == ReasonNotify, w.reason == ReasonNoMeasure && best.reason != ReasonNotify:
			best = w
		}
	}
	return best, exemption
}

// waits reports whether a notice is still to wait for what the abuse becomes.
func waits(cfg Config, in Input, ts time.Time) bool {
	return cfg.NotifyAfter > 0 && (in.Waiting.IsZero() || ts.Before(in.Waiting.Add(cfg.NotifyAfter)))
}

// safety returns what holds an act back, or "". Caps, freeze and cooldown
// bound what happens without a human; auto says that none is asked.
func safety(cfg Config, in Input, auto bool, ts time.Time) Reason {
	var addr = in.Holder.Prefix.Addr()
	if len(in.Findings) > 0 {
		addr = in.Findings[0].Tenant
	}
	switch {
	case cfg.Protected.covers(addr, in.Holder):
		return ReasonProtected
	case !in.Known:
		return ReasonHolderUnknown
	case unsure(in.Holder) || unsure(in.Before):
		return ReasonHolderUnsure
	case !in.KnownBefore || in.Before.VDS != in.Holder.VDS || in.Before.Tenant != in.Holder.Tenant:
		return ReasonHolderChanged
	case cfg.InventoryMaxAge > 0 && in.InventoryAge > cfg.InventoryMaxAge, in.Holder.Doubt == flow.DoubtStale:
		return ReasonInventoryOld
	case !in.Adapter:
		return ReasonNoAdapter
	case slices.ContainsFunc(cfg.SharedTags, in.Holder.Tagged):
		return ReasonShared
	case in.OtherCut != "":
		return ReasonAlreadyCut
	case auto && in.Frozen:
		return ReasonFreeze
	case auto && cfg.Cooldown > 0 && !in.Released.IsZero() && ts.Before(in.Released.Add(cfg.Cooldown)):
		return ReasonCooldown
	case auto && in.LastHour >= max(cfg.MaxPerHour, 0):
		return ReasonCap
	}
	if auto {
		if held := cfg.Caps.reached(in); held != "" {
			return held
		}
	}
	if cfg.DryRun {
		return ReasonDryRun
	}
	return ""
}

// unsure reports whether the inventory cannot tell whose address it is. What is
// only old is another matter: a person may know that it still holds.
func unsure(h flow.Holder) bool { return h.Doubt != "" && h.Doubt != flow.DoubtStale }

// overridable reports whether a human's approval may go past the reason.
func overridable(r Reason) bool {
	switch r {
	case ReasonCap, ReasonCapShort, ReasonCapDay, ReasonCapTenant, ReasonCapNode, ReasonCapFleet, ReasonFreeze,
		ReasonCooldown, ReasonShared, ReasonApprovalLate, ReasonHolderChanged, ReasonInventoryOld:
		return true
	}
	return false
}
