package main

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/detect"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// BenchmarkTick is a tick of all rules over a fleet of 100,000 tenants that
// were all busy for five minutes: 3 M host, 6 M service and 1 M pair rows, one
// tenant in 10,000 a scanner. /short judges what every slot is due, /long what
// a slot at a full minute is (windows of 300 s and 1800 s too).
func BenchmarkTick(b *testing.B) {
	s := storetest.New(b)
	end := time.Now().UTC().Truncate(time.Minute)
	fillFleet(b, s, end, 100_000, 30)
	d := detect.New(detect.Defaults(), detect.Deps{Windows: s})
	for _, c := range []struct {
		name string
		ts   time.Time
	}{{"short", end.Add(-5 * time.Second)}, {"long", end}} {
		b.Run(c.name, func(b *testing.B) {
			found := 0
			for b.Loop() {
				fs, err := d.Tick(b.Context(), c.ts)
				if err != nil {
					b.Fatal(err)
				}
				found = len(fs)
			}
			b.ReportMetric(float64(found), "findings")
		})
	}
}

func fillFleet(b *testing.B, s *store.Store, end time.Time, tenants, windows int) {
	b.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	for w := range windows {
		start := end.Add(time.Duration(w-windows) * flow.WindowSeconds * time.Second).Unix()
		for from := 0; from < tenants; from += 20_000 {
			var batch flow.Batch
			for i := from; i < from+20_000; i++ {
				addTenant(&batch, rng, start, i)
			}
			if err := s.Write(&batch); err != nil {
				b.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
		if err := s.Sync(ctx); err != nil {
			b.Fatal(err)
		}
		cancel()
	}
}

// addTenant adds one window of tenant i: web and DNS client traffic, one busy
// remote for one in three, a scan of port 22 for one in 10,000.
func addTenant(batch *flow.Batch, rng *rand.Rand, start int64, i int) {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 198<<24|18<<16+uint32(i))
	key := flow.Key{Start: start, Tenant: netip.AddrFrom4(a), Rate: 1000}
	n := uint64(1 + rng.IntN(6))
	counts := flow.Counts{OutRecords: 5 * n, InRecords: 6 * n, OutPackets: 5 * n, InPackets: 6 * n, OutBytes: 4000 * n, InBytes: 9000 * n}
	classes := flow.Classes{SYNOut: n, EstOut: 4 * n, SYNACKIn: n, EstIn: 5 * n}
	batch.Hosts = append(batch.Hosts, flow.HostWindow{Key: key, Counts: counts, Classes: classes})
	for _, port := range []uint16{443, uint16(1024 + rng.IntN(5000))} {
		sw := flow.ServiceWindow{Key: key, IPProto: flow.ProtoTCP, Role: flow.RoleClient, SvcPort: port, Counts: counts, Classes: classes, Attempts: n}
		for range n {
			sw.Remotes = append(sw.Remotes, rng.Uint64())
		}
		batch.Services = append(batch.Services, sw)
	}
	if i%3 == 0 {
		batch.Pairs = append(batch.Pairs, flow.PairWindow{Key: key, Remote: netip.AddrFrom4([4]byte{93, 184, byte(i), byte(i >> 8)}),
			IPProto: flow.ProtoTCP, Counts: counts, Classes: classes, SYNPackets: n, EstOutPackets: 4 * n, Ports: []uint16{443}})
	}
	if i%10_000 == 0 {
		sw := flow.ServiceWindow{Key: key, IPProto: flow.ProtoTCP, Role: flow.RoleClient, SvcPort: 22, Attempts: 20,
			Counts: flow.Counts{OutRecords: 20, OutPackets: 20, OutBytes: 880}, Classes: flow.Classes{SYNOut: 20, RawSYN: 20}}
		for range 20 {
			sw.Remotes = append(sw.Remotes, rng.Uint64())
		}
		batch.Services = append(batch.Services, sw)
	}
}
