package demo

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// mailFile is a mail that was received and written to a file.
type mailFile struct {
	file    string
	from    string
	to      []string // of the envelope
	subject string   // decoded
}

// mailbox is an SMTP backend that writes each mail to a folder.
type mailbox struct {
	dir    string
	onMail func(mailFile)

	mu sync.Mutex
	n  int
}

// maxMail bounds a mail; ours carry logs of some thousand lines.
const maxMail = 8 << 20

func newMailServer(dir string, onMail func(mailFile)) *smtp.Server {
	box := &mailbox{dir: dir, onMail: onMail}
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{box: box}, nil }))
	s.Domain = "mail.hoster.example"
	s.MaxMessageBytes = maxMail
	s.ReadTimeout, s.WriteTimeout = 20*time.Second, 20*time.Second
	return s
}

// session is one SMTP session.
type session struct {
	box  *mailbox
	from string
	to   []string
}

func (s *session) Reset()        { s.from, s.to = "", nil }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	body, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return s.box.keep(s.from, s.to, body)
}

// keep writes the mail; a file that cannot be written is a temporary failure
// to the sender, who will try again.
func (b *mailbox) keep(from string, to []string, body []byte) error {
	msg, err := mail.ReadMessage(bytes.NewReader(body))
	if err != nil {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "not a mail: " + err.Error()}
	}
	subject := msg.Header.Get("Subject")
	if s, err := new(mime.WordDecoder).DecodeHeader(subject); err == nil {
		subject = s
	}
	b.mu.Lock()
	b.n++
	file := filepath.Join(b.dir, fmt.Sprintf("%03d.eml", b.n))
	b.mu.Unlock()
	if err := os.WriteFile(file, body, 0o600); err != nil {
		return fmt.Errorf("write mail: %w", err)
	}
	b.onMail(mailFile{file: file, from: from, to: slices.Clone(to), subject: subject})
	return nil
}
