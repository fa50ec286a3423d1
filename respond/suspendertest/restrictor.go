package suspendertest

import (
	"cmp"
	"context"
	"slices"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
	gocmp "github.com/google/go-cmp/cmp"
)

// Restrictor is a Suspender that takes milder measures too.
type Restrictor interface {
	Suspender
	Measures() []flow.MeasureKind
	Restrict(ctx context.Context, nic flow.NIC, me flow.Measure, m flow.Mark) (flow.Receipt, error)
	Lift(ctx context.Context, nic flow.NIC, kind flow.MeasureKind, m flow.Mark, r flow.Receipt) error
}

// restricting is a case of one measure: the measure and a stronger one of its kind.
type restricting struct {
	Fixture
	r            Restrictor
	kind         flow.MeasureKind
	mild, strong flow.Measure
}

// RunRestrictor runs the suite for the measures milder than a cut, each case
// for each of them. fresh gives a Fixture whose S is a Restrictor.
func RunRestrictor(t *testing.T, fresh func(t *testing.T) Fixture) {
	f := fresh(t)
	kinds := f.Kinds
	if len(kinds) == 0 {
		kinds = asRestrictor(t, f).Measures()
	}
	if len(kinds) == 0 {
		t.Fatal("there is no measure to try")
	}
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) { runMeasure(t, kind, fresh) })
	}
	if len(kinds) > 1 {
		t.Run("measures side by side", func(t *testing.T) { sideBySide(t, fresh(t), kinds) })
	}
	t.Run("what cannot be taken is refused", func(t *testing.T) { refused(t, fresh(t)) })
}

func runMeasure(t *testing.T, kind flow.MeasureKind, fresh func(t *testing.T) Fixture) {
	for name, fn := range map[string]func(*testing.T, restricting){
		"in force, read back, lifted":                inForce,
		"a repeat changes nothing":                   repeatedRestrict,
		"the same incident replaces":                 replaced,
		"lifted with the first receipt":              liftedByFirst,
		"a repeated lift is no error":                repeatedLift,
		"another incident is refused":                foreignRestrict,
		"a cut on top, the cut given back first":     func(t *testing.T, c restricting) { cutOnTop(t, c, true) },
		"a cut on top, the measure given back first": func(t *testing.T, c restricting) { cutOnTop(t, c, false) },
		"a missing NIC is not found":                 missingRestrict,
		"an ended context is no answer":              endedRestrict,
	} {
		t.Run(name, func(t *testing.T) {
			f := fresh(t)
			c := restricting{Fixture: f, r: asRestrictor(t, f), kind: kind}
			c.mild, c.strong = f.measures(kind)
			fn(t, c)
		})
	}
}

func asRestrictor(t *testing.T, f Fixture) Restrictor {
	t.Helper()
	r, ok := f.S.(Restrictor)
	if !ok {
		t.Fatalf("%T is no Restrictor", f.S)
	}
	return r
}

// measures gives one of the kind and a stronger one.
func (f Fixture) measures(kind flow.MeasureKind) (mild, strong flow.Measure) {
	if kind == flow.MeasureLimit {
		// Whole kB/s and whole MB/s: the units that products count in.
		return flow.Measure{Kind: kind, KbitS: 16000}, flow.Measure{Kind: kind, KbitS: 8000}
	}
	ports := f.Ports
	if len(ports) == 0 {
		ports = []flow.PortRule{{Proto: 6, Port: 22}, {Proto: 17, Port: 53}, {Proto: 1}, {Proto: 58}}
	}
	return flow.Measure{Kind: kind, Ports: ports[:max(1, len(ports)-1)]}, flow.Measure{Kind: kind, Ports: ports}
}

func (c restricting) restrict(t *testing.T, me flow.Measure, m flow.Mark) flow.Receipt {
	t.Helper()
	r, err := c.r.Restrict(t.Context(), c.NIC, me, m)
	if err != nil {
		t.Fatalf("Restrict %s: %v", me.Kind, err)
	}
	return r
}

func (c restricting) lift(t *testing.T, m flow.Mark, r flow.Receipt) {
	t.Helper()
	if err := c.r.Lift(t.Context(), c.NIC, c.kind, m, r); err != nil {
		t.Fatalf("Lift %s: %v", c.kind, err)
	}
}

// want compares the measure that Status reads back; the order of ports is free.
func (c restricting) want(t *testing.T, what string, me flow.Measure, m flow.Mark) {
	t.Helper()
	got, ok := status(t, c.Fixture).Restricted(me.Kind)
	if !ok {
		t.Errorf("%s: no %s in force", what, me.Kind)
		return
	}
	if diff := gocmp.Diff(sorted(me), sorted(got.Measure)); diff != "" {
		t.Errorf("%s: measure read back (-want +got):\n%s", what, diff)
	}
	if got.Mark.Incident != m.Incident || got.Mark.Key != m.Key || got.Mark.By != m.By {
		t.Errorf("%s: mark read back %+v, want that of %s, key %s", what, got.Mark, m.Incident, m.Key)
	}
}

func sorted(me flow.Measure) flow.Measure {
	me.Ports = slices.SortedFunc(slices.Values(me.Ports), func(a, b flow.PortRule) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port))
	})
	return me
}

func inForce(t *testing.T, c restricting) {
	before, raw := status(t, c.Fixture), c.raw(t)
	if len(before.Restrictions) != 0 || before.Cut() {
		t.Fatalf("the fixture's NIC is not up and free: %+v", before)
	}
	m := Mark("inc-11")
	r := c.restrict(t, c.strong, m)
	if r.At.IsZero() || r.NIC.VDS != c.NIC.VDS {
		t.Errorf("Receipt = %+v, want a time and the NIC", r)
	}
	if diff := gocmp.Diff(before, r.Before); diff != "" {
		t.Errorf("Receipt.Before (-status before +receipt):\n%s", diff)
	}
	c.want(t, "in force", c.strong, m)
	st := status(t, c.Fixture)
	if st.Cut() || st.Mark != nil {
		t.Errorf("a %s shows as a cut: %+v", c.kind, st)
	}
	if diff := gocmp.Diff(st, r.After); diff != "" {
		t.Errorf("Receipt.After (-status +receipt):\n%s", diff)
	}
	c.lift(t, m, r)
	if diff := gocmp.Diff(before, status(t, c.Fixture)); diff != "" {
		t.Errorf("after Lift (-before +after):\n%s", diff)
	}
	wantRaw(t, c.Fixture, raw)
}

func repeatedRestrict(t *testing.T, c restricting) {
	before, m := c.raw(t), Mark("inc-12")
	first := c.restrict(t, c.strong, m)
	st, raw := status(t, c.Fixture), c.raw(t)
	again := c.restrict(t, c.strong, m)
	if diff := gocmp.Diff(st, status(t, c.Fixture)); diff != "" {
		t.Errorf("status after the repeat (-first +repeat):\n%s", diff)
	}
	wantRaw(t, c.Fixture, raw)
	if diff := gocmp.Diff(first.Before, again.Before); diff != "" {
		t.Errorf("Receipt.Before of the repeat (-first +repeat):\n%s", diff)
	}
	c.lift(t, m, again)
	c.wantFree(t, before)
}

func (c restricting) wantFree(t *testing.T, raw string) {
	t.Helper()
	if st := status(t, c.Fixture); len(st.Restrictions) != 0 || st.Cut() || st.Mark != nil {
		t.Errorf("after all is given back: %+v, want it up and free", st)
	}
	wantRaw(t, c.Fixture, raw)
}

func replaced(t *testing.T, c restricting) {
	raw, m := c.raw(t), Mark("inc-13")
	first := c.restrict(t, c.mild, m)
	c.want(t, "first", c.mild, m)
	m.Key = "inc-13-block-2"
	second := c.restrict(t, c.strong, m)
	c.want(t, "stronger", c.strong, m)
	if diff := gocmp.Diff(first.Before, second.Before); diff != "" {
		t.Errorf("Receipt.Before of the replacement (-first +second):\n%s", diff)
	}
	m.Key = "inc-13-block-3"
	third := c.restrict(t, c.mild, m)
	c.want(t, "milder again", c.mild, m)
	c.lift(t, m, third)
	c.wantFree(t, raw)
}

// liftedByFirst is the replacement whose receipt was lost by a restart.
func liftedByFirst(t *testing.T, c restricting) {
	raw, m := c.raw(t), Mark("inc-14")
	first := c.restrict(t, c.mild, m)
	c.restrict(t, c.strong, m)
	c.lift(t, m, first)
	c.wantFree(t, raw)
}

func repeatedLift(t *testing.T, c restricting) {
	raw, m := c.raw(t), Mark("inc-15")
	r := c.restrict(t, c.strong, m)
	c.lift(t, m, r)
	c.lift(t, m, r)
	c.wantFree(t, raw)
}

func foreignRestrict(t *testing.T, c restricting) {
	raw, ours, other := c.raw(t), Mark("inc-16"), Mark("inc-17")
	r := c.restrict(t, c.mild, ours)
	_, err := c.r.Restrict(t.Context(), c.NIC, c.strong, other)
	wantClass(t, "Restrict for another incident", err, flow.ErrConflict)
	wantClass(t, "Lift for another incident", c.r.Lift(t.Context(), c.NIC, c.kind, other, r), flow.ErrConflict)
	c.want(t, "after the refusals", c.mild, ours)
	c.lift(t, ours, r)
	c.wantFree(t, raw)
}

func cutOnTop(t *testing.T, c restricting, cutFirst bool) {
	raw, m := c.raw(t), Mark("inc-18")
	r := c.restrict(t, c.strong, m)
	mc := m
	mc.Key = "inc-18-cut"
	rc := cut(t, c.Fixture, mc)
	if st := status(t, c.Fixture); !st.Cut() || st.Mark == nil || st.Mark.Key != mc.Key {
		t.Errorf("after the cut: %+v, want it cut and marked", st)
	}
	c.want(t, "under the cut", c.strong, m)
	if cutFirst {
		if err := c.S.Restore(t.Context(), c.NIC, mc, rc); err != nil {
			t.Fatalf("Restore: %v", err)
		}
		if st := status(t, c.Fixture); st.Cut() || st.Mark != nil {
			t.Errorf("after Restore: %+v, want it up", st)
		}
		c.want(t, "after Restore", c.strong, m)
		c.lift(t, m, r)
	} else {
		c.lift(t, m, r)
		if st := status(t, c.Fixture); !st.Cut() || st.Mark == nil || len(st.Restrictions) != 0 {
			t.Errorf("after Lift: %+v, want it cut and nothing else", st)
		}
		if err := c.S.Restore(t.Context(), c.NIC, mc, rc); err != nil {
			t.Fatalf("Restore: %v", err)
		}
	}
	c.wantFree(t, raw)
}

func missingRestrict(t *testing.T, c restricting) {
	c.needMissing(t)
	m := Mark("inc-19")
	_, err := c.r.Restrict(t.Context(), c.Missing, c.strong, m)
	wantClass(t, "Restrict", err, flow.ErrNotFound)
	wantClass(t, "Lift", c.r.Lift(t.Context(), c.Missing, c.kind, m, flow.Receipt{}), flow.ErrNotFound)
}

func endedRestrict(t *testing.T, c restricting) {
	raw := c.raw(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.r.Restrict(ctx, c.NIC, c.strong, Mark("inc-20"))
	wantClass(t, "Restrict", err, flow.ErrTransient)
	c.wantFree(t, raw)
}

// sideBySide puts one measure of each kind in force and lifts them in the same order.
func sideBySide(t *testing.T, f Fixture, kinds []flow.MeasureKind) {
	raw, m := f.raw(t), Mark("inc-21")
	all := map[flow.MeasureKind]flow.Receipt{}
	c := restricting{Fixture: f, r: asRestrictor(t, f)}
	for _, k := range kinds {
		_, me := f.measures(k)
		all[k] = c.restrict(t, me, m)
	}
	for n, k := range kinds {
		for _, still := range kinds[n:] {
			_, me := f.measures(still)
			c.want(t, "before the lift of "+string(k), me, m)
		}
		c.kind = k
		c.lift(t, m, all[k])
	}
	c.wantFree(t, raw)
}

// refused is a measure without a bound, of an unknown kind, or without an owner.
func refused(t *testing.T, f Fixture) {
	raw, m := f.raw(t), Mark("inc-22")
	c := restricting{Fixture: f, r: asRestrictor(t, f)}
	port, _ := f.measures(flow.MeasureBlockPort)
	for what, me := range map[string]flow.Measure{
		"no ports": {Kind: flow.MeasureBlockPort}, "no limit": {Kind: flow.MeasureLimit},
	} {
		if _, err := c.r.Restrict(t.Context(), c.NIC, me, m); err == nil || Class(err) == "" || Class(err) == flow.ErrTransient {
			t.Errorf("%s: %v, want a refusal with a class that is not retried", what, err)
		}
	}
	for _, kind := range []flow.MeasureKind{"", "shout", flow.MeasureCut, flow.MeasureBlockPort, flow.MeasureLimit} {
		if slices.Contains(c.r.Measures(), kind) {
			continue
		}
		me := flow.Measure{Kind: kind, Ports: port.Ports, KbitS: 1000}
		_, err := c.r.Restrict(t.Context(), c.NIC, me, m)
		wantClass(t, "kind "+string(kind), err, flow.ErrUnsupported)
	}
	for _, kind := range c.r.Measures() {
		mild, _ := f.measures(kind)
		if _, err := c.r.Restrict(t.Context(), c.NIC, mild, flow.Mark{}); err == nil {
			t.Errorf("%s: a mark without incident was taken", kind)
		}
	}
	c.wantFree(t, raw)
}
