package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// makePKI writes a CA and certificates for daemons and client under dir, and
// in dir/stranger a client certificate and CA that nobody trusts.
func makePKI(dir string) error {
	for _, who := range []struct{ ca, client, server string }{
		{"client/cacert.pem", "client/client", "server/"},
		{"stranger/cacert.pem", "stranger/client", ""},
	} {
		key, ca, err := issue(nil, nil, "lab CA")
		if err != nil {
			return err
		}
		if err := writePEM(filepath.Join(dir, who.ca), "CERTIFICATE", ca.Raw); err != nil {
			return err
		}
		for _, prefix := range []string{who.client, who.server} {
			if prefix == "" {
				continue
			}
			k, c, err := issue(ca, key, "lab")
			if err != nil {
				return err
			}
			der, err := x509.MarshalPKCS8PrivateKey(k)
			if err != nil {
				return err
			}
			if err := writePEM(filepath.Join(dir, prefix+"key.pem"), "PRIVATE KEY", der); err != nil {
				return err
			}
			if err := writePEM(filepath.Join(dir, prefix+"cert.pem"), "CERTIFICATE", c.Raw); err != nil {
				return err
			}
		}
	}
	return nil
}

// issue makes a certificate by ca, or a CA if ca is nil.
func issue(ca *x509.Certificate, caKey *ecdsa.PrivateKey, name string) (*ecdsa.PrivateKey, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, // libvirtd insists on both
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(MgmtIP)}, DNSNames: []string{"localhost"},
	}
	if ca == nil {
		tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
		tmpl.KeyUsage, tmpl.ExtKeyUsage = x509.KeyUsageCertSign, nil
		ca, caKey = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, nil, err
	}
	c, err := x509.ParseCertificate(der)
	return key, c, err
}

func writePEM(path, kind string, der []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
