package respond

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// attempt brings every NIC of the action to where it should be: it looks
// first, calls only where the hypervisor does not already read as wanted, and
// looks again. Receipts are returned with an error too, as far as it came.
func (c *Controller) attempt(ctx context.Context, r record, a flow.Action, attempt int) ([]flow.Receipt, string, error) {
	if a.Kind == kindRestore {
		return c.giveBack(ctx, r, a, attempt)
	}
	s := c.susp[a.Adapter]
	if s == nil {
		return nil, "", &flow.ActError{Class: flow.ErrUnsupported, Err: fmt.Errorf("adapter %q is not configured", a.Adapter)}
	}
	if k := a.Taken(); k != flow.MeasureCut && !slices.Contains(c.measures(a.Adapter), k) {
		return nil, "", &flow.ActError{Class: flow.ErrUnsupported, Err: fmt.Errorf("%s cannot take %s", a.Adapter, k)}
	}
	server := callKey(r.inc.Holder, a.Adapter)
	if err := c.sched.barred(server, a.Kind); err != nil {
		return nil, "", err
	}
	node := nodeOf(a)
	if wait := c.nodes.enter(node, c.now()); wait > 0 {
		return nil, "", &nodeOpenError{node, wait}
	}
	before, err := c.look(ctx, s, server, a)
	if err != nil {
		c.nodes.leave(node, err, c.now())
		return nil, "", err
	}
	receipts, result, err := c.take(ctx, s, server, r, a, attempt, before)
	c.nodes.leave(node, err, c.now())
	return receipts, result, err
}

// callKey is what calls to an adapter about a server are counted by: one that
// hangs bars the other kind there, and not at another adapter.
func callKey(h flow.Holder, adapter string) string { return serverKey(h) + "@" + adapter }

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

// effective reports whether a NIC reads back with the action's measure in force.
func effective(st flow.NICStatus, a flow.Action) bool {
	if a.Taken() == flow.MeasureCut {
		return st.Cut()
	}
	r, ok := st.Restricted(a.Taken())
	return ok && covers(r.Measure, a.Measure)
}

// asWanted is effective, for our incident, and nothing beyond it.
func asWanted(st flow.NICStatus, incident string, a flow.Action) bool {
	m := st.MarkOf(a.Taken())
	if m == nil || m.Incident != incident || !effective(st, a) {
		return false
	}
	r, ok := st.Restricted(a.Taken())
	return !ok || a.Taken() == flow.MeasureCut || covers(a.Measure, r.Measure)
}

// readsAs is how a NIC reads, for people.
func readsAs(nic flow.NIC, st flow.NICStatus) string {
	text := fmt.Sprintf("%s of %s reads back as live=%s config=%s running=%t", nic.MAC, nic.VDS, st.Live, st.Config, st.Running)
	for _, r := range st.Restrictions {
		text += fmt.Sprintf(" %s=%s", r.Measure.Kind, r.Mark.Incident)
	}
	return text
}

// lostReceipt reports whether a restriction was called for and its answer never
// came: what the adapter needs to give it back may be in there, so the call,
// which is idempotent, is repeated. For a cut the state before is enough.
func lostReceipt(a flow.Action, nic flow.NIC) bool {
	return a.Taken() != flow.MeasureCut && !a.Called.IsZero() && a.Done.IsZero() && receiptOf(a, nic).Undo == nil
}

func (c *Controller) take(ctx context.Context, s Suspender, server string, r record, a flow.Action, attempt int, before []flow.NICStatus) ([]flow.Receipt, string, error) {
	id, now := r.inc.ID, c.now()
	var seen []flow.Receipt
	already := true
	for i, nic := range a.NICs {
		m := before[i].MarkOf(a.Taken())
		if m != nil && m.Incident != id {
			return nil, "", &flow.ActError{Class: flow.ErrConflict, Err: fmt.Errorf("%s of %s carries the mark of %s", nic.MAC, nic.VDS, m.Incident)}
		}
		already = already && asWanted(before[i], id, a) && !lostReceipt(a, nic)
		rc := flow.Receipt{NIC: nic, Before: before[i], After: before[i], At: now}
		if ours(before[i], id) && a.Taken() == flow.MeasureCut {
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
	receipts, err := c.takeCalls(ctx, s, server, r, a)
	if err != nil {
		return receipts, "", err
	}
	return receipts, resultDone, nil
}

// takeCalls calls for a measure on each NIC and reads it back. Receipts are
// returned with an error too, as far as it came.
func (c *Controller) takeCalls(ctx context.Context, s Suspender, server string, r record, a flow.Action) ([]flow.Receipt, error) {
	id := r.inc.ID
	m := flow.Mark{Incident: id, Key: a.Key, By: c.cfg.MarkBy, Reason: markReason(r.inc), At: a.Intent}
	var receipts []flow.Receipt
	for _, nic := range a.NICs {
		rc, err := call(ctx, c, server, kindSuspend, func(ctx context.Context) (flow.Receipt, error) {
			if a.Taken() == flow.MeasureCut {
				return s.Cut(ctx, nic, m)
			}
			rs, ok := s.(Restrictor)
			if !ok {
				return flow.Receipt{}, &flow.ActError{Class: flow.ErrUnsupported, Err: errors.New("only cuts are possible")}
			}
			return rs.Restrict(ctx, nic, a.Measure, m)
		})
		if err != nil {
			return receipts, fmt.Errorf("%s %s of %s: %w", a.Taken(), nic.MAC, nic.VDS, err)
		}
		rc.NIC = nic
		receipts = append(receipts, rc)
	}
	after, err := c.look(ctx, s, server, a)
	if err != nil {
		return receipts, err
	}
	for i, st := range after {
		if !effective(st, a) {
			return receipts, &flow.ActError{Class: flow.ErrTransient, Err: fmt.Errorf("%s after %s", readsAs(a.NICs[i], st), a.Taken())}
		}
		receipts[i].After = st
	}
	return receipts, nil
}
