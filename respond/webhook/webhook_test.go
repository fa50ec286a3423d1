package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
)

var (
	secret  = []byte("a secret of this test, 32 bytes.")
	testNIC = flow.NIC{VDS: "vds-1001", Hypervisor: "panel", MAC: "52:54:00:aa:10:01", IP: netip.MustParseAddr("198.51.100.10")}
)

// receiver is a panel as docs/webhook.md asks for, written from that page.
type receiver struct {
	t  *testing.T
	mu sync.Mutex
	// by MAC
	nics  map[string]*nicState
	calls []string
}

type nicState struct{ now, before map[string]any }

func up() map[string]any {
	return map[string]any{"live": "up", "config": "up", "running": true, "mark": nil}
}

func newReceiver(t *testing.T) *receiver {
	return &receiver{t: t, nics: map[string]*nicState{testNIC.MAC: {now: up()}}}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, _ := io.ReadAll(q.Body)
	stamp := q.Header.Get("X-Flowcordon-Timestamp")
	mac := hmac.New(sha256.New, secret)
	_, _ = io.WriteString(mac, stamp)
	_, _ = io.WriteString(mac, ".")
	_, _ = mac.Write(body)
	got, err := hex.DecodeString(strings.TrimPrefix(q.Header.Get("X-Flowcordon-Signature"), "sha256="))
	sec, _ := strconv.ParseInt(stamp, 10, 64)
	if err != nil || !hmac.Equal(got, mac.Sum(nil)) || time.Since(time.Unix(sec, 0)).Abs() > 300*time.Second {
		refuse(w, 401, "bad signature")
		return
	}
	var b map[string]string
	if err := json.Unmarshal(body, &b); err != nil {
		refuse(w, 400, err.Error())
		return
	}
	if b["action"] != "status" && (b["key"] == "" || q.Header.Get("Idempotency-Key") != b["key"]) {
		refuse(w, 400, "no key")
		return
	}
	r.calls = append(r.calls, b["action"])
	n := r.nics[b["mac"]]
	if n == nil {
		refuse(w, 404, "no such NIC")
		return
	}
	if code := n.apply(b); code != 200 {
		refuse(w, code, "held by another incident")
		return
	}
	_ = json.NewEncoder(w).Encode(n.now)
}

func (n *nicState) apply(b map[string]string) int {
	mark, _ := n.now["mark"].(map[string]any)
	if b["action"] != "status" && mark != nil && mark["incident"] != b["incident"] {
		return 409
	}
	switch {
	case b["action"] == "suspend" && mark == nil:
		n.before = n.now
		n.now = map[string]any{
			"live": "down", "config": "down", "running": true, "before": n.before,
			"mark": map[string]any{"incident": b["incident"], "key": b["key"], "by": "flowcordon", "reason": b["reason"], "at": b["at"]},
		}
	case b["action"] == "restore" && mark == nil:
		return 409
	case b["action"] == "restore":
		n.now = n.before
	}
	return 200
}

func refuse(w http.ResponseWriter, code int, why string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": why})
}

func adapter(url string) *Adapter {
	return New(Config{Name: "panel", URL: url, Secret: secret, Timeout: time.Minute}, Deps{})
}

func TestConformance(t *testing.T) {
	suspendertest.Run(t, func(t *testing.T) suspendertest.Fixture {
		srv := httptest.NewServer(newReceiver(t))
		t.Cleanup(srv.Close)
		missing := testNIC
		missing.MAC = "52:54:00:ff:ff:ff"
		return suspendertest.Fixture{S: adapter(srv.URL), NIC: testNIC, Missing: missing}
	})
}

func TestAdminDownStaysDown(t *testing.T) {
	r := newReceiver(t)
	r.nics[testNIC.MAC].now["live"] = "down"
	srv := httptest.NewServer(r)
	defer srv.Close()
	a, m := adapter(srv.URL), suspendertest.Mark("inc-1")
	rec, err := a.Cut(t.Context(), testNIC, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Restore(t.Context(), testNIC, m, rec); err != nil {
		t.Fatal(err)
	}
	st, err := a.Status(t.Context(), testNIC)
	want := flow.NICStatus{Live: flow.LinkDown, Config: flow.LinkUp, Running: true}
	if diff := cmp.Diff(want, st); err != nil || diff != "" {
		t.Errorf("after Restore: %v (-want +got):\n%s", err, diff)
	}
}

func TestWrongSecretIsDenied(t *testing.T) {
	srv := httptest.NewServer(newReceiver(t))
	defer srv.Close()
	a := New(Config{Name: "panel", URL: srv.URL, Secret: []byte("another")}, Deps{})
	_, err := a.Status(t.Context(), testNIC)
	if suspendertest.Class(err) != flow.ErrDenied || !strings.Contains(err.Error(), "bad signature") {
		t.Errorf("err = %v, want denied with the receiver's reason", err)
	}
}

func TestStaleClockIsDenied(t *testing.T) {
	srv := httptest.NewServer(newReceiver(t))
	defer srv.Close()
	a := New(Config{Name: "panel", URL: srv.URL, Secret: secret}, Deps{Now: func() time.Time { return time.Now().Add(-301 * time.Second) }})
	if _, err := a.Status(t.Context(), testNIC); suspendertest.Class(err) != flow.ErrDenied {
		t.Errorf("err = %v, want denied", err)
	}
}

func TestAnswers(t *testing.T) {
	ok := `{"live":"up","config":"up","running":true,"mark":null}`
	for name, c := range map[string]struct {
		code int
		body string
		want flow.ErrClass
		say  string
	}{
		"200":               {200, ok, "", ""},
		"202":               {202, ok, flow.ErrUnsupported, "202"},
		"204":               {204, "", flow.ErrUnsupported, "204"},
		"301":               {301, "", flow.ErrDenied, "redirects are not followed"},
		"400":               {400, `{"error":"no vds"}`, flow.ErrDenied, "no vds"},
		"401":               {401, "", flow.ErrDenied, "401"},
		"403":               {403, "<html>", flow.ErrDenied, "Forbidden"},
		"404":               {404, `{"error":"moved to node7"}`, flow.ErrNotFound, "node7"},
		"405":               {405, "", flow.ErrUnsupported, ""},
		"408":               {408, "", flow.ErrTransient, ""},
		"409":               {409, "", flow.ErrConflict, ""},
		"410":               {410, "", flow.ErrNotFound, ""},
		"412":               {412, "", flow.ErrConflict, ""},
		"422":               {422, "", flow.ErrDenied, ""},
		"423":               {423, `{"error":"backup"}`, flow.ErrLocked, "backup"},
		"429":               {429, "", flow.ErrTransient, ""},
		"500":               {500, "", flow.ErrTransient, ""},
		"501":               {501, "", flow.ErrUnsupported, ""},
		"503":               {503, strings.Repeat("x", 1<<20), flow.ErrTransient, "503"},
		"not JSON":          {200, "<html>login</html>", flow.ErrTransient, "JSON"},
		"wrong types":       {200, `{"live":1}`, flow.ErrTransient, "JSON"},
		"empty":             {200, "", flow.ErrTransient, "JSON"},
		"no state":          {200, `{}`, flow.ErrTransient, "lacks"},
		"two objects":       {200, ok + ok, flow.ErrTransient, "JSON"},
		"exactly the limit": {200, ok + strings.Repeat(" ", maxBody-len(ok)), "", ""},
		"one byte over":     {200, ok + strings.Repeat(" ", maxBody+1-len(ok)), flow.ErrTransient, "longer than"},
		"a huge error text": {409, `{"error":"` + strings.Repeat("y", 9000) + `"}`, flow.ErrConflict, "yyy"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if q.URL.Path != "/" {
					t.Error("a redirect was followed")
				}
				if c.code/100 == 3 {
					w.Header().Set("Location", "/elsewhere")
				}
				w.WriteHeader(c.code)
				_, _ = io.WriteString(w, c.body)
			}))
			defer srv.Close()
			_, err := adapter(srv.URL).Status(t.Context(), testNIC)
			if got := suspendertest.Class(err); got != c.want {
				t.Fatalf("class %q (%v), want %q", got, err, c.want)
			}
			if err != nil && (!strings.Contains(err.Error(), c.say) || len(err.Error()) > 500) {
				t.Errorf("err = %q, want %q in a short text", err, c.say)
			}
		})
	}
}

// A receiver that says 200 and does nothing is not believed.
func TestLyingReceiver(t *testing.T) {
	for name, answer := range map[string]string{
		"still up":            `{"live":"up","config":"down","running":true,"mark":{"incident":"inc-1"}}`,
		"up after power-on":   `{"live":"down","config":"up","running":true,"mark":{"incident":"inc-1"}}`,
		"invented state":      `{"live":"down","config":"maybe","running":true,"mark":{"incident":"inc-1"}}`,
		"no mark":             `{"live":"down","config":"down","running":true,"mark":null}`,
		"running, live unset": `{"live":"unknown","config":"down","running":true,"mark":{"incident":"inc-1"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
			defer srv.Close()
			if _, err := adapter(srv.URL).Cut(t.Context(), testNIC, suspendertest.Mark("inc-1")); suspendertest.Class(err) != flow.ErrConflict {
				t.Errorf("Cut: %v, want conflict", err)
			}
		})
	}
}

// A foreign mark is refused before anything is asked for.
func TestForeignMarkIsNotTouched(t *testing.T) {
	r := newReceiver(t)
	srv := httptest.NewServer(r)
	defer srv.Close()
	a := adapter(srv.URL)
	rec, err := a.Cut(t.Context(), testNIC, suspendertest.Mark("inc-1"))
	if err != nil {
		t.Fatal(err)
	}
	r.calls = nil
	_, _ = a.Cut(t.Context(), testNIC, suspendertest.Mark("inc-2"))
	_ = a.Restore(t.Context(), testNIC, suspendertest.Mark("inc-2"), rec)
	if diff := cmp.Diff([]string{"status", "status"}, r.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestHangingReceiver(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"before the head": func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() },
		"in the body": func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.WriteString(w, `{"live":`)
			w.(http.Flusher).Flush()
			<-q.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				_, _ = io.Copy(io.Discard, q.Body) // or the server would not see the caller go
				h(w, q)
			}))
			defer srv.Close()
			a := New(Config{Name: "panel", URL: srv.URL, Secret: secret, Timeout: 300 * time.Millisecond}, Deps{})
			start := time.Now()
			_, err := a.Cut(t.Context(), testNIC, suspendertest.Mark("inc-1"))
			if suspendertest.Class(err) != flow.ErrTransient || !strings.Contains(err.Error(), "deadline") {
				t.Errorf("err = %v, want transient by the deadline", err)
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("freed after %v, want 0.3 s", took)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(newReceiver(t))
	defer srv.Close()
	srv.Config.ErrorLog = nil
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ca   string
		want flow.ErrClass
	}{"trusted": {ca, ""}, "unknown CA": {"", flow.ErrDenied}, "no such file": {ca + "x", flow.ErrUnsupported}} {
		t.Run(name, func(t *testing.T) {
			a := New(Config{Name: "panel", URL: srv.URL, Secret: secret, CAFile: c.ca}, Deps{})
			if _, err := a.Status(t.Context(), testNIC); suspendertest.Class(err) != c.want {
				t.Errorf("err = %v, want class %q", err, c.want)
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	url := srv.URL + "/hook?token=hush"
	srv.Close()
	_, err := adapter(url).Status(t.Context(), testNIC)
	if suspendertest.Class(err) != flow.ErrTransient || strings.Contains(err.Error(), "hush") {
		t.Errorf("err = %v, want transient, without the URL's query", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := adapter(url).Status(ctx, testNIC); suspendertest.Class(err) != flow.ErrTransient {
		t.Errorf("err = %v, want transient", err)
	}
}

func TestConfigValidate(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"good":      {Config{Name: "p", URL: "https://h/x", Secret: secret}, ""},
		"no name":   {Config{URL: "https://h/x", Secret: secret}, "name: missing"},
		"no scheme": {Config{Name: "p", URL: "panel/x", Secret: secret}, "url: write"},
		"ftp":       {Config{Name: "p", URL: "ftp://h/x", Secret: secret}, "url: write"},
		"no secret": {Config{Name: "p", URL: "https://h/x"}, "secret_file"},
		"no CA":     {Config{Name: "p", URL: "https://h/x", Secret: secret, CAFile: "/none"}, "ca_file"},
		"not a CA":  {Config{Name: "p", URL: "https://h/x", Secret: secret, CAFile: "/dev/null"}, "no certificate"},
		"negative":  {Config{Name: "p", URL: "https://h/x", Secret: secret, Timeout: -1}, "negative"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.cfg.Validate()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("Validate() = %v, want %q", err, c.want)
			}
		})
	}
}

// The example that receivers are written from accepts our calls and no others.
func TestDocumentedVerification(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed (apt-get install python3)")
	}
	page, err := os.ReadFile("../../docs/webhook.md")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("(?s)```python\n(.*?)```").FindSubmatch(page)
	if code == nil {
		t.Fatal("docs/webhook.md has no Python example")
	}
	var head http.Header
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		head = q.Header.Clone()
		body, _ = io.ReadAll(q.Body)
		_, _ = io.WriteString(w, `{"live":"up","config":"up"}`)
	}))
	defer srv.Close()
	if _, err := adapter(srv.URL).Status(t.Context(), testNIC); err != nil {
		t.Fatal(err)
	}
	stamp, _ := strconv.Atoi(head.Get("X-Flowcordon-Timestamp"))
	for name, c := range map[string]struct {
		secret string
		now    int
		body   []byte
		want   string
	}{
		"ours":              {string(secret), stamp, body, "True"},
		"300 s late":        {string(secret), stamp + 300, body, "True"},
		"301 s late":        {string(secret), stamp + 301, body, "False"},
		"301 s early":       {string(secret), stamp - 301, body, "False"},
		"another secret":    {"another", stamp, body, "False"},
		"one byte more":     {string(secret), stamp, append(bytes.Clone(body), ' '), "False"},
		"a changed address": {string(secret), stamp, bytes.Replace(body, []byte("100.10"), []byte("100.11"), 1), "False"},
	} {
		t.Run(name, func(t *testing.T) {
			prog := fmt.Sprintf("%s\nh = {%q: %q, %q: %q}\nprint(verify(%q.encode(), h, %q.encode(), %d))", code[1],
				"X-Flowcordon-Timestamp", head.Get("X-Flowcordon-Timestamp"),
				"X-Flowcordon-Signature", head.Get("X-Flowcordon-Signature"), c.secret, c.body, c.now)
			out, err := exec.Command(python, "-c", prog).CombinedOutput()
			if got := strings.TrimSpace(string(out)); err != nil || got != c.want {
				t.Errorf("%s %v, want %s", got, err, c.want)
			}
		})
	}
}
