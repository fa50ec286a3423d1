package store_test

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// traffic makes flow rows as a hoster's routers export them: 50,000 hosts behind
// four exporters, short flows to a few thousand known and many other addresses.
type traffic struct {
	*rand.Rand
	number uint64 // of the last flow row, in its Bytes
}

func newTraffic() *traffic { return &traffic{Rand: rand.New(rand.NewPCG(5, 6))} }

func (g *traffic) tenant() netip.Addr {
	n := g.IntN(50_000)
	return netip.AddrFrom4([4]byte{100, 64 + byte(n>>16), byte(n >> 8), byte(n)})
}

// flows fills rows with records that ended in the 30 s before now.
func (g *traffic) flows(rows []flow.FlowRow, now time.Time) {
	for i := range rows {
		end := now.UnixNano() - g.Int64N(30e9)/1e6*1e6 // exporters count milliseconds
		packets := uint64(1 + g.ExpFloat64()*6)
		remote := g.Uint32()
		if g.IntN(3) > 0 {
			remote = 0x08080000 | remote&0xfff
		}
		g.number++
		tenant := g.tenant()
		rows[i] = flow.FlowRow{
			Time: end, End: end, Start: end - g.Int64N(10e9)/1e6*1e6,
			Exporter: netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + g.IntN(4))}), Tenant: tenant, Host: tenant,
			Remote:   netip.AddrFrom4([4]byte{byte(remote >> 24), byte(remote >> 16), byte(remote >> 8), byte(remote)}),
			HostPort: uint16(32768 + g.IntN(28000)), RemotePort: []uint16{443, 80, 53, 22}[g.IntN(4)],
			Dir: flow.Direction(1 + g.IntN(2)), IPProto: []uint8{6, 6, 6, 17}[g.IntN(4)], Role: flow.RoleClient,
			Class: []flow.Class{flow.ClassEst, flow.ClassEst, flow.ClassSYN, flow.ClassUDP}[g.IntN(4)], TCPFlags: []uint8{0x1b, 0x18, 0x02, 0}[g.IntN(4)],
			Packets: packets, Bytes: g.number, Rate: 1000, InIf: uint32(500 + g.IntN(8)), OutIf: uint32(500 + g.IntN(8)),
		}
		rows[i].SvcPort = rows[i].RemotePort
	}
}

// windows fills a batch with n rows of each kind of window for one start.
func (g *traffic) windows(n int, now time.Time) *flow.Batch {
	b := &flow.Batch{}
	for range n {
		k := flow.Key{Start: now.Unix() / 10 * 10, Tenant: g.tenant(), Rate: 1000}
		out, in := uint64(1+g.IntN(5)), uint64(g.IntN(5))
		c := flow.Counts{OutRecords: out, InRecords: in, OutPackets: 3 * out, InPackets: 3 * in, OutBytes: out * uint64(g.IntN(4000)), InBytes: in * uint64(g.IntN(9000))}
		cl := flow.Classes{EstOut: out / 2, EstIn: in, SYNOut: out % 2}
		b.Hosts = append(b.Hosts, flow.HostWindow{Key: k, Counts: c, Classes: cl, UDPOutPackets: out % 3})
		s := flow.ServiceWindow{Key: k, Counts: c, Classes: cl, IPProto: 6, Role: flow.RoleClient, SvcPort: 443, Attempts: out % 2}
		if s.Attempts > 0 {
			s.Remotes = []uint64{g.Uint64()}
		}
		b.Services = append(b.Services, s)
		if g.IntN(4) == 0 {
			b.Pairs = append(b.Pairs, flow.PairWindow{Key: k, Counts: c, Classes: cl, Remote: g.tenant(), IPProto: 6, SYNPackets: out % 2})
		}
	}
	return b
}

// rss is this process's resident memory in bytes.
func rss(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// TestAwayForTenMinutes: 100,000 flow rows a second and the windows of 50,000
// hosts while ClickHouse is away for ten minutes; the spool's default bound
// holds them, memory stays flat, and everything arrives once. FLOWCORDON_LONG=1
// runs it; FLOWCORDON_LONG_AWAY shortens the ten minutes.
func TestAwayForTenMinutes(t *testing.T) {
	if os.Getenv("FLOWCORDON_LONG") != "1" {
		t.Skip("takes 15 minutes: set FLOWCORDON_LONG=1")
	}
	away := 10 * time.Minute
	if v := os.Getenv("FLOWCORDON_LONG_AWAY"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatal(err)
		}
		away = d
	}
	const each = 8192
	cfg := migrated(t)
	g := &gate{dial: cfg.DialContext}
	check := cfg
	cfg.DialContext, cfg.BatchWait = g.DialContext, 0
	reg := prometheus.NewRegistry()
	s, _ := storetest.Start(t, cfg, store.Deps{Registerer: reg})
	gen := newTraffic()
	flows := make([]flow.FlowRow, each)
	hosts, peakRSS, peakSpool := uint64(0), 0, 0.0
	var writing time.Duration
	load := func(d time.Duration) {
		began := time.Now()
		for n, next := 0, began; time.Since(began) < d; n++ {
			batch := &flow.Batch{Flows: flows}
			gen.flows(flows, time.Now())
			if n%122 == 0 { // every 10 s
				w := gen.windows(50_000, time.Now())
				w.Flows = flows
				batch = w
			}
			hosts += uint64(len(batch.Hosts))
			at := time.Now()
			if err := s.Write(batch); err != nil {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
			writing += time.Since(at)
			peakRSS, peakSpool = max(peakRSS, rss(t)), max(peakSpool, gather(t, reg, "flowcordon_store_spool_bytes"))
			next = next.Add(time.Second * each / 100_000)
			time.Sleep(time.Until(next))
		}
	}
	load(10 * time.Second)
	before := rss(t)
	peakRSS, writing = 0, 0
	rows := gen.number
	g.set(true)
	load(away)
	rows = gen.number - rows
	t.Logf("away for %v: %d flow rows; spool at most %.0f MB of %d MB, %.1f B a flow row with its share of windows; RSS %d MB before, at most %d MB; Write %.0f ns a row",
		away, rows, peakSpool/1e6, store.DefaultSpoolMaxBytes/1000000, peakSpool/float64(rows), before>>20, peakRSS>>20, float64(writing.Nanoseconds())/float64(rows))
	peakRSS = 0
	back := time.Now()
	g.set(false)
	done := make(chan error, 1)
	go func() { done <- s.Sync(within(t, 30*time.Minute)) }()
	load(0)
	for waiting := true; waiting; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			waiting = false
		case <-time.After(100 * time.Millisecond):
			peakRSS = max(peakRSS, rss(t))
		}
	}
	took := time.Since(back)
	t.Logf("caught up in %v: %.0f flow rows a second, RSS at most %d MB", took.Round(time.Second), float64(rows)/took.Seconds(), peakRSS>>20)
	c := raw(t, check)
	var n, sum, h uint64
	if err := c.QueryRow(within(t, time.Minute), "SELECT count(), sum(bytes) FROM flows").Scan(&n, &sum); err != nil {
		t.Fatal(err)
	}
	if err := c.QueryRow(within(t, time.Minute), "SELECT count() FROM host_window").Scan(&h); err != nil {
		t.Fatal(err)
	}
	if n != gen.number || sum != n*(n+1)/2 || h != hosts {
		t.Errorf("%d flow rows with a sum of %d and %d host windows, want %d with %d and %d", n, sum, h, gen.number, gen.number*(gen.number+1)/2, hosts)
	}
	if peakRSS > 600<<20 {
		t.Errorf("RSS %d MB while catching up", peakRSS>>20)
	}
}

// BenchmarkSpoolBytes: what a row takes in the spool, as it is and compressed.
func BenchmarkSpoolBytes(b *testing.B) {
	g := newTraffic()
	rows := make([]flow.FlowRow, 8192)
	g.flows(rows, epoch)
	w := g.windows(8192, epoch)
	for name, batch := range map[string]*flow.Batch{"flow": {Flows: rows}, "host": {Hosts: w.Hosts}, "service": {Services: w.Services}, "pair": {Pairs: w.Pairs}} {
		for _, behind := range []bool{false, true} {
			b.Run(name+"/compressed="+strconv.FormatBool(behind), func(b *testing.B) {
				dir := b.TempDir()
				s, err := store.New(store.Config{Addr: []string{"127.0.0.1:1"}, SpoolDir: dir, SpoolMaxBytes: 1 << 40, BatchRows: 8192}, store.Deps{})
				if err != nil {
					b.Fatal(err)
				}
				if behind {
					makeBehind(b, s)
				}
				size, n := diskUse(b, dir), 0
				began := cpuNow(b)
				for b.Loop() {
					if err := s.Write(batch); err != nil {
						b.Fatal(err)
					}
					n += batch.Rows()
				}
				b.ReportMetric(float64(cpuNow(b)-began)/float64(n), "cpu-ns/row")
				b.ReportMetric(float64(diskUse(b, dir)-size)/float64(n), "B/row")
			})
		}
	}
}

// makeBehind leaves a batch in the spool until it counts as old.
func makeBehind(b *testing.B, s *store.Store) {
	b.Helper()
	old := &flow.Batch{Hosts: make([]flow.HostWindow, 1)}
	if err := s.Write(old); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	_ = s.Sync(ctx) // seals it
	time.Sleep(5100 * time.Millisecond)
	if err := s.Write(old); err != nil {
		b.Fatal(err)
	}
	_ = s.Sync(ctx)
}
