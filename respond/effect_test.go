package respond

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// The effect of a port block and of a rate limit, read from the real store: a
// tenant whose own service at the blocked port answers is no proof of failure,
// one that goes on connecting to it is; a limited one is measured.
func TestEffectOnTheStore(t *testing.T) {
	st := storetest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	w := newWorld()
	p := &proc{w: w, die: func() {}}
	cfg := climbing()
	cfg.Settle, cfg.VerifyFor, cfg.VerifyEvery, cfg.Tick = time.Second, time.Second, 200*time.Millisecond, 50*time.Millisecond
	cfg.VerifyDeadline, cfg.Reassert = 8*time.Second, -1
	c := New(cfg, Deps{Events: st, Flows: st, Inventory: p, Suspenders: []Suspender{hyper{p, "hv"}}})
	if err := c.Load(ctx); err != nil {
		t.Fatal(err)
	}
	rctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(rctx) }()

	now := time.Now().UTC()
	flood := scan(tenantC, now)
	flood.Rule, flood.Port = flow.RuleSYNFlood, 0
	if err := c.Handle(ctx, now, []flow.Finding{scan(tenantA, now), scan(tenantB, now), flood}); err != nil {
		t.Fatal(err)
	}
	until := func(a netip.Addr, want flow.State) flow.Incident {
		t.Helper()
		for {
			if list := c.Incidents(Filter{Tenant: a.String()}); len(list) == 1 && list[0].State == want {
				return list[0]
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%s is not %s: %+v", a, want, c.Incidents(Filter{Tenant: a.String()}))
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	cut := map[netip.Addr]time.Time{}
	for _, a := range []netip.Addr{tenantA, tenantB, tenantC} {
		cut[a] = cfg.withDefaults().since(until(a, flow.StateSuspended).Action.Done)
	}
	// What the routers say of the time after the measures.
	row := func(a netip.Addr, at time.Time, port, remotePort uint16, role flow.Role) flow.FlowRow {
		ns := at.UnixNano()
		return flow.FlowRow{
			Time: ns, Start: ns, End: ns, Exporter: netip.MustParseAddr("11.0.0.1"), Tenant: a, Host: a, Remote: addr4([4]byte{26, 0, 0, 9}),
			HostPort: port, RemotePort: remotePort, SvcPort: 22, Dir: flow.Out, IPProto: flow.ProtoTCP, Role: role, Class: flow.ClassSYN,
			TCPFlags: flow.SYN, Packets: 1, Bytes: 60, IPLen: 60, TTL: 60, Rate: 1000,
		}
	}
	var b flow.Batch
	for i := range 12 {
		at := cut[tenantA].Add(time.Duration(i) * time.Second)
		b.Flows = append(b.Flows, row(tenantA, at, 22, 50123, flow.RoleServer), row(tenantB, at, 41000, 22, flow.RoleClient))
	}
	first := cut[tenantA].Truncate(10 * time.Second).Add(-time.Minute)
	for i := range 40 {
		for _, a := range []netip.Addr{tenantA, tenantC} {
			key := flow.Key{Start: first.Unix() + int64(i*10), Tenant: a, Rate: 1000}
			counts := flow.Counts{OutRecords: 5, OutPackets: 5, OutBytes: 1000} // 800 kbit/s, real
			b.Hosts = append(b.Hosts, flow.HostWindow{Key: key, Counts: counts})
			b.Services = append(b.Services, flow.ServiceWindow{Key: key, IPProto: flow.ProtoTCP, Role: flow.RoleServer, SvcPort: 443, Counts: counts})
		}
	}
	if err := st.Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := st.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if inc := until(tenantA, flow.StateVerified); inc.Action.Taken() != flow.MeasureBlockPort {
		t.Errorf("action %+v", inc.Action)
	}
	if inc := until(tenantB, flow.StateUnverified); !strings.Contains(inc.Reason, "to the blocked ports") {
		t.Errorf("reason %q", inc.Reason)
	}
	if inc := until(tenantC, flow.StateVerified); inc.Action.Taken() != flow.MeasureLimit || !strings.Contains(inc.Reason, "below the limit") {
		t.Errorf("%+v, reason %q", inc.Action, inc.Reason)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
