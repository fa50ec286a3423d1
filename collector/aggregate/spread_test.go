package aggregate

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

func spreadRecord(r *flow.Record, packets, bytes, syn uint64) ([]span, span) {
	t := checkTimes(r)
	return spread(nil, t.start, t.end, windowNo(r.Received-int64(time.Hour)), packets, bytes, syn)
}

func TestSpread(t *testing.T) {
	w := t0 / windowNS
	type in struct {
		start, end, packets, bytes int64
	}
	for _, c := range []struct {
		name    string
		in      in
		want    []span
		clipped span
	}{
		{"a moment", in{3, 3, 7, 700}, []span{{no: w, packets: 7, bytes: 700}}, span{}},
		{"within one window", in{0, 9, 7, 700}, []span{{no: w, packets: 7, bytes: 700}}, span{}},
		{"halves", in{5, 15, 10, 1000}, []span{{no: w, packets: 5, bytes: 500}, {no: w + 1, packets: 5, bytes: 500}}, span{}},
		{"one packet goes to the last window", in{5, 15, 1, 99}, []span{{no: w + 1, packets: 1, bytes: 99}}, span{}},
		{"a minute", in{0, 60, 60, 600}, []span{
			{no: w, packets: 10, bytes: 100}, {no: w + 1, packets: 10, bytes: 100}, {no: w + 2, packets: 10, bytes: 100},
			{no: w + 3, packets: 10, bytes: 100}, {no: w + 4, packets: 10, bytes: 100}, {no: w + 5, packets: 10, bytes: 100},
			{no: w + 6},
		}, span{}},
		{"the part before the horizon is clipped", in{-4000, 0, 4000, 40_000}, nil, span{packets: 400, bytes: 4000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rec(func(r *flow.Record) {
				r.Start, r.End, r.Received = t0+c.in.start*sec, t0+c.in.end*sec, t0+c.in.end*sec
			})
			got, clipped := spreadRecord(r, uint64(c.in.packets), uint64(c.in.bytes), 0)
			if c.want != nil {
				if d := cmp.Diff(c.want, got, cmp.AllowUnexported(span{})); d != "" {
					t.Errorf("(-want +got)\n%s", d)
				}
			} else if len(got) != 361 {
				t.Errorf("%d spans, want 361", len(got))
			}
			if clipped != c.clipped {
				t.Errorf("clipped %+v, want %+v", clipped, c.clipped)
			}
		})
	}
}

// TestSpreadSums: whatever the numbers, nothing is lost or made up, the windows
// follow each other, and no window gets more than its share and one.
func TestSpreadSums(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		packets, bytes := r.Uint64()>>r.UintN(64), r.Uint64()>>r.UintN(64)
		length := r.Int64N(int64(2*time.Hour)) >> r.UintN(42)
		end := t0 + r.Int64N(int64(time.Minute))
		tm := &flow.Record{Received: end, Start: end - length, End: end}
		spans, clipped := spreadRecord(tm, packets, bytes, packets/2)
		sum := clipped
		for i, s := range spans {
			sum.packets, sum.bytes, sum.syn = sum.packets+s.packets, sum.bytes+s.bytes, sum.syn+s.syn
			if i > 0 && (s.no <= spans[i-1].no || s.packets == 0 && i < len(spans)-1) {
				t.Fatalf("windows %d, %d with %d packets", spans[i-1].no, s.no, s.packets)
			}
			if limit := float64(packets)*math.Min(1, 1e10/math.Max(float64(length), 1)) + 1; float64(s.packets) > limit*(1+1e-9) {
				t.Fatalf("window %d of %d has %d of %d packets, limit %f", i, len(spans), s.packets, packets, limit)
			}
		}
		if sum.packets != packets || sum.bytes != bytes || sum.syn != packets/2 {
			t.Fatalf("sum %+v, want %d packets, %d bytes", sum, packets, bytes)
		}
		if last := spans[len(spans)-1].no; last != windowNo(end) {
			t.Fatalf("last window %d, want the end's", last)
		}
	}
	// A router that says "since boot" with a broken clock.
	tm := &flow.Record{Received: t0, Start: math.MinInt64 / 2, End: t0}
	spans, clipped := spreadRecord(tm, 1000, 1000, 0)
	if len(spans) > 361 || clipped.packets != 999 {
		t.Errorf("%d spans, clipped %+v", len(spans), clipped)
	}
}

// TestSmallRecordsAreNotSpread: what stands for a few packets counts where it
// ends, everything above is spread; the sampling rate is part of the estimate.
func TestSmallRecordsAreNotSpread(t *testing.T) {
	for _, c := range []struct {
		packets uint64
		rate    uint32
		windows int
	}{
		{spreadFrom - 1, 1, 1},
		{spreadFrom, 1, 7},
		{spreadFrom / 4, 3, 1},
		{spreadFrom / 4, 4, 7},
	} {
		r := rec(at(t0+65*sec), rate(c.rate), conversation(c.packets, c.packets*100))
		r.Start = t0 + 4*sec
		b, _ := run(t, testConfig(), r)
		var packets, bytes uint64
		for _, h := range b.Hosts {
			packets += h.OutPackets
			bytes += h.OutBytes
		}
		if len(b.Hosts) != c.windows || packets != c.packets || bytes != c.packets*100 {
			t.Errorf("%d packets at 1:%d: %d windows, %d packets, %d bytes; want %d windows", c.packets, c.rate, len(b.Hosts), packets, bytes, c.windows)
		}
	}
}
