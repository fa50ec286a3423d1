// Package trust says whose certificate a client of an API takes: one by the
// system's CAs, by those of a file, or exactly one of some pinned ones. It imports
// the standard library only.
package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
)

// Roots trusts the CAs of a PEM file; of the system where caFile is empty. Its
// errors are about the key ca_file.
func Roots(caFile string) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	t.RootCAs = x509.NewCertPool()
	if !t.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file: no certificate in %s", caFile)
	}
	return t, nil
}

// Fingerprint reads a SHA-256 fingerprint in hex, with or without colons.
func Fingerprint(s string) (pin []byte, ok bool) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	return b, err == nil && len(b) == sha256.Size
}

// Pinned trusts a peer whose certificate has one of the SHA-256 fingerprints,
// whoever signed it and whatever name is on it: an API of a cluster's own CA is
// known better by its pin. refuse makes the error for any other certificate from
// its fingerprint, nil where there is none. Resumed connections are checked too.
func Pinned(pins [][]byte, refuse func(got []byte) error) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // the pin is checked instead
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return refuse(nil)
			}
			got := sha256.Sum256(cs.PeerCertificates[0].Raw)
			for _, p := range pins {
				if bytes.Equal(got[:], p) {
					return nil
				}
			}
			return refuse(got[:])
		},
	}
}
