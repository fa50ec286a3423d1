// Package chat posts notices for staff to chat rooms: Slack, Telegram, and any
// room that takes JSON by a web address (Mattermost, Discord, Teams, Rocket.Chat
// and home-made ones). In comes a flow.Notice or a digest, out goes one POST, or
// an error that says whether and when trying again can help. The address or
// token of a room is a secret and appears in no error and no log. It owns no
// goroutine and imports flow and respond/notice.
package chat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/notice"
)

// maxAnswer bounds what is read of an answer: enough for an error's text.
const maxAnswer = 4 << 10

// Config is what every room has. Kinds nil: all.
type Config struct {
	Name     string // of the notifier; empty: the product's name
	Room     string // how people call it, for the delivery log; empty: the notifier's name
	Kinds    []string
	Language string        // of the texts; empty: en
	Timeout  time.Duration // of one POST; 15 s
}

// Deps are what a Room works with; all but Texts may be nil.
type Deps struct {
	Texts      *notice.Writer
	Client     *http.Client
	Log        *zap.Logger
	Deliveries notice.DeliveryLog
	Now        func() time.Time
}

// product is what differs between the products.
type product interface {
	name() string
	// post is the request for a message; it must not be kept.
	post(m message) (target string, head http.Header, body []byte, err error)
	// judge reads an answer: nil when the message was taken.
	judge(status int, h http.Header, body []byte, now time.Time) *notice.Error
	secrets() []string
}

// message is what is said. It has no logs and no link of a customer: rooms have
// many readers.
type message struct {
	Key, Kind, Incident, Subject, Text, URL, Language string
	At                                                time.Time
}

// Room is a notifier for staff.
type Room struct {
	cfg    Config
	p      product
	deps   Deps
	client *http.Client
	hide   *strings.Replacer // secrets
	gate   notice.Gate

	mu   sync.Mutex
	sent map[string]time.Time // keys that were taken, for sentFor
}

// sentFor is how long a key that was taken is known. Rooms know no idempotency:
// this is what keeps a notice whose success could not be stored from being said
// twice while the process lives.
const sentFor = 72 * time.Hour

func newRoom(cfg Config, p product, deps Deps, errs []error) (*Room, error) {
	if cfg.Name == "" {
		cfg.Name = p.name()
	}
	if cfg.Room == "" {
		cfg.Room = cfg.Name
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 15 * time.Second
	}
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	deps.Log = deps.Log.Named("chat")
	if deps.Now == nil {
		deps.Now = time.Now
	}
	c := http.Client{}
	if deps.Client != nil {
		c = *deps.Client
	}
	// A redirect would hand the message to a host that nobody configured.
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	var pairs []string
	for _, s := range p.secrets() {
		if len(s) >= 8 { // shorter ones are refused, and would tear words apart
			pairs = append(pairs, s, "***", url.QueryEscape(s), "***", url.PathEscape(s), "***")
		}
	}
	if deps.Texts == nil {
		errs = append(errs, errors.New("no texts"))
	}
	r := &Room{cfg: cfg, p: p, deps: deps, client: &c, hide: strings.NewReplacer(pairs...), sent: map[string]time.Time{}}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%s: %s", cfg.Name, r.hide.Replace(err.Error()))
	}
	return r, nil
}

// Name is the notifier's name.
func (r *Room) Name() string { return r.cfg.Name }

// Wants reports whether notices of the kind are posted.
func (r *Room) Wants(kind string, _ flow.Incident) bool {
	return r.cfg.Kinds == nil || slices.Contains(r.cfg.Kinds, kind)
}

// Notify posts one notice.
func (r *Room) Notify(ctx context.Context, n flow.Notice) error {
	t, err := r.deps.Texts.Write(n, notice.Staff, r.cfg.Language)
	m := message{Key: n.Key, Kind: n.Kind, Incident: n.Incident.ID, Subject: t.Subject, Text: t.Text, Language: t.Language, At: n.At}
	return r.deliver(ctx, m, err)
}

// NotifyDigest posts one message about many notices.
func (r *Room) NotifyDigest(ctx context.Context, b notice.Batch) error {
	t, err := r.deps.Texts.WriteDigest(b, r.cfg.Language)
	m := message{Key: b.Key, Kind: "digest", Subject: t.Subject, Text: t.Text, Language: t.Language, At: b.To}
	return r.deliver(ctx, m, err)
}

// deliver posts a message and writes down what became of it.
func (r *Room) deliver(ctx context.Context, m message, cause error) error {
	now := r.deps.Now().UTC()
	if r.known(m.Key, now) {
		return nil
	}
	d := notice.Delivery{Notice: m.Key, Incident: m.Incident, Kind: m.Kind, Notifier: r.cfg.Name, At: now, To: []string{r.cfg.Room}}
	var fail *notice.Error
	if cause != nil {
		fail = &notice.Error{Err: cause, Perm: true}
	} else if wait := r.gate.Wait(now); wait > 0 {
		// Not worth a line in the delivery log: nothing was tried.
		return &notice.Error{Channel: r.cfg.Name, Err: fmt.Errorf("asked to wait, for another %s", wait.Round(time.Second)), After: wait}
	} else {
		d.Response, fail = r.send(ctx, m, now)
	}
	if fail != nil {
		fail.Channel = r.cfg.Name
		fail.Err = errors.New(notice.Clip(r.hide.Replace(fail.Err.Error())))
		if fail.After > 0 {
			r.gate.Shut(now, fail.After)
		}
		d.Error, d.Permanent = fail.Err.Error(), fail.Perm
	}
	if r.deps.Deliveries != nil {
		r.deps.Deliveries.Delivered(ctx, d)
	}
	if fail != nil {
		return fail
	}
	r.remember(m.Key, now)
	r.deps.Log.Info("message accepted", zap.String("notice", m.Key), zap.String("room", r.cfg.Room))
	return nil
}

func (r *Room) send(ctx context.Context, m message, now time.Time) (string, *notice.Error) {
	target, head, body, err := r.p.post(m)
	if err != nil {
		return "", &notice.Error{Err: err, Perm: true}
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return "", &notice.Error{Err: err, Perm: true}
	}
	for k, v := range head {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "flowcordon")
	resp, err := r.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = fmt.Errorf("no answer: %w", ue.Err) // without the address: it is the key to the room
		}
		return "", &notice.Error{Err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return notice.Clip(r.hide.Replace(string(said))), r.p.judge(resp.StatusCode, resp.Header, said, now)
}

func (r *Room) known(key string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.sent[key]
	return ok && now.Sub(at) < sentFor
}

func (r *Room) remember(key string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, at := range r.sent {
		if now.Sub(at) >= sentFor {
			delete(r.sent, k)
		}
	}
	r.sent[key] = now
}

// byStatus judges an answer by its status alone. 429 and 503 may say how long
// to wait.
func byStatus(status int, h http.Header, said string, now time.Time) *notice.Error {
	if status >= 200 && status <= 299 {
		return nil
	}
	e := &notice.Error{Status: status, Err: fmt.Errorf("answered %d %s: %s", status, http.StatusText(status), said), Perm: notice.PermanentStatus(status)}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		e.After = notice.RetryAfter(h, now)
	}
	return e
}

func goodURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("url: write https:// and the address that the product shows for the room") // without it: it is a secret
	}
	return nil
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("write the message: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// cut keeps at most n runes and says that there was more.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return strings.TrimRight(string(r[:n-2]), " \n") + "\n…"
}
