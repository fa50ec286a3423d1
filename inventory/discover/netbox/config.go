package netbox

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
	defaultTimeout = 2 * time.Minute // of one discovery
	// pageSize is what is asked for; NetBox gives at most its MAX_PAGE_SIZE,
	// 1000 where it is not set.
	pageSize = 1000
	// maxObjects bounds one list: a server that never says "next: null".
	maxObjects = 5_000_000
	maxAnswer  = 64 << 20 // one page of 1000 objects takes some 2 MB
)

// Config says which NetBox to read and how its fields become an entry's.
type Config struct {
	Name string // of the source; it stands in Entry.Source
	URL  string // https://netbox.example.net, without /api
	// Token may only read. It needs "view" of IP addresses, VM interfaces,
	// virtual machines and tenants; of prefixes for Prefixes, and of contacts
	// and their assignments for Contacts.
	Token   string
	CAFile  string // PEM; empty: the system's
	Timeout time.Duration
	// VRFs are the names of the VRFs that are read; "" in it is the global
	// table, and the default. An address of two VRFs would be two customers'.
	VRFs []string
	// Clusters maps a cluster's name to the adapter that cuts its VMs' network;
	// a cluster that is not in it has none.
	Clusters map[string]string
	// TenantID and VDS say what identifies the tenant (slug, name, id or
	// cf:FIELD; default slug) and the VM (name, id or cf:FIELD; default name).
	TenantID, VDS string
	// LanguageField is a custom field of the tenant: en or ru.
	LanguageField string
	Contacts      bool // the mail address of the tenant's contact, primary first
	Prefixes      bool // prefixes with a tenant too, such as a routed /64
}

// Validate reports every mistake in the configuration at once. It reads CAFile.
func (c Config) Validate() error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("name: missing"))
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "":
		errs = append(errs, errors.New("url: write https://netbox.example.net"))
	case strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), "/api"):
		errs = append(errs, errors.New("url: without /api"))
	}
	if c.Token == "" || strings.ContainsAny(c.Token, " \r\n") {
		errs = append(errs, errors.New("token: missing, or not one word"))
	}
	for what, v := range map[string]string{"tenant_id": c.TenantID, "vds": c.VDS} {
		f, custom := strings.CutPrefix(v, "cf:")
		slug := v == "slug" && what == "tenant_id"
		if v != "" && v != "name" && v != "id" && !slug && (!custom || f == "") {
			errs = append(errs, fmt.Errorf("%s: %.50q; write name, id or cf:FIELD, for a tenant also slug", what, v))
		}
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

func (c Config) tls() (*tls.Config, error) { return trust.Roots(c.CAFile) }
