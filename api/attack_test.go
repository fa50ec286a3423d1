package api

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// state is what an attack must not change: incidents, exemptions, cases, orders.
func (b *bench) state(t testing.TB) string {
	t.Helper()
	b.desk.mu.Lock()
	defer b.desk.mu.Unlock()
	board := b.h.deps.Control.(*board)
	board.mu.Lock()
	defer board.mu.Unlock()
	text, err := json.Marshal([]any{b.desk.list, b.desk.events, b.exemptions.List("", b.clock()), b.cases.List(CaseFilter{}), board.told})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fill puts real ids into a row's path.
func (b *bench) fill(path string) string {
	return strings.NewReplacer("{fresh}", b.exempt[0], "{case}", b.caseID).Replace(path)
}

// TestAuthMatrix: every route refuses whoever has no token, a wrong one, one that
// has ended, or one of too low a role, and nothing is done.
func TestAuthMatrix(t *testing.T) {
	const old, due, fresh = "token-that-ended-yesterday", "token-that-ends-this-moment", "token-that-ends-in-a-moment"
	b := newBench(t, func(c *Config, _ *Deps) {
		for name, end := range map[string]time.Time{old: t0.AddDate(0, 0, -1), due: t0, fresh: t0.Add(time.Second)} {
			c.Tokens = append(c.Tokens, Token{Name: name, Role: RoleAdmin, Hash: sha256.Sum256([]byte(name)), Expires: end})
		}
	})
	sum := sha256.Sum256([]byte(secret(RoleAdmin)))
	before := b.state(t)
	for _, m := range matrix {
		path := Prefix + b.fill(m.path)
		for name, tc := range map[string]struct {
			head string
			want string
		}{
			"no token":            {"", "a token is needed"},
			"unknown":             {"Bearer " + strings.Repeat("x", 40), "not accepted"},
			"ended":               {"Bearer " + old, "expired on 2026-11-21T07:00:00Z"},
			"ends exactly now":    {"Bearer " + due, "expired on 2026-11-22T07:00:00Z"},
			"its hash":            {fmt.Sprintf("Bearer %x", sum), "not accepted"},
			"basic":               {"Basic " + secret(RoleAdmin), "send it once"},
			"two in one":          {"Bearer " + secret(RoleAdmin) + ", Bearer x", "not accepted"},
			"empty":               {"Bearer ", "send it once"},
			"with a tail":         {"Bearer " + secret(RoleAdmin) + "\tx", "not accepted"},
			"in another encoding": {"Bearer " + url.QueryEscape(secret(RoleAdmin)+" "), "not accepted"},
		} {
			var head []string
			if tc.head != "" {
				head = []string{"Authorization", tc.head}
			}
			a := b.do(t, 0, m.method, path, m.body, head...)
			if p := a.problem(t, 401); !strings.Contains(p.Detail, tc.want) || strings.Contains(a.body, secret(RoleAdmin)) {
				t.Errorf("%s, %s: %q", m.path, name, p.Detail)
			}
		}
		for role := RoleViewer; role < m.role; role++ {
			b.do(t, role, m.method, path, m.body, "If-Match", `"1"`).problem(t, 403)
		}
	}
	if after := b.state(t); after != before {
		t.Errorf("something was done:\n%s\n%s", before, after)
	}
	if a := b.do(t, 0, "GET", Prefix+"/whoami", "", "Authorization", "Bearer "+fresh); a.code != 200 || !strings.Contains(a.body, `"expires":"2026-11-22T07:00:01Z"`) {
		t.Errorf("a token just before its end: %d %s", a.code, a.body)
	}
}

// TestForgery: nothing that a browser sends by itself authorises, no answer lets a
// foreign page read it, and there is no session that could be fixed.
func TestForgery(t *testing.T) {
	b := newBench(t, nil)
	before := b.state(t)
	for _, m := range matrix {
		path := Prefix + b.fill(m.path)
		join := "?"
		if strings.Contains(path, "?") {
			join = "&"
		}
		for name, tc := range map[string]struct {
			path string
			head []string
		}{
			"cookies":         {path, []string{"Cookie", "token=" + secret(RoleAdmin) + "; session=" + secret(RoleAdmin) + "; Authorization=Bearer " + secret(RoleAdmin)}},
			"query":           {path + join + "token=" + secret(RoleAdmin) + "&access_token=" + secret(RoleAdmin), nil},
			"other headers":   {path, []string{"X-Api-Key", secret(RoleAdmin), "X-Auth-Token", secret(RoleAdmin), "Proxy-Authorization", "Bearer " + secret(RoleAdmin)}},
			"foreign page":    {path, []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}},
			"form":            {path, []string{"Content-Type", "application/x-www-form-urlencoded", "Origin", "null"}},
			"method override": {path, []string{"X-Http-Method-Override", "GET", "X-Forwarded-For", "127.0.0.1", "X-Original-Url", "/healthz"}},
		} {
			a := b.do(t, 0, m.method, tc.path, m.body, tc.head...)
			if a.problem(t, 401); a.head.Get("Set-Cookie") != "" || a.head.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s by %s: %v", m.path, name, a.head)
			}
		}
		// With a token, and so from a script of ours, a foreign page still may not read.
		if m.op != "events" {
			a := b.do(t, RoleViewer, http.MethodOptions, path, "", "Origin", "https://evil.example", "Access-Control-Request-Method", m.method)
			for k := range a.head {
				if strings.HasPrefix(k, "Access-Control-") || k == "Set-Cookie" {
					t.Errorf("%s: %s", m.path, k)
				}
			}
			if a.code < 400 {
				t.Errorf("OPTIONS %s: %d", m.path, a.code)
			}
		}
	}
	if after := b.state(t); after != before {
		t.Error("something was done")
	}
	for _, ct := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml"} {
		a := b.do(t, RoleAdmin, "POST", Prefix+"/incidents/inc-1/release", `{"statement":"x"}`, "Content-Type", ct)
		if a.code < 400 || b.state(t) != before {
			t.Errorf("a write as %s: %d", ct, a.code)
		}
	}
}

// TestNoScript: what customers, attackers and reporters write reaches a browser as
// JSON without angle brackets, or as text that is not sniffed.
func TestNoScript(t *testing.T) {
	b := newBench(t, nil)
	seen := 0
	for _, m := range matrix {
		if m.method != "GET" || m.op == "events" {
			continue
		}
		a := b.do(t, RoleAdmin, "GET", Prefix+b.fill(m.path), "")
		if a.head.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(a.head.Get("Content-Security-Policy"), "default-src 'self'") {
			t.Errorf("%s: %v", m.path, a.head)
		}
		switch mt, _, _ := strings.Cut(a.head.Get("Content-Type"), ";"); mt {
		case "application/json":
			if strings.ContainsAny(a.body, "<>") {
				t.Errorf("%s: a bracket in JSON", m.path)
			}
			if strings.Contains(a.body, `\u003cimg`) {
				seen++
			}
		case "text/plain", "text/csv", "application/x-ndjson", "application/zip", "application/openapi+json":
		default:
			t.Errorf("%s is of type %s", m.path, mt)
		}
	}
	if seen < 6 {
		t.Errorf("only %d answers held the hostile text; the test says little", seen)
	}
	// Errors echo what was sent.
	for _, path := range []string{"/hosts/" + url.PathEscape(hostile), "/incidents/" + url.PathEscape(hostile), "/incidents?rule=" + url.QueryEscape(hostile), "/" + url.PathEscape(hostile), "/exemptions/" + url.PathEscape(hostile)} {
		a := b.get(t, Prefix+path)
		if a.code < 400 || strings.ContainsAny(a.body, "<>") || a.head.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", path, a.code, a.body)
		}
	}
}

// inputs that have opened other doors.
var inputs = []string{
	`' OR '1'='1`, `1; DROP TABLE flows`, `') UNION ALL SELECT * FROM system.users --`, `{tenant:IPv6}`, `\`, "'", `"`, "`",
	"a\r\nX-Evil: 1", "a\nSet-Cookie: x=1", "%0d%0aX-Evil:%201", "\x00", "\xff\xfe", "../../../etc/passwd", "..%2f..%2f", "${jndi:ldap://x}", "{{7*7}}", hostile,
	"-1", "99999999999999999999999", "1e309", "NaN", "0x7f", "٣", "null", "[]", "{}", "true", strings.Repeat("A", 5000), "::1%eth0", "0.0.0.0/0", "::/0", "+9999999h", "-9999999h", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z",
}

// TestInjection puts each of them into every parameter of every operation: none is
// a fault of ours, none adds a header, and what reaches the store is bound there
// (store.TestReads, store.TestSearchFlows).
func TestInjection(t *testing.T) {
	b := newBench(t, nil)
	doc := document(t, b)
	tried := 0
	for path, ops := range doc["paths"].(map[string]any) {
		for method, v := range ops.(map[string]any) {
			op := v.(map[string]any)
			if method != "get" || op["operationId"] == "events" {
				continue
			}
			params, _ := op["parameters"].([]any)
			for _, p := range params {
				name, in := p.(map[string]any)["name"].(string), p.(map[string]any)["in"].(string)
				for _, x := range inputs {
					target, _, _ := b.request(t, doc, path, op)
					u, err := url.Parse(target)
					if err != nil {
						t.Fatal(err)
					}
					var head []string
					switch in {
					case "path":
						u.Path, u.RawPath = "", ""
						target = strings.Replace(Prefix+path, "{"+name+"}", url.PathEscape(x), 1)
						target = strings.NewReplacer("{id}", "inc-1", "{form}", "netscan", "{ip}", "198.18.0.7").Replace(target)
					case "query":
						q := u.Query()
						q.Set(name, x)
						u.RawQuery = q.Encode()
						target = u.String()
					case "header":
						if strings.ContainsAny(x, "\r\n\x00") { // which Go's client would not send
							continue
						}
						head = []string{name, x}
					}
					a := b.do(t, RoleAdmin, "GET", target, "", head...)
					tried++
					if a.code >= 500 {
						t.Errorf("%s of %s is %.40q: %d %s", name, path, x, a.code, a.body)
					}
					if a.head.Get("X-Evil") != "" || a.head.Get("Set-Cookie") != "" {
						t.Errorf("%s of %s is %.40q: %v", name, path, x, a.head)
					}
					if a.code >= 400 && len(a.body) > 4000 {
						t.Errorf("%s of %s is %.40q: %d bytes of an error", name, path, x, len(a.body))
					}
				}
			}
		}
	}
	if tried < 2000 {
		t.Errorf("%d tried", tried)
	}
	if n := b.logs.FilterMessage("panic in a handler").Len(); n > 0 {
		t.Errorf("%d panics", n)
	}
}

// TestHostileBodies puts them into every text of every body, and sends bodies that
// are too large, too deep, or none.
func TestHostileBodies(t *testing.T) {
	for _, m := range matrix {
		if m.body == "" {
			continue
		}
		b := newBench(t, nil)
		path := Prefix + b.fill(m.path)
		var fields map[string]any
		if err := json.Unmarshal([]byte(m.body), &fields); err != nil {
			t.Fatal(err)
		}
		bodies := []string{"", "x", "[]", "null", "0", `"x"`, `{"` + slices.Sorted(maps.Keys(fields))[0] + `":{}}`, m.body + m.body, m.body[:len(m.body)-1],
			strings.Repeat(`{"a":`, 10_000), strings.Repeat("[", 100_000), `{"unknown":1}`}
		for name := range fields {
			for _, x := range inputs {
				c := maps.Clone(fields)
				c[name] = x
				text, err := json.Marshal(c)
				if err != nil {
					t.Fatal(err)
				}
				bodies = append(bodies, string(text))
			}
		}
		for _, body := range bodies {
			a := b.do(t, RoleAdmin, m.method, path, body, "Content-Type", "application/json", "If-Match", `"1"`)
			if a.code >= 500 || a.head.Get("X-Evil") != "" || a.code >= 400 && len(a.body) > 8000 {
				t.Errorf("%s %s with %.60q: %d, %d bytes, %.300s", m.method, m.path, body, a.code, len(a.body), a.body)
			}
		}
		over := maxBody
		if m.op == "complaint" {
			over = maxComplaint
		}
		before := b.state(t)
		large := strings.Replace(m.body, `"x"`, `"`+strings.Repeat("x", over)+`"`, 1)
		b.do(t, RoleAdmin, m.method, path, large, "If-Match", `"1"`).problem(t, 413)
		if b.state(t) != before {
			t.Errorf("%s did something with a body that is too large", m.path)
		}
	}
}

// TestSlowClients: whoever sends its header or its body by drips is cut off, and so
// is a header that is too large. The service's times are shortened here.
func TestSlowClients(t *testing.T) {
	b := newBench(t, nil)
	s := httptest.NewUnstartedServer(nil)
	s.Config = NewServer(b.h)
	if s.Config.ReadHeaderTimeout > 10*time.Second || s.Config.ReadTimeout > time.Minute || s.Config.WriteTimeout > 2*time.Minute || s.Config.MaxHeaderBytes > 64<<10 {
		t.Errorf("the service waits too long: %+v", s.Config)
	}
	s.Config.ReadHeaderTimeout, s.Config.ReadTimeout, s.Config.IdleTimeout = 2*time.Second, 3*time.Second, 2*time.Second
	s.Start()
	t.Cleanup(s.Close)
	auth := "Authorization: Bearer " + secret(RoleAdmin) + "\r\n"
	t.Run("all", func(t *testing.T) { // ends when all of them have
		for name, tc := range map[string]struct{ send, want string }{
			"half a header": {"GET / HTTP/1.1\r\nHost: x\r\nX-A: ", ""},
			"no header":     {"", ""},
			"half a body":   {"POST " + Prefix + "/incidents/inc-1/release HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", "4"},
			"half a chunk":  {"POST " + Prefix + "/undo HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", "4"},
			"large header":  {"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "431"},
			"two lengths":   {"POST " + Prefix + "/undo HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", "400"},
			"folded header": {"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\r\n b\r\nX-B : c\r\n\r\n", "400"},
			"no host":       {"GET / HTTP/1.1\r\n\r\n", "400"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c, err := net.Dial("tcp", s.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				_ = c.SetDeadline(time.Now().Add(30 * time.Second)) // a hang
				if _, err := io.WriteString(c, tc.send); err != nil {
					t.Error(err)
				}
				got, err := io.ReadAll(bufio.NewReader(c)) // until it is closed by the other side
				var slow net.Error
				if errors.As(err, &slow) && slow.Timeout() {
					t.Error("the connection is still open")
				}
				line, _, _ := strings.Cut(string(got), "\r\n")
				if tc.want != "" && !strings.HasPrefix(strings.TrimPrefix(line, "HTTP/1.1 "), tc.want) {
					t.Errorf("%q", line)
				}
				if strings.HasPrefix(line, "HTTP/1.1 2") {
					t.Errorf("it was answered: %q", line)
				}
				_ = c.Close()
			})
		}
	})
	inc, _, _ := b.desk.Incident("inc-1")
	if inc.State != sampleIncidents()[0].State {
		t.Error("half a body released an incident")
	}
}

// TestRateLimit: a token that asks too often is told when it may again; others are
// not touched.
func TestRateLimit(t *testing.T) {
	b := newBench(t, func(c *Config, _ *Deps) {
		c.Rate = Rate{PerSecond: 0.001, Burst: 3} // no token comes back while the test runs
		c.Tokens[1].Rate = Rate{PerSecond: 1000, Burst: 1000}
		c.Tokens[2].Rate = Rate{PerSecond: Unbounded}
	})
	for range 20 {
		if a := b.do(t, RoleOperator, "GET", Prefix+"/whoami", ""); a.code != 200 || strings.Contains(a.body, `"rate"`) {
			t.Fatalf("a token without a bound: %d %s", a.code, a.body)
		}
	}
	for i := range 3 {
		if a := b.get(t, Prefix+"/whoami"); a.code != 200 {
			t.Fatalf("call %d: %d", i, a.code)
		}
	}
	a := b.get(t, Prefix+"/whoami")
	if p := a.problem(t, 429); a.head.Get("Retry-After") == "" || len(a.head.Get("Retry-After")) < 3 || !strings.Contains(p.Detail, "token test-viewer may call 0.001 times a second, 3 at once") {
		t.Errorf("%v %q", a.head, p.Detail)
	}
	for range 20 {
		if a := b.do(t, RoleAbuse, "GET", Prefix+"/whoami", ""); a.code != 200 || !strings.Contains(a.body, `"rate":{"per_second":1000,"burst":1000}`) {
			t.Fatalf("another token: %d %s", a.code, a.body)
		}
	}
	if m := b.do(t, RoleAbuse, "GET", "/metrics", "").body; !strings.Contains(m, "flowcordon_http_limited_total 1\n") {
		t.Error("it is not counted")
	}
}

// TestETags: what is polled is sent once.
func TestETags(t *testing.T) {
	b := newBench(t, nil)
	for _, path := range []string{"/incidents", "/incidents/inc-1", "/exporters", "/freezes", "/exemptions", "/tenants", "/tenants/c-42", "/rules/cases", "/hosts/198.18.0.7/policy"} {
		a := b.get(t, Prefix+path)
		tag := a.head.Get("ETag")
		if a.code != 200 || !strings.HasPrefix(tag, `W/"`) {
			t.Errorf("%s: %d, tag %s", path, a.code, tag)
			continue
		}
		for _, match := range []string{tag, `"x", ` + tag, strings.TrimPrefix(tag, "W/"), "*"} {
			if a := b.get(t, Prefix+path, "If-None-Match", match); a.code != 304 || a.body != "" || a.head.Get("ETag") != tag {
				t.Errorf("%s with %s: %d %s", path, match, a.code, a.body)
			}
		}
		if a := b.get(t, Prefix+path, "If-None-Match", `"other"`); a.code != 200 || a.body == "" {
			t.Errorf("%s with another tag: %d", path, a.code)
		}
	}
	tag := b.get(t, Prefix+"/incidents").head.Get("ETag")
	b.do(t, RoleAbuse, "POST", Prefix+"/incidents/inc-3/close", `{"reason":"x"}`)
	if a := b.get(t, Prefix+"/incidents", "If-None-Match", tag); a.code != 200 || a.head.Get("ETag") == tag {
		t.Errorf("after a change: %d", a.code)
	}
	if a := b.get(t, Prefix+"/incidents/none", "If-None-Match", "*"); a.code != 404 || a.head.Get("ETag") != "" {
		t.Errorf("an error: %d %v", a.code, a.head)
	}
}
