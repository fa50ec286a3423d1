package decode

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

// slow is a decoder that reads every record by the ops and the rules of build.
func slow(d *Decoder) *Decoder {
	d.exporters.all(func(_ netip.Addr, e *exporter) {
		e.templates.all(func(_ templateKey, t *template) { t.plan.quick.ok = false })
	})
	return d
}

// TestReads: a plan leaves out exactly the elements that set takes no notice of.
func TestReads(t *testing.T) {
	notices := func(set func(*fields, []byte)) bool {
		for n := range 17 {
			b := bytes.Repeat([]byte{1}, n)
			switch n {
			case 1:
				b[0] = 2 // an event's end
			case 2:
				b[0] = 0 // nothing is of type 257
			}
			var f fields
			if set(&f, b); !reflect.DeepEqual(f, fields{}) {
				return true
			}
		}
		return false
	}
	for id := range uint16(2000) {
		if got := notices(func(f *fields, b []byte) { f.set(id, b) }); got != reads(id) {
			t.Errorf("element %d: set takes notice %v, plan reads %v", id, got, reads(id))
		}
		if got := notices(func(f *fields, b []byte) { f.setReverse(id, b) }); got != readsReverse(id) {
			t.Errorf("reverse element %d: set takes notice %v, plan reads %v", id, got, readsReverse(id))
		}
	}
}

// someFields draws a template: mostly common elements in their usual lengths,
// now and then odd ones.
func someFields(rnd *rand.Rand, version uint16) []element {
	var fs []element
	add := func(id, length uint16) { fs = append(fs, element{id: id, length: length}) }
	one := func(p float64, pairs ...element) {
		if rnd.Float64() < p {
			f := pairs[rnd.IntN(len(pairs))]
			if rnd.IntN(40) == 0 {
				f.length = uint16(rnd.IntN(12))
			}
			fs = append(fs, f)
		}
	}
	e := func(id, length uint16) element { return element{id: id, length: length} }
	switch rnd.IntN(8) {
	case 0:
		add(27, 16)
		add(28, 16)
	case 1:
		add(8, 4)
		add(12, 4)
		add(27, 16)
		add(28, 16)
		one(0.5, e(60, 1))
	default:
		one(0.95, e(8, 4))
		one(0.95, e(12, 4))
	}
	one(0.9, e(7, 2), e(180, 2), e(182, 2))
	one(0.9, e(11, 2), e(181, 2), e(183, 2))
	one(0.95, e(4, 1))
	one(0.8, e(6, 1), e(6, 2))
	one(0.9, e(2, 4), e(2, 8), e(2, 3), e(86, 8), e(24, 4), e(298, 4))
	one(0.9, e(1, 4), e(1, 8), e(1, 5), e(85, 8), e(23, 4), e(231, 4))
	one(0.1, e(24, 4), e(23, 8), e(86, 4), e(85, 4))
	one(0.7, e(10, 2), e(10, 4), e(252, 4))
	one(0.7, e(14, 2), e(14, 4), e(253, 4))
	if times := [][]element{{}, {e(22, 4), e(21, 4)}, {e(152, 8), e(153, 8)}, {e(150, 4), e(151, 4)}, {e(154, 8), e(155, 8)}, {e(150, 4), e(153, 8)}, {e(158, 4), e(159, 4)}, {e(22, 4), e(160, 8), e(21, 4)}}; true {
		fs = append(fs, times[rnd.IntN(len(times))]...)
	}
	one(0.1, e(22, 4), e(21, 4), e(152, 8), e(161, 4), e(160, 8), e(158, 4), e(159, 4), e(323, 8))
	one(0.1, e(8, 4), e(28, 16), e(7, 2), e(4, 1), e(2, 4), e(152, 8), e(22, 4)) // once more

	one(0.3, e(32, 2), e(139, 2))
	one(0.1, e(176, 1), e(177, 1), e(178, 1), e(179, 1))
	one(0.2, e(58, 2))
	one(0.1, e(243, 2))
	one(0.2, e(56, 6), e(81, 6))
	for _, id := range []uint16{192, 52, 53} {
		one(0.15, e(id, 1))
	}
	one(0.1, e(224, 2), e(190, 2))
	one(0.1, e(88, 2))
	one(0.2, e(34, 4), e(34, 2))
	one(0.2, e(48, 1), e(48, 2), e(302, 8), e(302, 4))
	one(0.1, e(225, 4), e(226, 4), e(227, 2), e(228, 2), e(281, 16))
	one(0.1, e(136, 1), e(233, 1), e(5, 1), e(61, 1), e(80, 6), e(312, 2), e(304, 1), e(305, 4))
	for range rnd.IntN(4) { // that nobody reads
		fs = append(fs, e(uint16(400+rnd.IntN(50)), uint16(1+rnd.IntN(9))))
		if version == 10 && rnd.IntN(2) == 0 {
			fs = append(fs, e(uint16(82+rnd.IntN(2)), variableLength))
		}
		if version == 10 && rnd.IntN(4) == 0 {
			fs = append(fs, element{uint16(1 + rnd.IntN(10)), uint16(1 + rnd.IntN(4)), []uint32{9, penReverse}[rnd.IntN(2)], true})
		}
	}
	rnd.Shuffle(len(fs), func(i, j int) { fs[i], fs[j] = fs[j], fs[i] })
	return fs
}

// someRecord draws a record of it, with values that are mostly plain.
func someRecord(rnd *rand.Rand, version uint16, fs []element) wire {
	var w wire
	for _, f := range fs {
		n := int(f.length)
		if f.length == variableLength && version == 10 {
			n = rnd.IntN(20)
			if rnd.IntN(5) == 0 {
				n += 250
			}
			if n < 255 && rnd.IntN(3) > 0 {
				w = w.u8(uint8(n))
			} else {
				w = w.u8(255).u16(uint16(n))
			}
		}
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		at := func(v uint64) {
			for i := range b {
				b[i] = byte(v >> (8 * (len(b) - 1 - i)))
			}
		}
		switch {
		case f.enterprise || rnd.IntN(30) == 0:
		case rnd.IntN(30) == 0:
			at(0)
		case f.id == 4:
			at(uint64([]uint8{1, 6, 6, 6, 17, 17, 58, 47, 132}[rnd.IntN(9)]))
		case f.id == 22 || f.id == 21:
			at(uint64(testUptime) - uint64(rnd.IntN(60000)))
		case f.id == 160:
			at(uint64(testNow/1e6) - 1_000_000 - uint64(testUptime))
		case f.id == 158 || f.id == 159:
			at(uint64(rnd.IntN(1 << 26)))
		case f.id >= 150 && f.id <= 157:
			ms := uint64(testNow/1e6) - uint64(rnd.IntN(60000))
			switch {
			case f.id < 152:
				ms /= 1000
			case f.id > 153:
				ms = (ms/1000 + 2_208_988_800) << 32
			}
			at(ms)
		case f.id == 8 || f.id == 12 || f.id == 27 || f.id == 28 || f.id == 88 || f.id == 32:
			if rnd.IntN(3) == 0 {
				at(0)
			}
		case f.id == 34 || f.id == 48 || f.id == 302 || f.id == 10:
			at(uint64(rnd.IntN(4)))
		}
		w = w.raw(b)
	}
	return w
}

// options that state rates of samplers, interfaces and a template.
func someOptions(rnd *rand.Rand, version uint16) []byte {
	id, rate := uint32(rnd.IntN(4)), uint32(1+rnd.IntN(3)*1000)
	key := []uint16{48, 302, 10, 145}[rnd.IntN(4)]
	if version == 9 {
		return wire{}.raw(set(1, wire{}.u16(257, 4, 8, 1, 4, key, 4, 34, 4)), set(257, wire{}.u32(0, id, rate)))
	}
	return wire{}.raw(set(3, wire{}.u16(257, 3, 1, 149, 4, key, 4, 34, 4)), set(257, wire{}.u32(0, id, rate)))
}

func templateWire(version uint16, fs []element) wire {
	w := wire{}.u16(256, uint16(len(fs)))
	for _, f := range fs {
		if f.enterprise {
			w = w.u16(f.id|0x8000, f.length).u32(f.pen)
		} else {
			w = w.u16(f.id, f.length)
		}
	}
	if version == 9 {
		return set(0, w)
	}
	return set(2, w)
}

// TestQuickEqualsSlow: what is filled in from slots is what the ops and the
// rules give, over random templates, records and options.
func TestQuickEqualsSlow(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	templates := 1200
	if testing.Short() {
		templates = 400
	}
	quick := 0
	for i := range templates {
		version := uint16(9 + i%2)
		msg := func(seq uint32, sets ...[]byte) []byte {
			if version == 9 {
				return v9(seq, 1, sets...)
			}
			return ipfixMsg(seq, 1, sets...)
		}
		fs := someFields(rnd, version)
		if len(fs) == 0 {
			continue
		}
		cfg := Config{TrustClock: rnd.IntN(4) == 0}
		if rnd.IntN(8) == 0 {
			cfg.Sampling = []SamplingRule{{Exporter: netip.MustParsePrefix("192.0.2.0/24"), Default: 7, Override: uint32(rnd.IntN(2) * 9)}}
		}
		a, b := New(cfg, Deps{}), New(cfg, Deps{})
		intro := msg(0, templateWire(version, fs))
		feed(a, intro)
		feed(b, intro)
		a.exporters.all(func(_ netip.Addr, e *exporter) {
			e.templates.all(func(_ templateKey, t *template) {
				if t.plan.quick.ok {
					quick++
				}
			})
		})
		slow(b)
		for round := range uint32(3) {
			if rnd.IntN(2) == 0 {
				p := msg(10*round+1, someOptions(rnd, version))
				feed(a, p)
				feed(b, p)
			}
			var body wire
			for range 1 + rnd.IntN(80) {
				body = body.raw(someRecord(rnd, version, fs))
			}
			if len(body) > 60000 {
				continue
			}
			p := msg(10*round+2, set(256, body))
			got, want := feed(a, p), feed(b, p)
			if !slices.Equal(want, got) {
				t.Fatalf("template %d, %+v (-slow +quick):\n%s", i, fs, cmp.Diff(want, got, cmpAddr))
			}
		}
		if diff := cmp.Diff(b.Stats(), a.Stats(), cmpAddr); diff != "" {
			t.Fatalf("template %d, %+v: stats (-slow +quick):\n%s", i, fs, diff)
		}
	}
	if quick < templates/4 {
		t.Errorf("%d of %d templates took the quick path: too few to tell", quick, templates)
	}
}

// TestV5EqualsSlow is the same for NetFlow v5.
func TestV5EqualsSlow(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	d := New(Config{}, Deps{})
	for i := range 20000 {
		rec := make([]byte, v5RecordLen)
		for j := range rec {
			rec[j] = byte(rnd.Uint32())
		}
		if i%8 > 0 {
			copy(rec[24:], wire{}.u32(testUptime-uint32(rnd.IntN(5000))-5000, testUptime-uint32(rnd.IntN(6000))))
			rec[38] = []byte{1, 6, 17, 58, 2}[rnd.IntN(5)]
		}
		switch i % 5 {
		case 0:
			copy(rec[32:], []byte{0, 0, 0, 0})
		case 1:
			copy(rec[32:], []byte{0, 0})
		case 2:
			copy(rec[34:], []byte{0, 0})
		}
		got := feed(d, v5msg(uint32(i), uint16(i), rec))
		var want []flow.Record
		d.emit = func(rs []flow.Record) { want = append(want, rs...) }
		(*v5Record)(rec).fields(&d.f)
		d.build(&d.origin, &d.f)
		d.flush(&d.origin)
		if !slices.Equal(want, got) {
			t.Fatalf("%x (-slow +quick):\n%s", rec, cmp.Diff(want, got, cmpAddr))
		}
	}
}

// TestNoAllocations: at a steady state a record costs no allocation, whichever
// way it is read.
func TestNoAllocations(t *testing.T) {
	interfaces := wire{}.raw(set(3, wire{}.u16(257, 2, 1, 10, 4, 34, 4)), set(257, wire{}.u32(3, 1000, 4, 2000)))
	ops := wire{}.u16(256, 21).raw(tplUsual(152, 8, 153, 8)[4:]).u16(305, 4)
	totals := wire{}.u16(256, 5).u16(8, 4, 12, 4, 4, 1, 86, 4, 85, 4)
	biflow := wire{}.u16(256, 5).u16(8, 4, 12, 4, 4, 1, 2, 4).u16(0x8002, 4).u32(penReverse)
	tests := []struct {
		name        string
		intro, data []byte
	}{
		{"v5", v5msg(0, 100), v5msg(1, 100, v5rec("192.0.2.1", "198.51.100.1", 1, 2, 6, 2, 3, 180), v5rec("192.0.2.1", "198.51.100.1", 1, 2, 17, 0, 3, 180))},
		{"v9", v9(0, 1, set(0, tplUsual(22, 4, 21, 4))), v9(1, 1, set(256, usual(20, uptimes)))},
		{"IPFIX with a rate for each interface", ipfixMsg(0, 1, set(2, tplUsual(152, 8, 153, 8)), interfaces), ipfixMsg(1, 1, set(256, usual(20, absolutes)))},
		{"read by the ops", ipfixMsg(0, 1, set(2, ops)), ipfixMsg(1, 1, set(256, wire{}.raw(usual(1, absolutes)).u32(100)))},
		{"variable length", ipfixMsg(0, 1, set(2, wire{}.u16(256, 3).u16(82, 0xffff, 4, 1, 2, 4))), ipfixMsg(1, 1, set(256, wire{}.u8(2, 'a', 'b', 6).u32(1)))},
		{"running totals of flows that are known", ipfixMsg(0, 1, set(2, totals)), ipfixMsg(1, 1, set(256, wire{}.ip("192.0.2.1", "198.51.100.1").u8(6).u32(1, 40)))},
		{"biflow", ipfixMsg(0, 1, set(2, biflow)), ipfixMsg(1, 1, set(256, wire{}.ip("192.0.2.1", "198.51.100.1").u8(6).u32(1, 40)))},
		{"options", ipfixMsg(0, 1, interfaces), ipfixMsg(1, 1, set(257, wire{}.u32(3, 1000, 4, 2000)))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := New(Config{}, Deps{})
			feed(d, tt.intro)
			n := 0
			emit := func(rs []flow.Record) { n += len(rs) }
			decode := func() {
				d.Decode(Datagram{Exporter: testExporter, Received: testNow, Payload: tt.data}, emit)
			}
			decode()
			if got := testing.AllocsPerRun(200, decode); got != 0 {
				t.Errorf("%v allocations for a datagram", got)
			}
			if s := d.Stats(); n == 0 && s.OptionsRecords == 0 || len(s.SetsDropped)+len(s.RecordsDropped) != 0 {
				t.Errorf("%d records, %+v", n, s)
			}
		})
	}
}

// TestVariableLengths: what stands behind a field whose length is in the data is
// found, in either encoding of the length (RFC 7011 §7), by slots and by ops.
func TestVariableLengths(t *testing.T) {
	for _, tpl := range [][]uint16{{4, 1, 82, 0xffff, 2, 4, 83, 0xffff, 1, 8}, {82, 0xffff, 83, 0xffff, 4, 1, 2, 4, 1, 8, 305, 4}} {
		d := New(Config{}, Deps{})
		feed(d, ipfixMsg(0, 1, set(2, wire{}.u16(256, uint16(len(tpl)/2)).u16(tpl...))))
		for _, n := range []int{0, 1, 127, 128, 254, 255, 256, 300} {
			for _, long := range []bool{false, true} {
				if n > 254 && !long {
					continue
				}
				field := wire{}.u8(uint8(n))
				if long {
					field = wire{}.u8(255).u16(uint16(n))
				}
				field = field.raw(bytes.Repeat([]byte{0xee}, n))
				values := map[uint16]wire{82: field, 83: wire{}.u8(2, 0xee, 0xee), 4: wire{}.u8(17), 2: wire{}.u32(7), 1: wire{}.u64(700), 305: wire{}.u32(10)}
				var rec wire
				for i := 0; i < len(tpl); i += 2 {
					rec = rec.raw(values[tpl[i]])
				}
				got := feed(d, ipfixMsg(1, 1, set(256, rec.raw(rec))))
				if len(got) != 2 || got[0] != got[1] || got[0].IPProto != 17 || got[0].Packets != 7 || got[0].Bytes != 700 {
					t.Errorf("%v, %d bytes, long form %v: %+v", tpl, n, long, got)
				}
			}
		}
	}
}
