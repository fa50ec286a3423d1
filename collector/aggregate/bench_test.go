package aggregate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/flowcordon/flowcordon/flow"
)

// traffic makes records of a border router: conversations of clients and
// servers, DNS, and one host that scans.
type traffic struct {
	hosts, remotes int // remotes: of each host; 0: every record has another
	length         time.Duration
	packets        uint64
	rate           uint32
	v6             bool

	rng  *rand.PCG
	recs []flow.Record
}

// run returns the next n records; they came at the rate of 50,000/s, the last
// at now.
func (tr *traffic) run(n int, now int64) []flow.Record {
	if tr.rng == nil {
		tr.rng = rand.NewPCG(7, 8)
	}
	if len(tr.recs) < n {
		tr.recs = make([]flow.Record, n)
	}
	for i := range tr.recs[:n] {
		tr.fill(&tr.recs[i], now-int64(n-1-i)*sec/benchRate)
	}
	return tr.recs[:n]
}

const benchRate = 50_000 // records a second

func (tr *traffic) fill(r *flow.Record, now int64) {
	x, y := tr.rng.Uint64(), tr.rng.Uint64()
	h := uint32(x) % uint32(tr.hosts)
	var host, remote netip.Addr
	if tr.remotes > 0 {
		y = flow.Mix64(uint64(h)*1000 + y%uint64(tr.remotes))
	}
	if tr.v6 {
		host = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(h >> 16), byte(h >> 8), byte(h), 15: 1})
		remote = netip.AddrFrom16([16]byte{0x2a, 0, byte(y), byte(y >> 8), byte(y >> 16), byte(y >> 24), byte(y >> 32), 15: byte(y >> 40)})
	} else {
		host = netip.AddrFrom4([4]byte{11, byte(h >> 16), byte(h >> 8), byte(h)})
		remote = netip.AddrFrom4([4]byte{45 + byte(y&7), byte(y >> 8), byte(y >> 16), byte(y >> 24)})
	}
	*r = flow.Record{
		Exporter: exporter1, Protocol: flow.NetFlow9, Received: now, Start: now - int64(tr.length), End: now,
		Src: host, Dst: remote, SrcPort: uint16(32768 + x>>40&32767), DstPort: 443, IPProto: flow.ProtoTCP,
		TCPFlags: flow.ACK | flow.PSH, Packets: tr.packets, Bytes: 100 * tr.packets, SamplingRate: tr.rate, SamplingSource: flow.SamplingOptions,
		Has: flow.HasPorts | flow.HasTCPFlags | flow.HasIPProto | flow.HasTimes | flow.HasInIf,
	}
	switch x >> 32 & 15 {
	case 0: // the scanner
		r.Src, r.DstPort, r.TCPFlags, r.Packets, r.Bytes = tenantA, 22, flow.SYN, 1, 44
	case 1, 2:
		r.IPProto, r.TCPFlags, r.DstPort = flow.ProtoUDP, 0, 53
	case 3, 4, 5, 6, 7: // to a client
		r.Src, r.Dst, r.SrcPort, r.DstPort = remote, host, 443, r.SrcPort
	case 8, 9, 10: // to a server
		r.Src, r.Dst = remote, host
	}
}

// discard takes rows and forgets them.
type discard struct{ rows int }

func (d *discard) write(b *flow.Batch) { d.rows += b.Rows() }

// rig runs traffic through a front and an aggregator as a collector does: in
// runs of 512 records, with a flush in slices each two seconds.
type rig struct {
	tr     traffic
	front  *Front
	agg    *Aggregator
	blocks []*Block
	now    int64
	n      int

	route, take durations
	flush       time.Duration
	rows        discard
}

func newRig(tr traffic) *rig {
	cfg := testConfig()
	cfg.FlowPolicy = FlowOff
	cfg.Internal = append(cfg.Internal, netip.MustParsePrefix("11.0.0.0/9"))
	if tr.packets == 0 {
		tr.packets = 10
	}
	tr.rate = max(tr.rate, 1)
	g := &rig{tr: tr, front: NewFront(cfg, 1), blocks: []*Block{{}}, now: t0}
	g.agg = New(cfg, g.rows.write)
	return g
}

const rigRun = 512

// durations of runs. On a machine with other work the tenth part of the runs
// that was quickest tells more than the mean.
type durations []time.Duration

func (ds durations) quick() float64 {
	slices.Sort(ds)
	return float64(ds[len(ds)/10]) / rigRun
}

func (ds durations) median() float64 { return float64(ds[len(ds)/2]) / rigRun }

// cpuTime is the time that the calling thread was on a CPU: the machine may
// have other work.
func cpuTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

func (g *rig) step() {
	g.now += rigRun * sec / benchRate
	recs := g.tr.run(rigRun, g.now)
	b := g.blocks[0]
	b.Items = b.Items[:0]
	a := cpuTime()
	g.front.Route(recs, g.blocks)
	c := cpuTime()
	g.agg.Take(b)
	d := cpuTime()
	g.route, g.take = append(g.route, c-a), append(g.take, d-c)
	if before := g.n / (2 * benchRate); (g.n+rigRun)/(2*benchRate) > before || g.agg.round.running {
		g.agg.Flush(g.now, false, 4096)
		g.flush += cpuTime() - d
	}
	g.n += rigRun
}

// warm goes on to the steady state: windows open, close and are used again.
func (g *rig) warm() {
	for g.n < 45*benchRate {
		g.step()
	}
	g.n, g.route, g.take, g.flush, g.rows.rows = g.n%(2*benchRate), nil, nil, 0, 0
}

var benchTraffic = []struct {
	name string
	tr   traffic
}{
	{"tiny", traffic{hosts: 100, remotes: 2}}, // what is left when memory costs nothing
	{"50k", traffic{hosts: 50_000}},
	{"50k-20remotes", traffic{hosts: 50_000, remotes: 20}},
	{"50k-samples", traffic{hosts: 50_000, rate: 1000, packets: 1}},
	{"500k", traffic{hosts: 500_000}},
	{"50k-v6", traffic{hosts: 50_000, v6: true}},
	{"50k-5s", traffic{hosts: 50_000, length: 5 * time.Second}},
	{"50k-60s", traffic{hosts: 50_000, length: time.Minute, packets: 6 * spreadFrom}},
	{"50k-60s-4packets", traffic{hosts: 50_000, length: time.Minute, packets: 4}},
	{"500k-60s", traffic{hosts: 500_000, length: time.Minute, packets: 6 * spreadFrom}},
}

// BenchmarkTake tells what a record costs in each step, in CPU time.
func BenchmarkTake(b *testing.B) {
	for _, c := range benchTraffic {
		b.Run(c.name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			g := newRig(c.tr)
			g.warm()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			records := 0
			for b.Loop() {
				g.step()
				records += rigRun
			}
			runtime.ReadMemStats(&after)
			b.ReportMetric(g.route.quick(), "route-ns/record")
			b.ReportMetric(g.take.quick(), "take-ns/record")
			b.ReportMetric(g.take.median(), "take-median-ns/record")
			b.ReportMetric(float64(g.flush)/float64(records), "flush-ns/record")
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(records), "allocs/record")
			b.ReportMetric(float64(g.rows.rows)/float64(records), "rows/record")
			b.ReportMetric(0, "ns/op")
			a := g.agg
			b.ReportMetric(float64(a.hosts.rows.size()+a.services.rows.size()+a.pairs.rows.size())/1000, "krows")
			b.ReportMetric(float64(after.HeapAlloc)/1e6, "heap-MB")
			mapped := 0
			for _, m := range a.hosts.rows.mem.maps.of {
				mapped += len(m)
			}
			b.ReportMetric(float64(mapped)/1e6, "mapped-MB")
		})
	}
}

func (s *slab[T]) size() int { return len(s.chunks) * chunkRows }

// TestEntrySizes keeps the rows small; the figures are in the documentation.
func TestEntrySizes(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want uintptr
	}{
		{"item", unsafe.Sizeof(Item{}), 144}, {"host", unsafe.Sizeof(hostRow{}), 128},
		{"service", unsafe.Sizeof(serviceRow{}), 64}, {"pair", unsafe.Sizeof(pairRow{}), 88}, {"bucket", unsafe.Sizeof(bucket{}), 64}, {"pair bucket", unsafe.Sizeof(pairBucket{}), 64},
	} {
		if c.got > c.want {
			t.Errorf("%s: %d bytes, at most %d", c.name, c.got, c.want)
		}
		fmt.Fprintln(t.Output(), c.name, c.got)
	}
}

// TestAllocations: at the steady state neither a record nor a row allocates.
func TestAllocations(t *testing.T) {
	g := newRig(traffic{hosts: 5000, packets: 10, length: 15 * time.Second})
	g.warm()
	rows := g.rows.rows
	if n := testing.AllocsPerRun(1, func() {
		for range 30 * benchRate / rigRun {
			g.step()
		}
	}); n > 40 { // a table may still find its size
		t.Errorf("%g allocations for %d records and %d rows", n, 30*benchRate, g.rows.rows-rows)
	}
}

// BenchmarkRoute judges and routes alone, to two shards.
func BenchmarkRoute(b *testing.B) {
	for _, c := range []struct {
		name string
		v6   bool
	}{{"v4", false}, {"v6", true}} {
		b.Run(c.name, func(b *testing.B) {
			g := newRig(traffic{hosts: 50_000, v6: c.v6})
			f := NewFront(g.agg.cfg, 2)
			blocks := []*Block{{}, {}}
			recs := g.tr.run(rigRun, t0)
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var took durations
			b.ReportAllocs()
			for b.Loop() {
				blocks[0].Items, blocks[1].Items = blocks[0].Items[:0], blocks[1].Items[:0]
				start := cpuTime()
				f.Route(recs, blocks)
				took = append(took, cpuTime()-start)
			}
			b.ReportMetric(took.quick(), "ns/record")
			b.ReportMetric(took.median(), "median-ns/record")
		})
	}
}
