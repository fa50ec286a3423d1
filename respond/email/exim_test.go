package email

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/internal/loopback"
	"github.com/flowcordon/flowcordon/respond/email/eximtest"
)

// exim is a real SMTP server that ends with the test.
type exim struct {
	*eximtest.Server
	addr string
	ca   []byte // PEM of its certificate; nil without TLS
}

const eximUser, eximPassword = eximtest.User, eximtest.Password

func startExim(t *testing.T, withTLS bool) *exim {
	t.Helper()
	if err := eximtest.Missing(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	at, err := loopback.Free("tcp")
	if err != nil {
		t.Fatal(err)
	}
	host := at.Addr().String()
	cfg := eximtest.Config{Address: host, Port: int(at.Port())}
	e := &exim{}
	if withTLS {
		dir := t.TempDir()
		cfg.Cert, cfg.Key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		e.ca = certificate(t, host, cfg.Cert, cfg.Key)
	}
	if e.Server, err = eximtest.New(cfg); err != nil {
		t.Fatal(err)
	}
	e.addr = e.Addr
	t.Cleanup(e.Remove)
	out := &bytes.Buffer{} // to be read when the command has ended
	cmd := exec.Command(e.Args[0], e.Args[1:]...)
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
			t.Logf("exim: %s\n%s", out, e.Log())
		}
	})
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", e.addr)
		if err == nil {
			_ = c.Close()
			return e
		}
		if time.Now().After(end) {
			t.Fatalf("exim does not listen on %s: %v", e.addr, err)
		}
	}
}

// delivered waits until n mails are in a mailbox and returns them.
func (e *exim) delivered(t *testing.T, local string, n int) []string {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		mails, err := e.Box(local)
		if err != nil {
			t.Fatal(err)
		}
		if len(mails) >= n {
			return mails
		}
		if time.Now().After(end) {
			t.Fatalf("%d mails for %s, want %d", len(mails), local, n)
		}
	}
}

// certificate writes a certificate for an address and its key.
func certificate(t *testing.T, host, certFile, keyFile string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(host)}, DNSNames: []string{"localhost"},
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
	for name, b := range map[string][]byte{certFile: cert, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert
}
