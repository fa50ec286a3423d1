package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/embedded"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// numbered makes batches whose rows carry numbers that occur once in each
// table, over three days, so that an insert makes several parts.
type numbered struct{ next uint64 }

func (n *numbered) batch(rows int) *flow.Batch {
	b := &flow.Batch{}
	tenant := netip.MustParseAddr("198.18.0.1")
	for range rows {
		n.next++
		at := epoch.Add(time.Duration(n.next%3) * 24 * time.Hour)
		k := flow.Key{Start: at.Unix() + int64(n.next%100)*10, Tenant: tenant, Rate: 1}
		c := flow.Counts{OutBytes: n.next}
		b.Hosts = append(b.Hosts, flow.HostWindow{Key: k, Counts: c})
		b.Services = append(b.Services, flow.ServiceWindow{Key: k, Counts: c, Remotes: []uint64{n.next}})
		b.Pairs = append(b.Pairs, flow.PairWindow{Key: k, Counts: c, Remote: tenant})
		b.Flows = append(b.Flows, flow.FlowRow{Time: at.UnixNano() + int64(n.next), Start: at.UnixNano(), End: at.UnixNano(),
			Tenant: tenant, Host: tenant, Remote: tenant, Exporter: tenant, Bytes: n.next, Rate: 1})
	}
	return b
}

// checkNumbers fails the test unless each table has the numbers 1 to n, each
// once.
func checkNumbers(t *testing.T, c driver.Conn, n uint64) {
	t.Helper()
	for _, q := range []struct{ table, column string }{
		{"host_window", "out_bytes"}, {"service_window", "out_bytes"}, {"pair_window", "out_bytes"}, {"flows", "bytes"},
	} {
		var rows, distinct, most uint64
		err := c.QueryRow(within(t, 2*time.Minute), fmt.Sprintf("SELECT count(), uniqExact(%s), max(%s) FROM %s", q.column, q.column, q.table)).
			Scan(&rows, &distinct, &most)
		if err != nil {
			t.Fatal(err)
		}
		if rows != n || distinct != n || most != n {
			t.Errorf("%s: %d rows, %d distinct, highest %d; want %d of each: %d lost, %d doubled",
				q.table, rows, distinct, most, n, int64(n)-int64(distinct), int64(rows)-int64(distinct))
		}
	}
}

// ownEngine runs an engine that the test may kill.
func ownEngine(t *testing.T, dir string) *embedded.Engine {
	t.Helper()
	lib, err := embedded.FindLib()
	if err != nil {
		t.Fatal(err)
	}
	e := embedded.New(embedded.Config{Lib: lib, Dir: dir, MaxMemory: 2 << 30}, embedded.Deps{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("engine: %v", err)
		}
	})
	return e
}

func ready(t *testing.T, e *embedded.Engine) {
	t.Helper()
	select {
	case <-e.Ready():
	case <-time.After(2 * time.Minute):
		t.Fatal("engine not ready after 2 minutes")
	}
}

func engineConfig(t *testing.T, e *embedded.Engine) store.Config {
	t.Helper()
	return store.Config{
		Database: "chaos", User: e.User(), Password: e.Password(), DialContext: e.DialContext,
		SpoolDir: t.TempDir(), BatchWait: 10 * time.Millisecond, FlowTTL: -1, WindowTTL: -1,
	}
}

// The engine is killed at random moments under load; no row may be lost or
// stored twice. FLOWCORDON_CHAOS_ROUNDS sets how often (default 10).
func TestEngineKilledUnderLoad(t *testing.T) {
	rounds := 10
	if v := os.Getenv("FLOWCORDON_CHAOS_ROUNDS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatalf("FLOWCORDON_CHAOS_ROUNDS: %v", err)
		}
		rounds = n
	}
	e := ownEngine(t, t.TempDir())
	ready(t, e)
	cfg := engineConfig(t, e)
	reg := prometheus.NewRegistry()
	s, _ := storetest.Start(t, cfg, store.Deps{Registerer: reg})
	if err := s.Migrate(within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var numbers numbered
	events := uint64(0)
	written := make(chan error, 1)
	go func() {
		for !stop.Load() {
			if err := s.Write(numbers.batch(1 + rand.IntN(300))); err != nil {
				written <- err
				return
			}
			time.Sleep(time.Duration(rand.IntN(15)) * time.Millisecond)
		}
		written <- nil
	}()
	appended := make(chan error, 1)
	go func() {
		for !stop.Load() {
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			err := s.AppendEvents(ctx, []flow.Event{{Seq: events + 1, Time: epoch, Kind: "chaos"}})
			cancel()
			if err != nil {
				appended <- err
				return
			}
			events++
		}
		appended <- nil
	}()
	for range rounds {
		for e.Pid() == 0 {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
		if p, err := os.FindProcess(e.Pid()); err == nil && e.Pid() != 0 {
			_ = p.Kill() // it may be gone by now
		}
		time.Sleep(20 * time.Millisecond) // until the supervisor has seen it
	}
	stop.Store(true)
	for _, c := range []chan error{written, appended} {
		if err := <-c; err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Sync(within(t, 5*time.Minute)); err != nil {
		t.Fatal(err)
	}
	checkNumbers(t, raw(t, cfg), numbers.next)
	seq := uint64(0)
	for _, ev := range readEvents(t, s) {
		if seq++; ev.Seq != seq {
			t.Fatalf("event %d is where %d should be", ev.Seq, seq)
		}
	}
	if seq < events {
		t.Errorf("%d events, %d were acknowledged", seq, events)
	}
	t.Logf("%d kills, %d rows in each table, %d events; parts repaired: %v, insert errors: %v", rounds, numbers.next, events,
		gather(t, reg, "flowcordon_store_repaired_total"), gather(t, reg, "flowcordon_store_insert_errors_total"))
}

// gather returns the value of a counter or gauge, its label values summed up.
func gather(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum, found := 0.0, false
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		found = true
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	if !found {
		t.Fatalf("no metric %s", name)
	}
	return sum
}
