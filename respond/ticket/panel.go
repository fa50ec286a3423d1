package ticket

import (
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

// maxPanelAnswer bounds what is read of a panel's answer: a list of tickets, or
// one ticket with all its replies.
const maxPanelAnswer = 8 << 20

// PanelConfig is what every panel has.
type PanelConfig struct {
	Name     string        // of the notifier; empty: the product's
	URL      string        // of the panel's interface
	Timeout  time.Duration // of one call; 20 s
	Kinds    []string      // nil: those of notice.CustomerKinds, since the customer reads the ticket
	Language string        // of the text; empty: the holder's
	// ClientPrefix is what the inventory writes before the panel's number of the
	// customer: with "c-", the customer c-77 is 77 there.
	ClientPrefix string
}

// post is one message of a ticket.
type post struct {
	key, incident, subject, text, client, contact string
	urgent                                        bool
	logs                                          []flow.EvidenceLog
}

// mark is how a message is known again: panels know no idempotency. It holds
// nothing that JSON or HTML writes otherwise.
func (p post) mark() string { return "[ref " + strings.ReplaceAll(p.key, "/", ".") + "]" }

// product is what differs between the panels. Errors are *Error.
type product interface {
	// find gives the ticket whose subject holds the incident; "": there is none.
	find(ctx context.Context, p post) (string, error)
	// said gives all that was said in a ticket, in any form that keeps marks.
	said(ctx context.Context, ticket string) (string, error)
	open(ctx context.Context, p post) (ticket string, err error)
	reply(ctx context.Context, ticket string, p post) error
	attaches() bool
	serves(client, contact string) bool // has a ticket for such a customer
	secrets() []string
}

// Panel is a notifier that opens one ticket for an incident and replies to it.
type Panel struct {
	cfg  PanelConfig
	p    product
	deps Deps
	hide *strings.Replacer
	gate notice.Gate
	mu   sync.Mutex // two notices of one incident must not open two tickets
}

func newPanel(cfg PanelConfig, p product, deps Deps, errs []error) (*Panel, error) {
	if cfg.Kinds == nil {
		cfg.Kinds = notice.CustomerKinds()
	}
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	deps.Log = deps.Log.Named("ticket")
	if u, err := url.Parse(cfg.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		errs = append(errs, errors.New("url: write https://, the panel's host and the path of its interface; logins have keys of their own"))
	}
	if deps.Texts == nil {
		errs = append(errs, errors.New("no texts"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Name, err)
	}
	var pairs []string
	for _, s := range p.secrets() {
		if len(s) >= 6 { // a shorter one would tear words apart
			pairs = append(pairs, s, "***", url.QueryEscape(s), "***")
		}
	}
	return &Panel{cfg: cfg, p: p, deps: deps, hide: strings.NewReplacer(pairs...)}, nil
}

// Name is the notifier's name.
func (t *Panel) Name() string { return t.cfg.Name }

// Wants reports whether notices of the kind are posted: where the panel has a
// customer to show them to.
func (t *Panel) Wants(kind string, inc flow.Incident) bool {
	return slices.Contains(t.cfg.Kinds, kind) && t.p.serves(t.client(inc.Holder), inc.Holder.Contact)
}

// Notify opens the incident's ticket or replies to it, once: a notice that the
// ticket has already is not said again.
func (t *Panel) Notify(ctx context.Context, n flow.Notice) error {
	now := t.deps.Now().UTC()
	if wait := t.gate.Wait(now); wait > 0 {
		return &Error{Err: fmt.Errorf("asked to wait, for another %s", wait.Round(time.Second)), After: wait}
	}
	d := notice.Delivery{
		Notice: n.Key, Incident: n.Incident.ID, Kind: n.Kind, Notifier: t.cfg.Name, At: now, Server: hostOf(t.cfg.URL),
		To: []string{"customer " + t.client(n.Incident.Holder)},
	}
	p, err := t.compose(n)
	if err == nil {
		t.mu.Lock()
		d.ID, d.Response, err = t.put(ctx, p)
		t.mu.Unlock()
	}
	var out *Error
	if err != nil {
		if !errors.As(err, &out) {
			out = &Error{Err: err, Perm: true}
		}
		out.Err = errors.New(notice.Clip(t.hide.Replace(out.Err.Error())))
	}
	return settle(ctx, t.deps.Deliveries, &t.gate, t.deps.Log, d, out)
}

func (t *Panel) client(h flow.Holder) string { return strings.TrimPrefix(h.Tenant, t.cfg.ClientPrefix) }

func (t *Panel) compose(n flow.Notice) (post, error) {
	if !t.p.attaches() {
		n.Evidence.Logs = nil // so that the text promises no attachment
	}
	lang := t.cfg.Language
	if lang == "" {
		lang = n.Incident.Holder.Language
	}
	text, err := t.deps.Texts.Write(n, audienceOf(n.Kind), lang)
	if err != nil {
		return post{}, err
	}
	p := post{
		key: n.Key, incident: n.Incident.ID, subject: text.Subject, client: t.client(n.Incident.Holder), contact: n.Incident.Holder.Contact,
		urgent: n.Incident.State.Cut(), logs: n.Evidence.Logs,
	}
	p.text = text.Text + "\n" + p.mark()
	return p, nil
}

func (t *Panel) put(ctx context.Context, p post) (id, response string, err error) {
	if id, err = t.p.find(ctx, p); err != nil {
		return "", "", err
	}
	if id == "" {
		id, err = t.p.open(ctx, p)
		return id, "opened", err
	}
	said, err := t.p.said(ctx, id)
	if err != nil {
		return id, "", err
	}
	if strings.Contains(said, p.mark()) {
		return id, "was there already", nil
	}
	return id, "replied", t.p.reply(ctx, id, p)
}

// caller makes the calls of a panel: a form goes in, JSON comes out.
type caller struct {
	url     string
	timeout time.Duration
	client  *http.Client
	now     func() time.Time
}

func newCaller(cfg *PanelConfig, deps *Deps) caller {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 20 * time.Second
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return caller{url: cfg.URL, timeout: cfg.Timeout, client: closeMouthed(deps.Client), now: deps.Now}
}

// call posts a form and reads the JSON of an answer, whatever its status: both
// panels say what is wrong in the body. An answer that is not JSON is judged by
// its status.
func (c caller) call(ctx context.Context, form url.Values, into any) (raw string, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, &Error{Err: bare(err), Perm: true}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("User-Agent", "flowcordon")
	resp, err := c.client.Do(req)
	if err != nil {
		return "", 0, &Error{Err: bare(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPanelAnswer))
	if err != nil {
		return "", resp.StatusCode, &Error{Status: resp.StatusCode, Err: fmt.Errorf("read the answer: %w", err)}
	}
	if wait := after(resp, c.now()); wait > 0 || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 {
		return "", resp.StatusCode, &Error{Status: resp.StatusCode, Err: fmt.Errorf("answers %s: %s", resp.Status, notice.Clip(string(body))), After: wait}
	}
	if err := json.Unmarshal(body, into); err != nil {
		return "", resp.StatusCode, &Error{
			Status: resp.StatusCode, Perm: resp.StatusCode != http.StatusOK && notice.PermanentStatus(resp.StatusCode),
			Err: fmt.Errorf("answers %s and not the interface's JSON: %s", resp.Status, notice.Clip(string(body))),
		}
	}
	return string(body), resp.StatusCode, nil
}
