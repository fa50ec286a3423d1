package proxmox

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/internal/trust"
)

// defaultTimeout bounds one operation, which is up to some ten calls of 10 to
// 50 ms. A refused token alone takes 3 s: the server delays that answer
// (pve-http-server, AnyEvent.pm).
const defaultTimeout = 10 * time.Second

// defaultWatch: the list is made from memory (pmxcfs), some 25 tasks a node.
const defaultWatch = 5 * time.Second

// Config says which cluster to talk to.
type Config struct {
	Name string // of the adapter; the inventory's hypervisor field refers to it
	// URLs are API endpoints of nodes of one cluster, https://node:8006. Any of
	// them serves all guests; a node that cannot be reached is passed over.
	URLs []string
	// Token is an API token as Authorization wants it: user@realm!name=secret.
	// It needs VM.Audit, VM.Config.Network and VM.Config.Options on /vms,
	// SDN.Use on the bridges' zone (/sdn/zones/localnetwork), and Sys.Audit on /
	// for port blocks (to read whether the cluster's firewall is on) and to see
	// others' tasks.
	Token string
	// Fingerprints are SHA-256 fingerprints of the nodes' certificates, as
	// "pvenode cert info" prints them. One of them must be the peer's.
	Fingerprints []string
	CAFile       string        // PEM, such as /etc/pve/pve-root-ca.pem; empty: the system's
	Timeout      time.Duration // of one operation; 0: 10 s
	WatchEvery   time.Duration // between two looks at the cluster's tasks; 0: 5 s
	// EnableFirewall lets a port block switch on the firewall of a guest that
	// has it off. Policies are ACCEPT and filters off for as long, and what was
	// there is put back. Without it such a guest is refused.
	EnableFirewall bool
}

func (c Config) watchEvery() time.Duration {
	if c.WatchEvery <= 0 {
		return defaultWatch
	}
	return c.WatchEvery
}

// tokenForm is what PVE takes (pve-access-control, user@realm!tokenid=UUID).
var tokenForm = regexp.MustCompile(`^[^\s:/!=@]+@[A-Za-z][A-Za-z0-9.\-_]+![A-Za-z][A-Za-z0-9.\-_]+=\S+$`)

// Validate reports every mistake in the configuration at once. It reads CAFile.
func (c Config) Validate() error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("name: missing; the inventory's hypervisor field refers to it"))
	}
	if len(c.URLs) == 0 {
		errs = append(errs, errors.New("urls: missing; write [https://node1:8006], better with a second node"))
	}
	for i, s := range c.URLs {
		u, err := url.Parse(s)
		switch {
		case err != nil || u.Host == "" || u.Scheme != "https":
			errs = append(errs, fmt.Errorf("urls[%d]: %.100q is no https URL; write https://node1:8006", i, s))
		case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil:
			errs = append(errs, fmt.Errorf("urls[%d]: write only https://host:8006, without path, query or user", i))
		}
	}
	if !tokenForm.MatchString(c.Token) {
		errs = append(errs, errors.New("token: missing or not of the form user@realm!name=secret"))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout: %v is negative; write a duration such as 10s", c.Timeout))
	}
	if c.WatchEvery < 0 {
		errs = append(errs, fmt.Errorf("watch_every: %v is negative; write a duration such as 5s", c.WatchEvery))
	}
	if len(c.Fingerprints) > 0 && c.CAFile != "" {
		errs = append(errs, errors.New("fingerprints, ca_file: write only one of them"))
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

// errPin is a peer whose certificate is none of the configured ones.
var errPin = errors.New("the certificate's SHA-256 fingerprint is none of fingerprints")

func (c Config) tls() (*tls.Config, error) {
	if len(c.Fingerprints) == 0 {
		return trust.Roots(c.CAFile)
	}
	var pins [][]byte
	for i, f := range c.Fingerprints {
		pin, ok := trust.Fingerprint(f)
		if !ok {
			return nil, fmt.Errorf("fingerprints[%d]: %.100q is no SHA-256 fingerprint; write what pvenode cert info prints", i, f)
		}
		pins = append(pins, pin)
	}
	// The nodes' certificates are by the cluster's own CA, or self-made: the pin
	// says more than a name would.
	return trust.Pinned(pins, func(got []byte) error { return fmt.Errorf("%w; it is %s", errPin, hexColons(got)) }), nil
}

func hexColons(b []byte) string {
	var s strings.Builder
	for i, v := range b {
		if i > 0 {
			s.WriteByte(':')
		}
		fmt.Fprintf(&s, "%02X", v)
	}
	return s.String()
}
