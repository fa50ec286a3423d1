package respond

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

func TestCheckLadder(t *testing.T) {
	block, limit, cut := Step{Measure: flow.MeasureBlockPort}, Step{Measure: flow.MeasureLimit, KbitS: 1000}, Step{Measure: flow.MeasureCut}
	with := func(s Step, change func(*Step)) Step { change(&s); return s }
	for _, tc := range []struct {
		name  string
		rule  flow.Rule
		steps []Step
		want  string // part of the only error; "": none
	}{
		{"none", flow.RuleNetscan, nil, ""},
		{"all", flow.RuleNetscan, []Step{block, limit, cut}, ""},
		{"temporary", flow.RuleNetscan, []Step{with(block, func(s *Step) { s.For, s.After = time.Hour, time.Minute }), cut}, ""},
		{"unknown measure", flow.RuleNetscan, []Step{{Measure: "unplug"}}, `netscan[0]: measure "unplug"`},
		{"falling", flow.RuleNetscan, []Step{cut, block}, "netscan[1]: block_port is no stronger than cut"},
		{"twice", flow.RuleNetscan, []Step{cut, cut}, "netscan[1]: cut is no stronger"},
		{"limit without a rate", flow.RuleSYNFlood, []Step{{Measure: flow.MeasureLimit}}, "rate_limit needs it"},
		{"cut with a rate", flow.RuleSYNFlood, []Step{with(cut, func(s *Step) { s.KbitS = 1 })}, "nothing else takes it"},
		{"a flood's port", flow.RuleSYNFlood, []Step{block, cut}, "syn_flood[0]: block_port"},
		{"negative time", flow.RuleNetscan, []Step{with(cut, func(s *Step) { s.For = -1 })}, "cannot be negative"},
		{"ends before the next", flow.RuleNetscan, []Step{with(block, func(s *Step) { s.For, s.After = time.Minute, time.Minute }), cut}, "ends before it"},
	} {
		err := errors.Join(CheckLadder(tc.rule, tc.steps)...)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: %v, want %q only", tc.name, err, tc.want)
		}
	}
}

// flowcordon dies while a call is on its way, and the hypervisor carries it out
// when the next process has already acted.
func TestKilledDuringTheCall(t *testing.T) {
	for _, after := range []time.Duration{time.Millisecond, 3 * time.Second} {
		play(t, enforce(), nil, func(s *stage) {
			first := true
			s.change(func(w *world) {
				w.before = func(string) {
					if !first {
						return
					}
					first = false
					s.p.die()
					go func() {
						time.Sleep(after)
						s.change(func(w *world) { // it lands
							n := w.nics[macA]
							if n.up {
								n.cuts++
							}
							n.up, n.configUp = false, false
							id := w.events[0].Incident
							n.mark = &flow.Mark{Incident: id, Key: id + "-suspend-1", By: "flowcordon"}
						})
					}()
				}
			})
			s.find(tenantA)
			s.p.dead = true
			if err := <-s.done; err != nil {
				t.Fatal(err)
			}
			s.change(func(w *world) { // what the dead process itself was still to do, it never did
				w.before = nil
			})
			s.start()
			s.pass(5 * time.Second)
			s.truth(tenantA)
			if n := s.w.nic(tenantA); n.cuts != 1 {
				t.Errorf("%d cuts", n.cuts)
			}
			s.pass(time.Minute)
			if err := s.c.Release(s.Context(), s.of(tenantA).ID, "anna", "fixed"); err != nil {
				t.Fatal(err)
			}
			s.pass(time.Second)
			s.truth(tenantA)
			s.state(tenantA, flow.StateReleased)
		})
	}
}

// The inventory and what is in force.
func TestInventoryChanges(t *testing.T) {
	cut := func(s *stage) flow.Incident {
		s.find(tenantA)
		s.pass(time.Second)
		return s.state(tenantA, flow.StateSuspended)
	}
	nics := func(s *stage, list ...string) {
		s.change(func(w *world) {
			h := w.holders[tenantA]
			h.NICs = list
			w.holders[tenantA] = h
		})
	}
	t.Run("a second NIC gets the address", func(t *testing.T) {
		play(t, enforce(), func(w *world) {
			w.nics["52:54:00:00:00:a2"] = &nicState{up: true, configUp: true, running: true, at: "hv"}
		}, func(s *stage) {
			id := cut(s).ID
			nics(s, "52:54:00:00:00:A2", macA)
			s.change(func(w *world) { w.nics["52:54:00:00:00:A2"] = w.nics["52:54:00:00:00:a2"] })
			s.pass(time.Minute + 5*time.Second)
			if n := s.w.nics["52:54:00:00:00:a2"]; n.up || n.mark == nil {
				t.Fatalf("the new NIC is up: %+v", n)
			}
			s.pass(10 * time.Minute)
			if inc := s.of(tenantA); len(inc.Action.NICs) != 2 || s.w.nic(tenantA).cuts != 1 {
				t.Errorf("NICs %v", inc.Action.NICs)
			}
			if err := s.c.Release(s.Context(), id, "anna", "fixed"); err != nil {
				t.Fatal(err)
			}
			s.pass(time.Second)
			s.state(tenantA, flow.StateReleased)
			if a, b := s.w.nics[macA], s.w.nics["52:54:00:00:00:a2"]; !a.up || !b.up {
				t.Errorf("after the release: %+v, %+v", a, b)
			}
		})
	})
	t.Run("rebuilt a moment before the release", func(t *testing.T) {
		play(t, enforce(), func(w *world) {
			w.nics["52:54:00:00:00:a2"] = &nicState{up: true, configUp: true, running: true, at: "hv"}
		}, func(s *stage) {
			id := cut(s).ID
			s.change(func(w *world) { delete(w.nics, macA) })
			nics(s, "52:54:00:00:00:a2")
			if err := s.c.Release(s.Context(), id, "anna", "rebuilt"); err != nil {
				t.Fatal(err)
			}
			s.pass(time.Minute)
			s.state(tenantA, flow.StateReleased)
			s.truth(tenantA)
		})
	})
	t.Run("the NIC is away at the release", func(t *testing.T) {
		play(t, enforce(), nil, func(s *stage) {
			id := cut(s).ID
			s.change(func(w *world) { w.nics[macA].at = "nowhere" })
			if err := s.c.Release(s.Context(), id, "anna", "fixed"); err != nil {
				t.Fatal(err)
			}
			s.pass(time.Minute)
			s.state(tenantA, flow.StateFailed) // it may come back cut: a human must know
		})
	})
	t.Run("another order, another case, one forgotten", func(t *testing.T) {
		play(t, enforce(), nil, func(s *stage) {
			id := cut(s).ID
			nics(s, strings.ToUpper(macA))
			s.change(func(w *world) { w.nics[strings.ToUpper(macA)] = w.nics[macA] })
			s.pass(5 * time.Minute)
			nics(s)
			s.pass(5 * time.Minute)
			for _, k := range s.kinds(id) {
				if k == EventAgain || k == EventClosed {
					t.Errorf("event %s", k)
				}
			}
			nics(s, macA)
		})
	})
	t.Run("listed at a hypervisor that does not know it", func(t *testing.T) {
		play(t, enforce(), func(w *world) { w.adapters = []string{"hv2"} }, func(s *stage) {
			id := cut(s).ID
			s.change(func(w *world) {
				h := w.holders[tenantA]
				h.Hypervisor = "hv2"
				w.holders[tenantA] = h
			})
			s.pass(10 * time.Minute)
			inc := s.of(tenantA)
			if inc.Action.Adapter != "hv" || s.w.nic(tenantA).up {
				t.Errorf("%s is %s at %s", id, inc.State, inc.Action.Adapter)
			}
		})
	})
	t.Run("the address is another customer's, the server lives on", func(t *testing.T) {
		play(t, enforce(), nil, func(s *stage) {
			cut(s)
			s.change(func(w *world) {
				h := w.holders[tenantB]
				h.Prefix = netip.PrefixFrom(tenantA, 32)
				w.holders[tenantA] = h
			})
			s.pass(10 * time.Minute)
			if n := s.w.nic(tenantB); n.cuts != 0 || !n.up {
				t.Fatalf("the next holder was cut: %+v", n)
			}
			if !s.of(tenantA).State.Cut() || s.w.nics[macA].up {
				t.Errorf("the server is %s", s.of(tenantA).State)
			}
		})
	})
}

// A backup that lasts for hours keeps nobody cut for longer than itself: the
// release is tried on, and staff are told once.
func TestReleaseOutlastsALock(t *testing.T) {
	play(t, enforce(), nil, func(s *stage) {
		s.find(tenantA)
		s.pass(time.Minute)
		s.change(func(w *world) { w.restoreErr = func(int) error { return act(flow.ErrLocked, "VM is locked (backup)") } })
		if err := s.c.Release(s.Context(), s.of(tenantA).ID, "anna", "fixed"); err != nil {
			t.Fatal(err)
		}
		s.pass(time.Hour)
		s.stop()
		s.start()
		s.pass(2 * time.Hour)
		inc := s.state(tenantA, flow.StateReleasing)
		if n := len(s.w.mails("staff", noticeFailed)); n != 1 || !strings.Contains(inc.Reason, "backup") {
			t.Errorf("%d mails, reason %q", n, inc.Reason)
		}
		s.change(func(w *world) { w.restoreErr = nil })
		s.pass(3 * time.Minute)
		s.state(tenantA, flow.StateReleased)
		s.truth(tenantA)
	})
}

// What was decided before a dry run began is not called either.
func TestDryRunBegins(t *testing.T) {
	play(t, enforce(), func(w *world) { w.cutErr = func(int) error { return act(flow.ErrLocked, "backup") } }, func(s *stage) {
		s.find(tenantA)
		s.pass(2 * time.Second)
		s.stop()
		calls := s.w.cutCalls + s.w.statusCalls
		s.cfg.DryRun = true
		s.start()
		s.pass(time.Hour)
		if n := s.w.cutCalls + s.w.statusCalls; n != calls {
			t.Errorf("%d calls in a dry run", n-calls)
		}
		if err := s.c.Release(s.Context(), s.of(tenantA).ID, "anna", "never mind"); err != nil {
			t.Fatal(err)
		}
		s.pass(time.Second)
		s.state(tenantA, flow.StateReleased)
	})
}

// Own scanners that start together are exempt, and freeze nobody else's acts.
func TestExemptTripsNothing(t *testing.T) {
	cfg := enforce()
	cfg.Exemptions = []Exemption{{Name: "scanners", Tenant: netip.MustParsePrefix("198.19.0.0/16"), Owner: "anna", Reason: "ours"}}
	play(t, cfg, nil, func(s *stage) {
		s.find(append(s.w.crowd(40), tenantA)...)
		s.pass(time.Second)
		s.state(tenantA, flow.StateSuspended)
		if f := s.c.Freezes(); len(f) != 0 {
			t.Errorf("freezes %+v", f)
		}
	})
}
