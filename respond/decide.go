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
	Adapter     bool      // Holder.Hypervisor names a configured adapter and there is a NIC
	OtherCut    string    // incident that holds the same server cut, if any
	LastHour    int       // suspend intents of the last 60 minutes
	Released    time.Time // last release of the same holder; zero: none
	Held        Reason    // why the incident is held, if it is
	Waiting     time.Time // since when a notice waits (see Config.NotifyAfter); zero: none does yet
}

// Decision is what is to become of an incident: State is the state it should
// be in ("" leaves it where it is) and Exemption the first exemption that
// covered a finding.
type Decision struct {
	State     flow.State
	Exemption string
}

// want is what one finding asks for by its tier and the mode of its rule.
func want(cfg Config, f flow.Finding) flow.State {
	mode := cfg.mode(f.Rule)
	switch {
	case mode == flow.ModeOff || f.Tier == flow.TierNone:
		return ""
	case mode == flow.ModeObserve || f.Tier == flow.TierLog:
		return flow.StateOpen
	case f.Tier < flow.TierSuspend || mode == flow.ModeNotify:
		// A port cannot be blocked in this release, so block_port is told, not done.
		return flow.StateNotified
	case mode == flow.ModeApprove:
		return flow.StateApproval
	case mode == flow.ModeEnforce:
		return flow.StateSuspending
	}
	return flow.StateOpen // an unknown mode never acts
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
	wanted, reason, exemption := wantedOf(cfg, in, ts)
	if wanted == "" {
		return Decision{}, ReasonNothingNew
	}
	d := Decision{Exemption: exemption}
	switch state {
	case "", flow.StateOpen, flow.StateNotified, flow.StateHeld, flow.StateApproval:
	default: // an act is under way, done, or failed and in a human's hands
		return d, ReasonNothingNew
	}
	target := wanted
	if reason == ReasonNotifyWait {
		if waits(cfg, in, ts) {
			target = flow.StateOpen
		} else {
			reason = ReasonNotify
		}
	}
	if wanted == flow.StateSuspending || wanted == flow.StateApproval {
		if held := safety(cfg, in, wanted == flow.StateSuspending, ts); held != "" {
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

// wantedOf is the strongest that the findings ask for, exempt ones left out.
func wantedOf(cfg Config, in Input, ts time.Time) (wanted flow.State, reason Reason, exemption string) {
	for _, f := range in.Findings {
		w, r := want(cfg, f), ReasonObserved
		switch w {
		case "":
			continue
		case flow.StateNotified:
			r = ReasonNotifyWait
			if cfg.mode(f.Rule) == flow.ModeNotify {
				r = ReasonNotify // nothing can follow that would replace the notice
			}
		case flow.StateApproval:
			r = ReasonApprove
		case flow.StateSuspending:
			r = ReasonEnforce
		}
		if i := slices.IndexFunc(cfg.Exemptions, func(e Exemption) bool { return e.matches(f, in.Holder, ts) }); i >= 0 {
			w, r = flow.StateOpen, ReasonExempt
			if exemption == "" {
				exemption = cfg.Exemptions[i].Name
			}
		}
		if rank(w) > rank(wanted) || w == wanted && r == ReasonNotify {
			wanted, reason = w, r
		}
	}
	return wanted, reason, exemption
}

// waits reports whether a notice is still to wait for what the abuse becomes.
func waits(cfg Config, in Input, ts time.Time) bool {
	return cfg.NotifyAfter > 0 && (in.Waiting.IsZero() || ts.Before(in.Waiting.Add(cfg.NotifyAfter)))
}

// safety returns what holds an act back, or "". The cap and the cooldown bound
// what happens without a human; auto says that none is asked.
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
	case !in.KnownBefore || in.Before.VDS != in.Holder.VDS || in.Before.Tenant != in.Holder.Tenant:
		return ReasonHolderChanged
	case !in.Adapter:
		return ReasonNoAdapter
	case slices.ContainsFunc(cfg.SharedTags, in.Holder.Tagged):
		return ReasonShared
	case in.OtherCut != "":
		return ReasonAlreadyCut
	case auto && cfg.Cooldown > 0 && !in.Released.IsZero() && ts.Before(in.Released.Add(cfg.Cooldown)):
		return ReasonCooldown
	case auto && in.LastHour >= max(cfg.MaxPerHour, 0):
		return ReasonCap
	}
	return ""
}

// overridable reports whether a human's approval may go past the reason.
func overridable(r Reason) bool {
	switch r {
	case ReasonCap, ReasonCooldown, ReasonShared, ReasonApprovalLate, ReasonHolderChanged:
		return true
	}
	return false
}
