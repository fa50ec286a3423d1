package respond

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// The whole life of an incident on the real store: the events, the flows that
// prove it, the silence that verifies it, and a second process that reads all
// of it back.
func TestOnTheStore(t *testing.T) {
	st := storetest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	now := time.Now().UTC()
	begin := now.Truncate(10 * time.Second).Add(-time.Minute)
	var b flow.Batch
	for i := range 40 {
		at := begin.Add(time.Duration(i) * time.Second).UnixNano()
		b.Flows = append(b.Flows, flow.FlowRow{
			Time: at, Start: at, End: at, Exporter: netip.MustParseAddr("192.0.2.1"), Tenant: tenantA, Host: tenantA,
			Remote: addr4([4]byte{203, 0, 113, byte(i + 1)}), HostPort: 40001, RemotePort: 22, SvcPort: 22, Dir: flow.Out, IPProto: flow.ProtoTCP,
			Role: flow.RoleClient, Class: flow.ClassSYN, TCPFlags: flow.SYN, Packets: 1, Bytes: 44, IPLen: 44, TTL: 243, Rate: 1000,
		})
	}
	// Another tenant goes on sending, so that silence means something.
	for i := range 30 {
		key := flow.Key{Start: begin.Unix() + int64(i*10), Tenant: tenantB, Rate: 1000}
		counts := flow.Counts{OutRecords: 5, OutPackets: 5, OutBytes: 500}
		b.Hosts = append(b.Hosts, flow.HostWindow{Key: key, Counts: counts})
		b.Services = append(b.Services, flow.ServiceWindow{Key: key, IPProto: flow.ProtoTCP, Role: flow.RoleServer, SvcPort: 443, Counts: counts})
	}
	if err := st.Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := st.Sync(ctx); err != nil {
		t.Fatal(err)
	}

	w := newWorld()
	p := &proc{w: w, die: func() {}}
	deps := Deps{
		Events: st, Flows: st, Inventory: p, Suspenders: []Suspender{hyper{p, "hv"}},
		Notifiers: []Notifier{box{p, "staff", nil}, box{p, "customer", []string{noticeSuspended, noticeReleased}}},
	}
	cfg := enforce()
	cfg.Settle, cfg.VerifyFor, cfg.VerifyEvery, cfg.Tick = time.Second, time.Second, 200*time.Millisecond, 50*time.Millisecond
	cfg.EvidenceAfter = time.Second
	c := New(cfg, deps)
	if err := c.Load(ctx); err != nil {
		t.Fatal(err)
	}
	rctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(rctx) }()

	f := scan(tenantA, now)
	f.From = begin
	if err := c.Handle(ctx, now, []flow.Finding{f}); err != nil {
		t.Fatal(err)
	}
	until := func(what string, ok func(flow.Incident) bool) flow.Incident {
		t.Helper()
		for {
			if list := c.Incidents(Filter{Tenant: tenantA.String()}); len(list) == 1 && ok(list[0]) {
				return list[0]
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%s: %+v", what, c.Incidents(Filter{}))
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	inc := until("verified", func(i flow.Incident) bool { return i.State == flow.StateVerified })
	t.Logf("from the finding to the cut read back: %s", inc.Action.Done.Sub(now).Round(time.Millisecond))
	e, err := st.Evidence(ctx, inc.ID)
	if err != nil {
		t.Fatal(err)
	}
	if e.Rows != 40 || len(e.Logs) != 3 || !strings.Contains(e.Logs[0].Text, "Netscan detected from host 198.18.0.7") ||
		strings.Count(e.Logs[0].Text, " => ") != 40 {
		t.Errorf("evidence of %d rows, %d logs:\n%s", e.Rows, len(e.Logs), e.Logs[0].Text)
	}
	if err := c.Release(ctx, inc.ID, "anna", "reinstalled"); err != nil {
		t.Fatal(err)
	}
	until("released", func(i flow.Incident) bool { return i.State == flow.StateReleased })
	for len(w.mails("customer", noticeReleased)) == 0 || len(w.mails("staff", noticeReleased)) == 0 {
		if ctx.Err() != nil {
			t.Fatal("notices of the release were not sent")
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, who := range []string{"customer", "staff"} {
		if n := len(w.mails(who, noticeSuspended)); n != 1 {
			t.Errorf("%s got %d suspended notices", who, n)
		}
	}
	owed := func() bool { // a notice is sent before it is stored that it was
		r, _ := c.record(inc.ID)
		return slices.ContainsFunc(r.notices, func(n notice) bool { return len(n.open()) > 0 })
	}
	for owed() {
		if ctx.Err() != nil {
			t.Fatal("notices that were sent were not stored as sent")
		}
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	again := New(cfg, deps)
	if err := again.Load(ctx); err != nil {
		t.Fatal(err)
	}
	addrs := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	prefixes := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if d := cmp.Diff(c.Incidents(Filter{}), again.Incidents(Filter{}), addrs, prefixes); d != "" {
		t.Errorf("a second process reads something else (-first +second):\n%s", d)
	}
	_, evs, _ := c.Incident(inc.ID)
	_, evs2, _ := again.Incident(inc.ID)
	if d := cmp.Diff(evs, evs2); d != "" {
		t.Errorf("events (-first +second):\n%s", d)
	}
	// What is stale for the first is stale for the second.
	if err := again.Handle(ctx, time.Now(), []flow.Finding{f}); err != nil {
		t.Fatal(err)
	}
	if n := len(again.Incidents(Filter{})); n != 1 {
		t.Errorf("%d incidents: an old finding opened another", n)
	}
}
