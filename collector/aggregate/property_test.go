package aggregate

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

// randomRecord is any record that a decoder may hand over.
func randomRecord(r *rand.Rand, now int64) *flow.Record {
	addr := func() netip.Addr {
		switch r.IntN(8) {
		case 0, 1, 2:
			return netip.AddrFrom4([4]byte{198, 18, 0, byte(r.IntN(6))})
		case 3:
			return netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, 7: byte(r.IntN(3)), 15: byte(r.IntN(4))})
		case 4:
			return netip.AddrFrom16([16]byte{0x26, 6, 7: byte(r.IntN(3)), 15: byte(r.IntN(200))})
		case 5:
			return netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(9))})
		}
		return netip.AddrFrom4([4]byte{9, 9, byte(r.IntN(3)), byte(r.IntN(256))})
	}
	rec := &flow.Record{
		Exporter: exporter1, Protocol: flow.Protocol(1 + r.IntN(4)), Received: now,
		Src: addr(), Dst: addr(), SrcPort: uint16(r.IntN(65536)), DstPort: []uint16{22, 53, 443, uint16(r.IntN(65536))}[r.IntN(4)],
		IPProto: []uint8{6, 6, 6, 17, 17, 1, 58, 47}[r.IntN(8)], TCPFlags: uint8(r.IntN(256)),
		ICMPType: []uint8{8, 0, 3, 128, 129, 1}[r.IntN(6)],
		Packets:  1 + r.Uint64N(1<<r.IntN(20)), Bytes: r.Uint64N(1 << 30), IPLen: uint16(r.IntN(100)), TTL: uint8(r.IntN(256)),
		SamplingRate: []uint32{1, 1, 100, 1000}[r.IntN(4)], InIf: uint32(r.IntN(4)), Has: flow.Has(r.IntN(1 << 12)),
	}
	if !rec.Src.Is4() || rec.Src.As4()[0] != 198 { // forged sources have tests of their own
		rec.Has &^= flow.HasInIf
	}
	rec.End = now - r.Int64N(30*sec)
	rec.Start = rec.End
	if r.IntN(2) == 0 {
		rec.Start -= r.Int64N(300 * sec)
	}
	if rec.Protocol == flow.SFlow5 {
		rec.Packets = 1
	}
	return rec
}

// total is what one tenant did, in all windows and at one rate.
type total struct {
	flow.Counts
	bogonOut, spoofOut uint64
}

type totalKey struct {
	tenant netip.Addr
	rate   uint32
}

// truth adds records up the naive way: no windows, no rows.
func truth(cfg Config, recs []*flow.Record) map[totalKey]total {
	n := newNetworks(cfg.withDefaults())
	in := n.internal.Contains
	tenant := func(a netip.Addr) netip.Addr { return ipOf(a).tenant(n.mask).addr() }
	out := map[totalKey]total{}
	for _, r := range recs {
		if in(r.Src) {
			k := totalKey{tenant(r.Src), r.SamplingRate}
			t := out[k]
			if r.Has&flow.HasInIf != 0 && r.InIf == 3 {
				t.spoofOut++
			} else {
				t.Add(flow.Counts{OutRecords: 1, OutPackets: r.Packets, OutBytes: r.Bytes})
				if !in(r.Dst) && n.bogons.Contains(r.Dst) {
					t.bogonOut++
				}
			}
			out[k] = t
		}
		if in(r.Dst) {
			k := totalKey{tenant(r.Dst), r.SamplingRate}
			t := out[k]
			t.Add(flow.Counts{InRecords: 1, InPackets: r.Packets, InBytes: r.Bytes})
			out[k] = t
		}
	}
	return out
}

// totals adds the host rows up.
func totals(b *flow.Batch) map[totalKey]total {
	out := map[totalKey]total{}
	for _, h := range b.Hosts {
		k := totalKey{h.Tenant, h.Rate}
		x := out[k]
		x.Add(h.Counts)
		x.bogonOut, x.spoofOut = x.bogonOut+h.BogonOut, x.spoofOut+h.SpoofOut
		out[k] = x
	}
	return out
}

// TestSumsAreExact: whatever comes in and whenever it is flushed, the rows add
// up to the records, and the sets to the exact sets.
func TestSumsAreExact(t *testing.T) {
	cfg := testConfig()
	cfg.External = []Interface{{Exporter: exporter1, IfIndex: 3}}
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 9))
		var b sink
		a := NewLocal(cfg, b.write)
		var recs []*flow.Record
		now := t0
		for range 3000 {
			now += r.Int64N(sec / 10)
			rec := randomRecord(r, now)
			if seed%2 == 1 && r.IntN(4) == 0 { // late, up to nearly MaxAge
				late := r.Int64N(3200 * sec)
				rec.Start, rec.End = rec.Start-late, rec.End-late
			}
			recs = append(recs, rec)
			a.Add(rec)
			if r.IntN(50) == 0 {
				a.Flush(now, false)
			}
		}
		a.Flush(now, true)
		if s := a.Stats(); s.Keys != 0 || s.Windows != 0 || s.LostPackets != 0 || s.ClippedPackets != 0 {
			t.Fatalf("seed %d: %+v", seed, s)
		}
		if want, got := truth(cfg, recs), totals(&b.Batch); !reflect.DeepEqual(want, got) {
			t.Fatalf("seed %d: hosts (-want +got)\n%s", seed, cmp.Diff(want, got, cmp.AllowUnexported(total{}, totalKey{}), diffAddr))
		}
		checkServices(t, seed, &b.Batch)
	}
}

// checkServices compares the services' attempts and remotes with the flow rows,
// which are one per record and side.
func checkServices(t *testing.T, seed uint64, b *flow.Batch) {
	t.Helper()
	type key struct {
		tenant netip.Addr
		proto  uint8
		role   flow.Role
		svc    uint16
	}
	type sums struct {
		Counts   flow.Counts
		Attempts uint64
		Distinct int
	}
	want, got := map[key]sums{}, map[key]sums{}
	wantSet, gotSet := map[key]map[uint64]bool{}, map[key]map[uint64]bool{}
	put := func(m map[key]map[uint64]bool, k key, h uint64) {
		if m[k] == nil {
			m[k] = map[uint64]bool{}
		}
		m[k][h] = true
	}
	for _, f := range b.Flows {
		if f.Bogon || f.Spoofed {
			continue
		}
		k := key{f.Tenant, f.IPProto, f.Role, f.SvcPort}
		s := want[k]
		if f.Dir == flow.In {
			s.Counts.Add(flow.Counts{InRecords: 1, InPackets: f.Packets, InBytes: f.Bytes})
		} else {
			s.Counts.Add(flow.Counts{OutRecords: 1, OutPackets: f.Packets, OutBytes: f.Bytes})
			if f.Class == flow.ClassSYN || f.Class == flow.ClassEcho || f.Class == flow.ClassUDP && f.Role == flow.RoleClient {
				s.Attempts++
				put(wantSet, k, hashRemote(ipOf(f.Remote)))
			}
		}
		want[k] = s
	}
	for _, w := range b.Services {
		k := key{w.Tenant, w.IPProto, w.Role, w.SvcPort}
		s := got[k]
		s.Counts.Add(w.Counts)
		s.Attempts += w.Attempts
		got[k] = s
		for _, h := range w.Remotes {
			put(gotSet, k, h)
		}
	}
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("seed %d: services (-want +got)\n%s", seed, cmp.Diff(want, got, cmp.AllowUnexported(key{}), diffAddr))
	}
	if !reflect.DeepEqual(wantSet, gotSet) {
		t.Fatalf("seed %d: remotes (-want +got)\n%s", seed, cmp.Diff(wantSet, gotSet, cmp.AllowUnexported(key{}), diffAddr))
	}
}

// TestSameInputSameRows: replay must give the same output for the same input,
// though Go's maps do not.
func TestSameInputSameRows(t *testing.T) {
	batch := func() *flow.Batch {
		r := rand.New(rand.NewPCG(5, 6))
		var b sink
		a := NewLocal(testConfig(), b.write)
		now := t0
		for i := range 10_000 {
			now += r.Int64N(sec / 50)
			a.Add(randomRecord(r, now))
			if i%500 == 0 {
				a.Flush(now, false)
			}
		}
		a.Flush(now, true)
		return &b.Batch
	}
	first := batch()
	if len(first.Pairs) == 0 {
		t.Fatal("the input makes no pair rows")
	}
	for range 3 {
		if again := batch(); !reflect.DeepEqual(first, again) {
			t.Fatalf("(-first +again)\n%.2000s", cmp.Diff(first, again, diffAddr))
		}
	}
}
