package webhook

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/internal/trust"
)

const (
	// defaultTimeout bounds one operation, which is at most two calls. Panels
	// that queue a job still answer within it; one that does not is retried.
	defaultTimeout = 10 * time.Second

	// maxBody bounds an answer: the state is some 300 bytes.
	maxBody = 64 << 10
)

// Config says which receiver to call.
type Config struct {
	Name   string // of the adapter; the inventory's hypervisor field refers to it
	URL    string // of the receiver, http or https; every action is POSTed to it
	Secret []byte // shared with the receiver, signs every call; 32 random bytes are right
	// Measures are the milder ones that the receiver takes; none: it is asked
	// for cuts only, in the form that every receiver knows.
	Measures []flow.MeasureKind
	List     bool   // the receiver answers list
	CAFile   string // PEM file of the CAs that an https receiver is trusted by; empty: the system's
	Timeout  time.Duration
}

// Validate reports every mistake in the configuration at once. It reads CAFile.
func (c Config) Validate() error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("name: missing; the inventory's hypervisor field refers to it"))
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, errors.New("url: write http://host[:port]/path or https://…"))
	}
	if len(c.Secret) == 0 {
		errs = append(errs, errors.New("secret_file: missing; the receiver could not tell our calls from anybody's"))
	}
	for i, m := range c.Measures {
		if m != flow.MeasureBlockPort && m != flow.MeasureLimit || slices.Contains(c.Measures[:i], m) {
			errs = append(errs, fmt.Errorf("measures[%d]: %q; write block_port or rate_limit, each once", i, m))
		}
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout: %v is negative; write a duration such as 10s", c.Timeout))
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
