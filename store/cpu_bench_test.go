package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// cpuNow is the CPU time of this process, the engine's child apart, in ns.
func cpuNow(b *testing.B) int64 {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return r.Utime.Nano() + r.Stime.Nano()
}

// engineCPU is the CPU time of the engine's process so far, in ns.
func engineCPU(b *testing.B) int64 {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", storetest.Engine(b).Pid()))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	user, err := strconv.ParseInt(f[11], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	sys, err := strconv.ParseInt(f[12], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return (user + sys) * 10_000_000 // of 100 a second
}

// byTable are batches of 8192 rows of one kind, as the aggregator hands over.
func byTable(n int) map[string]*flow.Batch {
	all := newGenerator(1).batch(n)
	return map[string]*flow.Batch{
		"host": {Hosts: all.Hosts}, "service": {Services: all.Services}, "pair": {Pairs: all.Pairs}, "flow": {Flows: all.Flows},
	}
}

// BenchmarkWriteTable: what Write costs of the process's and the kernel's time
// for a row of each kind, and what it puts on disk.
func BenchmarkWriteTable(b *testing.B) {
	for name, batch := range byTable(8192) {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			s, err := store.New(store.Config{Addr: []string{"127.0.0.1:1"}, SpoolDir: dir, SpoolMaxBytes: 1 << 40}, store.Deps{})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			began := cpuNow(b)
			for b.Loop() {
				if err := s.Write(batch); err != nil {
					b.Fatal(err)
				}
			}
			rows := float64(b.N * batch.Rows())
			b.ReportMetric(float64(cpuNow(b)-began)/rows, "cpu-ns/row")
			b.ReportMetric(float64(diskUse(b, dir))/rows, "B/row")
		})
	}
}

func diskUse(b *testing.B, dir string) int64 {
	b.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		b.Fatal(err)
	}
	sum := int64(0)
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			b.Fatal(err)
		}
		sum += st.Size()
	}
	return sum
}

// BenchmarkStoreTable: Write and everything up to the acknowledgement, in CPU
// time of this process and, apart, of the engine's with its merges meanwhile.
func BenchmarkStoreTable(b *testing.B) {
	for name, batch := range byTable(8192) {
		b.Run(name, func(b *testing.B) {
			s := storetest.New(b)
			b.ReportAllocs()
			began, engine := cpuNow(b), engineCPU(b)
			for b.Loop() {
				for range 12 {
					if err := s.Write(batch); err != nil {
						b.Fatal(err)
					}
				}
				if err := s.Sync(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
			rows := float64(12 * b.N * batch.Rows())
			b.ReportMetric(float64(cpuNow(b)-began)/rows, "cpu-ns/row")
			b.ReportMetric(float64(engineCPU(b)-engine)/rows, "engine-cpu-ns/row")
		})
	}
}
