package email

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exim is a real SMTP server, Debian's exim4-daemon-light, on a loopback port
// with its own configuration, spool and mail directory.
type exim struct {
	addr string
	dir  string
	ca   []byte // PEM of its certificate; nil without TLS
}

const eximUser, eximPassword = "flowcordon", "s3cret pass"

func eximConfig(dir string, port int, withTLS bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, `primary_hostname = localhost
spool_directory = %[1]s/spool
log_file_path = %[1]s/log/%%slog
pid_file_path = %[1]s/exim.pid
exim_user = root
exim_group = root
never_users =
local_interfaces = 127.0.0.1
daemon_smtp_ports = %[2]d
host_lookup =
rfc1413_query_timeout = 0s
smtp_banner = ready
keep_environment =
disable_ipv6 = true
message_size_limit = 5M
acl_smtp_rcpt = rcpt
acl_smtp_data = data
`, dir, port)
	if withTLS {
		fmt.Fprintf(&b, "tls_advertise_hosts = *\ntls_certificate = %[1]s/cert.pem\ntls_privatekey = %[1]s/key.pem\n", dir)
	} else {
		b.WriteString("tls_advertise_hosts =\n")
	}
	fmt.Fprintf(&b, `
begin acl
rcpt:
  deny   local_parts = nobody
         message = 550 5.1.1 no such mailbox
  defer  local_parts = later
         message = 451 4.7.1 greylisted, come back later
%s  accept
data:
  accept

begin routers
all:
  driver = accept
  transport = box

begin transports
box:
  driver = appendfile
  directory = %[2]s/mail/${lookup{$local_part}lsearch{%[2]s/boxes}}
  maildir_format
  create_directory
  user = nobody
  group = nogroup
  envelope_to_add
  mode_fail_narrower = false

begin retry
*  *  F,1h,1m

begin rewrite

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{%[3]s}}{eq{$auth3}{%[4]s}}}}
  server_set_id = $auth2
  server_advertise_condition = ${if def:tls_in_cipher}
`, map[bool]string{true: "  deny   !authenticated = *\n         message = 530 5.7.0 log in first\n", false: ""}[withTLS], dir, eximUser, eximPassword)
	return b.String()
}

// startExim starts a server that ends with the test.
func startExim(t *testing.T, withTLS bool) *exim {
	t.Helper()
	bin := ""
	for _, b := range []string{"exim4", "/usr/sbin/exim4"} {
		if p, err := exec.LookPath(b); err == nil {
			bin = p
			break
		}
	}
	missing := func(why string) {
		t.Helper()
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	if bin == "" {
		missing("exim4 is not installed: apt-get install --no-install-recommends exim4-daemon-light")
	}
	if os.Geteuid() != 0 {
		missing("exim4 takes a configuration of one's own from root only")
	}
	dir, err := os.MkdirTemp("", "fc-exim") // exim wants short paths that it may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for _, d := range []string{"spool", "log", "mail"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// Mail is written as nobody: exim never delivers as root.
	for d, mode := range map[string]os.FileMode{dir: 0o711, filepath.Join(dir, "mail"): 0o777} {
		if err := os.Chmod(d, mode); err != nil {
			t.Fatal(err)
		}
	}
	// Only a name that a file vouches for may become part of a path.
	if err := os.WriteFile(filepath.Join(dir, "boxes"), []byte("owner: owner\ndesk: desk\nsecond: second\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	e := &exim{dir: dir}
	if withTLS {
		e.ca = certificate(t, dir)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	e.addr = fmt.Sprintf("127.0.0.1:%d", port)
	conf := filepath.Join(dir, "exim.conf")
	if err := os.WriteFile(conf, []byte(eximConfig(dir, port, withTLS)), 0o600); err != nil {
		t.Fatal(err)
	}
	out := &strings.Builder{}
	cmd := exec.Command(bin, "-C", conf, "-bdf", "-q1m")
	cmd.Stdout, cmd.Stderr = out, out
	// A group of its own: deliveries are children of the daemon.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			logs, _ := os.ReadFile(filepath.Join(dir, "log", "mainlog"))
			t.Logf("exim: %s\n%s", out, logs)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		if c, err := net.Dial("tcp", e.addr); err == nil {
			_ = c.Close()
			return e
		}
		select {
		case <-ctx.Done():
			t.Fatalf("exim does not listen on %s: %s", e.addr, out)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// delivered waits until n mails are in a mailbox and returns them.
func (e *exim) delivered(t *testing.T, local string, n int) []string {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for {
		files, err := filepath.Glob(filepath.Join(e.dir, "mail", local, "new", "*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) >= n {
			var out []string
			for _, f := range files {
				b, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, string(b))
			}
			return out
		}
		if time.Now().After(end) {
			t.Fatalf("%d mails for %s, want %d", len(files), local, n)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func certificate(t *testing.T, dir string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, b := range map[string][]byte{"cert.pem": cert, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert
}

// log is the server's main log.
func (e *exim) log(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(e.dir, "log", "mainlog"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(b), "\n")
}
