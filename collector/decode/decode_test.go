package decode

import (
	"bytes"
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

var cmpAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func ad(s string) netip.Addr { return netip.MustParseAddr(s) }

const (
	sec = int64(1e9)
	has = flow.HasIPProto | flow.HasPorts | flow.HasTCPFlags | flow.HasTimes
)

// basic is what dataBasic means.
func basic(p flow.Protocol, domain uint32) flow.Record {
	return flow.Record{
		Exporter: ad("192.0.2.9"), Protocol: p, Domain: domain,
		Received: testNow, Start: testNow - 3*sec, End: testNow - sec,
		Src: ad("192.0.2.1"), Dst: ad("198.51.100.1"), SrcPort: 40000, DstPort: 22,
		IPProto: 6, TCPFlags: flow.SYN, Packets: 3, Bytes: 132, Has: has,
	}
}

func with(r flow.Record, f func(*flow.Record)) flow.Record { f(&r); return r }

func TestDecode(t *testing.T) {
	v5base := with(basic(flow.NetFlow5, 0x0102), func(r *flow.Record) {
		r.Start, r.End = r.Start+sec/2, r.End+sec/2
		r.InIf, r.OutIf = 3, 4
		r.Has |= flow.HasInIf | flow.HasOutIf
	})
	v5one := v5rec("192.0.2.1", "198.51.100.1", 40000, 22, 6, 2, 3, 132)
	template := func(fields ...uint16) wire {
		return set(0, wire{}.u16(256, uint16(len(fields)/2)).u16(fields...))
	}
	itemplate := func(fields ...uint16) wire {
		return set(2, wire{}.u16(256, uint16(len(fields)/2)).u16(fields...))
	}
	plain9 := func(f func(*flow.Record)) flow.Record {
		return with(flow.Record{Exporter: ad("192.0.2.9"), Protocol: flow.NetFlow9, Domain: 1, Received: testNow, Start: testNow, End: testNow}, f)
	}
	plain10 := func(f func(*flow.Record)) flow.Record {
		return plain9(func(r *flow.Record) { r.Protocol = flow.IPFIX; f(r) })
	}
	tests := []struct {
		name    string
		packets [][]byte
		want    []flow.Record
		notes   []string
	}{
		{name: "v5", packets: [][]byte{v5msg(0, 0, v5one)}, want: []flow.Record{v5base}},
		{
			name: "v5, sampling in the header, mode bits 0 (Juniper MX80)", packets: [][]byte{v5msg(0, 1000, v5one)},
			want: []flow.Record{with(v5base, func(r *flow.Record) { r.SamplingRate, r.SamplingSource = 1000, flow.SamplingHeader })},
		},
		{
			name: "v5, sampling in the header, mode 1", packets: [][]byte{v5msg(0, 1<<14|100, v5one)},
			want: []flow.Record{with(v5base, func(r *flow.Record) { r.SamplingRate, r.SamplingSource = 100, flow.SamplingHeader })},
		},
		{
			name: "v5, ICMP type and code in the destination port", packets: [][]byte{v5msg(0, 0, v5rec("192.0.2.1", "198.51.100.1", 0, 8<<8, 1, 0, 3, 132))},
			want: []flow.Record{with(v5base, func(r *flow.Record) {
				r.IPProto, r.ICMPType, r.TCPFlags, r.SrcPort, r.DstPort = 1, 8, 0, 0, 0
				r.Has = r.Has&^(flow.HasPorts|flow.HasTCPFlags) | flow.HasICMP
			})},
		},
		{
			name: "v5, bytes after the last record", packets: [][]byte{append(v5msg(0, 0, v5one), 1, 2, 3)},
			want: []flow.Record{v5base}, notes: []string{NoteTrailing},
		},
		{name: "v9", packets: [][]byte{v9(0, 1, set(0, tplBasic), set(256, dataBasic))}, want: []flow.Record{basic(flow.NetFlow9, 1)}},
		{
			name: "v9, two records and padding", packets: [][]byte{v9(0, 1, set(0, tplBasic), set(256, wire{}.raw(dataBasic, dataBasic, []byte{0, 0})))},
			want: []flow.Record{basic(flow.NetFlow9, 1), basic(flow.NetFlow9, 1)},
		},
		{
			name: "v9, uptime wrapped between the flow and the export",
			packets: [][]byte{v9(0, 1, template(22, 4, 21, 4)), func() []byte {
				p := v9(1, 1, set(256, wire{}.u32(math.MaxUint32-999, 1000)))
				return append(append(append(wire{}, p[:4]...), wire{}.u32(2000)...), p[8:]...)
			}()},
			want: []flow.Record{plain9(func(r *flow.Record) {
				r.Start, r.End, r.Has = testNow-3*sec, testNow-sec, flow.HasTimes
			})},
		},
		{
			name:    "a bad set is skipped and the rest kept",
			packets: [][]byte{v9(0, 1, set(0, wire{}.u16(300, 900).u16(8, 4)), set(77, []byte{1, 2, 3, 4}), set(0, tplBasic), set(256, dataBasic))},
			want:    []flow.Record{basic(flow.NetFlow9, 1)}, notes: []string{ReasonTemplateBad, ReasonSetID},
		},
		{
			name:    "a set that runs over the end costs what follows, not what came before",
			packets: [][]byte{v9(0, 1, set(0, tplBasic), set(256, dataBasic), wire{}.u16(256, 4000).raw(dataBasic))},
			want:    []flow.Record{basic(flow.NetFlow9, 1)}, notes: []string{ReasonSetLength},
		},
		{
			name:    "data before its template is decoded when the template comes",
			packets: [][]byte{v9(0, 1, set(256, dataBasic)), v9(1, 1, set(0, tplBasic))},
			want:    []flow.Record{basic(flow.NetFlow9, 1)}, notes: []string{NoteHeld, NoteHeldDecoded},
		},
		{
			name: "templates belong to their domain", packets: [][]byte{v9(0, 1, set(0, tplBasic)), v9(1, 2, set(256, dataBasic))},
			notes: []string{ReasonTemplateUnknown},
		},
		{
			name:    "v9 template ids over 32768 are types, not enterprise bits",
			packets: [][]byte{v9(0, 1, template(0x8001, 2, 4, 1), set(256, wire{}.u16(9).u8(17)))},
			want:    []flow.Record{plain9(func(r *flow.Record) { r.IPProto, r.Has = 17, flow.HasIPProto })},
		},
		{
			name:    "deltas are taken, not running totals (Open vSwitch sends both)",
			packets: [][]byte{ipfixMsg(0, 1, itemplate(86, 4, 85, 4, 2, 4, 1, 4), set(256, wire{}.u32(1000, 60000, 3, 180)))},
			want:    []flow.Record{plain10(func(r *flow.Record) { r.Packets, r.Bytes = 3, 180 })},
		},
		{
			name: "totals where there is nothing else", packets: [][]byte{ipfixMsg(0, 1, itemplate(86, 4, 85, 4), set(256, wire{}.u32(5, 300)))},
			want: []flow.Record{plain10(func(r *flow.Record) { r.Packets, r.Bytes = 5, 300 })},
		},
		{
			name: "counted on the way out only", packets: [][]byte{ipfixMsg(0, 1, itemplate(2, 4, 1, 4, 24, 4, 23, 4), set(256, wire{}.u32(0, 0, 5, 300)))},
			want: []flow.Record{plain10(func(r *flow.Record) { r.Packets, r.Bytes = 5, 300 })},
		},
		{
			name:    "reduced-size counters, two-byte flags with a high bit",
			packets: [][]byte{ipfixMsg(0, 1, itemplate(4, 1, 6, 2, 2, 3, 1, 5), set(256, wire{}.u8(6).u16(0x0112).u8(0, 1, 0, 0, 0, 1, 0, 0)))},
			want: []flow.Record{plain10(func(r *flow.Record) {
				r.IPProto, r.TCPFlags, r.Packets, r.Bytes = 6, 0x12, 256, 65536
				r.Has = flow.HasIPProto | flow.HasTCPFlags
			})},
		},
		{
			name: "a biflow is two records",
			packets: [][]byte{ipfixMsg(0, 1,
				set(2, wire{}.u16(256, 11).u16(8, 4, 12, 4, 7, 2, 11, 2, 4, 1, 6, 1, 10, 4, 2, 4).
					u16(0x8002, 4).u32(29305).u16(0x8001, 4).u32(29305).u16(0x8006, 1).u32(29305)),
				set(256, wire{}.ip("192.0.2.1", "198.51.100.1").u16(40000, 22).u8(6, 2).u32(5, 1, 2, 120).u8(0x14)))},
			want: []flow.Record{
				plain10(func(r *flow.Record) {
					r.Src, r.Dst, r.SrcPort, r.DstPort, r.IPProto, r.TCPFlags, r.InIf, r.Packets = ad("192.0.2.1"), ad("198.51.100.1"), 40000, 22, 6, 2, 5, 1
					r.Has = flow.HasIPProto | flow.HasPorts | flow.HasTCPFlags | flow.HasInIf
				}),
				plain10(func(r *flow.Record) {
					r.Src, r.Dst, r.SrcPort, r.DstPort, r.IPProto, r.TCPFlags, r.OutIf, r.Packets, r.Bytes = ad("198.51.100.1"), ad("192.0.2.1"), 22, 40000, 6, 0x14, 5, 2, 120
					r.Has = flow.HasIPProto | flow.HasPorts | flow.HasTCPFlags | flow.HasOutIf
				}),
			},
		},
		{
			name:    "NSEL: a record without packets, event time, initiator's bytes",
			packets: [][]byte{v9(0, 1, template(8, 4, 323, 8, 231, 4, 232, 4), set(256, wire{}.ip("192.0.2.1").u64(uint64(testNow/1e6-500)).u32(700, 900)))},
			want: []flow.Record{plain9(func(r *flow.Record) {
				r.Src, r.Bytes, r.Start, r.End, r.Has = ad("192.0.2.1"), 700, testNow-sec/2, testNow-sec/2, flow.HasTimes
			})},
		},
		{
			name:    "IPFIX uptime with the system's start in the record",
			packets: [][]byte{ipfixMsg(0, 1, itemplate(160, 8, 22, 4, 21, 4), set(256, wire{}.u64(uint64(testNow/1e6)-100_000).u32(97_000, 99_000)))},
			want: []flow.Record{plain10(func(r *flow.Record) {
				r.Start, r.End, r.Has = testNow-3*sec, testNow-sec, flow.HasTimes
			})},
		},
		{
			name: "IPFIX uptime with the system's start in options, and a wrap",
			packets: [][]byte{
				ipfixMsg(0, 1, set(3, wire{}.u16(300, 2, 1).u16(149, 4, 160, 8)), set(300, wire{}.u32(1).u64(uint64(testNow/1e6)-(1<<32)-2000))),
				ipfixMsg(1, 1, itemplate(22, 4, 21, 4), set(256, wire{}.u32(math.MaxUint32-999, 1000))),
			},
			want: []flow.Record{plain10(func(r *flow.Record) {
				r.Start, r.End, r.Has = testNow-3*sec, testNow-sec, flow.HasTimes
			})},
		},
		{
			name:    "IPFIX uptime without the system's start is no time",
			packets: [][]byte{ipfixMsg(0, 1, itemplate(22, 4, 21, 4), set(256, wire{}.u32(97_000, 99_000)))},
			want:    []flow.Record{plain10(func(*flow.Record) {})},
		},
		{
			name: "microseconds before the export", packets: [][]byte{ipfixMsg(0, 1, itemplate(158, 4, 159, 4), set(256, wire{}.u32(3_000_000, 1_000_000)))},
			want: []flow.Record{plain10(func(r *flow.Record) {
				r.Start, r.End, r.Has = testNow-3*sec, testNow-sec, flow.HasTimes
			})},
		},
		{
			name: "NTP times with a fraction", packets: [][]byte{ipfixMsg(0, 1, itemplate(154, 8, 155, 8),
				set(256, wire{}.u32(testSec-3+2_208_988_800-0, 0x80000000, testSec-1+2_208_988_800, 0)))},
			want: []flow.Record{plain10(func(r *flow.Record) {
				r.Start, r.End, r.Has = testNow-3*sec+sec/2, testNow-sec, flow.HasTimes
			})},
		},
		{
			name: "end before start", packets: [][]byte{ipfixMsg(0, 1, itemplate(150, 4, 151, 4), set(256, wire{}.u32(testSec-1, testSec-3)))},
			want: []flow.Record{plain10(func(r *flow.Record) {
				r.Start, r.End, r.Has = testNow-3*sec, testNow-3*sec, flow.HasTimes
			})}, notes: []string{NoteTimesClamped},
		},
		{
			name: "exactly maxFuture ahead is believed", packets: [][]byte{ipfixMsg(0, 1, itemplate(151, 4), set(256, wire{}.u32(testSec+300)))},
			want: []flow.Record{plain10(func(r *flow.Record) {
				r.Start, r.End, r.Has = testNow+300*sec, testNow+300*sec, flow.HasTimes
			})},
		},
		{
			name: "more than maxFuture is not", packets: [][]byte{ipfixMsg(0, 1, itemplate(151, 4), set(256, wire{}.u32(testSec+301)))},
			want: []flow.Record{plain10(func(*flow.Record) {})}, notes: []string{NoteTimesClamped},
		},
		{
			name: "a mapped address is IPv4", packets: [][]byte{ipfixMsg(0, 1, itemplate(27, 16), set(256, wire{}.ip("::ffff:192.0.2.7")))},
			want: []flow.Record{plain10(func(r *flow.Record) { r.Src = ad("192.0.2.7") })},
		},
		{
			name:    "both families in the template, the other at zero",
			packets: [][]byte{ipfixMsg(0, 1, itemplate(8, 4, 12, 4, 27, 16, 28, 16), set(256, wire{}.u32(0, 0).ip("2001:db8::1", "2001:db8::2")))},
			want:    []flow.Record{plain10(func(r *flow.Record) { r.Src, r.Dst = ad("2001:db8::1"), ad("2001:db8::2") })},
		},
		{
			name: "ICMPv6 by IE 139", packets: [][]byte{ipfixMsg(0, 1, itemplate(4, 1, 139, 2), set(256, wire{}.u8(58).u16(128<<8)))},
			want: []flow.Record{plain10(func(r *flow.Record) {
				r.IPProto, r.ICMPType, r.Has = 58, 128, flow.HasIPProto|flow.HasICMP
			})},
		},
		{
			name: "a fragment has no ports", packets: [][]byte{v9(0, 1, template(4, 1, 7, 2, 11, 2, 88, 2), set(256, wire{}.u8(17).u16(0, 0, 185)))},
			want: []flow.Record{plain9(func(r *flow.Record) { r.IPProto, r.Has = 17, flow.HasIPProto|flow.HasFragment })},
		},
		{
			name: "interfaces, MAC, VLAN, TTL, length",
			packets: [][]byte{ipfixMsg(0, 1, itemplate(252, 4, 14, 2, 56, 6, 58, 2, 243, 2, 52, 1, 53, 1, 224, 2),
				set(256, wire{}.u32(70000).u16(9).u8(2, 0, 0, 0, 0, 5).u16(0, 12).u8(60, 255).u16(1500)))},
			want: []flow.Record{plain10(func(r *flow.Record) {
				r.InIf, r.OutIf, r.SrcMAC, r.VLAN, r.TTL, r.IPLen = 70000, 9, [6]byte{2, 0, 0, 0, 0, 5}, 12, 60, 1500
				r.Has = flow.HasInIf | flow.HasOutIf | flow.HasSrcMAC | flow.HasVLAN | flow.HasTTL | flow.HasIPLen
			})},
		},
		{
			name:    "PSAMP: a frame in a record is a packet sample with its rate",
			packets: [][]byte{ipfixMsg(0, 1, itemplate(305, 4, 306, 4, 315, 0xffff), set(256, wire{}.u32(1, 999).u8(uint8(len(ethTCP))).raw(ethTCP)))},
			want: []flow.Record{plain10(func(r *flow.Record) {
				sampledSYN(r)
				r.SamplingRate, r.SamplingSource = 1000, flow.SamplingRecord
			})},
		},
		{
			name:    "withdrawn template: data waits in vain",
			packets: [][]byte{ipfixMsg(0, 1, set(2, tplBasic)), ipfixMsg(0, 1, set(2, wire{}.u16(256, 0)), set(256, dataBasic))},
			notes:   []string{NoteTemplateWithdrawn, ReasonTemplateUnknown},
		},
		{
			name: "all templates withdrawn, options templates stay",
			packets: [][]byte{
				ipfixMsg(0, 1, set(2, tplBasic), set(3, wire{}.u16(257, 2, 1).u16(149, 4, 34, 4))),
				ipfixMsg(0, 1, set(2, wire{}.u16(2, 0)), set(257, wire{}.u32(1, 10)), set(2, tplBasic), set(256, dataBasic)),
			},
			want: []flow.Record{with(basic(flow.IPFIX, 1), func(r *flow.Record) {
				r.Start, r.End, r.Has = testNow, testNow, r.Has&^flow.HasTimes // uptime without system start
				r.SamplingRate, r.SamplingSource = 10, flow.SamplingOptions
			})},
			notes: []string{NoteTemplateWithdrawn},
		},
		{
			name:    "a redefined template is used from then on",
			packets: [][]byte{v9(0, 1, set(0, tplBasic)), v9(1, 1, template(4, 1), set(256, []byte{17}))},
			want:    []flow.Record{plain9(func(r *flow.Record) { r.IPProto, r.Has = 17, flow.HasIPProto })},
			notes:   []string{NoteTemplateChanged},
		},
		{
			name: "the last set runs over the message's length but not over the datagram",
			packets: [][]byte{func() []byte {
				p := ipfixMsg(0, 1, itemplate(4, 1), set(256, []byte{17, 17}))
				p[3] -= 2
				return p
			}()},
			want: []flow.Record{
				plain10(func(r *flow.Record) { r.IPProto, r.Has = 17, flow.HasIPProto }),
				plain10(func(r *flow.Record) { r.IPProto, r.Has = 17, flow.HasIPProto }),
			},
			notes: []string{NoteTrailing},
		},
		{name: "empty datagram", packets: [][]byte{{}}, notes: []string{ReasonShort}},
		{name: "v9 header cut", packets: [][]byte{v9(0, 1)[:19]}, notes: []string{ReasonShort}},
		{name: "v5 one byte short", packets: [][]byte{v5msg(0, 0, v5one)[:71]}, notes: []string{ReasonV5Count}},
		{name: "v5 without records", packets: [][]byte{v5msg(0, 0)}, notes: []string{ReasonV5Count}},
		{name: "IPFIX longer than the datagram", packets: [][]byte{ipfixMsg(0, 1, set(2, tplBasic))[:40]}, notes: []string{ReasonIPFIXLength}},
		{name: "NetFlow v7", packets: [][]byte{wire{}.u16(7, 1).raw(make([]byte, 80))}, notes: []string{ReasonVersion}},
		{name: "data shorter than a record", packets: [][]byte{v9(0, 1, set(0, tplBasic), set(256, dataBasic[:20]))}, notes: []string{ReasonDataBad}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := New(Config{}, Deps{})
			got := feed(d, tt.packets...)
			d.DropHeld()
			if diff := cmp.Diff(tt.want, got, cmpAddr); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			s := d.Stats()
			for _, n := range tt.notes {
				if s.Dropped[n]+s.SetsDropped[n]+s.RecordsDropped[n]+s.Notes[n] == 0 {
					t.Errorf("%s was not counted: %+v", n, s)
				}
			}
			if len(tt.notes) == 0 && len(s.Dropped)+len(s.SetsDropped)+len(s.RecordsDropped) > 0 {
				t.Errorf("something was dropped: %+v", s)
			}
			checkInvariant(t, d)
		})
	}
}

// sampledSYN is what ethTCP means.
func sampledSYN(r *flow.Record) {
	r.Src, r.Dst, r.SrcPort, r.DstPort = ad("192.0.2.1"), ad("198.51.100.1"), 40000, 22
	r.IPProto, r.TCPFlags, r.TTL, r.IPLen, r.Packets, r.Bytes = 6, flow.SYN, 255, 44, 1, 44
	r.SrcMAC, r.VLAN = [6]byte{2, 0, 0, 0, 0, 2}, 7
	r.Has = flow.HasIPProto | flow.HasPorts | flow.HasTCPFlags | flow.HasTTL | flow.HasIPLen | flow.HasSrcMAC | flow.HasVLAN
}

func TestSFlow(t *testing.T) {
	base := func(f func(*flow.Record)) flow.Record {
		return with(flow.Record{
			Exporter: ad("192.0.2.9"), Protocol: flow.SFlow5, Domain: 7, Received: testNow, Start: testNow, End: testNow, Packets: 1,
			SamplingRate: 1000, SamplingSource: flow.SamplingRecord, InIf: 1, OutIf: 2, Has: flow.HasInIf | flow.HasOutIf,
		}, f)
	}
	syn := func(f func(*flow.Record)) flow.Record {
		return base(func(r *flow.Record) {
			h := r.Has
			sampledSYN(r)
			r.Has |= h
			f(r)
		})
	}
	ipOnly := func(r *flow.Record) {
		r.SrcMAC, r.VLAN, r.Has = [6]byte{}, 0, r.Has&^(flow.HasSrcMAC|flow.HasVLAN)
	}
	tests := []struct {
		name   string
		sample []byte
		want   []flow.Record
		note   string
	}{
		{name: "Ethernet header with VLAN: the IP length, not the frame's", sample: flowSampleRaw(1000, 1, ethTCP), want: []flow.Record{syn(func(*flow.Record) {})}},
		{name: "IPv4 header", sample: flowSampleRaw(1000, 11, ipv4TCP), want: []flow.Record{syn(ipOnly)}},
		{
			name: "rate 0 is unknown", sample: flowSampleRaw(0, 11, ipv4TCP),
			want: []flow.Record{syn(func(r *flow.Record) { ipOnly(r); r.SamplingRate, r.SamplingSource = 0, flow.SamplingUnknown })},
		},
		{
			name: "rate of exactly a million", sample: flowSampleRaw(1_000_000, 11, ipv4TCP),
			want: []flow.Record{syn(func(r *flow.Record) { ipOnly(r); r.SamplingRate = 1_000_000 })},
		},
		{
			name: "rate over a million is refused", sample: flowSampleRaw(1_000_001, 11, ipv4TCP), note: NoteSamplingRefused,
			want: []flow.Record{syn(func(r *flow.Record) { ipOnly(r); r.SamplingRate, r.SamplingSource = 0, flow.SamplingUnknown })},
		},
		{
			name: "MPLS in Ethernet", want: []flow.Record{syn(func(r *flow.Record) { r.VLAN, r.Has = 0, r.Has&^flow.HasVLAN })},
			sample: flowSampleRaw(1000, 1, wire{}.raw(ethTCP[:12]).u16(0x8847).u32(0x00010040, 0x00020140).raw(ipv4TCP)),
		},
		{
			name: "a later fragment has no ports", sample: flowSampleRaw(1000, 11, ipv4(17, 1500, 185, make([]byte, 20))),
			want: []flow.Record{base(func(r *flow.Record) {
				r.Src, r.Dst, r.IPProto, r.TTL, r.IPLen, r.Bytes = ad("192.0.2.1"), ad("198.51.100.1"), 17, 255, 1500, 1500
				r.Has |= flow.HasIPProto | flow.HasTTL | flow.HasIPLen | flow.HasFragment
			})},
		},
		{
			name:   "IPv6 with hop-by-hop and destination options, then ICMPv6",
			sample: flowSampleRaw(1000, 12, ipv6(0, wire{}.u8(60, 0, 0, 0, 0, 0, 0, 0).u8(58, 1).raw(make([]byte, 14)).u8(128, 0, 0, 0))),
			want: []flow.Record{base(func(r *flow.Record) {
				r.Src, r.Dst, r.IPProto, r.TTL, r.IPLen, r.Bytes, r.ICMPType = ad("2001:db8::1"), ad("2001:db8::2"), 58, 64, 68, 68, 128
				r.Has |= flow.HasIPProto | flow.HasTTL | flow.HasIPLen | flow.HasICMP
			})},
		},
		{
			name: "IPv6 fragment, not the first", sample: flowSampleRaw(1000, 12, ipv6(44, wire{}.u8(17, 0).u16(185<<3).u32(1).u16(53, 53))),
			want: []flow.Record{base(func(r *flow.Record) {
				r.Src, r.Dst, r.IPProto, r.TTL, r.IPLen, r.Bytes = ad("2001:db8::1"), ad("2001:db8::2"), 17, 64, 52, 52
				r.Has |= flow.HasIPProto | flow.HasTTL | flow.HasIPLen | flow.HasFragment
			})},
		},
		{
			name: "IP length 0 (segmentation offload): the frame stands in for the bytes", sample: flowSampleRaw(1000, 11, ipv4(17, 0, 0, wire{}.u16(53, 53, 8, 0))),
			want: []flow.Record{base(func(r *flow.Record) {
				r.Src, r.Dst, r.SrcPort, r.DstPort, r.IPProto, r.TTL, r.Bytes = ad("192.0.2.1"), ad("198.51.100.1"), 53, 53, 17, 255, 28
				r.Has |= flow.HasIPProto | flow.HasTTL | flow.HasPorts
			})},
		},
		{
			name: "ARP: a record without addresses", sample: flowSampleRaw(1000, 1, wire{}.raw(ethTCP[:12]).u16(0x0806).raw(make([]byte, 28))),
			want: []flow.Record{base(func(r *flow.Record) { r.SrcMAC = [6]byte{2, 0, 0, 0, 0, 2}; r.Has |= flow.HasSrcMAC })},
		},
		{
			name: "parsed IPv4 record", sample: flowSampleOf(1000, wire{}.u32(3, 32).u32(44, 6).ip("192.0.2.1", "198.51.100.1").u32(40000, 22, 2, 0)),
			want: []flow.Record{syn(func(r *flow.Record) { ipOnly(r); r.TTL, r.Has = 0, r.Has&^flow.HasTTL })},
		},
		{
			name: "parsed IPv6 record", sample: flowSampleOf(1000, wire{}.u32(4, 56).u32(80, 17).ip("2001:db8::1", "2001:db8::2").u32(53, 5353, 0, 0)),
			want: []flow.Record{base(func(r *flow.Record) {
				r.Src, r.Dst, r.SrcPort, r.DstPort, r.IPProto, r.IPLen, r.Bytes = ad("2001:db8::1"), ad("2001:db8::2"), 53, 5353, 17, 80, 80
				r.Has |= flow.HasIPProto | flow.HasPorts | flow.HasIPLen
			})},
		},
		{
			name: "Ethernet record only", sample: flowSampleOf(1000, wire{}.u32(2, 24).u32(64).u8(2, 0, 0, 0, 0, 2, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0).u32(0x0800)),
			want: []flow.Record{base(func(r *flow.Record) { r.Has |= flow.HasSrcMAC; r.SrcMAC = [6]byte{2, 0, 0, 0, 0, 2} })},
		},
		{
			name: "a cut record costs itself, not the sample", sample: flowSampleOf(1000, wire{}.u32(3, 8).u32(44, 6), rawRecord(11, ipv4TCP)),
			want: []flow.Record{syn(ipOnly)}, note: NoteFlowRecordBad,
		},
		{
			name: "interfaces that are none", want: []flow.Record{base(func(r *flow.Record) { r.InIf, r.OutIf, r.Has = 0, 0, 0 })},
			sample: wire{}.u32(1, 32, 1, 3, 1000, 5000, 0, 0x3fffffff, 0x80000003, 0),
		},
		{
			name: "expanded, 32-bit interfaces", want: []flow.Record{base(func(r *flow.Record) { r.InIf, r.OutIf = 0x80000001, 9 })},
			sample: wire{}.u32(3, 44, 1, 0, 3, 1000, 5000, 0, 0, 0x80000001, 0, 9, 0),
		},
		{name: "counters", sample: wire{}.u32(2, 12, 1, 3, 0), note: NoteCounterSample},
		{name: "discarded packet", sample: wire{}.u32(5, 32, 1, 0, 3, 0, 1, 2, 3, 0), note: NoteDiscardedSample},
		{name: "a vendor's sample", sample: wire{}.u32(4413<<12|1, 4, 0), note: ReasonSampleForeign},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := New(Config{}, Deps{})
			got := feed(d, sflowMsg(1, tt.sample))
			if diff := cmp.Diff(tt.want, got, cmpAddr); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			s := d.Stats()
			if tt.note != "" && s.Notes[tt.note]+s.SetsDropped[tt.note] == 0 {
				t.Errorf("%s was not counted: %+v", tt.note, s)
			}
			checkInvariant(t, d)
		})
	}
}

func TestKindAndAllow(t *testing.T) {
	v5 := v5msg(0, 0, v5rec("192.0.2.1", "198.51.100.1", 1, 2, 6, 2, 1, 40))
	sf := sflowMsg(1, flowSampleRaw(1, 11, ipv4TCP))
	tests := []struct {
		name   string
		kind   Kind
		packet []byte
		allow  func(netip.Addr) bool
		want   int
		reason string
	}{
		{name: "any takes v5", kind: KindAny, packet: v5, want: 1},
		{name: "any takes sFlow", kind: KindAny, packet: sf, want: 1},
		{name: "sFlow on the NetFlow port", kind: KindNetFlow, packet: sf, reason: ReasonVersion},
		{name: "NetFlow on the sFlow port", kind: KindSFlow, packet: v5, reason: ReasonVersion},
		{name: "allowed", packet: v5, allow: func(a netip.Addr) bool { return a == ad("192.0.2.9") }, want: 1},
		{name: "not allowed", packet: v5, allow: func(netip.Addr) bool { return false }, reason: ReasonNotAllowed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := New(Config{Allow: tt.allow}, Deps{})
			n := 0
			// A v4 exporter on a v6 socket comes mapped; it is the same exporter.
			from := netip.AddrPortFrom(ad("::ffff:192.0.2.9"), 1)
			d.Decode(Datagram{Exporter: from, Received: testNow, Payload: tt.packet, Kind: tt.kind}, func(rs []flow.Record) {
				n += len(rs)
				for i := range rs {
					if rs[i].Exporter != ad("192.0.2.9") {
						t.Errorf("exporter %v", rs[i].Exporter)
					}
				}
			})
			s := d.Stats()
			if n != tt.want || tt.reason != "" && s.Dropped[tt.reason] != 1 {
				t.Errorf("%d records, %+v", n, s)
			}
			if tt.want == 0 && len(s.Exporters) != 0 {
				t.Errorf("a source without a valid datagram got state: %+v", s.Exporters)
			}
			checkInvariant(t, d)
		})
	}
}

func TestEmitPanicPasses(t *testing.T) {
	d := New(Config{}, Deps{})
	defer func() {
		if p := recover(); p != "caller's" {
			t.Errorf("recovered %v", p)
		}
	}()
	d.Decode(Datagram{Exporter: testExporter, Payload: v5msg(0, 0, v5rec("192.0.2.1", "198.51.100.1", 1, 2, 6, 2, 1, 40))}, func([]flow.Record) { panic("caller's") })
	t.Error("the panic was swallowed")
}

func TestState(t *testing.T) {
	d := New(Config{}, Deps{})
	feed(d,
		v9(0, 1, set(0, tplBasic), set(1, wire{}.u16(257, 4, 8).u16(1, 4).u16(48, 1, 50, 4)), set(257, wire{}.u32(0).u8(2).u32(500))),
		ipfixMsg(0, 1, set(2, wire{}.u16(300, 2).u16(82, 0xffff).u16(0x8001, 4).u32(29305))))
	var file bytes.Buffer
	if err := d.SaveState(&file); err != nil {
		t.Fatal(err)
	}
	saved := file.String()

	e := New(Config{}, Deps{})
	if err := e.LoadState(strings.NewReader(saved)); err != nil {
		t.Fatal(err)
	}
	got := feed(e, v9(1, 1, set(256, dataBasic)))
	want := []flow.Record{with(basic(flow.NetFlow9, 1), func(r *flow.Record) { r.SamplingRate, r.SamplingSource = 500, flow.SamplingOptions })}
	if diff := cmp.Diff(want, got, cmpAddr); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	for name, bad := range map[string]string{
		"empty":         "",
		"no JSON":       "flowcordon",
		"other JSON":    `{"a":1}`,
		"later version": strings.Replace(saved, `"flowcordon_decoder_state":1`, `"flowcordon_decoder_state":2`, 1),
		"cut":           saved[:len(saved)/2],
	} {
		f := New(Config{}, Deps{})
		if err := f.LoadState(strings.NewReader(bad)); !errors.Is(err, ErrState) {
			t.Errorf("%s: error %v", name, err)
		}
		if f.Stats().TemplatesKnown != 0 {
			t.Errorf("%s: something was loaded", name)
		}
	}
}
