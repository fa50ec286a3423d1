package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Inventory says who holds an address: a file, and sources that are read again
// and again.
type Inventory struct {
	File    string            `yaml:"file"`
	Sources []InventorySource `yaml:"sources"`
}

// InventorySource is one list of holders. Its type says which further keys it
// has: Spec holds them.
type InventorySource struct {
	Name   string        `yaml:"name"`
	Type   string        `yaml:"type"`
	Every  time.Duration `yaml:"every"`   // between two readings
	MaxAge time.Duration `yaml:"max_age"` // of the last good one, for anything to be done by it

	Spec SourceSpec `yaml:"-"`
}

// SourceSpec is the part of an InventorySource that its type adds: a pointer to
// one of the structs below.
type SourceSpec interface {
	check(c *Config, d *decoder, at string)
}

const (
	defaultSourceEvery  = 5 * time.Minute
	defaultSourceMaxAge = time.Hour
	minSourceEvery      = 10 * time.Second
)

var sourceSpecs = map[string]func() SourceSpec{
	"file":    func() SourceSpec { return &FileSource{} },
	"http":    func() SourceSpec { return &HTTPSource{} },
	"netbox":  func() SourceSpec { return &NetBoxSource{} },
	"libvirt": func() SourceSpec { return &LibvirtSource{} },
	"proxmox": func() SourceSpec { return &ProxmoxSource{} },
	"vsphere": func() SourceSpec { return &VSphereSource{} },
}

func (s *InventorySource) variant(typ string) any {
	if mk := sourceSpecs[typ]; mk != nil {
		s.Spec = mk()
		return s.Spec
	}
	return nil
}

// FileSource is a YAML or CSV file that something else writes again and again.
type FileSource struct {
	Path string `yaml:"path"`
}

func (s *FileSource) check(_ *Config, d *decoder, at string) {
	if s.Path == "" {
		d.bad(at+".path", "is missing; write the path of a .yaml or .csv file")
	}
}

// HTTPSource is any list in JSON, and an expression that makes entries of it.
type HTTPSource struct {
	URL           string            `yaml:"url"`
	Headers       map[string]string `yaml:"headers"`
	SecretHeaders map[string]string `yaml:"secret_headers"` // header: file that holds its value
	Map           string            `yaml:"map"`            // jq
	Next          string            `yaml:"next"`           // jq: the next page's URL
	CAFile        string            `yaml:"ca_file"`

	Secrets map[string]string `yaml:"-"`
}

func (s *HTTPSource) check(_ *Config, d *decoder, at string) {
	s.Secrets = map[string]string{}
	for k, file := range s.SecretHeaders {
		s.Secrets[k] = d.secret(at+".secret_headers."+k, file)
	}
}

// NetBoxSource is a NetBox.
type NetBoxSource struct {
	URL           string            `yaml:"url"`
	TokenFile     string            `yaml:"token_file"`
	CAFile        string            `yaml:"ca_file"`
	VRFs          []string          `yaml:"vrfs"`
	Clusters      map[string]string `yaml:"clusters"` // NetBox cluster: suspender
	TenantID      string            `yaml:"tenant_id"`
	VDS           string            `yaml:"vds"`
	LanguageField string            `yaml:"language_field"`
	Contacts      bool              `yaml:"contacts"`
	Prefixes      bool              `yaml:"prefixes"`

	Token string `yaml:"-"`
}

func (s *NetBoxSource) check(c *Config, d *decoder, at string) {
	s.Token = d.secret(at+".token_file", s.TokenFile)
	for cluster, name := range s.Clusters {
		if c.suspenderOf(name) == nil {
			d.bad(at+".clusters."+cluster, "%q is not in respond.suspenders", name)
		}
	}
}

// LibvirtSource is a node: the connection is that of its suspender.
type LibvirtSource struct {
	Suspender string   `yaml:"suspender"`
	Ask       []string `yaml:"ask"` // definition, filter, lease, arp, agent
	// Trust are those of lease and arp that guests cannot forge here, because
	// filters bind each NIC to its MAC and addresses.
	Trust []string `yaml:"trust"`
}

func (s *LibvirtSource) check(c *Config, d *decoder, at string) {
	c.needSuspender(d, at, s.Suspender, "libvirt")
	for i, a := range s.Ask {
		d.oneOf(fmt.Sprintf("%s.ask[%d]", at, i), a, "definition", "filter", "lease", "arp", "agent")
	}
	for i, a := range s.Trust {
		d.oneOf(fmt.Sprintf("%s.trust[%d]", at, i), a, "lease", "arp")
	}
}

// ProxmoxSource is a cluster: the connection is that of its suspender.
type ProxmoxSource struct {
	Suspender  string `yaml:"suspender"`
	IPSets     bool   `yaml:"ipsets"`
	Agent      bool   `yaml:"agent"`
	V6Bits     int    `yaml:"v6_bits"`
	TenantTag  string `yaml:"tenant_tag"`
	TenantPool bool   `yaml:"tenant_pool"`
}

func (s *ProxmoxSource) check(c *Config, d *decoder, at string) {
	c.needSuspender(d, at, s.Suspender, "proxmox")
}

// VSphereSource is a vCenter: the connection is that of its suspender.
type VSphereSource struct {
	Suspender        string `yaml:"suspender"`
	AddressAttribute string `yaml:"address_attribute"`
	TenantAttribute  string `yaml:"tenant_attribute"`
	Tools            bool   `yaml:"tools"`
	V6Bits           int    `yaml:"v6_bits"`
}

func (s *VSphereSource) check(c *Config, d *decoder, at string) {
	c.needSuspender(d, at, s.Suspender, "vsphere")
}

func (c *Config) suspenderOf(name string) *Suspender {
	if i := slices.IndexFunc(c.Respond.Suspenders, func(s Suspender) bool { return s.Name == name }); i >= 0 {
		return &c.Respond.Suspenders[i]
	}
	return nil
}

func (c *Config) needSuspender(d *decoder, at, name, typ string) {
	switch s := c.suspenderOf(name); {
	case name == "":
		d.bad(at+".suspender", "is missing; write the name of the %s suspender whose connection is used", typ)
	case s == nil:
		d.bad(at+".suspender", "%q is not in respond.suspenders", name)
	case s.Type != typ:
		d.bad(at+".suspender", "%q is of type %s, not %s", name, s.Type, typ)
	}
}

var sourceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`) // it becomes part of a file's name

func (c *Config) checkInventory(d *decoder) {
	names := map[string]bool{}
	for i := range c.Inventory.Sources {
		s := &c.Inventory.Sources[i]
		at := fmt.Sprintf("inventory.sources[%d]", i)
		if !sourceName.MatchString(s.Name) {
			d.bad(at+".name", "%q: write letters, digits, - and _", s.Name)
		}
		if names[s.Name] {
			d.bad(at+".name", "%q is used twice", s.Name)
		}
		names[s.Name] = true
		if s.Every == 0 {
			s.Every = defaultSourceEvery
		}
		if s.MaxAge == 0 {
			s.MaxAge = max(defaultSourceMaxAge, 3*s.Every)
		}
		if s.Every < minSourceEvery {
			d.bad(at+".every", "%v is too often; write %v or more", s.Every, minSourceEvery)
		}
		if s.MaxAge < s.Every {
			d.bad(at+".max_age", "%v is shorter than every (%v), so it would be too old most of the time", s.MaxAge, s.Every)
		}
		if s.Spec == nil {
			types := make([]string, 0, len(sourceSpecs))
			for t := range sourceSpecs {
				types = append(types, t)
			}
			slices.Sort(types)
			d.bad(at+".type", "%q is none of: %s", s.Type, strings.Join(types, ", "))
			continue
		}
		s.Spec.check(c, d, at)
	}
}
