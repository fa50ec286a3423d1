package api

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

var update = flag.Bool("update", false, "rewrite golden files")

type answer struct {
	code int
	head http.Header
	body string
}

func (b *bench) do(t testing.TB, role Role, method, path, body string, head ...string) answer {
	t.Helper()
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, b.URL+path, rd)
	if err != nil {
		t.Fatal(err)
	}
	if role > 0 {
		req.Header.Set("Authorization", "Bearer "+secret(role))
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(head); i += 2 {
		req.Header.Set(head[i], head[i+1])
	}
	res, err := b.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(got)}
}

func (b *bench) get(t testing.TB, path string, head ...string) answer {
	t.Helper()
	return b.do(t, RoleViewer, http.MethodGet, path, "", head...)
}

func (a answer) into(t testing.TB, v any) {
	t.Helper()
	if a.code != http.StatusOK {
		t.Fatalf("status %d: %s", a.code, a.body)
	}
	d := json.NewDecoder(strings.NewReader(a.body))
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
}

type problem struct {
	Title, Detail, Instance string
	Status                  int
}

// problem checks that the answer is a whole problem+json and gives it.
func (a answer) problem(t testing.TB, code int) problem {
	t.Helper()
	var p problem
	if ct := a.head.Get("Content-Type"); a.code != code || ct != "application/problem+json" {
		t.Fatalf("status %d %s, want %d as problem+json: %s", a.code, ct, code, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatal(err)
	}
	if p.Status != code || p.Title != http.StatusText(code) || p.Detail == "" || p.Instance != "urn:flowcordon:request:"+a.head.Get("X-Request-Id") {
		t.Errorf("incomplete problem: %+v (X-Request-Id %s)", p, a.head.Get("X-Request-Id"))
	}
	return p
}

func TestIncidentList(t *testing.T) {
	b := newBench(t, nil)
	for _, tc := range []struct {
		query string
		ids   string
		total int
	}{
		{"", "inc-1 inc-2 inc-3 inc-4 inc-5", 5},
		{"?state=live", "inc-1 inc-2 inc-3 inc-4", 4},
		{"?state=held,awaiting_approval", "inc-2 inc-3", 2},
		{"?rule=netscan", "inc-1 inc-3 inc-5", 3},
		{"?rule=spam", "", 0},
		{"?tenant=198.18.0.7", "inc-1", 1},
		{"?tenant=2001:db8:0:7:1:2:3:4", "inc-2", 1},
		{"?since=-1h", "inc-1 inc-2", 2},
		{"?since=2026-11-22T03:59:59Z&until=2026-11-22T04:00:01Z", "inc-3", 1},
		{"?until=2026-11-22T07:00:01%2B03:00", "inc-3 inc-4 inc-5", 3},
		{"?until=2026-11-22T07:00:01+03:00", "inc-3 inc-4 inc-5", 3},
		{"?limit=2", "inc-1 inc-2", 5},
		{"?limit=2&offset=2", "inc-3 inc-4", 5},
		{"?limit=2&offset=4", "inc-5", 5},
		{"?offset=99", "", 5},
	} {
		var got struct {
			Metadata  map[string]int   `json:"_metadata"`
			Incidents *[]flow.Incident `json:"incidents"`
		}
		b.get(t, Prefix+"/incidents"+tc.query).into(t, &got)
		if got.Incidents == nil {
			t.Fatalf("%s: incidents is null", tc.query)
		}
		ids := ""
		for _, i := range *got.Incidents {
			ids += " " + i.ID
			if i.Rules == nil || i.Findings == nil {
				t.Errorf("%s: %s has null lists", tc.query, i.ID)
			}
		}
		if strings.TrimSpace(ids) != tc.ids || got.Metadata["totalCount"] != tc.total {
			t.Errorf("%s: got%s (total %d), want %s (total %d)", tc.query, ids, got.Metadata["totalCount"], tc.ids, tc.total)
		}
	}
	var got struct {
		Metadata map[string]int `json:"_metadata"`
	}
	b.get(t, Prefix+"/incidents?limit=7&offset=3").into(t, &got)
	if diff := cmp.Diff(map[string]int{"totalCount": 5, "limit": 7, "offset": 3}, got.Metadata); diff != "" {
		t.Error(diff)
	}
}

func TestIncidentAndEvidence(t *testing.T) {
	b := newBench(t, nil)
	var got struct {
		Incident flow.Incident
		Events   []flow.Event
	}
	b.get(t, Prefix+"/incidents/inc-1").into(t, &got)
	want, events, _ := b.desk.Incident("inc-1")
	want.Action.NICs = []flow.NIC{}
	if diff := cmp.Diff(want, got.Incident, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("incident (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(events, got.Events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	var ev flow.Evidence
	b.get(t, Prefix+"/incidents/inc-1/evidence").into(t, &ev)
	if len(ev.Logs) != 3 || ev.Rows != 1204 || ev.Logs[0].Text != sampleEvidence().Logs[0].Text {
		t.Errorf("evidence: %+v", ev)
	}
	for _, l := range sampleEvidence().Logs {
		a := b.get(t, Prefix+"/incidents/inc-1/evidence/"+l.Form, "Accept", "text/html,*/*")
		if a.code != 200 || a.body != l.Text || a.head.Get("Content-Type") != "text/plain; charset=utf-8" || a.head.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v %q", l.Form, a.code, a.head, a.body)
		}
		if want := "inline; filename=" + l.Name; a.head.Get("Content-Disposition") != want {
			t.Errorf("Content-Disposition %q, want %q", a.head.Get("Content-Disposition"), want)
		}
	}
	for path, want := range map[string]string{
		"/incidents/none":                   `there is no incident "none"; GET /api/v1/incidents lists them`,
		"/incidents/none/evidence":          `there is no incident "none"`,
		"/incidents/none/evidence/netscan":  `there is no incident "none"`,
		"/incidents/inc-2/evidence":         "no evidence yet",
		"/incidents/inc-2/evidence/netscan": "no evidence yet",
		"/incidents/inc-1/evidence/pcap":    `no form "pcap"; it has netscan, summary, packets`,
		"/incidents/..%2f..%2fetc/evidence": `there is no incident "../../etc"`,
	} {
		if p := b.get(t, Prefix+path).problem(t, 404); !strings.Contains(p.Detail, want) {
			t.Errorf("%s: detail %q, want %q", path, p.Detail, want)
		}
	}
}

func TestActs(t *testing.T) {
	for _, tc := range []struct {
		name, path, body string
		role             Role
		code             int
		detail           string // of a problem
		state            flow.State
	}{
		{"release", "/incidents/inc-1/release", `{"statement":" cleaned "}`, RoleAbuse, 200, "", flow.StateReleasing},
		{"release without statement", "/incidents/inc-1/release", `{}`, RoleAbuse, 422, `statement to be present; send {"statement": "what the customer says`, flow.StateVerified},
		{"release with empty statement", "/incidents/inc-1/release", `{"statement":""}`, RoleAbuse, 422, `body.statement: expected length >= 1; send {"statement":`, flow.StateVerified},
		{"release with blank statement", "/incidents/inc-1/release", `{"statement":" \n "}`, RoleAbuse, 422, "statement is empty; write a sentence", flow.StateVerified},
		{"release without body", "/incidents/inc-1/release", ``, RoleAbuse, 400, `request body is required; send {"statement":`, flow.StateVerified},
		{"release with a long statement", "/incidents/inc-1/release", `{"statement":"` + strings.Repeat("x", 4001) + `"}`, RoleAbuse, 422, "expected length <= 4000", flow.StateVerified},
		{"release with another field", "/incidents/inc-1/release", `{"statement":"x","actor":"root"}`, RoleAbuse, 422, "body.actor: unexpected property", flow.StateVerified},
		{"release with broken JSON", "/incidents/inc-1/release", `{"statement`, RoleAbuse, 400, `send {"statement":`, flow.StateVerified},
		{"release of one that is not cut", "/incidents/inc-3/release", `{"statement":"x"}`, RoleAbuse, 409, "incident inc-3 is held; it cannot be released", flow.StateHeld},
		{"release of none", "/incidents/inc-9/release", `{"statement":"x"}`, RoleAbuse, 404, "there is no incident", ""},
		{"approve", "/incidents/inc-2/approve", `{"reason":"flood"}`, RoleOperator, 200, "", flow.StateSuspending},
		{"approve without reason", "/incidents/inc-2/approve", `{}`, RoleOperator, 422, `send {"reason": "why the network`, flow.StateApproval},
		{"approve of one that does not wait", "/incidents/inc-1/approve", `{"reason":"x"}`, RoleOperator, 409, "cannot be approved", flow.StateVerified},
		{"close", "/incidents/inc-3/close", `{"reason":"own scanner"}`, RoleAbuse, 200, "", flow.StateClosed},
		{"close of a cut one", "/incidents/inc-1/close", `{"reason":"x"}`, RoleAbuse, 409, "cannot be closed", flow.StateVerified},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, nil)
			a := b.do(t, tc.role, http.MethodPost, Prefix+tc.path, tc.body)
			if tc.code != 200 {
				if p := a.problem(t, tc.code); !strings.Contains(p.Detail, tc.detail) {
					t.Errorf("detail %q, want %q", p.Detail, tc.detail)
				}
			}
			id := strings.Split(tc.path, "/")[2]
			inc, events, _ := b.desk.Incident(id)
			if inc.State != tc.state {
				t.Errorf("state %s, want %s", inc.State, tc.state)
			}
			if tc.code != 200 {
				return
			}
			var got struct{ Incident flow.Incident }
			a.into(t, &got)
			last := events[len(events)-1]
			if got.Incident.State != tc.state || last.Actor != "test-"+tc.role.String() || last.Reason != strings.TrimSpace(last.Reason) {
				t.Errorf("answer %s, last event %+v", got.Incident.State, last)
			}
			lines := b.logs.FilterMessage("write").FilterField(zapString("actor", "test-"+tc.role.String())).All()
			if len(lines) != 1 || lines[0].LoggerName != "audit" || lines[0].ContextMap()["done"] != true || lines[0].ContextMap()["incident"] != id {
				t.Errorf("audit: %v", lines)
			}
		})
	}
}

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
	want := flow.FlowQuery{Tenant: attacker, Range: flow.Range{From: t0.Add(-10 * time.Minute), To: t0}, Dir: flow.Out, Remote: netip.MustParseAddr("203.0.113.9"), IPProto: 6, SvcPort: 22, Limit: 6}
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

// Every wrong parameter is refused with what to write instead.
func TestBadParameters(t *testing.T) {
	b := newBench(t, nil)
	for _, tc := range []struct {
		path string
		code int
		want string
	}{
		{"/incidents?state=bogus", 422, `state: "bogus" is not understood; write live or some of open, notified`},
		{"/incidents?rule=ddos", 422, `rule: "ddos" is not understood; write one of netscan`},
		{"/incidents?tenant=me", 422, `tenant: "me" is not understood; write an address such as`},
		{"/incidents?tenant=203.0.113.1", 404, `203.0.113.1 is in none of our networks; networks.internal`},
		{"/incidents?since=yesterday", 422, `since: "yesterday" is not understood; write an RFC 3339 time such as 2026-01-31T15:04:05Z, a time before now such as -15m`},
		{"/incidents?since=2026-11-22", 422, `RFC 3339`},
		{"/incidents?until=-5x", 422, `until: "-5x" is not understood`},
		{"/incidents?since=-1h&until=-2h", 422, `since is not before until`},
		{"/incidents?limit=0", 422, `limit: expected number >= 1`},
		{"/incidents?limit=501", 422, `limit: expected number <= 500`},
		{"/incidents?limit=many", 422, `limit: invalid integer, got "many"`},
		{"/incidents?offset=-1", 422, `offset: expected number >= 0`},
		{"/incidents?page=2", 422, `page: unknown query parameter; known here are state, tenant, rule, since, until, limit, offset`},
		{"/hosts/nobody", 422, `ip: "nobody" is not understood; write an address such as 198.18.0.7`},
		{"/hosts/fe80::1%25eth0", 422, `is not understood; write an address`},
		{"/hosts/203.0.113.1", 404, `in none of our networks`},
		{"/hosts/198.18.0.7?from=-1h&to=-2h", 422, `from 2026-11-22T06:00:00Z is not before to 2026-11-22T05:00:00Z; write an earlier from`},
		{"/hosts/198.18.0.7?step=15s", 422, `step: "15s" is not understood; write auto or a multiple of 10s`},
		{"/hosts/198.18.0.7?step=0s", 422, `step: "0s" is not understood`},
		{"/hosts/198.18.0.7?from=-48h&step=10s", 422, `step: 10s gives 17280 points; write 1m30s or more, or a shorter time`},
		{"/hosts/198.18.0.7/flows?proto=tpc", 422, `proto: "tpc" is not understood; write tcp, udp, icmp, icmpv6 or a number from 1 to 255`},
		{"/hosts/198.18.0.7/flows?proto=256", 422, `a number from 1 to 255`},
		{"/hosts/198.18.0.7/flows?port=65536", 422, `port: expected number <= 65535`},
		{"/hosts/198.18.0.7/flows?port=ssh", 422, `port: invalid integer, got "ssh"`},
		{"/hosts/198.18.0.7/flows?dir=up", 422, `dir: expected value to be one of "out, in", got "up"`},
		{"/hosts/198.18.0.7/flows?remote=x", 422, `remote: "x" is not understood; write an address`},
		{"/hosts/198.18.0.7/flows?limit=20001", 422, `limit: expected number <= 20000`},
		{"/hosts/198.18.0.7/flows?format=xml", 422, `format: expected value to be one of "json, csv, jsonl"`},
		{"/top?by=love", 422, `by: expected value to be one of "out_bytes, out_packets, in_bytes, in_packets, syn"`},
		{"/top?window=1s", 422, `window: "1s" is not understood; write a time from 10s to 24h`},
		{"/top?window=25h", 422, `window: "25h"`},
		{"/top?limit=1001", 422, `limit: expected number <= 1000`},
		{"/incidents?state=" + strings.Repeat("x", 5000), 422, `xxx…" is not understood`},
		{"/nothing", 404, `there is nothing at this address; /api/v1/openapi.json lists`},
	} {
		p := b.get(t, Prefix+tc.path).problem(t, tc.code)
		if !strings.Contains(p.Detail, tc.want) || len(p.Detail) > 1000 {
			t.Errorf("%.80s: detail %q, want %q", tc.path, p.Detail, tc.want)
		}
	}
}

func TestFailures(t *testing.T) {
	storePaths := []string{"/hosts/198.18.0.7", "/hosts/198.18.0.7/flows", "/top", "/incidents/inc-1/evidence"}
	t.Run("store away", func(t *testing.T) {
		b := newBench(t, nil)
		b.shelf.fail = errors.New("dial tcp 10.0.0.5:9000: secret")
		for _, path := range storePaths {
			a := b.get(t, Prefix+path)
			p := a.problem(t, 503)
			if strings.Contains(a.body, "secret") || !strings.Contains(p.Detail, a.head.Get("X-Request-Id")) {
				t.Errorf("%s: %s", path, a.body)
			}
			if n := b.logs.FilterMessage("store failed").FilterField(zapString("request", a.head.Get("X-Request-Id"))).Len(); n != 1 {
				t.Errorf("%s: %d log lines", path, n)
			}
		}
	})
	t.Run("controller fails", func(t *testing.T) {
		b := newBench(t, nil)
		b.desk.fail = errors.New("secret")
		if a := b.get(t, Prefix+"/incidents"); a.problem(t, 500).Status != 500 || strings.Contains(a.body, "secret") {
			t.Error(a.body)
		}
	})
	t.Run("too slow", func(t *testing.T) {
		b := newBench(t, func(c *Config, _ *Deps) { c.Timeout = 20 * time.Millisecond })
		b.shelf.block = true
		if p := b.get(t, Prefix+"/top").problem(t, 504); !strings.Contains(p.Detail, "ask for a shorter time") {
			t.Error(p.Detail)
		}
	})
	t.Run("panic", func(t *testing.T) {
		b := newBench(t, nil)
		b.shelf.panic = true
		for _, path := range storePaths {
			if a := b.get(t, Prefix+path); a.problem(t, 500).Status != 500 || strings.Contains(a.body, "secret") {
				t.Errorf("%s: %s", path, a.body)
			}
		}
		if n := b.logs.FilterMessage("panic in a handler").Len(); n != len(storePaths) {
			t.Errorf("%d panics logged", n)
		}
		b.shelf.mu.Lock()
		b.shelf.panic = false
		b.shelf.mu.Unlock()
		b.get(t, Prefix+"/top").into(t, &struct{}{})
	})
	t.Run("large body", func(t *testing.T) {
		b := newBench(t, nil)
		a := b.do(t, RoleAbuse, http.MethodPost, Prefix+"/incidents/inc-1/release", `{"statement":"`+strings.Repeat("x", maxBody)+`"}`)
		if p := a.problem(t, 413); !strings.Contains(p.Detail, "too large") || len(a.body) > 2000 {
			t.Error(a.body)
		}
	})
	t.Run("wrong method", func(t *testing.T) {
		b := newBench(t, nil)
		for path, want := range map[string]string{"/incidents/inc-1/release": "POST", "/incidents": "GET"} {
			a := b.do(t, RoleAdmin, http.MethodDelete, Prefix+path, "")
			if p := a.problem(t, 405); a.head.Get("Allow") != want || !strings.Contains(p.Detail, "use "+want) {
				t.Errorf("%s: Allow %q, %q", path, a.head.Get("Allow"), p.Detail)
			}
		}
	})
}

func TestOpenAPIGolden(t *testing.T) {
	b := newBench(t, nil)
	a := b.get(t, Prefix+"/openapi.json")
	if a.code != 200 {
		t.Fatalf("%d %s", a.code, a.body)
	}
	var buf bytes.Buffer
	if err := json.Indent(&buf, []byte(a.body), "", "  "); err != nil {
		t.Fatal(err)
	}
	buf.WriteByte('\n')
	const golden = "openapi.golden.json"
	if *update {
		if err := os.WriteFile(golden, buf.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v; make it with: go test ./api -run OpenAPI -update", err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(buf.String(), "\n")); diff != "" {
		t.Errorf("the OpenAPI document changed; if that is meant, run: go test ./api -run OpenAPI -update (-want +got):\n%s", diff)
	}
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			Security    []map[string][]string
			Description string
		}
	}
	a.into(t, &doc)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || len(doc.Paths) != 12 {
		t.Errorf("version %s, %d paths", doc.OpenAPI, len(doc.Paths))
	}
	for path, ops := range doc.Paths {
		for method, op := range ops {
			if len(op.Security) != 1 || !strings.Contains(op.Description, "Needs a token of the role ") {
				t.Errorf("%s %s says nothing about tokens", method, path)
			}
		}
	}
}
