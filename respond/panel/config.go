package panel

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/internal/trust"
)

// The products.
const (
	Virtualizor = "virtualizor"
	VMmanager6  = "vmmanager6"
)

// defaultTimeout bounds one operation. A change of VMmanager is a task of some
// seconds.
const defaultTimeout = 10 * time.Second

// Config says which panel to talk to.
type Config struct {
	Name    string // of the adapter; the inventory's hypervisor field refers to it
	Product string // virtualizor or vmmanager6
	URL     string // https://panel:4085 (Virtualizor), https://panel (VMmanager 6)
	// User and Secret are Virtualizor's admin API key and API password, or the
	// mail address and password of a VMmanager administrator.
	User, Secret string
	State        string // directory for our marks; it must not be lost
	CAFile       string // PEM; empty: the system's
	Timeout      time.Duration
}

// Validate reports every mistake in the configuration at once. It reads CAFile
// and State.
func (c Config) Validate() error {
	var errs []error
	if c.Name == "" || strings.ContainsAny(c.Name, "/\\") || c.Name == "." || c.Name == ".." {
		errs = append(errs, errors.New("name: missing or not fit for a file's name; the inventory's hypervisor field refers to it"))
	}
	switch c.Product {
	case Virtualizor, VMmanager6:
	case "solusvm":
		errs = append(errs, errors.New("product: SolusVM 1 has no call that takes the network off and leaves the server running "+
			"(vserver-network-disable is about PXE); use libvirt on its nodes, or a webhook"))
	default:
		errs = append(errs, fmt.Errorf("product: %.30q; write %s or %s", c.Product, Virtualizor, VMmanager6))
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" {
		errs = append(errs, errors.New("url: write https://panel.example.net[:port]"))
	}
	if c.User == "" || c.Secret == "" {
		errs = append(errs, errors.New("user, secret_file: missing; Virtualizor's API key and password, or a VMmanager administrator's"))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout: %v is negative; write a duration such as 10s", c.Timeout))
	}
	if st, err := os.Stat(c.State); err != nil || !st.IsDir() {
		errs = append(errs, fmt.Errorf("state: %.100q is no directory; our marks are kept there", c.State))
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
