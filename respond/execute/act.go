package execute

import (
	"context"
	"slices"

	"github.com/flowcordon/flowcordon/flow"
	"go.uber.org/zap"
)

// check refuses what the command cannot be asked for.
func (a *Adapter) check(action string, me flow.Measure, m flow.Mark) error {
	switch {
	case m.Incident == "":
		return fail(flow.ErrDenied, "the mark names no incident")
	case action == actionCut, action == actionRestore:
		return nil
	case me.Kind == flow.MeasureCut || !slices.Contains(a.cfg.Measures, me.Kind):
		return fail(flow.ErrUnsupported, "measure %q is not among the configured measures", me.Kind)
	case action == actionRestrict && me.Kind == flow.MeasureBlockPort && len(me.Ports) == 0:
		return fail(flow.ErrDenied, "block_port: no ports")
	case action == actionRestrict && me.Kind == flow.MeasureLimit && me.KbitS == 0:
		return fail(flow.ErrDenied, "rate_limit: kbit_s is 0")
	}
	return nil
}

func (a *Adapter) take(ctx context.Context, action string, nic flow.NIC, me flow.Measure, m flow.Mark) (flow.Receipt, error) {
	r, err := do(ctx, a, action, func(ctx context.Context) (flow.Receipt, error) {
		if err := a.check(action, me, m); err != nil {
			return flow.Receipt{}, err
		}
		if a.cfg.Mode == ModeFastNetMon {
			return a.ban(ctx, nic, m)
		}
		was, err := a.ask(ctx, request{Action: actionStatus, NIC: &nic})
		if err != nil {
			return flow.Receipt{}, err
		}
		old := was.status().MarkOf(me.Kind)
		if old != nil && old.Incident != m.Incident {
			return flow.Receipt{}, fail(flow.ErrConflict, "the NIC already carries %s for incident %s by %s", me.Kind, old.Incident, old.By)
		}
		q := request{Action: action, NIC: &nic, Mark: &m}
		if action == actionRestrict {
			q.Measure = &me
		}
		rep, err := a.ask(ctx, q)
		if err != nil {
			return flow.Receipt{}, err
		}
		if err := took(rep.status(), me, m); err != nil {
			return flow.Receipt{}, err
		}
		return flow.Receipt{NIC: nic, Before: before(was.status(), rep, me.Kind), After: rep.status(), Node: rep.Node, At: a.now().UTC(), Undo: rep.Undo}, nil
	})
	if err == nil {
		a.log.Info("measure taken", zap.String("measure", string(me.Kind)), zap.String("vds", nic.VDS), zap.String("mac", nic.MAC), zap.String("incident", m.Incident))
	}
	return r, err
}

// took checks that a command which says that it is done did it.
func took(st flow.NICStatus, me flow.Measure, m flow.Mark) error {
	mark := st.MarkOf(me.Kind)
	if mark == nil || mark.Incident != m.Incident {
		return fail(flow.ErrConflict, "exited with 0, but says that %s carries the mark of %s", me.Kind, incident(mark))
	}
	if me.Kind == flow.MeasureCut {
		if !st.Cut() {
			return fail(flow.ErrConflict, "exited with 0, but says live %s, config %s", st.Live, st.Config)
		}
		return nil
	}
	if got, _ := st.Restricted(me.Kind); !got.Measure.Same(me) {
		return fail(flow.ErrConflict, "exited with 0, but says that %+v is in force, not %+v", got.Measure, me)
	}
	return nil
}

// before is the state before the first act: what the command kept, or what it
// said a moment ago if the NIC did not carry the measure yet.
func before(was flow.NICStatus, rep reply, kind flow.MeasureKind) flow.NICStatus {
	switch {
	case rep.Before != nil:
		return rep.Before.status()
	case was.MarkOf(kind) == nil:
		return was
	case kind == flow.MeasureCut:
		was.Mark, was.Live, was.Config = nil, flow.LinkUnknown, flow.LinkUnknown
	}
	was.Restrictions = slices.DeleteFunc(slices.Clone(was.Restrictions), func(r flow.Restriction) bool { return r.Measure.Kind == kind })
	if len(was.Restrictions) == 0 {
		was.Restrictions = nil
	}
	return was
}

func (a *Adapter) giveBack(ctx context.Context, action string, nic flow.NIC, kind flow.MeasureKind, m flow.Mark, r flow.Receipt) error {
	given, err := do(ctx, a, action, func(ctx context.Context) (bool, error) {
		if err := a.check(action, flow.Measure{Kind: kind}, m); err != nil {
			return false, err
		}
		if a.cfg.Mode == ModeFastNetMon {
			return a.unban(ctx, nic, m)
		}
		was, err := a.ask(ctx, request{Action: actionStatus, NIC: &nic})
		if err != nil {
			return false, err
		}
		old := was.status().MarkOf(kind)
		if old == nil {
			return false, given(was.status(), kind, r)
		}
		if old.Incident != m.Incident {
			return false, fail(flow.ErrConflict, "the NIC carries %s for incident %s by %s, not for %s; it stays as it is", kind, old.Incident, old.By, m.Incident)
		}
		q := request{Action: action, NIC: &nic, Mark: &m, Receipt: &r}
		if action == actionLift {
			q.Measure = &flow.Measure{Kind: kind}
		}
		rep, err := a.ask(ctx, q)
		if err != nil {
			return false, err
		}
		if mark := rep.status().MarkOf(kind); mark != nil {
			return false, fail(flow.ErrConflict, "exited with 0, but says that %s still carries the mark of %s", kind, incident(mark))
		}
		return true, given(rep.status(), kind, r)
	})
	if err == nil && given {
		a.log.Info("measure given back", zap.String("measure", string(kind)), zap.String("vds", nic.VDS), zap.String("mac", nic.MAC), zap.String("incident", m.Incident))
	}
	return err
}

// given checks that a NIC without our mark is as it was before the cut. Where
// that is not known, one that is not cut passes.
func given(st flow.NICStatus, kind flow.MeasureKind, r flow.Receipt) error {
	if kind != flow.MeasureCut {
		return nil
	}
	want := r.Before
	ok := !st.Cut()
	if want.Config == flow.LinkUp || want.Config == flow.LinkDown {
		live := want.Live
		if !want.Running {
			live = want.Config // started meanwhile
		}
		ok = st.Config == want.Config && (!st.Running || live == flow.LinkUnknown || st.Live == live)
	}
	if !ok {
		return fail(flow.ErrConflict, "the NIC carries no mark of ours and is live %s, config %s; it stays as it is", st.Live, st.Config)
	}
	return nil
}
