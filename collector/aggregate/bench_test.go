package aggregate

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// benchRecords is a mix like a border router's: 5,000 tenants, clients and
// servers, one scanner.
func benchRecords(n int, flows bool) []flow.Record {
	r := rand.New(rand.NewPCG(7, 8))
	recs := make([]flow.Record, n)
	for i := range recs {
		x := rec(rate(1000))
		tenant := netip.AddrFrom4([4]byte{198, 18, byte(r.IntN(20)), byte(r.IntN(250))})
		peer := netip.AddrFrom4([4]byte{45, byte(r.IntN(4)), byte(r.IntN(256)), byte(r.IntN(256))})
		x.Src, x.Dst, x.TCPFlags, x.DstPort = tenant, peer, flow.ACK, 443
		switch r.IntN(10) {
		case 0:
			x.Src, x.TCPFlags, x.DstPort = tenantA, flow.SYN, 22
		case 1, 2, 3, 4:
			x.Src, x.Dst, x.SrcPort, x.DstPort = peer, tenant, 443, uint16(30000+r.IntN(30000))
		case 5:
			x.IPProto, x.DstPort = flow.ProtoUDP, 53
		}
		if flows {
			x.Protocol, x.SamplingRate, x.Packets, x.Bytes = flow.NetFlow9, 1, 20, 9000
			x.TCPFlags |= flow.SYN | flow.PSH
		}
		recs[i] = *x
	}
	return recs
}

// discard takes rows and forgets them.
type discard struct{ rows int }

func (d *discard) write(b *flow.Batch) { d.rows += b.Rows() }

// benchAdd adds records at 50,000/s of event time with a flush each 2 s, so
// that windows open, close and are used again as in service.
func benchAdd(b *testing.B, policy FlowPolicy, length time.Duration) {
	cfg := testConfig()
	cfg.FlowPolicy = policy
	var out discard
	a := NewLocal(cfg, out.write)
	recs := benchRecords(1<<17, length > 0)
	const perSecond = 50_000
	now := t0
	i := 0
	step := func() {
		r := &recs[i&(1<<17-1)]
		i++
		now += sec / perSecond
		r.Received, r.End = now, now
		r.Start = now - int64(length)
		a.Add(r)
		if i%(2*perSecond) == 0 {
			a.Flush(now, false)
		}
	}
	for range 30 * perSecond { // to the steady state: three windows opened and closed
		step()
	}
	rows := a.Stats()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		step()
		n++
	}
	end := a.Stats()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(end.RowsHosts+end.RowsServices+end.RowsPairs-rows.RowsHosts-rows.RowsServices-rows.RowsPairs)/float64(n), "rows/record")
}

func BenchmarkAddSamples(b *testing.B)          { benchAdd(b, FlowOff, 0) }
func BenchmarkAddSamplesWithFlows(b *testing.B) { benchAdd(b, FlowAll, 0) }
func BenchmarkAddFlows5s(b *testing.B)          { benchAdd(b, FlowOff, 5*time.Second) }
func BenchmarkAddFlows60s(b *testing.B)         { benchAdd(b, FlowOff, time.Minute) }

// TestAddAllocations holds the line on the hot path: at the steady state a
// record of known keys allocates nothing.
func TestAddAllocations(t *testing.T) {
	cfg := testConfig()
	cfg.FlowPolicy = FlowOff
	var out discard
	a := NewLocal(cfg, out.write)
	recs := benchRecords(4000, false)
	for range 50 { // until every key is hot and every set has its size
		for i := range recs {
			a.Add(&recs[i])
		}
	}
	if n := testing.AllocsPerRun(5, func() {
		for i := range recs {
			a.Add(&recs[i])
		}
	}); n > 0 {
		t.Errorf("%g allocations for %d records", n, len(recs))
	}
}
