package openstack

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/internal/trust"
)

// defaultTimeout bounds one operation. A cut is some seven calls of 0.05 to
// 0.3 s, a port block some twelve.
const defaultTimeout = 20 * time.Second

// Config says which OpenStack region to talk to and as whom: Username with
// Password, or AppCredential with AppSecret.
type Config struct {
	Name    string // of the adapter; the inventory's hypervisor field refers to it
	AuthURL string // Keystone, e.g. https://keystone.example:5000/v3; /v3 may be left out
	Region  string // empty: the catalogue's only one

	Username      string
	Password      string
	UserDomain    string // name; empty: Default
	Project       string // name
	ProjectDomain string // name; empty: as UserDomain

	AppCredential string // id of an application credential
	AppSecret     string

	// Interface is which of the catalogue's addresses is used: public, internal
	// or admin; empty: public.
	Interface string
	CAFile    string        // PEM file of the CAs that the servers are trusted by; empty: the system's
	Timeout   time.Duration // of one operation, login included; 0: 20 s
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
	errs = append(errs, c.credentials()...)
	switch c.Interface {
	case "", "public", "internal", "admin":
	default:
		errs = append(errs, fmt.Errorf("interface: %q; write public, internal or admin", c.Interface))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout: %v is negative; write a duration such as 20s", c.Timeout))
	}
	if _, err := c.tls(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c Config) credentials() []error {
	var errs []error
	if c.AppCredential != "" {
		if c.AppSecret == "" {
			errs = append(errs, errors.New("app_secret_file: missing or empty"))
		}
		if c.Username != "" || c.Password != "" || c.Project != "" {
			errs = append(errs, errors.New("app_credential: an application credential has its own user and project; leave username, password_file and project out"))
		}
		return errs
	}
	if c.Username == "" {
		errs = append(errs, errors.New("username: missing; write it or app_credential"))
	}
	if c.Password == "" {
		errs = append(errs, errors.New("password_file: missing or empty"))
	}
	if c.Project == "" {
		errs = append(errs, errors.New("project: missing; write the project that the user acts in"))
	}
	return errs
}

func (c Config) timeout() time.Duration {
	if c.Timeout <= 0 {
		return defaultTimeout
	}
	return c.Timeout
}

// endpoint is the address of Keystone's v3 API with a slash at its end.
func (c Config) endpoint() (string, error) {
	u, err := url.Parse(c.AuthURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("auth_url: write https://keystone[:port]/v3")
	}
	if u.User != nil || u.RawQuery != "" {
		return "", errors.New("auth_url: write nothing but scheme, host, port and path")
	}
	s := strings.TrimRight(u.String(), "/")
	if strings.HasSuffix(s, "/v2.0") {
		return "", errors.New("auth_url: Keystone v2.0 is long gone; write …/v3")
	}
	if !strings.HasSuffix(s, "/v3") {
		s += "/v3"
	}
	return s + "/", nil
}

func (c Config) tls() (*tls.Config, error) { return trust.Roots(c.CAFile) }
