package panel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

var (
	secret = []byte("a secret of the test")
	now    = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
)

const mac = "52:54:00:00:00:07"

func newPanel(t *testing.T) (*Panel, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	return New(Config{
		Secret: secret, NICs: []NIC{{VDS: "vds-7", MAC: mac, IP: "198.18.0.7"}}, Log: log,
		Now: func() time.Time { return now },
	}), log
}

func suspend(key, incident string) Request {
	return Request{Action: "suspend", Key: key, Incident: incident, VDS: "vds-7", MAC: mac, Reason: "netscan", At: now}
}

func restore(key, incident string) Request {
	r := suspend(key, incident)
	r.Action = "restore"
	return r
}

// post sends body as a suspender does; edit may spoil the request.
func post(h http.Handler, key string, body []byte, at time.Time, edit func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/hypervisor", bytes.NewReader(body))
	ts, sig := Sign(secret, at, body)
	r.Header.Set("X-Flowcordon-Timestamp", ts)
	r.Header.Set("X-Flowcordon-Signature", sig)
	r.Header.Set("Idempotency-Key", key)
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func do(t *testing.T, p *Panel, req Request) (int, State) {
	t.Helper()
	body, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	w := post(p, req.Key, body, now, nil)
	var s State
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
	} else if !strings.Contains(w.Body.String(), `"error":`) {
		t.Errorf("status %d without an error: %s", w.Code, w.Body)
	}
	return w.Code, s
}

func TestSuspendAndRestore(t *testing.T) {
	up := State{Live: Up, Config: Up, Running: true}
	held := func(key, incident string) State {
		return State{Live: Down, Config: Down, Running: true,
			Mark: &Mark{Incident: incident, Key: key, By: "flowcordon", Reason: "netscan", At: now}}
	}
	for _, tc := range []struct {
		name    string
		before  func(*Panel)
		steps   []Request
		code    int // of the last step
		state   State
		changes string // actions of the real changes
	}{
		{"status", nil, []Request{{Action: "status", MAC: mac}}, 200, up, ""},
		{"suspend", nil, []Request{suspend("k1", "i1")}, 200, held("k1", "i1"), "suspend"},
		{"suspend again with the same key", nil, []Request{suspend("k1", "i1"), suspend("k1", "i1")}, 200, held("k1", "i1"), "suspend"},
		{"suspend again with another key", nil, []Request{suspend("k1", "i1"), suspend("k2", "i1")}, 200, held("k1", "i1"), "suspend"},
		{"suspend for another incident", nil, []Request{suspend("k1", "i1"), suspend("k2", "i2")}, 409, held("k1", "i1"), "suspend"},
		{"restore", nil, []Request{suspend("k1", "i1"), restore("k2", "i1")}, 200, up, "suspend restore"},
		{"restore of another incident", nil, []Request{suspend("k1", "i1"), restore("k2", "i2")}, 409, held("k1", "i1"), "suspend"},
		{"late suspend after its restore", nil, []Request{suspend("k1", "i1"), restore("k2", "i1"), suspend("k1", "i1")}, 200, up, "suspend restore"},
		{"late restore after a new suspend", nil, []Request{suspend("k1", "i1"), restore("k2", "i1"), suspend("k3", "i1"), restore("k2", "i1")},
			200, held("k3", "i1"), "suspend restore suspend"},
		{"restore of what an administrator cut", func(p *Panel) { p.Set(mac, State{Live: Down, Config: Down, Running: true}) },
			[]Request{restore("k1", "i1")}, 200, State{Live: Down, Config: Down, Running: true}, ""},
		{"restore gives back the state before", func(p *Panel) { p.Set(mac, State{Live: Up, Config: Down, Running: true}) },
			[]Request{suspend("k1", "i1"), restore("k2", "i1")}, 200, State{Live: Up, Config: Down, Running: true}, "suspend restore"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, log := newPanel(t)
			if tc.before != nil {
				tc.before(p)
			}
			code := 0
			for _, s := range tc.steps {
				code, _ = do(t, p, s)
			}
			if code != tc.code {
				t.Errorf("status %d, want %d", code, tc.code)
			}
			got, _ := p.State(mac)
			if diff := cmp.Diff(tc.state, got); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
			var acts []string
			for _, c := range p.Changes() {
				acts = append(acts, c.Action)
			}
			if s := strings.Join(acts, " "); s != tc.changes {
				t.Errorf("changes %q, want %q", s, tc.changes)
			}
			if p.IsCut(mac) != (tc.state.Live == Down) {
				t.Errorf("IsCut = %v in state %+v", p.IsCut(mac), tc.state)
			}
			if n := strings.Count(log.String(), "\n"); n != len(tc.steps) || p.Requests() != n {
				t.Errorf("%d lines logged, %d requests counted, want %d", n, p.Requests(), len(tc.steps))
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	good, _ := json.Marshal(suspend("k1", "i1"))
	with := func(edit func(*Request)) []byte {
		r := suspend("k1", "i1")
		edit(&r)
		b, _ := json.Marshal(r)
		return b
	}
	for _, tc := range []struct {
		name string
		body []byte
		at   time.Time
		edit func(*http.Request)
		code int
	}{
		{"300 s old is taken", good, now.Add(-300 * time.Second), nil, 200},
		{"301 s old", good, now.Add(-301 * time.Second), nil, 401},
		{"301 s ahead", good, now.Add(301 * time.Second), nil, 401},
		{"no signature", good, now, func(r *http.Request) { r.Header.Del("X-Flowcordon-Signature") }, 401},
		{"timestamp not signed", good, now.Add(-time.Second), func(r *http.Request) {
			ts, _ := Sign(secret, now, good)
			r.Header.Set("X-Flowcordon-Timestamp", ts)
		}, 401},
		{"other secret", good, now, func(r *http.Request) {
			_, sig := Sign([]byte("other"), now, good)
			r.Header.Set("X-Flowcordon-Signature", sig)
		}, 401},
		{"not JSON", []byte("{"), now, nil, 400},
		{"header key differs", good, now, func(r *http.Request) { r.Header.Set("Idempotency-Key", "k2") }, 400},
		{"no incident", with(func(r *Request) { r.Incident = "" }), now, nil, 400},
		{"no mac", with(func(r *Request) { r.MAC = "" }), now, nil, 400},
		{"unknown mac", with(func(r *Request) { r.MAC = "52:54:00:00:00:08" }), now, nil, 404},
		{"other VM's mac", with(func(r *Request) { r.VDS = "vds-8" }), now, nil, 409},
		{"unknown action", with(func(r *Request) { r.Action = "destroy" }), now, nil, 501},
		{"PUT", good, now, func(r *http.Request) { r.Method = http.MethodPut }, 405},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, _ := newPanel(t)
			w := post(p, "k1", tc.body, tc.at, tc.edit)
			if w.Code != tc.code {
				t.Errorf("status %d, want %d: %s", w.Code, tc.code, w.Body)
			}
			if p.IsCut(mac) != (tc.code == 200) {
				t.Errorf("cut = %v after status %d", p.IsCut(mac), w.Code)
			}
		})
	}
}

func TestHangAndFail(t *testing.T) {
	p, log := newPanel(t)
	body, _ := json.Marshal(suspend("k1", "i1"))
	p.Fail(http.StatusServiceUnavailable)
	if w := post(p, "k1", body, now, nil); w.Code != 503 || p.IsCut(mac) {
		t.Errorf("told to fail: status %d, cut %v", w.Code, p.IsCut(mac))
	}
	p.Fail(0)
	p.Hang(time.Minute)
	started := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	post(p, "k1", body, now, func(r *http.Request) { *r = *r.WithContext(ctx) })
	if d := time.Since(started); d < 40*time.Millisecond || d > 50*time.Second || p.IsCut(mac) {
		t.Errorf("told to hang: returned after %s, cut %v", d, p.IsCut(mac))
	}
	p.Hang(0)
	if w := post(p, "k1", body, now, nil); w.Code != 200 || !p.IsCut(mac) {
		t.Errorf("well again: status %d, cut %v", w.Code, p.IsCut(mac))
	}
	if n := strings.Count(log.String(), "\n"); n != 3 {
		t.Errorf("%d requests logged, want 3:\n%s", n, log)
	}
}

func TestAnyNICAndOnChange(t *testing.T) {
	var seen []Change
	p := New(Config{Secret: secret, AnyNIC: true, Now: func() time.Time { return now }, OnChange: func(c Change) { seen = append(seen, c) }})
	r := suspend("k1", "i1")
	r.MAC = "52:54:00:AA:00:01"
	for range 2 {
		if code, _ := do(t, p, r); code != 200 {
			t.Fatalf("status %d", code)
		}
	}
	if len(seen) != 1 || seen[0].MAC != "52:54:00:aa:00:01" || !p.IsCut(r.MAC) {
		t.Errorf("changes seen: %+v", seen)
	}
}

func TestConsole(t *testing.T) {
	p, _ := newPanel(t)
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	do(t, p, suspend("k1", "i1"))
	if code, text := get("/hypervisor/console/vds-7"); code != 200 || !strings.Contains(text, "vds-7 login:") {
		t.Errorf("console of a cut VM: %d %s", code, text)
	}
	p.Set(mac, State{Live: Down, Config: Down})
	if code, _ := get("/hypervisor/console/vds-7"); code != 409 {
		t.Errorf("console of a stopped VM: %d", code)
	}
	if code, _ := get("/hypervisor/console/vds-8"); code != 404 {
		t.Errorf("console of an unknown VM: %d", code)
	}
}

func TestTickets(t *testing.T) {
	sum := sha256.Sum256([]byte("log text"))
	ticket := Ticket{Event: "suspended", Incident: flow.Incident{ID: "i1"}, Subject: "Network of 198.18.0.7 suspended",
		Logs: []flow.EvidenceLog{{Form: "netscan", Name: "netscan.txt", Text: "log text", SHA256: hex.EncodeToString(sum[:])}}}
	var files []string
	h := &Tickets{Dir: t.TempDir(), Secret: secret, OnTicket: func(_ Ticket, f string) { files = append(files, f) }}
	good, _ := json.Marshal(ticket)
	ticket.Logs[0].Text = "altered"
	bad, _ := json.Marshal(ticket)
	for _, tc := range []struct {
		name, key string
		body      []byte
		at        time.Time
		code      int
		files     int
	}{
		{"accepted", "n1", good, time.Now(), 201, 1},
		{"repeated", "n1", good, time.Now(), 201, 1},
		{"second", "n2", good, time.Now(), 201, 2},
		{"no key", "", good, time.Now(), 400, 2},
		{"altered log", "n3", bad, time.Now(), 400, 2},
		{"stale", "n4", good, now.AddDate(-1, 0, 0), 401, 2},
	} {
		if w := post(h, tc.key, tc.body, tc.at, nil); w.Code != tc.code {
			t.Errorf("%s: status %d, want %d: %s", tc.name, w.Code, tc.code, w.Body)
		}
		if len(files) != tc.files {
			t.Errorf("%s: %d files, want %d", tc.name, len(files), tc.files)
		}
	}
	got, err := os.ReadFile(filepath.Join(h.Dir, "001-suspended.json"))
	if err != nil || !bytes.Equal(got, good) {
		t.Errorf("file: %v\n%s", err, got)
	}
}
