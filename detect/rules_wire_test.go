package detect

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Forged sources (A30: random ones, A31: a victim's) leave by one port. The
// aggregator keeps no such records yet; what the rule makes of them is here.
func TestSpoofedSource(t *testing.T) {
	inside := flow.Attachment{Exporter: exporter, InIf: 12, SrcMAC: [6]byte{0x52, 0x54, 0, 0xaa, 0x10, 1}, VLAN: 40}
	outside := flow.Attachment{Exporter: exporter, InIf: 99}
	for _, c := range []struct {
		name  string
		stats flow.SpoofStat
		owned bool
		want  flow.Tier
		gates []string
	}{
		{"random sources", flow.SpoofStat{Attachment: inside, Records: 5000, Packets: 5000, Sources: 5000, Rate: 256}, true, flow.TierBlockPort, nil},
		{"requests in a victim's name", flow.SpoofStat{Attachment: inside, Records: 300, Packets: 300, Sources: 1, Rate: 1000}, true, flow.TierBlockPort, nil},
		{"few", flow.SpoofStat{Attachment: inside, Records: 30, Packets: 30, Sources: 2, Rate: 4096}, true, flow.TierNotify, nil},
		{"a leak of some packets", flow.SpoofStat{Attachment: inside, Records: 9, Packets: 9, Sources: 1, Rate: 1}, true, flow.TierNone, nil},
		{"from outside: nobody's port", flow.SpoofStat{Attachment: outside, Records: 5000, Packets: 5000, Sources: 1, Rate: 256}, false, flow.TierNone, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemWindows()
			m.spoofs = []flow.SpoofStat{c.stats}
			owner := func(a flow.Attachment) (netip.Addr, bool) { return tenant4, a == inside }
			f := tickAt(t, New(Config{}, Deps{Windows: m, PortOwner: owner}), 305)
			if c.want == flow.TierNone {
				if len(f) != 0 {
					t.Errorf("%+v", f)
				}
				return
			}
			if len(f) != 1 || f[0].Rule != flow.RuleSpoofed || f[0].Tenant != tenant4 || f[0].Tier != c.want || !slices.Equal(f[0].Gates, c.gates) {
				t.Errorf("%+v", f)
			}
		})
	}
	m := newMemWindows()
	m.spoofs = []flow.SpoofStat{{Attachment: inside, Records: 5000}}
	if f := tickAt(t, New(Config{}, Deps{Windows: m}), 305); len(f) != 0 {
		t.Errorf("without owners: %+v", f)
	}
}

func TestRoleTags(t *testing.T) {
	for _, c := range []struct {
		tags  []string
		want  flow.Tier
		gates []string
	}{
		{nil, flow.TierSuspend, nil},
		{[]string{"new", "vip"}, flow.TierSuspend, nil},
		{[]string{TagResolver}, flow.TierSuspend, nil}, // explains no TCP scan
		{[]string{"vip", TagMonitoring}, flow.TierNotify, []string{GateRoleTag}},
		{[]string{TagScanner}, flow.TierNotify, []string{GateRoleTag}},
	} {
		m := newMemWindows()
		rowsOf(m, tenant4, 22, 1, 500, 0, 10, 20)
		f := tickAt(t, New(Config{}, Deps{Windows: m, Tags: func(netip.Addr) []string { return c.tags }}), 30)
		if len(f) != 1 || f[0].Tier != c.want || !slices.Equal(f[0].Gates, c.gates) {
			t.Errorf("%v: %+v", c.tags, f)
		}
	}
}

// What looks the same where answers are just not exported needs somebody who is
// seen to receive: others of the fleet, or else the tenant itself.
func TestNeedsIncoming(t *testing.T) {
	host := func(a netip.Addr, out, in uint64) flow.HostWindow {
		return flow.HostWindow{Key: flow.Key{Start: epoch.Unix(), Tenant: a, Rate: 1}, Counts: flow.Counts{OutRecords: out, InRecords: in}}
	}
	a, b, c, d := tenant4, tenant4.Next(), tenant4.Next().Next(), tenant4.Next().Next().Next()
	for _, x := range []struct {
		name  string
		hosts []flow.HostWindow
		own   ownShare
		heard bool
	}{
		{"alone and silent", []flow.HostWindow{host(a, 1000, 0)}, ownShare{}, false},
		{"two come in", []flow.HostWindow{host(a, 1000, 2)}, ownShare{}, false},
		{"three come in", []flow.HostWindow{host(a, 1000, 3)}, ownShare{}, true},
		{"three, of the flood itself", []flow.HostWindow{host(a, 1000, 3)}, ownShare{in: 1}, false},
		{"a fleet that hears nothing, though the tenant does", []flow.HostWindow{host(a, 1000, 50), host(b, 500, 0), host(c, 500, 0), host(d, 500, 10)}, ownShare{}, false},
		{"a fleet that hears", []flow.HostWindow{host(a, 1000, 0), host(b, 500, 500), host(c, 500, 400), host(d, 500, 300)}, ownShare{}, true},
		{"one loud flooder does not make the fleet deaf", []flow.HostWindow{host(a, 1000, 0), host(b, 500, 500), host(c, 500, 400), host(d, 1e6, 0)}, ownShare{}, true},
	} {
		m := newMemWindows()
		m.add(&flow.Batch{Hosts: x.hosts})
		ts := &tickState{d: New(Config{}, Deps{Windows: m}), ctx: context.Background()}
		f := flow.Finding{Tenant: a, Tier: flow.TierSuspend}
		if err := ts.needsIncoming(&f, minute, x.own); err != nil {
			t.Fatal(err)
		}
		if got := f.Tier == flow.TierSuspend; got != x.heard {
			t.Errorf("%s: %t %v", x.name, got, f.Gates)
		}
	}
}

// The store cannot say whom an abused server answers: nothing is blocked.
func TestReflectorWithoutPeers(t *testing.T) {
	m := newMemWindows()
	for s := int64(0); s < 60; s += 10 {
		k := flow.Key{Start: epoch.Unix() + s, Tenant: tenant4, Rate: 1}
		c := flow.Counts{OutRecords: 30_000, OutPackets: 30_000, OutBytes: 42_000_000, InRecords: 30_000, InPackets: 30_000, InBytes: 2_100_000}
		m.add(&flow.Batch{Services: []flow.ServiceWindow{{Key: k, IPProto: flow.ProtoUDP, Role: flow.RoleServer, SvcPort: 53, Counts: c}},
			Hosts: []flow.HostWindow{{Key: k, Counts: c}}})
	}
	f := tickAt(t, New(Config{}, Deps{Windows: m}), 60)
	if len(f) != 1 || f[0].Rule != flow.RuleReflector || f[0].Tier != flow.TierNotify || !slices.Equal(f[0].Gates, []string{GatePeersUnknown}) {
		t.Errorf("%+v", f)
	}
	m.peersErr = context.DeadlineExceeded
	if f := tickAt(t, New(Config{}, Deps{Windows: m}), 60); len(f) != 1 || f[0].Tier != flow.TierNotify {
		t.Errorf("with an error: %+v", f)
	}
}

func TestMoreReasons(t *testing.T) {
	f := flow.Finding{Tenant: tenant4, Remote: remote, Distinct: 1204, Samples: 1300, SamplingRate: 1, EstRate: 5000, Port: 445, IPProto: flow.ProtoTCP, From: minute.From, To: minute.To}
	g := f
	g.SamplingRate, g.EstRate = 1000, 2
	s := flow.ServiceStat{SvcPort: 1900, Counts: flow.Counts{InRecords: 3, OutPackets: 10, OutBytes: 14_000, InBytes: 700}}
	for got, want := range map[string]string{
		blockscanReason(&f, &flow.AttemptStat{Remotes: 900}):                "tried 1,204 combinations of address and TCP port, of 900 addresses, in 60 s; none answered",
		udpSweepReason(&f, &s):                                              "sent UDP to port 1900 of 1,204 different addresses in 60 s; 3 answered",
		icmpSweepReason(&f, &s):                                             "pinged 1,204 different addresses in 60 s; 3 answered",
		icmpFloodReason(&f):                                                 "sent at least 5,000 pings per second to 151.101.0.1 for 60 s",
		packetFloodReason(&f, &flow.PairStat{Remote: remote, IPProto: 47}):  "sent 5,000 GRE packets per second to 151.101.0.1 for 60 s and got almost nothing back",
		packetFloodReason(&f, &flow.PairStat{Remote: remote, IPProto: 6}):   "sent 5,000 TCP (no connection requests) packets per second to 151.101.0.1 for 60 s and got almost nothing back",
		packetFloodReason(&f, &flow.PairStat{Remote: remote, IPProto: 253}): "sent 5,000 IP protocol 253 packets per second to 151.101.0.1 for 60 s and got almost nothing back",
		reflectorReason(&f, &s):                                             "its UDP port 1900 sent 5,000 answers per second of 1,400 bytes to few addresses for 60 s (20 times the bytes of the questions), as an abused amplifier does",
		spamReason(&f):                                                      "sent mail directly to 1,204 different mail servers in 60 s and is not known as a mail server",
		bruteforceReason(&g, 15):                                            "opened about 120 connections per minute to TCP port 445 for 60 s, each of about 15 packets, as guessing passwords does (seen in a sample of 1 in 1,000 packets)",
		blockedPortReason(&f):                                               "tried the closed TCP port 445 of 1,204 addresses, 1,300 packets or connections seen in 60 s",
		spoofedReason(&f, &flow.SpoofStat{Attachment: flow.Attachment{Exporter: exporter, InIf: 7, SrcMAC: [6]byte{2, 0, 0, 0, 0, 1}, VLAN: 40}, Packets: 300, Sources: 20}): "300 packets from 20 source addresses that are not its own came from its port (192.0.2.1, interface 7, MAC 02:00:00:00:00:01, VLAN 40) in 60 s",
	} {
		if got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
}

// TestBlockedPortReasonWithoutBeginnings: no address is claimed where only
// established packets were seen.
func TestBlockedPortReasonWithoutBeginnings(t *testing.T) {
	f := flow.Finding{IPProto: flow.ProtoTCP, Port: 25, Samples: 29, SamplingRate: 1, WindowS: 300, From: time.Unix(0, 0), To: time.Unix(300, 0)}
	want := "tried the closed TCP port 25 in connections whose beginning was not seen, 29 packets or connections seen in 300 s"
	if got := blockedPortReason(&f); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}
