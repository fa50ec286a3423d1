package vsphere

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/flowcordon/flowcordon/internal/trust"
)

// defaultTimeout bounds one discovery: a vCenter gives some 1,000 machines a
// second with their devices.
const defaultTimeout = 2 * time.Minute

// Config says which vCenter to read and how.
type Config struct {
	Name string // of the source; it stands in Entry.Source
	// Hypervisor is the name of the adapter that cuts these machines' network.
	Hypervisor string
	URL        string // https://vcenter.example/sdk; the path may be left out
	Username   string // System.Read on the machines is enough
	Password   string
	CAFile     string // PEM file of the CAs that the server is trusted by; empty: the system's
	Thumbprint string // or the SHA-256 of the server's certificate in hex, with or without colons
	Timeout    time.Duration
	// AddressAttribute is the custom attribute of a machine that lists its
	// addresses and prefixes, divided by commas or spaces. It counts for
	// machines with one NIC; MAC=address names the NIC of others.
	AddressAttribute string
	// Bare also gives an entry without prefixes for each NIC that has none.
	Bare bool
	// TenantAttribute is the custom attribute that names the tenant.
	TenantAttribute string
	// Tools also takes what VMware Tools tell from within the guest. A guest
	// may say anything: such an address counts only if it is in Networks, no
	// other machine has or claims it, and it is said of the machine's own NIC.
	Tools    bool
	Networks []netip.Prefix // of what guests may claim; needed for Tools
	// V6Bits makes the prefix of this length of each IPv6 address a guest says
	// the guest's, where each VDS is given one of its own: 64. 0: the address alone.
	V6Bits int
}

// Validate reports every mistake in the configuration at once. It reads CAFile.
func (c Config) Validate() error {
	var errs []error
	need := func(bad bool, text string) {
		if bad {
			errs = append(errs, errors.New(text))
		}
	}
	need(c.Name == "", "name: missing")
	need(c.Hypervisor == "", "hypervisor: missing; write the name of the suspender for this vCenter")
	if _, err := c.endpoint(); err != nil {
		errs = append(errs, err)
	}
	need(c.Username == "", "username: missing; write an account such as flowcordon@vsphere.local")
	need(c.Password == "", "password_file: missing or empty")
	need(!c.Tools && c.AddressAttribute == "", "tools, address_attribute: set at least one; vCenter itself knows no addresses")
	need(c.Tools && len(c.Networks) == 0, "networks: missing; what guests say of themselves is only taken in your own networks")
	need(c.CAFile != "" && c.Thumbprint != "", "ca_file, thumbprint: write only one of them")
	if c.V6Bits != 0 && (c.V6Bits < 32 || c.V6Bits > 128) {
		errs = append(errs, fmt.Errorf("v6_bits: %d is out of bounds; write 64, or leave it out for single addresses", c.V6Bits))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout: %v is negative; write a duration such as 2m", c.Timeout))
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
	if err != nil || u.Host == "" || u.Scheme != "https" || u.User != nil {
		return nil, errors.New("url: write https://host[:port][/sdk], without a user; clear HTTP would show the password")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/sdk"
	}
	return u, nil
}

func (c Config) tls() (*tls.Config, error) {
	if c.Thumbprint == "" {
		return trust.Roots(c.CAFile)
	}
	pin, ok := trust.Fingerprint(c.Thumbprint)
	if !ok {
		return nil, errors.New("thumbprint: write the SHA-256 of the certificate, 64 hex digits")
	}
	return trust.Pinned([][]byte{pin}, func(got []byte) error {
		return fmt.Errorf("the server's certificate does not have the configured thumbprint: it has %x", got)
	}), nil
}
