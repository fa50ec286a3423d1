// Package email sends notices as mail over SMTP: the text in the holder's
// language, the frozen logs attached. In comes a flow.Notice, out goes one mail
// or an error that says whether trying again can help. It owns no goroutine and
// imports flow and respond/notice.
package email

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"os"
	"slices"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/notice"
)

// TLS says what the connection needs.
type TLS string

// STARTTLS that must succeed, that may, none at all, or TLS from the first byte.
const (
	TLSMandatory     TLS = "mandatory" // the default
	TLSOpportunistic TLS = "opportunistic"
	TLSNone          TLS = "none"
	TLSImplicit      TLS = "implicit"
)

// Config is one SMTP server and who is written to through it.
type Config struct {
	Server   string // host:port
	TLS      TLS
	RootCAs  []byte // PEM; empty: the system's
	Username string // empty: no authentication
	Password string
	HELO     string        // empty: the host's name
	Timeout  time.Duration // of connecting and of each command; 15 s
	From     string        // RFC 5322 address, a name is allowed
	ReplyTo  string        // empty: From
	// Staff are written to about every incident, in StaffLanguage.
	Staff         []string
	StaffLanguage string
	// CustomerKinds are the notices that a holder's contact gets; nil: those of
	// notice.CustomerKinds.
	CustomerKinds []string
}

// Deps are what a Mailer works with; all but Texts may be nil.
type Deps struct {
	Texts      *notice.Writer
	Log        *zap.Logger
	Deliveries notice.DeliveryLog
	Now        func() time.Time
}

// Mailer writes to one audience. Customers and staff are two notifiers, so
// that a customer's dead mailbox does not send staff the same mail again.
type Mailer struct {
	cfg      Config
	texts    *notice.Writer
	log      *zap.Logger
	record   notice.DeliveryLog
	now      func() time.Time
	audience notice.Audience
	host     string
	port     int
	from     *mail.Address
	tls      *tls.Config
}

// New makes the mailer of one audience. All errors of the configuration are
// reported at once.
func New(cfg Config, audience notice.Audience, deps Deps) (*Mailer, error) {
	m := &Mailer{cfg: cfg, texts: deps.Texts, log: deps.Log, record: deps.Deliveries, now: deps.Now, audience: audience}
	if m.log == nil {
		m.log = zap.NewNop()
	}
	if m.now == nil {
		m.now = time.Now
	}
	m.log = m.log.Named("email")
	if m.cfg.TLS == "" {
		m.cfg.TLS = TLSMandatory
	}
	if m.cfg.Timeout <= 0 {
		m.cfg.Timeout = 15 * time.Second
	}
	if m.cfg.CustomerKinds == nil {
		m.cfg.CustomerKinds = notice.CustomerKinds()
	}
	if m.cfg.HELO == "" {
		m.cfg.HELO, _ = os.Hostname()
	}
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("email: "+format, args...)) }
	var err error
	var port string
	if m.host, port, err = net.SplitHostPort(cfg.Server); err != nil {
		fail("server %q: write host:port, for example mail.example.org:587", cfg.Server)
	} else if m.port, err = net.LookupPort("tcp", port); err != nil {
		fail("server %q: %w", cfg.Server, err)
	}
	if m.from, err = mail.ParseAddress(cfg.From); err != nil {
		fail("from %q: %w", cfg.From, err)
	}
	for _, a := range append(slices.Clone(cfg.Staff), cfg.ReplyTo) {
		if a == "" {
			continue
		}
		if _, err := mail.ParseAddress(a); err != nil {
			fail("address %q: %w", a, err)
		}
	}
	switch m.cfg.TLS {
	case TLSMandatory, TLSOpportunistic, TLSNone, TLSImplicit:
	default:
		fail("tls %q: write mandatory, opportunistic, none or implicit", cfg.TLS)
	}
	m.tls = &tls.Config{ServerName: m.host, MinVersion: tls.VersionTLS12}
	if len(cfg.RootCAs) > 0 {
		if m.tls.RootCAs, err = pool(cfg.RootCAs); err != nil {
			fail("root certificates: %w", err)
		}
	}
	if m.texts == nil {
		fail("no texts")
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return m, nil
}

// Name is "mail-customer" or "mail-staff".
func (m *Mailer) Name() string { return "mail-" + string(m.audience) }

// Wants reports whether somebody is to be written to.
func (m *Mailer) Wants(kind string, inc flow.Incident) bool {
	if m.audience == notice.Staff {
		return len(m.cfg.Staff) > 0
	}
	return slices.Contains(m.cfg.CustomerKinds, kind) && inc.Holder.Contact != ""
}

// Error is a mail that did not go, with whether it ever will.
type Error struct {
	Err  error
	Perm bool
}

// Error says what was tried.
func (e *Error) Error() string { return "send mail: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Permanent reports that the server refused for good (RFC 5321 §4.2.1, a 5yz
// reply to an address or to the mail) or that the mail cannot be written.
func (e *Error) Permanent() bool { return e.Perm }

// Notify sends one notice. The Message-ID depends on the notice only, so that
// a mail that is sent again after a crash is recognised as the same.
func (m *Mailer) Notify(ctx context.Context, n flow.Notice) error {
	compose := func(logs bool) (*gomail.Msg, error) {
		if n := n; !logs {
			n.Evidence.Logs = nil // the text then says where they are
			return m.compose(n)
		}
		return m.compose(n)
	}
	return m.deliver(ctx, compose, notice.Delivery{Notice: n.Key, Incident: n.Incident.ID, Kind: n.Kind, ID: m.messageID(n.Key)})
}

// NotifyDigest sends one mail about many notices, to staff.
func (m *Mailer) NotifyDigest(ctx context.Context, b notice.Batch) error {
	if m.audience != notice.Staff {
		return &Error{notice.ErrNoDigest, true}
	}
	compose := func(bool) (*gomail.Msg, error) { return m.composeDigest(b) }
	return m.deliver(ctx, compose, notice.Delivery{Notice: b.Key, Kind: "digest", ID: m.messageID(b.Key)})
}

// deliver sends a mail and writes down what became of it. One that the server
// finds too large goes without its logs: it must not be lost for them.
func (m *Mailer) deliver(ctx context.Context, compose func(logs bool) (*gomail.Msg, error), d notice.Delivery) error {
	d.Notifier, d.Server = m.Name(), m.cfg.Server
	done, to, err := m.try(ctx, compose, true)
	if tooLarge(err) {
		m.log.Warn("the server finds the mail too large, it goes without its logs", zap.String("notice", d.Notice), zap.Error(err))
		done, to, err = m.try(ctx, compose, false)
	}
	d.To, d.Refused, d.Response = to, done.refused, notice.Clip(done.response)
	var out *Error
	if err != nil {
		var r refusal
		out = &Error{m.veil(err), errors.As(err, &r)}
	}
	if d.At = m.now().UTC(); out != nil {
		d.Error, d.Permanent = notice.Clip(out.Err.Error()), out.Perm
	}
	if m.record != nil {
		m.record.Delivered(ctx, d)
	}
	if out != nil {
		return out
	}
	m.log.Info("mail accepted", zap.String("notice", d.Notice), zap.String("to", string(m.audience)), zap.Strings("recipients", d.To))
	return nil
}

// try composes and sends once. What cannot be composed never can.
func (m *Mailer) try(ctx context.Context, compose func(logs bool) (*gomail.Msg, error), logs bool) (sent, []string, error) {
	msg, err := compose(logs)
	if err != nil {
		return sent{}, nil, refusal{err}
	}
	var to []string
	for _, a := range msg.GetTo() {
		to = append(to, a.Address)
	}
	done, err := m.send(ctx, msg)
	return done, to, err
}

func (m *Mailer) compose(n flow.Notice) (*gomail.Msg, error) {
	to, lang := m.cfg.Staff, m.cfg.StaffLanguage
	if m.audience == notice.Customer {
		to, lang = []string{n.Incident.Holder.Contact}, n.Incident.Holder.Language
	}
	text, err := m.texts.Write(n, m.audience, lang)
	if err != nil {
		return nil, err
	}
	msg, err := m.frame(to, text, n.Key, n.Kind, n.At)
	if err != nil {
		return nil, err
	}
	if n.Incident.ID != "" {
		// One thread for an incident: all its mails follow a first one that was
		// never sent, so that none of them must be known to the others.
		root := "<" + n.Incident.ID + "." + string(m.audience) + "@" + m.domain() + ">"
		msg.SetGenHeader("In-Reply-To", root)
		msg.SetGenHeader("References", root)
		msg.SetGenHeader("X-Flowcordon-Incident", n.Incident.ID)
	}
	for _, l := range n.Evidence.Logs {
		// Base64, so that the bytes that were hashed are the bytes that arrive.
		err := msg.AttachReader(l.Name, bytes.NewReader([]byte(l.Text)),
			gomail.WithFileContentType("text/plain; charset=utf-8"), gomail.WithFileEncoding(gomail.EncodingB64))
		if err != nil {
			return nil, fmt.Errorf("attach %s: %w", l.Name, err)
		}
	}
	return msg, nil
}

func (m *Mailer) composeDigest(b notice.Batch) (*gomail.Msg, error) {
	text, err := m.texts.WriteDigest(b, m.cfg.StaffLanguage)
	if err != nil {
		return nil, err
	}
	return m.frame(m.cfg.Staff, text, b.Key, "digest", b.To)
}

// frame is a mail with all that every mail has.
func (m *Mailer) frame(to []string, text notice.Message, key, kind string, at time.Time) (*gomail.Msg, error) {
	msg := gomail.NewMsg(gomail.WithCharset(gomail.CharsetUTF8), gomail.WithEncoding(gomail.EncodingQP))
	msg.FromMailAddress(m.from)
	if err := msg.To(to...); err != nil {
		return nil, fmt.Errorf("recipients %q: %w", to, err)
	}
	if m.cfg.ReplyTo != "" {
		if err := msg.ReplyTo(m.cfg.ReplyTo); err != nil {
			return nil, fmt.Errorf("reply-to: %w", err)
		}
	}
	msg.Subject(text.Subject)
	msg.SetMessageIDWithValue(m.messageID(key))
	msg.SetDateWithValue(at)
	msg.SetGenHeader("X-Flowcordon-Notice", kind)
	// No holiday replies to it: RFC 3834 §5, and the two that other systems look at.
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader("X-Auto-Response-Suppress", "All")
	msg.SetGenHeader("List-Id", "network abuse notices <abuse-notices."+m.domain()+">") // RFC 2919: what a mailbox sorts by
	msg.SetGenHeader("Content-Language", text.Language)
	msg.SetBodyString(gomail.TypeTextPlain, text.Text)
	return msg, nil
}

// messageID is stable for a notice and an audience.
func (m *Mailer) messageID(key string) string {
	return strings.ReplaceAll(key, "/", ".") + "." + string(m.audience) + "@" + m.domain()
}

// veil keeps the password out of an error, whatever the server or the library
// says of a login, in the forms in which it goes over the wire.
func (m *Mailer) veil(err error) error {
	if m.cfg.Password == "" {
		return err
	}
	text := err.Error()
	clean := text
	for _, p := range []string{
		m.cfg.Password, base64.StdEncoding.EncodeToString([]byte(m.cfg.Password)),
		base64.StdEncoding.EncodeToString([]byte("\x00" + m.cfg.Username + "\x00" + m.cfg.Password)),
	} {
		clean = strings.ReplaceAll(clean, p, "***")
	}
	if clean == text {
		return err
	}
	return errors.New(clean)
}

func (m *Mailer) domain() string {
	_, domain, _ := strings.Cut(m.from.Address, "@")
	return domain
}
