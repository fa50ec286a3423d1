package respond

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

var (
	tcp22 = flow.PortRule{Proto: flow.ProtoTCP, Port: 22}
	tcp23 = flow.PortRule{Proto: flow.ProtoTCP, Port: 23}
	both  = []flow.MeasureKind{flow.MeasureBlockPort, flow.MeasureLimit}
)

// climbing is enforce with the ladder block, then cut.
func climbing() Config {
	cfg := enforce()
	cfg.Modes[flow.RuleSYNFlood] = flow.ModeEnforce
	cfg.Ladders = map[flow.Rule][]Step{
		flow.RuleNetscan:  {{Measure: flow.MeasureBlockPort, After: time.Minute}, {Measure: flow.MeasureCut}},
		flow.RuleSYNFlood: {{Measure: flow.MeasureLimit, KbitS: 1000, After: 2 * time.Minute}, {Measure: flow.MeasureCut}},
	}
	return cfg
}

func TestNextStep(t *testing.T) {
	cfg := climbing()
	cfg.SkipUnsupported = true
	cfg = cfg.withDefaults()
	strict := climbing().withDefaults()
	at := func(tier flow.Tier, port uint16) flow.Finding {
		f := scan(tenantA, t0)
		f.Tier, f.Port, f.From = tier, port, t0.Add(-time.Minute)
		return f
	}
	flood := at(flow.TierSuspend, 0)
	flood.Rule = flow.RuleSYNFlood
	able := Input{Measures: both}
	in := func(change func(*Input)) Input { i := able; change(&i); return i }
	block := flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{tcp22}}
	block23 := flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{tcp23}}
	limit := flow.Measure{Kind: flow.MeasureLimit, KbitS: 1000}
	cut := flow.Measure{Kind: flow.MeasureCut}
	blocked := func(since time.Time) Input {
		return in(func(i *Input) { i.InForce, i.InForceSince = block, since })
	}
	full := make([]flow.PortRule, maxBlockedPorts)
	for i := range full {
		full[i] = flow.PortRule{Proto: flow.ProtoTCP, Port: uint16(1000 + i)}
	}
	for _, tc := range []struct {
		name   string
		cfg    Config
		f      flow.Finding
		in     Input
		want   flow.Measure
		reason Reason
	}{
		{"the first step", cfg, at(flow.TierSuspend, 22), able, block, ""},
		{"tier block_port", cfg, at(flow.TierBlockPort, 22), able, block, ""},
		{"tier block_port without a port", cfg, at(flow.TierBlockPort, 0), able, flow.Measure{}, ReasonNoMeasure},
		{"tier block_port where it cannot be", cfg, at(flow.TierBlockPort, 22), Input{}, flow.Measure{}, ReasonNoMeasure},
		{"no ladder, tier suspend", Config{}.withDefaults(), at(flow.TierSuspend, 22), able, cut, ""},
		{"no ladder, tier block_port", Config{}.withDefaults(), at(flow.TierBlockPort, 22), able, block, ""},
		{"no port: the next step", cfg, at(flow.TierSuspend, 0), able, cut, ""},
		{"unsupported is skipped by policy", cfg, at(flow.TierSuspend, 22), Input{}, cut, ""},
		{"unsupported is told of otherwise", strict, at(flow.TierSuspend, 22), Input{}, flow.Measure{}, ReasonNoMeasure},
		{"another measure does not help", strict, at(flow.TierSuspend, 22), in(func(i *Input) { i.Measures = both[1:] }), flow.Measure{}, ReasonNoMeasure},
		{"a flood is limited", cfg, flood, able, limit, ""},
		{"goes on, just before the time", cfg, at(flow.TierSuspend, 22), blocked(t0.Add(-70*time.Second + time.Second)), flow.Measure{}, ""},
		{"goes on", cfg, at(flow.TierSuspend, 22), blocked(t0.Add(-70 * time.Second)), cut, ReasonGoesOn},
		{"counts what was before the measure settled", cfg, at(flow.TierSuspend, 22), blocked(t0.Add(-70*time.Second + 1)), flow.Measure{}, ""},
		{"goes on, tier block_port", cfg, at(flow.TierBlockPort, 22), blocked(t0.Add(-time.Hour)), flow.Measure{}, ""},
		{"another port, just before the time", cfg, at(flow.TierSuspend, 23), in(func(i *Input) {
			i.InForce, i.InForceSince, i.StepSince = block, t0.Add(-70*time.Second), t0.Add(-time.Minute+1)
		}), block23, ReasonMorePorts},
		{"another port, exactly at the time", cfg, at(flow.TierSuspend, 23), in(func(i *Input) {
			i.InForce, i.InForceSince, i.StepSince = block, t0.Add(-70*time.Second), t0.Add(-time.Minute)
		}), cut, ReasonGoesOn},
		{"another port, nothing beyond", Config{Ladders: map[flow.Rule][]Step{flow.RuleNetscan: {{Measure: flow.MeasureBlockPort}}}}.withDefaults(),
			at(flow.TierSuspend, 23), blocked(t0.Add(-time.Hour)), block23, ReasonMorePorts},
		{"more ports since, the time counts from the first", cfg, at(flow.TierSuspend, 24), in(func(i *Input) {
			i.InForce, i.InForceSince, i.StepSince = flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{tcp22, tcp23}}, t0.Add(-70*time.Second), t0.Add(-2*time.Minute)
		}), cut, ReasonGoesOn},
		{"another port, tier block_port", cfg, at(flow.TierBlockPort, 23), blocked(t0.Add(-70 * time.Second)), block23, ReasonMorePorts},
		{"one port too many", cfg, at(flow.TierSuspend, 23), in(func(i *Input) {
			i.InForce, i.InForceSince = flow.Measure{Kind: flow.MeasureBlockPort, Ports: full}, t0.Add(-time.Hour)
		}), cut, ReasonGoesOn},
		{"a flood beside the block", cfg, flood, blocked(t0.Add(-time.Hour)), limit, ReasonGoesOn},
		{"the limit does not help", cfg, flood, in(func(i *Input) { i.InForce, i.InForceSince = limit, t0.Add(-time.Hour) }), cut, ReasonGoesOn},
		{"cut, there is nothing beyond", cfg, flood, in(func(i *Input) { i.InForce, i.InForceSince = cut, t0.Add(-time.Hour) }), flow.Measure{}, ""},
		{"probation, a notice", cfg, at(flow.TierNotify, 22), in(func(i *Input) { i.Probation = true }), block, ReasonProbation},
		{"probation, worth a suspension", cfg, at(flow.TierSuspend, 22), in(func(i *Input) { i.Probation = true }), cut, ReasonProbation},
		{"probation, what was a notice when it was blocked", cfg, at(flow.TierSuspend, 22), in(func(i *Input) {
			i.Probation, i.InForce, i.InForceSince, i.InForceAuto = true, block, t0.Add(-time.Second), true
		}), cut, ReasonProbation},
		{"probation, blocked by a person", cfg, at(flow.TierSuspend, 22), in(func(i *Input) {
			i.Probation, i.InForce, i.InForceSince = true, block, t0.Add(-time.Second)
		}), flow.Measure{}, ""},
		{"just below the n-th offence", Config{Ladders: cfg.Ladders, RefuseAfter: 3}.withDefaults(), at(flow.TierSuspend, 22), in(func(i *Input) { i.Offences = 1 }), block, ""},
		{"the n-th offence", Config{Ladders: cfg.Ladders, RefuseAfter: 3}.withDefaults(), at(flow.TierSuspend, 22), in(func(i *Input) { i.Offences = 2 }), cut, ReasonRefuse},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, ok := nextStep(tc.cfg, tc.f, tc.in, t0)
			if ok != (tc.want.Kind != "") || s.reason != tc.reason {
				t.Errorf("%+v, %t; want %+v (%s)", s, ok, tc.want, tc.reason)
			}
			if d := cmp.Diff(tc.want, s.measure); ok && d != "" {
				t.Errorf("measure (-want +got):\n%s", d)
			}
		})
	}
}

func TestOnlyPortsOfScansAreBlocked(t *testing.T) {
	for rule, want := range map[flow.Rule]bool{
		flow.RuleNetscan: true, flow.RuleBruteforce: true, flow.RuleSpam: true, flow.RuleBlockedPort: true, flow.RuleUDPSweep: true,
		flow.RuleReflector: false, flow.RuleUDPFlood: false, flow.RuleSYNFlood: false, flow.RulePortscan: false, flow.RuleSpoofed: false,
	} {
		if got := blockable(flow.Finding{Rule: rule, Port: 25}); got != want {
			t.Errorf("%s: %t, want %t", rule, got, want)
		}
		if blockable(flow.Finding{Rule: rule}) {
			t.Errorf("%s without a port can be blocked", rule)
		}
	}
}

func TestHoldGrows(t *testing.T) {
	cfg := Config{RepeatMax: 5 * time.Hour}.withDefaults()
	st := Step{For: time.Hour}
	for n, want := range []time.Duration{time.Hour, 2 * time.Hour, 4 * time.Hour, 5 * time.Hour, 5 * time.Hour} {
		if got := cfg.holdOf(st, Input{Offences: n}); got != want {
			t.Errorf("after %d offences: %s, want %s", n, got, want)
		}
	}
	if got := cfg.holdOf(st, Input{Offences: 5000}); got != 5*time.Hour {
		t.Errorf("after very many: %s", got)
	}
	if got := cfg.holdOf(Step{For: 9 * time.Hour}, Input{Offences: 3}); got != 9*time.Hour {
		t.Errorf("a step that is longer than the most: %s", got)
	}
	if got := cfg.holdOf(Step{}, Input{Offences: 3}); got != 0 {
		t.Errorf("a step without an end: %s", got)
	}
}

// ladderStage is a stage on which tenants scan for as long as they can.
func (s *stage) attack(d time.Duration, fs ...func(time.Time) flow.Finding) {
	s.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		s.pass(5 * time.Second)
		var list []flow.Finding
		for _, f := range fs {
			list = append(list, f(time.Now()))
		}
		if err := s.c.Handle(s.Context(), time.Now(), list); err != nil {
			s.Fatal(err)
		}
	}
	s.pass(time.Second)
}

func onPort(port uint16) func(time.Time) flow.Finding {
	return func(ts time.Time) flow.Finding {
		f := scan(tenantA, ts)
		f.Port = port
		return f
	}
}

func (w *world) restricted(k flow.MeasureKind) (flow.Restriction, bool) {
	n := w.nic(tenantA)
	return n.status().Restricted(k)
}

// A port is blocked, the abuse goes on at another and then all the same: more
// ports, then the cut; what is milder is given back once the cut reads back,
// the rest with the release.
func TestClimbs(t *testing.T) {
	cfg := climbing()
	cfg.Ladders[flow.RuleNetscan][0].After = 3 * time.Minute
	play(t, cfg, func(w *world) { w.attacks[tenantA] = []uint16{23} }, func(s *stage) {
		s.attack(5*time.Second, onPort(22))
		inc := s.state(tenantA, flow.StateSuspended)
		r, ok := s.w.restricted(flow.MeasureBlockPort)
		if n := s.w.nic(tenantA); !ok || !n.up || n.mark != nil || !slices.Equal(r.Measure.Ports, []flow.PortRule{tcp22}) || r.Mark.Incident != inc.ID {
			s.Fatalf("nic %+v", n)
		}
		if inc.Action.Measure.Kind != flow.MeasureBlockPort || inc.Action.Receipts[0].Undo == nil {
			s.Errorf("action %+v", inc.Action)
		}
		s.pass(time.Minute)
		s.state(tenantA, flow.StateVerified) // to port 22 nothing is seen, to 23 there is
		s.pass(30 * time.Second)
		s.attack(5*time.Second, onPort(23))
		r, _ = s.w.restricted(flow.MeasureBlockPort)
		if !slices.Equal(r.Measure.Ports, []flow.PortRule{tcp22, tcp23}) || len(s.of(tenantA).Others) != 0 {
			s.Fatalf("restriction %+v, others %+v", r, s.of(tenantA).Others)
		}
		s.attack(3*time.Minute, onPort(23))
		inc = s.of(tenantA)
		n := s.w.nic(tenantA)
		if n.up || n.cuts != 1 || n.takes != 2 || n.lifts != 1 || len(n.restrictions) != 0 {
			s.Fatalf("%s (%s), nic %+v", inc.State, inc.Reason, n)
		}
		if len(inc.Others) != 1 || inc.Others[0].Lifted.IsZero() || inc.Others[0].Lifted.Before(inc.Action.Done) {
			s.Errorf("the block was lifted before the cut was read back: %+v", inc.Others)
		}
		if err := s.c.Release(s.Context(), inc.ID, "anna", "fixed"); err != nil {
			s.Fatal(err)
		}
		s.pass(time.Second)
		s.state(tenantA, flow.StateReleased)
		if n := s.w.nic(tenantA); !n.up || n.mark != nil || len(n.restrictions) != 0 || n.gives != 1 {
			s.Errorf("after the release: %+v", n)
		}
		if got := s.w.mails("customer", noticeRestricted); len(got) != 1 {
			s.Errorf("%d notices of the block, want the first only", len(got))
		}
		if len(s.w.mails("customer", noticeSuspended)) != 1 || s.w.redundant != 0 {
			s.Errorf("suspended mails %v, %d redundant calls", s.w.mails("customer", noticeSuspended), s.w.redundant)
		}
	})
}

// Who goes from port to port, each blocked as soon as it is seen, is cut when
// the step's time is over, however many ports are left.
func TestPortToPort(t *testing.T) {
	play(t, climbing(), nil, func(s *stage) {
		port := uint16(1000)
		s.attack(3*time.Minute, func(ts time.Time) flow.Finding {
			port++
			f := scan(tenantA, ts)
			f.Port, f.From = port, ts.Add(-10*time.Second)
			return f
		})
		n := s.w.nic(tenantA)
		inc := s.of(tenantA)
		if n.up || n.cuts != 1 || n.takes < 2 || len(n.restrictions) != 0 {
			s.Fatalf("%s (%s), nic %+v", inc.State, inc.Reason, n)
		}
		if len(inc.Others) != 1 || len(inc.Others[0].Measure.Ports) < 2 || inc.Others[0].Done.IsZero() {
			s.Errorf("blocked before: %+v", inc.Others)
		}
	})
}

// The stronger measure fails: the milder one stays, and a release takes it back.
func TestClimbFails(t *testing.T) {
	play(t, climbing(), nil, func(s *stage) {
		s.attack(5*time.Second, onPort(22))
		s.w.mu.Lock()
		s.w.cutErr = func(int) error { return &flow.ActError{Class: flow.ErrDenied, Err: errString("no right to do that")} }
		s.w.mu.Unlock()
		s.attack(3*time.Minute, onPort(22))
		inc := s.state(tenantA, flow.StateFailed)
		if _, ok := s.w.restricted(flow.MeasureBlockPort); !ok || s.w.liftCalls != 0 {
			s.Fatal("the block was given up for a cut that failed")
		}
		if err := s.c.Release(s.Context(), inc.ID, "anna", "fixed"); err != nil {
			s.Fatal(err)
		}
		s.pass(time.Second)
		s.state(tenantA, flow.StateReleased)
		if n := s.w.nic(tenantA); len(n.restrictions) != 0 || !n.up {
			s.Errorf("after the release: %+v", n)
		}
	})
}

// What is replaced cannot be given back yet when all is: the milder measure goes
// before the link comes up.
func TestGivesBackInOrder(t *testing.T) {
	play(t, climbing(), func(w *world) { w.liftErr = func(int) error { return act(flow.ErrLocked, "backup") } }, func(s *stage) {
		s.attack(3*time.Minute, onPort(22))
		inc := s.of(tenantA)
		if n := s.w.nic(tenantA); n.up || len(n.restrictions) != 1 || inc.Action.Taken() != flow.MeasureCut {
			s.Fatalf("%s, nic %+v", inc.State, n)
		}
		var calls []string
		s.change(func(w *world) {
			w.liftErr = nil
			w.before = func(call string) { calls = append(calls, call) }
		})
		if err := s.c.Release(s.Context(), inc.ID, "anna", "fixed"); err != nil {
			s.Fatal(err)
		}
		s.pass(time.Second)
		s.state(tenantA, flow.StateReleased)
		if n := s.w.nic(tenantA); !n.up || len(n.restrictions) != 0 || !slices.Equal(calls, []string{"lift", "restore"}) {
			s.Errorf("calls %v, nic %+v", calls, n)
		}
	})
}

type errString string

func (e errString) Error() string { return string(e) }

// A step that the adapter offers and cannot take on this NIC goes to the next.
func TestUnsupportedHere(t *testing.T) {
	unsupported := func(w *world) {
		w.restrictErr = func(int) error { return &flow.ActError{Class: flow.ErrUnsupported, Err: errString("no firewall")} }
	}
	t.Run("skipped", func(t *testing.T) {
		cfg := climbing()
		cfg.SkipUnsupported = true
		play(t, cfg, unsupported, func(s *stage) {
			s.find(tenantA)
			s.pass(time.Second)
			s.state(tenantA, flow.StateSuspended)
			if n := s.w.nic(tenantA); n.cuts != 1 || s.w.restrictCalls != 1 || len(s.w.mails("staff", noticeFailed)) != 0 {
				s.Errorf("nic %+v, %d calls", n, s.w.restrictCalls)
			}
		})
	})
	t.Run("left to a human", func(t *testing.T) {
		play(t, climbing(), unsupported, func(s *stage) {
			s.find(tenantA)
			s.pass(10 * time.Second)
			s.state(tenantA, flow.StateFailed)
			if n := s.w.nic(tenantA); n.cuts != 0 || len(s.w.mails("staff", noticeFailed)) != 1 {
				s.Errorf("nic %+v", n)
			}
		})
	})
	t.Run("never offered", func(t *testing.T) {
		play(t, climbing(), func(w *world) { w.measures = nil }, func(s *stage) {
			s.find(tenantA)
			s.pass(10 * time.Second)
			inc := s.state(tenantA, flow.StateNotified)
			if !strings.Contains(inc.Reason, "no step") || s.w.cutCalls+s.w.restrictCalls != 0 || len(s.w.mails("customer", noticeNotified)) != 1 {
				s.Errorf("reason %q", inc.Reason)
			}
		})
	})
}

func TestLimitVerified(t *testing.T) {
	flood := func(ts time.Time) flow.Finding {
		f := scan(tenantA, ts)
		f.Rule, f.Port = flow.RuleSYNFlood, 0
		return f
	}
	t.Run("below", func(t *testing.T) {
		play(t, climbing(), func(w *world) { w.kbit[tenantA] = 90_000 }, func(s *stage) {
			s.attack(5*time.Second, flood)
			s.pass(2 * time.Minute)
			inc := s.state(tenantA, flow.StateVerified)
			if inc.Action.Measure.KbitS != 1000 || !strings.Contains(inc.Reason, "below the limit") {
				s.Errorf("%+v, reason %q", inc.Action.Measure, inc.Reason)
			}
		})
	})
	t.Run("above", func(t *testing.T) {
		cfg := climbing()
		play(t, cfg, func(w *world) { w.kbit[tenantA], w.sends[tenantA] = 90_000, true }, func(s *stage) {
			s.attack(5*time.Second, flood)
			s.pass(2 * time.Minute)
			s.state(tenantA, flow.StateSuspended)
			s.pass(3 * time.Minute)
			if inc := s.state(tenantA, flow.StateUnverified); !strings.Contains(inc.Reason, "90000 kbit/s") {
				s.Errorf("reason %q", inc.Reason)
			}
		})
	})
}

// A temporary block ends by itself; who offends again is blocked for longer.
func TestTemporary(t *testing.T) {
	cfg := climbing()
	cfg.Ladders[flow.RuleNetscan] = []Step{{Measure: flow.MeasureBlockPort, For: 10 * time.Minute}}
	play(t, cfg, func(w *world) { w.changes = make(chan string, 1) }, func(s *stage) {
		for i, want := range []time.Duration{10 * time.Minute, 20 * time.Minute, 40 * time.Minute} {
			s.attack(5*time.Second, onPort(22))
			s.pass(want - 30*time.Second)
			if _, ok := s.w.restricted(flow.MeasureBlockPort); !ok {
				s.Fatalf("block %d ended before %s", i, want)
			}
			if i == 1 { // the timer survives a restart
				s.stop()
				s.start()
			}
			if i == 2 { // and what the panel undid lasts no longer for it
				s.change(func(w *world) { w.nics[macA].restrictions = nil })
				s.w.changes <- "vds-a"
				s.pass(100 * time.Millisecond)
				if n := s.w.nic(tenantA); len(n.restrictions) != 1 {
					s.Fatalf("not taken up again: %+v", n)
				}
			}
			s.pass(time.Minute)
			if inc := s.state(tenantA, flow.StateReleased); len(s.w.nic(tenantA).restrictions) != 0 || inc.Restore == nil {
				s.Fatalf("block %d goes on: %+v", i, inc)
			}
			s.pass(2 * time.Minute)
		}
		if len(s.w.mails("customer", noticeLifted)) != 3 || len(s.w.mails("customer", noticeReleased)) != 0 {
			s.Errorf("%d mails", len(s.w.mails("customer", noticeLifted)))
		}
	})
}

// A person takes another measure than the one in force.
func TestRestrictByHand(t *testing.T) {
	cfg := Config{Modes: map[flow.Rule]flow.Mode{flow.RuleNetscan: flow.ModeNotify}}
	play(t, cfg, nil, func(s *stage) {
		s.find(tenantA)
		id := s.state(tenantA, flow.StateNotified).ID
		for name, m := range map[string]flow.Measure{
			"no kind": {}, "no ports": {Kind: flow.MeasureBlockPort}, "no limit": {Kind: flow.MeasureLimit}, "unknown": {Kind: "unplug"},
		} {
			if err := s.c.Restrict(s.Context(), id, "anna", m, "x"); err == nil || !strings.Contains(err.Error(), ErrMeasure.Error()) {
				s.Errorf("%s: %v", name, err)
			}
		}
		limit := flow.Measure{Kind: flow.MeasureLimit, KbitS: 500}
		if err := s.c.Restrict(s.Context(), id, "anna", limit, " "); !errors.Is(err, ErrReason) {
			s.Errorf("without a reason: %v", err)
		}
		if err := s.c.Restrict(s.Context(), id, "anna", limit, "too loud"); err != nil {
			s.Fatal(err)
		}
		s.pass(time.Second)
		s.state(tenantA, flow.StateSuspended)
		if err := s.c.Restrict(s.Context(), id, "anna", limit, "again"); err == nil {
			s.Error("what is in force was taken again")
		}
		if err := s.c.Restrict(s.Context(), id, "anna", flow.Measure{Kind: flow.MeasureCut}, "worse"); err != nil {
			s.Fatal(err)
		}
		s.pass(2 * time.Second)
		if n := s.w.nic(tenantA); n.up || len(n.restrictions) != 0 {
			s.Fatalf("nic %+v", n)
		}
		// and back to something milder: the cut stays until the limit is read back
		if err := s.c.Restrict(s.Context(), id, "anna", limit, "better"); err != nil {
			s.Fatal(err)
		}
		s.pass(2 * time.Second)
		if n := s.w.nic(tenantA); !n.up || len(n.restrictions) != 1 || n.mark != nil {
			s.Fatalf("nic %+v", n)
		}
	})
}

// In mode approve each step is a person's.
func TestApprovedSteps(t *testing.T) {
	cfg := climbing()
	cfg.Modes[flow.RuleNetscan] = flow.ModeApprove
	play(t, cfg, nil, func(s *stage) {
		s.attack(5*time.Second, onPort(22))
		id := s.state(tenantA, flow.StateApproval).ID
		if err := s.c.Approve(s.Context(), id, "anna", "yes"); err != nil {
			s.Fatal(err)
		}
		s.pass(time.Second)
		if _, ok := s.w.restricted(flow.MeasureBlockPort); !ok || s.w.cutCalls != 0 {
			s.Fatalf("approved was the block: %+v", s.w.nic(tenantA))
		}
		s.attack(3*time.Minute, onPort(22))
		if inc := s.of(tenantA); !inc.State.Cut() || s.w.cutCalls != 0 || !strings.Contains(inc.Reason, "human decides") {
			s.Fatalf("%s (%s)", inc.State, inc.Reason)
		}
		if n := len(s.w.mails("staff", noticeHeld)); n != 2 {
			s.Errorf("%d questions to staff, want one for each step", n)
		}
		if err := s.c.Approve(s.Context(), id, "anna", "cut it"); err != nil {
			s.Fatal(err)
		}
		s.pass(time.Second)
		if n := s.w.nic(tenantA); n.up {
			s.Errorf("nic %+v", n)
		}
	})
}
