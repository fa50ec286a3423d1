package chat

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/flowcordon/flowcordon/respond/notice"
)

// Generic is any room that takes JSON by a web address.
type Generic struct {
	URL string // a secret, like those of Slack
	// Body is a text/template that must give JSON. It may use .Key, .Kind,
	// .Incident, .Subject, .Text, .Language and .At, each through json, which
	// writes a JSON string: {"content": {{json .Subject}}}. Empty: an object with
	// all of them, and text, which most products show.
	Body   string
	Secret []byte // of a signature as in respond/ticket; empty: none
}

// The bodies that some products take.
const (
	BodyMattermost = `{"text": {{json (print "**" .Subject "**\n" "` + "```" + `\n" (cut .Text 12000) "\n` + "```" + `")}}}`
	BodyDiscord    = `{"content": {{json (cut (print "**" .Subject "**\n" "` + "```" + `\n" (cut .Text 1500) "\n` + "```" + `") 2000)}}, "allowed_mentions": {"parse": []}}`
)

var genericFuncs = template.FuncMap{
	"json": func(v any) (string, error) {
		b, err := encode(v)
		return string(b), err
	},
	"cut": cut,
}

// NewGeneric makes a notifier for a web address. All errors of the configuration
// are reported at once; the body is tried on hostile texts.
func NewGeneric(cfg Config, g Generic, deps Deps) (*Room, error) {
	var errs []error
	if err := goodURL(g.URL); err != nil {
		errs = append(errs, err)
	}
	if len(g.Secret) > 0 && len(g.Secret) < 16 {
		errs = append(errs, fmt.Errorf("secret of %d bytes: write at least 16, or none", len(g.Secret)))
	}
	p := generic{Generic: g, now: deps.Now}
	if p.now == nil {
		p.now = time.Now
	}
	if g.Body != "" {
		t, err := template.New("body").Option("missingkey=error").Funcs(genericFuncs).Parse(g.Body)
		if err != nil {
			errs = append(errs, fmt.Errorf("body: %w", err))
		} else if p.body = t; p.body != nil {
			for _, text := range []string{"plain", "a \"quoted\"\nline \\ with </script> & \u2028", ""} {
				if _, err := p.render(message{Key: text, Kind: text, Incident: text, Subject: text, Text: text, Language: text}); err != nil {
					errs = append(errs, fmt.Errorf("body: %w; write each value through json, for example {\"text\": {{json .Text}}}", err))
					break
				}
			}
		}
	}
	return newRoom(cfg, p, deps, errs)
}

type generic struct {
	Generic
	body *template.Template
	now  func() time.Time
}

func (generic) name() string        { return "chat" }
func (g generic) secrets() []string { return []string{g.URL, pathOf(g.URL), string(g.Secret)} }

func (g generic) render(m message) ([]byte, error) {
	if g.body == nil {
		return encode(map[string]any{
			"key": m.Key, "event": m.Kind, "incident": m.Incident, "subject": m.Subject, "language": m.Language, "at": m.At,
			"text": m.Subject + "\n\n" + m.Text,
		})
	}
	var b strings.Builder
	if err := g.body.Execute(&b, m); err != nil {
		return nil, err
	}
	if !json.Valid([]byte(b.String())) {
		return nil, errors.New("it does not give JSON")
	}
	return []byte(b.String()), nil
}

func (g generic) post(m message) (string, http.Header, []byte, error) {
	body, err := g.render(m)
	if err != nil {
		return "", nil, nil, err
	}
	head := http.Header{}
	head.Set("Idempotency-Key", m.Key)
	if len(g.Secret) > 0 {
		ts := strconv.FormatInt(g.now().Unix(), 10)
		h := hmac.New(sha256.New, g.Secret)
		h.Write([]byte(ts + "."))
		h.Write(body)
		head.Set("X-Flowcordon-Timestamp", ts)
		head.Set("X-Flowcordon-Signature", "sha256="+hex.EncodeToString(h.Sum(nil)))
	}
	return g.URL, head, body, nil
}

func (generic) judge(status int, h http.Header, body []byte, now time.Time) *notice.Error {
	return byStatus(status, h, notice.Clip(string(body)), now)
}
