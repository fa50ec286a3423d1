package main

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory"
)

// TestForgedByANeighbour: a scan with a tenant's address that comes in by a
// neighbour's port holds the tenant's verdict, names the gate at the API and is
// laid to the neighbour. The port is told by the MAC in the one run and by the
// interface in the other.
func TestForgedByANeighbour(t *testing.T) {
	neighbour := netip.MustParseAddr("198.18.0.67")
	for name, protocol := range map[string]flow.Protocol{"MAC": flow.SFlow5, "interface": flow.NetFlow9} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, siteOptions{Mode: flow.ModeEnforce, Inventory: holder(scanner, "panel") + holder(neighbour, "panel")})
			if protocol == flow.NetFlow9 {
				s.edit(t, "data_dir:", `  ports: [{exporter: 127.0.0.1, interface: 77, tenant: `+neighbour.String()+`}]
data_dir:`)
			}
			l := s.start(t)
			l.awaitDatabase(t)
			c := s.client(l.listener.Addr().String())
			target := l.netflow()
			if protocol == flow.SFlow5 {
				target = l.sflow()
			}
			udp, err := export.DialUDP(netip.MustParseAddrPort("127.0.0.1:0"), target)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = udp.Close() })
			enc, err := export.New(export.Config{Protocol: protocol, Domain: 1, SamplingRate: 1, Boot: time.Now().Add(-time.Hour), Agent: netip.MustParseAddr("127.0.0.1")},
				func(b []byte, _ int) error { return udp.Send(b) })
			if err != nil {
				t.Fatal(err)
			}
			mac, err := net.ParseMAC(macOf(neighbour))
			if err != nil {
				t.Fatal(err)
			}
			var n uint32
			send := func() {
				t.Helper()
				now := time.Now()
				for range 300 {
					f := scanFlow(scanner, n, now)
					n++
					f.SrcMAC, f.InIf = [6]byte(mac), 77
					if err := enc.Add(&f, now.UnixNano()); err != nil {
						t.Fatal(err)
					}
				}
				if err := enc.Flush(now.UnixNano()); err != nil {
					t.Fatal(err)
				}
				_ = udp.Flush()
			}
			eventually(t, 10*time.Minute, "the gate named, and the neighbour blamed", func() (bool, string) {
				send()
				time.Sleep(200 * time.Millisecond) // 1,500 a second
				all, err := c.incidents()
				held, blamed := false, false
				for _, i := range all[scanner] {
					for _, f := range i.Findings {
						held = held || f.Rule == flow.RuleNetscan && f.Tier == flow.TierNotify && slices.Contains(f.Gates, "source")
						if f.Tier > flow.TierNotify {
							t.Fatalf("the owner of the address was judged: %+v", f)
						}
					}
				}
				for _, i := range all[neighbour] {
					blamed = blamed || slices.Contains(i.Rules, flow.RuleSpoofed)
				}
				return held && blamed, fmt.Sprintf("held %v, blamed %v: %v %v", held, blamed, all, err)
			})
			if s.panel.IsCut(macOf(scanner)) {
				t.Error("the owner of the address was cut off")
			}
		})
	}
}

// TestPortsFollowTheInventory: MACs that two servers have are nobody's, a server's
// addresses are one, and a reload counts at once.
func TestPortsFollowTheInventory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "inventory.yaml")
	s := &site{dir: dir}
	s.write(t, "inventory.yaml", `- {ip: 198.18.0.9, tenant: c1, vds: v1, hypervisor: h, macs: ["52:54:00:00:00:01"]}
- {ip: 198.18.0.3, tenant: c1, vds: v1, hypervisor: h, macs: ["52:54:00:00:00:01"]}
- {ip: 198.18.0.4, tenant: c2, vds: v2, hypervisor: h, macs: ["52:54:00:00:00:02"]}
- {ip: 198.18.0.5, tenant: c3, vds: v3, hypervisor: h, macs: ["52:54:00:00:00:02"]}
`)
	inv := inventory.New(inventory.Config{Path: file}, inventory.Deps{})
	if err := inv.Reload(); err != nil {
		t.Fatal(err)
	}
	n := &config.Networks{Internal: []config.Prefix{{Prefix: netip.MustParsePrefix("198.18.0.0/15")}}, IPv6TenantPrefix: 64,
		Ports: []config.Port{{Exporter: netip.MustParseAddr("192.0.2.1"), Interface: 7, VLAN: 101, Tenant: netip.MustParseAddr("198.18.0.8")}}}
	now := time.Now()
	p := &ports{inv: inv, networks: func() *config.Networks { return n }, same: sameHolder(inv, func() time.Time { return now }), log: zap.NewNop(), now: func() time.Time { return now }}
	mac := func(last byte) flow.Attachment { return flow.Attachment{SrcMAC: [6]byte{0x52, 0x54, 0, 0, 0, last}} }
	check := func(what string, a flow.Attachment, want string) {
		t.Helper()
		got, ok := p.Owner(a)
		if want == "" && ok || want != "" && got.String() != want {
			t.Errorf("%s: %v, %v; want %q", what, got, ok, want)
		}
	}
	check("two addresses of one server", mac(1), "198.18.0.3")
	check("a MAC of two servers", mac(2), "")
	check("a router's MAC", mac(9), "")
	port := flow.Attachment{Exporter: netip.MustParseAddr("192.0.2.1"), InIf: 7, VLAN: 101}
	check("a VLAN of a port", port, "198.18.0.8")
	port.VLAN = 102
	check("another VLAN of it", port, "")
	s.write(t, "inventory.yaml", "- {ip: 198.18.0.5, tenant: c3, vds: v3, hypervisor: h, macs: [\"52:54:00:00:00:02\"]}\n")
	now = now.Add(time.Millisecond)
	if err := inv.Reload(); err != nil {
		t.Fatal(err)
	}
	check("after a reload", mac(2), "198.18.0.5")
}
