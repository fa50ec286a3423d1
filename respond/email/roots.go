package email

import (
	"crypto/x509"
	"errors"
)

func pool(pem []byte) (*x509.CertPool, error) {
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in PEM form")
	}
	return p, nil
}
