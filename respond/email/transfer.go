package email

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/textproto"
	"strings"
	"time"
	"unicode"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
	"go.uber.org/zap"
)

// sent is what the server said to a mail.
type sent struct {
	refused  []string // recipients
	response string   // to the mail
}

// send dials, sends and quits. A mail that the server accepted is sent, even if
// it hangs up instead of answering QUIT.
func (m *Mailer) send(ctx context.Context, msg *gomail.Msg) (sent, error) {
	auth := gomail.SMTPAuthAutoDiscover
	opts := []gomail.Option{gomail.WithPort(m.port), gomail.WithTimeout(m.cfg.Timeout), gomail.WithTLSConfig(m.tls), gomail.WithDialContextFunc(m.dial)}
	if m.cfg.HELO != "" {
		opts = append(opts, gomail.WithHELO(m.cfg.HELO))
	}
	switch m.cfg.TLS {
	case TLSImplicit:
		// The library does not see that dial encrypts, and would refuse PLAIN.
		auth = gomail.SMTPAuthPlainNoEnc
		opts = append(opts, gomail.WithTLSPolicy(gomail.NoTLS))
	case TLSNone:
		auth = gomail.SMTPAuthPlainNoEnc // asked for: a relay on the same host or network
		opts = append(opts, gomail.WithTLSPolicy(gomail.NoTLS))
	case TLSOpportunistic:
		opts = append(opts, gomail.WithTLSPolicy(gomail.TLSOpportunistic))
	default:
		opts = append(opts, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if m.cfg.Username != "" {
		opts = append(opts, gomail.WithSMTPAuth(auth), gomail.WithUsername(m.cfg.Username), gomail.WithPassword(m.cfg.Password))
	}
	c, err := gomail.NewClient(m.host, opts...)
	if err != nil {
		return sent{}, fmt.Errorf("mail client: %w", err)
	}
	conn, err := c.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return sent{}, fmt.Errorf("connect to %s: %w", m.cfg.Server, err)
	}
	defer func() { _ = c.CloseWithSMTPClient(conn) }()
	if err := conn.UpdateDeadline(2 * m.cfg.Timeout); err != nil {
		return sent{}, err
	}
	return m.transfer(conn, msg)
}

// refusal is a mail that the server refused for good.
type refusal struct{ error }

// Unwrap returns what the server said.
func (r refusal) Unwrap() error { return r.error }

// answer marks a 5yz reply to the mail or its addresses as final. Refused
// logins and missing TLS come earlier and are not: they are errors of the
// set-up, which an operator can put right while the notice waits.
func answer(err error) error {
	var te *textproto.Error
	// 530 and 535 to MAIL or RCPT ask for a login (RFC 4954 §6): set-up again.
	if errors.As(err, &te) && te.Code >= 500 && te.Code != 530 && te.Code != 535 {
		return refusal{err}
	}
	return err
}

// tooLarge reports a mail that exceeds the server's limit: 552, or 554 and 5xx
// with the enhanced code 5.3.4 (RFC 1870 §6.1, RFC 3463 §3.4). 552 is a full
// mailbox as well (5.2.2), which another mail does not help.
func tooLarge(err error) bool {
	var te *textproto.Error
	if !errors.As(err, &te) || te.Code < 500 {
		return false
	}
	return strings.Contains(te.Msg, "5.3.4") || te.Code == 552 && !strings.Contains(te.Msg, "5.2.2")
}

// transfer is one mail transaction. The library's own would ask for SMTPUTF8
// wherever it is offered, and then a next hop without it bounces a mail whose
// addresses and headers are plain ASCII; and it would send to nobody when one
// of several recipients is refused.
func (m *Mailer) transfer(conn *smtp.Client, msg *gomail.Msg) (sent, error) {
	to, param := msg.GetTo(), ""
	for _, a := range append([]*mail.Address{m.from}, to...) {
		if strings.ContainsFunc(a.Address, unicode.IsControl) {
			return sent{}, refusal{fmt.Errorf("address %q holds control characters", a.Address)}
		}
		if strings.ContainsFunc(a.Address, func(r rune) bool { return r > unicode.MaxASCII }) {
			param = " SMTPUTF8" // RFC 6531 §3.4: needed for the address itself only
		}
	}
	if _, err := command(conn, "MAIL FROM:<%s>%s", m.from.Address, param); err != nil {
		return sent{}, fmt.Errorf("sender %s: %w", m.from.Address, answer(err))
	}
	var done sent
	var refused []error
	for _, a := range to {
		if _, err := command(conn, "RCPT TO:<%s>", a.Address); err != nil {
			refused = append(refused, fmt.Errorf("recipient %s: %w", a.Address, answer(err)))
			done.refused = append(done.refused, a.Address)
		}
	}
	if len(refused) == len(to) {
		for _, err := range refused {
			var r refusal
			if !errors.As(err, &r) {
				return done, err // one of them may take it later
			}
		}
		return done, errors.Join(refused...)
	}
	for _, err := range refused {
		m.log.Warn("a recipient was refused, the others get the mail", zap.Error(err))
	}
	w, err := conn.Data()
	if err != nil {
		return done, fmt.Errorf("data: %w", answer(err))
	}
	if _, err := msg.WriteTo(w); err != nil {
		return done, fmt.Errorf("write the mail: %w", err)
	}
	if err := w.Close(); err != nil {
		return done, fmt.Errorf("the mail: %w", answer(err))
	}
	if d, ok := w.(*smtp.DataCloser); ok {
		done.response = d.ServerResponse() // with most servers, their queue's id
	}
	return done, nil
}

// command sends one line and waits for a 25x reply. Its arguments
// hold no control characters.
func command(conn *smtp.Client, format string, args ...any) (string, error) {
	id, err := conn.Text.Cmd(format, args...)
	if err != nil {
		return "", err
	}
	conn.Text.StartResponse(id)
	defer conn.Text.EndResponse(id)
	_, text, err := conn.Text.ReadResponse(25)
	return text, err
}

// dial connects with a deadline on the connection itself: the library bounds
// dialling and sending, but waits for a silent server's greeting for ever.
func (m *Mailer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: m.cfg.Timeout}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(m.cfg.Timeout)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if m.cfg.TLS != TLSImplicit {
		return conn, nil
	}
	enc := tls.Client(conn, m.tls)
	if err := enc.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return enc, nil
}
