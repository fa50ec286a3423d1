package store_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// BenchmarkWrite: a batch into the spool, with nobody sending.
func BenchmarkWrite(b *testing.B) {
	batch := newGenerator(1).batch(2500) // 10,000 rows
	s, err := store.New(store.Config{Addr: []string{"127.0.0.1:1"}, SpoolDir: b.TempDir(), SpoolMaxBytes: 1 << 40}, store.Deps{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Write(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*batch.Rows())/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkInsert: from Write to ClickHouse's acknowledgement, all four tables.
func BenchmarkInsert(b *testing.B) {
	s := storetest.New(b)
	batch := newGenerator(1).batch(25_000) // 100,000 rows
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Write(batch); err != nil {
			b.Fatal(err)
		}
		if err := s.Sync(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*batch.Rows())/b.Elapsed().Seconds(), "rows/s")
}

// benchTenants is the size of BenchmarkDetector's fleet; the design's figure is
// 100,000.
func benchTenants(b *testing.B) int {
	b.Helper()
	v := os.Getenv("FLOWCORDON_BENCH_TENANTS")
	if v == "" {
		return 10_000
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		b.Fatalf("FLOWCORDON_BENCH_TENANTS: %v", err)
	}
	return n
}

// BenchmarkDetector: what one tick of the detector asks for, over 30 windows of
// a fleet in which each tenant has three services and two pairs in every window
// and tries six destinations of one service in 300 s (so that 2 % pass the
// screen of 12 attempts), and one in 2,000 scans.
func BenchmarkDetector(b *testing.B) {
	cfg := storetest.Config(b)
	s, _ := storetest.Start(b, cfg, store.Deps{})
	ctx := context.Background()
	if err := s.Migrate(ctx); err != nil {
		b.Fatal(err)
	}
	tenants := benchTenants(b)
	c := raw(b, cfg)
	for w := range 30 {
		start := epoch.Unix() + int64(w)*10
		for _, q := range []string{
			fmt.Sprintf(`INSERT INTO service_window (start, tenant, rate, ip_proto, role, svc_port, out_records, in_records, out_packets, in_packets, out_bytes, in_bytes, syn_out, est_out, est_in, attempts, remotes)
				SELECT %d, toIPv6(concat('::ffff:', IPv4NumToString(toUInt32(3323068416 + n)))), 1000, if(k = 2, 17, 6), 1, [443, 22, 53][k + 1],
				1 + h %% 5, h %% 7, 1 + h %% 5, h %% 7, h %% 9000, h %% 9000, a, 1, 1, a, arrayMap(i -> sipHash64(n, %d, i), range(a))
				FROM (SELECT intDiv(number, 3) AS n, number %% 3 AS k, sipHash64(number, %d) AS h,
					toUInt64(if(n %% 2000 = 7 AND k = 1, 20, if(k = 1, if(h %% 50 = 0, 2, 0), h %% 5 = 0))) AS a FROM numbers(%d))`, start, w, w, 3*tenants),
			fmt.Sprintf(`INSERT INTO pair_window (start, tenant, rate, remote, ip_proto, out_records, out_packets, in_packets, out_bytes, syn_out, syn_packets, ports)
				SELECT %d, toIPv6(concat('::ffff:', IPv4NumToString(toUInt32(3323068416 + n)))), 1000, toIPv6(concat('::ffff:', IPv4NumToString(toUInt32(sipHash64(n, number %% 2))))), 6,
				1 + h %% 3, if(n %% 2000 = 9, 500, 1 + h %% 3), h %% 3, h %% 5000, h %% 2, h %% 2, arrayMap(i -> toUInt16(sipHash64(h, i)), range(toUInt64(if(n %% 2000 = 11, 8, h %% 2))))
				FROM (SELECT intDiv(number, 2) AS n, number, sipHash64(number, %d) AS h FROM numbers(%d))`, start, w, 2*tenants),
			fmt.Sprintf(`INSERT INTO host_window (start, tenant, rate, out_records, out_packets, out_bytes, syn_out)
				SELECT %d, toIPv6(concat('::ffff:', IPv4NumToString(toUInt32(3323068416 + number)))), 1000, 3, 3, sipHash64(number) %% 5000, 1 FROM numbers(%d)`, start, tenants),
		} {
			if err := c.Exec(ctx, q); err != nil {
				b.Fatal(err)
			}
		}
	}
	all := flow.Range{From: epoch, To: epoch.Add(5 * time.Minute)}
	last := flow.Range{From: epoch.Add(4 * time.Minute), To: epoch.Add(5 * time.Minute)}
	tenant := epochTenant
	for _, q := range []struct {
		name string
		run  func() (int, error)
	}{
		{"ServiceStats/300s", func() (int, error) {
			l, err := s.ServiceStats(ctx, all, flow.ProtoTCP, 12)
			return len(l), err
		}},
		{"ServiceStats/60s", func() (int, error) {
			l, err := s.ServiceStats(ctx, last, flow.ProtoTCP, 12)
			return len(l), err
		}},
		{"ServiceStats/300s-everybody", func() (int, error) {
			l, err := s.ServiceStats(ctx, all, flow.ProtoTCP, 0)
			return len(l), err
		}},
		{"PairStats/300s", func() (int, error) {
			l, err := s.PairStats(ctx, all, flow.ProtoTCP, 1000, 30)
			return len(l), err
		}},
		{"PairStats/60s", func() (int, error) {
			l, err := s.PairStats(ctx, last, flow.ProtoTCP, 1000, 30)
			return len(l), err
		}},
		{"HostSeries", func() (int, error) {
			l, err := s.HostSeries(ctx, tenant, all, 10*time.Second)
			return len(l), err
		}},
		{"Top", func() (int, error) {
			l, err := s.Top(ctx, all, "out_bytes", 20)
			return len(l), err
		}},
		{"Outbound", func() (int, error) {
			_, err := s.Outbound(ctx, tenant, epoch)
			return 1, err
		}},
	} {
		b.Run(q.name, func(b *testing.B) {
			rows := 0
			for b.Loop() {
				n, err := q.run()
				if err != nil {
					b.Fatal(err)
				}
				rows = n
			}
			b.ReportMetric(float64(rows), "rows")
		})
	}
}
