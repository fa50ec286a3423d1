package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// cost is what the engine did for the questions asked with its context.
type cost struct{ queries, cpu, rows, bytes, marks, parts int64 }

func (c *cost) context(ctx context.Context) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithProfileEvents(func(l []clickhouse.ProfileEvent) {
		for _, e := range l {
			switch e.Name {
			case "UserTimeMicroseconds", "SystemTimeMicroseconds":
				c.cpu += e.Value
			case "SelectedRows":
				c.rows += e.Value
			case "SelectedBytes":
				c.bytes += e.Value
			case "SelectedMarks":
				c.marks += e.Value
			case "SelectedParts":
				c.parts += e.Value
			case "SelectQuery":
				c.queries += e.Value
			}
		}
	}))
}

// fillDesk stores what a desk asks of: an hour of windows of n hosts and a quarter of
// an hour of flow rows in merged parts, and on top what has just come in, in parts of
// a second's insert that no merge has seen yet.
func fillDesk(b *testing.B, cfg store.Config, hosts int, now time.Time) {
	b.Helper()
	c := raw(b, cfg)
	ctx := clickhouse.Context(context.Background(), clickhouse.WithSettings(clickhouse.Settings{"max_insert_block_size": 4_000_000, "min_insert_block_size_rows": 4_000_000}))
	run := func(q string) {
		if err := c.Exec(ctx, q); err != nil {
			b.Fatal(err)
		}
	}
	addr := `toIPv6(concat('::ffff:', IPv4NumToString(toUInt32(184549376 + n))))`
	counts := `1 + h % 3 AS r, h % 4, 3 * r, h % 13, r * (60 + h % 1400), (h % 4) * (60 + h % 1300)`
	windows := func(from time.Time, seconds, first, n int) {
		rows := fmt.Sprintf("(SELECT %d + number %% %d AS n, %d + 10 * intDiv(number, %d) AS at, sipHash64(number, at) AS h FROM numbers(%d))", first, n, from.Unix(), n, n*seconds/10)
		run(`INSERT INTO host_window (start, tenant, rate, out_records, in_records, out_packets, in_packets, out_bytes, in_bytes, syn_out, est_out, est_in, udp_out_packets)
			SELECT at, ` + addr + `, 1000, ` + counts + `, h % 7 = 0, h % 3, h % 4, h % 5 = 0 FROM ` + rows)
		run(`INSERT INTO service_window (start, tenant, rate, ip_proto, role, svc_port, out_records, in_records, out_packets, in_packets, out_bytes, in_bytes, syn_out, est_in, attempts, remotes)
			SELECT at, ` + addr + `, 1000, if(k = 1, 17, 6), 1 + k % 2, [443, 53, 22][k + 1], ` + counts + `, h % 7 = 0, h % 4, h % 7 = 0 AND k = 0 AS a, if(a, [sipHash64(n, h % 50)], [])
			FROM (SELECT *, arrayJoin([0, 1, 2]) AS k FROM ` + rows + `)`)
	}
	flows := func(from time.Time, seconds, n int) {
		run(fmt.Sprintf(`INSERT INTO flows (time, start, end, exporter, tenant, host, remote, host_port, remote_port, svc_port, dir, ip_proto, role, class, tcp_flags, packets, bytes, ip_len, ttl, rate, in_if, out_if)
			SELECT fromUnixTimestamp64Milli(toInt64(%d + h %% %d), 'UTC') AS t, t, t, toIPv6('::ffff:192.0.2.1'), %s, %[3]s, toIPv6(concat('::ffff:', IPv4NumToString(toUInt32(h)))), 32768 + h %% 28000, p, [443, 53, 22, 80, 25][h %% 5 + 1] AS p, 1, 6, 1, 1, 2, 1 + h %% 9, 60, 60, 63, 1000, 3, 1
			FROM (SELECT sipHash64(number, %[1]d) AS h, h %% %[5]d AS n FROM numbers(%[4]d))`, from.UnixMilli(), seconds*1000, addr, n, hosts))
	}
	windows(now.Add(-time.Hour), 3540, 0, hosts)
	flows(now.Add(-15*time.Minute), 840, 840*15_000)
	for _, t := range []string{"host_window", "service_window", "flows"} {
		run("OPTIMIZE TABLE " + t)
		run("SYSTEM STOP MERGES " + t)
	}
	for s := range 30 { // ten inserts a window, each of a tenth of the hosts
		windows(now.Add(time.Duration(s/10*10-60)*time.Second), 10, s%10*hosts/10, hosts/10)
		flows(now.Add(time.Duration(s-60)*time.Second), 2, 15_000)
	}
}

// BenchmarkReadCost: what the questions of a desk cost the engine while all hosts'
// windows come in (FLOWCORDON_BENCH_TENANTS; six minutes for 50,000): CPU, rows, bytes and marks read, parts touched.
func BenchmarkReadCost(b *testing.B) {
	hosts := benchTenants(b)
	cfg := storetest.Config(b)
	s, _ := storetest.Start(b, cfg, store.Deps{})
	if err := s.Migrate(context.Background()); err != nil {
		b.Fatal(err)
	}
	now := time.Now().UTC().Truncate(10 * time.Second)
	fillDesk(b, cfg, hosts, now)
	rng := rand.New(rand.NewPCG(1, 2))
	host := func() netip.Addr {
		return netip.AddrFrom4([4]byte{11, 0, byte(rng.IntN(hosts) >> 8), byte(rng.IntN(256))})
	}
	back := func(d time.Duration) flow.Range { return flow.Range{From: now.Add(-d), To: now} }
	for _, q := range []struct {
		what string
		ask  func(ctx context.Context) (int, error)
	}{
		{"nothing", func(ctx context.Context) (int, error) {
			_, err := s.FlowsSince(ctx)
			return 1, err
		}},
		{"host's hour", func(ctx context.Context) (int, error) {
			l, err := s.HostSeries(ctx, host(), back(time.Hour), 10*time.Second)
			return len(l), err
		}},
		{"host's flows", func(ctx context.Context) (int, error) {
			l, err := s.Flows(ctx, flow.FlowQuery{Tenant: host(), Range: back(15 * time.Minute), SvcPort: -1, Limit: 201, Newest: true})
			return len(l), err
		}},
		{"tenant's SSH", func(ctx context.Context) (int, error) {
			h := host()
			l, err := s.SearchFlows(ctx, flow.FlowSearch{Range: back(15 * time.Minute), Of: []flow.Held{{Prefix: netip.PrefixFrom(h, 32)}}, Ports: []uint16{22}, Newest: true, Limit: 201})
			return len(l), err
		}},
		{"top 20 of 5 min", func(ctx context.Context) (int, error) {
			l, err := s.Top(ctx, back(5*time.Minute), "out_bytes", 20)
			return len(l), err
		}},
		{"top 100 of an hour", func(ctx context.Context) (int, error) {
			l, err := s.Top(ctx, back(time.Hour), "out_bytes", 100)
			return len(l), err
		}},
	} {
		b.Run(q.what, func(b *testing.B) {
			var c cost
			ctx := c.context(context.Background())
			rows := 0
			before := engineCPU(b)
			for b.Loop() {
				n, err := q.ask(ctx)
				if err != nil {
					b.Fatal(err)
				}
				rows += n
			}
			n := float64(b.N)
			b.ReportMetric(float64(engineCPU(b)-before)/1e3/n, "engine-us/op")
			b.ReportMetric(float64(c.cpu)/n, "query-us/op")
			b.ReportMetric(float64(c.rows)/n, "read-rows/op")
			b.ReportMetric(float64(c.bytes)/n, "read-B/op")
			b.ReportMetric(float64(c.marks)/n, "marks/op")
			b.ReportMetric(float64(c.parts)/n, "parts/op")
			b.ReportMetric(float64(c.queries)/n, "queries/op")
			b.ReportMetric(float64(rows)/n, "rows/op")
		})
	}
}
