package detect

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

func TestICMPFloodBoundaries(t *testing.T) {
	pings := func(out uint64, n float64) flow.PairStat {
		return flow.PairStat{Tenant: tenant4, Remote: remote, IPProto: flow.ProtoICMP, Rate: n, Counts: flow.Counts{OutPackets: out, OutBytes: 84 * out}}
	}
	at14, at30 := minExcessCount(18_000, 14), minExcessCount(18_000, 30)
	for _, c := range []struct {
		name string
		in   flow.PairStat
		sums icmpTotals
		want flow.Tier
	}{
		{"just below notify", pings(at14-1, 1), icmpTotals{float64(at14 - 1), float64(at14 - 1), 1}, flow.TierNone},
		{"notify", pings(at14, 1), icmpTotals{float64(at14), float64(at14), 1}, flow.TierNotify},
		{"just below suspend", pings(at30-1, 1), icmpTotals{float64(at30 - 1), float64(at30 - 1), 1}, flow.TierNotify},
		{"suspend", pings(at30, 1), icmpTotals{float64(at30), float64(at30), 1}, flow.TierSuspend},
		{"replies of one who is flooded", pings(300_000, 1), icmpTotals{0, 300_000, 1}, flow.TierNone},
		{"replies, and pings to others", pings(300_000, 1), icmpTotals{50_000, 350_000, 1}, flow.TierNone},
		{"pings to others only", pings(10_000, 1), icmpTotals{300_000, 310_000, 1}, flow.TierNone},
		{"totals seen at a thicker rate", pings(1000, 1000), icmpTotals{100_000, 100_000, 10}, flow.TierSuspend},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaultICMPFlood()
			if f, _ := icmpFlood(&cfg, &c.in, c.sums, minute); f.Tier != c.want {
				t.Errorf("%s (score %.2f), want %s", f.Tier, f.Score, c.want)
			}
		})
	}
}

func TestPacketFloodBoundaries(t *testing.T) {
	sent := func(proto uint8, out, in uint64, n float64) flow.PairStat {
		return flow.PairStat{Tenant: tenant4, Remote: remote, IPProto: proto, Rate: n, Counts: flow.Counts{OutPackets: out, InPackets: in, OutBytes: 52 * out}}
	}
	with := func(s flow.PairStat, f func(*flow.PairStat)) flow.PairStat { f(&s); return s }
	at14, at30 := minExcessCount(3_000_000, 14), minExcessCount(3_000_000, 30)
	for _, c := range []struct {
		name string
		in   flow.PairStat
		want flow.Tier
	}{
		{"just below notify", sent(6, at14-1, 0, 1), flow.TierNone},
		{"notify", sent(6, at14, 0, 1), flow.TierNotify},
		{"just below suspend", sent(6, at30-1, 0, 1), flow.TierNotify},
		{"suspend", sent(6, at30, 0, 1), flow.TierSuspend},
		{"SYNs are another rule's", with(sent(6, at30, 0, 1), func(p *flow.PairStat) { p.SYNPackets = 1_000_000 }), flow.TierNone},
		{"one ACK comes back for 44 segments", sent(6, 12_000_000, 270_000, 1), flow.TierNone},
		{"resets are no conversation", with(sent(6, 12_000_000, 12_000_000, 1), func(p *flow.PairStat) { p.RSTInPackets = 12_000_000 }), flow.TierSuspend},
		{"return 0.01", sent(47, 12_000_000, 120_000, 1), flow.TierNone},
		{"GRE, nothing back", sent(47, 12_000_000, 0, 1), flow.TierSuspend},
		{"1,407 samples prove no share", sent(47, 1406, 0, 4096), flow.TierNone},
		{"they do", sent(47, 1408, 0, 4096), flow.TierNotify},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaultPacketFlood()
			if f, _ := packetFlood(&cfg, &c.in, minute); f.Tier != c.want {
				t.Errorf("%s (score %.2f), want %s", f.Tier, f.Score, c.want)
			}
		})
	}
	cfg := defaultPacketFlood()
	for _, c := range []struct {
		name string
		in   flow.PairStat
		want bool
	}{
		{"small TCP", sent(6, 1000, 0, 1), false},
		{"TCP of 200 bytes", with(sent(6, 1000, 0, 1), func(p *flow.PairStat) { p.OutBytes = 200_000 }), true},
		{"GRE", sent(47, 1000, 0, 1), true},
		{"a protocol that nobody speaks", sent(253, 1000, 0, 1), false},
	} {
		if got := cfg.mayBeHonest(&c.in); got != c.want {
			t.Errorf("%s may be honest: %t", c.name, got)
		}
	}
}

func TestReflectorBoundaries(t *testing.T) {
	serves := func(port uint16, out, size, in, asked uint64, n float64) flow.ServiceStat {
		return flow.ServiceStat{Tenant: tenant4, IPProto: flow.ProtoUDP, SvcPort: port, Rate: n,
			Counts: flow.Counts{OutRecords: out, OutPackets: out, OutBytes: out * size, InRecords: in, InPackets: in, InBytes: in * asked}}
	}
	at14, at30 := minExcessCount(60_000, 14), minExcessCount(60_000, 30)
	for _, c := range []struct {
		name  string
		in    flow.ServiceStat
		want  flow.Tier
		gates []string
	}{
		{"DNS, just below notify", serves(53, at14-1, 1400, at14, 70, 1), flow.TierNone, nil},
		{"notify", serves(53, at14, 1400, at14, 70, 1), flow.TierNotify, nil},
		{"just below block", serves(53, at30-1, 1400, at30, 70, 1), flow.TierNotify, nil},
		{"block", serves(53, at30, 1400, at30, 70, 1), flow.TierBlockPort, nil},
		{"answers of 199 bytes", serves(53, 200_000, 199, 200_000, 30, 1), flow.TierNone, nil},
		{"200 bytes", serves(53, 200_000, 200, 200_000, 30, 1), flow.TierBlockPort, nil},
		{"ratio just below 3", serves(53, 200_000, 299, 200_000, 100, 1), flow.TierNone, nil},
		{"ratio 3", serves(53, 200_000, 300, 200_000, 100, 1), flow.TierNotify, nil},
		{"ratio just below 5", serves(53, 200_000, 499, 200_000, 100, 1), flow.TierNotify, nil},
		{"ratio 5", serves(53, 200_000, 500, 200_000, 100, 1), flow.TierBlockPort, nil},
		{"an ordinary NTP server", serves(123, 300_000, 76, 300_000, 76, 1), flow.TierNone, nil},
		{"SSDP at 1:4096, nothing asked was sampled: 20", serves(1900, 20, 300, 0, 0, 4096), flow.TierNone, nil},
		{"21", serves(1900, 21, 300, 0, 0, 4096), flow.TierBlockPort, nil},
		{"no amplifier", serves(51820, 200_000, 1400, 2000, 70, 1), flow.TierNone, nil},
		{"game servers send more than they get", serves(27015, 200_000, 1400, 200_000, 60, 1), flow.TierNotify, []string{GateSharedPort}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaultReflector()
			f, _ := reflector(&cfg, &c.in, minute)
			if f.Tier != c.want || !slices.Equal(f.Gates, c.gates) {
				t.Errorf("%s %v (score %.2f), want %s", f.Tier, f.Gates, f.Score, c.want)
			}
		})
	}
}

// evenly is what n packets to each of a number of remotes look like.
func evenly(remotes, n uint64) flow.Peers {
	return flow.Peers{Remotes: remotes, Packets: remotes * n, Top: n, Squares: remotes * n * n}
}

func TestVictims(t *testing.T) {
	half := evenly(5000, 1) // and one that gets as much as they do together
	half.Remotes, half.Packets, half.Squares = 5001, 10_000, 5000+5000*5000
	for _, c := range []struct {
		name string
		in   flow.Peers
		want bool
	}{
		{"one victim, 6 packets", evenly(1, 6), true},
		{"one packet", evenly(1, 1), false},
		{"20 victims", evenly(20, 100), true},
		{"39 victims", evenly(39, 100_000), true},
		{"41 victims", evenly(41, 100_000), false},
		{"20 victims at 1:4096, 44 packets", flow.Peers{Remotes: 18, Packets: 44, Squares: 44 + 2*47}, true},
		{"of 44 packets 5 pairs are the same", flow.Peers{Remotes: 39, Packets: 44, Squares: 44 + 2*5}, false},
		{"5,000 resolvers", evenly(5000, 200), false},
		{"as many to one as to all others", half, true},
		{"nobody", flow.Peers{}, false},
	} {
		cfg := defaultReflector()
		if got := cfg.victims(c.in); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

var halfHour = flow.Range{From: epoch, To: epoch.Add(30 * time.Minute)}

func TestSpamBoundaries(t *testing.T) {
	cfg := defaultSpam()
	mail := func(packets uint64, n float64) flow.ServiceStat {
		return flow.ServiceStat{Tenant: tenant4, IPProto: flow.ProtoTCP, SvcPort: 25, Rate: n, Counts: flow.Counts{OutPackets: packets, OutRecords: packets}}
	}
	at := minExcessCount(0.2*1800, 14)
	for _, c := range []struct {
		name    string
		stat    flow.ServiceStat
		servers uint64
		want    bool
	}{
		{"1:1, just below", mail(100_000, 1), at - 1, false},
		{"1:1, at it", mail(100_000, 1), at, true},
		{"a smarthost only", mail(100_000, 1), 1, false},
		{"1:4096, 12 servers", mail(60, 4096), 12, false},
		{"1:4096, 13 servers", mail(60, 4096), 13, true},
		{"1:65536, 11 servers", mail(60, 65536), 11, false},
		{"1:65536, 12 servers", mail(60, 65536), 12, true},
		{"more servers than packets", mail(11, 4096), 60, false},
	} {
		f, ok := spam(&cfg, &c.stat, flow.Peers{Remotes: c.servers}, halfHour)
		if ok != c.want || ok && f.Tier != flow.TierNotify {
			t.Errorf("%s: %t %s (score %.2f)", c.name, ok, f.Tier, f.Score)
		}
		if ok && !spamScreen(&cfg, &c.stat, halfHour) {
			t.Errorf("%s: screened out", c.name)
		}
	}
}

func TestBruteforceBoundaries(t *testing.T) {
	cfg := defaultBruteforce()
	// conns connections as flow records, one out and one in each.
	flows := func(conns, packets, bytes uint64) flow.ServiceStat {
		return flow.ServiceStat{Tenant: tenant4, IPProto: flow.ProtoTCP, SvcPort: 22, Rate: 1, Classes: flow.Classes{EstOut: conns, EstIn: conns, SYNACKIn: conns},
			Counts: flow.Counts{OutRecords: conns, OutPackets: conns * packets, OutBytes: conns * bytes}}
	}
	samples := func(syn, packets, size uint64, n float64) flow.ServiceStat {
		return flow.ServiceStat{Tenant: tenant4, IPProto: flow.ProtoTCP, SvcPort: 22, Rate: n, Classes: flow.Classes{SYNOut: syn, SYNACKIn: syn, EstOut: packets - syn},
			Counts: flow.Counts{OutRecords: packets, OutPackets: packets, OutBytes: packets * size}}
	}
	at := minExcessCount(0.2*1800, 14)
	sessions := flows(2000, 20, 2000)
	sessions.SYNACKIn = 50 // the rest are later pieces of long sessions
	for _, c := range []struct {
		name string
		in   flow.ServiceStat
		want bool
	}{
		{"just below R0's threshold", flows(at-1, 15, 2000), false},
		{"at it", flows(at, 15, 2000), true},
		{"5 packets beside the SYN", flows(1000, 6, 2000), true},
		{"4", flows(1000, 5, 2000), false},
		{"40", flows(1000, 41, 2000), true},
		{"41", flows(1000, 42, 2000), false},
		{"599 bytes", flows(1000, 15, 599), false},
		{"600 bytes", flows(1000, 15, 600), true},
		{"6,000 bytes", flows(1000, 15, 6000), true},
		{"6,001 bytes", flows(1000, 15, 6001), false},
		{"long sessions cut by the active timeout", sessions, false},
		{"1:1000, 5/s", samples(9, 135, 150, 1000), true},
		{"1:256, 40 packets, an estimate of 55", samples(14, 14*55, 120, 256), true},
		{"1:256, 60 packets", samples(14, 14*60, 90, 256), false},
		{"1:1000, one long session", samples(0, 135, 150, 1000), false},
	} {
		if f, ok := bruteforce(&cfg, &c.in, halfHour); ok != c.want {
			t.Errorf("%s: %t (score %.2f)", c.name, ok, f.Score)
		}
	}
	for _, c := range []struct {
		name    string
		in      flow.Peers
		seconds float64
		want    bool
	}{
		{"two for 300 s", flow.Peers{Remotes: 2}, 300, false},
		{"three for 300 s", flow.Peers{Remotes: 3}, 300, true},
		{"one for 590 s", flow.Peers{Remotes: 1}, 590, false},
		{"one for 600 s", flow.Peers{Remotes: 1}, 600, true},
		{"29 of 100 known", flow.Peers{Remotes: 100, Known: 29}, 300, true},
		{"30 of 100 known", flow.Peers{Remotes: 100, Known: 30}, 300, false},
		{"nobody", flow.Peers{}, 1800, false},
	} {
		if got := cfg.targets(c.in, 0.3, c.seconds); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

func TestBlockedPortBoundaries(t *testing.T) {
	tries := func(proto uint8, n float64, attempts, distinct, est uint64) flow.ServiceStat {
		return flow.ServiceStat{Tenant: tenant4, IPProto: proto, SvcPort: 445, Rate: n, Attempts: attempts, Distinct: distinct, Classes: flow.Classes{EstOut: est}}
	}
	five := flow.Range{From: epoch, To: epoch.Add(5 * time.Minute)}
	for _, c := range []struct {
		name string
		in   flow.ServiceStat
		r    flow.Range
		want bool
	}{
		{"2 samples", tries(6, 1000, 2, 2, 0), five, false},
		{"3 samples to one", tries(6, 1000, 3, 1, 0), five, false},
		{"3 samples to two", tries(6, 1000, 3, 2, 0), five, true},
		{"1:1, 19 attempts at one", tries(6, 1, 19, 1, 0), five, false},
		{"1:1, 20 attempts at one", tries(6, 1, 20, 1, 0), five, true},
		{"1:1, 20 UDP packets to one", tries(17, 1, 20, 1, 0), five, false},
		{"1:1, 20 UDP packets to two", tries(17, 1, 20, 2, 0), five, true},
		{"1:1, 4 destinations", tries(17, 1, 4, 4, 0), five, false},
		{"1:1, 5 destinations", tries(17, 1, 5, 5, 0), five, true},
		{"1:1, 20 connections", tries(6, 1, 0, 0, 20), five, true},
		{"1:1, half an hour: 119", tries(6, 1, 119, 1, 0), halfHour, false},
		{"1:1, half an hour: 120", tries(6, 1, 120, 1, 0), halfHour, true},
	} {
		cfg := defaultBlockedPort()
		if f, ok := blockedPort(&cfg, &c.in, c.r); ok != c.want || ok && f.Tier != flow.TierNotify {
			t.Errorf("%s: %t %s", c.name, ok, f.Tier)
		}
	}
}

func TestClosedFor(t *testing.T) {
	cfg := defaultBlockedPort()
	cfg.Closed[2].OpenFor = []netip.Prefix{netip.MustParsePrefix("198.18.7.0/28"), netip.MustParsePrefix("2001:db8:7::/48")}
	for _, c := range []struct {
		name   string
		tenant netip.Addr
		tags   []string
		proto  uint8
		port   uint16
		want   bool
	}{
		{"mail", tenant4, nil, flow.ProtoTCP, 25, true},
		{"a mail server's", tenant4, []string{"new", TagMail}, flow.ProtoTCP, 25, false},
		{"another tag", tenant4, []string{TagVPN}, flow.ProtoTCP, 25, true},
		{"25 by UDP", tenant4, nil, flow.ProtoUDP, 25, false},
		{"memcached", tenant4, nil, flow.ProtoUDP, 11211, true},
		{"memcached by TCP", tenant4, nil, flow.ProtoTCP, 11211, false},
		{"the prefix it is open for", tenant4, nil, flow.ProtoTCP, 445, false},
		{"just outside", netip.MustParseAddr("198.18.7.16"), nil, flow.ProtoTCP, 445, true},
		{"open by IPv6", tenant6, nil, flow.ProtoTCP, 445, tenant6 != netip.MustParseAddr("2001:db8:7:9::1")},
		{"an open port", tenant4, nil, flow.ProtoTCP, 443, false},
	} {
		if got := cfg.closedFor(c.tenant, c.tags, c.proto, c.port); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

func TestSpoofedBoundaries(t *testing.T) {
	cfg := defaultSpoofed()
	for _, c := range []struct {
		records uint64
		want    flow.Tier
	}{{9, flow.TierNone}, {10, flow.TierNotify}, {99, flow.TierNotify}, {100, flow.TierBlockPort}} {
		f, _ := spoofed(&cfg, &flow.SpoofStat{Records: c.records, Packets: c.records, Rate: 1000}, tenant4, minute)
		if f.Tier != c.want {
			t.Errorf("%d records: %s", c.records, f.Tier)
		}
	}
	if _, ok := spoofed(&cfg, &flow.SpoofStat{Records: 1000, Rate: 1}, netip.Addr{}, minute); ok {
		t.Error("a finding against nobody")
	}
}

func TestTaggedMailServers(t *testing.T) {
	mailer := func(servers int) *memWindows {
		m := newMemWindows()
		n := uint64(servers)
		k := flow.Key{Start: epoch.Unix(), Tenant: tenant4, Rate: 1}
		m.add(&flow.Batch{Services: []flow.ServiceWindow{{Key: k, IPProto: flow.ProtoTCP, Role: flow.RoleClient, SvcPort: portSMTP,
			Counts: flow.Counts{OutRecords: n, OutPackets: 20 * n}, Attempts: n}}})
		for i := range servers {
			at := epoch.UnixNano() + int64(i)
			m.add(&flow.Batch{Flows: []flow.FlowRow{{Time: at, Start: at, End: at, Tenant: tenant4, Host: tenant4, Remote: netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}),
				SvcPort: portSMTP, Dir: flow.Out, Role: flow.RoleClient, IPProto: flow.ProtoTCP, Packets: 20, Rate: 1}}})
		}
		return m
	}
	for _, c := range []struct {
		name    string
		servers int
		usual   flow.Usual
		times   float64
		want    bool
	}{
		{"as usual", 1000, flow.Usual{P99: 900, Steps: 2000}, 5, false},
		{"five times as many", 4600, flow.Usual{P99: 900, Steps: 2000}, 5, false},
		{"clearly more than five times", 5500, flow.Usual{P99: 900, Steps: 2000}, 5, true},
		{"a new server", 5500, flow.Usual{P99: 10, Steps: usualSteps - 1}, 5, false},
		{"nothing is known", 5500, flow.Usual{}, 5, false},
		{"switched off", 5500, flow.Usual{P99: 900, Steps: 2000}, 0, false},
	} {
		m := mailer(c.servers)
		m.usual = c.usual
		cfg := Defaults()
		cfg.Thresholds.Spam.TaggedTimes = c.times
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		d := New(cfg, Deps{Windows: m, Tags: func(netip.Addr) []string { return []string{TagMail} }})
		var got []flow.Finding
		for _, s := range []int64{10, 45, 60} { // the lengths are due at 45 s past
			for _, f := range tickAt(t, d, s) {
				if f.Rule == flow.RuleSpam {
					got = append(got, f)
				}
			}
		}
		if (len(got) > 0) != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
		if c.want && !strings.Contains(got[0].Reason, "five minutes of it are usually up to 900") {
			t.Errorf("%s: %s", c.name, got[0].Reason)
		}
		if most := 1; m.usualAsked > most || c.times == 0 && m.usualAsked > 0 {
			t.Errorf("%s: asked %d times", c.name, m.usualAsked)
		}
	}
}
