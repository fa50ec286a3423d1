package api

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

func TestHost(t *testing.T) {
	b := newBench(t, nil)
	type body struct {
		IP, Tenant string
		Holder     *flow.Holder
		From, To   time.Time
		StepS      int `json:"step_s"`
		Series     []flow.SeriesPoint
		Incidents  []flow.Incident
	}
	for _, tc := range []struct {
		path, tenant, holder string
		from, to             time.Time
		step, points, open   int
	}{
		{"/hosts/198.18.0.7", "198.18.0.7", "c-42", t0.Add(-time.Hour), t0, 10, 360, 1},
		{"/hosts/::ffff:198.18.0.7?from=-6h", "198.18.0.7", "c-42", t0.Add(-6 * time.Hour), t0, 60, 360, 1},
		{"/hosts/2001:db8:0:7::99?from=-20m&to=-10m&step=30s", "2001:db8:0:7::", "c-77", t0.Add(-20 * time.Minute), t0.Add(-10 * time.Minute), 30, 20, 1},
		{"/hosts/2001%3Adb8%3A0%3A7%3A%3A99?from=-30m", "2001:db8:0:7::", "c-77", t0.Add(-30 * time.Minute), t0, 10, 180, 1},
		{"/hosts/198.18.7.7?from=2026-11-01T00:00:00Z&to=2026-11-22T00:00:00Z", "198.18.7.7", "", t0.Add(-21*24*time.Hour - 7*time.Hour), t0.Add(-7 * time.Hour), 21600, 0, 0},
	} {
		var got body
		a := b.get(t, Prefix+tc.path)
		a.into(t, &got)
		holder := ""
		if got.Holder != nil {
			holder = got.Holder.Tenant
		}
		if got.Tenant != tc.tenant || holder != tc.holder || !got.From.Equal(tc.from) || !got.To.Equal(tc.to) || got.StepS != tc.step || len(got.Series) != tc.points || len(got.Incidents) != tc.open {
			t.Errorf("%s: tenant %s holder %s %s..%s step %d points %d incidents %d", tc.path, got.Tenant, holder, got.From, got.To, got.StepS, len(got.Series), len(got.Incidents))
		}
		if strings.Contains(a.body, "null") || strings.Contains(a.body, "::ffff:") {
			t.Errorf("%s: null or a mapped address in %s", tc.path, a.body)
		}
		if b.shelf.step != time.Duration(tc.step)*time.Second || !b.shelf.asked.From.Equal(tc.from) {
			t.Errorf("%s: store was asked %+v by %s", tc.path, b.shelf.asked, b.shelf.step)
		}
	}
}

func TestFlows(t *testing.T) {
	b := newBench(t, nil)
	type body struct {
		Truncated bool
		Flows     []map[string]any
	}
	var got body
	b.get(t, Prefix+"/hosts/198.18.0.7/flows?from=-10m&remote=::ffff:203.0.113.9&proto=TCP&port=22&dir=out&limit=5").into(t, &got)
	want := flow.FlowQuery{Tenant: attacker, Range: flow.Range{From: t0.Add(-10 * time.Minute), To: t0}, Dir: flow.Out, Remote: netip.MustParseAddr("203.0.113.9"), IPProto: 6, SvcPort: 22, Limit: 6, Newest: true}
	if diff := cmp.Diff(want, b.shelf.query, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("query (-want +got):\n%s", diff)
	}
	if !got.Truncated || len(got.Flows) != 5 {
		t.Fatalf("truncated %v, %d rows", got.Truncated, len(got.Flows))
	}
	first := got.Flows[0]
	for k, want := range map[string]any{"dir": "out", "role": "client", "class": "syn", "src_mac": "52:54:00:aa:10:01", "remote": "203.0.113.1", "host_port": 40001.0, "sampling_rate": 1000.0,
		"time": t0.Add(-59 * time.Second).Format(time.RFC3339Nano), "start": t0.Add(-59*time.Second - 5).Format(time.RFC3339Nano)} {
		if first[k] != want {
			t.Errorf("%s = %v, want %v", k, first[k], want)
		}
	}
	b.get(t, Prefix+"/hosts/198.18.0.7/flows").into(t, &got)
	if b.shelf.query.SvcPort != -1 || b.shelf.query.IPProto != 0 || b.shelf.query.Dir != 0 || b.shelf.query.Remote.IsValid() || got.Truncated || len(got.Flows) != 60 {
		t.Errorf("without filters: %+v, %d rows", b.shelf.query, len(got.Flows))
	}
	b.get(t, Prefix+"/hosts/198.18.0.7/flows?port=0").into(t, &got)
	if b.shelf.query.SvcPort != 0 {
		t.Errorf("port 0 became %d", b.shelf.query.SvcPort)
	}
}

func TestFlowForms(t *testing.T) {
	b := newBench(t, nil)
	path := Prefix + "/hosts/198.18.0.7/flows?limit=3"
	for _, tc := range []struct{ query, accept, want string }{
		{"", "", "application/json"},
		{"", "text/html,application/xhtml+xml,*/*;q=0.8", "application/json"},
		{"", "text/csv", "text/csv"},
		{"", "application/x-ndjson;q=0.9, */*", "application/x-ndjson"},
		{"&format=csv", "application/json", "text/csv"},
		{"&format=jsonl", "", "application/x-ndjson"},
		{"&format=json", "text/csv", "application/json"},
	} {
		a := b.get(t, path+tc.query, "Accept", tc.accept)
		if ct := a.head.Get("Content-Type"); a.code != 200 || !strings.HasPrefix(ct, tc.want) || a.head.Get("X-Flowcordon-Truncated") != "true" {
			t.Errorf("%q %q: %d %s truncated %s", tc.query, tc.accept, a.code, ct, a.head.Get("X-Flowcordon-Truncated"))
			continue
		}
		switch tc.want {
		case "text/csv":
			rows, err := csv.NewReader(strings.NewReader(a.body)).ReadAll()
			if err != nil || len(rows) != 4 || len(rows[0]) != len(rows[1]) {
				t.Fatalf("CSV: %v, %d rows", err, len(rows))
			}
			row := map[string]string{}
			for i, k := range rows[0] {
				row[k] = rows[1][i]
			}
			if row["remote"] != "203.0.113.1" || row["class"] != "syn" || row["packets"] != "1" || row["vlan"] != "12" || row["spoofed"] != "false" || row["src_mac"] != "52:54:00:aa:10:01" {
				t.Errorf("CSV row: %v", row)
			}
		case "application/x-ndjson":
			lines := strings.Split(strings.TrimSuffix(a.body, "\n"), "\n")
			var row map[string]any
			if err := json.Unmarshal([]byte(lines[2]), &row); err != nil || len(lines) != 3 || row["remote"] != "203.0.113.3" {
				t.Errorf("JSON lines: %v %d %v", err, len(lines), row)
			}
		}
	}
}

func TestFleet(t *testing.T) {
	b := newBench(t, nil)
	var top struct {
		By  string
		Top []struct {
			flow.TopRow
			Holder    *flow.Holder
			Incidents []string
		}
	}
	b.get(t, Prefix+"/top?limit=2&window=1m&by=syn").into(t, &top)
	if top.By != "syn" || len(top.Top) != 2 || top.Top[0].Tenant != flooder || top.Top[0].Holder.Tenant != "c-77" || top.Top[1].Incidents[0] != "inc-1" || top.Top[1].EstOutPackets != 14*1_100_000 {
		t.Errorf("top: %+v", top)
	}
	if got := b.shelf.asked.To.Sub(b.shelf.asked.From); got != time.Minute {
		t.Errorf("the store was asked for %s", got)
	}
	var exp struct{ Exporters []map[string]any }
	b.get(t, Prefix+"/exporters").into(t, &exp)
	if len(exp.Exporters) != 2 || exp.Exporters[1]["lost"] != 1204.0 || fmt.Sprint(exp.Exporters[0]["problems"]) != "[]" || fmt.Sprint(exp.Exporters[0]["dropped"]) != "map[]" {
		t.Errorf("exporters: %v", exp)
	}
	var who struct{ Name, Role string }
	b.do(t, RoleAbuse, http.MethodGet, Prefix+"/whoami", "").into(t, &who)
	if who.Name != "test-abuse" || who.Role != "abuse" {
		t.Errorf("whoami: %+v", who)
	}
}

// TestSearchOfABeginning: the first numbers of an address are its network, and may
// be part of a name as well; nothing comes twice.
func TestSearchOfABeginning(t *testing.T) {
	b := newBench(t, nil)
	for q, want := range map[string]string{"198.18": "prefix", "198.18.0": "prefix", "198.18.0.": "prefix", "198.18.0.*": "prefix", "198.18.300": "text", "198": "text", "1.2.3.4.5": "text", "198.18.0.7": "address"} {
		var out struct {
			Kind string
			Hits []struct{ Type, ID, Href string }
		}
		b.get(t, Prefix+"/search?limit=100&q="+q).into(t, &out)
		seen, host := map[string]bool{}, false
		for _, h := range out.Hits {
			key := h.Type + " " + h.ID + " " + h.Href
			if seen[key] {
				t.Errorf("%s: %s twice", q, key)
			}
			seen[key] = true
			host = host || h.Type == "host" && h.ID == "198.18.0.7"
		}
		if out.Kind != want || host != (want != "text") {
			t.Errorf("%s: read as %s, want %s; the host is found: %v", q, out.Kind, want, host)
		}
	}
}
