package httpjson

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/internal/trust"
)

const (
	// defaultTimeout bounds one discovery, the mapping included.
	defaultTimeout = 60 * time.Second
	// maxBody bounds one answer: a million entries of 250 bytes is four of them.
	maxBody = 64 << 20
	// maxPages bounds an endless "next".
	maxPages = 10_000
	// maxEntries bounds what an expression may yield.
	maxEntries = 2_000_000
)

// Config says where the JSON is and how it becomes entries.
type Config struct {
	Name string // of the source; it stands in Entry.Source
	URL  string
	// Headers are sent with each call; their values are secrets.
	Headers map[string]string
	// Map is a jq expression that yields the entries, as objects or arrays of
	// objects with the keys prefix or prefixes, ip or ips, tenant, vds,
	// hypervisor, mac, contact, language, tags, valid_from and valid_to.
	Map string
	// Next is a jq expression that yields the next page's URL, or null; empty:
	// there is one page.
	Next    string
	CAFile  string // PEM; empty: the system's
	Timeout time.Duration
}

// Validate reports every mistake in the configuration at once. It reads CAFile.
func (c Config) Validate() error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("name: missing"))
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, errors.New("url: write http://host/path or https://…"))
	} else if u.User != nil {
		errs = append(errs, errors.New("url: has a password; write headers: {Authorization: …}"))
	}
	for k, v := range c.Headers {
		if k == "" || strings.ContainsAny(k+v, "\r\n") {
			errs = append(errs, fmt.Errorf("headers: %.50q is not one line", k))
		}
	}
	if c.Map == "" {
		errs = append(errs, errors.New(`map: missing; write a jq expression such as .servers[] | {ip: .main_ip, tenant: .client, vds: .name}`))
	} else if _, err := compile("map", c.Map); err != nil {
		errs = append(errs, err)
	}
	if c.Next != "" {
		if _, err := compile("next", c.Next); err != nil {
			errs = append(errs, err)
		}
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout: %v is negative; write a duration such as 60s", c.Timeout))
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

func (c Config) tls() (*tls.Config, error) { return trust.Roots(c.CAFile) }
