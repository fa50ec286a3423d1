package libvirt

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
)

// BenchmarkCut measures from the call to the link down, and to the answer that it
// reads back as down in the running machine and in its definition, on a real
// libvirtd with 100 domains (FLOWCORDON_BENCH_DOMAINS), all running, each with
// a QEMU that is paused before its first instruction:
//
//   - alone: one cut after the other
//   - pending: all domains are cut at the same moment, so that each figure
//     holds the wait for the ones before it
//   - pending, found by MAC: the inventory knows the domains by nothing but
//     the NIC's MAC
//
// down-p50-ms and down-p99-ms are until the link is down, p50-ms and p99-ms until
// the answer, over all cuts. Restores are not timed.
func BenchmarkCut(b *testing.B) {
	n := 100
	if s := os.Getenv("FLOWCORDON_BENCH_DOMAINS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 1 {
			b.Fatalf("FLOWCORDON_BENCH_DOMAINS=%q: want a number of domains", s)
		}
	}
	var envs []*env
	running := 0
	for range n {
		e := newEnv(b)
		if _, err := e.admin.DomainCreateWithFlags(e.dom, uint32(golibvirt.DomainStartPaused)); err != nil {
			b.Logf("only %d of %d domains run: %v", running, n, err)
		} else {
			running++
		}
		envs = append(envs, e)
	}
	a := envs[0].a
	for name, byMAC := range map[string]bool{"pending": false, "pending, found by MAC": true} {
		b.Run(fmt.Sprintf("%s, %d", name, n), func(b *testing.B) {
			benchCut(b, a, envs, byMAC, len(envs))
		})
	}
	b.Run("alone", func(b *testing.B) { benchCut(b, a, envs, false, 1) })
}

// benchCut cuts and restores every domain, so many at once.
func benchCut(b *testing.B, a *Adapter, envs []*env, byMAC bool, atOnce int) {
	var down, took []time.Duration
	for b.Loop() {
		for batch := range slices.Chunk(envs, atOnce) {
			d, t := cutAll(b, a, batch, byMAC)
			down, took = append(down, d...), append(took, t...)
		}
	}
	for name, all := range map[string][]time.Duration{"down-": down, "": took} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, name+"p50-ms")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, name+"p99-ms")
	}
	b.ReportMetric(float64(len(took)), "cuts")
}

func cutAll(b *testing.B, a *Adapter, envs []*env, byMAC bool) (down, took []time.Duration) {
	took = make([]time.Duration, len(envs))
	receipts := make([]flow.Receipt, len(envs))
	nicOf := func(e *env) flow.NIC {
		nic := e.nic
		if byMAC {
			nic.VDS = ""
		}
		return nic
	}
	var wg sync.WaitGroup
	verdict := time.Now()
	var mu sync.Mutex
	a.pulled = func(string) {
		mu.Lock()
		defer mu.Unlock()
		down = append(down, time.Since(verdict))
	}
	for i, e := range envs {
		wg.Go(func() {
			var err error
			if receipts[i], err = a.Cut(b.Context(), nicOf(e), suspendertest.Mark("inc-"+e.guest.Name)); err != nil {
				b.Error(err)
			}
			took[i] = time.Since(verdict)
		})
	}
	wg.Wait()
	b.StopTimer()
	defer b.StartTimer()
	for i, e := range envs {
		if err := a.Restore(b.Context(), nicOf(e), suspendertest.Mark("inc-"+e.guest.Name), receipts[i]); err != nil {
			b.Error(err)
		}
	}
	return down, took
}
