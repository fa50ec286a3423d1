// Package eximtest prepares a real SMTP server for tests: Debian's
// exim4-daemon-light with a configuration, a spool and mailboxes of its own. Who
// uses it starts the command and ends it. It imports the standard library only.
package eximtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Who may send through a server with a certificate.
const (
	User     = "flowcordon"
	Password = "s3cret pass"
)

// Config says where a server listens. With a certificate it offers STARTTLS, and
// asks for a login, over TLS only, before it takes a recipient.
type Config struct {
	Address   string // IPv4, of the caller's own, so that nobody takes the port
	Port      int
	Cert, Key string // PEM files; empty: no TLS and no login
}

// Server is one that is prepared. It keeps mail for owner@, desk@ and second@ any
// domain, refuses nobody@ for good and later@ for now, and takes 5 MB.
type Server struct {
	Addr string   // host:port
	Args []string // the command that serves
	dir  string
}

const conf = `primary_hostname = localhost
spool_directory = DIR/spool
log_file_path = DIR/log/%slog
pid_file_path = DIR/exim.pid
exim_user = root
exim_group = root
never_users =
local_interfaces = ADDRESS
daemon_smtp_ports = PORT
host_lookup =
rfc1413_query_timeout = 0s
smtp_banner = ready
keep_environment =
disable_ipv6 = true
message_size_limit = 5M
acl_smtp_rcpt = rcpt
acl_smtp_data = data
TLS
begin acl
rcpt:
  deny   local_parts = nobody
         message = 550 5.1.1 no such mailbox
  defer  local_parts = later
         message = 451 4.7.1 greylisted, come back later
LOGIN
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
  envelope_to_add
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

// Missing says what the server needs and the machine does not have; nil: nothing.
func Missing() error {
	if _, err := binary(); err != nil {
		return errors.New("exim4 is not installed: apt-get install --no-install-recommends exim4-daemon-light")
	}
	if os.Geteuid() != 0 {
		return errors.New("exim4 takes a configuration of one's own from root only")
	}
	return nil
}

func binary() (string, error) {
	if p, err := exec.LookPath("exim4"); err == nil {
		return p, nil
	}
	return exec.LookPath("/usr/sbin/exim4")
}

// New writes the configuration. Args then is the command that serves, in the
// foreground and with the deliveries as its children; Remove what is left of it.
func New(cfg Config) (_ *Server, err error) {
	bin, err := binary()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "fc-exim") // exim wants short paths, which nobody, who delivers, may enter
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: net.JoinHostPort(cfg.Address, strconv.Itoa(cfg.Port)), Args: []string{bin, "-C", filepath.Join(dir, "exim.conf"), "-bdf", "-q1m"}, dir: dir}
	defer func() {
		if err != nil {
			s.Remove()
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
	tls, login := "tls_advertise_hosts =\n", ""
	if cfg.Cert != "" {
		tls = fmt.Sprintf("tls_advertise_hosts = *\ntls_certificate = %s\ntls_privatekey = %s\n", cfg.Cert, cfg.Key)
		login = "  deny   !authenticated = *\n         message = 530 5.7.0 log in first"
	}
	text := strings.NewReplacer("DIR", dir, "ADDRESS", cfg.Address, "PORT", strconv.Itoa(cfg.Port), "TLS", tls, "LOGIN", login, "USER", User, "PASSWORD", Password).Replace(conf)
	// Only a name that a file vouches for may become part of a path.
	for name, text := range map[string]string{"exim.conf": text, "boxes": "owner: owner\ndesk: desk\nsecond: second\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Remove forgets the mail.
func (s *Server) Remove() { _ = os.RemoveAll(s.dir) }

// Log is what the server wrote of its deliveries and troubles.
func (s *Server) Log() string {
	var b strings.Builder
	for _, name := range []string{"mainlog", "paniclog"} {
		text, _ := os.ReadFile(filepath.Join(s.dir, "log", name)) // not there before the first line
		b.Write(text)
	}
	return b.String()
}

// Box is what was delivered to a mailbox, as it stands in its files.
func (s *Server) Box(name string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(s.dir, "mail", name, "new", "*")) // a mail comes there whole
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		out = append(out, string(b))
	}
	return out, nil
}
