package ticket

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/notice"
)

var secret = []byte("0123456789abcdef-secret")

// desk is a receiver as the protocol describes it: it checks the signature
// with its own code, the age, and remembers keys.
type desk struct {
	t      *testing.T
	status int
	limit  int // of a body, in bytes
	seen   map[string]int
	got    []Payload
	bad    []string
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		d.t.Error(err)
	}
	stamp := r.Header.Get("X-Flowcordon-Timestamp")
	sec, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || time.Since(time.Unix(sec, 0)).Abs() > 300*time.Second {
		d.bad = append(d.bad, "timestamp "+stamp)
		http.Error(w, "timestamp", http.StatusUnauthorized)
		return
	}
	h := hmac.New(sha256.New, secret)
	_, _ = io.WriteString(h, stamp+"."+string(body))
	want := "sha256=" + hex.EncodeToString(h.Sum(nil))
	if !hmac.Equal([]byte(want), []byte(r.Header.Get("X-Flowcordon-Signature"))) {
		d.bad = append(d.bad, "signature")
		http.Error(w, "signature", http.StatusUnauthorized)
		return
	}
	d.seen[r.Header.Get("Idempotency-Key")]++
	if d.limit > 0 && len(body) > d.limit {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	if d.status != 0 {
		w.Header().Set("Location", "/elsewhere")
		http.Error(w, "no thanks", d.status)
		return
	}
	var p Payload
	if err := json.Unmarshal(body, &p); err != nil {
		d.t.Error(err)
	}
	d.got = append(d.got, p)
	w.WriteHeader(http.StatusCreated)
}

// written are texts that were tried out once.
var written = sync.OnceValues(func() (*notice.Writer, error) { return notice.New(notice.Config{}) })

func setup(t *testing.T, key []byte, now func() time.Time) (*Ticket, *desk, *httptest.Server) {
	t.Helper()
	w, err := written()
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, seen: map[string]int{}}
	srv := httptest.NewServer(d)
	t.Cleanup(srv.Close)
	tk, err := New(Config{URL: srv.URL + "/tickets", Secret: key, Timeout: time.Minute}, Deps{Texts: w, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return tk, d, srv
}

func TestPosted(t *testing.T) {
	tk, d, _ := setup(t, secret, nil)
	n := notice.Example("suspended")
	n.Incident.Holder.Language = "ru"
	for range 2 { // a second time after a crash: the same key
		if err := tk.Notify(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.bad) > 0 || len(d.got) != 2 || d.seen[n.Key] != 2 || len(d.seen) != 1 {
		t.Fatalf("refused %v, got %d, keys %v", d.bad, len(d.got), d.seen)
	}
	p := d.got[0]
	if p.Event != "suspended" || p.Language != "ru" || !strings.Contains(p.Subject, "[FC-ABCDEFGHIJ]") || !strings.Contains(p.Text, "VNC-консоль") {
		t.Errorf("event %q, language %q, subject %q, text:\n%s", p.Event, p.Language, p.Subject, p.Text)
	}
	if diff := cmp.Diff(n.Evidence.Logs, p.Logs); diff != "" {
		t.Errorf("logs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(n.Incident, p.Incident, cmpopts.EquateComparable(n.Incident.Tenant, n.Incident.Holder.Prefix)); diff != "" {
		t.Errorf("incident (-want +got):\n%s", diff)
	}
}

func TestRefusedSignatures(t *testing.T) {
	for name, tc := range map[string]struct {
		key []byte
		now func() time.Time
		bad string
	}{
		"other secret": {[]byte("another secret of enough bytes"), nil, "signature"},
		"clock off":    {secret, func() time.Time { return time.Now().Add(-301 * time.Second) }, "timestamp"},
	} {
		t.Run(name, func(t *testing.T) {
			tk, d, _ := setup(t, tc.key, tc.now)
			err := tk.Notify(t.Context(), notice.Example("held"))
			var e *Error
			if !errors.As(err, &e) || e.Status != http.StatusUnauthorized || e.Permanent() {
				t.Fatalf("error %v: want a 401 that is retried, an operator can put it right", err)
			}
			if len(d.bad) != 1 || !strings.HasPrefix(d.bad[0], tc.bad) || len(d.got) != 0 {
				t.Errorf("the receiver refused %v and took %d", d.bad, len(d.got))
			}
		})
	}
}

func TestStatus(t *testing.T) {
	for status, perm := range map[int]bool{
		400: true, 410: true, 413: true, 415: true, 422: true,
		301: false, 401: false, 403: false, 404: false, 405: false, 409: false, 423: false, 429: false, 500: false, 502: false, 503: false,
	} {
		tk, d, _ := setup(t, secret, nil)
		d.status = status
		err := tk.Notify(t.Context(), notice.Example("released"))
		var e *Error
		if !errors.As(err, &e) || e.Status != status || e.Permanent() != perm || !strings.Contains(e.Error(), "no thanks") {
			t.Errorf("%d: %v, want permanent=%t and what the receiver said", status, err, perm)
		}
		if len(d.seen) != 1 {
			t.Errorf("%d: %d requests, a redirect must not be followed", status, len(d.seen))
		}
	}
}

// A ticket that the receiver finds too large goes without its logs.
func TestTooLarge(t *testing.T) {
	tk, d, _ := setup(t, secret, nil)
	d.limit = 20_000
	n := notice.Example("suspended")
	n.Evidence.Logs[0].Text = strings.Repeat("x", 30_000)
	if err := tk.Notify(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if len(d.got) != 1 || len(d.got[0].Logs) != 0 || d.seen[n.Key] != 2 || strings.Contains(d.got[0].Text, "attached") {
		t.Errorf("%d tickets after %d requests", len(d.got), d.seen[n.Key])
	}
}

// The address and the secret are in no error and no delivery, whatever the
// receiver says.
func TestSecretsStayIn(t *testing.T) {
	w, err := written()
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "what is "+r.URL.Path+" to me", http.StatusForbidden)
	}))
	defer srv.Close()
	var e entries
	var all strings.Builder
	for _, address := range []string{srv.URL + "/hook/s3cret-path-of-ours", "http://127.0.0.1:1/hook/s3cret-path-of-ours", "http://user:s3cret-path-of-ours@127.0.0.1:1/hook"} {
		tk, err := New(Config{URL: address, Secret: []byte("s3cret-path-of-ours")}, Deps{Texts: w, Deliveries: &e})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = all.WriteString(fmt.Sprintln(tk.Notify(t.Context(), notice.Example("held"))))
	}
	_, err = New(Config{URL: "ftp://user:s3cret-path-of-ours@x/s3cret-path-of-ours", Secret: []byte("s3cret")}, Deps{Texts: w})
	_, _ = all.WriteString(fmt.Sprintln(err))
	_, err = New(Config{URL: "http://x/%zz/s3cret-path-of-ours"}, Deps{Texts: w})
	_, _ = all.WriteString(fmt.Sprintln(err, e.got))
	if text := all.String(); strings.Contains(text, "s3cret") || !strings.Contains(text, "what is /*** to me") || len(e.got) != 3 {
		t.Errorf("%d deliveries\n%s", len(e.got), text)
	}
}

func TestAway(t *testing.T) {
	tk, _, srv := setup(t, secret, nil)
	srv.Close()
	err := tk.Notify(t.Context(), notice.Example("held"))
	var e *Error
	if !errors.As(err, &e) || e.Permanent() {
		t.Fatalf("error %v, want one that is retried", err)
	}
}

// A receiver that accepts and never answers costs the timeout.
func TestHangs(t *testing.T) {
	stop := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-stop
	}))
	defer srv.Close()
	defer close(stop)
	w, err := notice.New(notice.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tk, err := New(Config{URL: srv.URL, Secret: secret, Timeout: 200 * time.Millisecond}, Deps{Texts: w})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := tk.Notify(t.Context(), notice.Example("failed")); err == nil {
		t.Fatal("accepted")
	}
	if d := time.Since(begin); d > time.Minute {
		t.Errorf("it took %s", d)
	}
}

func TestConfig(t *testing.T) {
	_, err := New(Config{URL: "ftp://x", Secret: []byte("short")}, Deps{})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{`url "ftp://x"`, "secret of 5 bytes", "no texts"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q:\n%v", want, err)
		}
	}
	w, err := notice.New(notice.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tk, err := New(Config{URL: "https://desk.example.org/", Secret: secret, Kinds: []string{"suspended"}}, Deps{Texts: w})
	if err != nil {
		t.Fatal(err)
	}
	if tk.Name() != "ticket" || !tk.Wants("suspended", flow.Incident{}) || tk.Wants("held", flow.Incident{}) {
		t.Error("name or kinds")
	}
}
