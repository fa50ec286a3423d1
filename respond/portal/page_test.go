package portal

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/flowcordon/flowcordon/flow"
)

// hostile is text that would do harm in one of a page's contexts.
const hostile = `"'><script>alert(1)</script><img src=x onerror=alert(2)>{{.Form}}</textarea></pre></title></style><svg/onload=alert(3)>&#60;script&#62;javascript:alert(4)`

// checkPage reads a page as a browser does and reports every element and
// attribute that ours does not have.
func checkPage(t *testing.T, text string) *html.Node {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Fields("html head meta title style body header main p a h1 h2 ul li strong br details summary pre form input div label textarea button")
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if !slices.Contains(known, n.Data) {
			t.Errorf("element <%s> on the page", n.Data)
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
				t.Errorf("attribute %s=%q", a.Key, a.Val)
			}
			if (a.Key == "href" || a.Key == "action") && !strings.HasPrefix(a.Val, "/case/") && !strings.HasPrefix(a.Val, "mailto:") && a.Val != "#answer" {
				t.Errorf("%s leads to %q", a.Key, a.Val)
			}
		}
	}
	return doc
}

func TestNothingOfOthersRuns(t *testing.T) {
	s := open(t)
	inc := s.desk.inc["FC-AAAAAAAAAA"]
	inc.Holder.VDS, inc.Holder.Language, inc.Reason, inc.Statement = hostile, "ru"+hostile, hostile, hostile
	inc.Findings[0].Rule, inc.Findings[0].Reason = flow.Rule(hostile), hostile
	inc.State = flow.State(hostile)
	s.desk.inc[inc.ID] = inc
	s.desk.logs = []flow.EvidenceLog{{Form: hostile, Name: hostile + "\r\nX-Evil: 1", Text: hostile + "\n" + hostile}}
	s.h.cfg = Config{Company: hostile, Contact: hostile}
	link := s.link(inc.ID)
	var all []string
	for _, q := range []string{"", "?lang=" + url.QueryEscape(hostile), "?lang=ru"} {
		all = append(all, s.do("GET", link+q, "").Body.String())
	}
	bad := s.do(http.MethodPost, link, s.filled(link, hostile, hostile, " "))
	if bad.Code != http.StatusUnprocessableEntity {
		t.Fatalf("%d", bad.Code)
	}
	all = append(all, bad.Body.String())
	w := s.do(http.MethodPost, link, s.filled(link, hostile, hostile, hostile))
	if w.Code != http.StatusSeeOther {
		t.Fatalf("%d", w.Code)
	}
	all = append(all, s.do("GET", w.Header().Get("Location"), "").Body.String(), s.do("GET", "/case/"+hostile[:3], "", "Accept-Language", hostile).Body.String())
	for i, text := range all {
		doc := checkPage(t, text)
		if i < 4 && !strings.Contains(textOf(doc, "pre"), hostile) {
			t.Errorf("page %d: the log is not shown as it is", i)
		}
	}
}

func textOf(doc *html.Node, element string) string {
	var b strings.Builder
	for n := range doc.Descendants() {
		if n.Type == html.TextNode && n.Parent.Data == element {
			b.WriteString(n.Data)
		}
	}
	return b.String()
}

// A log's name comes from the store, and must start no header of its own.
func TestDownload(t *testing.T) {
	s := open(t)
	link := s.link("FC-AAAAAAAAAA")
	for name, want := range map[string]string{
		"FC-AAAAAAAAAA-netscan.txt": "FC-AAAAAAAAAA-netscan.txt", "a\r\nX-Evil: 1": "aX-Evil1", `x"; filename="evil.exe`: "xfilenameevil.exe",
		"../../etc/passwd": "etcpasswd", "": "FC-AAAAAAAAAA.txt", "…": "FC-AAAAAAAAAA.txt", "...": "FC-AAAAAAAAAA.txt", strings.Repeat("x", 300): strings.Repeat("x", 100),
	} {
		s.now = s.now.Add(time.Minute)
		s.desk.logs = []flow.EvidenceLog{{Name: name, Text: "текст\r\n<script>"}}
		w := s.do("GET", link+"/log/0", "")
		_, params, err := mime.ParseMediaType(w.Header().Get("Content-Disposition"))
		if err != nil || params["filename"] != want || len(params) != 1 || w.Header().Get("X-Evil") != "" {
			t.Errorf("%q: %q, %v", name, w.Header(), err)
		}
		if w.Code != http.StatusOK || w.Body.String() != "текст\r\n<script>" || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%q: %d %q", name, w.Code, w.Body)
		}
	}
	for _, path := range []string{"/log/1", "/log/-1", "/log/00", "/log/+0", "/log/100", "/log/", "/log/0/"} {
		if w := s.do("GET", link+path, ""); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestHeaders(t *testing.T) {
	s := open(t)
	for _, path := range []string{s.link("FC-AAAAAAAAAA"), "/case/none", s.link("FC-AAAAAAAAAA") + "/log/0"} {
		w := s.do("GET", path, "")
		csp := w.Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "script-src") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: policy %q", path, csp)
		}
		for k, v := range map[string]string{"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Set-Cookie": ""} {
			if w.Header().Get(k) != v {
				t.Errorf("%s: %s is %q", path, k, w.Header().Get(k))
			}
		}
		if m := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindStringSubmatch(w.Body.String()); m != nil {
			sum := sha256.Sum256([]byte(m[1]))
			if !strings.Contains(csp, base64.StdEncoding.EncodeToString(sum[:])) {
				t.Errorf("%s: a browser would refuse the style", path)
			}
		}
	}
}

// Every text is there in both languages, and no page shows a key.
func TestWords(t *testing.T) {
	if a, b := slices.Sorted(maps.Keys(english)), slices.Sorted(maps.Keys(russian)); !slices.Equal(a, b) {
		t.Errorf("the keys differ:\n%v\n%v", a, b)
	}
	verbs := regexp.MustCompile(`%\.?\d*[a-z]`)
	for k := range english {
		if a, b := verbs.FindAllString(english[k], -1), verbs.FindAllString(russian[k], -1); !slices.Equal(a, b) {
			t.Errorf("%s: %v and %v", k, a, b)
		}
	}
	key := regexp.MustCompile(`\b(err|rule|q\d|cut|restricted|warned|releasing|released|queued|refused|over|back|dead|rate|method|nolog)\.[a-z_]+\b|%!`)
	for _, lang := range []string{"en", "ru"} {
		for _, state := range []flow.State{flow.StateOpen, flow.StateNotified, flow.StateHeld, flow.StateApproval, flow.StateSuspending, flow.StateSuspended, flow.StateVerified, flow.StateUnverified, flow.StateFailed} {
			s := open(t)
			inc := s.desk.inc["FC-AAAAAAAAAA"]
			inc.State, inc.Holder.Language = state, lang
			for _, r := range []flow.Rule{flow.RulePortscan, flow.RuleBlockscan, flow.RuleUDPSweep, flow.RuleICMPSweep, flow.RuleSYNFlood, flow.RuleICMPFlood, flow.RulePacketFlood, flow.RuleReflector, flow.RuleSpam} {
				inc.Findings = append(inc.Findings, flow.Finding{Rule: r, Distinct: 7, IPProto: 47})
			}
			s.desk.inc[inc.ID] = inc
			link := s.link(inc.ID)
			for _, text := range []string{
				s.do("GET", link, "").Body.String(), s.do("POST", link, "x=y").Body.String(), s.do("POST", link, s.filled(link, " ")).Body.String(),
				s.do("GET", s.do("POST", link, s.filled(link)).Header().Get("Location"), "").Body.String(), s.do("GET", link, "", "Accept-Language", lang).Body.String(),
				s.do("GET", link+"/log/9", "", "Accept-Language", lang).Body.String(), s.do("PUT", link, "", "Accept-Language", lang).Body.String(),
			} {
				if m := key.FindString(strings.ReplaceAll(text, styleText, "")); m != "" {
					t.Errorf("%s, %s: the page shows %q", lang, state, m)
				}
				if !strings.Contains(text, `<html lang="`+lang+`">`) {
					t.Errorf("%s, %s: the page is in another language", lang, state)
				}
				checkPage(t, text)
			}
		}
	}
}

// What is said of the network is what was done to it.
func TestStanding(t *testing.T) {
	block, limit := &flow.Action{Measure: flow.Measure{Kind: flow.MeasureBlockPort}}, &flow.Action{Measure: flow.Measure{Kind: flow.MeasureLimit}}
	for _, tc := range []struct {
		state flow.State
		act   *flow.Action
		want  string
	}{
		{flow.StateOpen, nil, "warned"}, {flow.StateHeld, nil, "warned"}, {flow.StateSuspended, &flow.Action{}, "cut"}, {flow.StateVerified, nil, "cut"},
		{flow.StateVerified, block, "restricted"}, {flow.StateSuspending, limit, "restricted"}, {flow.StateFailed, block, "warned"},
	} {
		if got := standing(flow.Incident{State: tc.state, Action: tc.act}); got != tc.want {
			t.Errorf("%s, %+v: %s, want %s", tc.state, tc.act, got, tc.want)
		}
	}
}

func TestLanguage(t *testing.T) {
	for _, tc := range []struct{ query, holder, accept, want string }{
		{"", "", "", "en"}, {"", "ru", "", "ru"}, {"", "RU-ru", "", "ru"}, {"en", "ru", "ru", "en"}, {"", "de", "fr, ru-RU;q=0.9, en;q=0.8", "ru"},
		{"../x", "", "*", "en"}, {"", "", "ru", "ru"}, {"", "", strings.Repeat("x,", 1e5), "en"},
	} {
		r, err := http.NewRequest(http.MethodGet, "/?lang="+url.QueryEscape(tc.query), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Language", tc.accept)
		if got := language(r, tc.holder); got != tc.want {
			t.Errorf("%+v: %s", tc, got)
		}
	}
}

// Texts stand out by 4.5 to 1, borders and outlines by 3 to 1 (WCAG 2.2,
// 1.4.3 and 1.4.11), in both schemes.
func TestContrast(t *testing.T) {
	for i, block := range regexp.MustCompile(`:root\{([^}]*)\}`).FindAllStringSubmatch(styleText, -1) {
		c := map[string]float64{}
		for _, m := range regexp.MustCompile(`--(\w+):#([0-9a-f]{3,6})`).FindAllStringSubmatch(block[1], -1) {
			c[m[1]] = luminance(t, m[2])
		}
		for _, p := range []struct {
			fg, bg string
			min    float64
		}{
			{"fg", "bg", 4.5}, {"dim", "bg", 4.5}, {"link", "bg", 4.5}, {"bad", "bg", 4.5}, {"fg", "badbg", 4.5}, {"fg", "code", 4.5}, {"btnfg", "btn", 4.5}, {"line", "bg", 3}, {"bad", "badbg", 3},
		} {
			a, aok := c[p.fg]
			b, bok := c[p.bg]
			if r := (max(a, b) + 0.05) / (min(a, b) + 0.05); !aok || !bok || r < p.min {
				t.Errorf("scheme %d: %s on %s is %.2f to 1, want %.1f", i, p.fg, p.bg, r, p.min)
			}
		}
	}
}

func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	var l float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		v := float64(n) / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		l += weight * v
	}
	return l
}

// Each field has its label and its hint.
func TestLabels(t *testing.T) {
	s := open(t)
	link := s.link("FC-AAAAAAAAAA")
	doc := checkPage(t, s.do("POST", link, s.filled(link, " ")).Body.String())
	ids, labels := map[string]bool{}, map[string]bool{}
	var described []string
	for n := range doc.Descendants() {
		for _, a := range n.Attr {
			switch {
			case a.Key == "id":
				ids[a.Val] = true
			case a.Key == "for":
				labels[a.Val] = true
			case a.Key == "aria-describedby":
				described = append(described, strings.Fields(a.Val)...)
			}
		}
	}
	for _, f := range fields {
		if !ids[f] || !labels[f] {
			t.Errorf("%s: id %t, label %t", f, ids[f], labels[f])
		}
	}
	if len(described) != 4 {
		t.Errorf("described by %v", described)
	}
	for _, d := range described {
		if !ids[d] {
			t.Errorf("described by %s, which is not there", d)
		}
	}
}

func TestNonces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "used")
	id := func(n int) Use {
		return Use{ID: fmt.Sprintf("%032x", n), Incident: "FC-A", Expires: start.Add(time.Hour)}
	}
	reopen := func() *FileNonces {
		t.Helper()
		n, err := OpenFileNonces(path, start)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	n := reopen()
	for i, err := range []error{n.Begin(id(1)), n.Done(id(1)), n.Begin(id(2)), n.Begin(id(3)), n.Undo(id(3)), n.Begin(id(3)), n.Begin(Use{ID: id(4).ID, Expires: start}), n.Done(id(4))} {
		if err != nil {
			t.Errorf("step %d: %v", i, err)
		}
	}
	if !errors.Is(n.Begin(id(1)), ErrUsed) || !errors.Is(n.Begin(id(2)), ErrUsed) || !n.Used(id(1)) || n.Used(id(2)) || n.Begin(Use{ID: "x\ny"}) == nil || n.Done(id(9)) == nil {
		t.Error("used, busy and unknown are mixed up")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(id(5).ID[:20]); err != nil { // a crash in the middle of a line
		t.Fatal(err)
	}
	_ = f.Close()
	n = reopen()
	if !n.Used(id(1)) || n.Used(id(2)) || n.Used(id(4)) || n.Begin(id(2)) != nil {
		t.Error("after a restart: what was answered is used, what a crash cut off is free, what has expired is forgotten")
	}
	if err := n.Done(id(2)); err != nil {
		t.Fatal(err)
	}
	_ = n.Close()
	if n = reopen(); !n.Used(id(1)) || !n.Used(id(2)) {
		t.Error("lost over the second restart")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	// The disk says no: for as long as the process lives the link is used.
	if n.Begin(id(6)) != nil || n.Done(id(6)) == nil || !n.Used(id(6)) {
		t.Error("a write that failed")
	}
	if err := os.WriteFile(path, []byte("garbage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFileNonces(path, start); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a damaged file: %v", err)
	}
}

// An answer's own event remembers its link; nothing else is kept.
func TestEventNonces(t *testing.T) {
	stored := map[string]bool{}
	n := NewEventNonces(func(incident, key string) bool { return stored[incident+key] })
	u := Use{ID: "1", Incident: "FC-A"}
	if n.Begin(u) != nil || !errors.Is(n.Begin(u), ErrUsed) || n.Used(u) || n.Undo(u) != nil || n.Begin(u) != nil {
		t.Error("claimed, freed and claimed again")
	}
	stored["FC-A1"] = true
	if n.Done(u) != nil || !n.Used(u) || !errors.Is(n.Begin(u), ErrUsed) || n.Used(Use{ID: "1", Incident: "FC-B"}) {
		t.Error("after the answer was stored")
	}
	if again := NewEventNonces(n.known); !errors.Is(again.Begin(u), ErrUsed) {
		t.Error("after a restart")
	}
}

// A reload makes the handler anew; what was counted goes on.
func TestReload(t *testing.T) {
	s := open(t)
	s.do("GET", "/case/none", "")
	h, err := New(Config{}, s.h.deps)
	if err != nil {
		t.Fatal(err)
	}
	if s.h = h; s.count(ReasonMalformed) != 1 {
		t.Error("the counter began anew")
	}
	if s.do("GET", "/case/none", ""); s.count(ReasonMalformed) != 2 {
		t.Error("the new handler counts elsewhere")
	}
}

func FuzzRequest(f *testing.F) {
	f.Add("GET", "/x", "lang=ru", "happened=x&form=AAAA")
	f.Add("POST", "", "", "happened=%zz")
	f.Add("POST", "/log/0", "lang=%00", strings.Repeat("a", 100))
	f.Fuzz(func(t *testing.T, method, tail, query, body string) {
		s := open(t)
		s.desk.inc["FC-AAAAAAAAAA"] = func() flow.Incident {
			inc := incident("FC-AAAAAAAAAA", "c-77")
			inc.Holder.VDS, inc.Tenant = body, netip.MustParseAddr("11.2.3.4")
			return inc
		}()
		r, err := http.NewRequest(method, "https://abuse.example.net/", strings.NewReader(body))
		if err != nil {
			return
		}
		r.URL = &url.URL{Path: s.link("FC-AAAAAAAAAA") + tail, RawQuery: query}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := newRecorder()
		s.h.ServeHTTP(w, r)
		if w.status >= 500 || w.status == 0 {
			t.Fatalf("%d %s", w.status, w.body.String())
		}
		if len(s.desk.got) > 0 {
			t.Fatalf("a statement without the form: %+v", s.desk.got)
		}
		if strings.HasPrefix(w.head.Get("Content-Type"), "text/html") {
			checkPage(t, w.body.String())
		}
	})
}

type recorder struct {
	head   http.Header
	status int
	body   strings.Builder
}

func newRecorder() *recorder            { return &recorder{head: http.Header{}} }
func (r *recorder) Header() http.Header { return r.head }
func (r *recorder) WriteHeader(s int)   { r.status = s }
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.body.Write(b)
}
