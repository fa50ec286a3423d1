package decode

import (
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
	for b.Loop() {
		d.Decode(Datagram{Exporter: testExporter, Received: testNow, Payload: p}, emit)
	}
	if n == 0 {
		b.Fatal("no records")
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
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

func BenchmarkNetFlow9(b *testing.B) {
	benchDecode(b, v9(0, 1, set(0, tplBasic)), func(seq uint32) []byte { return v9(seq, 1, set(256, repeat(dataBasic, 40))) })
}

func BenchmarkIPFIX(b *testing.B) {
	benchDecode(b, ipfixMsg(0, 1, set(2, tplBasic)), func(seq uint32) []byte { return ipfixMsg(seq, 1, set(256, repeat(dataBasic, 40))) })
}

func BenchmarkSFlow(b *testing.B) {
	samples := make([][]byte, 8)
	for i := range samples {
		samples[i] = flowSampleRaw(1000, 1, ethTCP)
	}
	benchDecode(b, nil, func(seq uint32) []byte { return sflowMsg(seq, samples...) })
}
