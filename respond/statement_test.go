package respond

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// The first offence is released by the answer, the second is staff's, the third
// is refused; a link answers once, over restarts.
func TestStatement(t *testing.T) {
	cfg := enforce()
	cfg.ReleaseOnStatement, cfg.RefuseAfter = 1, 3
	play(t, cfg, nil, func(s *stage) {
		cut := func() string {
			s.Helper()
			s.find(tenantA)
			s.pass(time.Minute)
			return s.state(tenantA, flow.StateVerified).ID
		}
		say := func(id, key string, want Outcome) {
			s.Helper()
			if got, err := s.c.Statement(s.Context(), id, "customer", key, "a plugin; reinstalled; updates are on"); err != nil || got != want {
				t.Fatalf("%q, %v; want %q", got, err, want)
			}
		}
		if _, err := s.c.Statement(s.Context(), "FC-X", "customer", "k", "x"); !errors.Is(err, ErrNotFound) {
			t.Errorf("of nothing: %v", err)
		}
		id := cut()
		if _, err := s.c.Statement(s.Context(), id, "customer", "k0", " \n"); !errors.Is(err, ErrStatement) {
			t.Errorf("an empty one: %v", err)
		}
		if _, err := s.c.Statement(s.Context(), id, "customer", "k0", strings.Repeat("x", maxText+1)); err == nil {
			t.Error("one that is too long was taken")
		}
		say(id, "k1", OutcomeReleased)
		if _, err := s.c.Statement(s.Context(), id, "customer", "k2", "again"); !errors.Is(err, ErrClosed) {
			t.Errorf("while it is given back: %v", err)
		}
		s.pass(2 * time.Minute)
		if inc := s.state(tenantA, flow.StateReleased); !strings.Contains(inc.Statement, "reinstalled") || !s.w.nic(tenantA).up {
			t.Errorf("released %+v", inc)
		}

		id = cut()
		say(id, "k3", OutcomeQueued)
		s.stop()
		s.start()
		if _, err := s.c.Statement(s.Context(), id, "customer", "k3", "twice"); !errors.Is(err, ErrUsed) {
			t.Errorf("the same link: %v", err)
		}
		s.pass(time.Minute)
		if inc := s.state(tenantA, flow.StateVerified); inc.Statement == "" || len(s.w.mails("staff", noticeStatement)) != 2 {
			t.Errorf("%d mails to staff, statement %q", len(s.w.mails("staff", noticeStatement)), inc.Statement)
		}
		if err := s.c.Release(s.Context(), id, "anna", "I looked at it"); err != nil {
			t.Fatal(err)
		}
		s.pass(2 * time.Minute)

		id = cut()
		say(id, "k4", OutcomeRefused)
		s.pass(time.Hour)
		s.state(tenantA, flow.StateVerified)
		if list := s.c.Incidents(Filter{Refuse: true}); len(list) != 1 || list[0].ID != id {
			t.Errorf("the queue has %d", len(list))
		}
		entries, _ := s.c.Audit(flow.AuditFilter{Kinds: []string{EventStatement}}, flow.AuditPage{})
		if len(entries) != 3 || entries[0].Actor != "customer" || !strings.Contains(entries[0].Text, "plugin") {
			t.Errorf("audit %+v", entries)
		}
	})
}

// An answer that is owed is reminded of, then staff must decide; each once.
func TestNoAnswer(t *testing.T) {
	cfg := enforce()
	cfg.RemindAfter, cfg.AnswerWithin = 24*time.Hour, 72*time.Hour
	count := func(s *stage, reminders, decisions int) {
		t.Helper()
		if r, e := len(s.w.mails("customer", noticeReminder)), len(s.w.mails("staff", noticeEscalated)); r != reminders || e != decisions {
			t.Errorf("%d reminders, %d decisions; want %d, %d", r, e, reminders, decisions)
		}
	}
	play(t, cfg, nil, func(s *stage) {
		s.find(tenantA)
		s.pass(24*time.Hour - time.Minute)
		count(s, 0, 0)
		s.pass(2 * time.Minute)
		count(s, 1, 0)
		s.stop()
		s.start()
		s.change(func(w *world) { w.nics[macA].configUp = true }) // taken up again: the time goes on
		s.pass(47 * time.Hour)
		count(s, 1, 0)
		s.pass(time.Hour)
		count(s, 1, 1)
		s.pass(100 * time.Hour)
		count(s, 1, 1)
		if !s.of(tenantA).State.Cut() {
			t.Error("it was given back without an answer")
		}
	})
	t.Run("answered", func(t *testing.T) {
		play(t, cfg, nil, func(s *stage) {
			s.find(tenantA)
			s.pass(time.Hour)
			if _, err := s.c.Statement(s.Context(), s.of(tenantA).ID, "customer", "k", "reinstalled"); err != nil {
				t.Fatal(err)
			}
			s.pass(100 * time.Hour)
			count(s, 0, 0)
		})
	})
	t.Run("ends by itself", func(t *testing.T) {
		cfg := cfg
		cfg.Ladders = map[flow.Rule][]Step{flow.RuleNetscan: {{Measure: flow.MeasureCut, For: 100 * time.Hour}}}
		play(t, cfg, nil, func(s *stage) {
			s.find(tenantA)
			s.pass(99 * time.Hour)
			count(s, 0, 0)
			s.pass(2 * time.Hour)
			s.state(tenantA, flow.StateReleased)
		})
	})
}

// The customer is told when the probation ends, unless there was more.
func TestProbationEnds(t *testing.T) {
	cfg := enforce()
	cfg.Probation = 48 * time.Hour
	play(t, cfg, nil, func(s *stage) {
		s.find(tenantA, tenantB)
		s.pass(time.Minute)
		for _, inc := range s.c.Incidents(Filter{}) {
			if err := s.c.Release(s.Context(), inc.ID, "anna", "reinstalled"); err != nil {
				t.Fatal(err)
			}
		}
		s.pass(24 * time.Hour)
		s.find(tenantB) // again, on probation
		s.pass(24*time.Hour - time.Minute)
		if n := s.w.mails("customer", noticeParoleOver); len(n) != 0 {
			t.Fatalf("told too early: %v", n)
		}
		s.stop()
		s.start()
		s.pass(5 * time.Minute)
		n := s.w.mails("customer", noticeParoleOver)
		if len(n) != 1 || !strings.HasPrefix(n[0], s.of(tenantA).ID) {
			t.Errorf("told %v", n)
		}
		s.stop()
		s.start()
		s.pass(48 * time.Hour)
		if n := s.w.mails("customer", noticeParoleOver); len(n) != 1 {
			t.Errorf("told %v", n)
		}
	})
}
