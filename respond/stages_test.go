package respond

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// scanBatch is n attempts on destinations of 203.0.net.0/24, ending at end.
func scanBatch(net byte, n int, end time.Time) *flow.Batch {
	var b flow.Batch
	for i := range n {
		at := end.Add(-time.Duration(n-i) * 10 * time.Millisecond).UnixNano()
		b.Flows = append(b.Flows, flow.FlowRow{
			Time: at, Start: at, End: at, Exporter: netip.MustParseAddr("192.0.2.1"), Tenant: tenantA, Host: tenantA,
			Remote: addr4([4]byte{203, 0, net, byte(i + 1)}), HostPort: 40001, RemotePort: 22, SvcPort: 22, Dir: flow.Out, IPProto: flow.ProtoTCP,
			Role: flow.RoleClient, Class: flow.ClassSYN, TCPFlags: flow.SYN, Packets: 1, Bytes: 44, IPLen: 44, TTL: 243, Rate: 1000,
		})
	}
	return &b
}

// What proves the act is read anew at the act, on the real store: it holds
// what the notice held, what came between the two, and what was on its way
// when the act was decided. The texts of the notice stay as they were.
func TestStagesOnTheStore(t *testing.T) {
	st := storetest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	write := func(b *flow.Batch) {
		t.Helper()
		if err := st.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := st.Sync(ctx); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld()
	p := &proc{w: w, die: func() {}}
	cfg := enforce()
	cfg.NotifyAfter, cfg.EvidenceAfter, cfg.Tick = 300*time.Millisecond, 4*time.Second, 50*time.Millisecond
	c := New(cfg, Deps{
		Events: st, Flows: st, Inventory: p, Suspenders: []Suspender{hyper{p, "hv"}},
		Notifiers: []Notifier{box{p, "staff", nil}, box{p, "customer", []string{noticeSuspended, noticeNotified}}},
	})
	if err := c.Load(ctx); err != nil {
		t.Fatal(err)
	}
	rctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(rctx) }()
	handle := func(f flow.Finding) {
		t.Helper()
		if err := c.Handle(ctx, f.Time, []flow.Finding{f}); err != nil {
			t.Fatal(err)
		}
	}
	mailed := func(kind string) flow.Notice {
		t.Helper()
		for {
			w.mu.Lock()
			i := slices.IndexFunc(w.mail, func(m sentNotice) bool { return m.notifier == "customer" && m.n.Kind == kind })
			if i >= 0 {
				defer w.mu.Unlock()
				return w.mail[i].n
			}
			w.mu.Unlock()
			select {
			case <-ctx.Done():
				t.Fatalf("no notice %q: %+v", kind, c.Incidents(Filter{}))
			case <-time.After(20 * time.Millisecond):
			}
		}
	}

	now := time.Now().UTC()
	write(scanBatch(1, 40, now))
	first := early(tenantA, now)
	first.From = now.Add(-40 * time.Second)
	handle(first)
	told := mailed(noticeNotified)
	if told.Evidence.Rows != 40 || strings.Count(told.Evidence.Logs[0].Text, "203.0.1.") != 40 {
		t.Fatalf("notice with %d rows:\n%s", told.Evidence.Rows, told.Evidence.Logs[0].Text)
	}

	write(scanBatch(2, 70, time.Now().UTC())) // between the notice and the act
	now = time.Now().UTC()
	risen := scan(tenantA, now)
	risen.From = now.Add(-10 * time.Second) // counts nothing of what the notice was about
	handle(risen)
	write(scanBatch(3, 30, time.Now().UTC())) // stored after the act was decided, sent before
	cut := mailed(noticeSuspended)
	list := cut.Evidence.Logs[0].Text
	for net, want := range map[string]int{"203.0.1.": 40, "203.0.2.": 70, "203.0.3.": 30} {
		if got := strings.Count(list, net); got != want {
			t.Errorf("the suspended notice lists %d of the %d rows to %s0/24", got, want, net)
		}
	}
	if cut.Evidence.Rows != 140 || cut.Evidence.From.After(first.From) || cut.Evidence.Incident != cut.Incident.ID {
		t.Errorf("evidence of %s: %d rows from %s", cut.Evidence.Incident, cut.Evidence.Rows, cut.Evidence.From)
	}

	id := cut.Incident.ID
	inc, _, _ := c.Incident(id)
	if !slices.Equal(inc.Evidence, []string{id, id + "-2"}) {
		t.Errorf("stages %v", inc.Evidence)
	}
	if e, err := st.Evidence(ctx, id); err != nil || e.Rows != 40 || e.Logs[0].SHA256 != told.Evidence.Logs[0].SHA256 {
		t.Errorf("the notice's texts have changed: %d rows, %v", e.Rows, err)
	}
	if e, err := c.Evidence(ctx, id); err != nil || e.Rows != 140 || e.Incident != id || e.Logs[0].SHA256 != cut.Evidence.Logs[0].SHA256 {
		t.Errorf("Evidence gives %d rows of %s, %v; want the latest stage", e.Rows, e.Incident, err)
	}
	if _, err := c.Evidence(ctx, "FC-NOBODY"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("evidence of an unknown incident: %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// An act that is decided while the evidence of the notice is being read is not
// proved by it: it gets a stage of its own.
func TestIntentWhileEvidenceIsRead(t *testing.T) {
	reads := 0
	play(t, enforce(), nil, func(s *stage) {
		s.w.onFlows = func() {
			if reads++; reads == 1 {
				now := time.Now()
				if err := s.c.Handle(s.Context(), now, []flow.Finding{scan(tenantA, now)}); err != nil {
					t.Error(err)
				}
				time.Sleep(10 * time.Second) // longer than the rows are on their way
			}
		}
		s.young(tenantA)
		s.pass(5 * time.Minute)
		inc := s.state(tenantA, flow.StateVerified)
		if reads != 2 || !slices.Equal(inc.Evidence, []string{inc.ID, inc.ID + "-2"}) {
			t.Errorf("%d reads, stages %v", reads, inc.Evidence)
		}
		e, err := s.c.Evidence(s.Context(), inc.ID)
		if err != nil || e.Frozen.Before(inc.Action.Intent.Add(flushLag)) {
			t.Errorf("latest stage read at %s, the act is of %s, %v", e.Frozen, inc.Action.Intent, err)
		}
		for _, m := range s.w.mail {
			if m.n.Kind == noticeSuspended && m.n.Evidence.Frozen.Before(inc.Action.Intent) {
				t.Error("the act's notice carries what was read before it")
			}
		}
	})
}

// A network that is given back before its evidence was read still gets it.
func TestReleasedBeforeEvidence(t *testing.T) {
	play(t, enforce(), nil, func(s *stage) {
		s.find(tenantA)
		s.pass(time.Second)
		if err := s.c.Release(s.Context(), s.state(tenantA, flow.StateSuspended).ID, "anna", "a mistake"); err != nil {
			s.Fatal(err)
		}
		s.pass(30 * time.Second)
		inc := s.state(tenantA, flow.StateReleased)
		if len(inc.Evidence) != 1 || len(s.w.mails("customer", noticeSuspended)) != 1 || len(s.w.mails("customer", noticeReleased)) != 1 {
			t.Fatalf("stages %v, mails %v", inc.Evidence, s.w.mail)
		}
		for _, m := range s.w.mail {
			if m.n.Kind == noticeSuspended && m.n.Evidence.Rows != 20 {
				t.Errorf("%d rows", m.n.Evidence.Rows)
			}
		}
	})
}

// With more rows than can be kept, the notice shows how it began and the act
// what went on until then.
func TestStagesOfManyRows(t *testing.T) {
	cfg := enforce()
	cfg.EvidenceRows = 2
	play(t, cfg, func(w *world) { w.rows = w.rows[:4] }, func(s *stage) {
		for i := range s.w.rows {
			s.w.rows[i].Time += int64(i)
		}
		s.young(tenantA)
		s.pass(3 * time.Minute)
		s.find(tenantA)
		s.pass(time.Minute)
		inc := s.state(tenantA, flow.StateVerified)
		for i, want := range [][]netip.Addr{{s.w.rows[0].Remote, s.w.rows[1].Remote}, {s.w.rows[2].Remote, s.w.rows[3].Remote}} {
			e := s.w.saved[inc.Evidence[i]]
			if e.Rows != 2 || !e.Truncated {
				t.Errorf("stage %d: %d rows, truncated %t", i, e.Rows, e.Truncated)
			}
			for _, row := range s.w.rows {
				if got := strings.Contains(e.Logs[0].Text, row.Remote.String()+" 22\n"); got != slices.Contains(want, row.Remote) {
					t.Errorf("stage %d: %s listed: %t", i, row.Remote, got)
				}
			}
		}
	})
}
