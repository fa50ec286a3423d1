package proxmox

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/respond/proxmox/pvetest"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/inventory/discover"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func source(s *pvetest.Sim, change ...func(*Config)) *Source {
	cfg := Config{
		Name: "cluster1", Hypervisor: "pve", URLs: []string{s.URL()}, Token: pvetest.Token,
		Fingerprints: []string{s.Fingerprint()}, Timeout: 30 * time.Second,
	}
	for _, f := range change {
		f(&cfg)
	}
	return New(cfg, func() time.Time { return noon })
}

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func all(t *testing.T, s *Source) []discover.Entry {
	t.Helper()
	got, err := s.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSettings(t *testing.T) {
	s := pvetest.Start(t)
	s.Edit(100, func(g *pvetest.Guest) { g.Conf["tags"], g.Pool = "c-42;vip", "retail" })
	s.Edit(200, func(g *pvetest.Guest) {
		g.Conf["net0"] += ",ip6=2608:8::20/64"
		g.Pool = "wholesale"
		s.Guests[900] = &pvetest.Guest{Type: "qemu", Node: "pve1", Template: 1, Conf: map[string]string{"net0": "virtio=BC:24:11:99:00:01,bridge=vmbr0", "ipconfig0": "ip=11.7.0.99/24"}}
	})
	got := all(t, source(s, func(c *Config) { c.TenantTag, c.TenantPool, c.V6Bits = "c-", true, 64 }))
	want := []discover.Entry{
		{
			Prefixes: prefixes("11.7.0.10/32", "2608:7::/64"), Tenant: "c-42", VDS: "100", Hypervisor: "pve", MAC: "bc:24:11:aa:10:01",
			Tags: []string{"c-42", "vip"}, Source: "cluster1 guest 100 net0", Seen: noon,
		},
		{
			Prefixes: prefixes("11.8.0.20/32", "2608:8::/64"), Tenant: "wholesale", VDS: "200", Hypervisor: "pve", MAC: "bc:24:11:bb:20:01",
			Source: "cluster1 guest 200 net0", Seen: noon,
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if got := all(t, source(s))[0]; !cmp.Equal(got.Prefixes, prefixes("11.7.0.10/32", "2608:7::10/128"), cmpopts.EquateComparable(netip.Prefix{})) || got.Tenant != "" {
		t.Errorf("without options: %+v, want single addresses and no tenant", got)
	}
}

func iface(mac string, ips ...string) map[string]any {
	var list []map[string]any
	for _, ip := range ips {
		list = append(list, map[string]any{"ip-address": ip, "ip-address-type": "ipv4", "prefix": 24})
	}
	return map[string]any{"name": "eth0", "hardware-address": mac, "ip-addresses": list}
}

func TestAgent(t *testing.T) {
	s := pvetest.Start(t)
	s.Edit(100, func(g *pvetest.Guest) {
		g.Agent = []map[string]any{
			iface("bc:24:11:aa:10:02", "11.7.0.11", "11.7.0.12", "11.8.0.20", "11.7.0.50", "10.0.0.5", "127.0.0.1", "fe80::1", "2608:7:1::5"),
			iface("bc:24:11:ff:ff:ff", "11.7.0.77"), // of a bridge inside
			{"name": "lo"},
		}
		s.Guests[101] = &pvetest.Guest{
			Type: "qemu", Node: "pve2", Running: true, Conf: map[string]string{"net0": "virtio=BC:24:11:CC:00:01,bridge=vmbr0"},
			Agent: []map[string]any{iface("bc:24:11:cc:00:01", "11.7.0.12", "11.7.0.13")},
		}
		s.Guests[102] = &pvetest.Guest{Type: "qemu", Node: "pve2", Running: true, Conf: map[string]string{"net0": "virtio=BC:24:11:CC:00:02,bridge=vmbr0"}}
	})
	s.Edit(200, func(g *pvetest.Guest) {
		g.Agent = []map[string]any{{"name": "eth0", "hwaddr": "bc:24:11:bb:20:01", "inet": "11.8.0.21/24", "inet6": "fe80::2/64"}}
	})
	got := all(t, source(s, func(c *Config) {
		c.Agent, c.Networks = true, prefixes("11.7.0.0/24", "11.8.0.0/24", "2608:7::/32")
	}))
	by := map[string][]netip.Prefix{}
	for _, e := range got {
		agent := ""
		if strings.HasSuffix(e.Source, " agent") {
			agent = " agent"
		}
		by[e.VDS+" "+e.MAC+agent] = e.Prefixes
	}
	want := map[string][]netip.Prefix{
		"100 bc:24:11:aa:10:01": prefixes("11.7.0.10/32", "2608:7::10/128"),
		// Not .12, which guest 101 claims too, nor .20, which guest 200 is set to.
		"100 bc:24:11:aa:10:02 agent": prefixes("11.7.0.11/32", "11.7.0.50/32", "2608:7:1::5/128"),
		"101 bc:24:11:cc:00:01 agent": prefixes("11.7.0.13/32"),
		"200 bc:24:11:bb:20:01":       prefixes("11.8.0.20/32"),
		"200 bc:24:11:bb:20:01 agent": prefixes("11.8.0.21/32"),
	}
	if diff := cmp.Diff(want, by, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("by NIC (-want +got):\n%s", diff)
	}
}

func TestIPSets(t *testing.T) {
	s := pvetest.Start(t)
	s.Edit(100, func(g *pvetest.Guest) {
		g.IPSets = map[string][]map[string]any{
			"ipfilter-net0": {{"cidr": "11.7.0.10"}, {"cidr": "11.9.0.0/29"}, {"cidr": "2608:7:1::/64"}, {"cidr": "fe80::/64"}, {"cidr": "11.9.0.3", "nomatch": 1}, {"cidr": "dc/office"}, {"cidr": "0.0.0.0/0"}},
			"ipfilter-net7": {{"cidr": "11.7.0.99"}},
			"friends":       {{"cidr": "11.7.0.98"}},
		}
		g.Agent = []map[string]any{iface("bc:24:11:aa:10:02", "11.9.0.2", "11.7.0.50")}
	})
	got := all(t, source(s, func(c *Config) { c.IPSets, c.Agent, c.Networks = true, true, prefixes("11.0.0.0/8") }))
	if want := prefixes("11.7.0.10/32", "2608:7::10/128", "11.9.0.0/29", "2608:7:1::/64"); !cmp.Equal(got[0].Prefixes, want, cmpopts.EquateComparable(netip.Prefix{})) {
		t.Errorf("net0 has %v, want %v", got[0].Prefixes, want)
	}
	// What the agent claims out of a set of another NIC's is not its own.
	if want := prefixes("11.7.0.50/32"); !cmp.Equal(got[1].Prefixes, want, cmpopts.EquateComparable(netip.Prefix{})) {
		t.Errorf("net1 has %v, want %v", got[1].Prefixes, want)
	}
}

// Half a list would make the rest of the customers unknown.
func TestNeverHalfAList(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*pvetest.Sim)
		change  func(*Config)
		says    string
	}{
		"a node that is down":  {prepare: func(s *pvetest.Sim) { s.Down["pve2"] = true }, says: "595"},
		"no right to see any":  {prepare: func(s *pvetest.Sim) { s.Privs["VM.Audit"] = false }, says: "VM.Audit"},
		"no right to ask them": {prepare: func(s *pvetest.Sim) { s.Privs["VM.GuestAgent.Audit"] = false }, change: func(c *Config) { c.Agent, c.Networks = true, prefixes("11.0.0.0/8") }, says: "403"},
		"a wrong token":        {change: func(c *Config) { c.Token = "abuse@pve!flowcordon=wrong-secret" }, says: "401"},
		"a wrong certificate":  {change: func(c *Config) { c.Fingerprints = []string{strings.Repeat("00", 32)} }, says: "fingerprint"},
		"an unknown CA":        {change: func(c *Config) { c.Fingerprints = nil }, says: "certificate"},
		"a server that hangs": {
			prepare: func(s *pvetest.Sim) {
				s.Before = func(string, string) *pvetest.Fault { return &pvetest.Fault{Hang: true} }
			},
			change: func(c *Config) { c.Timeout = 200 * time.Millisecond }, says: "deadline",
		},
		"a server that breaks off": {
			prepare: func(s *pvetest.Sim) {
				s.Before = func(_, path string) *pvetest.Fault {
					if strings.HasSuffix(path, "/config") {
						return &pvetest.Fault{Drop: true}
					}
					return nil
				}
			}, says: "EOF",
		},
		"guests without addresses": {prepare: func(s *pvetest.Sim) {
			delete(s.Guests, 200)
			delete(s.Guests[100].Conf, "ipconfig0")
		}, says: "no guest with an address"},
	} {
		t.Run(name, func(t *testing.T) {
			s := pvetest.Start(t)
			if c.prepare != nil {
				s.Lock()
				c.prepare(s)
				s.Unlock()
			}
			src := source(s)
			if c.change != nil {
				src = source(s, c.change)
			}
			got, err := src.Discover(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.says) || got != nil {
				t.Errorf("Discover = %+v, %v, want nothing and %q", got, err, c.says)
			}
			if err != nil && (strings.Contains(err.Error(), "wrong-secret") || strings.Contains(err.Error(), pvetest.Secret)) {
				t.Errorf("the error tells the token: %v", err)
			}
		})
	}
}

// A guest that migrates while the list is read is read where it went.
func TestMigratesMeanwhile(t *testing.T) {
	s := pvetest.Start(t)
	s.Lock()
	s.Before = func(_, path string) *pvetest.Fault {
		if strings.HasSuffix(path, "/100/config") {
			s.Guests[100].Node = "pve2"
		}
		return nil
	}
	s.Unlock()
	if got := all(t, source(s)); len(got) != 2 {
		t.Errorf("Discover = %+v, want both guests", got)
	}
}

// One that is deleted is no fault.
func TestGoneMeanwhile(t *testing.T) {
	s := pvetest.Start(t)
	s.Lock()
	s.Before = func(_, path string) *pvetest.Fault {
		if strings.HasSuffix(path, "/100/config") {
			delete(s.Guests, 100)
		}
		return nil
	}
	s.Unlock()
	got := all(t, source(s))
	if len(got) != 1 || got[0].VDS != "200" {
		t.Errorf("Discover = %+v, want guest 200 alone", got)
	}
}

func TestValidate(t *testing.T) {
	good := Config{Name: "c", Hypervisor: "pve", URLs: []string{"https://n:8006"}, Token: "a@pve!tok=x"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no name":           {func(c *Config) { c.Name = "" }, "name: "},
		"no hypervisor":     {func(c *Config) { c.Hypervisor = "" }, "hypervisor: "},
		"no urls":           {func(c *Config) { c.URLs = nil }, "urls: "},
		"http":              {func(c *Config) { c.URLs = []string{"http://n:8006"} }, "urls[0]"},
		"a ticket":          {func(c *Config) { c.Token = "root@pam" }, "token: "},
		"agent everywhere":  {func(c *Config) { c.Agent = true }, "networks: "},
		"v6 bits":           {func(c *Config) { c.V6Bits = 8 }, "v6_bits: "},
		"half a pin":        {func(c *Config) { c.Fingerprints = []string{"AA"} }, "fingerprints[0]"},
		"no such CA":        {func(c *Config) { c.CAFile = "/nonexistent" }, "ca_file: "},
		"negative deadline": {func(c *Config) { c.Timeout = -1 }, "timeout: "},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Validate = %v, want %q", err, c.says)
			}
		})
	}
}
