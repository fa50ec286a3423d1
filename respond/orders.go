package respond

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Errors of orders that callers branch on.
var (
	ErrNotFound  = errors.New("no such incident")
	ErrState     = errors.New("the incident's state does not allow it")
	ErrStatement = errors.New("a statement is required: what happened, how it was fixed, and what changed so that it does not recur")
	ErrReason    = errors.New("a reason is required")
	ErrProtected = errors.New("protected: nothing overrides the protected list")
	ErrRefused   = errors.New("too many offences: a human decides whether the customer is served further")
	ErrDryRun    = errors.New("respond.dry_run is on: nothing is called")
	ErrMeasure   = errors.New("the measure cannot be taken")
)

// maxText bounds what a person may store with an order, in bytes.
const maxText = 16 << 10

// Release gives everything of an incident back. The statement is the
// customer's account and is stored with the incident. It returns as soon as
// the intent is stored; Run makes the calls, reads back and moves the incident
// to released. It may be asked for while the measure is still being tried.
func (c *Controller) Release(ctx context.Context, id, actor, statement string) error {
	return c.release(ctx, id, actor, ReasonReleased, statement, false)
}

// ReleaseOnStatement is Release for an automatic release after the customer's
// statement: ErrRefused when a human must decide.
func (c *Controller) ReleaseOnStatement(ctx context.Context, id, actor, statement string) error {
	return c.release(ctx, id, actor, ReasonReleased, statement, true)
}

// ReleaseMistake is Release of what should not have been taken: it is no
// offence and no probation follows. The reason is stored.
func (c *Controller) ReleaseMistake(ctx context.Context, id, actor, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return ErrReason
	}
	return c.release(ctx, id, actor, ReasonMistake, reason, false)
}

func (c *Controller) release(ctx context.Context, id, actor string, why Reason, text string, automatic bool) error {
	text = strings.TrimSpace(text)
	if text == "" {
		return ErrStatement
	}
	if len(text) > maxText {
		return fmt.Errorf("statement of %d bytes: at most %d", len(text), maxText)
	}
	return c.transact(ctx, func(t *txn) error {
		r, ok := t.st.rec(id)
		if !ok {
			return fmt.Errorf("%w: %s", ErrNotFound, id)
		}
		switch {
		case automatic && r.inc.Refuse:
			return fmt.Errorf("%w: %s", ErrRefused, id)
		case r.inc.State == flow.StateReleasing:
			return fmt.Errorf("%w: %s is being released already", ErrState, id)
		case !r.holdsCut():
			return fmt.Errorf("%w: %s is %s, nothing is cut; close it instead", ErrState, id, r.inc.State)
		case r.inc.Action == nil:
			return fmt.Errorf("%w: %s has no act to take back", ErrState, id)
		}
		b := body{Statement: text}
		if why == ReasonMistake {
			b = body{Detail: text}
		}
		t.emit(c.restoreIntent(r, actor, why, b))
		return nil
	})
}

// restoreIntent is the event that must be stored before anything is given back.
func (c *Controller) restoreIntent(r record, actor string, why Reason, b body) flow.Event {
	b.Action = &flow.Action{
		Key: actionKey(r, kindRestore), Kind: kindRestore, Adapter: r.inc.Action.Adapter,
		NICs: r.inc.Action.NICs, Intent: c.now(),
	}
	return newEvent(r.inc.ID, EventIntent, actor, why, c.now(), b)
}

// Approve lets a human's decision take the measure that an incident waits for:
// from awaiting_approval, from a hold that may be overridden (not protected,
// not without a holder), again after a failure, or the next step of one that
// has a measure in force.
func (c *Controller) Approve(ctx context.Context, id, actor, reason string) error {
	return c.order(ctx, id, actor, reason, ReasonApproved, func(r record, in Input) (Decision, error) {
		switch {
		case r.inc.State == flow.StateApproval, r.inc.State == flow.StateHeld:
			return Decision{Measure: r.asked, Hold: r.askedHold}, nil
		case r.inc.State == flow.StateFailed:
			return Decision{Measure: r.inc.Action.Measure, Hold: time.Duration(r.inc.Action.HoldS) * time.Second}, nil
		case r.stepHeld != "" && r.inForce() != nil && r.asked.Kind.Rank() >= in.InForce.Kind.Rank():
			return Decision{Measure: r.asked, Hold: r.askedHold}, nil
		}
		return Decision{}, fmt.Errorf("%w: %s is %s", ErrState, id, r.inc.State)
	})
}

// Restrict takes a measure that a person chose on a live incident, stronger or
// milder than the one in force, which it replaces. Protected holders, and holds
// that approval cannot override, are refused as by Approve; ErrMeasure says
// that the measure is incomplete or that the hypervisor cannot take it.
func (c *Controller) Restrict(ctx context.Context, id, actor string, m flow.Measure, reason string) error {
	return c.order(ctx, id, actor, reason, ReasonByHand, func(r record, in Input) (Decision, error) {
		switch {
		case !r.inc.State.Live() || r.inc.State == flow.StateReleasing || r.inc.State == flow.StateSuspending:
			return Decision{}, fmt.Errorf("%w: %s is %s", ErrState, id, r.inc.State)
		case m.Kind.Rank() == 0:
			return Decision{}, fmt.Errorf("%w: %q: write block_port, rate_limit or cut", ErrMeasure, m.Kind)
		case m.Kind == flow.MeasureBlockPort && len(m.Ports) == 0:
			return Decision{}, fmt.Errorf("%w: block_port without ports", ErrMeasure)
		case len(m.Ports) > maxBlockedPorts:
			return Decision{}, fmt.Errorf("%w: %d ports, at most %d", ErrMeasure, len(m.Ports), maxBlockedPorts)
		case m.Kind == flow.MeasureLimit && m.KbitS == 0:
			return Decision{}, fmt.Errorf("%w: rate_limit without kbit_s", ErrMeasure)
		case m.Kind != flow.MeasureCut && !slices.Contains(in.Measures, m.Kind):
			return Decision{}, fmt.Errorf("%w: %s of %q can %v and cut", ErrMeasure, m.Kind, in.Holder.Hypervisor, in.Measures)
		case r.inForce() != nil && in.InForce.Kind == m.Kind && covers(in.InForce, m) && covers(m, in.InForce):
			return Decision{}, fmt.Errorf("%w: it is in force already", ErrState)
		}
		m.Ports = joinPorts(m.Ports, nil)
		return Decision{Measure: m}, nil
	})
}

// order is a person's decision to take a measure.
func (c *Controller) order(ctx context.Context, id, actor, reason string, why Reason, choose func(record, Input) (Decision, error)) error {
	if strings.TrimSpace(reason) == "" {
		return ErrReason
	}
	return c.transact(ctx, func(t *txn) error {
		r, ok := t.st.rec(id)
		if !ok {
			return fmt.Errorf("%w: %s", ErrNotFound, id)
		}
		if r.inc.State == flow.StateFailed && (r.inc.Restore != nil || r.inc.Action == nil) {
			return fmt.Errorf("%w: %s failed while giving back; release it again", ErrState, id)
		}
		ts := c.now()
		// The holder is looked up again: the inventory may have been completed
		// since, and what counts is who holds the address now.
		h, known := c.deps.Inventory.Holder(r.inc.Tenant, ts)
		in := c.input(t, ts, r.inc.Tenant, r.inc.Findings, h, known, r)
		d, err := choose(r, in)
		if err != nil {
			return err
		}
		switch held := safety(c.cfg, in, false, ts); {
		case held == ReasonProtected:
			return fmt.Errorf("%w: %s", ErrProtected, r.inc.Tenant)
		case held == ReasonDryRun:
			return ErrDryRun
		case held != "" && !overridable(held):
			return fmt.Errorf("%w: %s", ErrState, explain(held, body{}))
		}
		ev := c.intent(r, actor, why, ts, d, in)
		b, err := readBody(ev)
		if err != nil {
			return err
		}
		b.Detail = clip(reason, maxText)
		t.emit(newEvent(id, EventIntent, actor, why, ts, b))
		return nil
	})
}

// Close ends an incident without an act. What is cut must be released instead,
// unless giving back has failed and a human did it by hand.
func (c *Controller) Close(ctx context.Context, id, actor, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return ErrReason
	}
	return c.transact(ctx, func(t *txn) error {
		r, ok := t.st.rec(id)
		if !ok {
			return fmt.Errorf("%w: %s", ErrNotFound, id)
		}
		byHand := r.inc.State == flow.StateFailed && r.inc.Restore != nil
		switch {
		case !r.inc.State.Live():
			return fmt.Errorf("%w: %s is %s", ErrState, id, r.inc.State)
		case r.holdsCut() && !byHand:
			return fmt.Errorf("%w: the network of %s is or may be cut; release it with a statement", ErrState, id)
		}
		t.emit(newEvent(id, EventClosed, actor, ReasonClosedByPerson, c.now(), body{Detail: clip(reason, maxText)}))
		return nil
	})
}

// Filter selects incidents; zero fields select all.
type Filter struct {
	States []flow.State
	Tenant string // address
	Holder string // customer id
	Rule   flow.Rule
	Since  time.Time // updated at or after
	Refuse bool      // only those that a human must decide on: refuse further service or not
	Limit  int
}

// Incidents lists incidents, newest opened first.
func (c *Controller) Incidents(f Filter) []flow.Incident {
	c.mu.RLock()
	out := []flow.Incident{}
	for _, r := range c.st.recs {
		inc := r.inc
		if len(f.States) > 0 && !slices.Contains(f.States, inc.State) ||
			f.Tenant != "" && inc.Tenant.String() != f.Tenant ||
			f.Holder != "" && inc.Holder.Tenant != f.Holder ||
			f.Rule != "" && !slices.Contains(inc.Rules, f.Rule) ||
			f.Refuse && !inc.Refuse ||
			!f.Since.IsZero() && inc.Updated.Before(f.Since) {
			continue
		}
		out = append(out, inc)
	}
	c.mu.RUnlock()
	slices.SortFunc(out, func(a, b flow.Incident) int {
		if n := b.Opened.Compare(a.Opened); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	if f.Limit > 0 && len(out) > f.Limit {
		out = out[:f.Limit]
	}
	return out
}

// Incident returns one incident and its events, oldest first.
func (c *Controller) Incident(id string) (flow.Incident, []flow.Event, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	r, ok := c.st.recs[id]
	return r.inc, slices.Clone(c.st.events[id]), ok
}

// ExemptionHits is how many stored events each configured exemption has turned
// from an act into a record.
func (c *Controller) ExemptionHits() map[string]uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := map[string]uint64{}
	for _, e := range c.cfg.Exemptions {
		out[e.Name] = c.st.hits[e.Name]
	}
	return out
}

func (c *Controller) countStates() map[flow.State]int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	n := map[flow.State]int{}
	for _, r := range c.st.recs {
		n[r.inc.State]++
	}
	return n
}

// clip cuts s to at most n bytes, on a rune's border.
func clip(s string, n int) string {
	s = strings.TrimSpace(s)
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
