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

// upheld are the measures that stay in force while one that is to replace them
// is tried, or has failed: they were read back, and are not given back yet. The
// fallback's are its own matter, see stepsIn.
func (r record) upheld() []flow.Action {
	a := r.inc.Action
	if a == nil || r.inc.State != flow.StateSuspending && (r.inc.State != flow.StateFailed || r.inc.Restore != nil) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(r.inc.Others), func(o flow.Action) bool {
		return o.Done.IsZero() || !o.Lifted.IsZero() || o.Kind != kindSuspend || o.Taken() == a.Taken()
	})
}

func (r record) upheldBy(key string) *flow.Action {
	list := r.upheld()
	if i := slices.IndexFunc(list, func(a flow.Action) bool { return a.Key == key }); i >= 0 {
		return &list[i]
	}
	return nil
}

// uphold reads back a measure whose stronger successor is not in force, and
// takes it up again where it is not in force either: an escalation that failed
// must not leave the abuse without any answer.
func (c *Controller) uphold(ctx context.Context, id, key string) time.Duration {
	c.mu.Lock()
	delete(c.nudged, id)
	c.mu.Unlock()
	r, _ := c.record(id)
	a := r.upheldBy(key)
	if a == nil {
		return 0
	}
	s := c.susp[a.Adapter]
	if s == nil || c.cfg.DryRun {
		return c.cfg.Reassert
	}
	server, node := callKey(r.inc.Holder, a.Adapter), nodeOf(*a)
	if wait := c.nodes.enter(node, c.now()); wait > 0 {
		return wait
	}
	receipts, err := c.upholdAt(ctx, s, server, r, *a)
	c.nodes.leave(node, err, c.now())
	switch {
	case errors.Is(err, errSuperseded):
		return 0
	case ctx.Err() != nil:
		return c.cfg.RetryMin
	case err != nil:
		c.log.Warn("a measure that stays until a stronger one is in force is not in force", zap.String("incident", id), zap.String("action", key), zap.Error(err))
		return min(backoff(c.sched.tries(id+"/uphold/"+key), c.cfg.RetryMin, c.cfg.RetryMax), c.cfg.Reassert)
	case receipts == nil:
		return c.cfg.Reassert
	}
	err = c.store(ctx, func(t *txn) error {
		if r, _ := t.st.rec(id); r.actionOf(key) != nil {
			t.emit(newEvent(id, EventDone, actorController, ReasonReadBack, c.now(), body{Key: key, Receipts: receipts}))
		}
		return nil
	})
	if err != nil {
		return c.cfg.RetryMin
	}
	return c.cfg.Reassert
}

// upholdAt is one try. No receipts and no error: it was in force.
func (c *Controller) upholdAt(ctx context.Context, s Suspender, server string, r record, a flow.Action) ([]flow.Receipt, error) {
	if err := c.sched.barred(server, kindSuspend); err != nil {
		return nil, err
	}
	before, err := c.look(ctx, s, server, a)
	if err != nil {
		return nil, err
	}
	var off []string
	for i, st := range before {
		if m := st.MarkOf(a.Taken()); m != nil && m.Incident != r.inc.ID {
			return nil, &flow.ActError{Class: flow.ErrConflict, Err: fmt.Errorf("%s of %s carries the mark of %s", a.NICs[i].MAC, a.NICs[i].VDS, m.Incident)}
		}
		if !effective(st, a) {
			off = append(off, readsAs(a.NICs[i], st))
		}
	}
	if len(off) == 0 {
		return nil, nil
	}
	detail := strings.Join(off, "; ")
	err = c.store(ctx, func(t *txn) error {
		r, _ := t.st.rec(r.inc.ID)
		if r.upheldBy(a.Key) == nil {
			return errSuperseded // released, or the stronger one is in force
		}
		t.emit(newEvent(r.inc.ID, EventAgain, actorController, ReasonDrift, c.now(), body{Key: a.Key, Detail: detail}))
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.m.reasserted.WithLabelValues(string(ReasonDrift)).Inc()
	return c.takeCalls(ctx, s, server, r, a)
}
