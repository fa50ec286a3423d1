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

// receiptOf is what an action found on a NIC.
func receiptOf(a flow.Action, nic flow.NIC) flow.Receipt {
	if i := slices.IndexFunc(a.Receipts, func(rc flow.Receipt) bool { return rc.NIC == nic }); i >= 0 {
		return a.Receipts[i]
	}
	return flow.Receipt{NIC: nic}
}

// giveBack takes everything of an incident back, wherever it was put. What one
// adapter refuses does not keep another from giving back.
func (c *Controller) giveBack(ctx context.Context, r record, a flow.Action, attempt int) ([]flow.Receipt, string, error) {
	stored := func() error { return c.called(ctx, r.inc.ID, a.Key, attempt, nil) }
	var receipts []flow.Receipt
	var errs []error
	already := true
	held := r.held()
	slices.Reverse(held) // the cut last: what is milder is gone when the link comes up
	for _, h := range held {
		if h.Called.IsZero() && (r.inc.Action == nil || h.Key != r.inc.Action.Key) {
			continue // a fallback that was never asked
		}
		rcs, did, err := c.giveBackOne(ctx, r, h, stored)
		if errors.Is(err, errSuperseded) {
			return nil, "", err
		}
		receipts, already = append(receipts, rcs...), already && !did
		errs = append(errs, err)
	}
	if err := worst(errs); err != nil {
		return nil, "", err
	}
	if already {
		return nil, resultAlready, nil
	}
	return receipts, resultDone, nil
}

// worst picks the error that decides on a retry: one that is worth it goes
// before one that is not, so that what can be given back later is.
func worst(errs []error) error {
	var out error
	for _, err := range errs {
		switch {
		case err == nil:
		case out == nil:
			out = err
		case !retries(out) && retries(err):
			out = err
		}
	}
	return out
}

func retries(err error) bool {
	switch classOf(err) {
	case flow.ErrTransient, flow.ErrLocked, flow.ErrConflict:
		return true
	}
	return false
}

// giveBackOne takes one measure back from the NICs that carry it with our
// mark. stored is called before the first call; did says whether any was made.
func (c *Controller) giveBackOne(ctx context.Context, r record, a flow.Action, stored func() error) (out []flow.Receipt, did bool, err error) {
	s := c.susp[a.Adapter]
	if s == nil {
		return nil, false, &flow.ActError{Class: flow.ErrUnsupported, Err: fmt.Errorf("adapter %q is not configured", a.Adapter)}
	}
	server := callKey(r.inc.Holder, a.Adapter)
	if err := c.sched.barred(server, kindRestore); err != nil {
		return nil, false, err
	}
	node := nodeOf(a)
	if wait := c.nodes.enter(node, c.now()); wait > 0 {
		return nil, false, &nodeOpenError{node, wait}
	}
	defer func() { c.nodes.leave(node, err, c.now()) }()
	for _, nic := range a.NICs {
		one := a
		one.NICs = []flow.NIC{nic}
		rc, called, err := c.giveBackNIC(ctx, s, server, r, one, stored)
		if err != nil {
			return nil, did, err
		}
		did = did || called
		out = append(out, rc)
	}
	return out, did, nil
}

// giveBackNIC does it for the only NIC of a.
func (c *Controller) giveBackNIC(ctx context.Context, s Suspender, server string, r record, a flow.Action, stored func() error) (flow.Receipt, bool, error) {
	id, nic, kind := r.inc.ID, a.NICs[0], a.Taken()
	was := receiptOf(a, nic)
	out := flow.Receipt{NIC: nic, At: c.now()}
	before, err := c.look(ctx, s, server, a)
	if err != nil {
		if classOf(err) == flow.ErrNotFound && !c.listed(r, nic) {
			return out, false, nil // with the NIC went what it carried
		}
		return out, false, err
	}
	out.Before, out.After = before[0], before[0]
	m := before[0].MarkOf(kind)
	if m == nil || m.Incident != id {
		if kind == flow.MeasureCut && before[0].Mark == nil && before[0].Config == flow.LinkDown && was.Before.Config == flow.LinkUp {
			return out, false, &flow.ActError{Class: flow.ErrDenied, Err: fmt.Errorf(
				"the link of %s of %s is down and does not carry our mark: somebody else must have taken it, look there", nic.MAC, nic.VDS)}
		}
		return out, false, nil
	}
	if err := stored(); err != nil {
		return out, false, err
	}
	_, err = call(ctx, c, server, kindRestore, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, giveBackCall(ctx, s, nic, kind, *m, was)
	})
	if err != nil {
		return out, true, fmt.Errorf("give back %s of %s of %s: %w", kind, nic.MAC, nic.VDS, err)
	}
	after, err := c.look(ctx, s, server, a)
	if err != nil {
		return out, true, err
	}
	out.After = after[0]
	m = after[0].MarkOf(kind)
	if m != nil && m.Incident == id || kind == flow.MeasureCut && was.Before.Config == flow.LinkUp && after[0].Config == flow.LinkDown {
		return out, true, &flow.ActError{Class: flow.ErrTransient, Err: fmt.Errorf("%s after it was given back", readsAs(nic, after[0]))}
	}
	return out, true, nil
}

func giveBackCall(ctx context.Context, s Suspender, nic flow.NIC, kind flow.MeasureKind, m flow.Mark, was flow.Receipt) error {
	if kind == flow.MeasureCut {
		return s.Restore(ctx, nic, m, was)
	}
	rs, ok := s.(Restrictor)
	if !ok {
		return &flow.ActError{Class: flow.ErrUnsupported, Err: errors.New("it takes no measure but the cut any more")}
	}
	return rs.Lift(ctx, nic, kind, m, was)
}

// replaced are the measures beside the one in force that are to be given back.
func (r record) replaced() []flow.Action {
	if r.inForce() == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(r.inc.Others), func(a flow.Action) bool { return !a.Lifted.IsZero() })
}

// lift gives a replaced measure back: the one that replaces it reads back as
// in force. It is tried for as long as it takes.
func (c *Controller) lift(ctx context.Context, id, key string) time.Duration {
	r, _ := c.record(id)
	i := slices.IndexFunc(r.replaced(), func(a flow.Action) bool { return a.Key == key })
	if i < 0 {
		return 0
	}
	a := r.replaced()[i]
	var receipts []flow.Receipt
	if !a.Called.IsZero() {
		var err error
		receipts, _, err = c.giveBackOne(ctx, r, a, func() error { return nil }) // the intent is that of what replaces it
		if err != nil {
			if ctx.Err() == nil {
				c.m.actions.WithLabelValues(a.Adapter, resultRetry).Inc()
				c.log.Warn("a replaced measure could not be given back, it will be tried again", zap.String("incident", id), zap.String("action", key), zap.Error(err))
			}
			return backoff(c.sched.tries(id+"/lift/"+key), c.cfg.RetryMin, c.cfg.RetryMax)
		}
	}
	err := c.store(ctx, func(t *txn) error {
		r, _ := t.st.rec(id)
		if a := r.actionOf(key); a == nil || !a.Lifted.IsZero() {
			return nil
		}
		t.emit(newEvent(id, EventLifted, actorController, ReasonReplaced, c.now(), body{Key: key, Receipts: receipts}))
		return nil
	})
	if err != nil {
		return c.cfg.RetryMin
	}
	c.m.measures.WithLabelValues(string(a.Taken()), kindRestore, resultReplaced).Inc()
	return 0
}
