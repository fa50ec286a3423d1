package email

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/notice"
)

// book keeps deliveries.
type book struct{ got []notice.Delivery }

func (b *book) Delivered(_ context.Context, d notice.Delivery) { b.got = append(b.got, d) }

var sometime = time.Date(2026, 11, 22, 7, 30, 0, 0, time.UTC)

func recorded(t *testing.T, cfg Config, audience notice.Audience, b *book) *Mailer {
	t.Helper()
	cfg.Timeout = time.Minute
	m, err := New(cfg, audience, Deps{Texts: texts(t), Deliveries: b, Now: func() time.Time { return sometime }})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What went where, when, under which name, and what the server said.
func TestDeliveryLog(t *testing.T) {
	srv := startExim(t, false)
	cfg := Config{Server: srv.addr, TLS: TLSNone, From: "abuse@example.net", Staff: []string{"nobody@example.net", "desk@example.net"}}
	var b book
	staff, customer := recorded(t, cfg, notice.Staff, &b), recorded(t, cfg, notice.Customer, &b)
	if err := staff.Notify(t.Context(), notice.Example("held")); err != nil {
		t.Fatal(err)
	}
	for _, contact := range []string{"nobody@example.org", "later@example.org", "not an address"} {
		n := example()
		n.Incident.Holder.Contact = contact
		if err := customer.Notify(t.Context(), n); err == nil {
			t.Errorf("%s: delivered", contact)
		}
	}
	base := notice.Delivery{
		Notice: "FC-ABCDEFGHIJ/suspended/5", Incident: "FC-ABCDEFGHIJ", Kind: "suspended", Notifier: "mail-customer", At: sometime,
		Server: srv.addr, ID: "FC-ABCDEFGHIJ.suspended.5.customer@example.net",
	}
	held, refused, later, bad := base, base, base, base
	held.Notice, held.Kind, held.Notifier, held.ID = "FC-ABCDEFGHIJ/held/5", "held", "mail-staff", "FC-ABCDEFGHIJ.held.5.staff@example.net"
	held.To, held.Refused = cfg.Staff, []string{"nobody@example.net"}
	refused.To, refused.Refused, refused.Permanent = []string{"nobody@example.org"}, []string{"nobody@example.org"}, true
	later.To, later.Refused = []string{"later@example.org"}, []string{"later@example.org"}
	bad.Permanent = true
	if d := cmp.Diff([]notice.Delivery{held, refused, later, bad}, b.got, cmpopts.IgnoreFields(notice.Delivery{}, "Response", "Error")); d != "" {
		t.Errorf("deliveries (-want +got):\n%s", d)
	}
	if r := b.got[0].Response; !strings.Contains(r, "OK id=") || b.got[0].Error != "" {
		t.Errorf("the server's answer %q, error %q: want the id of its queue", r, b.got[0].Error)
	}
	for i, want := range map[int]string{1: `550 "5.1.1 no such mailbox`, 2: `451 "4.7.1 greylisted`, 3: "not an address"} {
		if !strings.Contains(b.got[i].Error, want) {
			t.Errorf("error %q does not say %q", b.got[i].Error, want)
		}
	}
}

// Mails of one incident are one thread, and no machine answers them.
func TestThread(t *testing.T) {
	srv := startExim(t, false)
	m := mailer(t, Config{Server: srv.addr, TLS: TLSNone, From: "abuse@example.net"}, notice.Customer)
	kinds := notice.CustomerKinds()
	for _, kind := range kinds {
		n := notice.Example(kind)
		n.Incident.Holder.Language = "ru"
		if err := m.Notify(t.Context(), n); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
	}
	ids := map[string]bool{}
	for _, raw := range srv.delivered(t, "owner", len(kinds)) {
		h := parse(t, raw).header
		ids[h.Get("Message-Id")] = true
		for k, v := range map[string]string{
			"In-Reply-To": "<FC-ABCDEFGHIJ.customer@example.net>", "References": "<FC-ABCDEFGHIJ.customer@example.net>", "Auto-Submitted": "auto-generated",
			"X-Auto-Response-Suppress": "All", "List-Id": "network abuse notices <abuse-notices.example.net>", "X-Flowcordon-Incident": "FC-ABCDEFGHIJ",
		} {
			if h.Get(k) != v {
				t.Errorf("%s: %s is %q, want %q", h.Get("X-Flowcordon-Notice"), k, h.Get(k), v)
			}
		}
	}
	if len(ids) != len(kinds) {
		t.Errorf("%d different message ids of %d mails", len(ids), len(kinds))
	}
}

func TestDigestMail(t *testing.T) {
	srv := startExim(t, false)
	cfg := Config{Server: srv.addr, TLS: TLSNone, From: "abuse@example.net", Staff: []string{"desk@example.net"}}
	var b book
	d := notice.NewDigest(recorded(t, cfg, notice.Staff, &b), notice.DigestConfig{Max: 1, Window: time.Nanosecond})
	for _, n := range notice.ExampleBatch().Notices[:3] {
		_ = d.Notify(t.Context(), n)
	}
	m := recorded(t, cfg, notice.Staff, &b)
	batch := notice.ExampleBatch()
	if err := m.NotifyDigest(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	last := b.got[len(b.got)-1]
	if last.Kind != "digest" || last.Notice != batch.Key || last.ID != strings.ReplaceAll(batch.Key, "/", ".")+".staff@example.net" {
		t.Errorf("%+v", last)
	}
	found := false
	for _, raw := range srv.delivered(t, "desk", 2) {
		h, body, _ := strings.Cut(raw, "\n\n")
		found = found || strings.Contains(h, "X-Flowcordon-Notice: digest") && strings.Contains(h, "105 notices on 105 servers") && strings.Contains(body, "FC-EXAMPLE099")
	}
	if !found {
		t.Error("no digest was delivered")
	}
	if err := mailer(t, cfg, notice.Customer).NotifyDigest(t.Context(), batch); err == nil {
		t.Error("a customer was sent the names of others")
	}
}

// Every kind that can be tried is delivered by a real server, in both languages.
func TestTrial(t *testing.T) {
	srv := startExim(t, true)
	cfg := Config{Server: srv.addr, RootCAs: srv.ca, Username: eximUser, Password: eximPassword, From: "abuse@example.net", Staff: []string{"desk@example.net"}, StaffLanguage: "ru"}
	ns := []notice.Notifier{mailer(t, cfg, notice.Customer), mailer(t, cfg, notice.Staff)}
	got := notice.Try(t.Context(), ns, notice.Trial{To: "second@example.org", Language: "ru", At: sometime})
	for _, r := range got {
		if r.Err != nil {
			t.Errorf("%s %s: %v", r.Notifier, r.Kind, r.Err)
		}
	}
	srv.delivered(t, "second", len(notice.CustomerKinds()))
	srv.delivered(t, "desk", len(notice.Kinds)+1)
	if len(got) != len(notice.CustomerKinds())+len(notice.Kinds)+1 { // and a digest
		t.Errorf("%d were tried", len(got))
	}
}

// A mail that the server finds too large goes without its logs, once, and says
// so; nothing is lost for an attachment.
func TestTooLarge(t *testing.T) {
	srv := startExim(t, false) // takes 5 MB
	var b book
	m := recorded(t, Config{Server: srv.addr, TLS: TLSNone, From: "abuse@example.net"}, notice.Customer, &b)
	n := notice.Example("suspended")
	n.Evidence.Logs[0].Text = strings.Repeat("a line of a long log\n", 300_000)
	if err := m.Notify(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	p := textOf(t, srv.delivered(t, "owner", 1)[0])
	if strings.Contains(p, "attached") || !strings.Contains(p, "log files on request") || strings.Contains(p, "a line of a long log") {
		t.Errorf("the mail:\n%s", p)
	}
	if len(b.got) != 1 || b.got[0].Error != "" || !strings.Contains(b.got[0].Response, "OK id=") {
		t.Errorf("deliveries %+v", b.got)
	}
	for text, want := range map[string]bool{"552 message too big": true, "552 5.2.2 mailbox full": false, "554 5.3.4 too big": true, "550 no": false, "452 4.3.4 later": false} {
		var code int
		if _, err := fmt.Sscanf(text, "%d", &code); err != nil {
			t.Fatal(err)
		}
		if got := tooLarge(refusal{fmt.Errorf("the mail: %w", &textproto.Error{Code: code, Msg: text[4:]})}); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}

// textOf is the text of a mail that has no attachments.
func textOf(t *testing.T, raw string) string {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if kind := m.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain") {
		t.Errorf("content type %q", kind)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A server that throws the login back at us must not bring the password into
// an error, a delivery or the log.
func TestPasswordStaysIn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	const password = "hunter22-very-secret"
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			echo(c)
		}
	}()
	core, logs := observer.New(zapcore.DebugLevel)
	var b book
	cfg := Config{Server: l.Addr().String(), TLS: TLSNone, From: "abuse@example.net", Username: "user", Password: password, Timeout: time.Minute}
	m, err := New(cfg, notice.Customer, Deps{Texts: texts(t), Log: zap.New(core), Deliveries: &b})
	if err != nil {
		t.Fatal(err)
	}
	err = m.Notify(t.Context(), example())
	if err == nil || !strings.Contains(err.Error(), "***") {
		t.Fatalf("error %v: the server's answer should be in it, without the password", err)
	}
	all := fmt.Sprint(err, b.got)
	for _, e := range logs.All() {
		all += fmt.Sprint(e.Message, e.ContextMap())
	}
	for _, secret := range []string{password, base64.StdEncoding.EncodeToString([]byte("\x00user\x00" + password)), base64.StdEncoding.EncodeToString([]byte(password))} {
		if strings.Contains(all, secret) {
			t.Errorf("the password is in %q", all)
		}
	}
}

// echo refuses every login with what was sent.
func echo(c net.Conn) {
	defer func() { _ = c.Close() }()
	_, _ = fmt.Fprint(c, "220 ready\r\n")
	s := bufio.NewScanner(c)
	for s.Scan() {
		switch line := s.Text(); {
		case strings.HasPrefix(line, "EHLO"):
			_, _ = fmt.Fprint(c, "250-hello\r\n250 AUTH PLAIN\r\n")
		case strings.HasPrefix(line, "AUTH"):
			_, _ = fmt.Fprintf(c, "535 5.7.8 not accepted: %s\r\n", line)
		default:
			_, _ = fmt.Fprint(c, "221 bye\r\n")
			return
		}
	}
}

// Lines that a notice carries from outside start no header.
func TestHeaderInjection(t *testing.T) {
	srv := startExim(t, false)
	m := mailer(t, Config{Server: srv.addr, TLS: TLSNone, From: "abuse@example.net"}, notice.Customer)
	n := example()
	n.Incident.Holder.VDS = "vds\r\nBcc: second@example.net\r\n\r\nbody"
	n.Incident.Rules = []flow.Rule{"x\r\nX-Evil: 1"}
	n.Evidence.Logs = []flow.EvidenceLog{{Name: "a\"\r\nX-Evil: 2\r\n.txt", Text: "x"}}
	if err := m.Notify(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	raw := srv.delivered(t, "owner", 1)[0]
	h := parse(t, raw).header
	if h.Get("Bcc") != "" || h.Get("X-Evil") != "" {
		t.Errorf("a header of somebody else's:\n%s", raw)
	}
	n.Incident.Holder.Contact = "owner@example.org>\r\nRCPT TO:<second@example.net"
	if err := m.Notify(t.Context(), n); err == nil {
		t.Error("an address with a command in it was accepted")
	}
}
