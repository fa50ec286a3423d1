package respond

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// The kinds of notices, as in flow.Notice.
const (
	noticeSuspended  = "suspended"
	noticeNotified   = "notified"
	noticeReleased   = "released"
	noticeHeld       = "held" // also: an act awaits approval
	noticeFailed     = "failed"
	noticeUnverified = "unverified"
	noticeRestricted = "restricted" // a measure milder than the cut is in force
	noticeFrozen     = "frozen"     // to staff: automatic acts are frozen
	noticeRefuse     = "refuse"     // to staff: the n-th offence, decide on further service
	noticeLifted     = "lifted"     // to the customer: the time of a temporary measure is over
	noticeStatement  = "statement"  // the customer has answered
	noticeReminder   = "reminder"   // to the customer: an answer is owed
	noticeEscalated  = "escalated"  // to staff: nobody answered in time
	noticeParoleOver = "probation_ended"
	noticeOrphan     = "orphan" // to staff: our mark without an incident that holds it
)

// dues lists the notice that the next event of r causes, for the notifiers
// that want it. state is the one that the event leads to.
func (c *Controller) dues(t *txn, r record, kind string, state flow.State) []due {
	return c.duesBut(nil, t, r, kind, state)
}

// duesBut is dues without the notifiers that another notice goes to.
func (c *Controller) duesBut(told []due, t *txn, r record, kind string, state flow.State) []due {
	inc := r.inc
	inc.State = state
	d := due{Key: fmt.Sprintf("%s/%s/%d", inc.ID, kind, t.st.seq+1), Kind: kind}
	for _, n := range c.deps.Notifiers {
		if slices.ContainsFunc(told, func(o due) bool { return slices.Contains(o.Notifiers, n.Name()) }) {
			continue
		}
		if s, ok := n.(Selector); !ok || s.Wants(kind, inc) {
			d.Notifiers = append(d.Notifiers, n.Name())
		}
	}
	if len(d.Notifiers) == 0 {
		return told
	}
	return append(told, d)
}

// measureDues are the notices of a measure in force. That people decide on
// further service is a word with staff; who is not told so is told of the cut.
func (c *Controller) measureDues(t *txn, r record, a flow.Action) []due {
	kind := r.noticeOf(a)
	out := c.dues(t, r, kind, flow.StateSuspended)
	if kind == noticeRefuse {
		out = c.duesBut(out, t, r, noticeSuspended, flow.StateSuspended)
	}
	return out
}

// needsLogs: a message that gives the network back needs no proof of abuse, and
// a page to staff, or an answer, does not wait for it.
func needsLogs(kind string) bool {
	switch kind {
	case noticeSuspended, noticeRestricted, noticeNotified, noticeHeld, noticeFailed, noticeUnverified, noticeRefuse:
		return true
	}
	return false
}

// noticeReady reports whether a notice may go to a notifier now: its evidence
// is frozen, or was waited for long enough, and earlier notices of the
// incident went there first.
func (c *Controller) noticeReady(r record, n notice, now time.Time) bool {
	return !needsLogs(n.Kind) || !c.owesLogs(r) || !now.Before(n.At.Add(c.cfg.EvidenceWait))
}

// outOfTurn: what asks for a person now waits for no other notice, which may be
// held for a digest, and keeps none waiting.
func outOfTurn(kind string) bool {
	switch kind {
	case noticeFrozen, noticeOrphan, noticeEscalated, noticeFailed, noticeUnverified:
		return true
	}
	return false
}

// firstFor reports whether n is the oldest notice that notifier still owes.
func firstFor(r record, n notice, notifier string) bool {
	if outOfTurn(n.Kind) {
		return true
	}
	for _, o := range r.notices {
		if !outOfTurn(o.Kind) && slices.Contains(o.open(), notifier) {
			return o.Key == n.Key
		}
	}
	return false
}

// retryWait is when a notice is tried again: not before its receiver asked for.
func (c *Controller) retryWait(err error, wait time.Duration) time.Duration {
	var busy interface{ RetryAfter() time.Duration }
	if errors.As(err, &busy) {
		return max(wait, min(busy.RetryAfter(), maxRetryAfter))
	}
	return wait
}

// maxRetryAfter bounds what a receiver may ask for.
const maxRetryAfter = time.Hour

// notify sends one notice over one notifier and stores that it went.
func (c *Controller) notify(ctx context.Context, id string, n notice, name string) time.Duration {
	i := slices.IndexFunc(c.deps.Notifiers, func(x Notifier) bool { return x.Name() == name })
	task := n.Key + "/" + name
	wait := backoff(c.sched.tries(task), c.cfg.RetryMin, c.cfg.NoticeRetryMax)
	if r, _ := c.record(id); !slices.ContainsFunc(r.notices, func(x notice) bool { return x.Key == n.Key && slices.Contains(x.open(), name) }) {
		return 0
	}
	now := c.now()
	var err error
	if i < 0 {
		err = fmt.Errorf("notifier %q is not configured any more", name)
	} else {
		err = c.send(ctx, c.deps.Notifiers[i], id, n, now)
	}
	if ctx.Err() != nil && err != nil {
		return wait
	}
	kind, result, detail := EventNoticeSent, resultSent, ""
	if err != nil {
		var p interface{ Permanent() bool }
		if !(errors.As(err, &p) && p.Permanent()) && now.Before(n.At.Add(c.cfg.NoticeMaxAge)) {
			c.m.notices.WithLabelValues(name, resultRetry).Inc()
			wait = c.retryWait(err, wait)
			c.log.Warn("notice will be repeated", zap.String("notice", n.Key), zap.String("notifier", name), zap.Duration("in", wait), zap.Error(err))
			return wait
		}
		kind, result, detail = EventNoticeFailed, resultGivenUp, clip(err.Error(), 1024)
		c.log.Error("notice given up", zap.String("notice", n.Key), zap.String("notifier", name), zap.Error(err))
	}
	c.m.notices.WithLabelValues(name, result).Inc()
	err = c.store(ctx, func(t *txn) error {
		r, _ := t.st.rec(id)
		if !slices.ContainsFunc(r.notices, func(x notice) bool { return x.Key == n.Key && slices.Contains(x.open(), name) }) {
			return nil // stored by an earlier try whose acknowledgement was lost
		}
		t.emit(newEvent(id, kind, actorController, "", now, body{Notice: n.Key, Notifier: name, Detail: detail}))
		return nil
	})
	if err != nil {
		return wait
	}
	return 0
}

// send hands one notice to a notifier, with the evidence if it can be read.
func (c *Controller) send(ctx context.Context, to Notifier, id string, n notice, now time.Time) error {
	msg := flow.Notice{Key: n.Key, Incident: n.inc, Kind: n.Kind, At: n.At, Outcome: n.outcome, Mistake: n.reply == ReasonMistake || n.reply == ReasonUndone}
	if r, _ := c.record(id); needsLogs(n.Kind) && !r.evidence.IsZero() {
		qctx, cancel := context.WithTimeout(ctx, c.cfg.QueryTimeout)
		e, err := c.Evidence(qctx, id)
		cancel()
		switch {
		case err == nil:
			msg.Evidence = e
		case now.Before(n.At.Add(c.cfg.EvidenceWait)):
			return err
		}
	}
	nctx, cancel := context.WithTimeout(ctx, c.cfg.NotifyTimeout)
	defer cancel()
	return to.Notify(nctx, msg)
}
