package collector

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowbench/load"
	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

type discard struct{}

func (discard) Write(*flow.Batch) error { return nil }

// benchSend is set for the child that sends: protocol, target, records a second.
const benchSend = "FLOWCORDON_BENCH_SEND"

// TestMain is the sender when a benchmark runs the test binary again: a process
// of its own, whose CPU is not the collector's.
func TestMain(m *testing.M) {
	to, ok := os.LookupEnv(benchSend)
	if !ok {
		os.Exit(m.Run())
	}
	cfg := load.Config{Duration: load.RouterDurations, Remotes: 20}
	var target string
	var rate float64
	_, err := fmt.Sscan(to, &cfg.Protocol, &target, &rate)
	if err == nil {
		cfg.Target, err = netip.ParseAddrPort(target)
	}
	if err != nil {
		panic(err)
	}
	l, err := load.New(cfg)
	if err != nil {
		panic(err)
	}
	l.SetRate(rate)
	if err := l.Run(context.Background()); err != nil {
		panic(err)
	}
}

// benchmark sends from four routers with 50,000 hosts behind them to a
// Collector and tells what its process uses. Datagrams that are too many the
// kernel drops. Without aggregation none of the hosts is internal.
func benchmark(b *testing.B, protocol flow.Protocol, workers int, perSecond float64, aggregation bool) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(workers))
	cfg := testConfig()
	cfg.Workers = workers
	cfg.Listen[0].Protocol = decode.KindAny
	cfg.Aggregate.FlowPolicy = aggregate.FlowOff
	if !aggregation {
		cfg.Aggregate.Internal = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	}
	c, err := New(cfg, Deps{Sink: discard{}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	<-c.Ready()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s %g", benchSend, protocol, c.Addrs()[0], perSecond))
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait() // killed
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}()
	for c.totals().received < 2000 { // tables have their size
		time.Sleep(20 * time.Millisecond)
	}

	from, start := c.totals(), cpu(b)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	for c.totals().received < from.received+uint64(b.N) {
		time.Sleep(200 * time.Millisecond)
	}
	to, used := c.totals(), cpu(b)-start
	runtime.ReadMemStats(&after)
	records := float64(to.records - from.records)
	b.ReportMetric(float64(used)/records, "cpu-ns/record")
	b.ReportMetric(records/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/records, "allocs/record")
	rows := func(t totals) uint64 {
		return t.agg.RowsHosts + t.agg.RowsServices + t.agg.RowsPairs + t.agg.RowsFlows
	}
	b.ReportMetric(float64(rows(to)-rows(from))/records, "rows/record")
	b.ReportMetric(0, "ns/op") // tells how fast another process sends
}

var protocols = []flow.Protocol{flow.NetFlow5, flow.NetFlow9, flow.IPFIX, flow.SFlow5}

// BenchmarkHighest is socket to aggregate on one core, offered more than it takes.
func BenchmarkHighest(b *testing.B) {
	for _, p := range protocols {
		b.Run(p.String(), func(b *testing.B) { benchmark(b, p, 1, math.Inf(1), true) })
	}
}

// BenchmarkFront is the same without aggregation: socket, decoder and front.
func BenchmarkFront(b *testing.B) {
	for _, p := range protocols {
		b.Run(p.String(), func(b *testing.B) { benchmark(b, p, 1, math.Inf(1), false) })
	}
}

// BenchmarkQuiet is BenchmarkHighest at 50,000 records a second, where waking up costs
// most (20,000 samples with sFlow).
func BenchmarkQuiet(b *testing.B) {
	for _, p := range protocols {
		rate := 50_000.0
		if p == flow.SFlow5 {
			rate = 20_000
		}
		b.Run(p.String(), func(b *testing.B) { benchmark(b, p, 1, rate, true) })
	}
	b.Run("netflow5, front only", func(b *testing.B) { benchmark(b, flow.NetFlow5, 1, 50_000, false) })
	b.Run("netflow5, 2 workers", func(b *testing.B) { benchmark(b, flow.NetFlow5, 2, 50_000, true) })
}

func cpu(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
