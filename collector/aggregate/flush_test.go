package aggregate

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

// TestFlushInSlices: a flush that is handed over in slices, with records of all
// windows in between, loses nothing, and a slice is about as large as asked.
func TestFlushInSlices(t *testing.T) {
	cfg := testConfig()
	cfg.External = []Interface{{Exporter: exporter1, IfIndex: 3}}
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 21))
		var rows sink
		a := New(cfg, rows.write)
		f := NewFront(cfg, 1)
		blocks := []*Block{{}}
		var recs []*flow.Record
		now := t0
		more, slices := false, 0
		for i := range 20_000 {
			now += r.Int64N(sec / 200)
			rec := randomRecord(r, now)
			if rec.Src.Is4() && i%2 == 0 { // many keys, so that tables grow in the middle of a flush
				rec.Src = tenantA
				rec.SrcPort, rec.DstPort = uint16(i), uint16(i)
			}
			recs = append(recs, rec)
			f.Route([]flow.Record{*rec}, blocks)
			a.Take(blocks[0])
			blocks[0].Items = blocks[0].Items[:0]
			if more || i%300 == 0 {
				before := a.Stats()
				limit := 1 + r.IntN(50)
				more = a.Flush(now, false, limit)
				after := a.Stats()
				n := after.RowsHosts + after.RowsServices + after.RowsPairs - before.RowsHosts - before.RowsServices - before.RowsPairs
				if n > uint64(limit+ways*(1+ownSlots)) {
					t.Fatalf("%d rows in a slice of %d", n, limit)
				}
				slices++
			}
		}
		for a.Flush(now, true, 100) {
			slices++
		}
		if slices < 1000 {
			t.Fatalf("only %d slices", slices)
		}
		if s := a.Stats(); s.Keys != 0 || s.Windows != 0 || s.LostPackets != 0 || s.TableFull["services"] != 0 {
			t.Fatalf("seed %d: left %+v", seed, s)
		}
		if want, got := truth(cfg, recs), totals(&rows.Batch); !reflect.DeepEqual(want, got) {
			t.Fatalf("seed %d: hosts (-want +got)\n%s", seed, cmp.Diff(want, got, cmp.AllowUnexported(total{}, totalKey{}), diffAddr))
		}
		checkServices(t, seed, &rows.Batch)
	}
}

// TestWindowsAreUsedAgain: a collector that runs for hours needs no more memory
// than for minutes, also with records that come late.
func TestWindowsAreUsedAgain(t *testing.T) {
	cfg := testConfig()
	cfg.FlowPolicy = FlowOff
	var rows discard
	a := NewLocal(cfg, rows.write)
	size := func() [5]int {
		g := a.agg
		return [5]int{len(g.windows.byID), g.hosts.rows.size(), g.services.rows.size(), g.pairs.rows.size(), len(g.windows.older)}
	}
	var after [5]int
	now := t0
	r := rand.New(rand.NewPCG(1, 9))
	for i := range 400_000 {
		now += sec / 20
		x := rec(at(now), to(remote(r.IntN(1<<20))))
		if i%10 == 0 {
			x.Start -= r.Int64N(3500 * sec)
			x.End = x.Start
		}
		a.Add(x)
		if i%40 == 0 {
			a.Flush(now, false)
		}
		if i == 200_000 {
			after = size()
		}
	}
	end := size()
	for i := range end {
		if end[i] > after[i]+after[i]/4+1 {
			t.Errorf("windows, hosts, services, pairs, older windows: %v, were %v", end, after)
			break
		}
	}
}
