package bundle

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// database is a store with rows of ours and of a neighbour, and a connection
// that asks it what people would.
func database(t *testing.T, b flow.Batch) (driver.Conn, *store.Store) {
	t.Helper()
	cfg := storetest.Config(t)
	s, _ := storetest.Start(t, cfg, store.Deps{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := s.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{"engine"}, DialContext: cfg.DialContext, Auth: clickhouse.Auth{Database: cfg.Database, Username: cfg.User, Password: cfg.Password},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for {
		var n, m uint64
		if err := conn.QueryRow(ctx, "SELECT (SELECT count() FROM flows), (SELECT count() FROM pair_window)").Scan(&n, &m); err != nil {
			t.Fatal(err)
		}
		if n == uint64(len(b.Flows)) && m == uint64(len(b.Pairs)) {
			return conn, s
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d of %d rows were stored", n, len(b.Flows))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// answers runs each question of the text and gives its columns by name.
func answers(t *testing.T, conn driver.Conn, text string) []map[string]string {
	t.Helper()
	var out []map[string]string
	for _, q := range strings.Split(regexp.MustCompile(`(?m)^--.*\n`).ReplaceAllString(text, ""), ";\n") {
		if strings.TrimSpace(q) == "" {
			continue
		}
		rows, err := conn.Query(t.Context(), q)
		if err != nil {
			t.Fatalf("%v\n%s", err, q)
		}
		m := map[string]string{}
		for rows.Next() {
			vals := make([]any, len(rows.Columns()))
			for i, c := range rows.ColumnTypes() {
				vals[i] = newOf(c)
			}
			if err := rows.Scan(vals...); err != nil {
				t.Fatal(err)
			}
			for i, c := range rows.Columns() {
				m[c] = deref(vals[i])
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatalf("%v\n%s", err, q)
		}
		_ = rows.Close()
		out = append(out, m)
	}
	return out
}

func newOf(c driver.ColumnType) any {
	switch c.DatabaseTypeName() {
	case "Float64":
		return new(float64)
	case "UInt32":
		return new(uint32)
	case "UInt64":
		return new(uint64)
	}
	return new(time.Time)
}

func deref(v any) string {
	switch v := v.(type) {
	case *float64:
		return fmt.Sprintf("%.3f", *v)
	case *uint32:
		return fmt.Sprint(*v)
	case *uint64:
		return fmt.Sprint(*v)
	case *time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	}
	return "?"
}

// The questions of a bundle, asked of the real database, give what the finding
// says was measured, and count no neighbour.
func TestRecomputed(t *testing.T) {
	in := scanned()
	flood := in.Incident.Findings[1].Remote
	b := flow.Batch{Flows: append([]flow.FlowRow(nil), in.Flows...)}
	other := in.Flows[0]
	other.Tenant, other.Host = neighbor, neighbor
	b.Flows = append(b.Flows, other)
	for w := range 6 {
		key := flow.Key{Start: begin.Add(time.Duration(w) * 10 * time.Second).Unix(), Tenant: tenant, Rate: 1000}
		scan := flow.ServiceWindow{Key: key, IPProto: flow.ProtoTCP, Role: flow.RoleClient, SvcPort: 22, Attempts: 100}
		scan.OutRecords, scan.OutPackets, scan.SYNOut = 100, 100, 100
		for i := range 100 {
			scan.Remotes = append(scan.Remotes, uint64(w*100+i)*0x9e3779b97f4a7c15)
		}
		pair := flow.PairWindow{Key: key, Remote: flood, IPProto: flow.ProtoUDP}
		pair.OutRecords, pair.OutPackets, pair.InPackets = 50, 50, 2
		host := flow.HostWindow{Key: key, UDPOutPackets: 50}
		host.OutRecords, host.OutPackets = 150, 150
		b.Services, b.Pairs, b.Hosts = append(b.Services, scan), append(b.Pairs, pair), append(b.Hosts, host)
		scan.Tenant, pair.Tenant, host.Tenant = neighbor, neighbor, neighbor
		b.Services, b.Pairs, b.Hosts = append(b.Services, scan), append(b.Pairs, pair), append(b.Hosts, host)
	}
	conn, s := database(t, b)
	in.Incident.Findings = append(in.Incident.Findings,
		flow.Finding{Rule: flow.RulePacketFlood, SamplingRate: 1000, From: begin, To: begin.Add(time.Minute)},
		flow.Finding{Rule: "x'; DROP TABLE flows; --\nDROP TABLE flows;", ConfigHash: "\nDROP TABLE flows;\n", Remote: netip.MustParseAddr("2608::1"), From: begin, To: begin.Add(time.Minute)},
	)
	got := answers(t, conn, recompute(in))
	want := []map[string]string{
		{"least_rate": "1000", "greatest_rate": "1000", "out_records": "600", "out_packets": "600", "est_packets_per_s": "10000.000", "attempts": "600", "syn_out": "600", "distinct_remotes": "600"},
		{"rows": "600", "packets": "600", "est_packets": "600000", "distinct_addresses": "600", "distinct_ports": "1", "first": "2026-11-22T06:52:00Z", "last": "2026-11-22T06:52:59.9Z"},
		{"out_packets": "300", "est_packets_per_s": "5000.000", "in_packets": "12"},
		{"rows": "300", "est_packets": "300000", "distinct_addresses": "1"},
		{"out_packets": "900", "est_packets_per_s": "15000.000", "udp_out_packets": "300"},
		{"rows": "900", "distinct_addresses": "601"},
		{"out_packets": "0"},
		{"rows": "0"},
	}
	if len(got) != len(want) {
		t.Fatalf("%d answers, want %d: %v", len(got), len(want), got)
	}
	for i, w := range want {
		for k, v := range w {
			if got[i][k] != v {
				t.Errorf("question %d: %s is %q, want %q", i+1, k, got[i][k], v)
			}
		}
	}
	collected(t, s)
}

// collected makes a bundle of what the store gives by itself.
func collected(t *testing.T, s *store.Store) {
	t.Helper()
	inc := scanned().Incident
	e := scanned().Evidence[0]
	if err := s.SaveEvidence(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	inc.Evidence = []string{e.Incident}
	in, err := Collect(t.Context(), s, inc, begin.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	var sent uint64
	for _, p := range in.Series {
		sent += p.EstOutPackets
	}
	if len(in.Flows) != 900 || in.Truncated || len(in.Evidence) != 1 || len(in.Evidence[0].Logs) != 2 || sent != 900_000 {
		t.Errorf("%d rows, truncated %t, %d stages, %d packets in the series", len(in.Flows), in.Truncated, len(in.Evidence), sent)
	}
	if in.Shown.From.After(begin.Add(-around)) || in.Shown.To.Before(inc.Action.Done.Add(around)) || in.Step != defaultStep {
		t.Errorf("shown %v by %s", in.Shown, in.Step)
	}
	text := packetsSVG(in)
	if !strings.Contains(text, "cut 06:53:02") || strings.Count(text, `class="v"`) != 6 {
		t.Errorf("the picture:\n%s", text)
	}
	now := begin.Add(30 * time.Second)
	if in, err = Collect(t.Context(), s, inc, now); err != nil || in.Shown.To.After(now) || len(in.Flows) != 450 {
		t.Errorf("looked into the future: %v, %v, %d rows", err, in.Shown, len(in.Flows))
	}
	inc.Evidence = []string{"FC-NONE"}
	if _, err := Collect(t.Context(), s, inc, begin); err == nil {
		t.Error("evidence that is not there was passed over")
	}
}

// A sample of the destinations gives an estimate of their number.
func TestRecomputedSample(t *testing.T) {
	b := flow.Batch{}
	w := flow.ServiceWindow{Key: flow.Key{Start: begin.Unix(), Tenant: tenant, Rate: 1}, IPProto: flow.ProtoTCP, Role: flow.RoleClient, SvcPort: 22, Attempts: 10_000, RemotesLevel: 2}
	for i := range 1000 {
		w.Remotes = append(w.Remotes, uint64(i+1)<<2)
	}
	b.Services = append(b.Services, w)
	w.RemotesLevel, w.Remotes, w.Start = 0, []uint64{3, 5 << 2, 4000 << 2}, w.Start+10 // one known, one not of the sample, one new
	b.Services = append(b.Services, w)
	b.Flows = []flow.FlowRow{scanned().Flows[0]}
	b.Pairs = []flow.PairWindow{{Key: w.Key, Remote: neighbor}}
	in := scanned()
	in.Incident.Findings = in.Incident.Findings[:1]
	conn, _ := database(t, b)
	if got := answers(t, conn, recompute(in)); got[0]["distinct_remotes"] != "4004" {
		t.Errorf("%v, want 4 times 1001", got[0])
	}
}
