package portal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flowcordon/flowcordon/flow"
)

// caller makes signed calls with its own code, as the documentation says.
type caller struct {
	*testing.T
	h    *Hook
	desk *desk
	log  *observer.ObservedLogs
}

func newCaller(t *testing.T) *caller {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	d := &desk{outcome: OutcomeQueued, inc: map[string]flow.Incident{"FC-AAAAAAAAAA": incident("FC-AAAAAAAAAA", "c-77"), "FC-BBBBBBBBBB": incident("FC-BBBBBBBBBB", "")}}
	h, err := NewHook(HookConfig{Name: "whmcs", Secrets: [][]byte{newSecret, oldSecret}}, HookDeps{Incidents: d, Log: zap.New(core), Now: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	return &caller{t, h, d, logs}
}

func (c *caller) call(secret []byte, at time.Time, body string, change ...func(*http.Request)) (int, map[string]string) {
	c.Helper()
	r := httptest.NewRequest(http.MethodPost, "/hook", strings.NewReader(body))
	stamp := fmt.Sprint(at.Unix())
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(stamp + "." + body))
	r.Header.Set("X-Flowcordon-Timestamp", stamp)
	r.Header.Set("X-Flowcordon-Signature", "sha256="+hex.EncodeToString(m.Sum(nil)))
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	var v map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		c.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return w.Code, v
}

const goodAnswer = `{"key":"ticket 5/reply 7","incident":"FC-AAAAAAAAAA","customer":"c-77","language":"ru","happened":"Взломали сайт.","fixed":"Переустановил.","changed":"Обновления сами."}`

func TestHookStores(t *testing.T) {
	c := newCaller(t)
	for _, secret := range [][]byte{newSecret, oldSecret} {
		c.desk.got = nil
		code, v := c.call(secret, start.Add(maxSkew), goodAnswer)
		if code != http.StatusOK || v["outcome"] != "queued" || len(c.desk.got) != 1 {
			t.Fatalf("%d %v", code, v)
		}
	}
	s := c.desk.got[0]
	if s.Happened != "Взломали сайт." || s.Language != "ru" || !isID(s.Key) || !s.At.Equal(start) || c.desk.actors[0] != "FC-AAAAAAAAAA hook:whmcs" {
		t.Errorf("%+v by %s", s, c.desk.actors[0])
	}
	key := s.Key
	if c.call(newSecret, start, goodAnswer); c.desk.got[1].Key != key {
		t.Error("the same answer has another key")
	}
	if c.call(newSecret, start, strings.Replace(goodAnswer, "reply 7", "reply 8", 1)); c.desk.got[2].Key == key {
		t.Error("another answer has the same key")
	}
	for err, want := range map[error]int{ErrUsed: 200, fmt.Errorf("%w: released", ErrClosed): 409, errors.New("the log is away"): 503} {
		c.desk.err = err
		if code, v := c.call(newSecret, start, goodAnswer); code != want || strings.Contains(fmt.Sprint(v), "the log is away") {
			t.Errorf("%v: %d %v", err, code, v)
		}
	}
}

// Forged, altered, repeated later, of another customer: nothing is stored, and
// no secret is in a log.
func TestHookRefuses(t *testing.T) {
	header := func(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }
	for name, tc := range map[string]struct {
		secret []byte
		at     time.Time
		body   string
		change func(*http.Request)
		want   int
	}{
		"another secret":      {[]byte("a secret that was never ours, of enough bytes"), start, goodAnswer, nil, 401},
		"no signature":        {newSecret, start, goodAnswer, func(r *http.Request) { r.Header.Del("X-Flowcordon-Signature") }, 401},
		"empty signature":     {newSecret, start, goodAnswer, header("X-Flowcordon-Signature", "sha256="), 401},
		"no time":             {newSecret, start, goodAnswer, func(r *http.Request) { r.Header.Del("X-Flowcordon-Timestamp") }, 401},
		"another time":        {newSecret, start, goodAnswer, header("X-Flowcordon-Timestamp", fmt.Sprint(start.Unix()+1)), 401},
		"of an hour ago":      {newSecret, start.Add(-maxSkew - time.Second), goodAnswer, nil, 401},
		"of tomorrow":         {newSecret, start.Add(maxSkew + time.Second), goodAnswer, nil, 401},
		"body altered":        {newSecret, start, goodAnswer, func(r *http.Request) { r.Body = http.NoBody }, 401},
		"another customer":    {newSecret, start, strings.Replace(goodAnswer, "c-77", "c-88", 1), nil, 404},
		"no customer":         {newSecret, start, strings.Replace(strings.Replace(goodAnswer, "c-77", "", 1), "FC-AAAAAAAAAA", "FC-BBBBBBBBBB", 1), nil, 404},
		"no such incident":    {newSecret, start, strings.Replace(goodAnswer, "FC-AAAAAAAAAA", "FC-CCCCCCCCCC", 1), nil, 404},
		"an answer is absent": {newSecret, start, strings.Replace(goodAnswer, `"fixed":"Переустановил."`, `"fixed":" "`, 1), nil, 422},
		"no key":              {newSecret, start, strings.Replace(goodAnswer, "ticket 5/reply 7", "", 1), nil, 422},
		"a field too many":    {newSecret, start, strings.Replace(goodAnswer, "{", `{"release":true,`, 1), nil, 422},
		"two objects":         {newSecret, start, goodAnswer + goodAnswer, nil, 422},
		"not JSON":            {newSecret, start, "<xml>", nil, 422},
		"too long":            {newSecret, start, strings.Repeat("x", maxBody+1), nil, 413},
		"GET":                 {newSecret, start, goodAnswer, func(r *http.Request) { r.Method = http.MethodGet }, 405},
	} {
		c := newCaller(t)
		change := tc.change
		if change == nil {
			change = func(*http.Request) {}
		}
		code, v := c.call(tc.secret, tc.at, tc.body, change)
		if code != tc.want || v["error"] == "" || c.desk.attempts != 0 {
			t.Errorf("%s: %d %v, %d stored; want %d", name, code, v, c.desk.attempts, tc.want)
		}
		if code == 401 && v["error"] != "signature or timestamp" {
			t.Errorf("%s: the answer says which: %v", name, v)
		}
		for _, e := range c.log.All() {
			if l := fmt.Sprint(e.Message, e.ContextMap()); strings.Contains(l, string(newSecret)) || strings.Contains(l, "sha256=") {
				t.Errorf("%s: logged %s", name, l)
			}
		}
	}
	if _, err := NewHook(HookConfig{Secrets: [][]byte{[]byte("short")}}, HookDeps{}); err == nil || !strings.Contains(err.Error(), "no name") || !strings.Contains(err.Error(), "secret 1 has 5 bytes") || !strings.Contains(err.Error(), "no incidents") {
		t.Errorf("%v", err)
	}
}
