package decode

import (
	"syscall"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
)

// benchDecode decodes one datagram again and again and reports what a record
// costs.
func benchDecode(b *testing.B, first []byte, next func(seq uint32) []byte) {
	d := New(Config{}, Deps{})
	var n int
	emit := func(rs []flow.Record) { n += len(rs) }
	if first != nil {
		d.Decode(Datagram{Exporter: testExporter, Received: testNow, Payload: first}, emit)
	}
	p := next(1)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	before := n
	cpu := cpuTime(b)
	for b.Loop() {
		d.Decode(Datagram{Exporter: testExporter, Received: testNow, Payload: p}, emit)
	}
	if n == 0 {
		b.Fatal("no records")
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(n-before), "cpu-ns/record")
}

// cpuTime is what the process has used, user and system, in ns: on a machine
// with other work the time on the wall says little.
func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func repeat(rec []byte, n int) wire {
	var w wire
	for range n {
		w = w.raw(rec)
	}
	return w
}

func BenchmarkNetFlow5(b *testing.B) {
	rec := v5rec("192.0.2.1", "198.51.100.1", 40000, 22, 6, 2, 3, 132)
	recs := make([][]byte, 30)
	for i := range recs {
		recs[i] = rec
	}
	benchDecode(b, nil, func(seq uint32) []byte { return v5msg(seq, 100, recs...) })
}

// tplUsual is template 256 as routers send it, 20 fields: addresses, ports,
// protocol, flags, class of service, counters, interfaces, times, next hop, AS
// numbers, masks and direction.
func tplUsual(times ...uint16) wire {
	return wire{}.u16(256, 20).u16(8, 4, 12, 4, 7, 2, 11, 2, 4, 1, 6, 1, 5, 1, 2, 4, 1, 4, 10, 4, 14, 4).u16(times...).
		u16(15, 4, 16, 4, 17, 4, 9, 1, 13, 1, 61, 1, 60, 1)
}

// dataUsual is one record of it.
func dataUsual(i int, times wire) wire {
	proto := []uint8{6, 6, 17, 6, 1}[i%5]
	return wire{}.ip("192.0.2.1").u32(0xc6336400+uint32(i)).u16(uint16(40000+i), 443).u8(proto, 0x1b, 0).
		u32(uint32(i+1), uint32(i+1)*900, 3, uint32(4+i%3)).raw(times).ip("198.51.100.254").u32(64500, 64501).u8(24, 24, 1, 4)
}

func usual(n int, times wire) wire {
	var w wire
	for i := range n {
		w = w.raw(dataUsual(i, times))
	}
	return w
}

var (
	uptimes   = wire{}.u32(testUptime-3000, testUptime-1000)
	absolutes = wire{}.u64(uint64(testNow/1e6)-3000, uint64(testNow/1e6)-1000)
)

func BenchmarkNetFlow9(b *testing.B) {
	benchDecode(b, v9(0, 1, set(0, tplUsual(22, 4, 21, 4))), func(seq uint32) []byte { return v9(seq, 1, set(256, usual(24, uptimes))) })
}

func BenchmarkIPFIX(b *testing.B) {
	benchDecode(b, ipfixMsg(0, 1, set(2, tplUsual(152, 8, 153, 8))), func(seq uint32) []byte { return ipfixMsg(seq, 1, set(256, usual(21, absolutes))) })
}

// The same with a sampler's rate from options data, looked up by interface.
func BenchmarkIPFIXSampled(b *testing.B) {
	options := wire{}.raw(set(3, wire{}.u16(257, 2, 1, 10, 4, 34, 4)), set(257, wire{}.u32(3, 1000, 4, 2000)))
	benchDecode(b, ipfixMsg(0, 1, set(2, tplUsual(152, 8, 153, 8)), options), func(seq uint32) []byte { return ipfixMsg(seq, 1, set(256, usual(21, absolutes))) })
}

// Two names of variable length in each record, one before all else.
func BenchmarkIPFIXVariable(b *testing.B) {
	tpl := wire{}.u16(256, 22).u16(82, 0xffff).raw(tplUsual(152, 8, 153, 8)[4:]).u16(83, 0xffff)
	var body wire
	for i := range 16 {
		body = body.u8(5).raw([]byte("eth-0")).raw(dataUsual(i, absolutes)).u8(11).raw([]byte("to customer"))
	}
	benchDecode(b, ipfixMsg(0, 1, set(2, tpl)), func(seq uint32) []byte { return ipfixMsg(seq, 1, set(256, body)) })
}

// A template that is read by the ops: it states the sampling interval.
func BenchmarkIPFIXRules(b *testing.B) {
	tpl := tplUsual(152, 8, 153, 8)
	tpl = wire{}.u16(256, 21).raw(tpl[4:]).u16(305, 4)
	var body wire
	for i := range 20 {
		body = body.raw(dataUsual(i, absolutes)).u32(1000)
	}
	benchDecode(b, ipfixMsg(0, 1, set(2, tpl)), func(seq uint32) []byte { return ipfixMsg(seq, 1, set(256, body)) })
}

func BenchmarkSFlow(b *testing.B) {
	samples := make([][]byte, 8)
	for i := range samples {
		samples[i] = flowSampleRaw(1000, 1, ethTCP)
	}
	benchDecode(b, nil, func(seq uint32) []byte { return sflowMsg(seq, samples...) })
}
