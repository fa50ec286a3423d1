package portal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flowcordon/flowcordon/flow"
)

var (
	newSecret = []byte("the new secret of thirty-two bytes, or more")
	oldSecret = []byte("the old secret of thirty-two bytes, or more")
	start     = time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
)

// desk is a controller as the pages need it.
type desk struct {
	mu       sync.Mutex
	inc      map[string]flow.Incident
	logs     []flow.EvidenceLog
	outcome  Outcome
	err      error
	got      []Statement
	actors   []string
	attempts int
}

func (d *desk) Incident(id string) (flow.Incident, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, ok := d.inc[id]
	return i, ok
}

func (d *desk) Evidence(_ context.Context, id string) (flow.Evidence, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.logs == nil {
		return flow.Evidence{}, errors.New("none")
	}
	return flow.Evidence{Incident: id, Logs: d.logs}, nil
}

func (d *desk) Statement(_ context.Context, id, actor string, s Statement) (Outcome, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.attempts++
	if d.err != nil {
		return "", d.err
	}
	d.got = append(d.got, s)
	d.actors = append(d.actors, id+" "+actor)
	return d.outcome, nil
}

func incident(id, tenant string) flow.Incident {
	ip := netip.MustParseAddr("11.2.3.4")
	return flow.Incident{
		ID: id, Tenant: ip, State: flow.StateVerified, Holder: flow.Holder{Tenant: tenant, VDS: "vds-1042", Language: "en"},
		Findings: []flow.Finding{{
			Tenant: ip, Rule: flow.RuleNetscan, IPProto: flow.ProtoTCP, Port: 22, Distinct: 1150, From: start.Add(-time.Minute), To: start,
		}, {
			Tenant: ip, Rule: flow.RuleUDPFlood, IPProto: flow.ProtoUDP, Remote: netip.MustParseAddr("22.0.0.9"), EstRate: 400_000, From: start, To: start,
		}},
	}
}

// site is a handler with everything around it, on a clock of its own.
type site struct {
	*testing.T
	h      *Handler
	desk   *desk
	links  *Links
	log    *observer.ObservedLogs
	now    time.Time
	nonces *FileNonces
	reg    *prometheus.Registry
}

func open(t *testing.T, secrets ...[]byte) *site {
	t.Helper()
	if len(secrets) == 0 {
		secrets = [][]byte{newSecret, oldSecret}
	}
	core, logs := observer.New(zapcore.DebugLevel)
	s := &site{T: t, log: logs, now: start, reg: prometheus.NewRegistry(), desk: &desk{
		outcome: OutcomeReleased, inc: map[string]flow.Incident{"FC-AAAAAAAAAA": incident("FC-AAAAAAAAAA", "c-77"), "FC-BBBBBBBBBB": incident("FC-BBBBBBBBBB", "c-88")},
		logs: []flow.EvidenceLog{{Form: "netscan", Name: "FC-AAAAAAAAAA-netscan.txt", Text: strings.Repeat("a line of the log\n", 300)}},
	}}
	var err error
	if s.links, err = NewLinks(LinkConfig{BaseURL: "https://abuse.example.net/case", Secrets: secrets}); err != nil {
		t.Fatal(err)
	}
	if s.nonces, err = OpenFileNonces(filepath.Join(t.TempDir(), "used"), s.now); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.nonces.Close() })
	s.h, err = New(Config{Company: "Example Hosting", Contact: "abuse@example.net"}, Deps{
		Links: s.links, Incidents: s.desk, Nonces: s.nonces, Log: zap.New(core), Registerer: s.reg, Now: func() time.Time { return s.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// count is how often a reason was counted.
func (s *site) count(r Reason) int {
	s.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		s.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "flowcordon_portal_refused_total" && m.GetLabel()[0].GetValue() == string(r) {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	s.Fatalf("reason %s has no counter", r)
	return 0
}

// link is the path of a good link.
func (s *site) link(id string) string {
	s.Helper()
	u, err := url.Parse(s.links.Statement(s.desk.inc[id], start))
	if err != nil {
		s.Fatal(err)
	}
	return u.Path
}

func (s *site) do(method, path, body string, head ...string) *httptest.ResponseRecorder {
	s.Helper()
	r := httptest.NewRequest(method, "https://abuse.example.net"+path, strings.NewReader(body))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(head); i += 2 {
		r.Header.Set(head[i], head[i+1])
	}
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, r)
	return w
}

var formToken = regexp.MustCompile(`name="form" value="([^"]+)"`)

// filled is the body of a form as a browser sends it after the page was read.
func (s *site) filled(path string, text ...string) string {
	s.Helper()
	m := formToken.FindStringSubmatch(s.do(http.MethodGet, path, "").Body.String())
	if m == nil {
		s.Fatal("the page has no form")
	}
	v := url.Values{"form": {m[1]}}
	for i, name := range fields {
		v.Set(name, "An answer that is long enough.")
		if i < len(text) {
			v.Set(name, text[i])
		}
	}
	return v.Encode()
}

func TestAnswered(t *testing.T) {
	for outcome, want := range map[Outcome]string{
		OutcomeReleased: "is being given back", OutcomeQueued: "we have your answer", OutcomeRefused: "the network stays off", "else": "we have your answer",
	} {
		t.Run(string(outcome), func(t *testing.T) {
			s := open(t)
			s.desk.outcome = outcome
			link := s.link("FC-AAAAAAAAAA")
			page := s.do(http.MethodGet, link, "")
			for _, want := range []string{
				"vds-1042 (11.2.3.4)", "FC-AAAAAAAAAA", "is switched off", "network scan", "TCP port 22, 1150 different addresses", "to 22.0.0.9, about 400000 packets per second",
				"VNC console", "What happened?", "How did you fix it?", "does not happen again?", "a line of the log", "Lines that only the download shows: 100", "Example Hosting",
				"mailto:abuse@example.net?subject=%5BFC-AAAAAAAAAA%5D", "2026-12-06 07:00 UTC",
			} {
				if page.Code != http.StatusOK || !strings.Contains(page.Body.String(), want) {
					t.Errorf("%d: the page does not say %q", page.Code, want)
				}
			}
			res := s.do(http.MethodPost, link, s.filled(link, "  Broken in\r\nthrough an old plugin\x00.", "Reinstalled \u202eit.", "Updates are automatic now."))
			if res.Code != http.StatusSeeOther {
				t.Fatalf("%d %s", res.Code, res.Body)
			}
			wantS := Statement{Happened: "Broken in\nthrough an old plugin.", Fixed: "Reinstalled it.", Changed: "Updates are automatic now.", Language: "en", From: "192.0.2.1", At: start}
			if len(s.desk.got) != 1 {
				t.Fatalf("%d statements", len(s.desk.got))
			}
			got := s.desk.got[0]
			if !isID(got.Key) {
				t.Errorf("key %q", got.Key)
			}
			got.Key = ""
			if got != wantS || s.desk.actors[0] != "FC-AAAAAAAAAA customer:link" {
				t.Errorf("got %+v by %s, want %+v", got, s.desk.actors[0], wantS)
			}
			if text := got.Text(); text != "1. What happened?\nBroken in\nthrough an old plugin.\n\n2. How did you fix it?\nReinstalled it.\n\n3. What did you change so that it does not happen again?\nUpdates are automatic now." {
				t.Errorf("text %q", text)
			}
			done := s.do(http.MethodGet, res.Header().Get("Location"), "")
			if done.Code != http.StatusOK || !strings.Contains(done.Body.String(), want) {
				t.Errorf("after the answer: %d, want %q in\n%s", done.Code, want, done.Body)
			}
			if strings.Contains(done.Body.String(), "<form") {
				t.Error("the page after the answer asks again")
			}
			if post := s.do(http.MethodPost, res.Header().Get("Location"), "x=y"); post.Code != http.StatusNotFound {
				t.Errorf("an answer by the link of the page after it: %d", post.Code)
			}
		})
	}
}

// Whatever is wrong with a link, the outside sees the same bytes; the log has
// the reason, and neither it nor any page has the link or a secret.
func TestOneNeutralAnswer(t *testing.T) {
	s := open(t)
	good := s.link("FC-AAAAAAAAAA")
	token := strings.TrimPrefix(good, "/case/")
	foreign, err := NewLinks(LinkConfig{BaseURL: "https://abuse.example.net/case", Secrets: [][]byte{[]byte("a secret that was dropped or never was ours")}})
	if err != nil {
		t.Fatal(err)
	}
	used := s.link("FC-BBBBBBBBBB")
	if w := s.do(http.MethodPost, used, s.filled(used)); w.Code != http.StatusSeeOther {
		t.Fatalf("the first answer: %d", w.Code)
	}
	inc := s.desk.inc["FC-AAAAAAAAAA"]
	raw, _ := encoding.DecodeString(token)
	flipped := append([]byte(nil), raw...)
	flipped[40] ^= 1
	version := append([]byte(nil), raw...)
	version[0] = 9
	cases := []struct {
		name, path, method string
		reason             Reason
	}{
		{"no token", "/case/", "GET", ReasonMalformed},
		{"not base64", "/case/!!!", "GET", ReasonMalformed},
		{"too long", "/case/" + strings.Repeat("A", 5000), "GET", ReasonMalformed},
		{"cut short", good[:len(good)-2], "GET", ReasonSignature},
		{"forged", "/case/" + encoding.EncodeToString(flipped), "GET", ReasonSignature},
		{"of another release", "/case/" + encoding.EncodeToString(version), "GET", ReasonVersion},
		{"signed with a dropped key", "/case/" + foreign.token(inc, purposeStatement, start.Add(time.Hour)), "GET", ReasonKey},
		{"expired", "/case/" + s.links.token(inc, purposeStatement, start), "GET", ReasonExpired},
		{"of another tenant", "/case/" + s.links.sign(s.links.keys[0], inc.ID, "tenant c-88", purposeStatement, start.Add(time.Hour)), "GET", ReasonHolder},
		{"of no incident", "/case/" + s.links.sign(s.links.keys[0], "FC-CCCCCCCCCC", "tenant c-77", purposeStatement, start.Add(time.Hour)), "GET", ReasonIncident},
		{"for no page", "/case/" + s.links.token(inc, 99, start.Add(time.Hour)), "GET", ReasonPurpose},
		{"a log by the page after the answer", "/case/" + s.links.token(inc, purposeQueued, start.Add(time.Hour)) + "/log/0", "GET", ReasonPurpose},
		{"used", used, "GET", ReasonUsed},
		{"used, sent again", used, "POST", ReasonUsed},
		{"used, its log", used + "/log/0", "GET", ReasonUsed},
		{"another path", good + "/secret", "GET", ReasonPath},
		{"outside", "/elsewhere", "GET", ReasonPath},
		{"sent from another site", good, "CROSS", ReasonSite},
	}
	var want string
	for _, tc := range cases {
		before := s.count(tc.reason)
		var w *httptest.ResponseRecorder
		switch tc.method {
		case "CROSS":
			w = s.do(http.MethodPost, tc.path, "happened=x", "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
		default:
			w = s.do(tc.method, tc.path, "happened=x")
		}
		got := fmt.Sprint(w.Code, w.Header(), w.Body)
		if want == "" {
			want = got
			if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "This link cannot be used") {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		}
		if got != want {
			t.Errorf("%s: the answer differs:\n%s\nwant:\n%s", tc.name, got, want)
		}
		if s.count(tc.reason) != before+1 {
			t.Errorf("%s: %s is not counted once more", tc.name, tc.reason)
		}
		if e := s.log.All(); e[len(e)-1].ContextMap()["reason"] != string(tc.reason) {
			t.Errorf("%s: logged %v, want %s", tc.name, e[len(e)-1].ContextMap(), tc.reason)
		}
	}
	if len(s.desk.got) != 1 {
		t.Errorf("%d statements", len(s.desk.got))
	}
	for _, e := range s.log.All() {
		line := fmt.Sprint(e.Message, e.ContextMap())
		for _, secret := range []string{token, strings.TrimPrefix(used, "/case/"), string(newSecret), string(oldSecret)} {
			if strings.Contains(line, secret) || strings.Contains(line, secret[:20]) {
				t.Errorf("the log holds a secret: %s", line)
			}
		}
	}
}

func TestMethods(t *testing.T) {
	s := open(t)
	good := s.link("FC-AAAAAAAAAA")
	var bad []string
	for _, m := range []string{"PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"} {
		a, b := s.do(m, good, ""), s.do(m, "/case/none", "")
		if a.Code != http.StatusMethodNotAllowed || a.Header().Get("Allow") != "GET, HEAD, POST" {
			bad = append(bad, m)
		}
		if fmt.Sprint(a.Code, a.Header(), a.Body) != fmt.Sprint(b.Code, b.Header(), b.Body) {
			t.Errorf("%s tells a good link from a bad one", m)
		}
	}
	if len(bad) > 0 {
		t.Errorf("not refused: %v", bad)
	}
	if w := s.do("POST", good+"/log/0", ""); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("a log was sent to: %d", w.Code)
	}
	if w := s.do("HEAD", good, ""); w.Code != http.StatusOK || w.Body.Len() != 0 {
		t.Errorf("HEAD: %d with %d bytes", w.Code, w.Body.Len())
	}
}

func TestOnceAmongMany(t *testing.T) {
	s := open(t)
	good := s.link("FC-AAAAAAAAAA")
	body := s.filled(good)
	var wg sync.WaitGroup
	codes := make(chan int, 5)
	for range 5 { // as many as the rate allows
		wg.Go(func() {
			r := httptest.NewRequest(http.MethodPost, "https://abuse.example.net"+good, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w := httptest.NewRecorder()
			s.h.ServeHTTP(w, r)
			codes <- w.Code
		})
	}
	wg.Wait()
	close(codes)
	n := 0
	for c := range codes {
		if c == http.StatusSeeOther {
			n++
		}
	}
	if n != 1 || len(s.desk.got) != 1 {
		t.Errorf("%d of five were taken, %d stored", n, len(s.desk.got))
	}
}

// An answer that could not be stored is not lost, and the link stays good.
func TestStoreAway(t *testing.T) {
	s := open(t)
	good := s.link("FC-AAAAAAAAAA")
	s.desk.err = errors.New("the log is away")
	body := s.filled(good, "It was <the> plugin.")
	w := s.do(http.MethodPost, good, body)
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "It was &lt;the&gt; plugin.") || strings.Contains(w.Body.String(), "the log is away") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	s.desk.err = nil
	if w := s.do(http.MethodPost, good, body); w.Code != http.StatusSeeOther || len(s.desk.got) != 1 {
		t.Fatalf("%d, %d stored", w.Code, len(s.desk.got))
	}
	s.desk.err = ErrUsed
	other := s.link("FC-BBBBBBBBBB")
	if w := s.do(http.MethodPost, other, s.filled(other)); w.Code != http.StatusNotFound {
		t.Errorf("stored by somebody else already: %d", w.Code)
	}
	if s.desk.err = nil; s.do(http.MethodGet, other, "").Code != http.StatusNotFound {
		t.Error("the link is good again")
	}
}

func TestEndedIncident(t *testing.T) {
	s := open(t)
	good := s.link("FC-AAAAAAAAAA")
	body := s.filled(good)
	inc := s.desk.inc["FC-AAAAAAAAAA"]
	inc.State = flow.StateReleased
	s.desk.inc[inc.ID] = inc
	for _, w := range []*httptest.ResponseRecorder{s.do("GET", good, ""), s.do("POST", good, body)} {
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "Nothing is left to answer") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	if s.desk.attempts != 0 {
		t.Error("a statement to a released incident")
	}
	inc.State = flow.StateReleasing
	s.desk.inc[inc.ID] = inc
	for _, w := range []*httptest.ResponseRecorder{s.do("GET", good, ""), s.do("POST", good, body)} {
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "is being restored now") || strings.Contains(w.Body.String(), "<form") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	inc.State = flow.StateVerified
	s.desk.inc[inc.ID], s.desk.err = inc, ErrClosed // it ended in between
	if w := s.do("POST", good, body); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "Nothing is left to answer") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestIncomplete(t *testing.T) {
	s := open(t)
	good := s.link("FC-AAAAAAAAAA")
	for name, tc := range map[string]struct{ text, says string }{
		"empty":       {" \r\n\t ", "Please answer this question."},
		"controls":    {"\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f", "Please answer this question."},
		"below":       {strings.Repeat("ж", minAnswer-1), "write a little more"},
		"above":       {strings.Repeat("ж", maxAnswer+1), "at most 2500 characters"},
		"not unicode": {"\xff\xfe", "write a little more"},
	} {
		s.now = s.now.Add(time.Hour) // beyond the rate
		w := s.do(http.MethodPost, good, s.filled(good, "Long enough to be taken.", tc.text))
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), tc.says) || !strings.Contains(w.Body.String(), "Long enough to be taken.") {
			t.Errorf("%s: %d, want %q in\n%s", name, w.Code, tc.says, w.Body)
		}
		if n := strings.Count(w.Body.String(), `aria-invalid="true"`); n != 1 {
			t.Errorf("%s: %d fields are marked", name, n)
		}
	}
	s.now = s.now.Add(time.Hour)
	smile := strings.Repeat("😀", maxAnswer)
	if w := s.do(http.MethodPost, good, s.filled(good, smile, smile, smile)); w.Code != http.StatusUnprocessableEntity || strings.Count(w.Body.String(), "Together the answers are too long") != 3 {
		t.Errorf("too long together: %d", w.Code)
	}
	s.now = s.now.Add(time.Hour)
	long := strings.Repeat("ж", maxAnswer)
	if w := s.do(http.MethodPost, good, s.filled(good, long, long, long)); w.Code != http.StatusSeeOther || len(s.desk.got[0].Text()) > maxText {
		t.Errorf("exactly the bounds: %d, %d bytes", w.Code, len(s.desk.got[0].Text()))
	}
	good = s.link("FC-BBBBBBBBBB")
	if w := s.do(http.MethodPost, good, s.filled(good, strings.Repeat("ж", minAnswer), strings.Repeat("ж", minAnswer))); w.Code != http.StatusSeeOther {
		t.Errorf("exactly the bounds: %d", w.Code)
	}
}

func TestOversized(t *testing.T) {
	s := open(t)
	good := s.link("FC-AAAAAAAAAA")
	w := s.do(http.MethodPost, good, "happened="+strings.Repeat("x", maxBody))
	if w.Code != http.StatusRequestEntityTooLarge || s.count(ReasonSize) != 1 || len(s.desk.got) != 0 {
		t.Errorf("%d", w.Code)
	}
	// A stranger's body is not read at all.
	r := httptest.NewRequest(http.MethodPost, "https://abuse.example.net/case/none", failing{t})
	rec := httptest.NewRecorder()
	s.h.ServeHTTP(rec, r)
	if rec.Code != http.StatusNotFound {
		t.Errorf("%d", rec.Code)
	}
}

type failing struct{ t *testing.T }

func (f failing) Read([]byte) (int, error) {
	f.t.Error("the body was read")
	return 0, errors.New("no")
}

func TestFormToken(t *testing.T) {
	s := open(t)
	a, b := s.link("FC-AAAAAAAAAA"), s.link("FC-BBBBBBBBBB")
	other := s.filled(b)
	own, err := url.ParseQuery(s.filled(a))
	if err != nil {
		t.Fatal(err)
	}
	none, forged := url.Values{}, url.Values{}
	for k, v := range own {
		none[k], forged[k] = v, v
	}
	none.Del("form")
	forged.Set("form", encoding.EncodeToString(make([]byte, 24)))
	for name, body := range map[string]string{"none": none.Encode(), "forged": forged.Encode(), "of another link": other} {
		s.now = s.now.Add(time.Minute)
		if w := s.do(http.MethodPost, a, body); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "An answer that is long enough.") {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	s.now = start.Add(formAge)
	if w := s.do(http.MethodPost, a, own.Encode()); w.Code != http.StatusBadRequest {
		t.Errorf("a day old: %d", w.Code)
	}
	s.now = start.Add(formAge - time.Second)
	for _, head := range [][]string{{"Origin", "https://abuse.example.net.evil.example"}, {"Origin", "http://abuse.example.net"}, {"Sec-Fetch-Site", "same-site"}} {
		if w := s.do(http.MethodPost, a, own.Encode(), head...); w.Code != http.StatusNotFound {
			t.Errorf("%v: %d", head, w.Code)
		}
	}
	s.now = s.now.Add(-time.Hour)
	s.h.limits.seen = map[string]*share{}
	if w := s.do(http.MethodPost, a, own.Encode(), "Origin", "https://abuse.example.net", "Sec-Fetch-Site", "same-origin"); w.Code != http.StatusSeeOther {
		t.Errorf("just in time: %d", w.Code)
	}
}

func TestRate(t *testing.T) {
	s := open(t)
	a, b := s.link("FC-AAAAAAAAAA"), s.link("FC-BBBBBBBBBB")
	for i := range viewBurst {
		if w := s.do("GET", a, ""); w.Code != http.StatusOK {
			t.Fatalf("view %d: %d", i, w.Code)
		}
	}
	if w := s.do("GET", a, ""); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d", w.Code)
	}
	if w := s.do("GET", b, ""); w.Code != http.StatusOK {
		t.Errorf("another link: %d", w.Code)
	}
	for range 200 {
		s.do("GET", "/case/none", "") // strangers use up nobody's share
	}
	s.now = s.now.Add(viewEvery)
	if w := s.do("GET", a, ""); w.Code != http.StatusOK {
		t.Errorf("a second later: %d", w.Code)
	}
	l := limiter{seen: map[string]*share{}}
	for i := range maxLinks + 500 {
		l.allow(fmt.Sprint(i), false, start)
	}
	if len(l.seen) > maxLinks {
		t.Errorf("%d links are remembered", len(l.seen))
	}
}
