package decode

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

// counted is what a record says of counters and times, in seconds before
// testNow.
type counted struct {
	packets, bytes uint64
	start, end     int64
}

func countedOf(rs []flow.Record) []counted {
	var out []counted
	for _, r := range rs {
		out = append(out, counted{r.Packets, r.Bytes, (testNow - r.Start) / sec, (testNow - r.End) / sec})
	}
	return out
}

// TestRunningTotals: an exporter that reports a flow again and again by its
// running totals; what is added up must be the flow's packets once.
func TestRunningTotals(t *testing.T) {
	tpl := set(2, wire{}.u16(256, 9).u16(8, 4, 12, 4, 7, 2, 4, 1, 136, 1, 86, 4, 85, 4, 150, 4, 151, 4))
	rec := func(sport uint16, reason uint8, packets, bytes, start, end uint32) wire {
		return wire{}.ip("192.0.2.1", "198.51.100.1").u16(sport).u8(17, reason).u32(packets, bytes, testSec-start, testSec-end)
	}
	tests := []struct {
		name  string
		recs  []wire
		want  []counted
		notes uint64 // reduced
	}{
		{
			"a flow that goes on, then ends, then begins anew under the same start",
			[]wire{rec(1, 2, 10, 1000, 300, 200), rec(1, 2, 25, 2600, 300, 100), rec(1, 3, 30, 3000, 300, 50), rec(1, 3, 30, 3000, 300, 50)},
			[]counted{{10, 1000, 300, 200}, {15, 1600, 200, 100}, {5, 400, 100, 50}, {30, 3000, 300, 50}}, 2,
		},
		{
			"no reason given: it may go on",
			[]wire{rec(1, 0, 10, 1000, 300, 200), rec(1, 0, 10, 1000, 300, 200), rec(1, 0, 11, 1001, 300, 100)},
			[]counted{{10, 1000, 300, 200}, {0, 0, 200, 200}, {1, 1, 200, 100}}, 2,
		},
		{
			"YAF counts anew after each report: the start moves on",
			[]wire{rec(1, 2, 10, 1000, 300, 200), rec(1, 2, 25, 2600, 200, 100)},
			[]counted{{10, 1000, 300, 200}, {25, 2600, 200, 100}}, 0,
		},
		{
			"a total below the last one is a new count",
			[]wire{rec(1, 2, 10, 1000, 300, 200), rec(1, 2, 4, 400, 300, 100), rec(1, 2, 6, 600, 300, 90)},
			[]counted{{10, 1000, 300, 200}, {4, 400, 300, 100}, {2, 200, 100, 90}}, 1,
		},
		{
			"another flow",
			[]wire{rec(1, 2, 10, 1000, 300, 200), rec(2, 2, 10, 1000, 300, 200)},
			[]counted{{10, 1000, 300, 200}, {10, 1000, 300, 200}}, 0,
		},
		{
			"YAF's highest bit in the reason",
			[]wire{rec(1, 2, 10, 1000, 300, 200), rec(1, 0x83, 12, 1200, 300, 100), rec(1, 2, 1, 100, 300, 90)},
			[]counted{{10, 1000, 300, 200}, {2, 200, 200, 100}, {1, 100, 300, 90}}, 1,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := New(Config{}, Deps{})
			feed(d, ipfixMsg(0, 1, tpl))
			var got []counted
			for i, r := range tt.recs {
				got = append(got, countedOf(feed(d, ipfixMsg(uint32(i), 1, set(256, r))))...)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(counted{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n := d.Stats().Notes[NoteTotalReduced]; n != tt.notes {
				t.Errorf("%d reduced, want %d", n, tt.notes)
			}
		})
	}
}

// TestRunningTotalsBothWays: of a biflow both directions are reduced, and deltas
// are taken where there are any.
func TestRunningTotalsBothWays(t *testing.T) {
	d := New(Config{}, Deps{})
	reverse := wire{}.u16(0x8000|86, 4).u32(penReverse).u16(0x8000|85, 4).u32(penReverse)
	rec := func(n uint32) wire { return wire{}.ip("192.0.2.1", "198.51.100.1").u32(n, n*100, n*2, n*200) }
	got := feed(d, ipfixMsg(0, 1, set(2, wire{}.u16(256, 6).u16(8, 4, 12, 4, 86, 4, 85, 4).raw(reverse)), set(256, wire{}.raw(rec(10), rec(15)))))
	want := []counted{{10, 1000, 0, 0}, {20, 2000, 0, 0}, {5, 500, 0, 0}, {10, 1000, 0, 0}}
	if diff := cmp.Diff(want, countedOf(got), cmp.AllowUnexported(counted{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	deltas := wire{}.u16(0x8000|2, 4).u32(penReverse).u16(0x8000|1, 4).u32(penReverse)
	got = feed(d, ipfixMsg(0, 1, set(2, wire{}.u16(256, 10).u16(8, 4, 12, 4, 86, 4, 85, 4, 2, 4, 1, 4).raw(deltas, reverse)),
		set(256, wire{}.ip("192.0.2.1", "198.51.100.1").u32(900, 900, 1, 40, 2, 80, 900, 900))))
	want = []counted{{1, 40, 0, 0}, {2, 80, 0, 0}}
	if diff := cmp.Diff(want, countedOf(got), cmp.AllowUnexported(counted{})); diff != "" {
		t.Errorf("deltas beside totals (-want +got):\n%s", diff)
	}
}

// TestRunningTotalsBounded: more flows than are remembered make the oldest give
// way, counted; an hour of silence does too.
func TestRunningTotalsBounded(t *testing.T) {
	d := New(Config{}, Deps{})
	feed(d, ipfixMsg(0, 1, set(2, wire{}.u16(256, 3).u16(8, 4, 12, 4, 86, 4))))
	for flow := uint32(0); flow < 2*maxTotals+200; {
		var body wire
		for range 100 {
			body = body.u32(flow, 1, 7)
			flow++
		}
		feed(d, ipfixMsg(0, 1, set(256, body)))
	}
	if n := len(d.totals.now) + len(d.totals.old); n > 2*maxTotals {
		t.Errorf("%d flows remembered", n)
	}
	if n := d.Stats().Notes[NoteTotalsForgotten]; n != 1 {
		t.Errorf("forgotten %d times", n)
	}
	one := ipfixMsg(0, 1, set(256, wire{}.u32(1<<30, 1, 7)))
	at := func(age int64) uint64 {
		var got uint64
		d.Decode(Datagram{Exporter: testExporter, Received: testNow + age*int64(totalsAge), Payload: one}, func(rs []flow.Record) { got = rs[0].Packets })
		return got
	}
	if a, b, c := at(0), at(1), at(4); a != 7 || b != 0 || c != 7 {
		t.Errorf("%d, %d an hour later, %d after three more", a, b, c)
	}
}
