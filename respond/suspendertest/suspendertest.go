// Package suspendertest holds what every suspender must do, whatever is behind
// it: one suite, run by each adapter's tests over the real thing. It imports
// flow and testing, and is imported by tests only.
package suspendertest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/google/go-cmp/cmp"
)

// Suspender is what the controller calls.
type Suspender interface {
	Name() string
	Status(ctx context.Context, nic flow.NIC) (flow.NICStatus, error)
	Cut(ctx context.Context, nic flow.NIC, m flow.Mark) (flow.Receipt, error)
	Restore(ctx context.Context, nic flow.NIC, m flow.Mark, r flow.Receipt) error
}

// Fixture is an adapter with a NIC to try it on.
type Fixture struct {
	S       Suspender
	NIC     flow.NIC // exists, is up and carries no mark
	Missing flow.NIC // does not exist; zero where the product knows no NICs (BGP)

	// Of RunRestrictor. Kinds are the measures to try, empty: all that
	// Measures names. Ports are the block to try, empty: TCP 22, UDP 53 and
	// ICMP for both families; the suite blocks one less at first.
	Kinds []flow.MeasureKind
	Ports []flow.PortRule
	// Raw reads the NIC as the product has it, with all that the adapter does
	// not know of, past the adapter and without our mark's place. Set, it must
	// be the same after a measure is given back as before.
	Raw func(t *testing.T) string

	// Of RunWatcher: Change changes the NIC's server as its panel or owner would.
	Change func(t *testing.T)
	// Of RunDescriber: what no description may hold.
	Secrets []string
}

func (f Fixture) raw(t *testing.T) string {
	t.Helper()
	if f.Raw == nil {
		return ""
	}
	return f.Raw(t)
}

func (f Fixture) needMissing(t *testing.T) {
	t.Helper()
	if f.Missing == (flow.NIC{}) {
		t.Skip("the product knows no NICs, so none can be missing")
	}
}

// Mark is a mark for the incident with made-up but plausible fields.
func Mark(incident string) flow.Mark {
	return flow.Mark{
		Incident: incident, Key: incident + "-suspend", By: "flowcordon",
		Reason: `netscan: 312 hosts on TCP/22 in 60 s <"quoted" & 'all'>`,
		At:     time.Date(2026, 11, 22, 7, 0, 0, 123456789, time.UTC),
	}
}

// Class is the class of an error, empty if it has none.
func Class(err error) flow.ErrClass {
	var ae *flow.ActError
	if errors.As(err, &ae) {
		return ae.Class
	}
	return ""
}

// Run runs the suite. fresh is called for each case and gives a NIC that is up.
func Run(t *testing.T, fresh func(t *testing.T) Fixture) {
	for name, f := range map[string]func(*testing.T, Fixture){
		"cut, read back, restore, read back": roundTrip,
		"a repeated cut keeps the first":     repeatedCut,
		"a repeated restore is no error":     repeatedRestore,
		"a foreign mark is refused":          foreignMark,
		"a missing NIC is not found":         missing,
		"an ended context is no answer":      endedContext,
	} {
		t.Run(name, func(t *testing.T) { f(t, fresh(t)) })
	}
}

func status(t *testing.T, f Fixture) flow.NICStatus {
	t.Helper()
	st, err := f.S.Status(t.Context(), f.NIC)
	if err != nil {
		t.Fatalf("Status: %v", err)
	}
	return st
}

func cut(t *testing.T, f Fixture, m flow.Mark) flow.Receipt {
	t.Helper()
	r, err := f.S.Cut(t.Context(), f.NIC, m)
	if err != nil {
		t.Fatalf("Cut: %v", err)
	}
	return r
}

func wantClass(t *testing.T, what string, err error, want flow.ErrClass) {
	t.Helper()
	if got := Class(err); got != want {
		t.Errorf("%s: class %q (%v), want %q", what, got, err, want)
	}
}

func roundTrip(t *testing.T, f Fixture) {
	before, raw := status(t, f), f.raw(t)
	if before.Cut() || before.Mark != nil {
		t.Fatalf("the fixture's NIC is not up and unmarked: %+v", before)
	}
	m := Mark("inc-1")
	r := cut(t, f, m)
	if diff := cmp.Diff(before, r.Before); diff != "" {
		t.Errorf("Receipt.Before (-status before +receipt):\n%s", diff)
	}
	if r.At.IsZero() || r.NIC.VDS != f.NIC.VDS {
		t.Errorf("Receipt = %+v, want a time and the NIC", r)
	}
	st := status(t, f)
	if !st.Cut() {
		t.Errorf("after Cut: %+v, want it cut", st)
	}
	if diff := cmp.Diff(&m, st.Mark); diff != "" {
		t.Errorf("mark read back (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(st, r.After); diff != "" {
		t.Errorf("Receipt.After (-status +receipt):\n%s", diff)
	}
	if err := f.S.Restore(t.Context(), f.NIC, m, r); err != nil {
		t.Fatalf("Restore: %v", err)
	}
	if diff := cmp.Diff(before, status(t, f)); diff != "" {
		t.Errorf("after Restore (-before +after):\n%s", diff)
	}
	wantRaw(t, f, raw)
}

func wantRaw(t *testing.T, f Fixture, want string) {
	t.Helper()
	if diff := cmp.Diff(want, f.raw(t)); diff != "" {
		t.Errorf("the NIC at the product is not what it was (-before +after):\n%s", diff)
	}
}

func repeatedCut(t *testing.T, f Fixture) {
	m := Mark("inc-2")
	first := cut(t, f, m)
	again := cut(t, f, m)
	if diff := cmp.Diff(first.Before, again.Before); diff != "" {
		t.Errorf("Receipt.Before of the repeat (-first +repeat):\n%s", diff)
	}
	if err := f.S.Restore(t.Context(), f.NIC, m, again); err != nil {
		t.Fatalf("Restore: %v", err)
	}
	if diff := cmp.Diff(first.Before, status(t, f)); diff != "" {
		t.Errorf("after Restore (-before +after):\n%s", diff)
	}
}

// repeatedRestore is the call whose answer was lost by a restart.
func repeatedRestore(t *testing.T, f Fixture) {
	m := Mark("inc-3")
	r := cut(t, f, m)
	for range 2 {
		if err := f.S.Restore(t.Context(), f.NIC, m, r); err != nil {
			t.Fatalf("Restore: %v", err)
		}
	}
	if st := status(t, f); st.Cut() || st.Mark != nil {
		t.Errorf("after both restores: %+v", st)
	}
}

func foreignMark(t *testing.T, f Fixture) {
	ours, other := Mark("inc-4"), Mark("inc-5")
	r := cut(t, f, ours)
	wantClass(t, "Restore for another incident", f.S.Restore(t.Context(), f.NIC, other, r), flow.ErrConflict)
	_, err := f.S.Cut(t.Context(), f.NIC, other)
	wantClass(t, "Cut for another incident", err, flow.ErrConflict)
	st := status(t, f)
	if !st.Cut() || st.Mark == nil || st.Mark.Incident != ours.Incident {
		t.Errorf("after the refusals: %+v, want it cut for %s as before", st, ours.Incident)
	}
	if err := f.S.Restore(t.Context(), f.NIC, ours, r); err != nil {
		t.Errorf("Restore by the owner: %v", err)
	}
}

func missing(t *testing.T, f Fixture) {
	f.needMissing(t)
	m := Mark("inc-6")
	_, err := f.S.Status(t.Context(), f.Missing)
	wantClass(t, "Status", err, flow.ErrNotFound)
	_, err = f.S.Cut(t.Context(), f.Missing, m)
	wantClass(t, "Cut", err, flow.ErrNotFound)
	wantClass(t, "Restore", f.S.Restore(t.Context(), f.Missing, m, flow.Receipt{}), flow.ErrNotFound)
}

func endedContext(t *testing.T, f Fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.S.Cut(ctx, f.NIC, Mark("inc-7"))
	wantClass(t, "Cut", err, flow.ErrTransient)
	if st := status(t, f); st.Cut() {
		t.Errorf("cut although the context had ended: %+v", st)
	}
}
