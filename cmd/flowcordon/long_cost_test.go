package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/bulk"
	"github.com/flowcordon/flowcordon/flow"
)

// TestLongCost measures what `flowcordon serve` costs as a process of its own:
// CPU and memory per million records of each protocol at a moderate rate, the
// engine apart. It fails on a loss, not on a figure: those are for the notes.
//
// FLOWCORDON_COST_RECORDS (1,000,000) and FLOWCORDON_COST_RATE (50,000 a second)
// change the load, FLOWCORDON_COST_POLICY (all) what flow rows are kept.
func TestLongCost(t *testing.T) {
	long(t)
	records, rate := envCount(t, "FLOWCORDON_COST_RECORDS", 1_000_000), envCount(t, "FLOWCORDON_COST_RATE", 50_000)
	for _, p := range totalsProtocols {
		t.Run(p.String(), func(t *testing.T) {
			s := newSite(t, siteOptions{Interval: "5s", FlowPolicy: os.Getenv("FLOWCORDON_COST_POLICY")})
			proc := s.serve(t)
			c := s.client(proc.http())
			c.ready(t, 3*time.Minute)
			target := netip.MustParseAddrPort(proc.fields("listening", "address")[0])
			v6 := 0.2
			switch p {
			case flow.NetFlow5:
				v6 = 0
			case flow.SFlow5:
				target = netip.MustParseAddrPort(proc.fields("listening", "address")[1])
			}
			before, engineBefore := mustStat(t, proc.cmd.Process.Pid), mustStat(t, proc.engine())
			rss := watchRSS(t, proc.cmd.Process.Pid, proc.engine())
			truth, err := bulk.Run(t.Context(), bulk.Config{
				Protocol: p, Target: target, Source: netip.MustParseAddr("127.0.0.11"), Domain: 1,
				Records: records, Hosts: 50_000, Seed: 1, V6Share: v6, Rate: rate,
			})
			if err != nil {
				t.Fatal(err)
			}
			var m samples
			eventually(t, 5*time.Minute, "all rows stored", func() (bool, string) {
				time.Sleep(time.Second) // a scrape costs, too
				if m, err = c.scrape(); err != nil {
					t.Fatal(err)
				}
				windows, spool := m.sum("flowcordon_collector_windows"), m.sum("flowcordon_store_spool_bytes")
				return windows == 0 && spool == 0, fmt.Sprintf("%v windows open, %v bytes in the spool", windows, spool)
			})
			after, engineAfter := mustStat(t, proc.cmd.Process.Pid), mustStat(t, proc.engine())
			per := func(d time.Duration) float64 { return d.Seconds() * 1e6 / float64(truth.Records) }
			most := rss()
			t.Logf("%s: %d records in %.1f s (%.0f/s). CPU seconds per million: flowcordon %.2f, engine %.2f. Most memory: flowcordon %d MB, engine %d MB",
				p, truth.Records, truth.Elapsed.Seconds(), float64(truth.Records)/truth.Elapsed.Seconds(),
				per(after.cpu-before.cpu), per(engineAfter.cpu-engineBefore.cpu), most[0]>>20, most[1]>>20)
			if got := m.sum("flowcordon_collector_records_total"); got != float64(truth.Records) {
				t.Errorf("%v records decoded of %d; kernel drops %v", got, truth.Records,
					m.sum("flowcordon_collector_kernel_drops_total"))
			}
			checkAccounts(t, m)
			if left, _ := filepath.Glob(filepath.Join(s.dir, "data", "spool", "*.rejected")); len(left) > 0 {
				t.Errorf("set aside: %s", strings.Join(left, " "))
			}
			if code := proc.stop(t, 2*time.Minute); code != 0 {
				t.Errorf("exit %d", code)
			}
		})
	}
}

func mustStat(t *testing.T, pid int) procStat {
	t.Helper()
	st, err := readStat(pid)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// watchRSS looks at the memory of two processes until the result is called,
// which gives the most that each had, in bytes.
func watchRSS(t *testing.T, pids ...int) func() []int64 {
	t.Helper()
	most := make([]atomic.Int64, len(pids))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			for i, pid := range pids {
				if st, err := readStat(pid); err == nil {
					most[i].Store(max(most[i].Load(), st.rss))
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	return func() []int64 {
		close(stop)
		<-done
		out := make([]int64, len(pids))
		for i := range most {
			out[i] = most[i].Load()
		}
		return out
	}
}
