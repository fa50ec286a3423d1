package store_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// gate stands between a store and the engine and can be closed: connections
// break and none is made, as when ClickHouse is away.
type gate struct {
	dial func(context.Context, string) (net.Conn, error)

	mu     sync.Mutex
	closed bool
	conns  map[*gateConn]bool
}

type gateConn struct {
	net.Conn
	g *gate
}

func (c *gateConn) Close() error {
	c.g.mu.Lock()
	delete(c.g.conns, c)
	c.g.mu.Unlock()
	return c.Conn.Close()
}

func (g *gate) DialContext(ctx context.Context, addr string) (net.Conn, error) {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed {
		return nil, errors.New("the gate is closed")
	}
	c, err := g.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	gc := &gateConn{c, g}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conns == nil {
		g.conns = map[*gateConn]bool{}
	}
	g.conns[gc] = true
	return gc, nil
}

func (g *gate) set(closed bool) {
	g.mu.Lock()
	g.closed = closed
	var l []*gateConn
	for c := range g.conns {
		l = append(l, c)
	}
	g.mu.Unlock()
	if closed {
		for _, c := range l {
			_ = c.Close()
		}
	}
}

// label returns the value of a counter with one label.
func label(t *testing.T, reg *prometheus.Registry, name, value string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == value {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s of %s", name, value)
	return 0
}

func observed() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.InfoLevel)
	return zap.New(core), logs
}

// ClickHouse is away while writing goes on, and comes back: every row once, the
// oldest first, and the log says both.
func TestEngineAwayAndBack(t *testing.T) {
	cfg := migrated(t)
	g := &gate{dial: cfg.DialContext}
	check := cfg
	cfg.DialContext, cfg.BatchRows = g.DialContext, 20_000 // 5000 of each kind
	reg := prometheus.NewRegistry()
	log, logs := observed()
	s, _ := storetest.Start(t, cfg, store.Deps{Registerer: reg, Log: log})
	var numbers numbered
	write := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if err := s.Write(numbers.batch(250)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(time.Second)
	g.set(true)
	write(12 * time.Second)
	for end := time.Now().Add(time.Minute); gather(t, reg, "flowcordon_store_spool_batches") < 10; write(time.Second) {
		if time.Now().After(end) { // a slow machine writes less in 12 s
			t.Fatalf("spool_batches %v, want more than 10", gather(t, reg, "flowcordon_store_spool_batches"))
		}
	}
	if age := gather(t, reg, "flowcordon_store_spool_oldest_seconds"); age < 8 || age > 300 {
		t.Errorf("spool_oldest_seconds %v, want about 12", age)
	}
	g.set(false)
	c := raw(t, check)
	done := make(chan error, 1)
	go func() { done <- s.Sync(within(t, 5*time.Minute)) }()
	for looks := 0; ; looks++ { // what is there is what was written first
		var rows, highest uint64
		if err := c.QueryRow(within(t, 2*time.Minute), "SELECT count(), max(out_bytes) FROM host_window").Scan(&rows, &highest); err != nil {
			t.Fatal(err)
		}
		if gap := highest - rows; gap > 2*5250 { // a batch for each sender
			t.Fatalf("%d rows are there, the highest is %d: batches were not sent in order", rows, highest)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			checkNumbers(t, c, numbers.next)
			if looks == 0 {
				t.Log("it was over before the first look, which tells nothing of the order")
			}
		case <-time.After(20 * time.Millisecond):
			continue
		}
		break
	}
	for _, msg := range []string{"ClickHouse is away or slow, batches wait in the spool", "ClickHouse has caught up"} {
		if n := logs.FilterMessage(msg).Len(); n != 1 {
			t.Errorf("%d log lines %q, want 1", n, msg)
		}
	}
	if n := gather(t, reg, "flowcordon_store_spool_batches"); n != 0 {
		t.Errorf("spool_batches %v afterwards", n)
	}
	if n := gather(t, reg, "flowcordon_store_sent_bytes_total"); n < float64(numbers.next*600) {
		t.Errorf("sent_bytes_total %v for %d rows of each kind", n, numbers.next)
	}
}
