package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zapcore"

	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// stored returns how many rows a table has, and the lowest and highest number.
func stored(t *testing.T, cfg store.Config, table, column string) (n, low, high uint64) {
	t.Helper()
	err := raw(t, cfg).QueryRow(within(t, 2*time.Minute), fmt.Sprintf("SELECT count(), min(%s), max(%s) FROM %s", column, column, table)).Scan(&n, &low, &high)
	if err != nil {
		t.Fatal(err)
	}
	return n, low, high
}

// A full spool gives up flow rows first, the oldest of them, then pairs, then
// services, and only then refuses; what is left arrives, after a restart too.
func TestSpoolFull(t *testing.T) {
	cfg := migrated(t)
	cfg.BatchRows, cfg.SpoolMaxBytes = 80, 200_000 // a batch for each Write, of 16 KB
	log, logs := observed()
	var reg *prometheus.Registry
	var numbers numbered
	write := func(s *store.Store) (refused bool) {
		before := numbers.next
		err := s.Write(numbers.batch(20))
		if err == nil {
			return false
		}
		if !errors.Is(err, store.ErrSpoolFull) {
			t.Fatal(err)
		}
		numbers.next = before
		return true
	}
	kinds := []struct{ table, column, reason string }{
		{"flows", "bytes", "spool_full_flows"}, {"pair_window", "out_bytes", "spool_full_pairs"}, {"service_window", "out_bytes", "spool_full_services"},
	}
	lost := make([]uint64, len(kinds))
	fill := func(until func(dropped []uint64, refused bool) bool) {
		reg = prometheus.NewRegistry()
		s := idle(t, cfg, store.Deps{Registerer: reg, Log: log})
		dropped := make([]uint64, len(kinds))
		for refused := false; !until(dropped, refused); {
			refused = write(s)
			for i, k := range kinds {
				dropped[i] = uint64(label(t, reg, "flowcordon_store_dropped_total", k.reason))
				if i > 0 && dropped[i] > 0 && dropped[i-1]+lost[i-1] < dropped[i]+lost[i] {
					t.Fatalf("%v: %s dropped before all of %s", dropped, k.table, kinds[i-1].table)
				}
			}
			if got := gather(t, reg, "flowcordon_store_spool_bytes"); got > float64(cfg.SpoolMaxBytes) {
				t.Fatalf("spool_bytes %v, want at most %d", got, cfg.SpoolMaxBytes)
			}
		}
		for i := range lost {
			lost[i] += dropped[i]
		}
		quit(t, s)
	}
	there := cfg
	cfg.DialContext, cfg.Addr = nil, []string{"127.0.0.1:1"}
	fill(func(dropped []uint64, _ bool) bool { return dropped[1] > 40 }) // half-way through the pairs
	fill(func(_ []uint64, refused bool) bool { return refused })
	if got := label(t, reg, "flowcordon_store_dropped_total", "spool_full"); got != 80 {
		t.Errorf("dropped_total of spool_full %v, want the 80 rows of one Write", got)
	}
	if n := logs.FilterMessageSnippet("gives up the oldest detail").Len(); n != 2 { // one in each process
		t.Errorf("%d log lines about what was given up, want 2", n)
	}
	for i := range kinds {
		if lost[i] == 0 {
			t.Errorf("nothing of %s was dropped", kinds[i].table)
		}
	}
	storetest.Start(t, there, store.Deps{})
	waitEmpty(t, cfg.SpoolDir)
	if n, low, high := stored(t, there, "host_window", "out_bytes"); n != numbers.next || low != 1 || high != n {
		t.Errorf("host_window: %d rows from %d to %d, want all %d", n, low, high, numbers.next)
	}
	for i, k := range kinds {
		n, low, _ := stored(t, there, k.table, k.column)
		if n+lost[i] != numbers.next {
			t.Errorf("%s: %d rows stored and %d dropped of %d", k.table, n, lost[i], numbers.next)
		}
		if n > 0 && low != lost[i]+1 {
			t.Errorf("%s: the lowest row is %d, want %d: the oldest go first", k.table, low, lost[i]+1)
		}
	}
}

// smallDisk is a file system of its own.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		if os.Getenv("CI") == "true" && os.Getuid() == 0 {
			t.Fatalf("mount a tmpfs: %v", err)
		}
		t.Skipf("needs root to mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// The disk fills up, by others and by the spool: detail goes first, then rows
// are refused and counted; when there is space again they are taken again.
func TestDiskFull(t *testing.T) {
	cfg := migrated(t)
	disk := smallDisk(t, 2<<20)
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.SpoolDir, cfg.BatchRows = filepath.Join(disk, "spool"), 400
	reg := prometheus.NewRegistry()
	log, logs := observed()
	s := idle(t, cfg, store.Deps{Registerer: reg, Log: log})
	var numbers numbered
	refused := 0
	var full error
	for i := 0; refused < 5; i++ {
		before := numbers.next
		b := numbers.batch(100)
		if err := s.Write(b); err != nil {
			full, numbers.next = err, before
			refused++
		}
		if i > 1000 {
			t.Fatal("a disk of 1 MB has taken 60 MB")
		}
	}
	if !errors.Is(full, syscall.ENOSPC) {
		t.Errorf("got %v, want ENOSPC", full)
	}
	if got := label(t, reg, "flowcordon_store_dropped_total", "spool_error"); got != float64(400*refused) {
		t.Errorf("dropped_total of spool_error %v, want %d", got, 400*refused)
	}
	if n := logs.FilterMessage("the spool cannot be written, rows are dropped").Len(); n != 1 {
		t.Errorf("%d lines about the disk, want 1", n)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	again := func() int { return logs.FilterMessage("the spool's disk takes rows again").Len() }
	for began := time.Now(); again() == 0; time.Sleep(200 * time.Millisecond) {
		if err := s.Write(numbers.batch(10)); err != nil {
			t.Fatalf("with space again: %v", err)
		}
		if time.Since(began) > 2*time.Minute {
			t.Fatal("no line says that the disk takes rows again")
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	if err := s.Sync(within(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct{ table, column, reason string }{
		{"host_window", "out_bytes", ""}, {"service_window", "out_bytes", "spool_full_services"},
		{"pair_window", "out_bytes", "spool_full_pairs"}, {"flows", "bytes", "spool_full_flows"},
	} {
		lost := 0.0
		if k.reason != "" {
			lost = label(t, reg, "flowcordon_store_dropped_total", k.reason)
		}
		if n, _, _ := stored(t, cfg, k.table, k.column); float64(n)+lost != float64(numbers.next) {
			t.Errorf("%s: %d rows stored and %v dropped of %d", k.table, n, lost, numbers.next)
		}
	}
}

// What another version has left in the spool is set aside, and said.
func TestSpoolOfAnotherVersion(t *testing.T) {
	cfg := migrated(t)
	for _, name := range []string{"18ea57671b959165-9d59111d.batch", "18ea57671b959166-9d59111e.open"} {
		if err := os.WriteFile(filepath.Join(cfg.SpoolDir, name), append([]byte("FCS1"), make([]byte, 5000)...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reg := prometheus.NewRegistry()
	log, logs := observed()
	s, _ := storetest.Start(t, cfg, store.Deps{Registerer: reg, Log: log})
	waitEmpty(t, cfg.SpoolDir)
	var numbers numbered
	if err := s.Write(numbers.batch(5)); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	checkNumbers(t, raw(t, cfg), 5)
	if l := files(t, cfg.SpoolDir, ".corrupt"); len(l) != 2 {
		t.Errorf("set aside: %v, want two", l)
	}
	if got := label(t, reg, "flowcordon_store_dropped_total", "corrupt"); got != 2 {
		t.Errorf("dropped_total of corrupt %v, want 2", got)
	}
	said := 0
	for _, e := range logs.FilterLevelExact(zapcore.ErrorLevel).All() {
		if err, ok := e.ContextMap()["error"].(string); ok && errorNamesVersion(err) {
			said++
		}
	}
	if said != 2 {
		t.Errorf("%d lines name the version that wrote it, want 2: %v", said, logs.All())
	}
}

func errorNamesVersion(s string) bool { return strings.Contains(s, `it begins with "FCS1"`) }
