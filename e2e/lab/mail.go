package lab

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/respond/email/eximtest"
)

// Who may send through a MailServer.
const (
	MailUser     = eximtest.User
	MailPassword = eximtest.Password
)

const mailPort = 2525 // in the management namespace, which is ours alone

// MailServer is Debian's exim in the management namespace: it asks for STARTTLS
// and a login before it takes a recipient, and keeps mail for owner@ and desk@
// any domain.
type MailServer struct {
	Addr string // host:port
	CA   string // file with the certificate to trust
	exim *eximtest.Server
	said string // file with what the daemon itself wrote
	stop func()
}

// Mail starts the server. Close it.
func (l *Lab) Mail() (_ *MailServer, err error) {
	if err := eximtest.Missing(); err != nil {
		return nil, &MissingError{[]string{err.Error()}}
	}
	pki := filepath.Join(l.Dir, "pki", "server")
	exim, err := eximtest.New(eximtest.Config{Address: MgmtIP, Port: mailPort, Cert: filepath.Join(pki, "cert.pem"), Key: filepath.Join(pki, "key.pem")})
	if err != nil {
		return nil, err
	}
	srv := &MailServer{Addr: exim.Addr, CA: filepath.Join(l.PKI, "cacert.pem"), exim: exim, said: filepath.Join(l.Dir, "exim.log"), stop: func() {}}
	defer func() {
		if err != nil {
			srv.Close()
		}
	}()
	out, err := os.Create(srv.said)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	srv.stop, err = l.Spawn(Command(l.Mgmt, exim.Args[0], exim.Args[1:]...), out)
	if err != nil {
		return nil, err
	}
	err = Until(startTimeout, func() error {
		var c net.Conn
		nerr := InNS(l.Mgmt, func() (err error) {
			c, err = net.DialTimeout("tcp", srv.Addr, time.Second)
			return err
		})
		if nerr != nil {
			return fmt.Errorf("%w\n%s", nerr, srv.Log())
		}
		return c.Close()
	})
	return srv, err
}

// Close ends the server and forgets the mail.
func (m *MailServer) Close() {
	m.stop()
	m.exim.Remove()
}

// Log is what the server wrote.
func (m *MailServer) Log() string {
	text, _ := os.ReadFile(m.said)
	return string(text) + m.exim.Log()
}

// Mail is one that was delivered.
type Mail struct {
	Head    mail.Header
	Subject string
	Text    string
	Files   map[string]string // attachments by name
}

// Box lists what was delivered to a mailbox, owner or desk.
func (m *MailServer) Box(name string) ([]Mail, error) {
	raw, err := m.exim.Box(name)
	if err != nil {
		return nil, err
	}
	var out []Mail
	for _, text := range raw {
		one, err := readMail(text)
		if err != nil {
			return nil, fmt.Errorf("a mail to %s: %w", name, err)
		}
		out = append(out, one)
	}
	return out, nil
}

func readMail(raw string) (Mail, error) {
	msg, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		return Mail{}, err
	}
	m := Mail{Head: msg.Header, Files: map[string]string{}}
	if m.Subject, err = (&mime.WordDecoder{}).DecodeHeader(msg.Header.Get("Subject")); err != nil {
		return m, err
	}
	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil {
		return m, err
	}
	if !strings.HasPrefix(kind, "multipart/") {
		m.Text, err = decode(msg.Body, msg.Header.Get("Content-Transfer-Encoding"))
		return m, err
	}
	for r := multipart.NewReader(msg.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return m, err
		}
		text, err := decode(p, p.Header.Get("Content-Transfer-Encoding"))
		if err != nil {
			return m, err
		}
		if name := p.FileName(); name != "" {
			m.Files[name] = text
		} else {
			m.Text += text
		}
	}
}

func decode(r io.Reader, how string) (string, error) {
	switch strings.ToLower(how) {
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	}
	b, err := io.ReadAll(r)
	return string(b), err
}
