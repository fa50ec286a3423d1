package config

import (
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// OIDC is the sign-in of people at an OpenID Connect provider.
type OIDC struct {
	Issuer           string            `yaml:"issuer"`
	ClientID         string            `yaml:"client_id"`
	ClientSecretFile string            `yaml:"client_secret_file"` // none: a public client, which PKCE alone protects
	PublicURL        string            `yaml:"public_url"`         // how people reach the dashboard: scheme://host[:port]
	Label            string            `yaml:"label"`              // on the button; default: the issuer's host
	Scopes           []string          `yaml:"scopes"`             // beside openid; default: profile
	RoleClaim        string            `yaml:"role_claim"`         // default: groups
	NameClaim        string            `yaml:"name_claim"`         // default: preferred_username
	Roles            map[string]string `yaml:"roles"`              // group: role
	Session          time.Duration     `yaml:"session"`            // default: 12h
	Idle             time.Duration     `yaml:"idle"`               // default: 1h
	ProviderLogout   bool              `yaml:"provider_logout"`
	CAFile           string            `yaml:"ca_file"`

	ClientSecret string `yaml:"-"`
}

func (c *Config) checkOIDC(d *decoder) {
	o := c.API.OIDC
	if o == nil {
		return
	}
	const at = "api.oidc"
	if o.Scopes == nil {
		o.Scopes = []string{"profile"}
	}
	for field, v := range map[*string]string{&o.RoleClaim: "groups", &o.NameClaim: "preferred_username"} {
		if *field == "" {
			*field = v
		}
	}
	for field, v := range map[*time.Duration]time.Duration{&o.Session: 12 * time.Hour, &o.Idle: time.Hour} {
		if *field == 0 {
			*field = v
		}
	}
	d.positive(at+".session", o.Session)
	d.positive(at+".idle", o.Idle)
	d.safeURL(at+".issuer", o.Issuer, "https://login.example/realms/staff, as the provider's own discovery document has it")
	if u := d.safeURL(at+".public_url", o.PublicURL, "https://noc.example"); u != nil && (strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil) {
		d.bad(at+".public_url", "%q has more than a host; write %s://%s, and let the provider send people to %s://%s/auth/callback", o.PublicURL, u.Scheme, u.Host, u.Scheme, u.Host)
	}
	if o.ClientID == "" {
		d.bad(at+".client_id", "is missing; write the id under which the provider knows flowcordon")
	}
	if len(o.Roles) == 0 {
		d.bad(at+".roles", "is empty, so nobody could sign in; write for example {noc: viewer, abuse-desk: abuse, netops: operator}")
	}
	for _, g := range slices.Sorted(maps.Keys(o.Roles)) {
		d.oneOf(at+".roles."+g, o.Roles[g], "viewer", "abuse", "operator", "admin")
	}
	o.ClientSecret = d.secret(at+".client_secret_file", o.ClientSecretFile)
}

// safeURL is url, and wants TLS of everything that is not this machine: what
// passes there opens the service.
func (d *decoder) safeURL(path, text, example string) *url.URL {
	u, err := url.Parse(text)
	switch {
	case text == "":
		d.bad(path, "is missing; write for example %s", example)
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		d.bad(path, "%q is no URL; write for example %s", text, example)
	case u.Scheme == "http" && !loopback(u.Hostname()):
		d.bad(path, "%q has no TLS, so whoever listens could sign in; write https:// (http:// is for localhost only)", text)
	default:
		return u
	}
	return nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}
