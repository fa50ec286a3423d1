package store_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

const dashboards = "../deploy/grafana/dashboards/*.json"

type grafanaPanel struct {
	ID         int
	Title      string
	Type       string
	Datasource struct{ Type, UID string }
	Targets    []struct {
		RawSQL     string
		QueryType  string
		Expr       string
		Datasource struct{ Type, UID string }
	}
	FieldConfig struct {
		Overrides []struct {
			Matcher struct {
				ID      string
				Options string
			}
		}
	}
}

type grafanaDashboard struct {
	file   string
	ID     *int
	UID    string
	Title  string
	Panels []grafanaPanel

	Templating struct{ List []struct{ Name string } }
}

func readDashboards(t *testing.T) []grafanaDashboard {
	t.Helper()
	files, err := filepath.Glob(dashboards)
	if err != nil || len(files) < 7 {
		t.Fatalf("%d dashboards, %v", len(files), err)
	}
	var all []grafanaDashboard
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		d := grafanaDashboard{file: filepath.Base(f)}
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all = append(all, d)
	}
	return all
}

// expand writes Grafana's macros and variables as its ClickHouse plugin does.
func expand(sql string, r flow.Range, vars map[string]string) string {
	at := func(v time.Time) string { return fmt.Sprintf("toDateTime(%d)", v.Unix()) }
	sql = regexp.MustCompile(`\$__timeFilter\((\w+)\)`).ReplaceAllString(sql, "$1 >= "+at(r.From)+" AND $1 <= "+at(r.To))
	sql = regexp.MustCompile(`\$__timeInterval\((\w+)\)`).ReplaceAllString(sql, "toStartOfInterval(toDateTime($1), INTERVAL 60 second)")
	for name, v := range vars {
		sql = strings.ReplaceAll(sql, "${"+name+":sqlstring}", "'"+v+"'")
	}
	return strings.NewReplacer("$__fromTime", at(r.From), "$__toTime", at(r.To), "$__interval_s", "60").Replace(sql)
}

// seedDashboards stores rows of each kind, an hour rolled up and one not.
func seedDashboards(t *testing.T) (store.Config, flow.Range) {
	t.Helper()
	cfg := storetest.Config(t)
	s, _ := storetest.Start(t, cfg, store.Deps{})
	ctx := within(t, 2*time.Minute)
	if err := s.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	g := newGenerator(21)
	b := spread(g, g.batch(2000), 2)
	tenant := netip.MustParseAddr("198.18.0.3")
	for i := range int64(60) { // SYNs without answers
		b.Hosts = append(b.Hosts, flow.HostWindow{Key: flow.Key{Start: epoch.Unix() + 10*i, Tenant: netip.MustParseAddr("198.18.0.99"), Rate: 1}, Classes: flow.Classes{SYNOut: 9}})
	}
	b.Flows = []flow.FlowRow{{Time: epoch.Add(time.Minute).UnixNano(), Exporter: netip.MustParseAddr("192.0.2.1"), Tenant: tenant, Host: tenant, Remote: tenant, Rate: 1}}
	write(t, s, b)
	rollUp(t, s, epoch.Add(75*time.Minute), 1)
	f := flow.Finding{Time: epoch.Add(time.Minute), Tenant: tenant, Rule: flow.RuleNetscan, Tier: flow.TierNotify, Reason: "many", From: epoch, To: epoch.Add(time.Minute)}
	if err := s.SaveFindings(ctx, []flow.Finding{f}); err != nil {
		t.Fatal(err)
	}
	at := epoch.Add(2 * time.Minute)
	if err := s.AppendEvents(ctx, []flow.Event{{Seq: 1, Time: at, Incident: "i-1", Kind: "opened", Actor: "detector", Reason: "finding"}, {Seq: 2, Time: at, Incident: "i-1", Kind: "held", Actor: "detector", Reason: "cap"}}); err != nil {
		t.Fatal(err)
	}
	id := "netscan/198.18.0.3/2026-03-01"
	if err := s.AppendLedger(ctx, []flow.Event{{Time: at, Kind: "case", Incident: id, Body: json.RawMessage(`{"tier":"notify"}`)},
		{Time: at, Kind: "mark", Incident: id, Actor: "anna", Body: json.RawMessage(`{"verdict":"wrong"}`)}}); err != nil {
		t.Fatal(err)
	}
	return cfg, flow.Range{From: epoch.Add(-time.Minute), To: epoch.Add(2 * time.Hour)}
}

// Every panel's SQL gives rows on seeded tables, with the columns that the panel
// names and no nameless one; a time series has its time first.
func TestDashboardQueries(t *testing.T) {
	cfg, r := seedDashboards(t)
	c := raw(t, cfg)
	panels := 0
	for _, d := range readDashboards(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				if q.RawSQL == "" {
					continue
				}
				panels++
				sql := expand(q.RawSQL, r, map[string]string{"tenant": "198.18.0.3"})
				if strings.Contains(sql, "$") {
					t.Errorf("%s, %s: a macro or variable is left: %s", d.file, p.Title, sql)
					continue
				}
				checkPanel(t, c, d.file, p, sql)
			}
		}
	}
	if panels < 20 {
		t.Errorf("only %d queries were found", panels)
	}
}

func checkPanel(t *testing.T, c driver.Conn, file string, p grafanaPanel, sql string) {
	t.Helper()
	rows, err := c.Query(within(t, time.Minute), sql)
	if err != nil {
		t.Errorf("%s, %s: %v\n%s", file, p.Title, err, sql)
		return
	}
	defer func() { _ = rows.Close() }()
	cols := rows.Columns()
	n := 0
	for rows.Next() {
		n++
	}
	if err := rows.Err(); err != nil || n == 0 {
		t.Errorf("%s, %s: %d rows, %v\n%s", file, p.Title, n, err, sql)
	}
	named := 0
	for _, o := range p.FieldConfig.Overrides {
		if named++; !slices.Contains(cols, o.Matcher.Options) {
			t.Errorf("%s, %s: names the column %q, the query gives %q", file, p.Title, o.Matcher.Options, cols)
		}
	}
	if named == 0 {
		t.Errorf("%s, %s: names no column", file, p.Title)
	}
	if p.Type == "timeseries" {
		if typ := rows.ColumnTypes()[0].DatabaseTypeName(); cols[0] != "time" || !strings.HasPrefix(typ, "DateTime") {
			t.Errorf("%s, %s: the first column is %s %s, want a time", file, p.Title, cols[0], typ)
		}
	}
}

// The dashboards' traffic is that of the API, with rolled up hours and without.
func TestDashboardTrafficIsTheHosts(t *testing.T) {
	cfg, r := seedDashboards(t)
	s := idle(t, cfg, store.Deps{})
	age(t, cfg, time.Minute)
	want := uint64(0)
	series, err := s.History(within(t, time.Minute), flow.SeriesQuery{Tenant: netip.MustParseAddr("198.18.0.3"), Range: r, Step: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range series.Points {
		want += p.EstOutPackets
	}
	for _, d := range readDashboards(t) {
		for _, p := range d.Panels {
			if d.UID != "flowcordon-host" || p.Title != "Packets" {
				continue
			}
			var got float64
			sql := "SELECT sum(out) * 60 FROM (" + expand(p.Targets[0].RawSQL, r, map[string]string{"tenant": "198.18.0.3"}) + ")"
			if err := raw(t, cfg).QueryRow(within(t, time.Minute), sql).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if want == 0 || got < float64(want)*0.999999 || got > float64(want)*1.000001 {
				t.Errorf("the panel has %.0f packets, the series %d", got, want)
			}
			return
		}
	}
	t.Error("there is no panel of a host's packets")
}

// What Grafana needs of the files: ids of dashboards are its own, uids are
// unique, and only provisioned data sources are named.
func TestDashboardFiles(t *testing.T) {
	b, err := os.ReadFile("../deploy/grafana/provisioning/datasources/flowcordon.yaml")
	if err != nil {
		t.Fatal(err)
	}
	uids := map[string]string{}
	provisioned := func(of, uid string) {
		t.Helper()
		if uid == "" || !strings.Contains(string(b), "uid: "+uid+"\n") {
			t.Errorf("%s: the data source %q is not provisioned", of, uid)
		}
	}
	for _, d := range readDashboards(t) {
		if d.ID != nil {
			t.Errorf("%s: has an id of somebody's Grafana", d.file)
		}
		if d.UID == "" || uids[d.UID] != "" {
			t.Errorf("%s: uid %q is also that of %q", d.file, d.UID, uids[d.UID])
		}
		uids[d.UID] = d.file
		ids := map[int]bool{}
		for _, p := range d.Panels {
			if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 {
				t.Errorf("%s: panel %d, %q: its id is there twice, or it has no title or query", d.file, p.ID, p.Title)
			}
			ids[p.ID] = true
			provisioned(d.file+", "+p.Title, p.Datasource.UID)
			for _, q := range p.Targets {
				provisioned(d.file+", "+p.Title, q.Datasource.UID)
				if (q.RawSQL == "") == (q.Expr == "") {
					t.Errorf("%s, %s: wants SQL or PromQL", d.file, p.Title)
				}
			}
		}
	}
}
