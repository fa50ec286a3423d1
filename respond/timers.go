package respond

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// timers are the incidents whose time has run out. All of them are read from
// the fold of the log, so a restart loses none.
type timers struct {
	late  []string // nobody approved in time
	tell  []string // a notice waited long enough for an act
	quiet []string // no findings for long enough
	over  []string // the time of the measure in force is over
	owed  []string // the customer owes an answer
	free  []string // the probation is over
}

func (c *Controller) timers(now time.Time) timers {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var due timers
	for tenant, id := range c.st.live {
		r, ok := c.st.recs[id]
		if !ok {
			continue
		}
		switch r.inc.State {
		case flow.StateApproval:
			if !now.Before(r.entered.Add(c.cfg.ApprovalTimeout)) {
				due.late = append(due.late, id)
			}
		case flow.StateOpen, flow.StateNotified, flow.StateHeld:
			if r.inc.State == flow.StateOpen && !r.waiting.IsZero() && !now.Before(r.waiting.Add(c.cfg.NotifyAfter)) {
				due.tell = append(due.tell, id)
			}
			seen := r.inc.Updated
			if s := c.lastSeen[tenant]; s.After(seen) {
				seen = s
			}
			if !now.Before(seen.Add(c.cfg.CloseAfter)) {
				due.quiet = append(due.quiet, id)
			}
		case flow.StateSuspending, flow.StateSuspended, flow.StateVerified, flow.StateUnverified:
			if end := r.inc.Action.Expires(); !end.IsZero() && !now.Before(end) && !r.inc.Refuse {
				due.over = append(due.over, id)
			}
			if c.answerDue(r, now) != "" {
				due.owed = append(due.owed, id)
			}
		}
	}
	return due
}

// housekeeping appends what is pending and lets timers run out.
func (c *Controller) housekeeping(ctx context.Context) {
	now := c.now()
	due := c.timers(now)
	due.free = c.paroles(now)
	err := c.transact(ctx, func(t *txn) error {
		for _, id := range due.late {
			if r, _ := t.st.rec(id); r.inc.State == flow.StateApproval {
				b := body{Notices: c.dues(t, r, noticeHeld, flow.StateHeld)}
				t.emit(newEvent(id, EventHeld, actorController, ReasonApprovalLate, now, b))
			}
		}
		for _, id := range due.tell {
			c.tell(t, id, now)
		}
		for _, id := range due.over {
			if r, _ := t.st.rec(id); r.inForce() != nil || r.inc.State == flow.StateSuspending {
				t.emit(c.restoreIntent(r, actorController, ReasonExpired, body{}))
				c.m.expired.Inc()
			}
		}
		for _, id := range due.owed {
			c.remind(t, id, now)
		}
		for _, id := range due.free {
			r, _ := t.st.rec(id)
			if !t.st.paroleOf(id) {
				continue
			}
			t.emit(newEvent(id, EventParoleOver, actorController, ReasonParoleOver, now, body{Notices: c.dues(t, r, noticeParoleOver, r.inc.State)}))
		}
		c.thaw(t, now)
		for _, id := range due.quiet {
			if r, _ := t.st.rec(id); r.inc.State.Live() && !r.holdsCut() {
				t.emit(newEvent(id, EventClosed, actorController, ReasonQuiet, now, body{}))
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		c.log.Warn("event log cannot be written", zap.Error(err))
	}
}

// tell decides again on an incident whose notice has waited, whether anything
// is found still or not: a short abuse that has ended must be told, too. The
// policy of now is asked, so that an exemption written meanwhile counts. The
// holder is the one that the findings were about; whoever got the address
// since is not written to. Old findings may only cause the notice, never an
// act: what would act on them is the next tick's findings.
func (c *Controller) tell(t *txn, id string, now time.Time) {
	r, _ := t.st.rec(id)
	if r.inc.State != flow.StateOpen {
		return
	}
	fs := slices.Clone(r.inc.Findings)
	for i := range fs {
		fs[i].Tier = min(fs[i].Tier, flow.TierNotify)
	}
	in := c.input(t, now, r.inc.Tenant, fs, r.inc.Holder, true, r)
	d, reason := decide(c.cfg, r.inc.State, in, now)
	if d.State == flow.StateNotified {
		c.emitDecision(t, now, id, d, reason, in)
	}
}

// maxFindingAge bounds how old a finding may be that is decided on again
// after a restart.
const maxFindingAge = 10 * time.Minute

// reconsider decides again on open incidents, once after a start: the process
// may have ended between an incident's opening and the event that acts on it.
func (c *Controller) reconsider(ctx context.Context) {
	now := c.now()
	err := c.transact(ctx, func(t *txn) error {
		for id, r := range c.st.recs {
			// Only what was never decided on: findings that were are not acted on anew.
			if r.inc.State != flow.StateOpen || r.then == "" || now.Sub(r.inc.Updated) > maxFindingAge {
				continue
			}
			h, known := c.deps.Inventory.Holder(r.inc.Tenant, now)
			in := c.input(t, now, r.inc.Tenant, r.inc.Findings, h, known, r)
			d, reason := decide(c.cfg, r.inc.State, in, now)
			if d.State == flow.StateNotified && !r.waiting.IsZero() {
				continue // the timer's, see tell
			}
			c.emitDecision(t, now, id, d, reason, in)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		c.log.Warn("open incidents could not be reconsidered", zap.Error(err))
	}
}
