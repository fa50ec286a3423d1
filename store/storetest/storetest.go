// Package storetest gives tests a real store: migrated, on a database of its
// own, on one embedded engine for each test binary.
//
// A package that uses it has
//
//	func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }
//
// Without the engine's library tests fail and say what to run; they do not skip.
package storetest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/embedded"
)

// engine is the one of this test binary; Main ends it.
var engine struct {
	sync.Mutex
	mainCalled bool
	e          *embedded.Engine
	err        error
	stop       func() error
}

// Main runs the tests and stops the engine if one was started. It must be
// called from TestMain, which passes its result to os.Exit.
func Main(m *testing.M) int {
	embedded.RunIfChild()
	engine.mainCalled = true
	code := m.Run()
	engine.Lock()
	defer engine.Unlock()
	if engine.stop != nil {
		if err := engine.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the test engine:", err)
			return max(code, 1)
		}
	}
	return code
}

// Engine returns the test binary's engine, started at the first call.
func Engine(t testing.TB) *embedded.Engine {
	t.Helper()
	engine.Lock()
	defer engine.Unlock()
	if !engine.mainCalled {
		t.Fatal("storetest: TestMain must call storetest.Main")
	}
	if engine.e == nil && engine.err == nil {
		engine.e, engine.stop, engine.err = startEngine()
	}
	if engine.err != nil {
		t.Fatalf("storetest: %v", engine.err)
	}
	return engine.e
}

func startEngine() (*embedded.Engine, func() error, error) {
	lib, err := embedded.FindLib()
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "flowcordon-test-engine-")
	if err != nil {
		return nil, nil, err
	}
	e := embedded.New(embedded.Config{Lib: lib, Dir: dir, MaxMemory: 3 << 30}, embedded.Deps{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	select {
	case <-e.Ready():
	case err := <-done:
		cancel()
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return e, func() error {
		cancel()
		return errors.Join(<-done, os.RemoveAll(dir))
	}, nil
}

// Config returns the configuration of a store on the test engine: a random
// database, which is dropped when the test ends, a spool of its own, short
// waits and no TTL (tests use the event times of old captures).
func Config(t testing.TB) store.Config {
	t.Helper()
	e := Engine(t)
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	cfg := store.Config{
		Database:    "test_" + hex.EncodeToString(b[:]),
		User:        e.User(),
		Password:    e.Password(),
		DialContext: e.DialContext,
		SpoolDir:    t.TempDir(),
		BatchWait:   20 * time.Millisecond,
		FlowTTL:     -1,
		WindowTTL:   -1,
		MinuteTTL:   -1,
		HourTTL:     -1,
	}
	t.Cleanup(func() { dropDatabase(t, cfg) })
	return cfg
}

func dropDatabase(t testing.TB, cfg store.Config) {
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{"engine"}, DialContext: cfg.DialContext,
		Auth: clickhouse.Auth{Username: cfg.User, Password: cfg.Password},
	})
	if err != nil {
		t.Errorf("storetest: %v", err)
		return
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+cfg.Database); err != nil {
		t.Errorf("storetest: drop %s: %v", cfg.Database, err)
	}
}

// New returns a migrated store that runs until the test ends.
func New(t testing.TB) *store.Store {
	t.Helper()
	s, _ := Start(t, Config(t), store.Deps{})
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := s.Migrate(ctx); err != nil {
		t.Fatalf("storetest: migrate: %v", err)
	}
	return s
}

// Start runs a store with cfg, which need not be migrated, until the test ends
// or stop is called; stop returns what Run returned.
func Start(t testing.TB, cfg store.Config, deps store.Deps) (s *store.Store, stop func() error) {
	t.Helper()
	s, err := store.New(cfg, deps)
	if err != nil {
		t.Fatalf("storetest: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("storetest: run: %v", err)
		}
	})
	return s, stop
}
