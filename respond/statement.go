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

// Errors of Statement.
var (
	ErrUsed   = errors.New("this answer is stored already")
	ErrClosed = errors.New("the incident needs no answer any more")
)

// Outcome is what follows from a customer's statement.
type Outcome string

// The outcomes.
const (
	OutcomeReleased Outcome = "released" // everything is being given back
	OutcomeQueued   Outcome = "queued"   // staff decide
	OutcomeRefused  Outcome = "refused"  // too many offences: it is stored, and staff decide on further service
)

// Statement stores what the customer says of an incident: what happened, how it
// was fixed, what changed. key is the one of the link that it came by: the same
// is stored once, again it is ErrUsed. ErrClosed says that the incident has
// ended, or is being given back. The first Config.ReleaseOnStatement offences
// are released by it; else staff are told and decide.
func (c *Controller) Statement(ctx context.Context, id, actor, key, text string) (Outcome, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return "", ErrStatement
	case len(text) > maxText:
		return "", fmt.Errorf("statement of %d bytes: at most %d", len(text), maxText)
	}
	var out Outcome
	err := c.transact(ctx, func(t *txn) error {
		r, ok := t.st.rec(id)
		switch {
		case !ok:
			return fmt.Errorf("%w: %s", ErrNotFound, id)
		case slices.Contains(r.answers, key):
			return ErrUsed
		case !r.inc.State.Live() || r.inc.State == flow.StateReleasing:
			return fmt.Errorf("%w: %s is %s", ErrClosed, id, r.inc.State)
		}
		out = c.outcome(t, r)
		b := body{Key: key, Statement: text, Detail: string(out)}
		b.Notices = c.dues(t, r, noticeStatement, r.inc.State)
		t.emit(newEvent(id, EventStatement, actor, ReasonStatement, c.now(), b))
		if out == OutcomeReleased {
			r, _ = t.st.rec(id)
			t.emit(c.restoreIntent(r, actor, ReasonReleased, body{Statement: text}))
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	c.m.statements.WithLabelValues(string(out)).Inc()
	return out, nil
}

// outcome is the policy: it needs no person only while something is taken that
// can be given back, and offences are few.
func (c *Controller) outcome(t *txn, r record) Outcome {
	offences, _ := t.st.standing(c.cfg, standingKey(r.inc.Tenant, r.inc.Holder), c.now())
	switch {
	case r.inc.Refuse:
		return OutcomeRefused
	case r.inc.Action != nil && r.holdsCut() && r.inc.State != flow.StateFailed && offences < c.cfg.ReleaseOnStatement:
		return OutcomeReleased
	}
	return OutcomeQueued
}

// answerDue says what an incident with a measure in force owes because its
// customer has not answered: a reminder, or a decision by staff. What ends by
// itself needs no answer.
func (c *Controller) answerDue(r record, now time.Time) (kind string) {
	a := r.inForce()
	if a == nil || a.HoldS > 0 || len(r.answers) > 0 || r.took.IsZero() {
		return ""
	}
	switch {
	case c.cfg.AnswerWithin > 0 && !now.Before(r.took.Add(c.cfg.AnswerWithin)):
		if !r.escalated {
			return EventEscalated
		}
	case c.cfg.RemindAfter > 0 && !now.Before(r.took.Add(c.cfg.RemindAfter)) && !r.reminded:
		return EventReminded
	}
	return ""
}

// paroleOf reports whether the end of a probation is still to be told of.
func (s *state) paroleOf(id string) bool {
	_, ok := lookup(s, func(s *state) map[string]time.Time { return s.paroles }, id)
	return ok
}

// remind stores what answerDue found, with its notice.
func (c *Controller) remind(t *txn, id string, now time.Time) {
	r, _ := t.st.rec(id)
	kind, reason, notice := c.answerDue(r, now), ReasonNoAnswer, noticeReminder
	switch kind {
	case "":
		return
	case EventEscalated:
		notice = noticeEscalated
	}
	t.emit(newEvent(id, kind, actorController, reason, now, body{Notices: c.dues(t, r, notice, r.inc.State)}))
}

// paroleNews bounds how late the end of a probation is told of: a longer stop,
// or a policy that is new, is no reason to write about old cases.
const paroleNews = 24 * time.Hour

// paroles lists the released incidents whose probation has just ended, and
// forgets those that nobody is to be told of any more.
func (c *Controller) paroles(now time.Time) (over []string) {
	if c.cfg.Probation <= 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, at := range c.st.paroles {
		switch end := at.Add(c.cfg.Probation); {
		case now.Before(end):
		case now.Before(end.Add(paroleNews)) && c.st.clean(c.st.recs[id], at):
			over = append(over, id)
		default:
			delete(c.st.paroles, id)
		}
	}
	slices.Sort(over)
	return over
}

// clean reports whether the holder of a released incident has no newer one.
func (s *state) clean(r record, released time.Time) bool {
	list := s.offencesOf(standingKey(r.inc.Tenant, r.inc.Holder))
	_, live := s.liveOf(r.inc.Tenant)
	return !live && (len(list) == 0 || !list[len(list)-1].After(released))
}
