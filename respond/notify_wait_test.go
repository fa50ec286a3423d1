package respond

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// young hands in what is seen of an attack in its first seconds.
func (s *stage) young(a netip.Addr) {
	s.Helper()
	if err := s.c.Handle(s.Context(), time.Now(), []flow.Finding{early(a, time.Now())}); err != nil {
		s.Errorf("Handle: %v", err)
	}
	s.pass(0)
}

func (s *stage) mailed(want int) {
	s.Helper()
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if len(s.w.mail) != want {
		var got []string
		for _, m := range s.w.mail {
			got = append(got, m.notifier+" "+m.n.Kind)
		}
		s.Errorf("mails %v, want %d", got, want)
	}
}

// An attack that rises within the time is told of once: with the act.
func TestRisesBeforeItIsTold(t *testing.T) {
	play(t, enforce(), nil, func(s *stage) {
		for range 5 {
			s.young(tenantA)
			s.pass(5 * time.Second)
		}
		inc := s.state(tenantA, flow.StateOpen)
		if !strings.Contains(inc.Reason, "unless it soon rises") || len(inc.Evidence) != 0 {
			s.Errorf("reason %q, evidence %v", inc.Reason, inc.Evidence)
		}
		if n := len(s.kinds(inc.ID)); n != 1 {
			s.Errorf("%d events for the same finding again: %v", n, s.kinds(inc.ID))
		}
		s.mailed(0)
		s.find(tenantA)
		s.pass(time.Second)
		s.state(tenantA, flow.StateSuspended)
		s.pass(10 * time.Minute)
		if len(s.w.mails("staff", noticeSuspended)) != 1 || len(s.w.mails("customer", noticeSuspended)) != 1 {
			s.Errorf("mails %v", s.w.mail)
		}
		s.mailed(2)
	})
}

// A short scan that has ended is told when the time is over, not sooner, once,
// and with its evidence; after that it may still rise.
func TestEndedScanIsTold(t *testing.T) {
	for _, mode := range []flow.Mode{flow.ModeEnforce, flow.ModeApprove} {
		t.Run(string(mode), func(t *testing.T) {
			cfg := enforce()
			cfg.Modes[flow.RuleNetscan] = mode
			play(t, cfg, nil, func(s *stage) {
				opened := time.Now()
				s.young(tenantA)
				s.pass(2*time.Minute - time.Since(opened) - 5*time.Millisecond)
				s.state(tenantA, flow.StateOpen)
				s.pass(2 * time.Second)
				s.state(tenantA, flow.StateNotified)
				s.pass(time.Minute)
				s.mailed(2)
				if len(s.w.mails("customer", noticeNotified)) != 1 || s.w.cutCalls != 0 {
					s.Errorf("%d cuts, mails %v", s.w.cutCalls, s.w.mail)
				}
				for _, m := range s.w.mail {
					if m.n.Evidence.Rows != 20 || len(m.n.Evidence.Logs) != 3 {
						s.Errorf("notice with %d rows and %d logs", m.n.Evidence.Rows, len(m.n.Evidence.Logs))
					}
				}
				inc := s.of(tenantA)
				if !slices.Equal(inc.Evidence, []string{inc.ID}) {
					s.Errorf("evidence %v", inc.Evidence)
				}
				s.young(tenantA) // it goes on, or comes back: told once
				s.pass(5 * time.Minute)
				s.mailed(2)
				s.find(tenantA)
				s.pass(time.Minute)
				inc = s.of(tenantA)
				if want := map[flow.Mode]flow.State{flow.ModeEnforce: flow.StateVerified, flow.ModeApprove: flow.StateApproval}[mode]; inc.State != want {
					s.Errorf("state %s, want %s", inc.State, want)
				}
				if !slices.Equal(inc.Evidence, []string{inc.ID, inc.ID + "-2"}) {
					s.Errorf("evidence %v, want a stage for the notice and one for the act", inc.Evidence)
				}
			})
		})
	}
}

// The time counts from the first verdict that asks for a notice, not from the
// opening of an incident that was only recorded until then.
func TestNoticeWaitsFromItsFirstVerdict(t *testing.T) {
	play(t, enforce(), nil, func(s *stage) {
		f := early(tenantA, time.Now())
		f.Tier = flow.TierLog
		if err := s.c.Handle(s.Context(), time.Now(), []flow.Finding{f}); err != nil {
			s.Fatal(err)
		}
		s.pass(time.Hour)
		s.mailed(0)
		if inc := s.state(tenantA, flow.StateOpen); !strings.Contains(inc.Reason, "recorded only") {
			s.Errorf("reason %q", inc.Reason)
		}
		s.young(tenantA)
		s.pass(119 * time.Second)
		s.state(tenantA, flow.StateOpen)
		s.pass(2 * time.Second)
		s.state(tenantA, flow.StateNotified)
	})
}

// A finding that is no news beside what is recorded starts the clock, too.
func TestNoticeBesideAnExemptFinding(t *testing.T) {
	cfg := enforce()
	cfg.Exemptions = []Exemption{{Name: "pentest", Holder: "cust-a", Port: 443}}
	play(t, cfg, nil, func(s *stage) {
		f := scan(tenantA, time.Now())
		f.Port = 443
		if err := s.c.Handle(s.Context(), time.Now(), []flow.Finding{f}); err != nil {
			s.Fatal(err)
		}
		s.pass(5 * time.Second)
		s.young(tenantA) // within a minute, of the same rule and a lower tier; then never again
		s.pass(3 * time.Minute)
		s.state(tenantA, flow.StateNotified)
		s.mailed(2)
	})
}

func TestWaitingOverRestart(t *testing.T) {
	t.Run("in between", func(t *testing.T) {
		play(t, enforce(), nil, func(s *stage) {
			s.young(tenantA)
			s.pass(time.Minute)
			s.stop()
			s.start()
			s.pass(58 * time.Second)
			s.state(tenantA, flow.StateOpen) // the clock did not run out early
			s.pass(2 * time.Second)
			s.state(tenantA, flow.StateNotified) // and did not begin anew
			s.pass(time.Minute)
			s.mailed(2)
		})
	})
	t.Run("down for hours", func(t *testing.T) {
		play(t, enforce(), nil, func(s *stage) {
			s.young(tenantA)
			s.stop()
			s.pass(5 * time.Hour)
			// The address was given to another customer meanwhile.
			s.w.mu.Lock()
			h := s.w.holders[tenantA]
			h.Tenant, h.Contact, h.VDS = "cust-new", "new@example.org", "vds-new"
			s.w.holders[tenantA] = h
			s.w.mu.Unlock()
			s.start()
			s.pass(time.Minute)
			inc := s.state(tenantA, flow.StateNotified)
			s.mailed(2)
			for _, m := range s.w.mail {
				if m.n.Incident.Holder.Contact != "a@example.org" {
					s.Errorf("%s of another's abuse went to %s", m.n.Kind, m.n.Incident.Holder.Contact)
				}
				if m.n.Evidence.From.After(inc.Findings[0].From) {
					s.Errorf("evidence begins at %s, the finding at %s", m.n.Evidence.From, inc.Findings[0].From)
				}
			}
		})
	})
	t.Run("old findings tell but never act", func(t *testing.T) {
		cfg := enforce()
		cfg.Exemptions = []Exemption{{Name: "pentest", Holder: "cust-a", Port: 443, Expires: time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)}}
		play(t, cfg, nil, func(s *stage) {
			f := scan(tenantA, time.Now()) // worth a cut, but exempt
			f.Port = 443
			if err := s.c.Handle(s.Context(), time.Now(), []flow.Finding{f, early(tenantA, time.Now())}); err != nil {
				s.Fatal(err)
			}
			s.pass(time.Second)
			s.state(tenantA, flow.StateOpen)
			s.stop()
			s.pass(2 * time.Hour) // the exemption has expired
			s.start()
			s.pass(time.Minute)
			s.state(tenantA, flow.StateNotified)
			if s.w.cutCalls != 0 {
				s.Error("cut on findings of two hours ago")
			}
		})
	})
	t.Run("mode changed to observe", func(t *testing.T) {
		play(t, enforce(), nil, func(s *stage) {
			s.young(tenantA)
			s.stop()
			s.cfg = Config{}
			s.start()
			s.pass(time.Hour)
			s.state(tenantA, flow.StateOpen)
			s.mailed(0)
		})
	})
}

func TestNoticeThatDoesNotWait(t *testing.T) {
	t.Run("mode notify", func(t *testing.T) {
		play(t, Config{Modes: map[flow.Rule]flow.Mode{flow.RuleNetscan: flow.ModeNotify}}, nil, func(s *stage) {
			s.young(tenantA)
			s.state(tenantA, flow.StateNotified)
			s.pass(10 * time.Second)
			s.mailed(2)
		})
	})
	t.Run("closed by a person", func(t *testing.T) {
		play(t, enforce(), nil, func(s *stage) {
			s.young(tenantA)
			if err := s.c.Close(s.Context(), s.of(tenantA).ID, "anna", "our own scanner"); err != nil {
				s.Fatal(err)
			}
			s.pass(time.Hour)
			s.state(tenantA, flow.StateClosed)
			s.mailed(0)
		})
	})
	t.Run("exempt", func(t *testing.T) {
		cfg := enforce()
		cfg.Exemptions = []Exemption{{Name: "pentest", Holder: "cust-a"}}
		play(t, cfg, nil, func(s *stage) {
			s.young(tenantA)
			s.pass(time.Hour)
			s.state(tenantA, flow.StateOpen)
			s.mailed(0)
		})
	})
	t.Run("held", func(t *testing.T) {
		cfg := enforce()
		cfg.Protected.Tenants = []string{"cust-a"}
		play(t, cfg, nil, func(s *stage) {
			s.young(tenantA)
			s.find(tenantA)
			s.state(tenantA, flow.StateHeld)
			s.pass(time.Hour)
			s.state(tenantA, flow.StateHeld)
			s.mailed(1) // staff
		})
	})
}

// TestCrashWhileWaiting lets the process die at every point of a short scan's
// life: it is told of in the end, under one key, and nothing is cut.
func TestCrashWhileWaiting(t *testing.T) {
	run := func(t *testing.T, crashAt ...int) (points int) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.rows = scanRows()
			for _, n := range crashAt {
				w.crashAt[n] = true
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c, p, done := w.boot(ctx, enforce())
			for i := range 60 {
				if i < 4 {
					_ = c.Handle(ctx, time.Now(), []flow.Finding{early(tenantA, time.Now())}) // a dying process refuses
				}
				time.Sleep(5 * time.Second)
				synctest.Wait()
				w.mu.Lock()
				dead := p.dead
				w.mu.Unlock()
				if dead {
					<-done
					c, p, done = w.boot(ctx, enforce())
				}
			}
			list := c.Incidents(Filter{})
			if len(list) != 1 || list[0].State != flow.StateNotified || w.cutCalls+w.statusCalls != 0 {
				t.Errorf("%d hypervisor calls, incidents %+v", w.cutCalls+w.statusCalls, list)
			}
			for _, who := range []string{"staff", "customer"} {
				keys := w.mails(who, noticeNotified)
				if len(keys) < 1 || len(keys) > 1+len(crashAt) || len(slices.Compact(keys)) != 1 {
					t.Errorf("%s got %v", who, keys)
				}
			}
			for _, m := range w.mail {
				if m.n.Evidence.Rows != 20 {
					t.Errorf("notice to %s with %d rows", m.notifier, m.n.Evidence.Rows)
				}
			}
			points = w.points
			cancel()
			<-done
		})
		return points
	}
	points := run(t)
	if t.Failed() {
		return
	}
	if points < 12 {
		t.Fatalf("only %d crash points: the harness does not see the controller's work", points)
	}
	t.Logf("%d crash points", points)
	for n := 1; n <= points; n++ {
		for _, again := range []int{1, 2, 5} {
			t.Run(fmt.Sprintf("%d+%d", n, again), func(t *testing.T) { run(t, n, n+again) })
		}
	}
}
