package proxmox

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/internal/trust"
)

// defaultTimeout bounds one discovery: some 20 ms for each of 10,000 guests by
// eight at once, and twice that with the agents.
const defaultTimeout = 2 * time.Minute

// Config says which cluster to read and how.
type Config struct {
	Name string // of the source; it stands in Entry.Source
	// Hypervisor is the name of the adapter that cuts these guests' network.
	Hypervisor string
	URLs       []string // API endpoints of nodes of one cluster, https://node:8006
	// Token is an API token, user@realm!name=secret. It needs VM.Audit on /vms,
	// and VM.GuestAgent.Audit (before PVE 9: VM.Monitor) for Agent.
	Token        string
	Fingerprints []string // SHA-256 of the nodes' certificates; one must be the peer's
	CAFile       string   // PEM; empty: the system's
	Timeout      time.Duration
	// IPSets also reads the guests' IP sets ipfilter-netN: what a NIC may send
	// from. One call more for each guest.
	IPSets bool
	// Bare also gives an entry without prefixes for each NIC that has none.
	Bare bool
	// Agent also asks the guests themselves which addresses they have. A guest
	// may say anything: such an address counts only if it is in Networks, no
	// other guest has or claims it, and its MAC is that of a NIC of the guest.
	// It stands in an entry of its own, whose Source ends in "agent".
	Agent    bool
	Networks []netip.Prefix // of what guests may claim; needed for Agent
	// V6Bits makes the prefix of this length of each IPv6 address the guest's,
	// where each VDS is given one of its own: 64. 0: the address alone.
	V6Bits int
	// TenantTag is how the tag begins that names the tenant: "c-" for c-42.
	// TenantPool takes the guest's resource pool for the tenant.
	TenantTag  string
	TenantPool bool
}

var tokenForm = regexp.MustCompile(`^[^\s:/!=@]+@[A-Za-z][A-Za-z0-9.\-_]+![A-Za-z][A-Za-z0-9.\-_]+=\S+$`)

// Validate reports every mistake in the configuration at once. It reads CAFile.
func (c Config) Validate() error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("name: missing"))
	}
	if c.Hypervisor == "" {
		errs = append(errs, errors.New("hypervisor: missing; write the name of the suspender for this cluster"))
	}
	if len(c.URLs) == 0 {
		errs = append(errs, errors.New("urls: missing; write [https://node1:8006]"))
	}
	for i, s := range c.URLs {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" {
			errs = append(errs, fmt.Errorf("urls[%d]: write https://node1:8006", i))
		}
	}
	if !tokenForm.MatchString(c.Token) {
		errs = append(errs, errors.New("token: missing or not of the form user@realm!name=secret"))
	}
	if c.Agent && len(c.Networks) == 0 {
		errs = append(errs, errors.New("networks: missing; what guests say of themselves is only taken in your own networks"))
	}
	if c.V6Bits != 0 && (c.V6Bits < 32 || c.V6Bits > 128) {
		errs = append(errs, fmt.Errorf("v6_bits: %d is out of bounds; write 64, or leave it out for single addresses", c.V6Bits))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout: %v is negative; write a duration such as 2m", c.Timeout))
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

var errPin = errors.New("the certificate's SHA-256 fingerprint is none of fingerprints")

func (c Config) tls() (*tls.Config, error) {
	if len(c.Fingerprints) == 0 {
		return trust.Roots(c.CAFile)
	}
	var pins [][]byte
	for i, f := range c.Fingerprints {
		pin, ok := trust.Fingerprint(f)
		if !ok {
			return nil, fmt.Errorf("fingerprints[%d]: is no SHA-256 fingerprint; write what pvenode cert info prints", i)
		}
		pins = append(pins, pin)
	}
	// The nodes' certificates are by the cluster's own CA: the pin says more than
	// a name would.
	return trust.Pinned(pins, func(got []byte) error { return fmt.Errorf("%w; it is %X", errPin, got) }), nil
}
