package proxmox

import (
	"context"

	"github.com/flowcordon/flowcordon/flow"
)

func (t *target) cut(ctx context.Context, m flow.Mark) (flow.Receipt, error) {
	before, err := t.status(ctx)
	if err != nil {
		return flow.Receipt{}, err
	}
	n := note{Kind: flow.MeasureCut, MAC: t.mac, Guest: t.g.ID, Mark: m, Undo: undo{
		Link: parseNet(t.v.now[t.key]).get("link_down"), NextLink: parseNet(t.v.next[t.key]).get("link_down"),
		Live: before.Live, Config: before.Config, Running: before.Running,
	}}
	if old := t.own(flow.MeasureCut); old != nil {
		if old.Mark.Incident != m.Incident {
			return flow.Receipt{}, fail(flow.ErrConflict, "%s is already cut for incident %s by %s", t, old.Mark.Incident, old.Mark.By)
		}
		n = *old
		n.Mark.Key = m.Key
	}
	before.Live, before.Config, before.Running, before.Mark = n.Undo.Live, n.Undo.Config, n.Undo.Running, nil
	down := func(d netDev, _ bool) netDev {
		if d.down() {
			return d
		}
		return d.with("link_down", "1")
	}
	if err := t.put(ctx, down, replace(n, false)); err != nil {
		return flow.Receipt{}, err
	}
	after, err := t.back(ctx)
	if err != nil {
		return flow.Receipt{}, err
	}
	if !after.Cut() || after.Mark == nil || after.Mark.Incident != m.Incident {
		return flow.Receipt{}, fail(flow.ErrConflict, "%s reads back live %s, next start %s after the cut", t, after.Live, after.Config)
	}
	return flow.Receipt{NIC: flow.NIC{MAC: t.mac}, Before: before, After: after, Node: t.g.Node, Undo: n.Undo.raw()}, nil
}

// back reads the NIC anew.
func (t *target) back(ctx context.Context) (flow.NICStatus, error) {
	if err := t.again(ctx); err != nil {
		return flow.NICStatus{}, err
	}
	return t.status(ctx)
}

func (t *target) restore(ctx context.Context, m flow.Mark, r flow.Receipt) error {
	n := t.own(flow.MeasureCut)
	if n == nil {
		return t.restored(ctx, r)
	}
	if n.Mark.Incident != m.Incident {
		return fail(flow.ErrConflict, "%s is cut for incident %s by %s, not for %s; it stays as it is",
			t, n.Mark.Incident, n.Mark.By, m.Incident)
	}
	was := undoOf(r, n.Undo)
	up := func(d netDev, next bool) netDev {
		if next && was.NextLink != "" {
			return d.with("link_down", was.NextLink)
		}
		return d.with("link_down", was.Link)
	}
	if err := t.put(ctx, up, replace(*n, true)); err != nil {
		return err
	}
	if err := t.again(ctx); err != nil {
		return err
	}
	want := parseNet("link_down=" + was.Link).down()
	if d := parseNet(t.v.now[t.key]); t.own(flow.MeasureCut) != nil || d.down() != want {
		return fail(flow.ErrConflict, "%s reads back %q after the restore", t, t.v.now[t.key])
	}
	return nil
}

// restored answers a restore that finds no mark: nothing is left to do when the
// NIC is as the receipt says, because then an earlier call did it and only its
// answer was lost. Otherwise the state is somebody else's work.
func (t *target) restored(ctx context.Context, r flow.Receipt) error {
	st, err := t.status(ctx)
	if err != nil {
		return err
	}
	want := r.Before
	if want.Config == "" { // no receipt: a NIC nobody cut is up
		want = flow.NICStatus{Live: flow.LinkUp, Config: flow.LinkUp, Running: true}
	}
	live := want.Live
	if !want.Running {
		live = want.Config // it was started since
	}
	if st.Config == want.Config && (!st.Running || st.Live == live) {
		return nil
	}
	return fail(flow.ErrConflict, "%s carries no mark of ours and is live %s, next start %s; somebody else set it, so it stays as it is",
		t, st.Live, st.Config)
}
