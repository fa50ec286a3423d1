// Package ticket posts notices to ticket systems: to WHMCS and BILLmanager by
// their own interfaces, one ticket for an incident with a reply for each later
// notice, and to any other as signed JSON. In comes a flow.Notice; errors say
// whether and when trying again can help. It owns no goroutine and imports flow
// and respond/notice.
//
// The signed JSON. Body: {"event", "incident", "subject", "text", "language", "logs":[{"form",
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

// Deps are what a notifier works with. All but Texts may be nil.
type Deps struct {
	Texts      *notice.Writer
	Client     *http.Client
	Log        *zap.Logger
	Deliveries notice.DeliveryLog
	Now        func() time.Time
}

// Ticket is a notifier that opens and follows up tickets.
type Ticket struct {
	cfg    Config
	texts  *notice.Writer
	client *http.Client
	log    *zap.Logger
	record notice.DeliveryLog
	now    func() time.Time
	gate   notice.Gate
	path   string // of the URL: receivers are often known by it alone
}

// New makes the notifier. All errors of the configuration are reported at once.
func New(cfg Config, deps Deps) (*Ticket, error) {
	t := &Ticket{cfg: cfg, texts: deps.Texts, client: deps.Client, log: deps.Log, record: deps.Deliveries, now: deps.Now}
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
	t.client = closeMouthed(t.client)
	var errs []error
	switch u, err := url.Parse(cfg.URL); {
	case err != nil: // without it: a path or a login in it may be a secret
		errs = append(errs, errors.New("ticket: url cannot be read: write http:// or https://, a host and a path"))
	case u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		errs = append(errs, fmt.Errorf("ticket: url %q: write http:// or https:// and a host", u.Scheme+"://"+u.Host))
	default:
		t.path = u.EscapedPath()
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

// closeMouthed follows no redirect: a POST would become a GET without its body,
// or hand the body, with logins in it, to another host.
func closeMouthed(client *http.Client) *http.Client {
	c := http.Client{}
	if client != nil {
		c = *client
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
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
	After  time.Duration // that the receiver asks to wait; 0: it said nothing
}

// Error says what was tried.
func (e *Error) Error() string { return "post ticket: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Permanent reports that the receiver understood the ticket and refused it.
func (e *Error) Permanent() bool { return e.Perm }

// RetryAfter is how long the receiver asks to wait.
func (e *Error) RetryAfter() time.Duration { return e.After }

// Notify posts one notice.
func (t *Ticket) Notify(ctx context.Context, n flow.Notice) error {
	now := t.now().UTC()
	if wait := t.gate.Wait(now); wait > 0 {
		return &Error{Err: fmt.Errorf("asked to wait, for another %s", wait.Round(time.Second)), After: wait}
	}
	d := notice.Delivery{Notice: n.Key, Incident: n.Incident.ID, Kind: n.Kind, Notifier: t.cfg.Name, At: now, To: []string{"ticket system"}, Server: hostOf(t.cfg.URL)}
	said, err := t.post(ctx, n, now)
	if err != nil && err.Status == http.StatusRequestEntityTooLarge && len(n.Evidence.Logs) > 0 {
		t.log.Warn("the receiver finds the ticket too large, it goes without its logs", zap.String("notice", n.Key))
		n.Evidence.Logs = nil
		said, err = t.post(ctx, n, now)
	}
	d.Response = notice.Clip(said)
	return settle(ctx, t.record, &t.gate, t.log, d, err)
}

// settle writes down what became of a try and shuts the gate when the receiver
// asks for quiet.
func settle(ctx context.Context, record notice.DeliveryLog, gate *notice.Gate, log *zap.Logger, d notice.Delivery, err *Error) error {
	if err != nil {
		d.Error, d.Permanent = notice.Clip(err.Err.Error()), err.Perm
		if err.After > 0 {
			gate.Shut(d.At, err.After)
		}
	}
	if record != nil {
		record.Delivered(ctx, d)
	}
	if err != nil {
		return err
	}
	log.Info("ticket accepted", zap.String("notice", d.Notice), zap.String("ticket", d.ID))
	return nil
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

func (t *Ticket) post(ctx context.Context, n flow.Notice, now time.Time) (string, *Error) {
	body, err := t.compose(n)
	if err != nil {
		return "", &Error{Err: err, Perm: true}
	}
	ctx, cancel := context.WithTimeout(ctx, t.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return "", &Error{Err: err, Perm: true}
	}
	ts := strconv.FormatInt(now.Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "flowcordon")
	req.Header.Set("Idempotency-Key", n.Key)
	req.Header.Set("X-Flowcordon-Timestamp", ts)
	req.Header.Set("X-Flowcordon-Signature", "sha256="+sign(t.cfg.Secret, ts, body))
	resp, err := t.client.Do(req)
	if err != nil {
		return "", &Error{Err: bare(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	said := strings.ToValidUTF8(string(raw), "?")
	if len(t.path) > 8 {
		said = strings.ReplaceAll(said, t.path, "/***")
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		err := fmt.Errorf("%s answers %s: %s", hostOf(t.cfg.URL), resp.Status, strings.TrimSpace(said))
		return said, &Error{Status: resp.StatusCode, Err: err, Perm: notice.PermanentStatus(resp.StatusCode), After: after(resp, now)}
	}
	return said, nil
}

// bare is an error without the address, which may carry a token.
func bare(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return fmt.Errorf("no answer: %w", ue.Err)
	}
	return err
}

// after is how long an answer that may say so asks to wait.
func after(resp *http.Response, now time.Time) time.Duration {
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		return notice.RetryAfter(resp.Header, now)
	}
	return 0
}

// audienceOf chooses the customer's text where there is one: in ticket systems
// a post is what the customer sees.
func audienceOf(kind string) notice.Audience {
	if slices.Contains(notice.CustomerKinds(), kind) {
		return notice.Customer
	}
	return notice.Staff
}

func (t *Ticket) compose(n flow.Notice) ([]byte, error) {
	lang := t.cfg.Language
	if lang == "" {
		lang = n.Incident.Holder.Language
	}
	text, err := t.texts.Write(n, audienceOf(n.Kind), lang)
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
