package aggregate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

// lines returns the rows as sorted text.
func lines(b *flow.Batch) []string {
	var out []string
	for _, r := range b.Hosts {
		out = append(out, fmt.Sprintf("host %+v", r))
	}
	for _, r := range b.Services {
		out = append(out, fmt.Sprintf("service %+v", r))
	}
	for _, r := range b.Pairs {
		out = append(out, fmt.Sprintf("pair %+v", r))
	}
	for _, r := range b.Flows {
		out = append(out, fmt.Sprintf("flow %+v", r))
	}
	slices.Sort(out)
	return out
}

// TestShardsTogetherAreOne: fronts of several readers and several shards give
// the rows of one, and every record is counted once. Windows stay open for an
// hour: each shard opens a late one for itself, and so closes it at another time.
func TestShardsTogetherAreOne(t *testing.T) {
	cfg := testConfig()
	cfg.Lateness = time.Hour
	cfg.External = []Interface{{Exporter: exporter1, IfIndex: 3}}
	run := func(fronts, shards int) ([]string, Stats) {
		r := rand.New(rand.NewPCG(11, 12))
		var rows sink
		var fs []*Front
		var as []*Aggregator
		var blocks []*Block
		for range fronts {
			fs = append(fs, NewFront(cfg, shards))
		}
		for range shards {
			as, blocks = append(as, New(cfg, rows.write)), append(blocks, &Block{})
		}
		now := t0
		for i := range 10_000 {
			now += r.Int64N(sec / 100)
			rec := randomRecord(r, now)
			if r.IntN(50) == 0 {
				rec.SamplingRate = 0
			}
			fs[i%fronts].Route([]flow.Record{*rec}, blocks)
			for s, b := range blocks {
				as[s].Take(b)
				b.Items = b.Items[:0]
				if i%400 == 0 { // hot rows
					as[s].Flush(now, false, 0)
				}
			}
		}
		var sum Stats
		for _, f := range fs {
			sum.Merge(f.Stats())
		}
		for _, a := range as {
			a.Flush(now, true, 0)
			sum.Merge(a.Stats())
		}
		return lines(&rows.Batch), sum
	}
	want, wantStats := run(1, 1)
	if wantStats.RowsPairs == 0 || wantStats.Dropped[ReasonSamplingUnknown] == 0 || wantStats.Dropped[ReasonNotInternal] == 0 {
		t.Fatalf("the input provokes too little: %+v", wantStats)
	}
	for _, n := range [][2]int{{1, 2}, {2, 3}, {3, 8}} {
		got, stats := run(n[0], n[1])
		if !slices.Equal(want, got) {
			t.Errorf("%d fronts, %d shards (-want +got)\n%.3000s", n[0], n[1], cmp.Diff(want, got))
		}
		if !reflect.DeepEqual(wantStats, stats) {
			t.Errorf("%d fronts, %d shards: stats (-want +got)\n%s", n[0], n[1], cmp.Diff(wantStats, stats, diffAddr))
		}
		dropped := uint64(0)
		for _, d := range stats.Dropped {
			dropped += d
		}
		if stats.Records != stats.Aggregated+dropped {
			t.Errorf("records %d, aggregated %d, dropped %v", stats.Records, stats.Aggregated, stats.Dropped)
		}
	}
}

// TestATenantHasOneShard: all its addresses and rates go to the same, and
// tenants spread evenly.
func TestATenantHasOneShard(t *testing.T) {
	const shards = 7
	f := NewFront(testConfig(), shards)
	var blocks []*Block
	for range shards {
		blocks = append(blocks, &Block{})
	}
	for i := range 7000 {
		a := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		f.Route([]flow.Record{*rec(from(a)), *rec(from(remote1), to(a), rate(100))}, blocks)
	}
	for i := range 700 {
		a := netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, 6: byte(i >> 8), 7: byte(i), 15: 1})
		b := netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, 6: byte(i >> 8), 7: byte(i), 15: 2})
		f.Route([]flow.Record{*rec(from(a)), *rec(from(b))}, blocks)
	}
	seen := map[ip]int{}
	for s, b := range blocks {
		for i := range b.Items {
			tenant := b.Items[i].host.tenant(f.nets.mask)
			if at, ok := seen[tenant]; ok && at != s {
				t.Fatalf("%s is in shards %d and %d", tenant.addr(), at, s)
			}
			seen[tenant] = s
		}
		if n := len(b.Items); n < 1900 || n > 2500 {
			t.Errorf("shard %d has %d items of 15400", s, n)
		}
	}
}
