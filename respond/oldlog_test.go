package respond

import (
	"bufio"
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

var cmpAddrs = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func readLog(t *testing.T, name string) (out []flow.Event) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var ev flow.Event
		if err := json.Unmarshal(in.Bytes(), &ev); err != nil {
			t.Fatal(err)
		}
		out = append(out, ev)
	}
	if err := in.Err(); err != nil || len(out) == 0 {
		t.Fatalf("%d events, %v", len(out), err)
	}
	return out
}

// A log of the release before the ladder loads, says the same, and is worked
// on: what it cut is given back, and what it released counts as an offence.
func TestOldLog(t *testing.T) {
	cfg := climbing()
	cfg.Probation, cfg.RefuseAfter = time.Hour, 2
	play(t, cfg, func(w *world) {
		w.events = readLog(t, "testdata/log/before-the-ladder.jsonl")
		last := w.events[len(w.events)-1].Time
		time.Sleep(time.Until(last) + time.Minute)
		b := w.nics["52:54:00:00:00:0b"]
		var held string
		for _, ev := range w.events {
			if ev.Kind == EventIntent && ev.Reason == string(ReasonEnforce) {
				held = ev.Incident // the last cut is tenant B's
			}
		}
		b.up, b.configUp, b.mark = false, false, &flow.Mark{Incident: held, Key: held + "-suspend-1", By: "flowcordon"}
	}, func(s *stage) {
		for a, want := range map[netip.Addr]flow.State{
			tenantA: flow.StateReleased, tenantB: flow.StateVerified, tenantC: flow.StateApproval, tenantX: flow.StateHeld,
		} {
			inc := s.state(a, want)
			if inc.Action != nil && (inc.Action.Taken() != flow.MeasureCut || inc.Action.Measure.Kind != "") {
				t.Errorf("%s: the old action is a %s", a, inc.Action.Taken())
			}
		}
		if s.w.cutCalls+s.w.restrictCalls != 0 || len(s.c.Freezes()) != 0 {
			t.Errorf("%d calls after the start", s.w.cutCalls+s.w.restrictCalls)
		}
		if err := s.c.Approve(s.Context(), s.of(tenantC).ID, "anna", "yes"); err != nil {
			t.Fatal(err)
		}
		if err := s.c.Release(s.Context(), s.of(tenantB).ID, "anna", "fixed"); err != nil {
			t.Fatal(err)
		}
		s.pass(time.Second)
		s.state(tenantB, flow.StateReleased)
		s.state(tenantC, flow.StateSuspended)
		if n := s.w.nic(tenantC); n.up { // what was asked for then was a cut
			t.Errorf("nic %+v", n)
		}
		s.pass(2 * time.Minute)
		s.find(tenantA)
		s.pass(time.Second)
		if inc := s.of(tenantA); !inc.Refuse || !inc.Probation {
			t.Errorf("the old release does not count: %+v", inc)
		}
		// Undo knows the old automatic acts: A's was given back, so was B's.
		did, err := s.c.Undo(s.Context(), time.Time{}, "anna", "all of it")
		if err != nil || len(did.GivingBack) != 1 || len(did.Before) != 2 {
			t.Errorf("undo %+v, %v", did, err)
		}
	})
}

// What a later release stores is kept and changes nothing here.
func TestLaterLog(t *testing.T) {
	evs := readLog(t, "testdata/log/before-the-ladder.jsonl")
	old := newState(nil)
	for _, ev := range evs {
		if err := old.fold(ev); err != nil {
			t.Fatal(err)
		}
	}
	id := evs[0].Incident
	want := old.recs[id].inc
	ev := flow.Event{
		Seq: evs[len(evs)-1].Seq + 1, Time: evs[len(evs)-1].Time, Incident: id, Kind: "reconsidered_by_committee", Actor: "x",
		Reason: "unheard_of", Body: json.RawMessage(`{"votes":{"for":3},"measure":{"kind":"teleport","where":"mars"}}`),
	}
	if err := old.fold(ev); err != nil {
		t.Fatal(err)
	}
	got := old.recs[id].inc
	got.Updated, got.Seq = want.Updated, want.Seq
	if d := cmp.Diff(want, got, cmpAddrs); d != "" {
		t.Errorf("an unknown event changed the incident (-want +got):\n%s", d)
	}
}

// replayed checks that the log alone gives every incident again.
func (s *stage) replayed() {
	s.Helper()
	s.w.mu.Lock()
	evs := slices.Clone(s.w.events)
	s.w.mu.Unlock()
	st := newState(nil)
	for _, ev := range evs {
		if err := st.fold(ev); err != nil {
			s.Fatal(err)
		}
	}
	for id, r := range s.c.st.recs {
		if d := cmp.Diff(r.inc, st.recs[id].inc, cmpAddrs); d != "" {
			s.Errorf("the log gives another %s (-held +replayed):\n%s", id, d)
		}
	}
	if d := cmp.Diff(s.c.st.freezesNow(), st.freezesNow()); d != "" {
		s.Errorf("freezes (-held +replayed):\n%s", d)
	}
}
