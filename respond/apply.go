package respond

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// apply folds one event into a record. It is pure; an event of an unknown kind
// (from a later release) changes nothing but Updated.
func apply(r record, ev flow.Event) (record, error) {
	b, err := readBody(ev)
	if err != nil {
		return r, err
	}
	inc := &r.inc
	inc.Seq = ev.Seq
	enter := func(s flow.State) {
		inc.State = s
		tell(inc, told(Reason(ev.Reason), b))
		r.entered, r.reason = ev.Time, Reason(ev.Reason)
	}
	switch ev.Kind {
	case EventOpened:
		inc.ID, inc.Opened, inc.Prior = ev.Incident, ev.Time, b.Prior
		inc.Tenant, _ = netip.ParseAddr(b.Tenant)
		inc.Probation, r.then = b.Probation, b.Then
		enter(flow.StateOpen)
		r.await(ev, b)
	case EventFinding:
		r.await(ev, b)
	case EventNotified:
		enter(flow.StateNotified)
		r.wantLogs = ev.Time
	case EventHeld:
		enter(flow.StateHeld)
		r.wantLogs = ev.Time
	case EventApprovalAsked:
		enter(flow.StateApproval)
		r.wantLogs = ev.Time
	case EventIntent:
		applyIntent(&r, ev, b, enter)
	case EventStepHeld:
		r.stepHeld = Reason(ev.Reason)
		tell(inc, told(Reason(ev.Reason), b))
	case EventFallback:
		if b.Action != nil {
			inc.Others = append(slices.Clone(inc.Others), *b.Action)
			tell(inc, told(Reason(ev.Reason), b))
			r.intents++
		}
	case EventFrozen:
		tell(inc, told(Reason(ev.Reason), b)) // what the page says; the hold that follows says it too
	case EventStatement:
		inc.Statement, r.answers = b.Statement, append(slices.Clone(r.answers), b.Key)
	case EventReminded:
		r.reminded = true
	case EventEscalated:
		r.escalated = true
	case EventDescribed:
		inc.Would, r.described = b.Calls, ev.Time
	case EventOrphan:
		if inc.ID == "" { // of another log than this one: kept so that it can be seen
			inc.ID, inc.Opened = ev.Incident, ev.Time
			enter(flow.StateClosed)
		}
		r.orphaned = maps.Clone(r.orphaned)
		if r.orphaned == nil {
			r.orphaned = map[string]bool{}
		}
		r.orphaned[b.Key] = true
	case EventCalled, EventError, EventDone, EventVerified, EventUnverified, EventWaiting, EventFailed, EventReleased, EventLifted, EventAgain, EventOverdue:
		applyAct(&r, ev, b, enter)
	case EventEvidence:
		r.evidence = b.Frozen
		inc.Evidence = append(slices.Clone(inc.Evidence), b.Key)
	case EventNoticeSent, EventNoticeFailed:
		r.notices = slices.Clone(r.notices)
		for i := range r.notices {
			if r.notices[i].Key == b.Notice && !slices.Contains(r.notices[i].done, b.Notifier) {
				r.notices[i].done = append(slices.Clone(r.notices[i].done), b.Notifier)
			}
		}
	case EventClosed:
		enter(flow.StateClosed)
	}
	if inc.State != flow.StateOpen {
		r.then = ""
	}
	if b.Measure != nil {
		r.asked, r.askedHold = *b.Measure, time.Duration(b.HoldS)*time.Second
	}
	if b.Holder != nil {
		r.inc.Holder = *b.Holder
	}
	if len(b.Findings) > 0 {
		r = addFindings(r, b.Findings)
		r.lastFinding = ev.Time
	}
	switch ev.Kind {
	case EventNoticeSent, EventNoticeFailed, EventEvidence, EventDescribed, EventFrozen, EventUnfrozen, EventOrphan, EventReminded, EventParoleOver: // bookkeeping, no news of the incident
	default:
		r.inc.Updated = ev.Time
	}
	for _, d := range b.Notices {
		n := notice{due: d, At: ev.Time, inc: r.inc, reply: Reason(ev.Reason)}
		if ev.Kind == EventStatement {
			n.outcome = b.Detail
		}
		r.notices = append(slices.Clone(r.notices), n)
	}
	return r, nil
}

// await starts the clock of a notice that waits whether the abuse rises.
func (r *record) await(ev flow.Event, b body) {
	if Reason(ev.Reason) != ReasonNotifyWait || r.inc.State != flow.StateOpen || !r.waiting.IsZero() {
		return
	}
	r.waiting, r.reason = ev.Time, ReasonNotifyWait
	tell(&r.inc, told(ReasonNotifyWait, b))
}

func applyIntent(r *record, ev flow.Event, b body, enter func(flow.State)) {
	if b.Action == nil {
		return
	}
	a := *b.Action
	r.intents++
	if a.Kind == kindRestore {
		r.inc.Restore, r.why = &a, Reason(ev.Reason)
		if b.Statement != "" {
			r.inc.Statement = b.Statement
		}
		enter(flow.StateReleasing)
		if r.why == ReasonReleased {
			tell(&r.inc, flow.Told{Code: codeGivingBack})
		}
		return
	}
	if old := r.inc.Action; old != nil && !old.Called.IsZero() {
		if old.Taken() == a.Taken() && old.Adapter == a.Adapter {
			// The same measure, widened or tried again: what was there before the
			// first of them is what to go back to.
			a.Receipts = slices.Clone(old.Receipts)
		} else {
			r.inc.Others = append(slices.Clone(r.inc.Others), *old)
		}
	}
	r.inc.Action, r.inc.Restore = &a, nil
	r.inc.Refuse = r.inc.Refuse || b.Refuse
	r.wantLogs, r.stepHeld = ev.Time, ""
	if r.autoAt = (time.Time{}); ev.Actor == actorController {
		r.autoAt = ev.Time
	}
	enter(flow.StateSuspending)
}

// applyAct folds what became of an action. An event of an action that is no
// longer the current one keeps its receipts and changes no state: a cut that
// ends while a release is asked for must not undo the release.
func applyAct(r *record, ev flow.Event, b body, enter func(flow.State)) {
	a := r.actionOf(b.Key)
	if a == nil {
		return
	}
	act := *a
	act.NICs, act.Receipts = slices.Clone(a.NICs), slices.Clone(a.Receipts)
	for _, rc := range b.Receipts {
		act.Receipts = keepReceipt(act.Receipts, rc)
	}
	current := r.current() != nil && r.current().Key == b.Key
	became := func(s flow.State) {
		enter(s)
		tell(&r.inc, toldAct(Reason(ev.Reason), act, b))
	}
	switch ev.Kind {
	case EventCalled:
		act.Called, act.Attempts = ev.Time, b.Attempt
		if act.Kind == kindSuspend {
			r.touched = true
		}
	case EventError:
		act.Error, act.Attempts = b.Error, max(act.Attempts, b.Attempt)
	case EventAgain:
		if b.Action != nil { // the same measure at another NIC or hypervisor
			act.Adapter, act.NICs = b.Action.Adapter, b.Action.NICs
		}
		act.Error = ""
		if current && !act.Done.IsZero() {
			act.Done, act.Verified, act.Attempts, act.Again = time.Time{}, time.Time{}, 0, ev.Time
			enter(flow.StateSuspending)
		}
	case EventOverdue:
		r.overdue = act.Key + act.Again.String()
		tell(&r.inc, told(Reason(ev.Reason), b))
	case EventLifted:
		act.Lifted, act.Error = ev.Time, ""
	case EventDone:
		act.Done, act.Error = ev.Time, ""
		r.touched = true
		if r.took.IsZero() {
			r.took = ev.Time
		}
		if current && act.Taken() != r.step {
			r.step, r.stepAt = act.Taken(), ev.Time
		}
		if act.HoldS > 0 && act.Until.IsZero() { // taken up again, it lasts no longer
			act.Until = act.Expires()
		}
		if current {
			became(flow.StateSuspended)
		}
	case EventWaiting:
		r.reason = Reason(ev.Reason)
		tell(&r.inc, toldAct(Reason(ev.Reason), act, b))
	case EventVerified:
		act.Verified = ev.Time
		if current {
			became(flow.StateVerified)
		}
	case EventUnverified:
		if current {
			became(flow.StateUnverified)
		}
	case EventFailed:
		act.Error = b.Error
		if current {
			became(flow.StateFailed)
		}
	case EventReleased:
		act.Done, act.Error = ev.Time, ""
		r.touched = false
		enter(flow.StateReleased)
	}
	r.put(act)
}

// put stores a changed action where it belongs.
func (r *record) put(act flow.Action) {
	switch {
	case act.Kind == kindRestore:
		r.inc.Restore = &act
	case r.inc.Action != nil && r.inc.Action.Key == act.Key:
		r.inc.Action = &act
	default:
		r.inc.Others = slices.Clone(r.inc.Others)
		for i := range r.inc.Others {
			if r.inc.Others[i].Key == act.Key {
				r.inc.Others[i] = act
			}
		}
	}
}

// keepReceipt adds rc, or completes the one of the same NIC. The state before
// is the first that was ever seen: a second look may already see our own cut.
func keepReceipt(rs []flow.Receipt, rc flow.Receipt) []flow.Receipt {
	for i := range rs {
		if rs[i].NIC == rc.NIC {
			before, undo := rs[i].Before, rs[i].Undo
			rs[i] = rc
			rs[i].Before = before
			if rc.Undo == nil {
				rs[i].Undo = undo
			}
			return rs
		}
	}
	return append(rs, rc)
}
