package api

import (
	"bufio"
	"context"
	"encoding/hex"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flowcordon/flowcordon/api/ui"
	"github.com/flowcordon/flowcordon/flow"
)

func zapString(k, v string) zap.Field { return zap.String(k, v) }

// matrix is every operation and the lowest role that may use it.
var matrix = []struct {
	op, method, path, body string
	role                   Role
	code                   int // with the role
}{
	{"incidents", "GET", "/incidents", "", RoleViewer, 200},
	{"incident", "GET", "/incidents/inc-1", "", RoleViewer, 200},
	{"evidence", "GET", "/incidents/inc-1/evidence", "", RoleViewer, 200},
	{"evidence-form", "GET", "/incidents/inc-1/evidence/netscan", "", RoleViewer, 200},
	{"host", "GET", "/hosts/198.18.0.7", "", RoleViewer, 200},
	{"flows", "GET", "/hosts/198.18.0.7/flows", "", RoleViewer, 200},
	{"peers", "GET", "/hosts/198.18.0.7/peers", "", RoleViewer, 200},
	{"top", "GET", "/top", "", RoleViewer, 200},
	{"exporters", "GET", "/exporters", "", RoleViewer, 200},
	{"whoami", "GET", "/whoami", "", RoleViewer, 200},
	{"", "GET", "/openapi.json", "", RoleViewer, 200},
	{"release", "POST", "/incidents/inc-1/release", `{"statement":"x"}`, RoleAbuse, 200},
	{"close", "POST", "/incidents/inc-3/close", `{"reason":"x"}`, RoleAbuse, 200},
	{"approve", "POST", "/incidents/inc-2/approve", `{"reason":"x"}`, RoleOperator, 200},
	{"restrict", "POST", "/incidents/inc-1/restrict", `{"measure":"cut","reason":"x"}`, RoleOperator, 200},
	{"mistake", "POST", "/incidents/inc-1/mistake", `{"reason":"x"}`, RoleOperator, 200},
	{"undo", "POST", "/undo", `{"since":"-1h","reason":"x"}`, RoleAdmin, 200},
	{"freezes", "GET", "/freezes", "", RoleViewer, 200},
	{"unfreeze", "POST", "/freezes/lift", `{"reason":"x"}`, RoleOperator, 200},
	{"audit", "GET", "/audit", "", RoleOperator, 200},
	{"policy", "GET", "/hosts/198.18.0.7/policy", "", RoleViewer, 200},
	{"precision", "GET", "/rules/precision", "", RoleViewer, 200},
	{"proposals", "GET", "/rules/proposals", "", RoleViewer, 200},
	{"cases", "GET", "/rules/cases", "", RoleViewer, 200},
	{"mark", "POST", "/rules/cases/mark", `{"id":"netscan/198.18.0.7/2026-11-22","verdict":"right","reason":"x"}`, RoleAbuse, 200},
	{"reads", "GET", "/audit/reads", "", RoleAdmin, 200},
	{"exemptions", "GET", "/exemptions", "", RoleViewer, 200},
	{"exemption", "GET", "/exemptions/" + fixedID, "", RoleViewer, 200},
	{"exempt", "POST", "/exemptions", exemptText, RoleOperator, 201},
	{"exemption-change", "PUT", "/exemptions/{fresh}", exemptText, RoleOperator, 200},
	{"exemption-remove", "DELETE", "/exemptions/{fresh}?reason=x", "", RoleOperator, 200},
	{"flow-search", "GET", "/flows?customer=c-42&port=22", "", RoleViewer, 200},
	{"search", "GET", "/search?q=c-42", "", RoleViewer, 200},
	{"tenants", "GET", "/tenants", "", RoleViewer, 200},
	{"tenant", "GET", "/tenants/c-42", "", RoleViewer, 200},
	{"complaint", "POST", "/complaints?open=true", `{"text":"x"}`, RoleAbuse, 200},
	{"complaints", "GET", "/complaints", "", RoleAbuse, 200},
	{"complaint-case", "GET", "/complaints/{case}", "", RoleAbuse, 200},
	{"complaint-status", "POST", "/complaints/{case}/status", `{"status":"answered","note":"x"}`, RoleAbuse, 200},
	{"events", "GET", "/events", "", RoleViewer, 200},
	{"traffic", "GET", "/traffic", "", RoleViewer, 200},
	{"inventory-sources", "GET", "/inventory/sources", "", RoleViewer, 200},
	{"sessions", "GET", "/sessions", "", RoleAdmin, 200},
	{"session-end", "DELETE", "/sessions/{session}", "", RoleAdmin, 200},
	{"bundle", "GET", "/incidents/inc-1/bundle", "", RoleAbuse, 200},
}

const exemptText = `{"customer":"c-77","owner":"anna","reason":"x","expires":"+1h"}`

// try sends a row of the matrix: with an exemption of its own where it asks for a
// fresh one, and of a stream only the head is read.
func (b *bench) try(t testing.TB, role Role, method, path, body string) answer {
	t.Helper()
	if strings.Contains(path, "{fresh}") {
		e, err := b.exemptions.Create(t.Context(), flow.Exemption{Holder: "c-1", Owner: "o", Reason: "r", Expires: b.clock().Add(time.Hour)}, "test", b.clock())
		if err != nil {
			t.Fatal(err)
		}
		return b.do(t, role, method, strings.Replace(path, "{fresh}", e.Name, 1), body, "If-Match", `"1"`)
	}
	path = strings.Replace(path, "{case}", b.caseID, 1)
	if head, ok := strings.CutSuffix(path, "{session}"); ok {
		path = head + b.signedIn(RoleViewer, "anna")
	}
	if strings.HasPrefix(path, Prefix+"/events") {
		return b.head(t, role, path)
	}
	return b.do(t, role, method, path, body)
}

// head is do for a stream that goes on: it reads what is there of an error, and of
// the stream the first line.
func (b *bench) head(t testing.TB, role Role, path string) answer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	res := b.open(ctx, t, role, path)
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode == http.StatusOK {
		line, err := bufio.NewReader(res.Body).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return answer{res.StatusCode, res.Header, line}
	}
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(got)}
}

// open begins a request whose answer goes on.
func (b *bench) open(ctx context.Context, t testing.TB, role Role, path string, head ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if role > 0 {
		req.Header.Set("Authorization", "Bearer "+secret(role))
	}
	for i := 0; i+1 < len(head); i += 2 {
		req.Header.Set(head[i], head[i+1])
	}
	res, err := b.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestRoles(t *testing.T) {
	b := newBench(t, nil)
	covered := map[string]bool{}
	for _, m := range matrix {
		covered[m.op] = true
		for role := RoleViewer; role <= RoleAdmin; role++ {
			b.desk.mu.Lock()
			b.desk.list = sampleIncidents() // each try finds the incidents as they were
			b.desk.mu.Unlock()
			a := b.try(t, role, m.method, Prefix+m.path, m.body)
			if role >= m.role {
				if a.code != m.code {
					t.Errorf("%s %s as %s: %d %s", m.method, m.path, role, a.code, a.body)
				}
				continue
			}
			p := a.problem(t, 403)
			if want := "token test-" + role.String() + " has the role " + role.String() + "; this needs " + m.role.String() + " or higher"; p.Detail != want {
				t.Errorf("%s as %s: %q, want %q", m.path, role, p.Detail, want)
			}
			if !strings.HasPrefix(m.path, "/incidents/") {
				continue
			}
			inc, _, _ := b.desk.Incident(strings.Split(m.path, "/")[2])
			for _, s := range sampleIncidents() {
				if s.ID == inc.ID && s.State != inc.State {
					t.Errorf("%s as %s moved the incident to %s", m.path, role, inc.State)
				}
			}
		}
		p := b.do(t, 0, m.method, Prefix+m.path, m.body)
		if p.problem(t, 401); p.head.Get("WWW-Authenticate") != `Bearer realm="flowcordon"` {
			t.Errorf("%s without a token: %v", m.path, p.head)
		}
	}
	for _, item := range b.h.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op != nil && !covered[op.OperationID] {
				t.Errorf("operation %s is not in the matrix", op.OperationID)
			}
		}
	}
	if n := b.logs.FilterMessage("write").FilterField(zap.Bool("done", false)).Len(); n != 25 { // release, close, mark and two of complaints 1, approve, restrict, mistake, unfreeze and three of exemptions 2, undo and the end of a session 3
		t.Errorf("%d refused writes in the audit log, want 25", n)
	}
}

func TestDefaultClosed(t *testing.T) {
	b := newBench(t, func(c *Config, _ *Deps) { c.Tokens = nil })
	for _, m := range matrix {
		for _, role := range []Role{0, RoleAdmin} {
			if p := b.do(t, role, m.method, Prefix+m.path, m.body).problem(t, 401); !strings.Contains(p.Detail, "api: {tokens: [{name: noc, role: viewer, token_file: /etc/flowcordon/noc.token}]}") {
				t.Errorf("%s: %q", m.path, p.Detail)
			}
		}
	}
	for _, path := range []string{"/api", "/api/", "/api/v1", "/api/v2/x", "/api/v1/nothing", "/metrics"} {
		b.do(t, RoleAdmin, http.MethodGet, path, "").problem(t, 401)
	}
	for _, path := range []string{"/healthz", "/readyz", "/"} {
		if a := b.do(t, 0, http.MethodGet, path, ""); a.code != 200 {
			t.Errorf("%s: %d", path, a.code)
		}
	}
}

func TestWrongTokens(t *testing.T) {
	b := newBench(t, nil)
	for name, tc := range map[string]struct{ head, want string }{
		"unknown":          {"Bearer " + strings.Repeat("x", 40), "not accepted"},
		"the hash itself":  {"Bearer " + hex.EncodeToString(roleTokens()[3].Hash[:]), "not accepted"},
		"prefix":           {"Bearer " + secret(RoleAdmin)[:20], "not accepted"},
		"empty":            {"Bearer ", "send it once, as Authorization: Bearer TOKEN"},
		"other scheme":     {"Basic " + secret(RoleAdmin), "send it once"},
		"without a scheme": {secret(RoleAdmin), "send it once"},
	} {
		if p := b.do(t, 0, "GET", Prefix+"/whoami", "", "Authorization", tc.head).problem(t, 401); !strings.Contains(p.Detail, tc.want) || strings.Contains(p.Detail, secret(RoleAdmin)) {
			t.Errorf("%s: %q", name, p.Detail)
		}
	}
	b.do(t, 0, "GET", Prefix+"/whoami?token="+secret(RoleAdmin), "").problem(t, 401)
	if a := b.do(t, 0, "GET", Prefix+"/whoami", "", "Authorization", "bearer   "+secret(RoleAdmin)); a.code != 200 {
		t.Errorf("scheme in lower case: %d", a.code)
	}
	for _, l := range b.logs.All() {
		for _, v := range l.ContextMap() {
			if s, ok := v.(string); ok && strings.Contains(s, secret(RoleAdmin)) {
				t.Errorf("the token is in the log: %v", l)
			}
		}
	}
}

func TestSetTokens(t *testing.T) {
	b := newBench(t, nil)
	if err := b.h.SetTokens(roleTokens()[:1]); err != nil {
		t.Fatal(err)
	}
	b.do(t, RoleAdmin, "GET", Prefix+"/whoami", "").problem(t, 401)
	if a := b.do(t, RoleViewer, "GET", Prefix+"/whoami", ""); a.code != 200 {
		t.Errorf("kept token: %d", a.code)
	}
	twice := []Token{roleTokens()[0], roleTokens()[0]}
	if err := b.h.SetTokens(twice); err == nil || !strings.Contains(err.Error(), "two tokens are called test-viewer") || !strings.Contains(err.Error(), "the same token") {
		t.Errorf("doubled token: %v", err)
	}
	if a := b.do(t, RoleViewer, "GET", Prefix+"/whoami", ""); a.code != 200 {
		t.Error("a refused set replaced the tokens")
	}
}

func TestHealth(t *testing.T) {
	b := newBench(t, func(_ *Config, d *Deps) { d.Gatherer = nil })
	if a := b.do(t, 0, "GET", "/readyz", ""); a.code != 200 || a.body != "{\"status\":\"ready\"}\n" {
		t.Errorf("%d %s", a.code, a.body)
	}
	b.shelf.fail = context.DeadlineExceeded
	b.ready = []error{&Error{Detail: "collector: not listening yet"}}
	a := b.do(t, 0, "GET", "/readyz", "")
	if a.code != 503 || !strings.Contains(a.body, "store: ClickHouse does not answer") || !strings.Contains(a.body, "collector: not listening yet") || strings.Contains(a.body, "deadline") {
		t.Errorf("%d %s", a.code, a.body)
	}
	if a := b.do(t, 0, "HEAD", "/readyz", ""); a.code != 503 || a.body != "" {
		t.Errorf("HEAD: %d %q", a.code, a.body)
	}
	if a := b.do(t, 0, "GET", "/healthz", ""); a.code != 200 || a.body != "{\"status\":\"ok\"}\n" {
		t.Errorf("%d %s", a.code, a.body)
	}
	b.do(t, RoleAdmin, "GET", "/metrics", "").problem(t, 404)
}

func TestMetrics(t *testing.T) {
	b := newBench(t, nil)
	b.get(t, Prefix+"/incidents/inc-1")
	b.get(t, Prefix+"/incidents/inc-2")
	b.get(t, Prefix+"/made/up/by/a/client")
	b.get(t, "/made-up")
	b.do(t, 0, "GET", "/metrics", "").problem(t, 401)
	a := b.get(t, "/metrics")
	for _, want := range []string{
		`flowcordon_http_requests_total{code="200",route="/api/v1/incidents/{id}"} 2`,
		`flowcordon_http_requests_total{code="404",route="none"} 2`,
		`flowcordon_http_requests_total{code="401",route="/metrics"} 1`,
		`flowcordon_http_request_duration_seconds_count{route="/api/v1/incidents/{id}"} 2`,
		`flowcordon_http_denied_total{code="401"} 1`,
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("missing %s in\n%s", want, a.body)
		}
	}
	open := newBench(t, func(c *Config, _ *Deps) { c.MetricsOpen = true })
	if a := open.do(t, 0, "GET", "/metrics", ""); a.code != 200 {
		t.Errorf("open metrics: %d", a.code)
	}
}

func TestHeadersAndDashboard(t *testing.T) {
	b := newBench(t, nil)
	for _, path := range []string{"/", "/app.js", "/index.css", "/icon.svg", "/nothing", Prefix + "/whoami", "/healthz"} {
		a := b.do(t, 0, "GET", path, "")
		if csp := a.head.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'self';") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: CSP %q", path, csp)
		}
		if a.head.Get("X-Content-Type-Options") != "nosniff" || a.head.Get("X-Frame-Options") != "DENY" || a.head.Get("Referrer-Policy") != "no-referrer" || len(a.head.Get("X-Request-Id")) != 16 {
			t.Errorf("%s: %v", path, a.head)
		}
		if strings.HasPrefix(path, "/api") && a.head.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be cached", path)
		}
	}
	// Nothing from elsewhere and nothing inline; what the script is made of has no
	// way to put HTML that is a string into the page.
	for path, bad := range map[string][]string{
		"/":          {"http://", "https://", "<style", " style=", " onclick", "<script>"},
		"/app.js":    {"insertAdjacentHTML", "document.write", "eval(", "new Function", "https://"},
		"/index.css": {"@import", "url("},
	} {
		a := b.do(t, 0, "GET", path, "")
		if a.code != 200 || len(a.body) < 400 {
			t.Errorf("%s: %d, %d bytes", path, a.code, len(a.body))
		}
		for _, s := range bad {
			if strings.Contains(a.body, s) {
				t.Errorf("%s contains %q", path, s)
			}
		}
	}
	n := 0
	err := filepath.WalkDir("../web/src", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, s := range []string{"nnerHTML", "outerHTML", "document.write", "eval("} {
			if strings.Contains(string(text), s) {
				t.Errorf("%s contains %q", path, s)
			}
		}
		n++
		return err
	})
	if err != nil || n < 10 {
		t.Errorf("%d source files read, %v", n, err)
	}
}

// TestDashboardIsSmall: the first load, compressed.
func TestDashboardIsSmall(t *testing.T) {
	b := newBench(t, nil)
	total := 0
	for path := range ui.Files() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", "gzip")
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != 200 {
			t.Errorf("%s: %d, %v", path, res.StatusCode, err)
		}
		total += int(n)
		plain := b.do(t, 0, "GET", path, "", "Accept-Encoding", "gzip;q=0, br")
		if plain.head.Get("Content-Encoding") != "" || plain.head.Get("ETag") == res.Header.Get("ETag") && res.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: %v for who takes no gzip", path, plain.head)
		}
	}
	t.Logf("%d bytes in all", total)
	if total > 300_000 {
		t.Errorf("the dashboard has %d bytes compressed, at most 300,000", total)
	}
}

func TestNewNeeds(t *testing.T) {
	if _, err := New(Config{}, Deps{}); err == nil {
		t.Error("a handler without incidents and store")
	}
	if _, err := New(Config{Tokens: []Token{{Name: "x"}}}, Deps{Incidents: &desk{}, Store: &shelf{}}); err == nil {
		t.Error("a token without a role was accepted")
	}
	h, err := New(Config{}, Deps{Incidents: &desk{}, Store: &shelf{}})
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(h)
	if s.ReadHeaderTimeout == 0 || s.ReadTimeout == 0 || s.WriteTimeout < defaultTimeout || s.IdleTimeout == 0 {
		t.Error("a server without time limits")
	}
}

// TestServeSample serves the sample data for looking at the dashboard:
// FLOWCORDON_UI_SECONDS=600 go test ./api -run ServeSample -v
func TestServeSample(t *testing.T) {
	d, err := time.ParseDuration(os.Getenv("FLOWCORDON_UI_SECONDS") + "s")
	if err != nil {
		t.Skip("set FLOWCORDON_UI_SECONDS to serve the sample data for so long")
	}
	shift := time.Since(t0)
	b := newBench(t, func(c *Config, deps *Deps) {
		c.Timeout = time.Minute
		deps.Now = time.Now
		deps.Exporters = func() []flow.ExporterHealth {
			e := sampleExporters()
			for i := range e {
				e[i].LastSeen = e[i].LastSeen.Add(shift)
			}
			return e
		}
	})
	b.clock = time.Now
	for i := range b.desk.list {
		inc := &b.desk.list[i]
		inc.Opened, inc.Updated = inc.Opened.Add(shift), inc.Updated.Add(shift)
	}
	for _, e := range b.desk.events {
		for i := range e {
			e[i].Time = e[i].Time.Add(shift)
		}
	}
	t.Logf("%s with the token %s", b.URL, secret(RoleAdmin))
	if p := os.Getenv("FLOWCORDON_UI_URLFILE"); p != "" {
		if err := os.WriteFile(p, []byte(b.URL), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(d)
}
