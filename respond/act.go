package respond

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// errSuperseded: the action is not the current one any more.
var errSuperseded = errors.New("respond: superseded")

// act makes one attempt at an action and stores what came of it. The result is
// when to try again; 0 when the action has ended.
func (c *Controller) act(ctx context.Context, id, key string) time.Duration {
	r, ok := c.record(id)
	a := c.undone(r, key)
	if !ok || a == nil {
		return 0
	}
	if c.cfg.DryRun && a.Kind == kindSuspend {
		return c.cfg.RetryMax // decided before the dry run began
	}
	attempt := a.Attempts + 1
	receipts, result, err := c.attempt(ctx, r, *a, attempt)
	switch {
	case errors.Is(err, errSuperseded):
		return 0
	case ctx.Err() != nil:
		return c.cfg.RetryMin // shutting down: the next start reads back
	case err == nil:
		c.m.actions.WithLabelValues(a.Adapter, result).Inc()
		c.m.measures.WithLabelValues(string(a.Taken()), a.Kind, result).Inc()
		if c.settle(ctx, id, key, receipts, result, nil) != nil {
			return c.cfg.RetryMin
		}
		c.log.Info("action done", zap.String("incident", id), zap.String("action", key), zap.String("measure", string(a.Taken())),
			zap.String("result", result), zap.Int("attempt", attempt))
		return 0
	}
	return c.actFailed(ctx, r, *a, attempt, receipts, err)
}

// undone is the action of that key if it is still to be brought to an end.
func (c *Controller) undone(r record, key string) *flow.Action {
	if a := r.pending(); a != nil && a.Key == key {
		return a
	}
	for _, a := range r.stepsIn() {
		if a.Key == key {
			return &a
		}
	}
	return nil
}

// actFailed decides what follows a failed attempt: another, another place, the
// fallback beside it, the next step of the ladder, or a human.
func (c *Controller) actFailed(ctx context.Context, r record, a flow.Action, attempt int, receipts []flow.Receipt, err error) time.Duration {
	id, class := r.inc.ID, classOf(err)
	current := r.pending() != nil && r.pending().Key == a.Key
	if class == flow.ErrNotFound && current && a.Kind == kindSuspend {
		switch c.resolveAgain(ctx, id, a.Key) {
		case resolvedElsewhere:
			return c.cfg.RetryMin
		case resolvedGone:
			return 0
		}
	}
	wait := backoff(attempt-1, c.cfg.RetryMin, c.cfg.RetryMax)
	var open *nodeOpenError
	if errors.As(err, &open) {
		attempt, wait = a.Attempts, max(open.wait, c.cfg.RetryMin)
	}
	if current {
		c.fallback(ctx, r, a, class, open != nil)
	}
	if current && c.givesUp(r, a, attempt, class) {
		c.m.actions.WithLabelValues(a.Adapter, resultFailed).Inc()
		c.m.measures.WithLabelValues(string(a.Taken()), a.Kind, resultFailed).Inc()
		c.log.Error("action failed", zap.String("incident", id), zap.String("action", a.Key), zap.Int("attempt", attempt), zap.Error(err))
		if c.settle(ctx, id, a.Key, receipts, resultFailed, err) != nil {
			return c.cfg.RetryMin
		}
		return 0
	}
	c.m.actions.WithLabelValues(a.Adapter, resultRetry).Inc()
	c.log.Warn("action will be repeated", zap.String("incident", id), zap.String("action", a.Key), zap.Int("attempt", attempt), zap.Error(err))
	text := clip(err.Error(), 1024)
	_ = c.store(ctx, func(t *txn) error { // only a context that ends makes it fail
		r, _ := t.st.rec(id)
		b := c.undone(r, a.Key)
		if b != nil && current && !r.fallbackInForce(a.Taken()) && c.overdue(a, attempt) {
			c.tellOverdue(t, r, a, text)
		}
		if b == nil || b.Attempts > attempt || b.Attempts == attempt && b.Error == text {
			return nil
		}
		if !current && b.Error == text { // the fallback is tried for as long as it takes
			return nil
		}
		t.emit(newEvent(id, EventError, actorController, "", c.now(), body{Key: a.Key, Attempt: attempt, Receipts: receipts, Class: class, Error: text}))
		return nil
	})
	return wait
}

// notFoundTries is how often a server that the hypervisor does not know is
// looked for: a migration takes seconds.
const notFoundTries = 4

// givesUp reports whether an action is left to a human.
func (c *Controller) givesUp(r record, a flow.Action, attempt int, class flow.ErrClass) bool {
	switch class {
	case flow.ErrDenied, flow.ErrUnsupported:
		return true
	case flow.ErrNotFound:
		return a.Kind == kindRestore || attempt >= notFoundTries
	}
	// A network is given back, and what was in force once is put in force again,
	// however long it takes; while the fallback stands in, the hypervisor is
	// asked on.
	if a.Kind == kindRestore || !a.Again.IsZero() || r.fallbackInForce(a.Taken()) {
		return false
	}
	return c.overdue(a, attempt)
}

// overdue reports whether an action has had the attempts or the time that one
// may take without a human's knowledge.
func (c *Controller) overdue(a flow.Action, attempt int) bool {
	return attempt >= c.cfg.MaxAttempts || c.now().Sub(c.actSince(a)) >= c.cfg.MaxActTime
}

// tellOverdue stores, once, that an action that is not given up takes long.
func (c *Controller) tellOverdue(t *txn, r record, a flow.Action, text string) {
	if r.overdue == a.Key+a.Again.String() {
		return
	}
	b := body{Key: a.Key, Error: text}
	b.Notices = c.dues(t, r, noticeFailed, r.inc.State)
	t.emit(newEvent(r.inc.ID, EventOverdue, actorController, ReasonOverdue, c.now(), b))
}

// actSince is when the attempts began that the bound in time is about: a
// restart after a long stop still gets its tries.
func (c *Controller) actSince(a flow.Action) time.Time {
	c.mu.RLock()
	defer c.mu.RUnlock()
	since := a.Intent
	for _, t := range []time.Time{a.Again, c.started} {
		if t.After(since) {
			since = t
		}
	}
	return since
}

// called stores that a call goes out. It fails when the action was superseded
// in the meantime or the context ends; then no call may be made.
func (c *Controller) called(ctx context.Context, id, key string, attempt int, seen []flow.Receipt) error {
	return c.store(ctx, func(t *txn) error {
		r, _ := t.st.rec(id)
		a := c.undone(r, key)
		if a == nil {
			return errSuperseded
		}
		if a.Attempts >= attempt && !a.Called.IsZero() {
			return nil // stored by an earlier try whose acknowledgement was lost
		}
		t.emit(newEvent(id, EventCalled, actorController, "", c.now(), body{Key: key, Attempt: attempt, Receipts: seen}))
		return nil
	})
}

// store repeats a transaction until it is stored, fn refuses, or ctx ends. fn
// runs again on the new state each time and must emit nothing that is there.
func (c *Controller) store(ctx context.Context, fn func(*txn) error) error {
	for try := 0; ; try++ {
		err := c.transact(ctx, fn)
		if err == nil || !errors.Is(err, ErrLogAway) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(backoff(try, 200*time.Millisecond, 5*time.Second)):
		}
	}
}

func (c *Controller) record(id string) (record, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	r, ok := c.st.recs[id]
	return r, ok
}

// markReason is what the hypervisor's own people read beside the mark.
func markReason(inc flow.Incident) string {
	rules := make([]string, len(inc.Rules))
	for i, r := range inc.Rules {
		rules[i] = string(r)
	}
	return fmt.Sprintf("outbound abuse from %s: %s", inc.Tenant, strings.Join(rules, ", "))
}

func classOf(err error) flow.ErrClass {
	var ae *flow.ActError
	if errors.As(err, &ae) {
		return ae.Class
	}
	return flow.ErrTransient
}
