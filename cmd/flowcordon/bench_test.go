package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/detect"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// BenchmarkTick is a minute of ticks of all rules, the guards' questions of the
// fleet and of each finding among them, over 100,000 tenants that have been busy
// for half an hour at 60,000 samples/s: 18 M host, 36 M service and 6 M pair rows,
// and 18 M flow rows of the last five minutes; one tenant in 10,000 scans.
// FLOWCORDON_BENCH_TENANTS makes it smaller. Then a tenant's evidence.
func BenchmarkTick(b *testing.B) {
	cfg := storetest.Config(b)
	s, _ := storetest.Start(b, cfg, store.Deps{})
	ctx := context.Background()
	if err := s.Migrate(ctx); err != nil {
		b.Fatal(err)
	}
	tenants := 100_000
	if v := os.Getenv("FLOWCORDON_BENCH_TENANTS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			b.Fatalf("FLOWCORDON_BENCH_TENANTS: %v", err)
		}
		tenants = n
	}
	end := time.Now().UTC().Truncate(time.Minute)
	fillFleet(b, cfg.Database, end, tenants)
	engine := storetest.Engine(b).Pid()
	ahead := os.Getenv("FLOWCORDON_BENCH_AHEAD") != "off"
	ticks := func(b *testing.B, w *timed, warm bool) (all []time.Duration, found int) {
		nobodys := func(flow.Attachment) (netip.Addr, bool) { return netip.Addr{}, false } // so that forged sources are asked for
		d := detect.New(detect.Defaults(), detect.Deps{Windows: w, PortOwner: nobodys})    // which remembers nothing: every finding's rows are asked for
		if warm {
			if err := d.Warm(ctx, end.Add(-time.Minute)); err != nil {
				b.Fatal(err)
			}
			fmt.Fprintf(os.Stderr, "at the start: %s\n", w.lately())
		}
		for ts := end.Add(-55 * time.Second); !ts.After(end); ts = ts.Add(5 * time.Second) {
			if ahead && warm { // as Run does between the slots
				began := time.Now()
				if err := d.Ahead(ctx, ts); err != nil {
					b.Fatal(err)
				}
				fmt.Fprintf(os.Stderr, "%s between the slots, %v: %s\n", ts.Format("05"), time.Since(began).Round(time.Millisecond), w.lately())
			}
			began := time.Now()
			fs, err := d.Tick(ctx, ts)
			if err != nil {
				b.Fatal(err)
			}
			all, found = append(all, time.Since(began)), len(fs)
			fmt.Fprintf(os.Stderr, "%s tick, %v: %s\n", ts.Format("05"), all[len(all)-1].Round(time.Millisecond), w.lately())
		}
		return all, found
	}
	b.Run("minute", func(b *testing.B) {
		var all []time.Duration
		found := 0
		var cpu time.Duration
		for b.Loop() {
			w := &timed{Store: s, cost: map[string]*cost{}}
			before := cpuOf(b, engine)
			one, n := ticks(b, w, os.Getenv("FLOWCORDON_BENCH_COLD") == "")
			cpu += cpuOf(b, engine) - before
			all, found = append(all, one...), n
			asked := w.report("a minute", len(one))
			fmt.Fprintln(os.Stderr, "ticks", one, "of which in questions", asked)
		}
		// On a busy machine this says more than the time it took.
		b.ReportMetric(float64(cpu.Milliseconds())/float64(len(all)), "engine-cpu-ms/tick")
		slices.Sort(all)
		at := func(q float64) float64 { return float64(all[min(int(q*float64(len(all))), len(all)-1)].Milliseconds()) }
		b.ReportMetric(at(0.5), "p50-ms/tick")
		b.ReportMetric(at(0.99), "p99-ms/tick")
		b.ReportMetric(float64(found), "findings")
	})
	b.Run("evidence", func(b *testing.B) {
		r := flow.Range{From: end.Add(-5 * time.Minute), To: end}
		rows := 0
		for b.Loop() {
			l, err := s.Flows(ctx, flow.FlowQuery{Tenant: benchAddr(7), Range: r, SvcPort: -1, Limit: 10_000})
			if err != nil {
				b.Fatal(err)
			}
			rows = len(l)
		}
		b.ReportMetric(float64(rows), "rows")
	})
}
