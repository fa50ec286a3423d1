package chat

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/net/html"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/notice"
)

const (
	slackPath = "/services/T00000000/B00000000/SecretSecretSecret123456"
	botToken  = "123456789:AAHsecretsecretsecretsecretsecret-_1"
)

// room is a double of the products: it checks requests as their documentation
// says, and answers as told.
type room struct {
	t    *testing.T
	mu   sync.Mutex
	got  []map[string]any
	head []http.Header
	raw  [][]byte
	say  func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
}

func (d *room) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		d.t.Error(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var m map[string]any
	if r.Method != http.MethodPost || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		d.t.Errorf("%s %s", r.Method, r.Header.Get("Content-Type"))
	}
	jsonErr := json.Unmarshal(body, &m)
	d.got, d.head, d.raw = append(d.got, m), append(d.head, r.Header.Clone()), append(d.raw, body)
	if d.say != nil && d.say(w, r) {
		return
	}
	switch {
	case r.URL.Path == slackPath:
		if problem := slackChecks(m, jsonErr); problem != "" {
			http.Error(w, problem, http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, "ok")
	case r.URL.Path == "/bot"+botToken+"/sendMessage":
		if problem := telegramChecks(m, jsonErr); problem != "" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprintf(w, `{"ok":false,"error_code":400,"description":%q}`, "Bad Request: "+problem)
			return
		}
		_, _ = io.WriteString(w, `{"ok":true,"result":{"message_id":1}}`)
	case r.URL.Path == "/hook-very-secret-path":
		if jsonErr != nil {
			http.Error(w, "not JSON", http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		http.Error(w, "no_service", http.StatusNotFound)
	}
}

// slackChecks is Block Kit's reference: header 150 and section 3000 characters,
// and the three characters that must be escaped.
func slackChecks(m map[string]any, err error) string {
	if err != nil {
		return "invalid_payload"
	}
	if m["text"] == "" || m["text"] == nil {
		return "no_text"
	}
	for _, b := range m["blocks"].([]any) {
		block := b.(map[string]any)
		text := block["text"].(map[string]any)["text"].(string)
		limit := map[any]int{"header": 150, "section": 3000}[block["type"]]
		if limit == 0 || text == "" || utf8.RuneCountInString(text) > limit {
			return "invalid_blocks"
		}
		if block["type"] == "section" && strings.ContainsAny(text, "<>") {
			return "invalid_blocks: something that is not escaped"
		}
	}
	return ""
}

// telegramChecks is the Bot API's sendMessage with parse_mode HTML: known tags
// only, at most 4096 characters after the entities are parsed.
func telegramChecks(m map[string]any, err error) string {
	if err != nil || m["chat_id"] != "-1001234567890" || m["parse_mode"] != "HTML" {
		return "chat not found"
	}
	n := 0
	z := html.NewTokenizer(strings.NewReader(m["text"].(string)))
	for {
		switch z.Next() {
		case html.ErrorToken:
			if n == 0 {
				return "message text is empty"
			}
			if n > 4096 {
				return "message is too long"
			}
			return ""
		case html.TextToken:
			n += utf8.RuneCount([]byte(html.UnescapeString(string(z.Raw()))))
		case html.StartTagToken, html.EndTagToken:
			if name, _ := z.TagName(); string(name) != "b" && string(name) != "pre" {
				return "can't parse entities"
			}
		default:
			return "can't parse entities"
		}
	}
}

type book struct{ got []notice.Delivery }

func (b *book) Delivered(_ context.Context, d notice.Delivery) { b.got = append(b.got, d) }

// rooms are one of each product before one double, on a clock of their own.
type rooms struct {
	*room
	all  map[string]*Room
	now  time.Time
	book book
	logs *observer.ObservedLogs
}

// texts are tried out when they are read, which takes a while: once is enough.
var texts = sync.OnceValues(func() (*notice.Writer, error) {
	return notice.New(notice.Config{Company: "Example", Details: func(flow.Notice) notice.Details {
		return notice.Details{Link: "https://abuse.example.net/case/the-customers-link"}
	}})
})

func open(t *testing.T) *rooms {
	t.Helper()
	w, err := texts()
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.DebugLevel)
	r := &rooms{room: &room{t: t}, all: map[string]*Room{}, now: time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC), logs: logs}
	srv := httptest.NewServer(r.room)
	t.Cleanup(srv.Close)
	deps := Deps{Texts: w, Log: zap.New(core), Deliveries: &r.book, Now: func() time.Time { return r.now }}
	cfg := Config{Room: "#abuse", Timeout: time.Minute}
	add := func(c *Room, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		r.all[c.Name()] = c
	}
	add(NewSlack(cfg, srv.URL+slackPath, deps))
	add(NewTelegram(cfg, Telegram{Token: botToken, ChatID: "-1001234567890", BaseURL: srv.URL, Topic: 7}, deps))
	add(NewGeneric(cfg, Generic{URL: srv.URL + "/hook-very-secret-path", Secret: []byte("0123456789abcdef")}, deps))
	for name, body := range map[string]string{"discord": BodyDiscord, "mattermost": BodyMattermost} {
		c := cfg
		c.Name = name
		add(NewGeneric(c, Generic{URL: srv.URL + "/hook-very-secret-path", Body: body}, deps))
	}
	return r
}

// Each kind, in both languages, and a digest that is far longer than a message
// may be, as every product takes them.
func TestTaken(t *testing.T) {
	r := open(t)
	for name, c := range r.all {
		r.got, r.book.got = nil, nil
		want := 0
		for _, lang := range []string{"en", "ru"} {
			c.cfg.Language = lang
			for _, k := range notice.Kinds {
				if !c.Wants(k.Name, flow.Incident{}) {
					continue
				}
				n := notice.Example(k.Name)
				n.Key += lang
				n.Incident.Holder.VDS = "<b>&\"```</pre>\u2028\x01"
				if err := c.Notify(t.Context(), n); err != nil {
					t.Errorf("%s, %s %s: %v", name, lang, k.Name, err)
				}
				want++
			}
		}
		b := notice.ExampleBatch()
		if err := c.NotifyDigest(t.Context(), b); err != nil {
			t.Errorf("%s, digest: %v", name, err)
		}
		if want++; len(r.got) != want || len(r.book.got) != want {
			t.Errorf("%s: %d messages and %d deliveries, want %d", name, len(r.got), len(r.book.got), want)
		}
		d := r.book.got[want-1]
		if d.Kind != "digest" || d.Notice != b.Key || d.Notifier != name || d.To[0] != "#abuse" || d.Error != "" || !d.At.Equal(r.now) {
			t.Errorf("%s: %+v", name, d)
		}
		for _, raw := range r.raw {
			if strings.Contains(string(raw), "the-customers-link") {
				t.Fatalf("%s: the customer's link is in a room", name)
			}
		}
	}
}

func TestBodies(t *testing.T) {
	r := open(t)
	for _, c := range r.all {
		if err := c.Notify(t.Context(), notice.Example("held")); err != nil {
			t.Fatal(err)
		}
	}
	texts := map[string]string{}
	for i, m := range r.got {
		switch {
		case m["chat_id"] != nil:
			texts["telegram"] = m["text"].(string)
			if m["message_thread_id"] != 7.0 {
				t.Errorf("topic %v", m["message_thread_id"])
			}
		case m["blocks"] != nil:
			texts["slack"] = fmt.Sprint(m["text"], m["blocks"])
		case m["content"] != nil:
			texts["discord"] = m["content"].(string)
		case m["event"] != nil:
			texts["chat"] = m["text"].(string)
			if m["event"] != "held" || m["incident"] != "FC-ABCDEFGHIJ" || m["key"] != "FC-ABCDEFGHIJ/held/5" || r.head[i].Get("Idempotency-Key") != "FC-ABCDEFGHIJ/held/5" {
				t.Errorf("%v %v", m, r.head[i])
			}
			h := hmac.New(sha256.New, []byte("0123456789abcdef"))
			h.Write([]byte(r.head[i].Get("X-Flowcordon-Timestamp") + "." + string(r.raw[i])))
			if r.head[i].Get("X-Flowcordon-Signature") != "sha256="+hex.EncodeToString(h.Sum(nil)) || r.head[i].Get("X-Flowcordon-Timestamp") != "1795330800" {
				t.Errorf("signature %v", r.head[i])
			}
		default:
			texts["mattermost"] = m["text"].(string)
		}
	}
	if len(texts) != len(r.all) {
		t.Fatalf("messages of %d products", len(texts))
	}
	for name, text := range texts {
		for _, want := range []string{"[FC-ABCDEFGHIJ] held 198.18.0.7", "many customers share the address", "vds-1042"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not say %q:\n%s", name, want, text)
			}
		}
	}
}

// What is asked again, when, and what never.
func TestAnswers(t *testing.T) {
	telegram := func(code int, rest string) string {
		return fmt.Sprintf(`{"ok":false,"error_code":%d,"description":%s}`, code, rest)
	}
	for _, tc := range []struct {
		room   string
		status int
		head   string // Retry-After
		body   string
		perm   bool
		after  time.Duration
		says   string
	}{
		{"slack", 429, "30", "rate_limited", false, 30 * time.Second, "rate_limited"},
		{"slack", 400, "", "invalid_payload", true, 0, "invalid_payload"},
		{"slack", 403, "", "action_prohibited", false, 0, "action_prohibited"},
		{"slack", 404, "", "channel_not_found", false, 0, "channel_not_found"},
		{"slack", 410, "", "channel_is_archived", false, 0, "channel_is_archived"},
		{"slack", 500, "", "rollup_error", false, 0, "rollup_error"},
		{"slack", 200, "", "<html>log in</html>", false, 0, "instead of ok"},
		{"slack", 302, "", "", false, 0, "302"},
		{"telegram", 429, "", telegram(429, `"Too Many Requests: retry after 17","parameters":{"retry_after":17}`), false, 17 * time.Second, "Too Many Requests"},
		{"telegram", 400, "", telegram(400, `"Bad Request: can't parse entities: x"`), true, 0, "can't parse"},
		{"telegram", 400, "", telegram(400, `"Bad Request: chat not found"`), false, 0, "chat not found"},
		{"telegram", 400, "", telegram(400, `"Bad Request: group chat was upgraded","parameters":{"migrate_to_chat_id":-100555}`), false, 0, "write chat_id -100555"},
		{"telegram", 401, "", telegram(401, `"Unauthorized"`), false, 0, "Unauthorized"},
		{"telegram", 403, "", telegram(403, `"Forbidden: bot was kicked"`), false, 0, "kicked"},
		{"telegram", 502, "", "<html>Bad Gateway</html>", false, 0, "502"},
		{"telegram", 400, "", "<html>a proxy</html>", false, 0, "400"},
		{"telegram", 200, "", "<html>log in</html>", false, 0, "not the Bot API"},
		{"chat", 429, "Sun, 22 Nov 2026 07:02:00 GMT", "", false, 2 * time.Minute, "429"},
		{"chat", 503, "5", "", false, 5 * time.Second, "503"},
		{"chat", 422, "", "no such field", true, 0, "no such field"},
		{"chat", 401, "", "", false, 0, "401"},
	} {
		r := open(t)
		r.say = func(w http.ResponseWriter, _ *http.Request) bool {
			if tc.head != "" {
				w.Header().Set("Retry-After", tc.head)
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
			return true
		}
		err := r.all[tc.room].Notify(t.Context(), notice.Example("held"))
		var e *notice.Error
		if !errors.As(err, &e) || e.Permanent() != tc.perm || e.RetryAfter() != tc.after || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s %d %s: %v, permanent %t, after %s", tc.room, tc.status, tc.body, err, e != nil && e.Perm, e.RetryAfter())
			continue
		}
		if len(r.got) != 1 || len(r.book.got) != 1 || r.book.got[0].Error == "" || r.book.got[0].Permanent != tc.perm {
			t.Errorf("%s %d: %d requests, deliveries %+v", tc.room, tc.status, len(r.got), r.book.got)
		}
		r.say = nil
		if tc.after > 0 { // it is not asked before its time, and then it is
			n := notice.Example("failed")
			r.now = r.now.Add(tc.after - time.Second)
			if err := r.all[tc.room].Notify(t.Context(), n); !errors.As(err, &e) || e.RetryAfter() != time.Second || len(r.got) != 1 {
				t.Errorf("%s: asked after %d requests: %v", tc.room, len(r.got), err)
			}
			r.now = r.now.Add(time.Second)
			if err := r.all[tc.room].Notify(t.Context(), n); err != nil || len(r.got) != 2 {
				t.Errorf("%s: %v", tc.room, err)
			}
		}
	}
}

// A notice that was taken, and whose success could not be stored, is not said
// twice.
func TestOnce(t *testing.T) {
	r := open(t)
	for name, c := range r.all {
		r.got = nil
		n := notice.Example("held")
		r.say = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusBadGateway); return true }
		if c.Notify(t.Context(), n) == nil {
			t.Errorf("%s: taken", name)
		}
		r.say = nil
		for range 3 {
			if err := c.Notify(t.Context(), n); err != nil {
				t.Error(err)
			}
		}
		if len(r.got) != 2 {
			t.Errorf("%s: %d requests", name, len(r.got))
		}
		r.now = r.now.Add(sentFor)
		n.Key = "another"
		if err := c.Notify(t.Context(), n); err != nil || len(c.sent) != 1 {
			t.Errorf("%s: %d keys are kept", name, len(c.sent))
		}
	}
}

// Addresses and tokens are in no error, no delivery, no log; whatever a server
// or the network says.
func TestSecretsStayIn(t *testing.T) {
	r := open(t)
	secrets := []string{slackPath, "SecretSecretSecret", botToken, "hook-very-secret-path"}
	var all strings.Builder
	r.say = func(w http.ResponseWriter, q *http.Request) bool { // it throws the address back at us
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `{"ok":false,"description":"what is http://%s%s"}`, q.Host, q.URL.Path)
		return true
	}
	for _, c := range r.all {
		_, _ = fmt.Fprintln(&all, c.Notify(t.Context(), notice.Example("held")))
		hurry, cancel := context.WithCancel(t.Context())
		cancel()
		_, _ = fmt.Fprintln(&all, c.Notify(hurry, notice.Example("failed")))
		c.client = &http.Client{Transport: gone{}}
		_, _ = fmt.Fprintln(&all, c.Notify(t.Context(), notice.Example("failed")))
	}
	_, _ = fmt.Fprintf(&all, "%+v", r.book.got)
	for _, e := range r.logs.All() {
		_, _ = fmt.Fprintln(&all, e.Message, e.ContextMap())
	}
	w, err := notice.New(notice.Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewSlack(Config{}, "hooks.example.com"+slackPath, Deps{Texts: w})
	_, _ = fmt.Fprintln(&all, err)
	_, err = NewTelegram(Config{}, Telegram{Token: botToken + " ", ChatID: "x y"}, Deps{Texts: w})
	_, _ = fmt.Fprintln(&all, err)
	_, err = NewGeneric(Config{}, Generic{URL: "ftp://x/hook-very-secret-path"}, Deps{Texts: w})
	_, _ = fmt.Fprintln(&all, err)
	if !strings.Contains(all.String(), "***") {
		t.Fatal("the servers' answers are not in the errors: nothing was tested")
	}
	for _, s := range secrets {
		for line := range strings.Lines(all.String()) {
			if strings.Contains(line, s) {
				t.Errorf("%q is in %s", s, line)
			}
		}
	}
}

type gone struct{}

func (gone) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("dial %s: no route", r.URL)
}

func TestConfig(t *testing.T) {
	for name, tc := range map[string]struct {
		err  func() error
		want []string
	}{
		"slack":    {func() error { _, err := NewSlack(Config{}, "x", Deps{}); return err }, []string{"slack: ", "url: write https://", "no texts"}},
		"telegram": {func() error { _, err := NewTelegram(Config{}, Telegram{}, Deps{}); return err }, []string{"token: write what BotFather gave", `chat_id "": write a number`, "no texts"}},
		"generic": {func() error {
			_, err := NewGeneric(Config{Name: "teams"}, Generic{URL: "https://x/y", Body: `{"text": "{{.Text}}"}`, Secret: []byte("x")}, Deps{})
			return err
		}, []string{"teams: ", "does not give JSON", "write each value through json", "secret of 1 bytes"}},
		"syntax": {func() error {
			_, err := NewGeneric(Config{}, Generic{URL: "https://x/y", Body: `{{.Nope}}`}, Deps{})
			return err
		}, []string{"Nope"}},
	} {
		err := tc.err()
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not say %q: %v", name, want, err)
			}
		}
	}
	r := open(t)
	c := r.all["slack"]
	if c.cfg.Kinds = []string{"frozen"}; c.Wants("held", flow.Incident{}) || !c.Wants("frozen", flow.Incident{}) {
		t.Error("kinds")
	}
}
