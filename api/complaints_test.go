package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/complaint"
)

// askedMatcher is a matcher that remembers what it was asked.
type askedMatcher struct {
	mu   sync.Mutex
	req  ComplaintRequest
	fail error
	hold chan struct{}

	entered chan struct{}
}

type askedAnswer struct {
	Echo  string   `json:"echo" doc:"what came in"`
	Lines []string `json:"lines"`
}

func (m *askedMatcher) Match(ctx context.Context, req ComplaintRequest) (any, error) {
	m.mu.Lock()
	m.req = req
	m.req.Data = bytes.Clone(req.Data)
	hold, fail, entered := m.hold, m.fail, m.entered
	m.mu.Unlock()
	if entered != nil {
		entered <- struct{}{}
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return askedAnswer{Echo: string(req.Data), Lines: []string{}}, fail
}

func (m *askedMatcher) Shape() any { return askedAnswer{} }

func (m *askedMatcher) asked() ComplaintRequest {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.req
}

func complaintBench(t *testing.T) (*bench, *askedMatcher) {
	t.Helper()
	m := &askedMatcher{}
	if _, there := newBench(t, func(_ *Config, d *Deps) { d.Complaints, d.Cases = nil, nil }).h.OpenAPI().Paths["/complaints"]; there {
		t.Fatal("the route is there without a matcher")
	}
	return newBench(t, func(_ *Config, d *Deps) { d.Complaints = m }), m
}

func TestComplaintForms(t *testing.T) {
	b, m := complaintBench(t)
	path := Prefix + "/complaints"
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, query, typ, body string
		want                   ComplaintRequest
	}{
		{"text", "", "text/plain; charset=utf-8", "a line", ComplaintRequest{Data: []byte("a line"), Type: "text/plain", Received: t0}},
		{"a mail", "?received=2026-11-20T12:00:00Z&zone=Europe/Moscow&target=203.0.113.9", "message/rfc822", "From: a\n\nb",
			ComplaintRequest{Data: []byte("From: a\n\nb"), Type: "message/rfc822", Received: at, Zone: "Europe/Moscow", Target: netip.MustParseAddr("203.0.113.9")}},
		{"json", "", "application/json", `{"text":"a\nb","received":"2026-11-20T12:00:00Z","zone":"+03:00","target":"203.0.113.9"}`,
			ComplaintRequest{Data: []byte("a\nb"), Type: "text/plain", Received: at, Zone: "+03:00", Target: netip.MustParseAddr("203.0.113.9")}},
		{"the query goes before the body", "?zone=%2B02:00", "application/json", `{"text":"a","zone":"+03:00"}`,
			ComplaintRequest{Data: []byte("a"), Type: "text/plain", Received: t0, Zone: "+02:00"}},
		{"a report", "", "application/json", `{"xarf_version":"4.0.0"}`, ComplaintRequest{Data: []byte(`{"xarf_version":"4.0.0"}`), Type: "application/json", Received: t0}},
		{"a list of reports", "", "application/json", `[{"a":1}]`, ComplaintRequest{Data: []byte(`[{"a":1}]`), Type: "application/json", Received: t0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got askedAnswer
			b.do(t, RoleAbuse, http.MethodPost, path+tt.query, tt.body, "Content-Type", tt.typ).into(t, &got)
			if d := cmp.Diff(tt.want, m.asked(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" || got.Echo != string(tt.want.Data) {
				t.Errorf("asked -want +got\n%s", d)
			}
		})
	}
}

func TestComplaintRefused(t *testing.T) {
	b, m := complaintBench(t)
	path := Prefix + "/complaints"
	for _, tt := range []struct {
		name, query, typ, body string
		role                   Role
		code                   int
		say                    string
	}{
		{"no token", "", "text/plain", "x", 0, 401, "Authorization"},
		{"a viewer", "", "text/plain", "x", RoleViewer, 403, "needs abuse"},
		{"nothing", "", "text/plain", "", RoleAbuse, 400, "required"},
		{"a form", "", "application/x-www-form-urlencoded", "a=b", RoleAbuse, 415, "send text/plain"},
		{"broken JSON", "", "application/json", `{"text":`, RoleAbuse, 400, "no JSON object"},
		{"a time", "?received=yesterday", "text/plain", "x", RoleAbuse, 422, "received"},
		{"the future", "?received=2030-01-01T00:00:00Z", "text/plain", "x", RoleAbuse, 422, "future"},
		{"an address", "?target=host", "text/plain", "x", RoleAbuse, 422, "target"},
		{"a parameter", "?zoen=UTC", "text/plain", "x", RoleAbuse, 422, "zoen"},
		{"too large", "", "text/plain", strings.Repeat("x", maxComplaint+1), RoleAbuse, 413, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := b.do(t, tt.role, http.MethodPost, path+tt.query, tt.body, "Content-Type", tt.typ).problem(t, tt.code)
			if !strings.Contains(p.Detail, tt.say) {
				t.Errorf("the detail says %q", p.Detail)
			}
		})
	}
	if m.asked().Data != nil {
		t.Error("a refused complaint was matched")
	}
	m.fail = ErrInvalid("time zone \"X\" is not known")
	if p := b.do(t, RoleAbuse, http.MethodPost, path, "x", "Content-Type", "text/plain").problem(t, 422); !strings.Contains(p.Detail, "time zone") {
		t.Errorf("the matcher's own refusal: %q", p.Detail)
	}
	m.fail = errors.New("secret of the inside")
	if p := b.do(t, RoleAbuse, http.MethodPost, path, "x", "Content-Type", "text/plain").problem(t, 503); strings.Contains(p.Detail, "secret") {
		t.Errorf("the inside is shown: %q", p.Detail)
	}
}

// Only so many are matched at a time; the others wait, and are told when nobody
// waits for them any more.
func TestComplaintBusy(t *testing.T) {
	b, m := complaintBench(t)
	m.hold, m.entered = make(chan struct{}), make(chan struct{}, 2*maxMatching)
	var wg sync.WaitGroup
	codes := make(chan int, 2*maxMatching)
	for range 2 * maxMatching {
		wg.Go(func() {
			codes <- b.do(t, RoleAbuse, http.MethodPost, Prefix+"/complaints", "x", "Content-Type", "text/plain").code
		})
	}
	for range maxMatching {
		<-m.entered
	}
	select {
	case <-m.entered:
		t.Error("more are matched at a time than may be")
	case <-time.After(50 * time.Millisecond): // nobody comes; a slow machine makes this pass, never fail
	}
	close(m.hold)
	wg.Wait()
	close(codes)
	for c := range codes {
		if c != http.StatusOK {
			t.Errorf("status %d", c)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	full := make(chan struct{}) // nobody ever takes from it
	_, err := b.h.complaint(ctx, m, full, &complaintInput{ContentType: "text/plain", RawBody: []byte("x")})
	if e := (*Error)(nil); !errors.As(err, &e) || e.Status != http.StatusServiceUnavailable {
		t.Errorf("given up: %v", err)
	}
}

func TestComplaintDocument(t *testing.T) {
	b, _ := complaintBench(t)
	doc := b.h.OpenAPI()
	op := doc.Paths["/complaints"].Post
	for _, typ := range []string{"text/plain", "message/rfc822", "application/json"} {
		if op.RequestBody.Content[typ] == nil {
			t.Errorf("%s is not described", typ)
		}
	}
	if len(op.RequestBody.Content) != 3 {
		t.Errorf("%d types are described, want 3", len(op.RequestBody.Content))
	}
	s := doc.Components.Schemas.Map()["ComplaintaskedAnswer"]
	if s == nil {
		s = doc.Components.Schemas.Map()["ComplaintAskedAnswer"]
	}
	if s == nil || s.Properties["echo"] == nil || s.Properties["lines"].Nullable {
		t.Errorf("the answer is not described: %+v", s)
	}
	logged := b.logs.FilterMessage("complaint").Len()
	b.do(t, RoleAbuse, http.MethodPost, Prefix+"/complaints", "x", "Content-Type", "text/plain")
	if got := b.logs.FilterMessage("complaint").Len(); got != logged+1 {
		t.Errorf("%d lines in the audit log", got-logged)
	}
}

// realShape has the shape of the real answer.
type realShape struct{ askedMatcher }

func (*realShape) Shape() any { return complaint.Result{} }

// The real answer's types are described under names of their own, and with
// lists that are never null.
func TestComplaintRealDocument(t *testing.T) {
	before := len(newBench(t, func(_ *Config, d *Deps) { d.Complaints = nil }).h.OpenAPI().Components.Schemas.Map())
	b := newBench(t, func(_ *Config, d *Deps) { d.Complaints = &realShape{} })
	schemas := b.h.OpenAPI().Components.Schemas.Map()
	for _, name := range []string{"ComplaintResult", "ComplaintLine", "ComplaintCase", "ComplaintTraffic", "ComplaintSkew", "ComplaintNote", "ComplaintUnread"} {
		if schemas[name] == nil {
			t.Errorf("%s is not described", name)
		}
	}
	for name := range schemas {
		if strings.Contains(name, "ComplaintComplaint") {
			t.Errorf("%s stutters", name)
		}
	}
	doc := b.get(t, Prefix+"/openapi.json")
	if doc.code != 200 || strings.Contains(doc.body, `"null"`) || !strings.Contains(doc.body, `"/complaints"`) {
		t.Errorf("status %d; allows null: %v", doc.code, strings.Contains(doc.body, `"null"`))
	}
	if len(schemas) < before+10 {
		t.Errorf("%d schemas were added", len(schemas)-before)
	}
}
