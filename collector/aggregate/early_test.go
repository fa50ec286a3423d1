package aggregate

import (
	"math"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
)

// TestCountersNeverOverflow: what a row's counters cannot hold goes out as
// several rows, which add up.
func TestCountersNeverOverflow(t *testing.T) {
	noFlags := func(r *flow.Record) { r.TCPFlags = 0 }
	for _, c := range []struct {
		name    string
		n       int
		rec     *flow.Record
		records uint64
		packets uint64
	}{
		{"records at the limit", maxRecords, rec(), maxRecords, maxRecords},
		{"records above it", maxRecords + 1, rec(), maxRecords + 1, maxRecords + 1},
		{"many records", 200_000, rec(), 200_000, 200_000},
		{"packets at the limit", 2, rec(conversation(math.MaxUint32/2, 1)), 2, math.MaxUint32 - 1},
		{"packets above it", 5, rec(conversation(maxPackets, 1)), 5, 5 * maxPackets},
		{"more in a record than a row holds", 3, rec(conversation(1<<40, 1)), 3, 3 << 40},
		{"all there are", 1, rec(conversation(math.MaxUint64, 1)), 1, math.MaxUint64},
		{"established", 100_000, rec(conversation(2, 100)), 100_000, 200_000},
		{"without flags, both ways", 100_000, rec(noFlags, to(tenantB)), 100_000, 100_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig()
			cfg.FlowPolicy = FlowOff
			var rows sink
			a := NewLocal(cfg, rows.write)
			for range c.n {
				a.Add(c.rec)
			}
			a.Flush(t0, true)
			var host, service, pair flow.Counts
			var classes, serviceClasses, pairClasses flow.Classes
			var est, synPackets, attempts uint64
			for _, r := range rows.Hosts {
				if r.Tenant == tenantA {
					host.Add(r.Counts)
					classes.Add(r.Classes)
				}
			}
			for _, r := range rows.Services {
				if r.Tenant == tenantA {
					service.Add(r.Counts)
					serviceClasses.Add(r.Classes)
					attempts += r.Attempts
				}
			}
			for _, r := range rows.Pairs {
				if r.Tenant == tenantA {
					pair.Add(r.Counts)
					pairClasses.Add(r.Classes)
					est, synPackets = est+r.EstOutPackets, synPackets+r.SYNPackets
				}
			}
			want := flow.Counts{OutRecords: c.records, OutPackets: c.packets, OutBytes: c.rec.Bytes * c.records}
			if host != want || service != want || pair != want {
				t.Errorf("host %+v, service %+v, pair %+v; want %+v", host, service, pair, want)
			}
			if classes != serviceClasses || classes != pairClasses || classes.SYNOut+classes.EstOut+classes.NoFlags != c.records {
				t.Errorf("classes of host %+v, service %+v, pair %+v", classes, serviceClasses, pairClasses)
			}
			if classes.SYNOut > 0 && (attempts != c.records || synPackets != c.packets) || classes.EstOut > 0 && est != c.packets {
				t.Errorf("%d attempts, %d SYN packets, %d established", attempts, synPackets, est)
			}
		})
	}
	cfg := testConfig()
	cfg.External = []Interface{{Exporter: exporter1, IfIndex: 7}}
	var recs []*flow.Record
	for range 150_000 {
		recs = append(recs, rec(func(r *flow.Record) { r.InIf, r.Has = 7, r.Has|flow.HasInIf }))
	}
	b, _ := run(t, cfg, recs...)
	var spoofed uint64
	for _, h := range b.Hosts {
		spoofed += h.SpoofOut
	}
	if spoofed != 150_000 {
		t.Errorf("%d spoofed, want 150000", spoofed)
	}
}

// TestLargeUDP: the protocol's own counters follow.
func TestLargeUDP(t *testing.T) {
	b, _ := run(t, testConfig(), rec(conversation(1<<33, 1), func(r *flow.Record) { r.IPProto, r.DstPort = flow.ProtoUDP, 53 }))
	var udp uint64
	for _, h := range b.Hosts {
		udp += h.UDPOutPackets
	}
	if udp != 1<<33 {
		t.Errorf("%d UDP packets, want 2^33", udp)
	}
}

// TestEveryClassOfAPair: all classes of all directions, more often than an
// 8-bit counter holds, are the host's.
func TestEveryClassOfAPair(t *testing.T) {
	cfg := testConfig()
	cfg.FlowPolicy = FlowOff
	var recs []*flow.Record
	for flags := range 64 {
		for _, p := range []flow.Protocol{flow.SFlow5, flow.NetFlow9} {
			for _, port := range []uint16{22, 50_000} {
				r := rec(rate(1000), conversation(3, 132), func(r *flow.Record) { r.Protocol, r.TCPFlags, r.DstPort = p, uint8(flags), port })
				back := *r
				back.Src, back.Dst, back.SrcPort, back.DstPort = r.Dst, r.Src, r.DstPort, r.SrcPort
				for range 300 {
					recs = append(recs, r, &back)
				}
			}
		}
	}
	b, s := run(t, cfg, recs...)
	var host, pair flow.Classes
	for _, r := range b.Hosts {
		host.Add(r.Classes)
	}
	for _, r := range b.Pairs {
		pair.Add(r.Classes)
	}
	if host != pair || host.SYNIn < 300 || host.SYNACKOut < 300 || host.RSTIn < 300 || host.EstIn < 300 || host.RawSYN == 0 || host.NoFlags < 300 {
		t.Errorf("host %+v\npair %+v", host, pair)
	}
	if len(b.Pairs) > len(recs)/100 {
		t.Errorf("%d rows of one pair for %d records", len(b.Pairs), s.Records)
	}
}
