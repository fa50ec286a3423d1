package store

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

func testSpool(t *testing.T, dir string) *spool {
	t.Helper()
	cfg := Config{SpoolDir: dir, Addr: []string{"nobody:1"}}
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	s := newSpool(cfg, zap.NewNop(), newMetrics())
	t.Cleanup(func() { _ = s.close() })
	return s
}

func writeTo(t *testing.T, s *spool, b *flow.Batch) {
	t.Helper()
	buf, err := new(encoder).encode(b, &s.buffers, s.behind.Load())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.add(buf); err != nil {
		t.Fatal(err)
	}
}

// takeAll reads every batch of the spool and acknowledges it.
func takeAll(t *testing.T, s *spool) (got flow.Batch) {
	t.Helper()
	s.seal()
	for {
		b, _, _ := s.take(time.Now())
		if b == nil {
			return got
		}
		r, err := s.read(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range tables {
			frames, err := r.table(table)
			if err != nil {
				t.Fatal(err)
			}
			part := batchFrom(frames)
			got.Hosts, got.Services = append(got.Hosts, part.Hosts...), append(got.Services, part.Services...)
			got.Pairs, got.Flows = append(got.Pairs, part.Pairs...), append(got.Flows, part.Flows...)
			r.release()
		}
		r.close()
		if err := s.done(b); err != nil {
			t.Fatal(err)
		}
	}
}

func hosts(n int, bytes uint64) *flow.Batch {
	b := &flow.Batch{}
	for range n {
		b.Hosts = append(b.Hosts, flow.HostWindow{Counts: flow.Counts{OutBytes: bytes}})
	}
	return b
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	l, err := filepath.Glob(filepath.Join(dir, "*.*"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A file is written again. After a crash what lies behind the last whole Write
// is of the batch before: it was acknowledged and must not come back.
func TestSpoolFileWrittenAgain(t *testing.T) {
	for _, tt := range []struct {
		name string
		torn bool // the crash came in the middle of a Write
	}{{"whole", false}, {"torn", true}} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := testSpool(t, dir)
			for range 5 {
				writeTo(t, s, hosts(100, 1))
			}
			if n := len(takeAll(t, s).Hosts); n != 500 {
				t.Fatalf("%d rows, want 500", n)
			}
			free := list(t, dir)
			if len(free) != 1 || filepath.Ext(free[0]) != extFree {
				t.Fatalf("in the spool: %v, want one free file", free)
			}
			before, err := os.Stat(free[0])
			if err != nil {
				t.Fatal(err)
			}
			writeTo(t, s, hosts(100, 2))
			writeTo(t, s, hosts(50, 3))
			open := list(t, dir)
			if len(open) != 1 || filepath.Ext(open[0]) != extOpen {
				t.Fatalf("in the spool: %v, want the one open file", open)
			}
			after, err := os.Stat(open[0])
			if err != nil {
				t.Fatal(err)
			}
			if !os.SameFile(before, after) || after.Size() != before.Size() {
				t.Error("the free file was not written again")
			}
			if tt.torn { // the last Write is half there, over what was
				f, err := os.OpenFile(open[0], os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 300), s.current.bytes-300); err != nil {
					t.Fatal(err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			crash := t.TempDir()
			copyTo(t, open[0], crash)
			next := testSpool(t, crash)
			if err := next.open(); err != nil {
				t.Fatal(err)
			}
			got := map[uint64]int{}
			for _, h := range takeAll(t, next).Hosts {
				got[h.OutBytes]++
			}
			want := map[uint64]int{2: 100, 3: 50}
			if tt.torn {
				delete(want, 3)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
			if n := len(takeAll(t, s).Hosts); !tt.torn && n != 150 { // the process that goes on
				t.Errorf("%d rows, want 150", n)
			}
		})
	}
}

func copyTo(t *testing.T, file, dir string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// What waits is in memory up to a bound, and in the files alone from there on;
// it makes no difference to what is read.
func TestSpoolMemoryIsBounded(t *testing.T) {
	s := testSpool(t, t.TempDir())
	const rows = 2000
	big := hosts(rows, 1)
	n := 0
	for ; n < 400; n++ { // 150 MB
		for i := range big.Hosts {
			big.Hosts[i].OutBytes = uint64(n*rows + i)
		}
		writeTo(t, s, big)
		if s.kept > maxKept {
			t.Fatalf("%d bytes in memory after %d Writes, want at most %d", s.kept, n, maxKept)
		}
	}
	s.seal()
	inMemory, onDisk := 0, 0
	for _, b := range s.queue {
		if b.kept != nil {
			inMemory++
		} else {
			onDisk++
		}
	}
	if inMemory == 0 || onDisk == 0 {
		t.Fatalf("%d batches in memory, %d on disk alone; want some of both", inMemory, onDisk)
	}
	for next := 0; ; {
		b, _, _ := s.take(time.Now())
		if b == nil {
			if next != n {
				t.Fatalf("%d Writes came back, want %d", next, n)
			}
			break
		}
		r, err := s.read(b)
		if err != nil {
			t.Fatal(err)
		}
		frames, err := r.table(&hostTable)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames {
			bytes := f.column(7) // out_bytes
			for i := range f.rows {
				if got := binary.LittleEndian.Uint64(bytes[8*i:]); got != uint64(next*rows+i) {
					t.Fatalf("row %d of Write %d is number %d", i, next, got)
				}
			}
			next++
		}
		r.close()
		if err := s.done(b); err != nil {
			t.Fatal(err)
		}
	}
	if s.kept != 0 || s.bytes != 0 {
		t.Errorf("%d bytes in memory and %d on disk are left", s.kept, s.bytes)
	}
	if s.buffers.size > maxFree {
		t.Errorf("%d bytes of free buffers, want at most %d", s.buffers.size, maxFree)
	}
}

// While the database is behind, batches are compressed and not kept.
func TestSpoolBehindCompresses(t *testing.T) {
	s := testSpool(t, t.TempDir())
	writeTo(t, s, hosts(1000, 1))
	s.current.seq -= uint64(behindAfter) // as if it had been begun earlier
	s.seal()
	if !s.behind.Load() {
		t.Fatal("a batch has waited for 5 s and nobody is behind")
	}
	raw := s.bytes
	writeTo(t, s, hosts(1000, 2))
	if added := s.bytes - raw; added > raw/5 {
		t.Errorf("the second batch takes %d bytes, the first %d: not compressed", added, raw)
	}
	if s.current.kept != nil {
		t.Error("the second batch is in memory as well")
	}
	got := takeAll(t, s).Hosts
	if len(got) != 2000 || got[0].OutBytes != 1 || got[1999].OutBytes != 2 {
		t.Errorf("%d rows came back", len(got))
	}
	if s.behind.Load() {
		t.Error("nothing waits and the database is behind")
	}
	if l := list(t, s.dir); len(l) != 1 {
		t.Errorf("in the spool: %v, want the first file alone to be written again", l)
	}
}
