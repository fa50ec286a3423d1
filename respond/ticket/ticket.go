// Package ticket posts notices to a ticket system as signed JSON. In comes a
// flow.Notice, out goes one POST with the incident, the text and the frozen
// logs; errors say whether trying again can help. It owns no goroutine and
// imports flow and respond/notice.
//
// Body: {"event", "incident", "subject", "text", "language", "logs":[{"form",
// "name", "text", "sha256"}]}. Headers: Idempotency-Key, the key of the notice,
// the same each time; X-Flowcordon-Timestamp, Unix seconds;
// X-Flowcordon-Signature, "sha256=" and the hex HMAC-SHA256 by the secret of
// timestamp, ".", body. A receiver answers 2xx once the ticket is stored,
// refuses timestamps more than 300 s off, and treats a key it has seen as done.
package ticket

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/notice"
)

// maxAnswer bounds what is read of an answer: enough for an error's text.
const maxAnswer = 4 << 10

// Config is one ticket system.
type Config struct {
	Name     string // of the notifier; empty: ticket
	URL      string
	Secret   []byte        // of the signature; at least 16 bytes
	Timeout  time.Duration // of one POST; 15 s
	Kinds    []string      // nil: all
	Language string        // of the text; empty: the holder's
}

// Deps are what a Ticket works with. Client, Log and Now may be nil.
type Deps struct {
	Texts  *notice.Writer
	Client *http.Client
	Log    *zap.Logger
	Now    func() time.Time
}

// Ticket is a notifier that opens and follows up tickets.
type Ticket struct {
	cfg    Config
	texts  *notice.Writer
	client *http.Client
	log    *zap.Logger
	now    func() time.Time
}

// New makes the notifier. All errors of the configuration are reported at once.
func New(cfg Config, deps Deps) (*Ticket, error) {
	t := &Ticket{cfg: cfg, texts: deps.Texts, client: deps.Client, log: deps.Log, now: deps.Now}
	if t.cfg.Name == "" {
		t.cfg.Name = "ticket"
	}
	if t.cfg.Timeout <= 0 {
		t.cfg.Timeout = 15 * time.Second
	}
	if t.log == nil {
		t.log = zap.NewNop()
	}
	t.log = t.log.Named("ticket")
	if t.now == nil {
		t.now = time.Now
	}
	if t.client == nil {
		t.client = &http.Client{}
	}
	c := *t.client
	// A redirect of a signed POST would become a GET without its body, or hand
	// the body to another host.
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.client = &c
	var errs []error
	if u, err := url.Parse(cfg.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, fmt.Errorf("ticket: url %q: write http:// or https:// and a host", cfg.URL))
	}
	if len(cfg.Secret) < 16 {
		errs = append(errs, fmt.Errorf("ticket: secret of %d bytes: write at least 16", len(cfg.Secret)))
	}
	if t.texts == nil {
		errs = append(errs, errors.New("ticket: no texts"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return t, nil
}

// Name is the notifier's name.
func (t *Ticket) Name() string { return t.cfg.Name }

// Wants reports whether notices of the kind are posted.
func (t *Ticket) Wants(kind string, _ flow.Incident) bool {
	return t.cfg.Kinds == nil || slices.Contains(t.cfg.Kinds, kind)
}

// Payload is the body of a POST.
type Payload struct {
	Event    string             `json:"event"`
	Incident flow.Incident      `json:"incident"`
	Subject  string             `json:"subject"`
	Text     string             `json:"text"`
	Language string             `json:"language"`
	Logs     []flow.EvidenceLog `json:"logs"`
}

// Error is a ticket that was not accepted, with whether it ever will be.
type Error struct {
	Status int // HTTP; 0: no answer
	Err    error
	Perm   bool
}

// Error says what was tried.
func (e *Error) Error() string { return "post ticket: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Permanent reports that the receiver understood the ticket and refused it.
func (e *Error) Permanent() bool { return e.Perm }

// permanent tells a refusal of this ticket from a receiver that is away, busy,
// being deployed or set up wrongly: those are worth another try, because an
// operator can put them right while the notice waits.
func permanent(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusUnsupportedMediaType, http.StatusGone:
		return true
	}
	return false
}

// Notify posts one notice.
func (t *Ticket) Notify(ctx context.Context, n flow.Notice) error {
	body, err := t.compose(n)
	if err != nil {
		return &Error{Err: err, Perm: true}
	}
	ctx, cancel := context.WithTimeout(ctx, t.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return &Error{Err: err, Perm: true}
	}
	ts := strconv.FormatInt(t.now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "flowcordon")
	req.Header.Set("Idempotency-Key", n.Key)
	req.Header.Set("X-Flowcordon-Timestamp", ts)
	req.Header.Set("X-Flowcordon-Signature", "sha256="+sign(t.cfg.Secret, ts, body))
	resp, err := t.client.Do(req)
	if err != nil {
		return &Error{Err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		err := fmt.Errorf("%s answers %s: %s", t.cfg.URL, resp.Status, strings.TrimSpace(strings.ToValidUTF8(string(said), "?")))
		return &Error{Status: resp.StatusCode, Err: err, Perm: permanent(resp.StatusCode)}
	}
	t.log.Info("ticket accepted", zap.String("notice", n.Key), zap.Int("status", resp.StatusCode))
	return nil
}

func (t *Ticket) compose(n flow.Notice) ([]byte, error) {
	lang := t.cfg.Language
	if lang == "" {
		lang = n.Incident.Holder.Language
	}
	// The customer's text where there is one: in many ticket systems the first
	// post is what the customer sees.
	audience := notice.Staff
	switch n.Kind {
	case "suspended", "notified", "released":
		audience = notice.Customer
	}
	text, err := t.texts.Write(n, audience, lang)
	if err != nil {
		return nil, err
	}
	p := Payload{Event: n.Kind, Incident: n.Incident, Subject: text.Subject, Text: text.Text, Language: text.Language, Logs: n.Evidence.Logs}
	if p.Logs == nil {
		p.Logs = []flow.EvidenceLog{}
	}
	body, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("write ticket: %w", err)
	}
	return body, nil
}

func sign(secret []byte, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(timestamp))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
