package vsphere

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/flowcordon/flowcordon/internal/trust"
)

const (
	// defaultTimeout bounds one operation. A reconfiguration takes 1 to 3 s on a
	// healthy vCenter; a task that waits behind another one is retried.
	defaultTimeout = 15 * time.Second

	defaultPath = "/sdk"
)

// Config says which vCenter (or lone ESXi host) to talk to.
type Config struct {
	Name     string // of the adapter; the inventory's hypervisor field refers to it
	URL      string // https://vcenter.example/sdk; the path may be left out
	Username string // e.g. flowcordon@vsphere.local
	Password string
	CAFile   string // PEM file of the CAs that the server is trusted by; empty: the system's
	// Thumbprint is the SHA-256 of the server's certificate in hex, with or
	// without colons. It trusts that certificate alone, whoever signed it.
	Thumbprint string
	Timeout    time.Duration // of one operation, login included; 0: 15 s
}

// Validate reports every mistake in the configuration at once. It reads CAFile.
func (c Config) Validate() error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("name: missing; the inventory's hypervisor field refers to it"))
	}
	if _, err := c.endpoint(); err != nil {
		errs = append(errs, err)
	}
	if c.Username == "" {
		errs = append(errs, errors.New("username: missing; write an account such as flowcordon@vsphere.local"))
	}
	if c.Password == "" {
		errs = append(errs, errors.New("password_file: missing or empty"))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout: %v is negative; write a duration such as 15s", c.Timeout))
	}
	if c.CAFile != "" && c.Thumbprint != "" {
		errs = append(errs, errors.New("ca_file, thumbprint: write only one of them"))
	}
	if _, err := c.tls(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c Config) timeout() time.Duration {
	if c.Timeout <= 0 {
		return defaultTimeout
	}
	return c.Timeout
}

func (c Config) endpoint() (*url.URL, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" {
		return nil, errors.New("url: write https://host[:port][/sdk]; clear HTTP would show the password")
	}
	if u.User != nil {
		return nil, errors.New("url: holds a user name; write username and password_file instead")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = defaultPath
	}
	return u, nil
}

func (c Config) tls() (*tls.Config, error) {
	if c.Thumbprint == "" {
		return trust.Roots(c.CAFile)
	}
	pin, ok := trust.Fingerprint(c.Thumbprint)
	if !ok {
		return nil, errors.New("thumbprint: write the SHA-256 of the certificate, 64 hex digits: " +
			"openssl s_client -connect host:443 </dev/null | openssl x509 -noout -fingerprint -sha256")
	}
	return trust.Pinned([][]byte{pin}, func(got []byte) error { return fmt.Errorf("%w: it has %x", errPin, got) }), nil
}
