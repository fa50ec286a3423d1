package decode

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

// TestHistogramBuckets: every duration is in the bucket whose ends hold it, and
// no bucket is wider than a quarter of its start.
func TestHistogramBuckets(t *testing.T) {
	const unit = 1 << histogramShift
	for b := range histogramBuckets - 1 {
		end := bucketEnd(b)
		if got := bucketOf(end - 1); got != b {
			t.Errorf("%d is in bucket %d, want %d", end-1, got, b)
		}
		if got := bucketOf(end); got != b+1 {
			t.Errorf("%d is in bucket %d, want %d", end, got, b+1)
		}
		if b >= 4 && float64(end) > 1.25*float64(bucketEnd(b-1)) {
			t.Errorf("bucket %d goes from %d to %d", b, bucketEnd(b-1), end)
		}
	}
	for ns, want := range map[int64]int{math.MinInt64: 0, -1: 0, 0: 0, unit - 1: 0, 4*unit - 1: 3, math.MaxInt64: histogramBuckets - 1} {
		if got := bucketOf(ns); got != want {
			t.Errorf("%d is in bucket %d, want %d", ns, got, want)
		}
	}
}

func TestSpread(t *testing.T) {
	if spread(nil, nil) != nil || spread(new(histogram), nil) != nil {
		t.Error("a spread of nothing")
	}
	var a, b histogram
	add := func(h *histogram, d time.Duration) {
		h.counts[bucketOf(int64(d))]++
		h.max = max(h.max, int64(d))
	}
	for i := range 98 {
		add(&a, time.Duration(i+1)*time.Second)
	}
	add(&b, 200*time.Second)
	add(&b, 48*time.Hour) // beyond the last bucket
	s := spread(&a, &b)
	if s.Records != 100 || s.Max != 48*3600 || s.P50 < 50 || s.P50 > 50*1.25 || s.P99 < 200 || s.P99 > 250 {
		t.Errorf("%+v", *s)
	}
	var one histogram
	add(&one, 61*time.Second)
	if diff := cmp.Diff(&flow.Spread{P50: 61, P99: 61, Max: 61, Records: 1}, spread(&one, nil)); diff != "" {
		t.Errorf("no quantile is over the maximum (-want +got):\n%s", diff)
	}
}

// timed is a v9 datagram of exporter time at (s), with records that ended end s
// before that and lasted so long.
func timed(at int64, seq uint32, end, lasted uint32) []byte {
	data := wire{}.u32(testUptime-1000*(end+lasted), testUptime-1000*end)
	return wire{}.u16(9, 2).u32(testUptime, uint32(at), seq, 1).raw(set(0, wire{}.u16(256, 2).u16(22, 4, 21, 4)), set(256, data))
}

// TestTiming: the clock's offset, the delay by the exporter's own clock and the
// durations, of the last two halves only.
func TestTiming(t *testing.T) {
	const half = int64(delayBucket)
	type arrival struct {
		at       int64 // s of our clock after testNow
		header   int64 // s of its clock after testNow
		end, dur uint32
	}
	seconds := func(s float64) *time.Duration { d := time.Duration(s * 1e9); return &d }
	halves := half / 1e9
	for _, c := range []struct {
		name          string
		arrivals      []arrival
		offset        *time.Duration
		delay, lasted float64 // the longest
		late          float64
		records       uint64
	}{
		{"right clock", []arrival{{0, 0, 15, 60}}, seconds(0), 15, 60, 15, 1},
		{"a clock behind: the delay is its own all the same", []arrival{{0, -3600, 15, 60}}, seconds(-3600), 15, 60, 3615, 1},
		{"a clock ahead", []arrival{{0, 30, 10, 1}}, seconds(30), 10, 1, 0, 1},
		{"datagrams that waited hide nothing: the greatest counts", []arrival{{10, 3, 1, 1}, {11, 9, 1, 1}, {12, 2, 1, 1}}, seconds(-2), 1, 1, 11, 3},
		{"a clock that was set right is right after two halves", []arrival{{0, 100, 1, 1}, {halves, halves, 1, 1}, {2 * halves, 2 * halves, 1, 1}}, seconds(0), 1, 1, 1, 2},
		{"but not after one", []arrival{{0, 100, 1, 1}, {halves, halves, 1, 1}}, seconds(100), 1, 1, 1, 2},
		{"long silence forgets all", []arrival{{0, 0, 500, 900}, {2 * halves, 2 * halves, 2, 3}}, seconds(0), 2, 3, 2, 1},
		{"our own clock set back", []arrival{{0, 0, 500, 900}, {-10, -10, 2, 3}}, seconds(0), 2, 3, 2, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := New(Config{TrustClock: true}, Deps{})
			for i, a := range c.arrivals {
				d.Decode(Datagram{Exporter: testExporter, Received: testNow + a.at*1e9, Payload: timed(testNow/1e9+a.header, uint32(i), a.end, a.dur)}, func([]flow.Record) {})
			}
			e := exporterStats(t, d)
			if diff := cmp.Diff(c.offset, e.ClockOffset); diff != "" {
				t.Errorf("offset (-want +got):\n%s", diff)
			}
			if e.ExportDelay.Max != c.delay || e.FlowDuration.Max != c.lasted || e.MaxDelay.Seconds() != c.late || e.ExportDelay.Records != c.records {
				t.Errorf("delay %+v, duration %+v, late %v", e.ExportDelay, e.FlowDuration, e.MaxDelay)
			}
			h := e.Health(testExporter.Addr())
			if *h.ClockOffsetS != c.offset.Seconds() || h.ExportDelayS.Max != c.delay || h.FlowDurationS.Max != c.lasted {
				t.Errorf("%+v", h)
			}
		})
	}
	t.Run("sFlow tells no time", func(t *testing.T) {
		d := New(Config{}, Deps{})
		feed(d, sflowMsg(1, flowSampleRaw(1000, 1, ethTCP)))
		if e := exporterStats(t, d); e.ClockOffset != nil || e.ExportDelay != nil || e.FlowDuration != nil {
			t.Errorf("%+v", e)
		}
	})
}

// TestTimingOfLongRuns: what is taken of every fourth record stands for all,
// and the extremes of those between are not missed.
func TestTimingOfLongRuns(t *testing.T) {
	for n := 1; n <= 130; n++ {
		var tm timing
		rs := make([]flow.Record, n)
		for i := range rs {
			rs[i] = flow.Record{Received: testNow, Start: testNow - 70e9, End: testNow - 10e9, Has: flow.HasTimes}
		}
		odd := n * 2 / 3
		rs[odd].Start, rs[odd].End = testNow-400e9, testNow-100e9
		tm.records(rs, testNow-5e9)
		h := &tm.halves[0]
		s, u := spread(h.delay, nil), spread(h.duration, nil)
		if s.Max != 95 || u.Max != 300 || h.late != 100e9 || s.Records != uint64(n) || u.Records != uint64(n) {
			t.Fatalf("%d records: %+v, %+v, late %d", n, *s, *u, h.late)
		}
		if n > 3 && (s.P50 < 5 || s.P50 > 6.25 || u.P50 < 60 || u.P50 > 75) {
			t.Fatalf("%d records: %+v, %+v", n, *s, *u)
		}
	}
	var none timing
	none.records(make([]flow.Record, 3), testNow)
	if h := &none.halves[0]; spread(h.delay, nil) != nil || h.late != 0 {
		t.Error("records without times were taken")
	}
}

// BenchmarkTimingRecords is what a record costs for its exporter's health.
func BenchmarkTimingRecords(b *testing.B) {
	var e exporter
	d := &Decoder{}
	o := &origin{exporter: &e, domain: &domain{}, protocol: flow.NetFlow9, received: testNow, export: testNow}
	rs := make([]flow.Record, runRecords)
	for i := range rs {
		rs[i] = flow.Record{Received: testNow, Start: testNow - int64(i)*1e9, End: testNow - int64(i)*1e8, SamplingRate: 1000, SamplingSource: flow.SamplingOptions, Has: flow.HasTimes}
	}
	b.ReportAllocs()
	for b.Loop() {
		d.observe(o, rs)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/runRecords, "ns/record")
}
