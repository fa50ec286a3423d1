package collector

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flowcordon/flowcordon/cmd/flowbench/load"
	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// stages runs the generator's datagrams through a decoder, a front and an
// aggregator in the calling goroutine, as one reader does, and times each part.
// Event time goes by the rate; without naps the records come as fast as they
// are taken.
type stages struct {
	load   *load.Load
	dec    *decode.Decoder
	front  *aggregate.Front
	agg    *aggregate.Aggregator
	blocks []*aggregate.Block
	emit   func([]flow.Record)

	rate  float64 // records a second of event time
	batch int     // datagrams between two naps
	naps  bool    // in real time
	now   int64
	wake  time.Time
	flush int64 // when the next is due
	more  bool
	buf   []byte // the datagrams of a batch, as the kernel copies them
	parts [][2]int

	route, take, emptied time.Duration // within decode; of the batch at hand
	spent                [4][]float64  // ns a record, of each batch
	records, rows        int
	cpu                  time.Duration
}

// threadTime is the CPU time of the calling thread: the machine may have other work.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

func newStages(tb testing.TB, p flow.Protocol, hosts int, rate float64, batch int, naps bool) *stages {
	l, err := load.New(load.Config{Protocol: p, Duration: load.RouterDurations, Remotes: 20, Hosts: hosts, Target: netip.MustParseAddrPort("127.0.0.1:1")})
	if err != nil {
		tb.Fatal(err)
	}
	cfg := testConfig().Aggregate
	cfg.FlowPolicy = aggregate.FlowOff
	cfg.Internal = []netip.Prefix{load.PrefixFor(hosts)}
	s := &stages{
		load: l, dec: decode.New(decode.Config{}, decode.Deps{}), front: aggregate.NewFront(cfg, 1), blocks: []*aggregate.Block{{}},
		rate: rate, batch: batch, naps: naps, now: time.Now().UnixNano(),
	}
	s.agg = aggregate.New(cfg, func(b *flow.Batch) { s.rows += b.Rows() })
	s.emit = s.routed
	l.Announce(s.now, func(i int, d []byte) { s.decode(i, d) })
	return s
}

func (s *stages) decode(exporter int, d []byte) {
	s.dec.Decode(decode.Datagram{Exporter: netip.AddrPortFrom(load.Source(exporter), 5000), Received: s.now, Payload: d, Kind: decode.KindAny}, s.emit)
}

func (s *stages) routed(rs []flow.Record) {
	a := time.Now()
	s.front.Route(rs, s.blocks)
	s.route += time.Since(a)
	if len(s.blocks[0].Items) >= blockItems {
		s.taken()
	}
}

func (s *stages) taken() {
	a := time.Now()
	s.agg.Take(s.blocks[0])
	s.blocks[0].Items = s.blocks[0].Items[:0]
	s.take += time.Since(a)
}

// step is one batch; it tells how many records that was.
func (s *stages) step() (records int) {
	s.buf, s.parts = s.buf[:0], s.parts[:0]
	for range s.batch {
		i, d, n := s.load.Next(s.now)
		s.parts = append(s.parts, [2]int{i, len(s.buf)})
		s.buf = append(s.buf, d...)
		records += n
	}
	s.now += int64(float64(records) / s.rate * 1e9)
	if s.naps {
		s.wake = s.wake.Add(time.Duration(float64(records) / s.rate * 1e9))
		time.Sleep(time.Until(s.wake))
	}
	s.route, s.take, s.emptied = 0, 0, 0
	began := threadTime()
	a := time.Now()
	for j, p := range s.parts {
		end := len(s.buf)
		if j+1 < len(s.parts) {
			end = s.parts[j+1][1]
		}
		s.decode(p[0], s.buf[p[1]:end])
	}
	whole := time.Since(a) - s.route - s.take
	if s.naps {
		s.taken()
	}
	if s.more || s.now >= s.flush {
		if !s.more {
			s.flush = s.now + int64(DefaultFlushInterval)
		}
		c := threadTime()
		s.more = s.agg.Flush(s.now, false, flushSlice)
		s.emptied = threadTime() - c
	}
	for i, d := range []time.Duration{whole, s.route, s.take, s.emptied} {
		s.spent[i] = append(s.spent[i], float64(d)/float64(records))
	}
	s.cpu += threadTime() - began
	s.records += records
	return records
}

// BenchmarkStages tells what a record costs in each part, in CPU time: the
// tenth part of the batches that was quickest, since other work on the machine
// only ever adds; flushes, of which most batches have none, on average.
// With naps it is a quiet reader, whose caches others have used meanwhile.
func BenchmarkStages(b *testing.B) {
	for _, c := range []struct {
		hosts int
		rate  float64
		nap   time.Duration
	}{{50_000, 50_000, 0}, {50_000, 50_000, 20 * time.Millisecond}, {50_000, 50_000, 100 * time.Millisecond}, {50_000, 2e6, 0}, {500_000, 2e6, 0}} {
		for i, p := range protocols {
			if i > 0 && c.hosts > 50_000 || i > 1 && c.rate > 50_000 {
				continue // the tables do not ask what they came by, and warming up takes half a minute
			}
			b.Run(fmt.Sprintf("%s/%dk-%.0fk-%v", p, c.hosts/1000, c.rate/1000, c.nap), func(b *testing.B) {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				batch := batchSize
				s := newStages(b, p, c.hosts, c.rate, batch, false)
				if c.nap > 0 {
					batch = max(1, int(c.nap.Seconds()*c.rate/s.load.PerDatagram()))
				}
				for s.records < int(20*c.rate) {
					s.step()
				}
				s.batch, s.naps, s.wake = batch, c.nap > 0, time.Now()
				s.spent, s.records, s.rows, s.cpu = [4][]float64{}, 0, 0, 0
				for n := 0; b.Loop(); n++ {
					s.step()
				}
				for i, name := range []string{"decode", "route", "take", "flush"} {
					ds := s.spent[i]
					if name == "flush" {
						sum := 0.0
						for _, d := range ds {
							sum += d
						}
						b.ReportMetric(sum/float64(len(ds)), "flush-ns/record")
						continue
					}
					slices.Sort(ds)
					b.ReportMetric(ds[len(ds)/10], name+"-ns/record")
					if name == "take" {
						b.ReportMetric(ds[len(ds)/2], "take-median-ns/record")
					}
				}
				b.ReportMetric(float64(s.cpu)/float64(s.records), "cpu-ns/record")
				b.ReportMetric(float64(s.rows)/float64(s.records), "rows/record")
				b.ReportMetric(0, "ns/op")
				st := s.agg.Stats()
				b.ReportMetric(float64(st.PairsEvicted)/float64(s.records), "evicted/record")
			})
		}
	}
}
