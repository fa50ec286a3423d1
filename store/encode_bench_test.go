package store

import (
	"testing"

	"github.com/flowcordon/flowcordon/flow"
)

// BenchmarkEncode: rows to frames in memory, without the spool.
func BenchmarkEncode(b *testing.B) {
	all := many(extremes(), 8192)
	for i := range all.Hosts { // one window, few arrays
		all.Hosts[i].Start, all.Services[i].Start, all.Pairs[i].Start, all.Flows[i].Time = 1e9, 1e9, 1e9, 1e18+int64(i)
		if i%4 > 0 {
			all.Services[i].Remotes, all.Pairs[i].Ports = nil, nil
		}
	}
	for _, tt := range []struct {
		name     string
		batch    *flow.Batch
		compress bool
	}{
		{"host", &flow.Batch{Hosts: all.Hosts}, false},
		{"service", &flow.Batch{Services: all.Services}, false},
		{"pair", &flow.Batch{Pairs: all.Pairs}, false},
		{"flow", &flow.Batch{Flows: all.Flows}, false},
		{"flow/lz4", &flow.Batch{Flows: all.Flows}, true},
	} {
		b.Run(tt.name, func(b *testing.B) {
			var e encoder
			var pool buffers
			b.ReportAllocs()
			for b.Loop() {
				buf, err := e.encode(tt.batch, &pool, tt.compress)
				if err != nil {
					b.Fatal(err)
				}
				pool.put(buf)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*tt.batch.Rows()), "ns/row")
		})
	}
}
