package respond

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flowcordon/flowcordon/flow"
)

func TestBreaker(t *testing.T) {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "x"}, []string{"node"})
	b := newBreakers(3, time.Minute, g)
	fail := act(flow.ErrTransient, "500")
	for i := range 2 {
		if b.enter("hv", t0) != 0 {
			t.Fatalf("open after %d failures", i)
		}
		b.leave("hv", fail, t0)
	}
	b.leave("hv", act(flow.ErrLocked, "backup"), t0) // it answered: counted anew
	for range 3 {
		if b.enter("hv", t0) != 0 {
			t.Fatal("open too early")
		}
		b.leave("hv", fail, t0)
	}
	if w := b.enter("hv", t0.Add(10*time.Second)); w != 50*time.Second || !b.open("hv") {
		t.Errorf("open: wait %s", w)
	}
	if b.enter("hv/other", t0) != 0 {
		t.Error("another node is left alone as well")
	}
	if b.enter("hv", t0.Add(time.Minute)) != 0 {
		t.Error("no probe after the rest")
	}
	if b.enter("hv", t0.Add(time.Minute)) == 0 {
		t.Error("two probes at once")
	}
	b.leave("hv", errSuperseded, t0.Add(time.Minute)) // no call was made: says nothing
	if b.enter("hv", t0.Add(time.Minute)) != 0 || !b.open("hv") {
		t.Error("a superseded probe")
	}
	b.leave("hv", fail, t0.Add(time.Minute))
	if w := b.enter("hv", t0.Add(time.Minute)); w != time.Minute {
		t.Errorf("a failed probe: wait %s", w)
	}
	if b.enter("hv", t0.Add(2*time.Minute)) != 0 {
		t.Error("no second probe")
	}
	b.leave("hv", nil, t0.Add(2*time.Minute))
	if b.enter("hv", t0.Add(2*time.Minute)) != 0 || b.open("hv") {
		t.Error("not closed by a probe that succeeded")
	}
}

// A node that does not answer is left alone: its tenants wait, others do not,
// and it is asked again soon after it is back.
func TestNodeLeftAlone(t *testing.T) {
	play(t, enforce(), func(w *world) {
		w.adapters = []string{"hv2"}
		h := w.holders[tenantC]
		h.Hypervisor = "hv2"
		w.holders[tenantC] = h
		w.nics[h.NICs[0]].at = "hv2"
		w.cutErr = func(int) error { return act(flow.ErrTransient, "no route to host") }
	}, func(s *stage) {
		s.find(tenantA, tenantB)
		s.pass(time.Minute)
		calls := s.w.cutCalls
		if !s.c.nodes.open("hv") || calls > 8 {
			t.Fatalf("%d calls to a dead node, open %t", calls, s.c.nodes.open("hv"))
		}
		if inc := s.state(tenantA, flow.StateSuspending); !strings.Contains(inc.Action.Error, "left alone") && !strings.Contains(inc.Action.Error, "no route") {
			t.Errorf("error %q", inc.Action.Error)
		}
		s.change(func(w *world) { w.cutErr = nil })
		s.find(tenantC)
		s.pass(time.Second)
		s.state(tenantC, flow.StateSuspended)
		s.pass(2 * time.Minute)
		s.truth(tenantA)
		s.truth(tenantB)
		if s.c.nodes.open("hv") || s.w.nic(tenantA).cuts != 1 || s.w.nic(tenantB).cuts != 1 {
			t.Errorf("after it is back: %+v", s.w.nic(tenantA))
		}
	})
}

// The hypervisor cannot act: the network side does until it can, and no longer.
func TestFallback(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		wait time.Duration
	}{
		"locked":   {act(flow.ErrLocked, "VM is locked (backup)"), 3 * time.Minute},
		"dead":     {act(flow.ErrTransient, "no route to host"), 30 * time.Second}, // as soon as the node is left alone
		"no class": {errors.New("500"), 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := enforce()
			cfg.Fallback = "edge"
			play(t, cfg, func(w *world) { w.cutErr = func(int) error { return tc.err } }, func(s *stage) {
				s.find(tenantA)
				s.pass(10 * time.Second)
				if s.w.edge[tenantA.String()] != nil && name == "locked" {
					t.Fatal("the fallback was asked too early")
				}
				s.pass(tc.wait)
				e := s.w.edge[tenantA.String()]
				if e == nil || e.up || e.cuts != 1 {
					t.Fatalf("edge %+v", e)
				}
				inc := s.state(tenantA, flow.StateSuspending)
				if len(inc.Others) != 1 || inc.Others[0].Adapter != "edge" || inc.Others[0].Done.IsZero() {
					t.Fatalf("others %+v", inc.Others)
				}
				s.stop()
				s.start()
				s.pass(3 * time.Hour) // a backup lasts; it is not given up
				s.state(tenantA, flow.StateSuspending)
				if e.cuts != 1 || len(s.w.mails("customer", noticeSuspended)) != 1 {
					t.Errorf("%d fallbacks, mails %v", e.cuts, s.w.mails("customer", noticeSuspended))
				}
				s.change(func(w *world) { w.cutErr = nil })
				s.pass(4 * time.Minute)
				s.truth(tenantA)
				if n := s.w.nic(tenantA); n.cuts != 1 || !e.up || e.gives != 1 || e.mark != nil {
					t.Fatalf("nic %+v, edge %+v", n, e)
				}
				if len(s.w.mails("customer", noticeSuspended)) != 1 {
					t.Error("the customer was told twice")
				}
				if err := s.c.Release(s.Context(), inc.ID, "anna", "fixed"); err != nil {
					t.Fatal(err)
				}
				s.pass(time.Second)
				s.state(tenantA, flow.StateReleased)
				if n := s.w.nic(tenantA); !n.up || e.gives != 1 {
					t.Errorf("nic %+v, edge %+v", n, e)
				}
			})
		})
	}
}

// A release while only the fallback is in force takes that back at once, though
// the hypervisor is still away.
func TestReleaseOfFallback(t *testing.T) {
	cfg := enforce()
	cfg.Fallback = "edge"
	play(t, cfg, func(w *world) { w.cutErr = func(int) error { return act(flow.ErrTransient, "no route") } }, func(s *stage) {
		s.find(tenantA)
		s.pass(time.Minute)
		e := s.w.edge[tenantA.String()]
		if e == nil || e.up {
			t.Fatalf("edge %+v", e)
		}
		s.change(func(w *world) { w.statusErr = func(int) error { return act(flow.ErrTransient, "no route") } })
		if err := s.c.Release(s.Context(), s.of(tenantA).ID, "anna", "fixed"); err != nil {
			t.Fatal(err)
		}
		s.pass(2 * time.Second)
		if !e.up {
			t.Fatal("the fallback is still in force")
		}
		s.state(tenantA, flow.StateReleasing) // nobody knows what the hypervisor has
		s.change(func(w *world) { w.statusErr = nil })
		s.pass(3 * time.Minute)
		s.state(tenantA, flow.StateReleased)
	})
}

// Marks that no incident holds.
func TestOrphans(t *testing.T) {
	mark := func(by, incident string) *flow.Mark {
		return &flow.Mark{Incident: incident, Key: incident + "-suspend-1", By: by, At: t0}
	}
	t.Run("reported", func(t *testing.T) {
		play(t, enforce(), func(w *world) {
			n := w.nics[macA]
			n.up, n.configUp, n.mark = false, false, mark("flowcordon", "FC-OLD")
			w.nics["52:54:00:00:00:0b"].mark = mark("another installation", "FC-THEIRS")
		}, func(s *stage) {
			s.pass(10 * time.Minute)
			if n := s.w.nic(tenantA); n.gives != 0 || len(s.w.mails("staff", noticeOrphan)) != 1 {
				t.Fatalf("nic %+v, mails %v", n, s.w.mail)
			}
			inc, evs, ok := s.c.Incident("FC-OLD")
			if !ok || inc.State != flow.StateClosed || len(evs) < 1 || !strings.Contains(inc.Reason, "vds-a") {
				t.Errorf("%+v", inc)
			}
			s.stop()
			s.start()
			s.pass(10 * time.Minute)
			if n := len(s.w.mails("staff", noticeOrphan)); n != 1 {
				t.Errorf("told %d times", n)
			}
		})
	})
	t.Run("given back", func(t *testing.T) {
		cfg := enforce()
		cfg.Orphans = OrphansRelease
		play(t, cfg, nil, func(s *stage) {
			s.find(tenantA)
			s.pass(time.Minute)
			id := s.state(tenantA, flow.StateVerified).ID
			held := s.w.nic(tenantA)
			if err := s.c.Release(s.Context(), id, "anna", "fixed"); err != nil {
				t.Fatal(err)
			}
			s.pass(time.Minute)
			s.change(func(w *world) { // an old copy of the server was restored, with the mark
				n := w.nics[macA]
				n.up, n.configUp, n.mark = false, false, held.mark
			})
			s.pass(5 * time.Minute)
			if n := s.w.nic(tenantA); !n.up || !n.configUp || n.mark != nil || n.gives != 2 {
				t.Fatalf("nic %+v", n)
			}
			s.state(tenantA, flow.StateReleased)
		})
	})
	t.Run("what is held is none", func(t *testing.T) {
		cfg := climbing()
		cfg.Orphans = OrphansRelease
		play(t, cfg, nil, func(s *stage) {
			s.attack(5*time.Second, onPort(22))
			s.pass(time.Hour)
			if n := s.w.nic(tenantA); len(n.restrictions) != 1 || n.lifts != 0 || len(s.w.mails("staff", noticeOrphan)) != 0 {
				t.Errorf("nic %+v", n)
			}
		})
	})
	t.Run("a mark of another installation is left", func(t *testing.T) {
		cfg := enforce()
		cfg.Orphans = OrphansRelease
		play(t, cfg, func(w *world) {
			n := w.nics[macA]
			n.up, n.configUp, n.mark = false, false, mark("another installation", "FC-THEIRS")
		}, func(s *stage) {
			s.pass(10 * time.Minute)
			if n := s.w.nic(tenantA); n.gives != 0 || n.up {
				t.Errorf("nic %+v", n)
			}
		})
	})
}

// Findings that were decided on before a restart are not acted on by a
// configuration that came with it.
func TestRestartDecidesNothingAnew(t *testing.T) {
	play(t, Config{}, nil, func(s *stage) {
		s.find(tenantA)
		s.state(tenantA, flow.StateOpen)
		s.stop()
		s.cfg = enforce()
		s.start()
		s.pass(time.Minute)
		s.state(tenantA, flow.StateOpen)
		if s.w.cutCalls != 0 {
			t.Error("cut on findings of before")
		}
		s.find(tenantA) // the abuse goes on: a new finding
		s.pass(time.Second)
		s.state(tenantA, flow.StateSuspended)
	})
}

// What the panel undoes again and again is taken again, and the log does not
// grow without an end: an event or two each minute.
func TestPanelFights(t *testing.T) {
	play(t, enforce(), nil, func(s *stage) {
		s.find(tenantA)
		s.pass(time.Second)
		id := s.of(tenantA).ID
		for range 30 {
			s.pass(time.Minute)
			s.change(func(w *world) { w.nics[macA].configUp = true })
		}
		s.pass(2 * time.Minute)
		s.truth(tenantA)
		again := slices.DeleteFunc(s.kinds(id), func(k string) bool { return k != EventAgain })
		if n := s.w.nic(tenantA); len(again) < 20 || len(again) > 32 || len(s.w.mails("customer", noticeSuspended)) != 1 {
			t.Errorf("%d times taken up again, %d mails, nic %+v", len(again), len(s.w.mails("customer", noticeSuspended)), n)
		}
	})
}

func TestAudit(t *testing.T) {
	play(t, climbing(), nil, func(s *stage) {
		s.attack(5*time.Second, onPort(22))
		s.attack(3*time.Minute, onPort(22))
		inc := s.of(tenantA)
		if err := s.c.Release(s.Context(), inc.ID, "anna", "reinstalled"); err != nil {
			t.Fatal(err)
		}
		s.pass(time.Minute)
		all, next := s.c.Audit(flow.AuditFilter{}, flow.AuditPage{Limit: 1000})
		if next != 0 || len(all) != len(s.w.events) {
			t.Fatalf("%d entries of %d events, next %d", len(all), len(s.w.events), next)
		}
		// Page by page it is the same.
		var paged []flow.AuditEntry
		for p := (flow.AuditPage{Limit: 7}); ; {
			list, next := s.c.Audit(flow.AuditFilter{}, p)
			paged = append(paged, list...)
			if next == 0 {
				break
			}
			p.Before = next
		}
		for i := range all {
			if i >= len(paged) || paged[i].Seq != all[i].Seq || i > 0 && all[i].Seq >= all[i-1].Seq {
				t.Fatalf("entry %d of the pages", i)
			}
		}
		intents, _ := s.c.Audit(flow.AuditFilter{Incident: inc.ID, Kinds: []string{EventIntent}}, flow.AuditPage{})
		var line []string
		for _, e := range intents {
			line = append(line, e.Actor+" "+e.Reason+" "+string(e.Measure)+" "+e.VDS+" "+strings.Join(e.NICs, ","))
		}
		want := []string{"anna released  vds-a " + macA, "controller abuse_goes_on cut vds-a " + macA, "controller enforce block_port vds-a " + macA}
		if !slices.Equal(line, want) {
			t.Errorf("who did what:\n%s", strings.Join(line, "\n"))
		}
		if !strings.Contains(intents[0].Text, "reinstalled") {
			t.Errorf("text %q", intents[0].Text)
		}
		mine, _ := s.c.Audit(flow.AuditFilter{Actor: "anna"}, flow.AuditPage{})
		none, _ := s.c.Audit(flow.AuditFilter{Customer: "cust-b"}, flow.AuditPage{})
		given, _ := s.c.Audit(flow.AuditFilter{Kinds: []string{EventReleased, EventLifted}, Since: inc.Opened, Until: time.Now()}, flow.AuditPage{})
		if len(mine) != 1 || len(none) != 0 || len(given) != 2 || given[0].Outcome != "given_back" || given[1].Measure != flow.MeasureBlockPort {
			t.Errorf("mine %+v, none %+v, given %+v", mine, none, given)
		}
	})
}
