package respond

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// The cut that was to replace a block fails, and the panel undoes the block: it
// is taken up again, within the minute or when the hypervisor tells of the
// change, and a release gives it back to what was there before the first.
func TestUpheldWhileEscalationFails(t *testing.T) {
	for name, cutErr := range map[string]error{
		"failed for good": &flow.ActError{Class: flow.ErrDenied, Err: errString("no right to do that")},
		"still tried":     &flow.ActError{Class: flow.ErrLocked, Err: errString("backup")},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, climbing(), func(w *world) {
				w.cutErr = func(int) error { return cutErr }
				w.changes = make(chan string, 1)
			}, func(s *stage) {
				s.attack(3*time.Minute, onPort(22))
				want := flow.StateFailed
				if name == "still tried" {
					want = flow.StateSuspending
				}
				inc := s.state(tenantA, want)
				for _, tell := range []bool{false, true} {
					s.change(func(w *world) { w.nics[macA].restrictions = nil })
					if tell {
						s.w.changes <- "vds-a"
						s.pass(2 * time.Second)
					} else {
						s.pass(time.Minute + time.Second)
					}
					r, ok := s.w.restricted(flow.MeasureBlockPort)
					if !ok || !slices.Equal(r.Measure.Ports, []flow.PortRule{tcp22}) || r.Mark.Incident != inc.ID {
						s.Fatalf("told %t: the block was not taken up again: %+v", tell, s.w.nic(tenantA))
					}
				}
				if n := s.w.nic(tenantA); n.takes != 3 || n.cuts != 0 || s.w.redundant != 0 {
					s.Errorf("nic %+v, %d redundant calls", n, s.w.redundant)
				}
				if s.state(tenantA, want); len(s.w.mails("customer", noticeRestricted)) != 1 {
					s.Errorf("mails %v: what is taken up again is no news", s.w.mails("customer", noticeRestricted))
				}
				if err := s.c.Release(s.Context(), inc.ID, "anna", "fixed"); err != nil {
					s.Fatal(err)
				}
				s.pass(5 * time.Second)
				s.state(tenantA, flow.StateReleased)
				if n := s.w.nic(tenantA); len(n.restrictions) != 0 || !n.up || n.mark != nil {
					s.Errorf("after the release: %+v", n)
				}
				s.change(func(w *world) { w.nics[macA].restrictions = nil })
				s.pass(5 * time.Minute)
				if n := s.w.nic(tenantA); len(n.restrictions) != 0 {
					s.Errorf("taken up again after the release: %+v", n)
				}
			})
		})
	}
}

// What an incident says of a measure names the measure.
func TestReasonsOfMilderMeasures(t *testing.T) {
	play(t, climbing(), nil, func(s *stage) {
		s.attack(5*time.Second, onPort(22))
		if inc := s.state(tenantA, flow.StateSuspended); !strings.Contains(inc.Reason, "blocking outgoing connections to TCP port 22") {
			s.Errorf("suspended: %q", inc.Reason)
		}
		s.pass(time.Minute)
		inc := s.state(tenantA, flow.StateVerified)
		if inc.Reason != "blocked, and no outgoing connections to TCP port 22 are seen" {
			s.Errorf("verified: %q", inc.Reason)
		}
		s.change(func(w *world) { w.liftErr = func(int) error { return act(flow.ErrLocked, "backup") } })
		if err := s.c.Release(s.Context(), inc.ID, "anna", "fixed"); err != nil {
			s.Fatal(err)
		}
		s.pass(time.Second)
		if inc := s.state(tenantA, flow.StateReleasing); inc.Reason != "the network is being given back" {
			s.Errorf("releasing: %q", inc.Reason)
		}
	})
	t.Run("the cut says what it did", func(t *testing.T) {
		play(t, enforce(), nil, func(s *stage) {
			s.find(tenantA)
			s.pass(time.Minute)
			if inc := s.state(tenantA, flow.StateVerified); inc.Reason != "cut, and no outgoing packets are seen" {
				s.Errorf("%q", inc.Reason)
			}
		})
	})
	a := func(m flow.Measure) flow.Action { return flow.Action{Kind: kindSuspend, Measure: m} }
	two := flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{tcp22, {Proto: flow.ProtoUDP, Port: 53}, {Proto: 47}}}
	for _, tc := range []struct {
		reason Reason
		a      flow.Action
		b      body
		want   string
	}{
		{ReasonStillSending, a(two), body{Detail: "7 packets"}, "the hypervisor reads back as blocking, but outgoing packets to TCP port 22, UDP port 53, IP protocol 47 are still seen: 7 packets"},
		{ReasonActFailed, a(flow.Measure{Kind: flow.MeasureLimit, KbitS: 512}), body{Error: "denied"}, "outgoing traffic could not be limited to 512 kbit/s: denied"},
		{ReasonActFailed, a(flow.Measure{Kind: flow.MeasureCut}), body{Error: "denied"}, "the network could not be cut: denied"},
		{ReasonRestoreFailed, flow.Action{Kind: kindRestore}, body{}, "the network could not be given back"},
	} {
		if got := say(toldAct(tc.reason, tc.a, tc.b)); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

// What windows still count is told to who judges them.
func TestFresh(t *testing.T) {
	play(t, climbing(), nil, func(s *stage) {
		if !s.c.Fresh(tenantA, time.Now().Add(-time.Hour)) || !s.c.Fresh(tenantX, time.Now().Add(-time.Hour)) {
			s.Error("without an incident all counts")
		}
		s.attack(5*time.Second, onPort(22))
		edge := s.state(tenantA, flow.StateSuspended).Action.Done.Add(s.c.cfg.Settle)
		if s.c.Fresh(tenantA, edge.Add(-time.Nanosecond)) || !s.c.Fresh(tenantA, edge) || !s.c.Fresh(tenantB, time.Now().Add(-time.Hour)) {
			s.Error("what was sent before the measure counts, or what came after does not")
		}
		if err := s.c.Release(s.Context(), s.of(tenantA).ID, "anna", "fixed"); err != nil {
			s.Fatal(err)
		}
		s.pass(time.Minute)
		edge = s.state(tenantA, flow.StateReleased).Restore.Done.Add(s.c.cfg.Settle)
		if s.c.Fresh(tenantA, edge.Add(-time.Nanosecond)) || !s.c.Fresh(tenantA, edge) {
			s.Error("what was sent before the release counts, or what came after does not")
		}
	})
}
