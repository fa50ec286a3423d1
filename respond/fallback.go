package respond

import (
	"context"
	"errors"
	"slices"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

func isSuperseded(err error) bool { return errors.Is(err, errSuperseded) }

// stepsIn are the fallback's actions that are still to be carried out: only
// while the proper measure is not in force.
func (r record) stepsIn() []flow.Action {
	if r.inc.State != flow.StateSuspending {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(r.inc.Others), func(a flow.Action) bool {
		return a.Adapter == r.inc.Action.Adapter || !a.Done.IsZero() || !a.Lifted.IsZero()
	})
}

func (r record) stepIn(key string) bool {
	return slices.ContainsFunc(r.stepsIn(), func(a flow.Action) bool { return a.Key == key })
}

// fallbackInForce reports whether another adapter stands in for the current
// action.
func (r record) fallbackInForce(k flow.MeasureKind) bool {
	return slices.ContainsFunc(r.inc.Others, func(a flow.Action) bool {
		return a.Adapter != r.inc.Action.Adapter && a.Taken() == k && !a.Done.IsZero() && a.Lifted.IsZero()
	})
}

// fallback stores the intent to let the fallback adapter stand in for an
// action that its hypervisor cannot carry out, when it is time.
func (c *Controller) fallback(ctx context.Context, r record, a flow.Action, class flow.ErrClass, open bool) {
	name := c.cfg.Fallback
	if name == "" || name == a.Adapter || c.susp[name] == nil || a.Kind != kindSuspend || c.cfg.DryRun {
		return
	}
	if class != flow.ErrTransient && class != flow.ErrLocked || !open && !c.nodes.open(nodeOf(a)) && c.now().Sub(c.actSince(a)) < c.cfg.FallbackAfter {
		return
	}
	if a.Taken() != flow.MeasureCut && !slices.Contains(c.measures(name), a.Taken()) {
		return
	}
	did := false
	err := c.store(ctx, func(t *txn) error {
		r, _ := t.st.rec(r.inc.ID)
		p := r.pending()
		if p == nil || p.Key != a.Key || slices.ContainsFunc(r.inc.Others, func(o flow.Action) bool { return o.Adapter == name && o.Lifted.IsZero() }) {
			return nil
		}
		o := &flow.Action{Key: actionKey(r, kindSuspend), Kind: kindSuspend, Adapter: name, NICs: a.NICs, Intent: c.now(), Measure: a.Measure}
		t.emit(newEvent(r.inc.ID, EventFallback, actorController, ReasonFallback, c.now(), body{Action: o, Detail: name}))
		did = true
		return nil
	})
	if err != nil || !did {
		return
	}
	c.m.fallbacks.Inc()
	c.log.Warn("the fallback stands in for a hypervisor", zap.String("incident", r.inc.ID), zap.String("adapter", a.Adapter), zap.String("fallback", name))
}
