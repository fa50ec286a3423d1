package decode

import (
	"testing"

	"github.com/flowcordon/flowcordon/flow"
)

// Headers of 128 bytes, as switches sample them.
func header128(b []byte) wire { return append(wire{}, append(b, make([]byte, 128)...)[:128]...) }

var (
	benchTCP = header128(wire{}.u8(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2).u16(0x0800).
			raw(ipv4(6, 1500, 0, wire{}.u16(40000, 443).u32(1, 1).u8(0x50, 0x10).u16(1024, 0, 0))))
	benchVLAN = header128(wire{}.u8(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2).u16(0x88a8, 100, 0x8100, 7, 0x0800).
			raw(ipv4(6, 1500, 0, wire{}.u16(40000, 443).u32(1, 1).u8(0x50, 0x10).u16(1024, 0, 0))))
	benchIPv6 = header128(wire{}.u8(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2).u16(0x86dd).
			raw(ipv6(6, wire{}.u16(40000, 443).u32(1, 1).u8(0x50, 0x10).u16(1024, 0, 0))))
	benchVXLAN = header128(wire{}.u8(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2).u16(0x0800).
			raw(ipv4(17, 1550, 0, wire{}.u16(40000, 4789, 1530, 0).u8(8, 0, 0, 0, 0, 0, 7, 0).raw(benchTCP))))
)

// sflowBenchMsg is a datagram of seven samples from seven ports, the most that
// fit into 1,500 bytes, as a switch sends them: header and switch record.
func sflowBenchMsg(seq uint32, header []byte) []byte {
	samples := make([][]byte, 7)
	for i := range samples {
		records := wire{}.raw(rawRecord(1, header)).u32(1001, 16, 100, 0, 200, 0)
		body := wire{}.u32(seq, uint32(i+1), 1000, seq*1000, 0, uint32(i+1), 2, 2).raw(records)
		samples[i] = wire{}.u32(1, uint32(len(body))).raw(body)
	}
	return sflowMsg(seq, samples...)
}

func BenchmarkSFlowSample(b *testing.B) {
	for _, c := range []struct {
		name   string
		header []byte
		inner  bool
	}{{"TCP", benchTCP, false}, {"VLAN", benchVLAN, false}, {"IPv6", benchIPv6, false}, {"VXLAN", benchVXLAN, false}, {"VXLAN-inner", benchVXLAN, true}} {
		b.Run(c.name, func(b *testing.B) {
			d := New(Config{Inner: c.inner}, Deps{})
			const n = 64
			var msgs [n][]byte
			for i := range msgs {
				msgs[i] = sflowBenchMsg(uint32(i), c.header)
			}
			records, i := 0, 0
			emit := func(rs []flow.Record) { records += len(rs) }
			b.SetBytes(int64(len(msgs[0])))
			b.ReportAllocs()
			for b.Loop() {
				d.Decode(Datagram{Exporter: testExporter, Received: testNow, Payload: msgs[i%n], Kind: KindSFlow}, emit)
				i++
			}
			if records != 7*i {
				b.Fatalf("%d records of %d", records, 7*i)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(records), "ns/sample")
			b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
