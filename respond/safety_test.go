package respond

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// crowd adds n servers and returns their addresses.
func (w *world) crowd(n int) []netip.Addr {
	var out []netip.Addr
	for i := range n {
		a := netip.AddrFrom4([4]byte{198, 19, byte(i / 250), byte(i%250 + 1)})
		mac := fmt.Sprintf("52:54:00:01:%02x:%02x", i/250, i%250)
		w.nics[mac] = &nicState{up: true, configUp: true, running: true, at: "hv"}
		w.holders[a] = flow.Holder{
			Prefix: netip.PrefixFrom(a, 32), Tenant: fmt.Sprintf("cust-%d", i), VDS: fmt.Sprintf("vds-%d", i),
			Hypervisor: "hv", NICs: []string{mac}, Contact: "x@example.org", Language: "en",
		}
		out = append(out, a)
	}
	return out
}

// acted counts real cuts, and servers that are off the network now.
func (w *world) acted() (cuts, down int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nics {
		cuts += n.cuts
		if !n.up || !n.configUp || n.mark != nil || len(n.restrictions) > 0 {
			down++
		}
	}
	return cuts, down
}

// A wrong sampling rate makes scanners of 200 tenants. However they come: no
// more than the caps allow are cut, the freeze closes with one page, nothing is
// cut behind it, and one undo brings everybody back.
func TestManyAtOnce(t *testing.T) {
	for _, tc := range []struct {
		name      string
		batch     int // tenants in one tick
		mostCuts  int
		fleetSize int
		perHour   int
	}{
		{"in one tick", 200, 0, 5000, 10},
		{"a few in each tick", 3, 9, 0, 10},
		{"one after the other", 1, 9, 900, 10},
		{"more than the cap before the freeze", 4, 3, 0, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := enforce()
			cfg.MaxPerHour = tc.perHour
			play(t, cfg, func(w *world) { w.fleetSize = tc.fleetSize }, func(s *stage) {
				crowd := s.w.crowd(200)
				for since := 0; since < len(crowd); since += tc.batch {
					s.find(crowd[:min(since+tc.batch, len(crowd))]...) // who was found goes on
					s.pass(5 * time.Second)
				}
				cuts, _ := s.w.acted()
				if cuts > tc.mostCuts || cuts > cfg.MaxPerHour {
					t.Fatalf("%d were cut, want at most %d", cuts, tc.mostCuts)
				}
				if tc.batch < 10 && cuts == 0 {
					t.Error("the first ones were not cut: nothing shows that the freeze is what stopped it")
				}
				if f := s.c.Freezes(); len(f) == 0 || f[0].Tenants < 10 {
					t.Fatalf("freezes %+v", f)
				}
				if n := s.w.mails("staff", noticeFrozen); len(n) != 1 {
					t.Fatalf("%d pages, want one", len(n))
				}
				if n := s.w.mails("staff", noticeHeld); len(n) > 0 && tc.perHour == 10 {
					t.Errorf("%d mails of held incidents beside the page", len(n))
				}
				held := s.c.Incidents(Filter{States: []flow.State{flow.StateHeld}})
				if len(held) != 200-cuts || !strings.Contains(held[0].Reason, "tripped") {
					t.Errorf("%d held, %q", len(held), held[0].Reason)
				}
				s.undoAll(cuts)
				s.find(crowd...) // the rate is still wrong
				s.pass(time.Minute)
				s.find(crowd...)
				s.pass(10 * time.Second)
				if again, down := s.w.acted(); again != cuts || down != 0 {
					t.Errorf("%d cuts after the undo, %d off the network", again-cuts, down)
				}
			})
		})
	}
}

// undoAll gives back what was cut, twice, over a restart.
func (s *stage) undoAll(cuts int) {
	s.Helper()
	if _, err := s.c.Undo(s.Context(), time.Time{}, "anna", " "); !errors.Is(err, ErrReason) {
		s.Errorf("undo without a reason: %v", err)
	}
	did, err := s.c.Undo(s.Context(), time.Now().Add(-time.Hour), "anna", "the sampling rate was wrong")
	if err != nil || len(did.GivingBack) != cuts || len(did.Before) != 0 {
		s.Fatalf("undo: %+v, %v; want %d", did, err, cuts)
	}
	s.stop()
	s.start()
	s.pass(20 * time.Second)
	if _, down := s.w.acted(); down != 0 {
		s.Fatalf("%d servers are still off the network", down)
	}
	did, err = s.c.Undo(s.Context(), time.Now().Add(-2*time.Hour), "anna", "again")
	if err != nil || len(did.GivingBack) != 0 || len(did.Before) != cuts {
		s.Errorf("the second undo: %+v, %v", did, err)
	}
	for _, inc := range s.c.Incidents(Filter{States: []flow.State{flow.StateReleased}}) {
		if !strings.Contains(inc.Reason, "taken back") {
			s.Errorf("%s: reason %q", inc.ID, inc.Reason)
		}
	}
}

// The undo takes back what nobody decided, since the moment that it is given.
func TestUndoSince(t *testing.T) {
	cfg := enforce()
	cfg.Probation, cfg.RefuseAfter = time.Hour, 2
	play(t, cfg, nil, func(s *stage) {
		addrD := s.w.crowd(1)[0]
		s.find(tenantA)
		s.pass(time.Minute)
		moment := time.Now()
		s.find(tenantB)
		h := s.w.holders[tenantC]
		h.Tags = []string{"shared"}
		s.w.holders[tenantC] = h
		s.find(tenantC)
		if err := s.c.Approve(s.Context(), s.of(tenantC).ID, "anna", "it is one customer"); err != nil {
			s.Fatal(err)
		}
		s.find(addrD)
		s.pass(time.Second)
		limit := flow.Measure{Kind: flow.MeasureLimit, KbitS: 100}
		if err := s.c.Restrict(s.Context(), s.of(addrD).ID, "anna", limit, "that will do"); err != nil {
			t.Fatal(err)
		}
		s.pass(time.Second)
		did, err := s.c.Undo(s.Context(), moment, "anna", "wrong")
		if err != nil || !slices.Equal(did.GivingBack, []string{s.of(tenantB).ID}) {
			s.Fatalf("%+v, %v", did, err)
		}
		s.pass(time.Second)
		s.state(tenantB, flow.StateReleased)
		if n := s.w.nicOf(addrD); len(n.restrictions) != 1 {
			s.Error("what a person put in the place of an automatic act was taken back")
		}
		if !s.of(tenantA).State.Cut() || !s.of(tenantC).State.Cut() {
			s.Error("what came before, or what a person decided, was taken back")
		}
		s.pass(2 * time.Hour)
		s.find(tenantB) // the same wrong data: nothing until a person says so, however quiet it was
		s.pass(time.Second)
		if inc := s.state(tenantB, flow.StateHeld); !strings.Contains(inc.Reason, "undo by anna: wrong") {
			s.Errorf("reason %q", inc.Reason)
		}
		if n := s.w.mails("staff", noticeFrozen); len(n) != 1 {
			s.Errorf("%d pages", len(n))
		}
		if err := s.c.Unfreeze(s.Context(), "anna", "the rate is right now"); err != nil {
			s.Fatal(err)
		}
		s.find(tenantB) // no offence: neither probation nor refusal
		s.pass(time.Second)
		if inc := s.of(tenantB); inc.Refuse || inc.Probation {
			s.Errorf("what was undone counts against the holder: %+v", inc)
		}
	})
}

func TestFreezeEnds(t *testing.T) {
	trip := func(s *stage) []netip.Addr {
		crowd := s.w.crowd(12)
		s.find(crowd...)
		s.pass(time.Second)
		if len(s.c.Freezes()) != 1 {
			t.Fatalf("freezes %+v", s.c.Freezes())
		}
		return crowd
	}
	t.Run("by a person", func(t *testing.T) {
		play(t, enforce(), nil, func(s *stage) {
			if err := s.c.Unfreeze(s.Context(), "anna", "x"); !errors.Is(err, ErrNotFrozen) || !errors.Is(err, ErrState) {
				s.Errorf("nothing is frozen: %v", err)
			}
			crowd := trip(s)
			if err := s.c.Unfreeze(s.Context(), "anna", ""); !errors.Is(err, ErrReason) {
				s.Errorf("without a reason: %v", err)
			}
			if err := s.c.Unfreeze(s.Context(), "anna", "it is a botnet"); err != nil {
				s.Fatal(err)
			}
			s.stop()
			s.start()
			if len(s.c.Freezes()) != 0 {
				s.Fatal("frozen again by a restart")
			}
			s.pass(6 * time.Minute)
			s.find(crowd...)
			s.pass(time.Second)
			if cuts, _ := s.w.acted(); cuts != 10 { // the cap
				s.Errorf("%d cuts after the freeze was lifted", cuts)
			}
			entries, _ := s.c.Audit(flow.AuditFilter{Kinds: []string{EventUnfrozen}}, flow.AuditPage{})
			if len(entries) != 1 || entries[0].Actor != "anna" || !strings.Contains(entries[0].Text, "botnet") {
				s.Errorf("audit %+v", entries)
			}
		})
	})
	t.Run("by quiet", func(t *testing.T) {
		play(t, enforce(), nil, func(s *stage) {
			crowd := trip(s)
			for range 40 {
				s.pass(time.Minute)
				s.find(crowd...)
			}
			if len(s.c.Freezes()) != 1 {
				s.Fatal("lifted while it goes on")
			}
			s.pass(29 * time.Minute)
			s.stop() // nobody looked: quiet counts from the start
			s.start()
			s.pass(29 * time.Minute)
			if len(s.c.Freezes()) != 1 {
				s.Fatal("lifted too early")
			}
			s.pass(2 * time.Minute)
			if len(s.c.Freezes()) != 0 {
				s.Error("not lifted after half an hour of quiet")
			}
		})
	})
	t.Run("another rule acts", func(t *testing.T) {
		cfg := enforce()
		cfg.Modes[flow.RuleSYNFlood] = flow.ModeEnforce
		play(t, cfg, nil, func(s *stage) {
			trip(s)
			f := scan(tenantA, time.Now())
			f.Rule = flow.RuleSYNFlood
			if err := s.c.Handle(s.Context(), time.Now(), []flow.Finding{f}); err != nil {
				s.Fatal(err)
			}
			s.pass(time.Second)
			s.state(tenantA, flow.StateSuspended)
		})
	})
	t.Run("a small part of a large fleet", func(t *testing.T) {
		cfg := enforce()
		cfg.MaxPerHour = 100
		play(t, cfg, func(w *world) { w.fleetSize = 1200 }, func(s *stage) {
			s.find(s.w.crowd(12)...) // exactly 1 %
			s.pass(time.Second)
			if cuts, _ := s.w.acted(); cuts != 12 || len(s.c.Freezes()) != 0 {
				s.Errorf("%d cuts, freezes %+v", cuts, s.c.Freezes())
			}
		})
	})
	t.Run("a person may act", func(t *testing.T) {
		play(t, enforce(), nil, func(s *stage) {
			crowd := trip(s)
			if err := s.c.Approve(s.Context(), s.of(crowd[3]).ID, "anna", "I looked at this one"); err != nil {
				s.Fatal(err)
			}
			s.pass(time.Second)
			s.state(crowd[3], flow.StateSuspended)
		})
	})
}

func TestCaps(t *testing.T) {
	cfg := Config{MaxPerHour: 10}.withDefaults()
	for _, tc := range []struct {
		name string
		caps Caps
		n    Counts
		want Reason
	}{
		{"nothing yet", Caps{}, Counts{}, ""},
		{"just below 10 minutes", Caps{Per10Min: 3}, Counts{Short: 2}, ""},
		{"10 minutes", Caps{Per10Min: 3}, Counts{Short: 3}, ReasonCapShort},
		{"10 minutes, of the hour", Caps{}, Counts{Short: 10}, ReasonCapShort},
		{"day", Caps{}, Counts{Day: 50}, ReasonCapDay},
		{"just below the day", Caps{}, Counts{Day: 49}, ""},
		{"tenant", Caps{}, Counts{TenantDay: 6}, ReasonCapTenant},
		{"just below the tenant's", Caps{}, Counts{TenantDay: 5}, ""},
		{"node", Caps{NodePerHour: 2}, Counts{NodeHour: 2}, ReasonCapNode},
		{"fleet", Caps{}, Counts{Holding: 50, Fleet: 1000}, ReasonCapFleet},
		{"just below the fleet's", Caps{}, Counts{Holding: 49, Fleet: 1000}, ""},
		{"a small fleet is not barred", Caps{}, Counts{Holding: 2, Fleet: 10}, ""},
		{"but bounded", Caps{}, Counts{Holding: 3, Fleet: 10}, ReasonCapFleet},
		{"an unknown fleet", Caps{}, Counts{Holding: 49}, ""},
		{"a negative cap allows none", Caps{TenantPerDay: -1}, Counts{}, ReasonCapTenant},
	} {
		in := ready(tiered(flow.TierSuspend))
		in.Counts = tc.n
		cfg.Caps = tc.caps.withDefaults(cfg.MaxPerHour)
		cfg.Modes = enforce().Modes
		if got := safety(cfg, in, true, t0); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
		if tc.want != "" && (!overridable(tc.want) || safety(cfg, in, false, t0) != "") {
			t.Errorf("%s: bounds a person as well", tc.name)
		}
	}
}

// The counts are read from the log, for the customer and for the node.
func TestCounts(t *testing.T) {
	cfg := enforce()
	cfg.Caps.TenantPerDay, cfg.Caps.NodePerHour, cfg.MaxPerHour = 2, 3, 100
	play(t, cfg, nil, func(s *stage) {
		crowd := s.w.crowd(6)
		for _, a := range crowd[:3] { // three servers of one customer
			h := s.w.holders[a]
			h.Tenant = "cust-many"
			s.w.holders[a] = h
		}
		s.find(crowd[:3]...)
		s.pass(time.Second)
		if inc := s.state(crowd[2], flow.StateHeld); !strings.Contains(inc.Reason, "this customer") {
			s.Errorf("reason %q", inc.Reason)
		}
		s.stop()
		s.start()
		s.find(crowd[3:]...)
		s.pass(time.Second)
		s.state(crowd[3], flow.StateSuspended)
		if inc := s.state(crowd[4], flow.StateHeld); !strings.Contains(inc.Reason, "this hypervisor") {
			s.Errorf("reason %q", inc.Reason)
		}
		s.pass(61 * time.Minute)
		s.find(crowd[2], crowd[4])
		s.pass(time.Second)
		s.state(crowd[2], flow.StateHeld) // of the day
		s.state(crowd[4], flow.StateSuspended)
	})
}

func TestInventoryStale(t *testing.T) {
	cfg := enforce()
	cfg.InventoryMaxAge = time.Hour
	play(t, cfg, func(w *world) { w.age = time.Hour + 1 }, func(s *stage) {
		s.find(tenantA)
		if inc := s.state(tenantA, flow.StateHeld); !strings.Contains(inc.Reason, "inventory") {
			s.Errorf("reason %q", inc.Reason)
		}
		s.w.mu.Lock()
		s.w.age = time.Hour
		s.w.mu.Unlock()
		s.find(tenantA)
		s.pass(time.Second)
		s.state(tenantA, flow.StateSuspended)
	})
}

// A dry run says the exact call, makes none, and acts on nobody's order.
func TestDryRun(t *testing.T) {
	cfg := climbing()
	cfg.DryRun = true
	play(t, cfg, nil, func(s *stage) {
		s.find(tenantA)
		s.pass(10 * time.Second)
		inc := s.state(tenantA, flow.StateHeld)
		want := []string{"PUT /vds-a/52:54:00:00:00:0a block_port"}
		if !slices.Equal(inc.Would, want) {
			s.Errorf("would %q, want %q", inc.Would, want)
		}
		if err := s.c.Approve(s.Context(), inc.ID, "anna", "do it"); !errors.Is(err, ErrDryRun) {
			s.Errorf("approve: %v", err)
		}
		s.stop()
		s.start()
		s.find(tenantA)
		s.pass(10 * time.Minute)
		if s.w.statusCalls+s.w.cutCalls+s.w.restrictCalls != 0 || s.w.describeCalls != 1 {
			s.Errorf("%d calls, %d descriptions", s.w.statusCalls+s.w.cutCalls+s.w.restrictCalls, s.w.describeCalls)
		}
		entries, _ := s.c.Audit(flow.AuditFilter{Incident: inc.ID, Kinds: []string{EventDescribed}}, flow.AuditPage{})
		if len(entries) != 1 || !slices.Equal(entries[0].Calls, want) || entries[0].Measure != flow.MeasureBlockPort {
			s.Errorf("audit %+v", entries)
		}
		s.stop() // dry run ends: the same abuse acts
		s.cfg.DryRun = false
		s.start()
		s.find(tenantA)
		s.pass(time.Second)
		s.state(tenantA, flow.StateSuspended)
	})
}

// Released, on probation, and a repeater.
func TestStanding(t *testing.T) {
	cfg := climbing()
	cfg.Probation, cfg.RefuseAfter, cfg.OffenceWindow = time.Hour, 3, 30*24*time.Hour
	play(t, cfg, nil, func(s *stage) {
		release := func(a netip.Addr) {
			s.Helper()
			if err := s.c.ReleaseOnStatement(s.Context(), s.of(a).ID, "statement", "reinstalled"); err != nil {
				s.Fatal(err)
			}
			s.pass(2 * time.Minute)
			s.state(a, flow.StateReleased)
		}
		s.attack(5*time.Second, onPort(22))
		if _, ok := s.w.restricted(flow.MeasureBlockPort); !ok {
			s.Fatal("the first offence is a block")
		}
		release(tenantA)
		// What would be a notice takes the first step.
		s.attack(5*time.Second, func(ts time.Time) flow.Finding { return early(tenantA, ts) })
		if inc := s.of(tenantA); !inc.Probation || !strings.Contains(inc.Reason, "probation") && inc.State != flow.StateSuspended {
			s.Fatalf("%s (%s)", inc.State, inc.Reason)
		}
		if _, ok := s.w.restricted(flow.MeasureBlockPort); !ok || s.w.nic(tenantA).cuts != 0 {
			s.Fatalf("nic %+v", s.w.nic(tenantA))
		}
		release(tenantA)
		// The third is cut at once, and a human decides.
		s.attack(5*time.Second, onPort(22))
		s.pass(10 * time.Second) // its evidence
		inc := s.state(tenantA, flow.StateSuspended)
		if !inc.Refuse || s.w.nic(tenantA).cuts != 1 || len(s.w.mails("staff", noticeRefuse)) != 1 || len(s.w.mails("customer", noticeRefuse)) != 0 ||
			len(s.w.mails("customer", noticeSuspended)) != 1 || len(s.w.mails("staff", noticeSuspended)) != 0 { // each is told once, in his words
			s.Fatalf("incident %+v, nic %+v", inc, s.w.nic(tenantA))
		}
		if err := s.c.ReleaseOnStatement(s.Context(), inc.ID, "statement", "fixed again"); !errors.Is(err, ErrRefused) {
			s.Errorf("released by a statement: %v", err)
		}
		if err := s.c.Release(s.Context(), inc.ID, "anna", "a last time"); err != nil {
			s.Fatal(err)
		}
		s.pass(31 * 24 * time.Hour) // all is forgotten
		s.attack(5*time.Second, onPort(22))
		if inc := s.of(tenantA); inc.Refuse || inc.Probation || s.w.nic(tenantA).cuts != 1 {
			s.Errorf("after the window: %+v", inc)
		}
	})
}

// On probation what would be a block is the cut at once; whoever has the server
// next is not punished for it.
func TestProbationCutsAtOnce(t *testing.T) {
	cfg := climbing()
	cfg.Probation = time.Hour
	play(t, cfg, nil, func(s *stage) {
		s.attack(5*time.Second, onPort(22))
		if err := s.c.Release(s.Context(), s.of(tenantA).ID, "anna", "reinstalled"); err != nil {
			s.Fatal(err)
		}
		s.pass(30 * time.Minute)
		s.attack(5*time.Second, onPort(22))
		if n := s.w.nic(tenantA); n.cuts != 1 || n.takes != 1 {
			s.Fatalf("nic %+v", n)
		}
		if err := s.c.ReleaseMistake(s.Context(), s.of(tenantA).ID, "anna", "it was us"); err != nil {
			s.Fatal(err)
		}
		s.pass(10 * time.Minute)
		h := s.w.holders[tenantA]
		h.Tenant = "cust-new"
		s.w.holders[tenantA] = h
		s.attack(5*time.Second, onPort(22))
		if inc := s.of(tenantA); inc.Probation || s.w.nic(tenantA).cuts != 1 {
			s.Errorf("the next holder is on probation: %+v", inc)
		}
	})
}
