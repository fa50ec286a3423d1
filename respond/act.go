package respond

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	a := r.pending()
	if !ok || a == nil || a.Key != key {
		return 0
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
		if c.settle(ctx, id, key, receipts, result, nil) != nil {
			return c.cfg.RetryMin
		}
		c.log.Info("action done", zap.String("incident", id), zap.String("action", key), zap.String("result", result), zap.Int("attempt", attempt))
		return 0
	}
	class := classOf(err)
	over := attempt >= c.cfg.MaxAttempts || c.now().Sub(c.actSince(*a)) >= c.cfg.MaxActTime
	if class == flow.ErrNotFound || class == flow.ErrDenied || class == flow.ErrUnsupported || over {
		c.m.actions.WithLabelValues(a.Adapter, resultFailed).Inc()
		c.log.Error("action failed", zap.String("incident", id), zap.String("action", key), zap.Int("attempt", attempt), zap.Error(err))
		if c.settle(ctx, id, key, receipts, resultFailed, err) != nil {
			return c.cfg.RetryMin
		}
		return 0
	}
	c.m.actions.WithLabelValues(a.Adapter, resultRetry).Inc()
	c.log.Warn("action will be repeated", zap.String("incident", id), zap.String("action", key), zap.Int("attempt", attempt), zap.Error(err))
	_ = c.store(ctx, func(t *txn) error { // only a context that ends makes it fail
		r, _ := t.st.rec(id)
		if a := r.pending(); a == nil || a.Key != key || a.Attempts > attempt || a.Attempts == attempt && a.Error == err.Error() {
			return nil
		}
		t.emit(newEvent(id, EventError, actorController, "", c.now(), body{Key: key, Attempt: attempt, Receipts: receipts, Class: class, Error: clip(err.Error(), 1024)}))
		return nil
	})
	return backoff(attempt-1, c.cfg.RetryMin, c.cfg.RetryMax)
}

// actSince is when the attempts began that the bound in time is about: a
// restart after a long stop still gets its tries.
func (c *Controller) actSince(a flow.Action) time.Time {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.started.After(a.Intent) {
		return c.started
	}
	return a.Intent
}

// settle stores the end of an action.
func (c *Controller) settle(ctx context.Context, id, key string, receipts []flow.Receipt, result string, failure error) error {
	return c.store(ctx, func(t *txn) error {
		r, _ := t.st.rec(id)
		a := r.actionOf(key)
		if a == nil || !a.Done.IsZero() {
			return nil // stored by an earlier try whose acknowledgement was lost
		}
		b := body{Key: key, Receipts: receipts}
		current := r.pending() != nil && r.pending().Key == key
		kind, reason := EventDone, ReasonReadBack
		switch {
		case failure != nil:
			if !current {
				return nil
			}
			kind, reason = EventFailed, ReasonActFailed
			if a.Kind == kindRestore {
				reason = ReasonRestoreFailed
			}
			b.Error, b.Class = clip(failure.Error(), 1024), classOf(failure)
			b.Notices = c.dues(t, r, noticeFailed, flow.StateFailed)
		case a.Kind == kindRestore:
			kind, reason = EventReleased, ReasonReleased
			if result == resultAlready && a.Attempts == 0 {
				reason = ReasonNotOurs
			}
			b.Notices = c.dues(t, r, noticeReleased, flow.StateReleased)
		case current:
			b.Notices = c.dues(t, r, noticeSuspended, flow.StateSuspended)
		}
		t.emit(newEvent(id, kind, actorController, reason, c.now(), b))
		return nil
	})
}

// attempt brings every NIC of the action to where it should be: it looks
// first, calls only where the hypervisor does not already read as wanted, and
// looks again. Receipts are returned with an error too, as far as it came.
func (c *Controller) attempt(ctx context.Context, r record, a flow.Action, attempt int) ([]flow.Receipt, string, error) {
	s := c.susp[a.Adapter]
	if s == nil {
		return nil, "", &flow.ActError{Class: flow.ErrUnsupported, Err: fmt.Errorf("adapter %q is not configured", a.Adapter)}
	}
	server := serverKey(r.inc.Holder)
	if err := c.sched.barred(server, a.Kind); err != nil {
		return nil, "", err
	}
	before, err := c.look(ctx, s, server, a)
	if err != nil {
		return nil, "", err
	}
	if a.Kind == kindRestore {
		return c.restore(ctx, s, server, r, a, attempt, before)
	}
	return c.cut(ctx, s, server, r, a, attempt, before)
}

// look reads every NIC back.
func (c *Controller) look(ctx context.Context, s Suspender, server string, a flow.Action) ([]flow.NICStatus, error) {
	out := make([]flow.NICStatus, len(a.NICs))
	for i, nic := range a.NICs {
		st, err := call(ctx, c, server, "status", func(ctx context.Context) (flow.NICStatus, error) { return s.Status(ctx, nic) })
		if err != nil {
			return nil, fmt.Errorf("read back %s of %s: %w", nic.MAC, nic.VDS, err)
		}
		out[i] = st
	}
	return out, nil
}

func ours(st flow.NICStatus, incident string) bool {
	return st.Mark != nil && st.Mark.Incident == incident
}

func (c *Controller) cut(ctx context.Context, s Suspender, server string, r record, a flow.Action, attempt int, before []flow.NICStatus) ([]flow.Receipt, string, error) {
	id, now := r.inc.ID, c.now()
	var seen []flow.Receipt
	already := true
	for i, nic := range a.NICs {
		if st := before[i]; st.Mark != nil && !ours(st, id) {
			return nil, "", &flow.ActError{Class: flow.ErrConflict, Err: fmt.Errorf("%s of %s carries the mark of %s", nic.MAC, nic.VDS, st.Mark.Incident)}
		}
		if !ours(before[i], id) || !before[i].Cut() {
			already = false
		}
		rc := flow.Receipt{NIC: nic, Before: before[i], After: before[i], At: now}
		if ours(before[i], id) {
			rc.Before.Mark = nil // seen only if an earlier receipt was lost; the mark is never what to go back to
		}
		seen = append(seen, rc)
	}
	if already {
		return seen, resultAlready, nil
	}
	// What was there before is stored ahead of the call: a crash between the
	// call and its outcome must not lose what to restore.
	if err := c.called(ctx, id, a.Key, attempt, seen); err != nil {
		return nil, "", err
	}
	m := flow.Mark{Incident: id, Key: a.Key, By: "flowcordon", Reason: markReason(r.inc), At: a.Intent}
	var receipts []flow.Receipt
	for _, nic := range a.NICs {
		rc, err := call(ctx, c, server, kindSuspend, func(ctx context.Context) (flow.Receipt, error) { return s.Cut(ctx, nic, m) })
		if err != nil {
			return receipts, "", fmt.Errorf("cut %s of %s: %w", nic.MAC, nic.VDS, err)
		}
		rc.NIC = nic
		receipts = append(receipts, rc)
	}
	after, err := c.look(ctx, s, server, a)
	if err != nil {
		return receipts, "", err
	}
	for i, st := range after {
		if !st.Cut() {
			return receipts, "", &flow.ActError{Class: flow.ErrTransient, Err: fmt.Errorf(
				"%s of %s reads back as live=%s config=%s running=%t after the cut", a.NICs[i].MAC, a.NICs[i].VDS, st.Live, st.Config, st.Running)}
		}
		receipts[i].After = st
	}
	return receipts, resultDone, nil
}

func (c *Controller) restore(ctx context.Context, s Suspender, server string, r record, a flow.Action, attempt int, before []flow.NICStatus) ([]flow.Receipt, string, error) {
	id := r.inc.ID
	var receipts []flow.Receipt // of the cut, by NIC
	if r.inc.Action != nil {
		receipts = r.inc.Action.Receipts
	}
	receiptOf := func(nic flow.NIC) flow.Receipt {
		if i := slices.IndexFunc(receipts, func(rc flow.Receipt) bool { return rc.NIC == nic }); i >= 0 {
			return receipts[i]
		}
		return flow.Receipt{NIC: nic}
	}
	already := true
	for i, nic := range a.NICs {
		if ours(before[i], id) {
			already = false
			continue
		}
		was := receiptOf(nic).Before
		if before[i].Mark == nil && before[i].Config == flow.LinkDown && was.Config == flow.LinkUp {
			return nil, "", &flow.ActError{Class: flow.ErrDenied, Err: fmt.Errorf(
				"the link of %s of %s is down and does not carry our mark: somebody else must have taken it, look there", nic.MAC, nic.VDS)}
		}
	}
	if already {
		return nil, resultAlready, nil
	}
	if err := c.called(ctx, id, a.Key, attempt, nil); err != nil {
		return nil, "", err
	}
	for i, nic := range a.NICs {
		if !ours(before[i], id) {
			continue
		}
		mark := *before[i].Mark
		_, err := call(ctx, c, server, kindRestore, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, s.Restore(ctx, nic, mark, receiptOf(nic))
		})
		if err != nil {
			return nil, "", fmt.Errorf("restore %s of %s: %w", nic.MAC, nic.VDS, err)
		}
	}
	after, err := c.look(ctx, s, server, a)
	if err != nil {
		return nil, "", err
	}
	var out []flow.Receipt
	for i, st := range after {
		was := receiptOf(a.NICs[i]).Before.Config
		if ours(st, id) || was == flow.LinkUp && st.Config == flow.LinkDown {
			return nil, "", &flow.ActError{Class: flow.ErrTransient, Err: fmt.Errorf(
				"%s of %s reads back as live=%s config=%s after the restore", a.NICs[i].MAC, a.NICs[i].VDS, st.Live, st.Config)}
		}
		out = append(out, flow.Receipt{NIC: a.NICs[i], Before: before[i], After: st, At: c.now()})
	}
	return out, resultDone, nil
}

// called stores that a call goes out. It fails when the action was superseded
// in the meantime or the context ends; then no call may be made.
func (c *Controller) called(ctx context.Context, id, key string, attempt int, seen []flow.Receipt) error {
	return c.store(ctx, func(t *txn) error {
		r, _ := t.st.rec(id)
		a := r.pending()
		if a == nil || a.Key != key {
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
