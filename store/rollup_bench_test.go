package store_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// benchHours fills hours with the windows of n hosts as a hoster's are: each host
// in one of three windows, two services a window, a pair in one of four windows.
func benchHours(b *testing.B, cfg store.Config, hosts, hours int) {
	b.Helper()
	c := raw(b, cfg)
	addr := `toIPv6(concat('::ffff:', IPv4NumToString(toUInt32(3323068416 + n))))`
	counts := `1 + h % 3 AS r, h % 4, 3 * r, h % 13, r * (60 + h % 1400), (h % 4) * (60 + h % 1300)`
	for hour := range hours {
		from := epoch.Unix() + int64(hour)*3600
		rows := fmt.Sprintf("(SELECT intDiv(number, 120) AS n, %d + (number %% 120) * 30 + 10 * (n %% 3) AS at, sipHash64(number, %d) AS h FROM numbers(%d))", from, hour, hosts*120)
		for _, q := range []string{
			`INSERT INTO host_window (start, tenant, rate, out_records, in_records, out_packets, in_packets, out_bytes, in_bytes, syn_out, est_out, est_in, udp_out_packets)
				SELECT at, ` + addr + `, 1000, ` + counts + `, h % 7 = 0, h % 3, h % 4, h % 5 = 0 FROM ` + rows,
			`INSERT INTO service_window (start, tenant, rate, ip_proto, role, svc_port, out_records, in_records, out_packets, in_packets, out_bytes, in_bytes, syn_out, est_in, attempts, remotes)
				SELECT at, ` + addr + `, 1000, if(k = 0, 6, 17), 1 + k, [443, 53][k + 1], ` + counts + `, h % 7 = 0, h % 4, h % 7 = 0 AND k = 0 AS a, if(a, [sipHash64(n, h % 50)], [])
				FROM (SELECT *, arrayJoin([0, 1]) AS k FROM ` + rows + `)`,
			`INSERT INTO pair_window (start, tenant, rate, remote, ip_proto, out_records, in_records, out_packets, in_packets, out_bytes, in_bytes, est_out)
				SELECT at, ` + addr + `, 1000, toIPv6(concat('::ffff:', IPv4NumToString(toUInt32(sipHash64(n, h % 20))))), 6, ` + counts + `, 1 FROM ` + rows + ` WHERE h % 4 = 0`,
		} {
			if err := c.Exec(context.Background(), q); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkRollup: what summing an hour costs of the engine's time for a million
// rows of windows, and what each table takes on disk for a host and day. The
// insert itself costs what BenchmarkInsertTable says, with rollups as without.
func BenchmarkRollup(b *testing.B) {
	const hosts = 5000
	cfg := storetest.Config(b)
	s, _ := storetest.Start(b, cfg, store.Deps{})
	ctx := context.Background()
	if err := s.Migrate(ctx); err != nil {
		b.Fatal(err)
	}
	began := engineCPU(b)
	benchHours(b, cfg, hosts, 2)
	inserted := engineCPU(b) - began
	var rows uint64
	began = engineCPU(b)
	for b.Loop() {
		if err := raw(b, cfg).Exec(ctx, "TRUNCATE TABLE rollup"); err != nil { // all again
			b.Fatal(err)
		}
		r, err := s.Rollup(ctx, epoch.Add(24*time.Hour))
		if err != nil {
			b.Fatal(err)
		}
		rows = r.Rows
	}
	b.ReportMetric(float64(engineCPU(b)-began)/float64(b.N)/float64(rows)*1e6/1e9, "engine-s/Mrows")
	b.ReportMetric(float64(inserted)/float64(rows)*1e6/1e9, "insert-s/Mrows")
	for _, t := range []string{"host_window", "service_window", "pair_window", "host_1m", "host_1h", "service_1h", "pair_1h", "fleet_1m"} {
		if err := raw(b, cfg).Exec(ctx, "OPTIMIZE TABLE "+t+" FINAL"); err != nil {
			b.Fatal(err)
		}
		var bytes uint64
		if err := raw(b, cfg).QueryRow(ctx, "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase() AND table = '"+t+"'").Scan(&bytes); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(bytes)*12/hosts/float64(b.N), t+"-B/host-day")
	}
	day := flow.Range{From: epoch, To: epoch.Add(2 * time.Hour)}
	for name, res := range map[string]flow.Resolution{"10s": flow.ResolutionWindow, "1m": flow.ResolutionMinute, "1h": flow.ResolutionHour} {
		at := time.Now()
		const n = 20
		for i := range n {
			if _, err := s.History(ctx, flow.SeriesQuery{Tenant: netip.AddrFrom4([4]byte{198, 18, byte(i), 7}), Range: day, Step: time.Hour, Resolution: res}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(time.Since(at).Milliseconds())/n, name+"-ms/series")
	}
}

// BenchmarkFlowOnDisk: what a flow row takes in ClickHouse, merged.
func BenchmarkFlowOnDisk(b *testing.B) {
	cfg := storetest.Config(b)
	s, _ := storetest.Start(b, cfg, store.Deps{})
	ctx := context.Background()
	if err := s.Migrate(ctx); err != nil {
		b.Fatal(err)
	}
	g := newTraffic()
	rows := make([]flow.FlowRow, 8192)
	n, now := 0, epoch
	for b.Loop() {
		for range 60 { // half an hour of 270 rows a second
			g.flows(rows, now)
			if err := s.Write(&flow.Batch{Flows: rows}); err != nil {
				b.Fatal(err)
			}
			n, now = n+len(rows), now.Add(30*time.Second)
		}
	}
	if err := s.Sync(ctx); err != nil {
		b.Fatal(err)
	}
	if err := raw(b, cfg).Exec(ctx, "OPTIMIZE TABLE flows FINAL"); err != nil {
		b.Fatal(err)
	}
	var bytes uint64
	if err := raw(b, cfg).QueryRow(ctx, "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase() AND table = 'flows'").Scan(&bytes); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(bytes)/float64(n), "B/row")
}
