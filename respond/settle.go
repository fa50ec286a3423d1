package respond

import (
	"context"
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

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
			if next, ok := c.afterUnsupported(t, r, *a, b.Class); ok {
				t.emit(newEvent(id, kind, actorController, reason, c.now(), b))
				t.emit(next)
				return nil
			}
			b.Notices = c.dues(t, r, noticeFailed, flow.StateFailed)
		case a.Kind == kindRestore:
			kind, reason = EventReleased, ReasonReleased
			switch {
			case result == resultAlready && a.Attempts == 0:
				reason = ReasonNotOurs
			case !offence(r.why) && r.why != "":
				reason = r.why
			case r.why == ReasonExpired:
				reason = ReasonExpired
			}
			news := noticeReleased
			if reason == ReasonExpired {
				news = noticeLifted
			}
			b.Notices = c.dues(t, r, news, flow.StateReleased)
		case current || r.stepIn(key):
			if !r.toldOf(*a) {
				b.Notices = c.measureDues(t, r, *a)
			}
		}
		t.emit(newEvent(id, kind, actorController, reason, c.now(), b))
		return nil
	})
}

// noticeOf is the notice that a measure in force causes.
func (r record) noticeOf(a flow.Action) string {
	switch {
	case a.Taken() != flow.MeasureCut:
		return noticeRestricted
	case r.inc.Refuse:
		return noticeRefuse
	}
	return noticeSuspended
}

// toldOf reports whether a measure of this kind was told of before: one that is
// taken up again, widened, or taken over from the fallback is no news.
func (r record) toldOf(a flow.Action) bool {
	return slices.ContainsFunc(r.notices, func(n notice) bool {
		return n.Kind == r.noticeOf(a) && n.inc.Action != nil && n.inc.Action.Taken() == a.Taken()
	})
}

// afterUnsupported is the intent of the step after one that the adapter turned
// out not to be able to take here.
func (c *Controller) afterUnsupported(t *txn, r record, a flow.Action, class flow.ErrClass) (flow.Event, bool) {
	if class != flow.ErrUnsupported || a.Kind != kindSuspend || a.Taken() == flow.MeasureCut || !c.cfg.SkipUnsupported ||
		r.inc.Tier < flow.TierSuspend || c.cfg.DryRun {
		return flow.Event{}, false
	}
	ts := c.now()
	h, known := c.deps.Inventory.Holder(r.inc.Tenant, ts)
	fs := slices.DeleteFunc(slices.Clone(r.inc.Findings), func(f flow.Finding) bool { return c.cfg.mode(f.Rule) != flow.ModeEnforce })
	in := c.input(t, ts, r.inc.Tenant, fs, h, known, r)
	in.InForce = flow.Measure{}
	in.Measures = slices.DeleteFunc(slices.Clone(in.Measures), func(k flow.MeasureKind) bool { return k.Rank() <= a.Taken().Rank() })
	w, _ := wishOf(c.cfg, in, ts)
	if w.state != flow.StateSuspending || w.step.measure.Kind.Rank() <= a.Taken().Rank() || safety(c.cfg, in, true, ts) != "" {
		return flow.Event{}, false
	}
	return c.intent(r, actorController, ReasonNoMeasure, ts, Decision{Measure: w.step.measure, Hold: w.step.hold}, in), true
}
