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
)

// maxText bounds what a person may store with an order, in bytes.
const maxText = 16 << 10

// Release gives the network of an incident back. The statement is the
// customer's account and is stored with the incident. It returns as soon as
// the intent is stored; Run makes the call, reads back and moves the incident
// to released. It may be asked for while the cut is still being tried.
func (c *Controller) Release(ctx context.Context, id, actor, statement string) error {
	statement = strings.TrimSpace(statement)
	if statement == "" {
		return ErrStatement
	}
	if len(statement) > maxText {
		return fmt.Errorf("statement of %d bytes: at most %d", len(statement), maxText)
	}
	return c.transact(ctx, func(t *txn) error {
		r, ok := t.st.rec(id)
		if !ok {
			return fmt.Errorf("%w: %s", ErrNotFound, id)
		}
		switch {
		case r.inc.State == flow.StateReleasing:
			return fmt.Errorf("%w: %s is being released already", ErrState, id)
		case !r.holdsCut():
			return fmt.Errorf("%w: %s is %s, nothing is cut; close it instead", ErrState, id, r.inc.State)
		case r.inc.Action == nil:
			return fmt.Errorf("%w: %s has no act to take back", ErrState, id)
		}
		a := &flow.Action{
			Key: actionKey(r, kindRestore), Kind: kindRestore, Adapter: r.inc.Action.Adapter,
			NICs: r.inc.Action.NICs, Intent: c.now(),
		}
		t.emit(newEvent(id, EventIntent, actor, ReasonReleased, c.now(), body{Action: a, Statement: statement}))
		return nil
	})
}

// Approve lets a human's decision cut a tenant: from awaiting_approval, from a
// hold that may be overridden (not protected, not without a holder), or again
// after a failure.
func (c *Controller) Approve(ctx context.Context, id, actor, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return ErrReason
	}
	return c.transact(ctx, func(t *txn) error {
		r, ok := t.st.rec(id)
		if !ok {
			return fmt.Errorf("%w: %s", ErrNotFound, id)
		}
		switch r.inc.State {
		case flow.StateApproval, flow.StateHeld:
		case flow.StateFailed:
			if r.inc.Restore != nil {
				return fmt.Errorf("%w: %s failed while giving back; release it again", ErrState, id)
			}
		default:
			return fmt.Errorf("%w: %s is %s", ErrState, id, r.inc.State)
		}
		ts := c.now()
		// The holder is looked up again: the inventory may have been completed
		// since, and what counts is who holds the address now.
		h, known := c.deps.Inventory.Holder(r.inc.Tenant, ts)
		in := c.input(t, ts, r.inc.Tenant, r.inc.Findings, h, known, r)
		switch held := safety(c.cfg, in, false, ts); {
		case held == ReasonProtected:
			return fmt.Errorf("%w: %s", ErrProtected, r.inc.Tenant)
		case held != "" && !overridable(held):
			return fmt.Errorf("%w: %s", ErrState, explain(held, body{}))
		}
		ev := c.intent(r, actor, ReasonApproved, ts, h)
		b, err := readBody(ev)
		if err != nil {
			return err
		}
		b.Detail = clip(reason, maxText)
		t.emit(newEvent(id, EventIntent, actor, ReasonApproved, ts, b))
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
