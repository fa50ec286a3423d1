package store_test

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// TestAskersGetTheSame: what many askers get together, and from memory, is what each
// question gives by itself: series, top lists, flows and searches, each tenant's own.
func TestAskersGetTheSame(t *testing.T) {
	s := storetest.New(t)
	ctx := context.Background()
	at := epoch.Add(time.Hour)
	tenant := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 0, byte(i)}) }
	var b flow.Batch
	for i := range 12 {
		for w := range 30 {
			start := at.Add(time.Duration(w) * 10 * time.Second)
			key := flow.Key{Start: start.Unix(), Tenant: tenant(i), Rate: uint32(100 * (1 + w%2))}
			b.Hosts = append(b.Hosts, flow.HostWindow{Key: key, Counts: flow.Counts{OutRecords: 2, OutPackets: uint64(i*w + 1), OutBytes: uint64(1000 * i)}})
			if w%3 == 0 {
				b.Services = append(b.Services, flow.ServiceWindow{Key: key, IPProto: 6, Role: 1, SvcPort: 22, Attempts: uint64(i + w)},
					flow.ServiceWindow{Key: key, IPProto: 6, Role: 1, SvcPort: 23, Attempts: 1})
			}
			b.Flows = append(b.Flows, flow.FlowRow{Time: start.UnixNano() + int64(i), Start: start.UnixNano(), End: start.UnixNano(), Tenant: tenant(i), Host: tenant(i), Remote: netip.AddrFrom4([4]byte{203, 0, byte(w), byte(i)}),
				SvcPort: uint16(22 + w%2), Dir: flow.Out, IPProto: 6, Packets: uint64(w), Rate: 100, Exporter: tenant(200)})
		}
	}
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	r := flow.Range{From: at.Add(3 * time.Second), To: at.Add(263 * time.Second)}
	questions := map[string]func(ctx context.Context, tenant netip.Addr) (any, error){
		"series": func(ctx context.Context, a netip.Addr) (any, error) { return s.Series(ctx, a, r, 30*time.Second) },
		"long": func(ctx context.Context, a netip.Addr) (any, error) {
			return s.Series(ctx, a, flow.Range{From: at.Add(-24 * time.Hour), To: r.To}, time.Minute)
		},
		"flows": func(ctx context.Context, a netip.Addr) (any, error) {
			return s.Flows(ctx, flow.FlowQuery{Tenant: a, Range: r, SvcPort: -1, Limit: 7, Newest: true})
		},
		"earliest": func(ctx context.Context, a netip.Addr) (any, error) {
			return s.Flows(ctx, flow.FlowQuery{Tenant: a, Range: r, SvcPort: 22, Limit: 7})
		},
		"search": func(ctx context.Context, a netip.Addr) (any, error) {
			return s.SearchFlows(ctx, flow.FlowSearch{Range: r, Of: []flow.Held{{Prefix: netip.PrefixFrom(a, 32)}}, Ports: []uint16{22}, Newest: true, Limit: 5})
		},
		"oldest": func(ctx context.Context, a netip.Addr) (any, error) {
			return s.SearchFlows(ctx, flow.FlowSearch{Range: r, Of: []flow.Held{{Prefix: netip.PrefixFrom(a, 32)}}, Limit: 5})
		},
		"page": func(ctx context.Context, a netip.Addr) (any, error) {
			return s.SearchFlows(ctx, flow.FlowSearch{Range: r, Of: []flow.Held{{Prefix: netip.PrefixFrom(a, 32)}}, Skip: 3, Limit: 5})
		},
		"held": func(ctx context.Context, a netip.Addr) (any, error) {
			return s.SearchFlows(ctx, flow.FlowSearch{Range: r, Of: []flow.Held{{Prefix: netip.PrefixFrom(a, 32), To: at.Add(time.Minute)}}, Limit: 50})
		},
		"wide": func(ctx context.Context, _ netip.Addr) (any, error) {
			return s.SearchFlows(ctx, flow.FlowSearch{Range: r, Ports: []uint16{23}, Limit: 20, Newest: true})
		},
		"top": func(ctx context.Context, _ netip.Addr) (any, error) {
			return s.TopList(ctx, flow.TopQuery{Range: r, By: "out_bytes", Limit: 5})
		},
		"activity": func(ctx context.Context, a netip.Addr) (any, error) { return s.HostActivity(ctx, a, r, 10*time.Second) },
	}
	addrs := cmpopts.EquateComparable(netip.Addr{})
	for name, ask := range questions {
		t.Run(name, func(t *testing.T) {
			want := make([]any, 12)
			for i := range want {
				var err error
				if want[i], err = ask(ctx, tenant(i)); err != nil {
					t.Fatal(err)
				}
			}
			if name != "wide" && name != "top" && cmp.Equal(want[3], want[4], addrs) {
				t.Fatal("two tenants have the same answer: the test would not see a mix-up")
			}
			var wg sync.WaitGroup
			for range 3 { // joined, together and from memory
				for i := range want {
					wg.Go(func() {
						got, err := ask(flow.WithAsker(ctx, string(rune('a'+i%3))), tenant(i))
						if err != nil {
							t.Error(err)
						} else if d := cmp.Diff(want[i], got, addrs); d != "" {
							t.Errorf("tenant %d: -alone +together:\n%s", i, d)
						}
					})
				}
			}
			wg.Wait()
		})
	}
}

// TestAskersSeeWhatCame: what comes in is in the next answer after the time for which
// one is kept, and at once in what the service itself asks.
func TestAskersSeeWhatCame(t *testing.T) {
	s := storetest.New(t)
	ctx := context.Background()
	now := time.Now().UTC().Truncate(10 * time.Second)
	a := netip.MustParseAddr("198.18.0.9")
	r := flow.Range{From: now.Add(-time.Minute), To: now.Add(10 * time.Second)}
	write := func() {
		b := flow.Batch{Hosts: []flow.HostWindow{{Key: flow.Key{Start: now.Unix(), Tenant: a, Rate: 1}, Counts: flow.Counts{OutRecords: 1}}}}
		if err := s.Write(&b); err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(ctx); err != nil {
			t.Fatal(err)
		}
	}
	records := func(ctx context.Context) (n uint64) {
		v, err := s.Series(ctx, a, r, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range v.Points {
			n += p.OutRecords
		}
		return n
	}
	asker := flow.WithAsker(ctx, "noc")
	write()
	if n := records(asker); n != 1 {
		t.Fatalf("%d records, want 1", n)
	}
	write()
	if n := records(ctx); n != 2 {
		t.Errorf("the service itself sees %d records, want 2", n)
	}
	for deadline := time.Now().Add(30 * time.Second); records(asker) != 2; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the asker never sees the second record")
		}
	}
}
