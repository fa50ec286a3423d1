package config

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// check looks at what the types cannot say and reads the secrets.
func (c *Config) check(d *decoder) {
	c.checkListen(d)
	c.checkExporters(d)
	c.checkNetworks(d)
	c.checkStore(d)
	c.checkDetect(d)
	c.checkRespond(d)
	c.checkInventory(d)
	c.checkAPI(d)
	d.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	d.oneOf("log.format", c.Log.Format, "", "json", "console")
}

func (d *decoder) bad(path, format string, args ...any) { d.fail(d.line(path), path, format, args...) }

func (d *decoder) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		if allowed[0] == "" {
			allowed = allowed[1:]
		}
		d.bad(path, "%q is none of %q", value, allowed)
	}
}

func (d *decoder) positive(path string, v time.Duration) {
	if v <= 0 {
		d.bad(path, "%v must be longer than zero", v)
	}
}

func (d *decoder) hostPort(path, addr string) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		d.bad(path, "%q is no host:port; write for example \"0.0.0.0:2055\" or \"[::]:2055\"", addr)
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		d.bad(path, "%q has no port between 0 and 65535", addr)
	}
}

func (c *Config) checkListen(d *decoder) {
	if len(c.Listen) == 0 {
		d.bad("listen", `is empty, so no flow would be received; write for example
  listen:
    - {protocol: netflow, address: "0.0.0.0:2055"}
    - {protocol: sflow, address: "0.0.0.0:6343"}`)
	}
	seen := map[string]int{}
	for i, l := range c.Listen {
		at := fmt.Sprintf("listen[%d]", i)
		d.oneOf(at+".protocol", l.Protocol, "netflow", "sflow")
		d.hostPort(at+".address", l.Address)
		// Port 0 is a free port, another one each time.
		if j, dup := seen[l.Address]; dup && !strings.HasSuffix(l.Address, ":0") {
			d.bad(at+".address", "%s is already listen[%d]; give each its own port", l.Address, j)
		}
		seen[l.Address] = i
	}
}

func (c *Config) checkExporters(d *decoder) {
	if len(c.Exporters.Allow) == 0 {
		d.bad("exporters.allow", "is empty, so every datagram would be refused; list your routers' addresses, for example [192.0.2.1, 192.0.2.0/24]")
	}
	for i, s := range c.Exporters.Sampling {
		at := fmt.Sprintf("exporters.sampling[%d]", i)
		if !s.Exporter.IsValid() {
			d.bad(at+".exporter", "is missing; write the router's address")
		}
		if s.Default == 0 && s.Override == 0 {
			d.bad(at, "has neither default nor override; write default: 1000 (used when the router does not say) or override: 1000 (used always)")
		}
	}
}

func (c *Config) checkNetworks(d *decoder) {
	if len(c.Networks.Internal) == 0 {
		d.bad("networks.internal", "is empty, so nobody would be a tenant; list your own prefixes, for example [198.51.100.0/24, \"2001:db8::/32\"]")
	}
	for i, p := range c.Networks.Internal {
		if p.Bits() == 0 {
			d.bad(fmt.Sprintf("networks.internal[%d]", i), "%s is the whole Internet; list your own prefixes", p)
		}
	}
	if n := c.Networks.IPv6TenantPrefix; n < 32 || n > 128 {
		d.bad("networks.ipv6_tenant_prefix", "%d is not between 32 and 128; write the length of the prefix that one VDS gets, usually 64", n)
	}
	for i, e := range c.Networks.External {
		if !e.Exporter.IsValid() || len(e.Interfaces) == 0 {
			d.bad(fmt.Sprintf("networks.external[%d]", i), "needs both: {exporter: 192.0.2.1, interfaces: [1, 2]}")
		}
	}
	c.checkPorts(d)
}

// checkPorts: a port of two servers would blame one for the other.
func (c *Config) checkPorts(d *decoder) {
	type key struct {
		exporter netip.Addr
		port     uint32
		vlan     uint16
	}
	seen := map[key]int{}
	for i, p := range c.Networks.Ports {
		path := fmt.Sprintf("networks.ports[%d]", i)
		k := key{p.Exporter.Unmap(), p.Interface, p.VLAN}
		j, twice := seen[k]
		switch {
		case !p.Exporter.IsValid() || !p.Tenant.IsValid() || p.Interface == 0 && p.VLAN == 0:
			d.bad(path, "needs an exporter, a tenant, and an interface or a vlan: {exporter: 192.0.2.1, interface: 12, vlan: 101, tenant: 198.51.100.7}")
		case !slices.ContainsFunc(c.Networks.Internal, func(n Prefix) bool { return n.Contains(p.Tenant.Unmap()) }):
			d.bad(path, "%s is in none of networks.internal; write an address of the server behind the port", p.Tenant)
		case p.VLAN > 4094:
			d.bad(path, "VLAN %d is not between 1 and 4094", p.VLAN)
		case twice && c.Networks.Ports[j].Tenant != p.Tenant:
			d.bad(path, "is the port of networks.ports[%d], too, with another tenant; leave out ports that several servers share", j)
		}
		seen[k] = i
	}
}

func (c *Config) checkStore(d *decoder) {
	if c.DataDir == "" {
		d.bad("data_dir", "is empty; write a directory, for example /var/lib/flowcordon")
	}
	d.oneOf("store.flow_policy", c.Store.FlowPolicy, "all", "attempts", "off")
	d.positive("store.flow_ttl", c.Store.FlowTTL)
	d.positive("store.window_ttl", c.Store.WindowTTL)
	c.checkRetention(d)
	if c.Store.SpoolMaxBytes < 1<<20 {
		d.bad("store.spool_max_bytes", "%d is less than 1 MiB; write for example 8589934592", c.Store.SpoolMaxBytes)
	}
	for i, a := range c.ClickHouse.Addr {
		d.hostPort(fmt.Sprintf("clickhouse.addr[%d]", i), a)
	}
	c.ClickHouse.Password = d.secret("clickhouse.password_file", c.ClickHouse.PasswordFile)
	if c.ClickHouse.Database == "" {
		d.bad("clickhouse.database", "is empty; write for example flowcordon")
	}
	d.positive("collector.flush_interval", c.Collector.FlushInterval)
}

func (c *Config) checkRespond(d *decoder) {
	r := &c.Respond
	if r.MaxPerHour < 0 {
		d.bad("respond.max_per_hour", "%d is less than zero; write 0 to never act", r.MaxPerHour)
	}
	d.positive("respond.call_timeout", r.CallTimeout)
	d.positive("respond.verify_for", r.VerifyFor)
	d.positive("respond.verify_deadline", r.VerifyDeadline)
	d.positive("respond.approval_timeout", r.ApprovalTimeout)
	names := map[string]bool{}
	for i := range r.Suspenders {
		c.checkSuspender(d, &r.Suspenders[i], fmt.Sprintf("respond.suspenders[%d]", i), names)
	}
	c.checkPolicy(d)
	for i, e := range r.Exempt {
		at := fmt.Sprintf("respond.exempt[%d]", i)
		if e.Tenant == "" && e.Prefix == nil {
			d.bad(at, "exempts nobody; write tenant: or prefix:")
		}
		if e.RemoteAS != 0 && (e.Remote != nil || c.Respond.ASTable == "") {
			d.bad(at+".remote_as", "needs respond.as_table (a file of lines such as 203.0.113.0/24 64500), and no remote: beside it")
		}
		if e.Owner == "" || e.Reason == "" || e.Expires.IsZero() {
			d.bad(at, "needs an owner, a reason and expires: (a date, for example 2027-01-31T00:00:00Z)")
		}
	}
	c.checkNotify(d)
}

func (d *decoder) url(path, text string) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		d.bad(path, "%q is no URL; write for example https://panel.example/flowcordon", text)
	}
}

func (c *Config) checkAPI(d *decoder) {
	d.hostPort("http.address", c.HTTP.Address)
	if checkRate(d, "api.rate", c.API.Rate); c.API.Rate == nil {
		c.API.Rate = &Rate{PerSecond: 50, Burst: 200}
	}
	names := map[string]bool{}
	for i := range c.API.Tokens {
		t := &c.API.Tokens[i]
		at := fmt.Sprintf("api.tokens[%d]", i)
		if t.Name == "" || names[t.Name] {
			d.bad(at+".name", "every token needs a name of its own; it stands in the audit log")
		}
		names[t.Name] = true
		if strings.HasPrefix(t.Name, "oidc:") {
			d.bad(at+".name", "begins with oidc:, as the names of people who sign in do; choose another")
		}
		d.oneOf(at+".role", t.Role, "viewer", "abuse", "operator", "admin")
		if (t.TokenFile == "") == (t.TokenSHA256 == "") {
			d.bad(at, "needs either token_file or token_sha256 (printf %%s TOKEN | sha256sum)")
		}
		if b, err := hex.DecodeString(t.TokenSHA256); t.TokenSHA256 != "" && (err != nil || len(b) != 32) {
			d.bad(at+".token_sha256", "is no SHA-256; write 64 hexadecimal digits")
		}
		checkRate(d, at+".rate", t.Rate)
		t.Secret = d.secret(at+".token_file", t.TokenFile)
		if t.Secret != "" && len(t.Secret) < 20 {
			d.bad(at+".token_file", "holds a token of %d characters; use at least 20 (openssl rand -hex 24)", len(t.Secret))
		}
	}
	c.checkOIDC(d)
	if c.HTTP.Address != "" && len(c.API.Tokens) == 0 && c.API.OIDC == nil {
		if h, _, err := net.SplitHostPort(c.HTTP.Address); err == nil {
			if a, err := netip.ParseAddr(h); err != nil || !a.IsLoopback() {
				d.bad("api.tokens", "is empty while http.address is not loopback; add a token: {name: noc, role: viewer, token_file: /etc/flowcordon/noc.token}")
			}
		}
	}
}

func checkRate(d *decoder, at string, r *Rate) {
	if r != nil && (r.PerSecond < 0 || r.PerSecond > 0 && r.Burst < 1) {
		d.bad(at, "is no rate; write for example {per_second: 50, burst: 200}, or {per_second: 0} for no bound")
	}
}

// checkDetect takes over what the detector says of its own part.
func (c *Config) checkDetect(d *decoder) {
	err := c.Detect.Validate()
	if err == nil {
		return
	}
	all := []error{err}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		all = j.Unwrap()
	}
	for _, e := range all {
		path, text, _ := strings.Cut(e.Error(), " ")
		d.bad("detect."+path, "%s", text)
	}
}
