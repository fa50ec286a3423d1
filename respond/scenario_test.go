package respond

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// stage is a running controller on a world, in a bubble.
type stage struct {
	*testing.T
	w    *world
	c    *Controller
	p    *proc
	done <-chan error
	cfg  Config
}

func play(t *testing.T, cfg Config, prepare func(*world), script func(*stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{T: t, w: newWorld(), cfg: cfg}
		s.w.rows = scanRows()
		if prepare != nil {
			prepare(s.w)
		}
		s.start()
		script(s)
		s.stop()
	})
}

func (s *stage) start() {
	s.c, s.p, s.done = s.w.boot(s.Context(), s.cfg)
	s.pass(0)
}

func (s *stage) stop() {
	s.p.die()
	if err := <-s.done; err != nil {
		s.Errorf("Run: %v", err)
	}
	synctest.Wait()
	s.replayed()
}

// pass lets time go by. All that changes the world holds its lock: taking it
// here orders what the script reads with what the processes do.
func (s *stage) pass(d time.Duration) {
	order := func() { s.w.mu.Lock(); defer s.w.mu.Unlock() }
	order()
	time.Sleep(d + time.Millisecond)
	synctest.Wait()
	order()
}

func (s *stage) find(tenants ...netip.Addr) {
	s.Helper()
	var fs []flow.Finding
	for _, a := range tenants {
		fs = append(fs, scan(a, time.Now()))
	}
	if err := s.c.Handle(s.Context(), time.Now(), fs); err != nil {
		s.Errorf("Handle: %v", err)
	}
	s.pass(0)
}

// of is the newest incident of a tenant.
func (s *stage) of(a netip.Addr) flow.Incident {
	s.Helper()
	list := s.c.Incidents(Filter{Tenant: a.String(), Limit: 1})
	if len(list) == 0 {
		s.Fatalf("no incident of %s", a)
	}
	return list[0]
}

func (s *stage) state(a netip.Addr, want flow.State) flow.Incident {
	s.Helper()
	inc := s.of(a)
	if inc.State != want {
		s.Fatalf("%s is %s (%s), want %s", a, inc.State, inc.Reason, want)
	}
	return inc
}

func (s *stage) kinds(id string) (out []string) {
	_, evs, _ := s.c.Incident(id)
	for _, ev := range evs {
		out = append(out, ev.Kind)
	}
	return out
}

func TestCutVerifiedReleased(t *testing.T) {
	play(t, enforce(), nil, func(s *stage) {
		s.find(tenantA)
		s.pass(100 * time.Millisecond)
		inc := s.state(tenantA, flow.StateSuspended)
		if !strings.HasPrefix(inc.ID, "FC-") || len(inc.ID) != 13 {
			s.Errorf("id %q", inc.ID)
		}
		n := s.w.nic(tenantA)
		if n.up || n.mark == nil || n.mark.Incident != inc.ID || n.mark.Key != inc.Action.Key || n.mark.By != "flowcordon" {
			s.Errorf("nic %+v", n)
		}
		if len(inc.Action.Receipts) != 1 || inc.Action.Receipts[0].Before.Config != flow.LinkUp || inc.Action.Receipts[0].After.Config != flow.LinkDown {
			s.Errorf("receipts %+v", inc.Action.Receipts)
		}
		s.pass(time.Minute)
		s.state(tenantA, flow.StateVerified)
		if err := s.c.Release(s.Context(), inc.ID, "anna", "  "); !errors.Is(err, ErrStatement) {
			s.Errorf("release without a statement: %v", err)
		}
		if err := s.c.Close(s.Context(), inc.ID, "anna", "done"); !errors.Is(err, ErrState) {
			s.Errorf("closing what is cut: %v", err)
		}
		if err := s.c.Release(s.Context(), inc.ID, "anna", "reinstalled"); err != nil {
			s.Fatal(err)
		}
		s.pass(time.Second)
		inc = s.state(tenantA, flow.StateReleased)
		if inc.Statement != "reinstalled" || inc.Restore == nil || inc.Restore.Done.IsZero() || inc.Action == nil || inc.Action.Verified.IsZero() {
			s.Errorf("released incident %+v", inc)
		}
		if err := s.c.Release(s.Context(), inc.ID, "anna", "again"); !errors.Is(err, ErrState) {
			s.Errorf("second release: %v", err)
		}
		want := []string{EventOpened, EventIntent, EventCalled, EventDone, EventVerified, EventIntent, EventCalled, EventReleased}
		got := slices.DeleteFunc(s.kinds(inc.ID), func(k string) bool { return k == EventEvidence || k == EventNoticeSent })
		if !slices.Equal(got, want) {
			s.Errorf("events %v, want %v", got, want)
		}
	})
}

// The long windows still hold the abuse that was dealt with: findings of them
// must not cut again; what comes after the release must.
func TestAfterRelease(t *testing.T) {
	play(t, enforce(), nil, func(s *stage) {
		s.find(tenantA)
		s.pass(time.Minute)
		first := s.state(tenantA, flow.StateVerified)
		if err := s.c.Release(s.Context(), first.ID, "anna", "reinstalled"); err != nil {
			s.Fatal(err)
		}
		s.pass(time.Second)
		released := s.state(tenantA, flow.StateReleased).Restore.Done
		old := func(from time.Time) {
			s.Helper()
			f := scan(tenantA, time.Now())
			f.From, f.WindowS = from, 1800
			if err := s.c.Handle(s.Context(), time.Now(), []flow.Finding{f}); err != nil {
				s.Fatal(err)
			}
			s.pass(time.Second)
		}
		for range 100 {
			old(first.Opened.Add(-time.Minute))
		}
		s.pass(25 * time.Minute)
		old(released.Add(10*time.Second - time.Nanosecond)) // just before the traffic settled
		if n := s.w.nic(tenantA); n.cuts != 1 || len(s.c.Incidents(Filter{})) != 1 {
			s.Fatalf("%d cuts, %d incidents: an old finding was acted on", n.cuts, len(s.c.Incidents(Filter{})))
		}
		s.stop() // and a restart does not forget it
		s.start()
		old(released.Add(-time.Second))
		if n := s.w.nic(tenantA); n.cuts != 1 {
			s.Fatal("an old finding was acted on after a restart")
		}
		old(released.Add(10 * time.Second)) // exactly from where it counts
		second := s.state(tenantA, flow.StateSuspended)
		if second.ID == first.ID || second.Prior != 1 || s.w.nic(tenantA).cuts != 2 {
			s.Errorf("second incident %s, prior %d", second.ID, second.Prior)
		}
	})
}

// A second address of a released server is judged by new data only, too, and
// while the server is cut it is held and not cut twice.
func TestTwoAddressesOneServer(t *testing.T) {
	play(t, enforce(), func(w *world) {
		h := w.holders[tenantA]
		h.Prefix = netip.PrefixFrom(tenantB, 32)
		w.holders[tenantB] = h
	}, func(s *stage) {
		s.find(tenantA, tenantB)
		s.pass(time.Minute)
		a := s.state(tenantA, flow.StateVerified)
		b := s.state(tenantB, flow.StateHeld)
		if !strings.Contains(b.Reason, a.ID) {
			s.Errorf("reason %q does not name %s", b.Reason, a.ID)
		}
		if err := s.c.Approve(s.Context(), b.ID, "anna", "both"); !errors.Is(err, ErrState) {
			s.Errorf("approving a second cut of one server: %v", err)
		}
		if err := s.c.Release(s.Context(), a.ID, "anna", "fixed"); err != nil {
			s.Fatal(err)
		}
		s.pass(time.Second)
		s.find(tenantB) // its minute began before the release
		s.state(tenantB, flow.StateHeld)
		s.pass(2 * time.Minute)
		s.find(tenantB)
		s.pass(time.Second)
		s.state(tenantB, flow.StateSuspended)
		if n := s.w.nic(tenantA); n.cuts != 2 || n.gives != 1 {
			s.Errorf("%d cuts, %d restores", n.cuts, n.gives)
		}
	})
}

func TestHeldAndApproved(t *testing.T) {
	cfg := enforce()
	cfg.Protected.Tenants = []string{"cust-b"}
	play(t, cfg, func(w *world) {
		h := w.holders[tenantA]
		h.Tags = []string{"shared"}
		w.holders[tenantA] = h
	}, func(s *stage) {
		for range 5 { // held once, told once
			s.find(tenantA, tenantB, tenantX)
			s.pass(5 * time.Second)
		}
		s.pass(time.Minute)
		for a, word := range map[netip.Addr]string{tenantA: "share", tenantB: "protected", tenantX: "who holds"} {
			inc := s.state(a, flow.StateHeld)
			if !strings.Contains(inc.Reason, word) {
				s.Errorf("%s: reason %q", a, inc.Reason)
			}
		}
		if len(s.w.mails("staff", noticeHeld)) != 3 || len(s.w.mail) != 3 {
			s.Errorf("%d mails, want one to staff for each and none to customers", len(s.w.mail))
		}
		if err := s.c.Approve(s.Context(), s.of(tenantB).ID, "anna", "I insist"); !errors.Is(err, ErrProtected) {
			s.Errorf("approving a protected tenant: %v", err)
		}
		if err := s.c.Approve(s.Context(), s.of(tenantX).ID, "anna", "I insist"); !errors.Is(err, ErrState) {
			s.Errorf("approving an unknown holder: %v", err)
		}
		if err := s.c.Approve(s.Context(), s.of(tenantA).ID, "anna", ""); !errors.Is(err, ErrReason) {
			s.Errorf("approving without a reason: %v", err)
		}
		if err := s.c.Approve(s.Context(), s.of(tenantA).ID, "anna", "all of its users are one customer"); err != nil {
			s.Fatal(err)
		}
		s.pass(time.Second)
		s.state(tenantA, flow.StateSuspended)
		if s.w.cutCalls != 1 {
			s.Errorf("%d cut calls", s.w.cutCalls)
		}
		_, evs, _ := s.c.Incident(s.of(tenantA).ID)
		i := slices.IndexFunc(evs, func(e flow.Event) bool { return e.Kind == EventIntent })
		if evs[i].Actor != "anna" || evs[i].Reason != string(ReasonApproved) || !strings.Contains(string(evs[i].Body), "one customer") {
			s.Errorf("intent %+v", evs[i])
		}
	})
}

func TestApprovalTimeout(t *testing.T) {
	cfg := Config{Modes: map[flow.Rule]flow.Mode{flow.RuleNetscan: flow.ModeApprove}, ApprovalTimeout: time.Hour}
	play(t, cfg, nil, func(s *stage) {
		s.find(tenantA)
		s.pass(59 * time.Minute)
		s.find(tenantA)
		s.state(tenantA, flow.StateApproval)
		s.pass(2 * time.Minute)
		inc := s.state(tenantA, flow.StateHeld)
		s.find(tenantA)
		s.state(tenantA, flow.StateHeld)
		s.pass(3 * time.Minute)
		if n := len(s.w.mails("staff", noticeHeld)); n != 2 || s.w.cutCalls != 0 {
			s.Errorf("%d mails to staff, want the question and the timeout; %d cuts", n, s.w.cutCalls)
		}
		if err := s.c.Approve(s.Context(), inc.ID, "anna", "late, but yes"); err != nil {
			s.Fatal(err)
		}
		s.pass(time.Second)
		s.state(tenantA, flow.StateSuspended)
	})
}

// The cap counts intents in the log, so a restart does not reset it, and a
// held incident acts when the hour is over.
func TestCapSurvivesRestart(t *testing.T) {
	cfg := enforce()
	cfg.MaxPerHour = 2
	play(t, cfg, nil, func(s *stage) {
		s.find(tenantA, tenantB, tenantC) // in one tick: the third sees the first two
		s.pass(time.Second)
		s.state(tenantB, flow.StateSuspended)
		s.state(tenantC, flow.StateHeld)
		s.stop()
		s.start()
		s.find(tenantC)
		s.state(tenantC, flow.StateHeld)
		s.pass(58 * time.Minute)
		s.find(tenantC)
		s.state(tenantC, flow.StateHeld)
		s.pass(2 * time.Minute)
		s.find(tenantC)
		s.pass(time.Second)
		s.state(tenantC, flow.StateSuspended)
		if n := len(s.w.mails("staff", noticeHeld)); n != 1 {
			s.Errorf("%d held mails, want 1", n)
		}
	})
}

func TestExemptIsRecorded(t *testing.T) {
	cfg := enforce()
	cfg.Exemptions = []Exemption{{Name: "pentest", Holder: "cust-a", Port: 22, Owner: "anna", Reason: "agreed test", Expires: time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)}}
	play(t, cfg, nil, func(s *stage) {
		s.find(tenantA)
		inc := s.state(tenantA, flow.StateOpen)
		if !strings.Contains(inc.Reason, "exemption") || s.c.ExemptionHits()["pentest"] != 1 {
			s.Errorf("reason %q, hits %v", inc.Reason, s.c.ExemptionHits())
		}
		s.stop()
		s.start()
		if s.c.ExemptionHits()["pentest"] != 1 || s.w.cutCalls != 0 || len(s.w.mail) != 0 {
			s.Errorf("hits %v, cuts %d, mails %d", s.c.ExemptionHits(), s.w.cutCalls, len(s.w.mail))
		}
		s.pass(time.Hour) // expired
		s.find(tenantA)
		s.pass(time.Second)
		s.state(tenantA, flow.StateSuspended)
	})
}

// An adapter that hangs and is deaf to its deadline frees the worker, and a
// late cut cannot land after the network was given back.
func TestHangingAdapter(t *testing.T) {
	var hang chan struct{} // made in the bubble, so that its clock goes on while calls wait for it
	cfg := enforce()
	cfg.Workers = 1
	play(t, cfg, func(w *world) { hang = make(chan struct{}); w.hang = hang }, func(s *stage) {
		s.find(tenantA)
		s.pass(11 * time.Second)
		s.w.mu.Lock()
		s.w.hang = nil // the next calls answer; the first still hangs
		s.w.mu.Unlock()
		s.find(tenantB)
		s.pass(5 * time.Second)
		s.state(tenantB, flow.StateSuspended) // the only worker was freed
		s.pass(30 * time.Second)
		inc := s.of(tenantA)
		if inc.State != flow.StateSuspended && inc.State != flow.StateVerified {
			s.Fatalf("state %s: a retry of the same kind must go through", inc.State)
		}
		if err := s.c.Release(s.Context(), inc.ID, "anna", "fixed"); err != nil {
			s.Fatal(err)
		}
		s.pass(5 * time.Second)
		inc = s.state(tenantA, flow.StateReleasing)
		if s.w.restoreCalls != 0 || !strings.Contains(inc.Restore.Error, "hang") {
			s.Errorf("%d restores while a cut hangs, error %q", s.w.restoreCalls, inc.Restore.Error)
		}
		close(hang)
		s.pass(2 * time.Minute)
		s.state(tenantA, flow.StateReleased)
		if n := s.w.nic(tenantA); n.cuts != 1 || n.gives != 1 || !n.up {
			s.Errorf("nic %+v", n)
		}
	})
}

func TestErrorClasses(t *testing.T) {
	fail := func(c flow.ErrClass, until int) func(int) error {
		return func(n int) error {
			if n <= until {
				return &flow.ActError{Class: c, Err: fmt.Errorf("call %d", n)}
			}
			return nil
		}
	}
	for _, tc := range []struct {
		class flow.ErrClass
		until int
		want  flow.State
		calls int
	}{
		{flow.ErrTransient, 3, flow.StateVerified, 4},
		{flow.ErrLocked, 2, flow.StateVerified, 3},
		{flow.ErrConflict, 1, flow.StateVerified, 2},
		{flow.ErrTransient, 99, flow.StateFailed, 10},
		{flow.ErrDenied, 99, flow.StateFailed, 1},
		{flow.ErrNotFound, 99, flow.StateFailed, notFoundTries},
		{flow.ErrUnsupported, 99, flow.StateFailed, 1},
	} {
		t.Run(fmt.Sprintf("%s %d", tc.class, tc.until), func(t *testing.T) {
			play(t, enforce(), func(w *world) { w.cutErr = fail(tc.class, tc.until) }, func(s *stage) {
				s.find(tenantA)
				s.pass(16 * time.Minute)
				inc := s.state(tenantA, tc.want)
				if s.w.cutCalls != tc.calls {
					s.Errorf("%d calls, want %d", s.w.cutCalls, tc.calls)
				}
				if tc.want != flow.StateFailed {
					return
				}
				if len(s.w.mails("staff", noticeFailed)) != 1 || len(s.w.mails("customer", noticeFailed)) != 0 || !strings.Contains(inc.Reason, "call") {
					s.Errorf("mails %v, reason %q", s.w.mail, inc.Reason)
				}
				s.find(tenantA) // more of the same changes nothing: a human must look
				s.pass(time.Minute)
				if s.w.cutCalls != tc.calls {
					s.Error("a failed act was repeated without a human")
				}
				s.w.mu.Lock()
				s.w.cutErr = nil
				s.w.mu.Unlock()
				if err := s.c.Approve(s.Context(), inc.ID, "anna", "try again"); err != nil {
					s.Fatal(err)
				}
				s.pass(time.Minute)
				if again := s.state(tenantA, flow.StateVerified); again.Action.Key == inc.Action.Key {
					s.Error("a new act has the key of the old one")
				}
			})
		})
	}
}

// While the log is away nothing is called, and nothing that was done is lost.
func TestLogAway(t *testing.T) {
	play(t, enforce(), nil, func(s *stage) {
		s.w.mu.Lock()
		s.w.logDown = true
		s.w.mu.Unlock()
		err := s.c.Handle(s.Context(), time.Now(), []flow.Finding{scan(tenantA, time.Now())})
		if !errors.Is(err, ErrLogAway) {
			s.Errorf("Handle: %v", err)
		}
		s.pass(time.Minute)
		if s.w.cutCalls+s.w.statusCalls != 0 || len(s.c.Incidents(Filter{})) != 0 {
			s.Fatal("a call was made, or an incident shown, that is not stored")
		}
		s.w.mu.Lock()
		s.w.logDown = false
		s.w.mu.Unlock()
		s.pass(10 * time.Second)
		s.state(tenantA, flow.StateSuspended) // what was decided is not lost
		s.pass(time.Minute)
		inc := s.state(tenantA, flow.StateVerified)

		// Away between a call and its outcome: kept until stored.
		s.w.mu.Lock()
		s.w.restoreErr = func(int) error { s.w.logDown = true; return nil }
		s.w.mu.Unlock()
		if err := s.c.Release(s.Context(), inc.ID, "anna", "fixed"); err != nil {
			s.Fatal(err)
		}
		s.pass(time.Minute)
		s.state(tenantA, flow.StateReleasing)
		s.w.mu.Lock()
		s.w.logDown = false
		s.w.mu.Unlock()
		s.pass(10 * time.Second)
		s.state(tenantA, flow.StateReleased)
		if s.w.restoreCalls != 1 || s.w.cutCalls != 1 {
			s.Errorf("%d cuts, %d restores", s.w.cutCalls, s.w.restoreCalls)
		}
	})
}

func TestVerification(t *testing.T) {
	t.Run("traffic goes on", func(t *testing.T) {
		play(t, enforce(), func(w *world) { w.sends[tenantA] = true }, func(s *stage) {
			s.find(tenantA)
			s.pass(3 * time.Minute)
			s.state(tenantA, flow.StateSuspended)
			s.pass(time.Minute)
			inc := s.state(tenantA, flow.StateUnverified)
			s.pass(5 * time.Second)
			if len(s.w.mails("staff", noticeUnverified)) != 1 || !strings.Contains(inc.Reason, "still seen") {
				s.Errorf("mails %v, reason %q", s.w.mails("staff", noticeUnverified), inc.Reason)
			}
			s.w.mu.Lock()
			s.w.sends[tenantA] = false
			s.w.mu.Unlock()
			s.pass(10 * time.Minute)
			s.state(tenantA, flow.StateVerified)
		})
	})
	t.Run("nobody is heard", func(t *testing.T) {
		stopped := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
		play(t, enforce(), func(w *world) { w.fleet = func() time.Time { return stopped } }, func(s *stage) {
			s.find(tenantA)
			s.pass(30 * time.Minute)
			inc := s.state(tenantA, flow.StateSuspended)
			if !strings.Contains(inc.Reason, "no flow data") {
				s.Errorf("reason %q", inc.Reason)
			}
			if n := len(s.kinds(inc.ID)); n > 10 {
				s.Errorf("%d events while waiting: %v", n, s.kinds(inc.ID))
			}
			s.w.mu.Lock()
			s.w.fleet = time.Now
			s.w.mu.Unlock()
			s.pass(10 * time.Second)
			s.state(tenantA, flow.StateVerified)
		})
	})
}

// permanently is an error that no retry helps.
type permanently struct{}

func (permanently) Error() string   { return "no such mailbox" }
func (permanently) Permanent() bool { return true }

func TestNotices(t *testing.T) {
	play(t, enforce(), func(w *world) {
		w.notifyErr = func(name string, n int) error {
			switch {
			case name == "customer":
				return permanently{}
			case n < 8:
				return errors.New("451 later")
			}
			return nil
		}
	}, func(s *stage) {
		s.find(tenantA)
		s.pass(time.Minute)
		s.stop() // owed notices survive
		s.start()
		s.pass(20 * time.Minute)
		inc := s.of(tenantA)
		if len(s.w.mails("staff", noticeSuspended)) != 1 {
			s.Errorf("staff mails %v", s.w.mail)
		}
		kinds := s.kinds(inc.ID)
		if n := len(slices.DeleteFunc(slices.Clone(kinds), func(k string) bool { return k != EventNoticeFailed })); n != 1 {
			s.Errorf("%d notices given up, want the customer's: %v", n, kinds)
		}
	})
}

// A steady abuse must not fill the log.
func TestCoalesced(t *testing.T) {
	cfg := Config{Modes: map[flow.Rule]flow.Mode{flow.RuleNetscan: flow.ModeNotify}}
	play(t, cfg, nil, func(s *stage) {
		for i := range 720 { // an hour of ticks
			f := scan(tenantA, time.Now())
			f.Score = 400 + float64(i%7)
			f.Port = uint16(22 + i%3)
			if err := s.c.Handle(s.Context(), time.Now(), []flow.Finding{f}); err != nil {
				s.Fatal(err)
			}
			s.pass(5 * time.Second)
		}
		inc := s.state(tenantA, flow.StateNotified)
		if n := len(s.kinds(inc.ID)); n > 20 {
			s.Errorf("%d events in an hour", n)
		}
		if len(inc.Findings) != 3 || inc.Findings[0].Score != 406 {
			s.Errorf("findings %+v", inc.Findings)
		}
		if len(s.w.mails("customer", noticeNotified)) != 1 {
			s.Errorf("%d mails", len(s.w.mail))
		}
		s.pass(25 * time.Hour)
		if inc := s.state(tenantA, flow.StateClosed); !strings.Contains(inc.Reason, "no findings") {
			s.Errorf("reason %q", inc.Reason)
		}
	})
}

// An administrator had the link down already, and somebody else marked it: we
// give back what was there, and touch nothing that is not ours.
func TestRestoresOnlyOurs(t *testing.T) {
	t.Run("was down before", func(t *testing.T) {
		play(t, enforce(), func(w *world) { n := w.nics["52:54:00:00:00:0a"]; n.configUp = false }, func(s *stage) {
			s.find(tenantA)
			s.pass(time.Minute)
			if err := s.c.Release(s.Context(), s.state(tenantA, flow.StateVerified).ID, "anna", "ok"); err != nil {
				s.Fatal(err)
			}
			s.pass(time.Second)
			s.state(tenantA, flow.StateReleased)
			if n := s.w.nic(tenantA); !n.up || n.configUp {
				s.Errorf("up %t, config up %t: want the state before", n.up, n.configUp)
			}
		})
	})
	t.Run("mark of another", func(t *testing.T) {
		play(t, enforce(), func(w *world) { w.nics["52:54:00:00:00:0a"].mark = &flow.Mark{Incident: "FC-OTHER"} }, func(s *stage) {
			s.find(tenantA)
			s.pass(20 * time.Minute)
			if inc := s.state(tenantA, flow.StateFailed); s.w.cutCalls != 0 || !strings.Contains(inc.Reason, "FC-OTHER") {
				s.Errorf("%d cuts, reason %q", s.w.cutCalls, inc.Reason)
			}
		})
	})
	t.Run("taken over by somebody", func(t *testing.T) {
		play(t, enforce(), nil, func(s *stage) {
			s.find(tenantA)
			s.pass(time.Minute)
			inc := s.state(tenantA, flow.StateVerified)
			s.w.mu.Lock()
			s.w.nics["52:54:00:00:00:0a"].mark = nil // an admin removed it and keeps the link down
			s.w.mu.Unlock()
			if err := s.c.Release(s.Context(), inc.ID, "anna", "ok"); err != nil {
				s.Fatal(err)
			}
			s.pass(time.Second)
			failed := s.state(tenantA, flow.StateFailed)
			if s.w.restoreCalls != 0 || !strings.Contains(failed.Reason, "does not carry our mark") {
				s.Errorf("%d restores, reason %q", s.w.restoreCalls, failed.Reason)
			}
			if err := s.c.Close(s.Context(), inc.ID, "anna", "restored by hand"); err != nil {
				s.Error(err)
			}
		})
	})
}

// A release during the attempts ends them, wherever the cut stands.
func TestReleaseWhileSuspending(t *testing.T) {
	play(t, enforce(), func(w *world) {
		w.cutErr = func(int) error { return &flow.ActError{Class: flow.ErrLocked, Err: errors.New("migrating")} }
	}, func(s *stage) {
		s.find(tenantA)
		s.pass(5 * time.Second)
		inc := s.state(tenantA, flow.StateSuspending)
		calls := s.w.cutCalls
		if err := s.c.Release(s.Context(), inc.ID, "anna", "a mistake"); err != nil {
			s.Fatal(err)
		}
		s.pass(10 * time.Minute)
		s.state(tenantA, flow.StateReleased)
		if n := s.w.nic(tenantA); s.w.cutCalls > calls+1 || n.cuts != 0 || !n.up {
			s.Errorf("%d calls after the release, nic %+v", s.w.cutCalls-calls, n)
		}
	})
}

func TestOrdersOfNothing(t *testing.T) {
	c := New(Config{}, Deps{})
	if err := c.Release(context.Background(), "FC-X", "a", "b"); !errors.Is(err, errNotLoaded) {
		t.Errorf("release before the log is loaded: %v", err)
	}
	if err := c.Run(t.Context()); !errors.Is(err, errNotLoaded) {
		t.Errorf("run before the log is loaded: %v", err)
	}
	play(t, enforce(), nil, func(s *stage) {
		for name, err := range map[string]error{
			"release": s.c.Release(s.Context(), "FC-X", "a", "b"), "approve": s.c.Approve(s.Context(), "FC-X", "a", "b"), "close": s.c.Close(s.Context(), "FC-X", "a", "b"),
		} {
			if !errors.Is(err, ErrNotFound) {
				s.Errorf("%s: %v", name, err)
			}
		}
	})
}
