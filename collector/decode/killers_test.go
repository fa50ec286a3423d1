package decode

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// wire builds datagrams by hand, in network byte order.
type wire []byte

func (w wire) u8(v ...uint8) wire { return append(w, v...) }
func (w wire) u16(v ...uint16) wire {
	for _, x := range v {
		w = binary.BigEndian.AppendUint16(w, x)
	}
	return w
}
func (w wire) u32(v ...uint32) wire {
	for _, x := range v {
		w = binary.BigEndian.AppendUint32(w, x)
	}
	return w
}
func (w wire) u64(v ...uint64) wire {
	for _, x := range v {
		w = binary.BigEndian.AppendUint64(w, x)
	}
	return w
}
func (w wire) raw(b ...[]byte) wire {
	for _, x := range b {
		w = append(w, x...)
	}
	return w
}
func (w wire) ip(s ...string) wire {
	for _, x := range s {
		w = append(w, netip.MustParseAddr(x).AsSlice()...)
	}
	return w
}

// set is one set of NetFlow v9 or IPFIX.
func set(id uint16, body []byte) wire {
	return wire{}.u16(id, uint16(len(body)+4)).raw(body)
}

const (
	testNow    = int64(1_800_000_000_000_000_000) // 2027-01-15, receipt
	testSec    = uint32(testNow / 1e9)
	testUptime = uint32(100_000_000) // ms
)

func v9(seq, domain uint32, sets ...[]byte) []byte {
	w := wire{}.u16(9, uint16(len(sets))).u32(testUptime, testSec, seq, domain)
	return w.raw(sets...)
}

func ipfixMsg(seq, domain uint32, sets ...[]byte) []byte {
	body := wire{}.raw(sets...)
	return wire{}.u16(10, uint16(16+len(body))).u32(testSec, seq, domain).raw(body)
}

func sflowMsg(seq uint32, samples ...[]byte) []byte {
	w := wire{}.u32(5, 1).ip("192.0.2.1").u32(7, seq, 1000, uint32(len(samples)))
	return w.raw(samples...)
}

var testExporter = netip.MustParseAddrPort("192.0.2.9:40000")

// feed decodes payloads with one decoder and returns all records.
func feed(d *Decoder, payloads ...[]byte) []flow.Record {
	var out []flow.Record
	for _, p := range payloads {
		d.Decode(Datagram{Exporter: testExporter, Received: testNow, Payload: p}, func(rs []flow.Record) { out = append(out, rs...) })
	}
	return out
}

// checkInvariant holds that no datagram is unaccounted for.
func checkInvariant(t testing.TB, d *Decoder) {
	t.Helper()
	s := d.Stats()
	sum := s.Decoded
	for _, n := range s.Dropped {
		sum += n
	}
	if sum != s.Datagrams {
		t.Errorf("%d datagrams, but decoded + dropped = %d: %+v", s.Datagrams, sum, s)
	}
	if s.Dropped[ReasonPanic] > 0 {
		t.Errorf("the last net caught a panic: a guard is missing")
	}
}

// TestKillers are inputs that would end or hang a collector without the guards.
// Each must be refused within its bounds of time and memory.
func TestKillers(t *testing.T) {
	manyEmpty := wire{}.u16(256, 401)
	for range 400 {
		manyEmpty = manyEmpty.u16(8, 0)
	}
	manyEmpty = manyEmpty.u16(4, 1)
	allVariable := wire{}.u16(256, 2).u16(82, 0xffff).u16(83, 0xffff)
	tests := []struct {
		name    string
		packets [][]byte
		reason  string // counted at some level
		records int
	}{
		{
			name: "goflow2 v2.2.6: expanded sFlow sample with 4 billion records asks make for 103 GB",
			packets: [][]byte{sflowMsg(1, wire{}.u32(3, 44). // expanded flow sample
										u32(1, 0, 1, 1000, 5, 0, 0, 1, 0, 2, 0xffffffff))},
			reason: ReasonSampleBad,
		},
		{
			name: "compact sFlow sample with more records than bytes",
			packets: [][]byte{sflowMsg(1, wire{}.u32(1, 32).
				u32(1, 1, 1000, 5, 0, 1, 2, 900))},
			reason: ReasonSampleBad,
		},
		{
			name: "goflow2 v2.2.6: field-less IPFIX options template and 44 bytes of data never return",
			packets: [][]byte{
				ipfixMsg(0, 1, set(3, wire{}.u16(256, 0, 0))),
				ipfixMsg(0, 1, set(256, make([]byte, 44))),
			},
			reason: ReasonTemplateUnknown,
		},
		{
			name: "field-less NetFlow v9 template and data",
			packets: [][]byte{
				v9(0, 1, set(0, wire{}.u16(256, 0))),
				v9(1, 1, set(256, make([]byte, 44))),
			},
			reason: ReasonTemplateBad,
		},
		{
			name: "IPFIX template whose only fields have no length",
			packets: [][]byte{
				ipfixMsg(0, 1, set(2, wire{}.u16(256, 2).u16(8, 0).u16(12, 0))),
				ipfixMsg(0, 1, set(256, make([]byte, 44))),
			},
			reason: ReasonTemplateBad,
		},
		{
			name: "v9 options template without scope and options",
			packets: [][]byte{
				v9(0, 1, set(1, wire{}.u16(256, 0, 0, 0))),
				v9(1, 1, set(256, make([]byte, 44))),
			},
			reason: ReasonTemplateBad,
		},
		{
			name: "400 empty fields and one of a byte: each byte of data would cost 26 kB",
			packets: [][]byte{
				ipfixMsg(0, 1, set(2, manyEmpty)),
				ipfixMsg(0, 1, set(256, make([]byte, 1400))),
			},
			records: 1400,
		},
		{
			name: "only variable-length fields, data cut in the middle of a value",
			packets: [][]byte{
				ipfixMsg(0, 1, set(2, allVariable)),
				ipfixMsg(0, 1, set(256, wire{}.u8(1, 'a', 1, 'b').u8(1, 'c', 200, 'd'))),
			},
			reason: ReasonRecordTruncated, records: 1,
		},
		{
			name: "options template that counts more scope fields than fields",
			packets: [][]byte{
				ipfixMsg(0, 1, set(3, wire{}.u16(256, 1, 2).u16(8, 4, 12, 4))),
			},
			reason: ReasonTemplateBad,
		},
		{
			name:    "template that counts 65535 fields in 8 bytes",
			packets: [][]byte{v9(0, 1, set(0, wire{}.u16(256, 65535).u16(8, 4)))},
			reason:  ReasonTemplateBad,
		},
		{
			name:    "NetFlow v5 header that counts 65535 records",
			packets: [][]byte{wire{}.u16(5, 65535).u32(0, testSec, 0, 0, 0).raw(make([]byte, 48))},
			reason:  ReasonV5Count,
		},
		{
			name:    "IPFIX length below its header: goflow2 subtracts 16 from it",
			packets: [][]byte{wire{}.u16(10, 8).u32(testSec, 0, 1).u16(256, 8).u32(0)},
			reason:  ReasonIPFIXLength,
		},
		{
			name:    "set of length 0",
			packets: [][]byte{ipfixMsg(0, 1, wire{}.u16(256, 0).u32(1, 2, 3))},
			reason:  ReasonSetLength,
		},
		{
			name:    "sFlow header that counts 4 billion samples",
			packets: [][]byte{wire{}.u32(5, 1).ip("192.0.2.1").u32(7, 1, 1000, 0xffffffff)},
			reason:  ReasonSampleLength,
		},
		{
			name:    "sFlow sample length near 2^32",
			packets: [][]byte{sflowMsg(1, wire{}.u32(1, 0xfffffffc, 0, 0))},
			reason:  ReasonSampleLength,
		},
		{
			name: "sFlow flow record length near 2^32",
			packets: [][]byte{sflowMsg(1, wire{}.u32(1, 40).
				u32(1, 1, 1000, 5, 0, 1, 2, 1).u32(1, 0xfffffffc))},
			reason: NoteFlowRecordBad, records: 1,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := New(Config{}, Deps{})
			feed(d, v9(0, 99)) // the exporter's state is no part of what is measured
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			got := feed(d, tt.packets...)
			d.DropHeld()
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if len(got) != tt.records {
				t.Errorf("%d records, want %d", len(got), tt.records)
			}
			checkInvariant(t, d)
			s := d.Stats()
			if tt.reason != "" && s.Dropped[tt.reason]+s.SetsDropped[tt.reason]+s.RecordsDropped[tt.reason]+s.Notes[tt.reason] == 0 {
				t.Errorf("%s was not counted: %+v", tt.reason, s)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
				t.Errorf("%d bytes allocated", n)
			}
			if took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestReasonsAreClosed: every reason has a name of its own, a level and a
// sentence that says something.
func TestReasonsAreClosed(t *testing.T) {
	seen := map[string]bool{}
	for i, r := range Reasons() {
		if r.Name == "" || r.Level == "" || seen[r.Name] {
			t.Errorf("reason %d: %+v", i, r)
		}
		if !strings.HasSuffix(r.Help, ".") || len(r.Help) < 20 {
			t.Errorf("%s: help %q", r.Name, r.Help)
		}
		seen[r.Name] = true
	}
}

// TestAllocatedPerByte: senders who make us keep as much as they can for each
// byte, within the bounds of what is kept at all. The base is an exporter.
func TestAllocatedPerByte(t *testing.T) {
	const perByte, base = 64, 64 << 10
	tests := []struct {
		name    string
		spoofed bool // each from a source of its own
		packet  func(i uint32) []byte
	}{
		{"new sources with one record", true, func(i uint32) []byte {
			return v5msg(i, 0, v5rec("192.0.2.1", "198.51.100.1", 1, 2, 6, 2, 3, 180))
		}},
		{"templates of one field", false, func(i uint32) []byte {
			var w wire
			for j := range uint32(170) {
				w = w.u16(uint16(256+i*170+j), 1, 8, 4)
			}
			return ipfixMsg(i, 1, set(2, w))
		}},
		{"the same templates with other contents each time", false, func(i uint32) []byte {
			var w wire
			for j := range uint32(170) {
				w = w.u16(uint16(256+j), 1, uint16(1+i), 4)
			}
			return ipfixMsg(i, 1, set(2, w))
		}},
		{"templates of variable-length fields", false, func(i uint32) []byte {
			w := wire{}.u16(uint16(256+i), 340)
			for range 340 {
				w = w.u16(7, 0xffff)
			}
			return ipfixMsg(i, 1, set(2, w))
		}},
		{"headers of new domains", false, func(i uint32) []byte { return ipfixMsg(0, i) }},
		{"samplers", false, func(i uint32) []byte {
			w := wire{}
			for j := range uint32(150) {
				w = w.u32(i*150+j, 1+j)
			}
			return ipfixMsg(i, 1, set(3, wire{}.u16(257, 2, 1).u16(302, 4, 34, 4)), set(257, w))
		}},
		{"running totals of ever new flows", false, func(i uint32) []byte {
			w := wire{}
			for j := range uint32(150) {
				w = w.u32(i*150+j, 1).u8(1)
			}
			return ipfixMsg(i, 1, set(2, wire{}.u16(257, 3).u16(8, 4, 12, 4, 86, 1)), set(257, w))
		}},
		{"data without templates", false, func(i uint32) []byte {
			var sets wire
			for j := range uint32(280) {
				sets = sets.raw(set(uint16(256+i*280+j), []byte{1}))
			}
			return ipfixMsg(i, 1, sets)
		}},
		{"records of one byte", false, func(i uint32) []byte {
			return ipfixMsg(i, 1, set(2, wire{}.u16(256, 1, 4, 1)), set(256, make([]byte, 1300)))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := New(Config{}, Deps{})
			var packets [][]byte
			bytes := 0
			for i := range uint32(300) {
				packets = append(packets, tt.packet(i))
				bytes += len(packets[i])
			}
			emit := func([]flow.Record) {}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for i, p := range packets {
				from := testExporter
				if tt.spoofed {
					from = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)
				}
				d.Decode(Datagram{Exporter: from, Received: testNow, Payload: p}, emit)
			}
			runtime.ReadMemStats(&after)
			used := after.TotalAlloc - before.TotalAlloc
			t.Logf("%.1f bytes for each of %d", float64(used)/float64(bytes), bytes)
			if used > uint64(base+perByte*bytes) {
				t.Errorf("%d bytes allocated for %d received", used, bytes)
			}
			checkInvariant(t, d)
		})
	}
}
