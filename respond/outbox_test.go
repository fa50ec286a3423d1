package respond

import (
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// busyReceiver is what a receiver that asks to wait answers.
type busyReceiver time.Duration

func (busyReceiver) Error() string               { return "busy" }
func (b busyReceiver) RetryAfter() time.Duration { return time.Duration(b) }

// A receiver that asks for quiet is not asked sooner, and soon after.
func TestRetryAfterIsRespected(t *testing.T) {
	for _, tc := range []struct {
		name        string
		after       time.Duration
		least, most time.Duration // between the two tries
	}{
		{"minutes", 7 * time.Minute, 7 * time.Minute, 7*time.Minute + 2*time.Second},
		{"less than our own wait", time.Millisecond, time.Second, 3 * time.Second},
		{"a day is too much", 24 * time.Hour, time.Hour, time.Hour + 2*time.Second},
		{"it says nothing", 0, time.Second, 3 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var tries []time.Time
			play(t, enforce(), func(w *world) {
				w.noticeErr = func(name string, _ flow.Notice) error {
					if name != "staff" {
						return nil
					}
					if tries = append(tries, time.Now()); len(tries) == 1 {
						return busyReceiver(tc.after)
					}
					return nil
				}
			}, func(s *stage) {
				s.find(tenantA)
				s.pass(2 * time.Hour)
				s.w.mu.Lock()
				defer s.w.mu.Unlock()
				if len(tries) < 2 {
					s.Fatalf("%d tries", len(tries))
				}
				if d := tries[1].Sub(tries[0]); d < tc.least || d > tc.most {
					s.Errorf("asked again after %s, want %s to %s", d, tc.least, tc.most)
				}
			})
		})
	}
}

// What asks for a person now does not wait behind a notice of the same incident
// that is held for a digest; what does not, keeps its order.
func TestPagesGoOutOfTurn(t *testing.T) {
	cfg := enforce()
	cfg.Cooldown = time.Minute
	play(t, cfg, func(w *world) {
		w.sends[tenantA] = true // the cut does not help
		began := time.Time{}
		w.noticeErr = func(name string, n flow.Notice) error {
			if name != "staff" || n.Kind != noticeSuspended {
				return nil
			}
			if began.IsZero() {
				began = time.Now()
			}
			if left := 20*time.Minute - time.Since(began); left > 0 {
				return busyReceiver(left)
			}
			return nil
		}
	}, func(s *stage) {
		s.find(tenantA)
		s.pass(10 * time.Minute)
		inc := s.state(tenantA, flow.StateUnverified)
		if len(s.w.mails("staff", noticeSuspended)) != 0 || len(s.w.mails("staff", noticeUnverified)) != 1 {
			s.Fatalf("mails %v", s.w.mail)
		}
		if err := s.c.Release(s.Context(), inc.ID, "anna", "fixed"); err != nil {
			s.Fatal(err)
		}
		s.pass(5 * time.Minute)
		s.state(tenantA, flow.StateReleased)
		if len(s.w.mails("staff", noticeReleased)) != 0 || len(s.w.mails("customer", noticeReleased)) != 1 {
			s.Errorf("told of the release before the cut, or the customer waits for staff: %v", s.w.mail)
		}
		s.pass(30 * time.Minute)
		if len(s.w.mails("staff", noticeSuspended)) != 1 || len(s.w.mails("staff", noticeReleased)) != 1 {
			s.Errorf("in the end: %v", s.w.mail)
		}
	})
}

// A page about a freeze, or an orphan, is not kept by what is held either.
func TestOutOfTurn(t *testing.T) {
	held := notice{due: due{Key: "1", Kind: noticeSuspended, Notifiers: []string{"staff"}}}
	later := notice{due: due{Key: "2", Kind: noticeReleased, Notifiers: []string{"staff"}}}
	for _, kind := range []string{noticeFrozen, noticeOrphan, noticeEscalated, noticeFailed, noticeUnverified} {
		page := notice{due: due{Key: "page", Kind: kind, Notifiers: []string{"staff"}}}
		for name, r := range map[string]record{"after": {notices: []notice{held, page, later}}, "before": {notices: []notice{page, held, later}}} {
			if !firstFor(r, page, "staff") || !firstFor(r, held, "staff") || firstFor(r, later, "staff") {
				t.Errorf("%s %s: page %t, held %t, later %t", kind, name, firstFor(r, page, "staff"), firstFor(r, held, "staff"), firstFor(r, later, "staff"))
			}
		}
	}
}

// A notice says what its text needs: what the statement led to, and whether a
// release takes back a mistake.
func TestNoticeSaysWhatCameOfIt(t *testing.T) {
	find := func(s *stage, kind string) flow.Notice {
		s.Helper()
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		for _, m := range s.w.mail {
			if m.notifier == "staff" && m.n.Kind == kind {
				return m.n
			}
		}
		s.Fatalf("no notice %s", kind)
		return flow.Notice{}
	}
	for _, want := range []Outcome{OutcomeReleased, OutcomeQueued, OutcomeRefused} {
		t.Run(string(want), func(t *testing.T) {
			cfg := enforce()
			switch want {
			case OutcomeReleased:
				cfg.ReleaseOnStatement = 1
			case OutcomeRefused:
				cfg.RefuseAfter = 1
			}
			play(t, cfg, nil, func(s *stage) {
				s.find(tenantA)
				s.pass(time.Minute)
				if out, err := s.c.Statement(s.Context(), s.of(tenantA).ID, "customer", "k1", "a plugin"); err != nil || out != want {
					s.Fatalf("%s, %v", out, err)
				}
				s.pass(time.Minute)
				if n := find(s, noticeStatement); n.Outcome != string(want) || n.Mistake {
					s.Errorf("outcome %q, mistake %t", n.Outcome, n.Mistake)
				}
				if want != OutcomeReleased {
					return
				}
				if n := find(s, noticeReleased); n.Mistake || n.Outcome != "" {
					s.Errorf("the release: outcome %q, mistake %t", n.Outcome, n.Mistake)
				}
			})
		})
	}
	for name, give := range map[string]func(*stage, string) error{
		"mistake": func(s *stage, id string) error { return s.c.ReleaseMistake(s.Context(), id, "anna", "wrong rate") },
		"undo": func(s *stage, _ string) error {
			_, err := s.c.Undo(s.Context(), time.Now().Add(-time.Hour), "anna", "wrong rate")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, enforce(), nil, func(s *stage) {
				s.find(tenantA)
				s.pass(time.Minute)
				if err := give(s, s.of(tenantA).ID); err != nil {
					s.Fatal(err)
				}
				s.pass(time.Minute)
				if n := find(s, noticeReleased); !n.Mistake {
					s.Error("the notice of the release does not say that it was a mistake")
				}
			})
		})
	}
}
