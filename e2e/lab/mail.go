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
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Who may send through a MailServer.
const (
	MailUser     = "flowcordon"
	MailPassword = "s3cret pass"
)

const mailPort = "2525" // in the management namespace, which is ours alone

// MailServer is Debian's exim in the management namespace: it asks for STARTTLS
// and a login before it takes a recipient, and keeps mail for owner@ and desk@
// any domain.
type MailServer struct {
	Addr string // host:port
	CA   string // file with the certificate to trust
	dir  string
	stop func()
}

const eximConf = `primary_hostname = localhost
spool_directory = DIR/spool
log_file_path = DIR/log/%slog
pid_file_path = DIR/exim.pid
exim_user = root
exim_group = root
never_users =
local_interfaces = ADDR
daemon_smtp_ports = PORT
host_lookup =
rfc1413_query_timeout = 0s
keep_environment =
disable_ipv6 = true
tls_advertise_hosts = *
tls_certificate = CERT/cert.pem
tls_privatekey = CERT/key.pem
acl_smtp_rcpt = rcpt
acl_smtp_data = data
begin acl
rcpt:
  deny !encrypted = *
  deny !authenticated = *
       message = 530 5.7.0 log in first
  accept
data:
  accept
begin routers
all:
  driver = accept
  transport = box
begin transports
box:
  driver = appendfile
  directory = DIR/mail/${lookup{$local_part}lsearch{DIR/boxes}}
  maildir_format
  create_directory
  user = nobody
  group = nogroup
  mode_fail_narrower = false
begin retry
*  *  F,1h,1m
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{USER}}{eq{$auth3}{PASSWORD}}}}
  server_set_id = $auth2
  server_advertise_condition = ${if def:tls_in_cipher}
`

// Mail starts the server. Close it.
func (l *Lab) Mail() (_ *MailServer, err error) {
	bin, err := exec.LookPath("exim4")
	if err != nil {
		if bin, err = exec.LookPath("/usr/sbin/exim4"); err != nil {
			return nil, &MissingError{[]string{"exim4 is not installed (apt-get install --no-install-recommends exim4-daemon-light)"}}
		}
	}
	dir, err := os.MkdirTemp("", "fcmail") // exim delivers as nobody, who may not enter the lab's
	if err != nil {
		return nil, err
	}
	srv := &MailServer{Addr: net.JoinHostPort(MgmtIP, mailPort), CA: filepath.Join(l.PKI, "cacert.pem"), dir: dir, stop: func() {}}
	defer func() {
		if err != nil {
			srv.Close()
		}
	}()
	for d, mode := range map[string]os.FileMode{"spool": 0o700, "log": 0o700, "mail": 0o777} {
		if err := os.Mkdir(filepath.Join(dir, d), mode); err != nil {
			return nil, err
		}
		if err := os.Chmod(filepath.Join(dir, d), mode); err != nil { // whatever the umask
			return nil, err
		}
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	conf := strings.NewReplacer("DIR", dir, "ADDR", MgmtIP, "PORT", mailPort, "CERT", filepath.Join(l.Dir, "pki", "server"), "USER", MailUser, "PASSWORD", MailPassword).Replace(eximConf)
	for name, text := range map[string]string{"exim.conf": conf, "boxes": "owner: owner\ndesk: desk\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	out, err := os.Create(filepath.Join(dir, "log", "stdout"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	srv.stop, err = l.Spawn(Command(l.Mgmt, bin, "-C", filepath.Join(dir, "exim.conf"), "-bdf", "-q1m"), out)
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
	_ = os.RemoveAll(m.dir)
}

// Log is what the server wrote.
func (m *MailServer) Log() string {
	var b strings.Builder
	for _, name := range []string{"stdout", "mainlog", "paniclog"} {
		text, _ := os.ReadFile(filepath.Join(m.dir, "log", name))
		b.Write(text)
	}
	return b.String()
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
	files, err := filepath.Glob(filepath.Join(m.dir, "mail", name, "new", "*"))
	if err != nil {
		return nil, err
	}
	var out []Mail
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		one, err := readMail(string(b))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
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
