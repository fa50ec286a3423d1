package respond

import (
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

const macA = "52:54:00:00:00:0a"

// change changes the world under its lock.
func (s *stage) change(fn func(*world)) {
	s.w.mu.Lock()
	fn(s.w)
	s.w.mu.Unlock()
}

// truth compares what the incident says with what is: within a minute after a
// fault is over they must agree.
func (s *stage) truth(a netip.Addr) {
	s.Helper()
	inc := s.of(a)
	n := s.w.nicOf(a)
	switch inc.State {
	case flow.StateSuspended, flow.StateVerified, flow.StateUnverified:
		if n == nil {
			s.Fatalf("%s is %s and its NIC is gone", a, inc.State)
		}
		for _, nic := range inc.Action.NICs {
			if n := s.w.nics[nic.MAC]; n == nil || !effective(n.status(), *inc.Action) || n.status().MarkOf(inc.Action.Taken()).Incident != inc.ID {
				s.Fatalf("%s is %s by %s and %s is %+v", a, inc.State, inc.Action.Taken(), nic.MAC, n)
			}
		}
	case flow.StateReleased, flow.StateClosed, flow.StateFailed:
		if n != nil && (!n.up && n.running || !n.configUp || n.mark != nil || len(n.restrictions) > 0) {
			s.Fatalf("%s is %s (%s) and its NIC is %+v", a, inc.State, inc.Reason, n)
		}
	default:
		s.Fatalf("%s is still %s (%s) a minute after the fault", a, inc.State, inc.Reason)
	}
}

// fault is one line of the table. Each is played for the cut and for the port
// block, the milder measure.
type fault struct {
	name    string
	world   func(*world)
	before  func(*stage) // after the start, before the finding
	after   func(*stage) // with the act under way or done: the fault ends, or happens
	want    []flow.State
	takes   int // real changes to the tenant's NIC; 0: one
	repeats int // restrictions asked for again, only to have their receipt
}

func act(class flow.ErrClass, text string) error {
	return &flow.ActError{Class: class, Err: errString(text)}
}

// upTo fails the first n calls.
func upTo(n int, err error) func(int) error {
	return func(i int) error {
		if i <= n {
			return err
		}
		return nil
	}
}

var inForceStates = []flow.State{flow.StateSuspended, flow.StateVerified}

func faults() []fault {
	return []fault{
		{name: "the hypervisor answers 500", world: func(w *world) {
			w.cutErr = upTo(3, errors.New("500 internal server error")) // no class: transient
			w.restrictErr = w.cutErr
		}, after: func(s *stage) { s.pass(20 * time.Second) }, want: inForceStates},
		{name: "its read-back answers 500", world: func(w *world) { w.statusErr = upTo(2, act(flow.ErrTransient, "500")) },
			after: func(s *stage) { s.pass(10 * time.Second) }, want: inForceStates},
		{name: "the connection drops after the act", world: func(w *world) {
			once := true
			w.after = func(string) error {
				if once {
					once = false
					return act(flow.ErrTransient, "connection reset by peer")
				}
				return nil
			}
		}, after: func(s *stage) { s.pass(5 * time.Second) }, want: inForceStates, repeats: 1},
		{name: "locked by a backup", world: func(w *world) {
			w.cutErr = upTo(4, act(flow.ErrLocked, "VM is locked (backup)"))
			w.restrictErr = w.cutErr
		}, after: func(s *stage) { s.pass(30 * time.Second) }, want: inForceStates},
		{name: "migrates between finding and cut", world: func(w *world) { w.nics[macA].at = "nowhere"; w.adapters = []string{"hv2"} },
			before: func(s *stage) {
				go func() {
					time.Sleep(3 * time.Second)
					s.change(func(w *world) {
						w.nics[macA].at = "hv2"
						h := w.holders[tenantA]
						h.Hypervisor = "hv2"
						w.holders[tenantA] = h
					})
				}()
			}, after: func(s *stage) { s.pass(10 * time.Second) }, want: inForceStates},
		{name: "away for a moment, at the same hypervisor", world: func(w *world) { w.nics[macA].at = "moving" },
			before: func(s *stage) {
				go func() { time.Sleep(2 * time.Second); s.change(func(w *world) { w.nics[macA].at = "hv" }) }()
			}, after: func(s *stage) { s.pass(10 * time.Second) }, want: inForceStates},
		{name: "migrated after the cut", world: func(w *world) { w.adapters = []string{"hv2"} }, after: func(s *stage) {
			s.change(func(w *world) { // the mark moves along; the link of the target is up
				n := w.nics[macA]
				n.at, n.up, n.configUp, n.restrictions = "hv2", true, true, nil
				h := w.holders[tenantA]
				h.Hypervisor = "hv2"
				w.holders[tenantA] = h
			})
			s.pass(time.Minute + 5*time.Second)
		}, want: inForceStates, takes: 2},
		{name: "powered off", world: func(w *world) { n := w.nics[macA]; n.running, n.up = false, false },
			after: func(s *stage) { s.pass(5 * time.Second) }, want: inForceStates},
		{name: "power cycle that forgets what was live only", after: func(s *stage) {
			s.change(func(w *world) { n := w.nics[macA]; n.up, n.restrictions = true, nil })
			s.pass(time.Minute + 5*time.Second)
		}, want: inForceStates, takes: 2},
		{name: "defined anew by the panel", after: func(s *stage) {
			s.change(func(w *world) { // live stays down, the mark and the configuration are the template's
				n := w.nics[macA]
				n.configUp, n.mark, n.restrictions = true, nil, nil
			})
			s.pass(time.Minute + 5*time.Second)
		}, want: inForceStates, takes: 2},
		{name: "defined anew, and the hypervisor says so", after: func(s *stage) {
			s.change(func(w *world) { n := w.nics[macA]; n.configUp, n.mark, n.restrictions = true, nil, nil })
			s.w.changes <- "vds-a"
			s.pass(time.Second)
		}, want: inForceStates, takes: 2},
		{name: "rebuilt with a new MAC", after: func(s *stage) {
			s.change(func(w *world) {
				delete(w.nics, macA)
				w.nics["52:54:00:00:00:ff"] = &nicState{up: true, configUp: true, running: true, at: "hv"}
				h := w.holders[tenantA]
				h.NICs = []string{"52:54:00:00:00:ff"}
				w.holders[tenantA] = h
			})
			s.pass(time.Minute + 5*time.Second)
		}, want: inForceStates},
		{name: "deleted before the cut", world: func(w *world) { delete(w.nics, macA) },
			before: func(s *stage) {
				go func() { time.Sleep(2 * time.Second); s.change(func(w *world) { delete(w.holders, tenantA) }) }()
			}, after: func(s *stage) { s.pass(10 * time.Second) }, want: []flow.State{flow.StateClosed}},
		{name: "deleted while it is cut", after: func(s *stage) {
			s.change(func(w *world) { delete(w.nics, macA); delete(w.holders, tenantA) })
			s.pass(time.Minute + 5*time.Second)
		}, want: []flow.State{flow.StateClosed}},
		{name: "deleted, and the address is another customer's", after: func(s *stage) {
			s.change(func(w *world) {
				delete(w.nics, macA)
				w.nics["52:54:00:00:00:ee"] = &nicState{up: true, configUp: true, running: true, at: "hv"}
				h := w.holders[tenantA]
				h.Tenant, h.VDS, h.NICs = "cust-new", "vds-new", []string{"52:54:00:00:00:ee"}
				w.holders[tenantA] = h
			})
			s.pass(time.Minute + 5*time.Second)
			if n := s.w.nics["52:54:00:00:00:ee"]; !n.up || n.cuts+n.takes != 0 {
				s.Fatalf("the next holder was touched: %+v", n)
			}
		}, want: []flow.State{flow.StateClosed}},
		{name: "the NIC is away while it is cut, and comes back up", after: func(s *stage) {
			s.change(func(w *world) { w.nics[macA].at = "nowhere" })
			s.pass(time.Minute + 5*time.Second)
			if inc := s.of(tenantA); !strings.Contains(inc.Reason, "does not know the NIC") {
				s.Fatalf("%s (%s): the truth is not shown", inc.State, inc.Reason)
			}
			s.change(func(w *world) { n := w.nics[macA]; n.at, n.up, n.configUp, n.restrictions = "hv", true, true, nil })
			s.pass(time.Minute + 5*time.Second)
		}, want: inForceStates, takes: 2},
		{name: "two incidents for one server", world: func(w *world) {
			h := w.holders[tenantA]
			h.Prefix = netip.PrefixFrom(tenantB, 32)
			w.holders[tenantB] = h
		}, after: func(s *stage) {
			s.find(tenantA, tenantB)
			s.pass(10 * time.Second)
			s.state(tenantB, flow.StateHeld)
		}, want: inForceStates},
	}
}

// TestFaultTable plays each fault: never two acts, never a lost one, and a
// minute after it the incident says what is.
func TestFaultTable(t *testing.T) {
	for _, kind := range []flow.MeasureKind{flow.MeasureCut, flow.MeasureBlockPort} {
		for _, f := range faults() {
			t.Run(string(kind)+"/"+f.name, func(t *testing.T) {
				cfg := enforce()
				cfg.Ladders = map[flow.Rule][]Step{flow.RuleNetscan: {{Measure: kind}}}
				prepare := func(w *world) {
					w.changes = make(chan string, 1)
					if f.world != nil {
						f.world(w)
					}
				}
				play(t, cfg, prepare, func(s *stage) {
					if f.before != nil {
						f.before(s)
					}
					s.find(tenantA)
					s.pass(time.Second)
					f.after(s)
					inc := s.of(tenantA)
					if !slices.Contains(f.want, inc.State) {
						s.Fatalf("%s (%s), want one of %v", inc.State, inc.Reason, f.want)
					}
					s.truth(tenantA)
					if n := s.w.nicOf(tenantA); n != nil && inc.State.Cut() && n.cuts+n.takes != max(f.takes, 1) {
						s.Errorf("%d real acts, want %d", n.cuts+n.takes, max(f.takes, 1))
					}
					if s.w.redundant > f.repeats || kind == flow.MeasureCut && s.w.redundant > 0 {
						s.Errorf("%d calls asked for what was done already", s.w.redundant)
					}
					if n := len(s.w.mails("customer", noticeSuspended)) + len(s.w.mails("customer", noticeRestricted)); n > 1 {
						s.Errorf("the customer got %d notices of one act", n)
					}
					if inc.State.Cut() {
						if err := s.c.Release(s.Context(), inc.ID, "anna", "fixed"); err != nil {
							s.Fatal(err)
						}
						s.pass(time.Minute)
						s.state(tenantA, flow.StateReleased)
						s.truth(tenantA)
					}
				})
			})
		}
	}
}

// A hypervisor that hangs: the call is given up, the next goes through; a late
// answer changes nothing.
func TestFaultHangs(t *testing.T) {
	var hang chan struct{}
	play(t, enforce(), func(w *world) { hang = make(chan struct{}); w.hang = hang }, func(s *stage) {
		s.find(tenantA)
		s.pass(11 * time.Second)
		if inc := s.state(tenantA, flow.StateSuspending); !strings.Contains(inc.Action.Error, "no answer") {
			s.Errorf("error %q", inc.Action.Error)
		}
		s.change(func(w *world) { w.hang = nil })
		s.pass(time.Minute)
		s.truth(tenantA)
		close(hang)
		s.pass(time.Minute)
		s.truth(tenantA)
		if n := s.w.nic(tenantA); n.cuts != 1 {
			s.Errorf("%d cuts", n.cuts)
		}
	})
}

// A release that is asked for while the cut is being called: the cut ends, and
// then it is given back.
func TestFaultReleaseDuringCut(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("answer lost %t", lost), func(t *testing.T) {
			play(t, enforce(), nil, func(s *stage) {
				s.change(func(w *world) {
					w.before = func(call string) {
						if call == "cut" {
							time.Sleep(5 * time.Second) // slow, but within the deadline
						}
					}
					w.after = func(call string) error {
						if lost && call == "cut" {
							return act(flow.ErrTransient, "connection reset by peer")
						}
						return nil
					}
				})
				s.find(tenantA)
				s.pass(time.Second)
				inc := s.state(tenantA, flow.StateSuspending)
				if err := s.c.Release(s.Context(), inc.ID, "anna", "a mistake"); err != nil {
					s.Fatal(err)
				}
				s.pass(time.Minute)
				s.state(tenantA, flow.StateReleased)
				s.truth(tenantA)
				if n := s.w.nic(tenantA); n.cuts != 1 || n.gives != 1 {
					s.Errorf("%d cuts, %d restores", n.cuts, n.gives)
				}
			})
		})
	}
}

// TestFaultKilled kills the process before, during and after the call of each
// step of the ladder, once and again after the restart.
func TestFaultKilled(t *testing.T) {
	run := func(t *testing.T, crashAt ...int) (points int) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.rows = scanRows()
			for _, n := range crashAt {
				w.crashAt[n] = true
			}
			climbLife(t, w, len(crashAt))
			points = w.points
		})
		return points
	}
	points := run(t)
	if t.Failed() {
		return
	}
	if points < 60 {
		t.Fatalf("only %d crash points", points)
	}
	t.Logf("%d crash points", points)
	for n := 1; n <= points; n++ {
		for _, again := range []int{0, 1, 2, 4} {
			t.Run(fmt.Sprintf("%d+%d", n, again), func(t *testing.T) {
				if again == 0 {
					run(t, n)
				} else {
					run(t, n, n+again)
				}
			})
		}
	}
}

// climbLife lives through block, cut and release, restarting whenever it dies.
func climbLife(t *testing.T, w *world, crashes int) {
	t.Helper()
	ctx := t.Context()
	c, p, done := w.boot(ctx, climbing())
	for range 60 {
		time.Sleep(5 * time.Second)
		synctest.Wait()
		w.mu.Lock()
		dead := p.dead
		w.mu.Unlock()
		if dead {
			<-done
			c, p, done = w.boot(ctx, climbing())
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		list := c.Incidents(Filter{})
		if len(list) > 0 && list[0].State == flow.StateVerified && list[0].Action.Taken() == flow.MeasureCut {
			_ = c.Release(ctx, list[0].ID, "staff", "reinstalled") // a dying process refuses
		}
		if len(list) == 0 || list[0].State != flow.StateReleasing && list[0].State != flow.StateReleased {
			_ = c.Handle(ctx, time.Now(), []flow.Finding{scan(tenantA, time.Now())})
		}
	}
	time.Sleep(10 * time.Second)
	synctest.Wait()
	list := c.Incidents(Filter{})
	n := w.nic(tenantA)
	if len(list) != 1 {
		t.Fatalf("%d incidents", len(list))
	}
	if list[0].State != flow.StateReleased {
		t.Fatalf("%s (%s)", list[0].State, list[0].Reason)
	}
	if n.takes != 1 || n.lifts != 1 || n.cuts != 1 || n.gives != 1 || !n.up || !n.configUp || n.mark != nil || len(n.restrictions) != 0 {
		t.Errorf("blocks %d/%d, cuts %d/%d, nic %+v: want one of each and the state before", n.takes, n.lifts, n.cuts, n.gives, n)
	}
	if w.redundant > crashes { // a restriction whose receipt died with the process
		t.Errorf("%d calls asked for what was done already", w.redundant)
	}
	p.die()
	<-done
}

// An adapter that panics on an answer is a hypervisor that failed: others are
// acted on, and it is asked again.
func TestAdapterPanics(t *testing.T) {
	play(t, enforce(), func(w *world) {
		panics := 2
		w.before = func(call string) {
			if call == "cut" && panics > 0 {
				panics--
				var answer map[string]*flow.Mark
				_ = answer["cut"].Key
			}
		}
	}, func(s *stage) {
		s.find(tenantA)
		s.pass(200 * time.Millisecond)
		inc := s.state(tenantA, flow.StateSuspending)
		if inc.Action == nil || !strings.Contains(inc.Action.Error, "nil pointer") || !strings.Contains(inc.Action.Error, "TestAdapterPanics") {
			s.Errorf("the incident says %+v", inc.Action)
		}
		s.pass(time.Minute)
		if s.state(tenantA, flow.StateVerified); s.w.nic(tenantA).cuts != 1 {
			s.Errorf("nic %+v", s.w.nic(tenantA))
		}
	})
}
