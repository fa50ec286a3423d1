package respond

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// life drives one incident from the first finding to the release and beyond,
// starting the process anew whenever it dies. The detector keeps finding, as
// it does; after the release it still finds what the long windows hold.
func life(t *testing.T, w *world) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, p, done := w.boot(ctx, enforce())
	first := time.Now()
	for i := range 80 {
		time.Sleep(5 * time.Second)
		synctest.Wait()
		w.mu.Lock()
		dead := p.dead
		w.mu.Unlock()
		if dead {
			<-done
			c, p, done = w.boot(ctx, enforce())
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		now := time.Now()
		f := scan(tenantA, now)
		if i < 3 {
			f = early(tenantA, now) // a young attack looks small
		}
		f.From, f.WindowS = first.Add(-time.Minute), 1800 // never leaves the first minute behind
		_ = c.Handle(ctx, now, []flow.Finding{f})         // a dying process refuses; the next tick comes
		for _, inc := range c.Incidents(Filter{}) {
			if inc.State == flow.StateVerified {
				_ = c.Release(ctx, inc.ID, "staff", "it was a compromised WordPress, reinstalled")
			}
		}
	}
	cancel()
	<-done
}

// check is what must hold at the end of a life, whatever crashed in it.
func check(t *testing.T, w *world, crashes int) {
	t.Helper()
	st := newState(nil)
	for _, ev := range w.events {
		if ev.Seq != st.seq+1 {
			t.Fatalf("event %d follows %d", ev.Seq, st.seq)
		}
		if err := st.fold(ev); err != nil {
			t.Fatal(err)
		}
	}
	if len(st.recs) != 1 {
		t.Fatalf("%d incidents, want 1", len(st.recs))
	}
	for _, r := range st.recs {
		if r.inc.State != flow.StateReleased {
			t.Fatalf("state %s (%s), want released", r.inc.State, r.inc.Reason)
		}
		if len(r.notices) != 2 {
			t.Fatalf("%d notices, want 2", len(r.notices))
		}
		for _, n := range r.notices {
			if left := n.open(); len(left) > 0 {
				t.Errorf("notice %s is owed to %v", n.Key, left)
			}
		}
	}
	nic := w.nic(tenantA)
	if nic.cuts != 1 || nic.gives != 1 || !nic.up || !nic.configUp || nic.mark != nil {
		t.Errorf("cuts %d, restores %d, up %t/%t, mark %v: want one of each and the state before", nic.cuts, nic.gives, nic.up, nic.configUp, nic.mark)
	}
	if w.redundant > 0 {
		t.Errorf("%d of %d cut and %d restore calls asked for what was done already: no read-back first", w.redundant, w.cutCalls, w.restoreCalls)
	}
	for _, who := range []string{"staff", "customer"} {
		for _, kind := range []string{noticeSuspended, noticeReleased} {
			keys := w.mails(who, kind)
			if len(keys) < 1 || len(keys) > 1+crashes {
				t.Errorf("%s got %d notices %q, want 1 (and one more for each crash between sending and storing)", who, len(keys), kind)
			}
			if len(slices.Compact(keys)) != 1 {
				t.Errorf("%s got %q under several keys: %v", who, kind, keys)
			}
		}
	}
	for _, ev := range w.events {
		if ev.Kind != EventEvidence {
			continue
		}
		b, err := readBody(ev)
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range w.saved[b.Key].Logs {
			if l.SHA256 != b.Logs[i].SHA256 {
				t.Errorf("%s of %s is not what the event says was frozen", l.Form, b.Key)
			}
		}
	}
	for _, m := range w.mail {
		if m.n.Kind == noticeSuspended && len(m.n.Evidence.Logs) < 2 {
			t.Errorf("suspended notice to %s has %d logs", m.notifier, len(m.n.Evidence.Logs))
		}
	}
}

func scanRows() []flow.FlowRow {
	var rows []flow.FlowRow
	at := time.Date(2026, 11, 22, 6, 53, 16, 123456000, time.UTC).UnixNano()
	for i := range 20 {
		d := tenantB.As4()
		d[0], d[3] = 203, byte(i+1)
		rows = append(rows, flow.FlowRow{
			Time: at, Start: at, End: at, Tenant: tenantA, Host: tenantA, Remote: addr4(d), HostPort: 40001, RemotePort: 22,
			SvcPort: 22, Dir: flow.Out, IPProto: flow.ProtoTCP, Role: flow.RoleClient, Class: flow.ClassSYN, TCPFlags: flow.SYN,
			Packets: 1, Bytes: 44, IPLen: 44, TTL: 243, Rate: 1000,
		})
	}
	return rows
}

// TestCrashAnywhere lets the process die before and after every single append,
// hypervisor call, evidence write and message of an incident's life, and, in a
// second round, die again right after the restart.
func TestCrashAnywhere(t *testing.T) {
	points := 0
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.rows = scanRows()
		life(t, w)
		check(t, w, 0)
		points = w.points
	})
	if t.Failed() {
		return
	}
	if points < 40 {
		t.Fatalf("only %d crash points: the harness does not see the controller's work", points)
	}
	t.Logf("%d crash points", points)
	for n := 1; n <= points; n++ {
		for _, again := range []int{0, 1, 2, 3, 5, 8} {
			t.Run(fmt.Sprintf("%d+%d", n, again), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld()
					w.rows = scanRows()
					w.crashAt[n] = true
					crashes := 1
					if again > 0 {
						w.crashAt[n+again] = true
						crashes++
					}
					life(t, w)
					check(t, w, crashes)
				})
			})
		}
	}
}

// A process that dies in the middle of a batch may leave an incident that was
// opened and never decided on. The next start decides, without new findings.
func TestOpenedButNotDecided(t *testing.T) {
	play(t, enforce(), nil, func(s *stage) {
		s.find(tenantA)
		s.pass(time.Second)
		id := s.state(tenantA, flow.StateSuspended).ID
		s.stop()
		s.w.mu.Lock()
		s.w.events = s.w.events[:1] // opened
		n := s.w.nics["52:54:00:00:00:0a"]
		n.up, n.configUp, n.mark, n.cuts = true, true, nil, 0
		s.w.mu.Unlock()
		s.start()
		s.pass(time.Second)
		if inc := s.state(tenantA, flow.StateSuspended); inc.ID != id || s.w.nic(tenantA).cuts != 1 {
			s.Errorf("incident %s, %d cuts", inc.ID, s.w.nic(tenantA).cuts)
		}
	})
}
