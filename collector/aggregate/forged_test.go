package aggregate

import (
	"net/netip"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
)

// What a tenant sends with sources that are not ours is kept as rows of nobody's,
// so many of each attachment, and counts for no host.
func TestForgedSources(t *testing.T) {
	const outer, port = 3, 7
	stranger, victim, leak := netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("8.1.2.3"), netip.MustParseAddr("10.1.2.3")
	behind := netip.MustParseAddr("8.7.7.1") // a network behind us that nobody listed
	by := func(ifIndex uint32) func(*flow.Record) {
		return func(r *flow.Record) { r.InIf, r.Has = ifIndex, r.Has|flow.HasInIf }
	}
	cfg := testConfig()
	cfg.External = []Interface{{Exporter: exporter1, IfIndex: outer}}
	for _, c := range []struct {
		name          string
		records       []*flow.Record
		forged, hosts int // rows
	}{
		{"a victim's source, to a stranger", []*flow.Record{rec(from(victim), to(stranger), by(port))}, 1, 0},
		{"to another tenant: he gets it", []*flow.Record{rec(from(victim), to(tenantA), by(port))}, 1, 1},
		{"transit from outside", []*flow.Record{rec(from(victim), to(stranger), by(outer))}, 0, 0},
		{"interface not known", []*flow.Record{rec(from(victim), to(stranger))}, 0, 0},
		{"interface 0 is none", []*flow.Record{rec(from(victim), to(stranger), by(0))}, 0, 0},
		{"a container's address leaks", []*flow.Record{rec(from(leak), to(stranger), by(port))}, 0, 0},
		{"a network behind us, after packets to it", []*flow.Record{rec(from(stranger), to(behind), by(outer)), rec(from(behind.Next()), to(stranger), by(port))}, 0, 0},
		{"the same, two hours later", []*flow.Record{rec(from(stranger), to(behind), by(outer)), rec(from(behind.Next()), to(stranger), by(port), func(r *flow.Record) {
			r.Received, r.Start, r.End = r.Received+7200*sec, r.Start+7200*sec, r.End+7200*sec
		})}, 1, 0},
		{"an exporter without a known outer side", []*flow.Record{rec(from(victim), to(stranger), by(port), func(r *flow.Record) { r.Exporter = netip.MustParseAddr("192.0.2.77") })}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b sink
			a := NewLocal(cfg, b.write)
			for _, r := range c.records {
				a.Add(r)
			}
			a.Flush(t0+3*7200*sec, true)
			forged, hosts := 0, 0
			for _, f := range b.Flows {
				if f.Spoofed {
					forged++
					if f.Tenant != netip.IPv6Unspecified() || f.Host != c.records[len(c.records)-1].Src || f.InIf != port || f.Dir != flow.Out {
						t.Errorf("row %+v", f)
					}
				}
			}
			for _, h := range b.Hosts {
				if h.Tenant != netip.IPv6Unspecified() {
					hosts++
				} else if h.SpoofOut != uint64(c.forged) || h.OutPackets != 0 {
					t.Errorf("nobody's host row %+v", h)
				}
			}
			if forged != c.forged || hosts != c.hosts {
				t.Errorf("%d forged rows and %d hosts, want %d and %d", forged, hosts, c.forged, c.hosts)
			}
			if s := a.Stats(); s.Records != s.Aggregated+s.Dropped[ReasonNotInternal] {
				t.Errorf("%d records, %d aggregated, dropped %v", s.Records, s.Aggregated, s.Dropped)
			}
		})
	}
}

// A flood with forged sources may not flood the store: forgedMost rows of an
// attachment in a window, and another attachment has its own.
func TestForgedSourcesAreBounded(t *testing.T) {
	cfg := testConfig()
	cfg.External = []Interface{{Exporter: exporter1, IfIndex: 3}}
	var b sink
	a := NewLocal(cfg, b.write)
	for i := range 10_000 {
		r := rec(from(netip.AddrFrom4([4]byte{8, 1, byte(i >> 8), byte(i)})), to(netip.MustParseAddr("9.9.9.9")))
		r.InIf, r.Has = 7, r.Has|flow.HasInIf
		a.Add(r)
		if i%2500 == 0 {
			r.InIf = 8
			a.Add(r)
		}
	}
	a.Flush(t0+100*sec, true)
	rows := map[uint32]int{}
	for _, f := range b.Flows {
		rows[f.InIf]++
	}
	if rows[7] != forgedMost || rows[8] != 4 {
		t.Errorf("rows by interface: %v, want %d of 7 and 4 of 8", rows, forgedMost)
	}
	if s := a.Stats(); s.Records != 10_004 || s.Records != s.Aggregated+s.Dropped[ReasonNotInternal] {
		t.Errorf("%+v", s)
	}
}

// The tenant is the server on an amplifier's port of its own, whatever port the
// question claims to come from; at the other side the ports decide as before.
func TestOwnAmplifierPort(t *testing.T) {
	udp := func(src, dst uint16) func(*flow.Record) {
		return func(r *flow.Record) {
			r.IPProto, r.SrcPort, r.DstPort, r.Has = flow.ProtoUDP, src, dst, flow.HasPorts|flow.HasIPProto
		}
	}
	for _, c := range []struct {
		name string
		rec  *flow.Record
		role flow.Role
		svc  uint16
	}{
		{"SSDP's answer to a victim's port 80", rec(from(tenantA), to(remote1), udp(1900, 80)), flow.RoleServer, 1900},
		{"and its question", rec(from(remote1), to(tenantA), udp(80, 1900)), flow.RoleServer, 1900},
		{"CLDAP to port 53", rec(from(tenantA), to(remote1), udp(389, 53)), flow.RoleServer, 389},
		{"a web server's client whose NAT chose 1900", rec(from(tenantA), to(remote1), udp(443, 1900)), flow.RoleServer, 443},
		{"a question to SSDP outside", rec(from(tenantA), to(remote1), udp(40000, 1900)), flow.RoleClient, 1900},
		{"NTP among servers", rec(from(tenantA), to(remote1), udp(123, 123)), flow.RoleUnknown, 123},
		{"DNS answers", rec(from(tenantA), to(remote1), udp(53, 40000)), flow.RoleServer, 53},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b sink
			a := NewLocal(testConfig(), b.write)
			a.Add(c.rec)
			a.Flush(t0+100*sec, true)
			if len(b.Flows) != 1 || b.Flows[0].Role != c.role || b.Flows[0].SvcPort != c.svc {
				t.Fatalf("rows %+v, want role %s of port %d", b.Flows, c.role, c.svc)
			}
			if n := len(b.Services); n != 1 || b.Services[0].SvcPort != c.svc || (b.Services[0].Attempts > 0) != (c.role == flow.RoleClient) {
				t.Errorf("services %+v", b.Services)
			}
		})
	}
}
