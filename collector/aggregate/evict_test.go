package aggregate

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
)

// TestFloodSurvivesChurn: pairs that come and go by the million take nothing
// from one that matters. It also tells what eviction can cost: with twenty times
// more pairs than there is room for, how much of a pair is left, by its share of
// the records.
func TestFloodSurvivesChurn(t *testing.T) {
	cfg := testConfig()
	cfg.FlowPolicy, cfg.MaxPairs = FlowOff, 100_000
	var rows sink
	a := NewLocal(cfg, rows.write)
	const records = 2_000_000
	every := map[int]int{1: 100, 2: 1000, 3: 10_000, 4: 100_000} // by last byte of the tenant: one record in so many
	sent := map[byte]uint64{}
	for i := range records {
		r := rec(rate(50), conversation(1, 1000), to(remote(i)), at(t0+int64(i)*10*sec/records))
		for tenant, n := range every {
			if i%n == tenant {
				b := tenantA.As4()
				b[3] = 100 + byte(tenant)
				r.Src = netip.AddrFrom4(b)
				r.Dst, r.DstPort = remote1, 9999
				sent[b[3]]++
				break
			}
		}
		a.Add(r)
	}
	a.Flush(t0+100*sec, true)
	got := map[byte]uint64{}
	for _, p := range rows.Pairs {
		b := p.Tenant.As4()
		got[b[3]] += p.OutPackets
	}
	for tenant, want := range sent {
		t.Logf("one record in %d: %d of %d packets kept", every[int(tenant-100)], got[tenant], want)
	}
	for _, tenant := range []byte{101, 102} {
		if got[tenant] != sent[tenant] {
			t.Errorf("a pair with one record in %d has %d of its %d packets", every[int(tenant-100)], got[tenant], sent[tenant])
		}
	}
	s := a.Stats()
	if s.PairsEvicted < records/2 || s.TableFull["pairs"] != 0 {
		t.Errorf("%d pairs evicted, table full %v", s.PairsEvicted, s.TableFull)
	}
}

// TestPairsAboveTheFloorGoOutEarly: with room for few, every pair that is to be
// stored is, and their sums are exact.
func TestPairsAboveTheFloorGoOutEarly(t *testing.T) {
	cfg := testConfig()
	cfg.FlowPolicy, cfg.MaxPairs = FlowOff, 64
	var rows sink
	a := NewLocal(cfg, rows.write)
	for round := range 3 {
		for i := range 1000 {
			a.Add(rec(rate(100), conversation(uint64(5+round), 1000), to(remote(i))))
		}
	}
	a.Flush(t0, true)
	sums := map[string]flow.Counts{}
	for _, p := range rows.Pairs {
		c := sums[p.Remote.String()]
		c.Add(p.Counts)
		sums[p.Remote.String()] = c
	}
	for i := range 1000 {
		if got := sums[remote(i).String()]; got.OutPackets != 18 || got.OutRecords != 3 || got.OutBytes != 3000 {
			t.Fatalf("%s: %+v", remote(i), got)
		}
	}
	if s := a.Stats(); s.PairsEvicted != 0 || s.Keys != 0 {
		t.Errorf("%d evicted below the floor, %d keys left", s.PairsEvicted, s.Keys)
	}
}

// TestChurnWhileClosing: pairs that give way while windows are handed over in
// small slices leave none behind, and none in another's name.
func TestChurnWhileClosing(t *testing.T) {
	cfg := testConfig()
	cfg.FlowPolicy, cfg.MaxPairs = FlowOff, 2000
	var rows sink
	front, a, b := NewFront(cfg, 1), New(cfg, rows.write), &Block{}
	seen := map[string]uint64{} // packets sent, by window and remote
	const records = 200_000
	for i := range records {
		now := t0 + int64(i)*60*sec/records
		r := rec(rate(50), conversation(uint64(20+i%7), 1000), to(remote(i%3001)), at(now))
		seen[fmt.Sprint(now/windowNS, r.Dst)] += r.Packets * 50
		front.Route([]flow.Record{*r}, []*Block{b})
		if i%100 == 0 {
			a.Take(b)
			b.Items = b.Items[:0]
			a.Flush(now, false, 16)
		}
	}
	a.Take(b)
	a.Flush(t0+200*sec, true, 0)
	if s := a.Stats(); s.Keys != 0 || s.Windows != 0 {
		t.Errorf("%d keys and %d windows are left", s.Keys, s.Windows)
	}
	got := map[string]uint64{}
	for _, p := range rows.Pairs {
		got[fmt.Sprint(p.Start*sec/windowNS, p.Remote)] += p.OutPackets * 50
	}
	if len(got) == 0 {
		t.Fatal("no pairs")
	}
	for k, n := range got {
		if n > seen[k] {
			t.Errorf("%s: %d packets stored, %d sent", k, n, seen[k])
		}
	}
}
