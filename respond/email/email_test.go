package email

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/notice"
)

// written are texts that were tried out once.
var written = sync.OnceValues(func() (*notice.Writer, error) { return notice.New(notice.Config{Company: "Example Hosting"}) })

func texts(t *testing.T) *notice.Writer {
	t.Helper()
	w, err := written()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func mailer(t *testing.T, cfg Config, audience notice.Audience) *Mailer {
	t.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute // a slow machine is no error of the mail
	}
	m, err := New(cfg, audience, Deps{Texts: texts(t)})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// example is a Russian customer's notice with a log whose bytes are easy to
// damage on the way: long lines, dots, tabs, no newline at the end.
func example() flow.Notice {
	n := notice.Example("suspended")
	n.Incident.Holder.Language = "ru"
	text := "Netscan detected from host 198.18.0.7\n.\n..\n\tтаб \r\n" + strings.Repeat("x", 1200) + "\n=3D"
	sum := sha256.Sum256([]byte(text))
	n.Evidence.Logs = append(n.Evidence.Logs, flow.EvidenceLog{Form: "netscan", Name: "FC-ABCDEFGHIJ-netscan.txt", Text: text, SHA256: hex.EncodeToString(sum[:])})
	return n
}

type parsed struct {
	header mail.Header
	text   string
	files  map[string]string
	types  []string
}

func parse(t *testing.T, raw string) parsed {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	p := parsed{header: m.Header, files: map[string]string{}}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/mixed" {
		t.Fatalf("content type %q: %v", kind, err)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	for {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return p
		}
		if err != nil {
			t.Fatal(err)
		}
		var body io.Reader = part
		switch part.Header.Get("Content-Transfer-Encoding") {
		case "quoted-printable":
			body = quotedprintable.NewReader(part)
		case "base64":
			body = base64.NewDecoder(base64.StdEncoding, part)
		}
		b, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		p.types = append(p.types, part.Header.Get("Content-Type"))
		if name := part.FileName(); name != "" {
			p.files[name] = string(b)
		} else {
			p.text = string(b)
		}
	}
}

// The whole way with a real server: STARTTLS, login, delivery, and the mail
// read back from the mailbox.
func TestDeliveredBySTARTTLS(t *testing.T) {
	srv := startExim(t, true)
	m := mailer(t, Config{
		Server: srv.addr, RootCAs: srv.ca, Username: eximUser, Password: eximPassword, From: "Abuse desk <abuse@example.net>",
		ReplyTo: "answers@example.net",
	}, notice.Customer)
	n := example()
	if err := m.Notify(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	p := parse(t, srv.delivered(t, "owner", 1)[0])
	want, err := texts(t).Write(n, notice.Customer, "ru")
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(p.header.Get("Subject"))
	if err != nil || subject != want.Subject {
		t.Errorf("subject %q (%v), want %q", subject, err, want.Subject)
	}
	if got := strings.ReplaceAll(p.text, "\r\n", "\n"); strings.TrimSpace(got) != strings.TrimSpace(want.Text) {
		t.Errorf("text:\n%s\nwant:\n%s", got, want.Text)
	}
	for k, v := range map[string]string{
		"X-Flowcordon-Incident": "FC-ABCDEFGHIJ", "Message-Id": "<FC-ABCDEFGHIJ.suspended.5.customer@example.net>",
		"From": `"Abuse desk" <abuse@example.net>`, "To": "<owner@example.org>", "Reply-To": "<answers@example.net>",
		"Auto-Submitted": "auto-generated", "Content-Language": "ru",
	} {
		if got := p.header.Get(k); got != v {
			t.Errorf("%s: %q, want %q", k, got, v)
		}
	}
	if len(p.files) != 3 {
		t.Errorf("%d attachments, want 3", len(p.files))
	}
	for _, l := range n.Evidence.Logs {
		if p.files[l.Name] != l.Text {
			t.Errorf("attachment %s: %q, want %q", l.Name, p.files[l.Name], l.Text)
		}
	}
	for _, ct := range p.types {
		if kind, _, err := mime.ParseMediaType(ct); err != nil || kind != "text/plain" {
			t.Errorf("part of type %q, want text/plain", ct)
		}
	}
	if strings.Contains(srv.Log(), "P=utf8") {
		t.Error("SMTPUTF8 was asked for a mail with plain addresses: a next hop without it would bounce it")
	}
	// Sent again after a crash: the same Message-ID, so that it is seen as one.
	if err := m.Notify(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	for _, raw := range srv.delivered(t, "owner", 2) {
		if id := parse(t, raw).header.Get("Message-Id"); id != "<FC-ABCDEFGHIJ.suspended.5.customer@example.net>" {
			t.Errorf("message id %q", id)
		}
	}
}

func TestTLSPolicies(t *testing.T) {
	plain, secure := startExim(t, false), startExim(t, true)
	cfg := Config{From: "abuse@example.net", Staff: []string{"desk@example.net", "second@example.net"}, Timeout: time.Minute}
	for _, tc := range []struct {
		name     string
		server   *exim
		tls      TLS
		auth, ca bool
		wantErr  string
	}{
		{"none on a plain server", plain, TLSNone, false, false, ""},
		{"opportunistic on a plain server", plain, TLSOpportunistic, false, false, ""},
		{"mandatory on a plain server", plain, TLSMandatory, false, false, "STARTTLS"},
		{"mandatory, certificate not trusted", secure, TLSMandatory, true, false, "certificate"},
		{"mandatory, trusted, no login", secure, TLSMandatory, false, true, "530"},
		{"mandatory, trusted, login", secure, TLSMandatory, true, true, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := cfg
			cfg.Server, cfg.TLS = tc.server.addr, tc.tls
			if tc.auth {
				cfg.Username, cfg.Password = eximUser, eximPassword
			}
			if tc.ca {
				cfg.RootCAs = tc.server.ca
			}
			err := mailer(t, cfg, notice.Staff).Notify(t.Context(), notice.Example("held"))
			switch {
			case tc.wantErr == "" && err != nil:
				t.Fatal(err)
			case tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)):
				t.Fatalf("error %v, want one that says %q", err, tc.wantErr)
			}
		})
	}
	for _, raw := range append(plain.delivered(t, "desk", 2), secure.delivered(t, "second", 1)...) {
		if s := parse(t, raw).header.Get("Subject"); !strings.Contains(s, "[FC-ABCDEFGHIJ] held") {
			t.Errorf("subject %q", s)
		}
	}
}

// What is worth another try and what is not, as a real server says it.
func TestPermanentAndTransient(t *testing.T) {
	srv := startExim(t, false)
	for _, tc := range []struct {
		contact string
		server  string
		perm    bool
	}{
		{"nobody@example.org", srv.addr, true},
		{"later@example.org", srv.addr, false},
		{"not an address", srv.addr, true},
		{"owner@example.org", "127.0.0.1:1", false},
	} {
		m := mailer(t, Config{Server: tc.server, TLS: TLSNone, From: "abuse@example.net", Timeout: time.Minute}, notice.Customer)
		n := example()
		n.Incident.Holder.Contact = tc.contact
		err := m.Notify(t.Context(), n)
		var e *Error
		if !errors.As(err, &e) || e.Permanent() != tc.perm {
			t.Errorf("to %q by %s: %v (%T), want permanent=%t", tc.contact, tc.server, err, err, tc.perm)
		}
	}
}

// A server that accepts and says nothing costs the timeout, not for ever.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	m := mailer(t, Config{Server: l.Addr().String(), TLS: TLSNone, From: "abuse@example.net", Timeout: 300 * time.Millisecond}, notice.Customer)
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := m.Notify(ctx, example()); err == nil {
		t.Fatal("a mail was sent to a server that says nothing")
	}
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("it took %s", d)
	}
}

// One dead address among the staff's must not keep the mail from the others.
func TestOneOfSeveralRefused(t *testing.T) {
	srv := startExim(t, false)
	cfg := Config{Server: srv.addr, TLS: TLSNone, From: "abuse@example.net", Staff: []string{"nobody@example.net", "desk@example.net"}}
	if err := mailer(t, cfg, notice.Staff).Notify(t.Context(), notice.Example("failed")); err != nil {
		t.Fatal(err)
	}
	srv.delivered(t, "desk", 1)
}

func TestWants(t *testing.T) {
	inc := notice.Example("held").Incident
	anon := inc
	anon.Holder = flow.Holder{}
	cfg := Config{Server: "localhost:25", From: "abuse@example.net", Staff: []string{"desk@example.net"}}
	customer, staff := mailer(t, cfg, notice.Customer), mailer(t, cfg, notice.Staff)
	cfg.Staff = nil
	noStaff := mailer(t, cfg, notice.Staff)
	for _, kind := range []string{"suspended", "notified", "released", "held", "failed", "unverified"} {
		told := kind == "suspended" || kind == "notified" || kind == "released"
		if customer.Wants(kind, inc) != told {
			t.Errorf("customer wants %s: %t", kind, !told)
		}
		if customer.Wants(kind, anon) {
			t.Errorf("customer without a contact is written to about %s", kind)
		}
		if !staff.Wants(kind, anon) || noStaff.Wants(kind, inc) {
			t.Errorf("staff and %s", kind)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	_, err := New(Config{Server: "mail.example.org", From: "nobody", TLS: "maybe", Staff: []string{"@"}, RootCAs: []byte("x")}, notice.Staff, Deps{})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"write host:port", `from "nobody"`, "write mandatory, opportunistic, none or implicit", `address "@"`, "root certificates", "no texts"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q:\n%v", want, err)
		}
	}
}
