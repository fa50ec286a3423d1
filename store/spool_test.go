package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/embedded"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// migrated returns the configuration of a store whose database is ready.
func migrated(t *testing.T) store.Config {
	t.Helper()
	cfg := storetest.Config(t)
	s, stop := storetest.Start(t, cfg, store.Deps{})
	if err := s.Migrate(within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// idle returns a store that is not running: what it writes stays in the spool.
func idle(t *testing.T, cfg store.Config, deps store.Deps) *store.Store {
	t.Helper()
	s, err := store.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// quit runs a store that was idle and ends it at once with a context that has
// ended, which seals what it has and lets go of the spool.
func quit(t *testing.T, s *store.Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func files(t *testing.T, dir, ext string) []string {
	t.Helper()
	l, err := filepath.Glob(filepath.Join(dir, "*"+ext))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// spooled writes n batches of 50 rows to a spool without a database, as if the
// process had been killed right after, and returns the rows' highest number.
func spooled(t *testing.T, cfg store.Config, n int) uint64 {
	t.Helper()
	cfg.DialContext = nil
	cfg.Addr = []string{"127.0.0.1:1"} // nobody
	var numbers numbered
	s := idle(t, cfg, store.Deps{})
	for range n {
		if err := s.Write(numbers.batch(50)); err != nil {
			t.Fatal(err)
		}
	}
	quit(t, s)
	return numbers.next
}

func TestSpoolIsSentAfterRestart(t *testing.T) {
	cfg := migrated(t)
	cfg.BatchRows = 400 // two Writes a batch
	n := spooled(t, cfg, 7)
	if got := len(files(t, cfg.SpoolDir, ".batch")); got != 4 {
		t.Fatalf("%d files in the spool, want 4", got)
	}
	reg := prometheus.NewRegistry()
	s, _ := storetest.Start(t, cfg, store.Deps{Registerer: reg})
	more := numbered{next: n}
	if err := s.Write(more.batch(10)); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(within(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	checkNumbers(t, raw(t, cfg), n+10)
	if l := append(files(t, cfg.SpoolDir, ".batch"), files(t, cfg.SpoolDir, ".open")...); len(l) != 0 {
		t.Errorf("left in the spool: %v", l)
	}
	if got := gather(t, reg, "flowcordon_store_rows_total"); got != float64(4*(n+10)) {
		t.Errorf("rows_total %v, want %d", got, 4*(n+10))
	}
	if got := gather(t, reg, "flowcordon_store_spool_bytes"); got != 0 {
		t.Errorf("spool_bytes %v, want 0", got)
	}
}

// A batch whose acknowledgement was lost is sent again, after merges too, and
// when ClickHouse has forgotten its token, of which it keeps a number only.
func TestSpoolFileSentTwice(t *testing.T) {
	cfg := migrated(t)
	n := spooled(t, cfg, 3)
	kept, late := t.TempDir(), t.TempDir()
	for _, f := range files(t, cfg.SpoolDir, ".batch") {
		copyFile(t, f, filepath.Join(kept, filepath.Base(f)))
		copyFile(t, f, filepath.Join(late, filepath.Base(f)))
	}
	for round, dir := range []string{cfg.SpoolDir, kept, late} {
		cfg.SpoolDir = dir
		s, stop := storetest.Start(t, cfg, store.Deps{})
		if err := s.Sync(within(t, 60*time.Second)); err != nil {
			t.Fatal(err)
		}
		waitEmpty(t, dir)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		checkNumbers(t, raw(t, cfg), n)
		between := []string{"OPTIMIZE TABLE flows FINAL"}
		if round == 1 {
			between = nil
			for _, table := range []string{"host_window", "service_window", "pair_window", "flows"} {
				between = append(between, "ALTER TABLE "+table+" MODIFY SETTING non_replicated_deduplication_window = 0")
			}
		}
		for _, sql := range between {
			if err := raw(t, cfg).Exec(within(t, 2*time.Minute), sql); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// waitEmpty waits until every batch of a spool is gone: Sync can come before
// Run has looked into the directory.
func waitEmpty(t *testing.T, dir string) {
	t.Helper()
	for range 3000 {
		if len(files(t, dir, ".batch")) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("still in the spool: %v", files(t, dir, ".batch"))
}

// ClickHouse is killed after it has recorded a part's token and before the part
// is there: the second insert counts as a duplicate, and the rows would be gone.
// The part is taken away by hand here.
func TestPartLostWithItsToken(t *testing.T) {
	dir := t.TempDir()
	ctx, stopEngine := context.WithCancel(context.Background())
	lib, err := embedded.FindLib()
	if err != nil {
		t.Fatal(err)
	}
	first := embedded.New(embedded.Config{Lib: lib, Dir: dir}, embedded.Deps{})
	done := make(chan error, 1)
	go func() { done <- first.Run(ctx) }()
	cfg := engineConfig(t, first)
	if err := idle(t, cfg, store.Deps{}).Migrate(within(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	n := spooled(t, cfg, 3)
	kept := t.TempDir()
	for _, f := range files(t, cfg.SpoolDir, ".batch") {
		copyFile(t, f, filepath.Join(kept, filepath.Base(f)))
	}
	_, stop := storetest.Start(t, cfg, store.Deps{})
	waitEmpty(t, cfg.SpoolDir)
	checkNumbers(t, raw(t, cfg), n)
	var parts []string
	rows, err := raw(t, cfg).Query(within(t, 2*time.Minute),
		"SELECT path FROM system.parts WHERE database = 'chaos' AND active AND table IN ('host_window', 'flows') AND name LIKE '%_1_1_0'")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var p string
		if err := rows.Scan(&p); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, p)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stopEngine()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(parts) < 2 {
		t.Fatalf("parts %v, want one of each table at least", parts)
	}
	for _, p := range parts {
		if _, err := os.Stat(p); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(p); err != nil {
			t.Fatal(err)
		}
	}
	e := ownEngine(t, dir)
	cfg.User, cfg.Password, cfg.DialContext, cfg.SpoolDir = e.User(), e.Password(), e.DialContext, kept
	reg := prometheus.NewRegistry()
	storetest.Start(t, cfg, store.Deps{Registerer: reg})
	waitEmpty(t, kept)
	checkNumbers(t, raw(t, cfg), n)
	if got := gather(t, reg, "flowcordon_store_repaired_total"); got != float64(2) {
		t.Errorf("repaired_total %v, want 2 (one for each table)", got)
	}
}

// Damaged batches are set aside and do not hold up the others.
func TestSpoolFileDamaged(t *testing.T) {
	cfg := migrated(t)
	cfg.BatchRows = 1 // a batch for each Write
	n := spooled(t, cfg, 6)
	l := files(t, cfg.SpoolDir, ".batch")
	if len(l) != 6 {
		t.Fatalf("%d files, want 6", len(l))
	}
	damage := []func([]byte) []byte{
		func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		func(b []byte) []byte { return b[:len(b)-1] },
		func(b []byte) []byte { return append(b, "garbage that is long enough"...) },
		func([]byte) []byte { return []byte("x") },
		func(b []byte) []byte { b[3] = '9'; return b }, // of another version
	}
	for i, f := range damage {
		b, err := os.ReadFile(l[i+1])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(l[i+1], f(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reg := prometheus.NewRegistry()
	s, _ := storetest.Start(t, cfg, store.Deps{Registerer: reg})
	waitEmpty(t, cfg.SpoolDir)
	if err := s.Sync(within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	checkNumbers(t, raw(t, cfg), n/6) // of the first
	if got := files(t, cfg.SpoolDir, ".corrupt"); len(got) != len(damage) {
		t.Errorf("%d files set aside, want %d: %v", len(got), len(damage), got)
	}
	if got := gather(t, reg, "flowcordon_store_dropped_total"); got != float64(len(damage)) {
		t.Errorf("dropped_total %v, want %d", got, len(damage))
	}
}

// A table that refuses its rows for good does not hold up the others, nor the
// batches after it.
func TestBatchIsRejected(t *testing.T) {
	cfg := migrated(t)
	mustExec(t, cfg, "DROP TABLE pair_window SYNC")
	mustExec(t, cfg, "CREATE TABLE pair_window (start DateTime('UTC'), rst_in_packets Array(IPv6), batch UInt64) ENGINE = MergeTree ORDER BY start")
	for _, c := range []string{"tenant", "rate", "remote", "ip_proto", "out_records", "in_records", "out_packets", "in_packets", "out_bytes", "in_bytes",
		"syn_out", "est_out", "synack_out", "rst_out", "syn_in", "est_in", "synack_in", "rst_in", "raw_syn", "no_flags", "syn_packets", "est_out_packets", "ports"} {
		mustExec(t, cfg, "ALTER TABLE pair_window ADD COLUMN "+c+" String")
	}
	reg := prometheus.NewRegistry()
	s, _ := storetest.Start(t, cfg, store.Deps{Registerer: reg})
	var numbers numbered
	if err := s.Write(numbers.batch(20)); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(within(t, 2*time.Minute)); err == nil || !strings.Contains(err.Error(), "set aside") {
		t.Errorf("Sync: %v, want that a batch was set aside", err)
	}
	if l := files(t, cfg.SpoolDir, ".rejected"); len(l) != 1 {
		t.Errorf("set aside: %v, want one", l)
	}
	if got := label(t, reg, "flowcordon_store_dropped_total", "rejected"); got != 20 {
		t.Errorf("dropped_total of rejected %v, want the 20 rows that were not stored", got)
	}
	for _, k := range []struct {
		table string
		want  uint64
	}{{"host_window", 20}, {"service_window", 20}, {"pair_window", 0}, {"flows", 20}} {
		if n := count(t, cfg, "SELECT count() FROM "+k.table); n != k.want {
			t.Errorf("%s: %d rows, want %d", k.table, n, k.want)
		}
	}
}

func TestTwoStoresOnOneSpool(t *testing.T) {
	cfg := migrated(t)
	first := idle(t, cfg, store.Deps{})
	var numbers numbered
	if err := first.Write(numbers.batch(1)); err != nil {
		t.Fatal(err)
	}
	err := idle(t, cfg, store.Deps{}).Run(within(t, 2*time.Minute))
	if err == nil || !strings.Contains(err.Error(), cfg.SpoolDir) {
		t.Errorf("got %v, want an error that names %s", err, cfg.SpoolDir)
	}
	quit(t, first)
}

// Write works while there is no database, and nothing is lost.
func TestEngineAwayAtStart(t *testing.T) {
	dir := t.TempDir()
	lib, err := embedded.FindLib()
	if err != nil {
		t.Fatal(err)
	}
	late := embedded.New(embedded.Config{Lib: lib, Dir: dir}, embedded.Deps{}) // not yet running
	cfg := engineConfig(t, late)
	reg := prometheus.NewRegistry()
	s, _ := storetest.Start(t, cfg, store.Deps{Registerer: reg})
	var numbers numbered
	for range 20 {
		began := time.Now()
		if err := s.Write(numbers.batch(100)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("Write took %v without a database", took)
		}
	}
	if err := s.Sync(within(t, 300*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Sync without a database: %v, want a deadline", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- late.Run(ctx) }()
	if err := s.Migrate(within(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(within(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	checkNumbers(t, raw(t, cfg), numbers.next)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// envWriter makes the test binary write to the named spool until it is killed,
// printing the highest number after each Write that returned.
const envWriter = "FLOWCORDON_TEST_WRITER_SPOOL"

func writerMain() int {
	s, err := store.New(store.Config{SpoolDir: os.Getenv(envWriter), Addr: []string{"127.0.0.1:1"}, BatchRows: 1000}, store.Deps{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	start, err := strconv.ParseUint(os.Getenv(envWriter+"_FROM"), 10, 64)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	numbers := numbered{next: start}
	for {
		if err := s.Write(numbers.batch(1 + rand.IntN(500))); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println(numbers.next)
	}
}

// The writing process is killed: what Write has returned for is stored, and
// what it has not is stored whole or not at all.
func TestWriterKilled(t *testing.T) {
	cfg := migrated(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	total := uint64(0)
	for round := range 5 {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), envWriter+"="+cfg.SpoolDir, envWriter+"_FROM="+strconv.FormatUint(total, 10))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		acked := total
		for first := true; lines.Scan(); first = false {
			n, err := strconv.ParseUint(lines.Text(), 10, 64)
			if err != nil {
				t.Fatalf("writer says %q", lines.Text())
			}
			acked = n
			if first {
				time.AfterFunc(time.Duration(rand.IntN(60))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait() // killed
		s, stop := storetest.Start(t, cfg, store.Deps{})
		if err := s.Sync(within(t, 60*time.Second)); err != nil {
			t.Fatal(err)
		}
		waitEmpty(t, cfg.SpoolDir)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if err := raw(t, cfg).QueryRow(within(t, 2*time.Minute), "SELECT max(bytes) FROM flows").Scan(&total); err != nil {
			t.Fatal(err)
		}
		checkNumbers(t, raw(t, cfg), total)
		if total < acked {
			t.Fatalf("round %d: %d acknowledged, %d stored", round, acked, total)
		}
	}
	if err := filepath.WalkDir(cfg.SpoolDir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "lock" {
			t.Errorf("left in the spool: %s", p)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// A broken clock far up the line must not leave a batch that is sent for ever.
func TestTimesOutOfRange(t *testing.T) {
	cfg := migrated(t)
	var numbers numbered
	b := numbers.batch(8)
	for i, sec := range []int64{-1, -1 << 40, 1 << 33, 1 << 62, 0, 1<<32 - 1, 1 << 32} {
		b.Hosts[i].Start, b.Services[i].Start, b.Pairs[i].Start = sec, sec, sec
	}
	for i, ns := range []int64{-1, -1 << 63, 1<<63 - 1, 1 << 62, 0, 4294967295e9, 4294967296e9} {
		b.Flows[i].Time = ns
	}
	away := cfg
	away.DialContext, away.Addr = nil, []string{"127.0.0.1:1"}
	s := idle(t, away, store.Deps{})
	if err := s.Write(b); err != nil {
		t.Fatal(err)
	}
	quit(t, s) // found at the next start, so inserted and then looked for
	storetest.Start(t, cfg, store.Deps{})
	waitEmpty(t, cfg.SpoolDir)
	checkNumbers(t, raw(t, cfg), numbers.next)
}
