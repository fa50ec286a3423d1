package decode

import (
	"net/netip"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
)

// TestSampling goes through the order of docs/architecture.md and the ways
// that exporters state a rate.
func TestSampling(t *testing.T) {
	options9 := func(fields []uint16, values []byte) []byte {
		return v9(0, 1, set(1, wire{}.u16(257, 4, uint16(len(fields)*2)).u16(1, 4).u16(fields...)), set(257, wire{}.u32(0).raw(values)))
	}
	data9 := func(fields []uint16, values []byte) []byte {
		return v9(0, 1, set(0, wire{}.u16(256, uint16(len(fields)/2)).u16(fields...)), set(256, values))
	}
	optionsX := func(domain uint32, fields []uint16, values []byte) []byte {
		return ipfixMsg(0, domain, set(3, wire{}.u16(257, uint16(len(fields)/2), 1).u16(fields...)), set(257, values))
	}
	dataX := func(domain uint32, fields []uint16, values []byte) []byte {
		return ipfixMsg(0, domain, set(2, wire{}.u16(256, uint16(len(fields)/2)).u16(fields...)), set(256, values))
	}
	plain := data9([]uint16{4, 1}, []byte{6})
	host := func(def, over uint32) []SamplingRule {
		return []SamplingRule{
			{Exporter: netip.MustParsePrefix("192.0.2.0/24"), Default: 7, Override: 9},
			{Exporter: netip.MustParsePrefix("192.0.2.9/32"), Default: def, Override: over},
		}
	}
	tests := []struct {
		name    string
		rules   []SamplingRule
		packets [][]byte
		rate    uint32
		source  flow.SamplingSource
	}{
		{name: "nothing stated is unknown, not 1", packets: [][]byte{plain}, rate: 0, source: flow.SamplingUnknown},
		{name: "default", rules: host(1, 0), packets: [][]byte{plain}, rate: 1, source: flow.SamplingDefault},
		{name: "options before default", rules: host(1, 0), packets: [][]byte{options9([]uint16{34, 4}, wire{}.u32(100)), plain}, rate: 100, source: flow.SamplingOptions},
		{name: "record before options", packets: [][]byte{options9([]uint16{34, 4}, wire{}.u32(100)), data9([]uint16{34, 4}, wire{}.u32(50))}, rate: 50, source: flow.SamplingRecord},
		{name: "override before all", rules: host(0, 2048), packets: [][]byte{options9([]uint16{34, 4}, wire{}.u32(100)), data9([]uint16{34, 4}, wire{}.u32(50))}, rate: 2048, source: flow.SamplingOverride},
		{name: "interval 0 is ignored", packets: [][]byte{options9([]uint16{34, 4}, wire{}.u32(0)), data9([]uint16{34, 4}, wire{}.u32(0))}},
		{name: "interval 1 is a statement", packets: [][]byte{data9([]uint16{34, 4}, wire{}.u32(1))}, rate: 1, source: flow.SamplingRecord},
		{name: "a million is believed", packets: [][]byte{data9([]uint16{34, 4}, wire{}.u32(1_000_000))}, rate: 1_000_000, source: flow.SamplingRecord},
		{name: "a million and one is not", packets: [][]byte{data9([]uint16{34, 4}, wire{}.u32(1_000_001))}},
		{
			name:    "the sampler that the record names",
			packets: [][]byte{options9([]uint16{48, 1, 50, 4}, wire{}.u8(1).u32(100)), options9([]uint16{48, 1, 50, 4}, wire{}.u8(2).u32(200)), data9([]uint16{48, 1}, []byte{2})},
			rate:    200, source: flow.SamplingOptions,
		},
		{
			name:    "a sampler that was not announced is not guessed",
			packets: [][]byte{options9([]uint16{48, 1, 50, 4}, wire{}.u8(1).u32(100)), data9([]uint16{48, 1}, []byte{2})},
		},
		{
			name:    "no sampler named, one announced",
			packets: [][]byte{options9([]uint16{48, 1, 50, 4}, wire{}.u8(1).u32(100)), plain},
			rate:    100, source: flow.SamplingOptions,
		},
		{
			name:    "no sampler named, two announced that differ",
			packets: [][]byte{options9([]uint16{48, 1, 50, 4}, wire{}.u8(1).u32(100)), options9([]uint16{48, 1, 50, 4}, wire{}.u8(2).u32(200)), plain},
		},
		{
			name: "of two that differed one changed to agree",
			packets: [][]byte{options9([]uint16{48, 1, 50, 4}, wire{}.u8(1).u32(100)), options9([]uint16{48, 1, 50, 4}, wire{}.u8(2).u32(200)),
				options9([]uint16{48, 1, 50, 4}, wire{}.u8(1).u32(200)), plain},
			rate: 200, source: flow.SamplingOptions,
		},
		{name: "305 alone is one out of so many (softflowd)", packets: [][]byte{dataX(1, []uint16{305, 4}, wire{}.u32(10))}, rate: 10, source: flow.SamplingRecord},
		{
			name:    "305 = 1 beside n out of N (Cisco IOS XR)",
			packets: [][]byte{optionsX(1, []uint16{302, 4, 305, 4, 304, 2, 309, 4, 310, 4}, wire{}.u32(1, 1).u16(3).u32(1, 256)), dataX(1, []uint16{302, 4}, wire{}.u32(1))},
			rate:    256, source: flow.SamplingOptions,
		},
		{
			name:    "the algorithm says which of the two pairs holds",
			packets: [][]byte{dataX(1, []uint16{305, 4, 306, 4, 304, 2, 309, 4, 310, 4}, wire{}.u32(1, 99).u16(1).u32(1, 1))},
			rate:    100, source: flow.SamplingRecord,
		},
		{name: "space of 0 with its interval: every packet", packets: [][]byte{dataX(1, []uint16{305, 4, 306, 4}, wire{}.u32(5, 0))}, rate: 1, source: flow.SamplingRecord},
		{name: "interval and space (Nokia)", packets: [][]byte{dataX(1, []uint16{305, 4, 306, 4}, wire{}.u32(10, 9990))}, rate: 1000, source: flow.SamplingRecord},
		{
			name: "n out of N by selector", packets: [][]byte{
				optionsX(1, []uint16{302, 8, 304, 2, 309, 4, 310, 4}, wire{}.u64(1<<40).u16(3).u32(2, 2000)), dataX(1, []uint16{302, 8}, wire{}.u64(1<<40))},
			rate: 1000, source: flow.SamplingOptions,
		},
		{name: "probability", packets: [][]byte{dataX(1, []uint16{311, 4}, wire{}.u32(0x3c23d70a))}, rate: 100, source: flow.SamplingRecord},
		{
			name: "options of another domain do not count", packets: [][]byte{
				optionsX(2, []uint16{149, 4, 34, 4}, wire{}.u32(2, 100)), dataX(1, []uint16{4, 1}, []byte{6})},
		},
		{
			name: "options of domain 0 count for all", packets: [][]byte{
				optionsX(0, []uint16{149, 4, 34, 4}, wire{}.u32(0, 100)), dataX(1, []uint16{4, 1}, []byte{6})},
			rate: 100, source: flow.SamplingOptions,
		},
		{
			name: "by interface", packets: [][]byte{
				optionsX(1, []uint16{10, 4, 34, 4}, wire{}.u32(5, 100)), optionsX(1, []uint16{10, 4, 34, 4}, wire{}.u32(6, 200)), dataX(1, []uint16{10, 4}, wire{}.u32(6))},
			rate: 200, source: flow.SamplingOptions,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := New(Config{Sampling: tt.rules}, Deps{})
			got := feed(d, tt.packets...)
			if len(got) != 1 {
				t.Fatalf("%d records", len(got))
			}
			if got[0].SamplingRate != tt.rate || got[0].SamplingSource != tt.source {
				t.Errorf("1:%d from %v, want 1:%d from %v", got[0].SamplingRate, got[0].SamplingSource, tt.rate, tt.source)
			}
			checkInvariant(t, d)
		})
	}
}

func TestSequence(t *testing.T) {
	type step struct {
		seq, n  uint32
		unknown bool
	}
	tests := []struct {
		name  string
		steps []step
		lost  uint64
	}{
		{name: "in order", steps: []step{{seq: 10, n: 5}, {seq: 15, n: 5}, {seq: 20, n: 1}}},
		{name: "lost", steps: []step{{seq: 10, n: 5}, {seq: 25, n: 5}}, lost: 10},
		{name: "wrap", steps: []step{{seq: 1<<32 - 2, n: 2}, {seq: 0, n: 1}, {seq: 1, n: 1}}},
		{name: "late datagram takes its loss back", steps: []step{{seq: 10, n: 5}, {seq: 20, n: 5}, {seq: 15, n: 5}, {seq: 25, n: 5}}},
		{name: "twice the same late datagram takes back once", steps: []step{{seq: 10, n: 5}, {seq: 30, n: 5}, {seq: 15, n: 5}, {seq: 15, n: 5}}, lost: 10},
		{name: "duplicate of one that was never missed", steps: []step{{seq: 10, n: 5}, {seq: 10, n: 5}, {seq: 15, n: 5}}},
		{name: "restart from zero", steps: []step{{seq: 1_000_000, n: 5}, {seq: 0, n: 5}, {seq: 5, n: 5}}},
		{name: "restart from not far back", steps: []step{{seq: 100, n: 1}, {seq: 0, n: 1}, {seq: 1, n: 1}, {seq: 2, n: 1}, {seq: 3, n: 1},
			{seq: 4, n: 1}, {seq: 5, n: 1}, {seq: 6, n: 1}, {seq: 7, n: 1}, {seq: 8, n: 1}, {seq: 9, n: 1}, {seq: 12, n: 1}}, lost: 2},
		{name: "unknown count is not a loss", steps: []step{{seq: 10, n: 0, unknown: true}, {seq: 40, n: 5}, {seq: 45, n: 5}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s sequence
			for _, st := range tt.steps {
				s.step(st.seq, st.n, !st.unknown)
			}
			if s.lost != tt.lost {
				t.Errorf("lost %d, want %d", s.lost, tt.lost)
			}
		})
	}
}

// TestBounds: what the network fills has a cap, and the cap holds.
func TestBounds(t *testing.T) {
	t.Run("held back", func(t *testing.T) {
		d := New(Config{HoldBack: 1000}, Deps{})
		for i := range uint32(50) {
			feed(d, v9(i, 1, set(256, dataBasic)))
		}
		s := d.Stats()
		if s.HeldBytes > 1000 || s.HeldSets == 0 {
			t.Errorf("%d sets of %d bytes held", s.HeldSets, s.HeldBytes)
		}
		if got := uint64(s.HeldSets) + s.SetsDropped[ReasonTemplateUnknown]; got != 50 {
			t.Errorf("held + dropped = %d of 50", got)
		}
		if got := len(feed(d, v9(50, 1, set(0, tplBasic)))); got != s.HeldSets {
			t.Errorf("%d records released, want %d", got, s.HeldSets)
		}
		if s := d.Stats(); s.HeldBytes != 0 || s.HeldSets != 0 {
			t.Errorf("after the release: %+v", s)
		}
	})
	t.Run("domains", func(t *testing.T) {
		d := New(Config{}, Deps{})
		for i := range uint32(maxDomains + 10) {
			feed(d, v9(0, i))
		}
		if n := d.Stats().Notes[NoteDomainEvicted]; n != 10 {
			t.Errorf("%d evicted", n)
		}
	})
	t.Run("exporters", func(t *testing.T) {
		d := New(Config{}, Deps{})
		for i := range uint32(maxExporters + 10) {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
			d.Decode(Datagram{Exporter: from, Received: testNow, Payload: v9(0, 1)}, func([]flow.Record) {})
		}
		if s := d.Stats(); s.Notes[NoteExporterEvicted] != 10 || len(s.Exporters) != maxExporters {
			t.Errorf("%d evicted, %d kept", s.Notes[NoteExporterEvicted], len(s.Exporters))
		}
	})
	t.Run("templates", func(t *testing.T) {
		d := New(Config{}, Deps{})
		per := (maxExporterState / (templateCost + 10*fieldCost)) + 10
		for i := range per {
			w := append(wire{}, tplBasic...)
			w[0], w[1] = byte((256+i)>>8), byte(256+i)
			feed(d, v9(0, 1, set(0, w)))
		}
		if d.cost > maxExporterState || d.Stats().Notes[NoteTemplateEvicted] < 10 {
			t.Errorf("cost %d, %+v", d.cost, d.Stats().Notes)
		}
	})
	t.Run("samplers", func(t *testing.T) {
		var s samplers
		for i := range uint64(maxSamplers + 1) {
			_, ok := s.set(samplerKey{samplerID, i}, 10, testNow)
			if ok != (i < maxSamplers) {
				t.Fatalf("sampler %d: %v", i, ok)
			}
		}
	})
}

// TestV5HeaderRate: 14 bits whatever the mode, 0 is no statement.
func TestV5HeaderRate(t *testing.T) {
	for in, want := range map[uint16]uint32{0: 0, 1: 1, 1000: 1000, 0x4000: 0, 0x4001: 1, 0x8064: 100, 0xffff: 16383} {
		if got := v5HeaderRate(in); got != want {
			t.Errorf("%#04x: %d, want %d", in, got, want)
		}
	}
}

// TestCost: what is booked for an exporter is what it holds, whatever came and
// went.
func TestCost(t *testing.T) {
	d := New(Config{}, Deps{})
	sampler := func(id uint32) []byte {
		return ipfixMsg(0, 5, set(3, wire{}.u16(257, 2, 1).u16(302, 4, 34, 4)), set(257, wire{}.u32(id, 100)))
	}
	feed(d, v9(0, 1, set(0, tplBasic)), v9(1, 1, set(0, tplBasic)), v9(2, 1, set(0, wire{}.u16(256, 1, 4, 1))),
		sampler(1), sampler(2), sampler(2), ipfixMsg(1, 5, set(2, wire{}.u16(3, 0))))
	for i := range uint32(maxDomains + 3) {
		feed(d, v9(0, 1000+i))
	}
	sum := 0
	d.exporters.all(func(_ netip.Addr, e *exporter) {
		mine := 0
		e.templates.all(func(_ templateKey, t *template) { mine += t.cost() })
		e.domains.all(func(_ domainKey, dom *domain) { mine += dom.cost() })
		if mine != e.cost {
			t.Errorf("%v holds %d, booked %d", e.addr, mine, e.cost)
		}
		sum += mine
	})
	if sum != d.cost || sum == 0 {
		t.Errorf("all hold %d, booked %d", sum, d.cost)
	}
}
