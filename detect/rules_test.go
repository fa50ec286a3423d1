package detect

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

var (
	remote = netip.MustParseAddr("151.101.0.1")
	minute = flow.Range{From: epoch, To: epoch.Add(time.Minute)}
)

func defaultPorts() *portTable { c := defaultPortClasses(); return c.table() }

// scan is a service's statistic of u raw SYNs to as many destinations.
func scan(u uint64, n float64, port uint16) flow.ServiceStat {
	return flow.ServiceStat{Tenant: tenant4, IPProto: flow.ProtoTCP, SvcPort: port, Attempts: u, Distinct: u, Rate: n,
		Classes: flow.Classes{SYNOut: u, RawSYN: u}, Counts: flow.Counts{OutRecords: u, OutPackets: u, OutBytes: 44 * u}}
}

func TestNetscanBoundaries(t *testing.T) {
	kernel := func(u uint64) flow.ServiceStat { s := scan(u, 1000, 22); s.RawSYN = 0; return s }
	with := func(s flow.ServiceStat, f func(*flow.ServiceStat)) flow.ServiceStat { f(&s); return s }
	for _, c := range []struct {
		name string
		in   flow.ServiceStat
		want flow.Tier
	}{
		{"11 destinations", scan(11, 1000, 22), flow.TierNone},
		{"12 destinations", scan(12, 1000, 22), flow.TierNotify},
		{"raw, 29 destinations", scan(29, 1000, 22), flow.TierNotify},
		{"raw, 30 destinations", scan(30, 1000, 22), flow.TierSuspend},
		{"kernel, 59 destinations", kernel(59), flow.TierNotify},
		{"kernel, 60 destinations", kernel(60), flow.TierSuspend},
		{"raw share just below 0.8", with(scan(50, 1000, 22), func(s *flow.ServiceStat) { s.RawSYN = 39 }), flow.TierNotify},
		{"raw share exactly 0.8", with(scan(50, 1000, 22), func(s *flow.ServiceStat) { s.RawSYN = 40 }), flow.TierSuspend},
		// 1:1: D(c, 0.5·60) reaches 14 at 64 and 30 at 80.
		{"1:1, one below R0's threshold", scan(minExcessCount(30, 14)-1, 1, 22), flow.TierNone},
		{"1:1, at R0's threshold", scan(minExcessCount(30, 14), 1, 22), flow.TierNotify},
		{"1:1, one below suspend", scan(minExcessCount(30, 30)-1, 1, 22), flow.TierNotify},
		{"1:1, at suspend", scan(minExcessCount(30, 30), 1, 22), flow.TierSuspend},
		{"the same on a web port", scan(minExcessCount(30, 30), 1, 443), flow.TierNone},
		{"web port at its own threshold", scan(minExcessCount(300, 30), 1, 443), flow.TierSuspend},
		{"other port, R0 2/s, below", scan(minExcessCount(120, 30)-1, 1, 1234), flow.TierNotify},
		{"other port, R0 2/s, at", scan(minExcessCount(120, 30), 1, 1234), flow.TierSuspend},
		{"answered by SYN-ACKs", with(scan(60, 1000, 22), func(s *flow.ServiceStat) { s.SYNACKIn = 40 }), flow.TierNone},
		{"conversations", with(kernel(60), func(s *flow.ServiceStat) { s.EstOut, s.EstIn = 20, 20 }), flow.TierNone},
		{"refusals are neutral", with(scan(60, 1000, 22), func(s *flow.ServiceStat) { s.RSTIn = 60 }), flow.TierSuspend},
		{"a pool of 40", with(scan(300, 1000, 22), func(s *flow.ServiceStat) { s.Distinct = 40 }), flow.TierNone},
		{"distinct above the SYNs is cut", with(scan(11, 1000, 22), func(s *flow.ServiceStat) { s.Distinct = 4096 }), flow.TierNone},
		{"no SYNs at all", with(scan(300, 1, 22), func(s *flow.ServiceStat) { s.SYNOut, s.RawSYN, s.NoFlags = 0, 0, 300 }), flow.TierNone},
		{"no rate counts as 1", with(scan(50, 0, 22), func(*flow.ServiceStat) {}), flow.TierNone},
		{"p2p port", scan(6000, 1, 6881), flow.TierNotify},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, pc := defaultNetscan(), defaultPorts()
			f, ok := netscan(&cfg, pc, &c.in, minute)
			if f.Tier != c.want || ok != (c.want != flow.TierNone) {
				t.Errorf("%s (score %.2f), want %s", f.Tier, f.Score, c.want)
			}
		})
	}
}

func TestNetscanNamesTheP2PGate(t *testing.T) {
	cfg, pc := defaultNetscan(), defaultPorts()
	s := scan(6000, 1, 6881)
	if f, _ := netscan(&cfg, pc, &s, minute); !slices.Equal(f.Gates, []string{GateP2PPort}) {
		t.Errorf("gates %v", f.Gates)
	}
}

func TestPortscanBoundaries(t *testing.T) {
	tries := func(p uint64, n float64) flow.PairStat {
		return flow.PairStat{Tenant: tenant4, Remote: remote, IPProto: flow.ProtoTCP, Ports: p, Rate: n, Classes: flow.Classes{SYNOut: p}}
	}
	with := func(s flow.PairStat, f func(*flow.PairStat)) flow.PairStat { f(&s); return s }
	for _, c := range []struct {
		name string
		in   flow.PairStat
		want flow.Tier
	}{
		{"11 ports: Λa is 13.2", tries(11, 1000), flow.TierNone},
		{"12 ports", tries(12, 1000), flow.TierNotify},
		{"24 ports", tries(24, 1000), flow.TierNotify},
		{"25 ports", tries(25, 1000), flow.TierSuspend},
		{"1:1, below R0's threshold", tries(minExcessCount(0.33*60, 14)-1, 1), flow.TierNone},
		{"1:1, at it", tries(minExcessCount(0.33*60, 14), 1), flow.TierNotify},
		{"passive FTP", with(tries(1800, 1), func(p *flow.PairStat) { p.EstOut, p.EstIn, p.SYNACKIn = 5400, 5400, 1800 }), flow.TierNone},
		{"40 services of a dead host", with(tries(40, 256), func(p *flow.PairStat) { p.SYNOut = 300 }), flow.TierNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaultPortscan()
			if f, _ := portscan(&cfg, &c.in, minute); f.Tier != c.want {
				t.Errorf("%s (score %.2f), want %s", f.Tier, f.Score, c.want)
			}
		})
	}
}

func TestSYNFloodBoundaries(t *testing.T) {
	flood := func(syn, est, rst uint64, n float64) flow.PairStat {
		return flow.PairStat{Tenant: tenant4, Remote: remote, IPProto: flow.ProtoTCP, SYNPackets: syn, EstOutPackets: est, RSTInPackets: rst, Rate: n}
	}
	at14, at30 := minExcessCount(30000, 14), minExcessCount(30000, 30)
	for _, c := range []struct {
		name  string
		in    flow.PairStat
		want  flow.Tier
		gates []string
	}{
		{"just below notify", flood(at14-1, 0, 0, 1), flow.TierNone, nil},
		{"notify", flood(at14, 0, 0, 1), flow.TierNotify, nil},
		{"just below suspend", flood(at30-1, 0, 0, 1), flow.TierNotify, nil},
		{"suspend", flood(at30, 0, 0, 1), flow.TierSuspend, nil},
		{"established share just below 0.2", flood(50000, 9999, 0, 1), flow.TierSuspend, nil},
		{"established share 0.2", flood(50000, 10000, 0, 1), flow.TierNotify, nil},
		{"completed connections", flood(50000, 100000, 0, 1), flow.TierNone, nil},
		{"refusals just below half", flood(50000, 0, 24999, 1), flow.TierSuspend, nil},
		{"refused loop", flood(50000, 0, 25000, 1), flow.TierNotify, []string{GateRefused}},
		// With few samples the proportions must be proved, not only met.
		{"43 samples, none completed or refused", flood(44, 0, 0, 65536), flow.TierSuspend, nil},
		{"43 samples, a third refused", flood(44, 0, 15, 65536), flow.TierNotify, []string{GateRefused}},
		{"30 samples prove nothing yet", flood(30, 0, 0, 65536), flow.TierNotify, nil},
		{"20 samples", flood(20, 0, 0, 65536), flow.TierNone, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaultSYNFlood()
			f, _ := synFlood(&cfg, &c.in, minute)
			if f.Tier != c.want || !slices.Equal(f.Gates, c.gates) {
				t.Errorf("%s %v (score %.2f), want %s %v", f.Tier, f.Gates, f.Score, c.want, c.gates)
			}
		})
	}
}

func TestUDPFloodBoundaries(t *testing.T) {
	flood := func(out, in uint64, size uint64, n float64) flow.PairStat {
		return flow.PairStat{Tenant: tenant4, Remote: remote, IPProto: flow.ProtoUDP, Rate: n,
			Counts: flow.Counts{OutPackets: out, InPackets: in, OutBytes: out * size}}
	}
	at14, at30 := minExcessCount(900_000, 14), minExcessCount(900_000, 30)
	for _, c := range []struct {
		name string
		in   flow.PairStat
		want flow.Tier
	}{
		{"just below notify", flood(at14-1, 0, 100, 1), flow.TierNone},
		{"notify", flood(at14, 0, 100, 1), flow.TierNotify},
		{"just below suspend", flood(at30-1, 0, 100, 1), flow.TierNotify},
		{"suspend", flood(at30, 0, 100, 1), flow.TierSuspend},
		{"return just below 0.02", flood(2_000_000, 39_999, 100, 1), flow.TierSuspend},
		{"return 0.02", flood(2_000_000, 40_000, 100, 1), flow.TierNotify},
		{"return 0.05", flood(2_000_000, 100_000, 100, 1), flow.TierNone},
		{"286 samples without return prove nothing", flood(286, 0, 100, 65536), flow.TierNone},
		{"287 do", flood(287, 0, 100, 65536), flow.TierNotify},
		// 400 Mbit/s in jumbo frames of 9,000 B are 5,556 packets/s.
		{"399 Mbit/s in 9,000 B", flood(332_500, 0, 9000, 1), flow.TierNone},
		{"420 Mbit/s in 9,000 B", flood(350_000, 0, 9000, 1), flow.TierSuspend},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaultUDPFlood()
			f, _ := udpFlood(&cfg, &c.in, minute)
			if f.Tier != c.want {
				t.Errorf("%s (score %.2f), want %s", f.Tier, f.Score, c.want)
			}
		})
	}
}

func TestReasons(t *testing.T) {
	cfg, pc, pcfg, scfg, ucfg := defaultNetscan(), defaultPorts(), defaultPortscan(), defaultSYNFlood(), defaultUDPFlood()
	s := scan(1204, 1, 22)
	s.SYNACKIn = 3
	f, _ := netscan(&cfg, pc, &s, minute)
	sampledScan := scan(31, 1000, 22)
	g, _ := netscan(&cfg, pc, &sampledScan, minute)
	p, _ := portscan(&pcfg, &flow.PairStat{Remote: remote, Ports: 1000, Rate: 1, Classes: flow.Classes{SYNOut: 1000}}, minute)
	loop, _ := synFlood(&scfg, &flow.PairStat{Remote: remote, SYNPackets: 180000, RSTInPackets: 180000, Rate: 1}, minute)
	u, _ := udpFlood(&ucfg, &flow.PairStat{Remote: remote, Rate: 1000, Counts: flow.Counts{OutPackets: 6000, OutBytes: 8400000}}, minute)
	for got, want := range map[string]string{
		f.Reason:    "contacted 1,204 different addresses on TCP port 22 in 60 s; 3 answered",
		g.Reason:    "contacted 31 different addresses on TCP port 22 in 60 s (seen in a sample of 1 in 1,000 packets); none of the sampled packets were answers",
		p.Reason:    "tried 1,000 different TCP ports of 151.101.0.1 in 60 s; none answered",
		loop.Reason: "sent 3,000 TCP connection requests per second to 151.101.0.1 for 60 s and completed almost none; the other side refused them, as with a program that reconnects in a loop",
		u.Reason:    "sent about 100,000 UDP packets per second (1,120 Mbit/s) to 151.101.0.1 for 60 s and got almost nothing back (seen in a sample of 1 in 1,000 packets)",
	} {
		if got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
}

func TestHold(t *testing.T) {
	f := flow.Finding{Tier: flow.TierNotify}
	hold(&f, GateEvidence)
	if f.Tier != flow.TierNotify || f.Gates != nil {
		t.Errorf("a finding that never reached suspend was given gates: %v", f.Gates)
	}
	f = flow.Finding{Tier: flow.TierSuspend}
	hold(&f, GateEvidence)
	hold(&f, GatePersistence)
	if f.Tier != flow.TierNotify || !slices.Equal(f.Gates, []string{GateEvidence, GatePersistence}) {
		t.Errorf("%s %v", f.Tier, f.Gates)
	}
}

func TestHostGates(t *testing.T) {
	th := Defaults().Thresholds
	base := flow.Finding{Rule: flow.RuleNetscan, IPProto: flow.ProtoTCP, Tier: flow.TierSuspend, Samples: 40, Distinct: 40, SamplingRate: 1, From: minute.From, To: minute.To}
	for _, c := range []struct {
		name string
		host *flow.HostStat
		edit func(*flow.Finding)
		want []string
	}{
		{"clean", &flow.HostStat{Classes: flow.Classes{SYNOut: 40}}, nil, nil},
		{"no totals", nil, nil, []string{GateHostMissing}},
		{"5 % without flags", &flow.HostStat{Classes: flow.Classes{SYNOut: 95, NoFlags: 5}, Counts: flow.Counts{}}, func(f *flow.Finding) { f.Samples, f.Distinct = 95, 95 }, nil},
		{"6 % without flags", &flow.HostStat{Classes: flow.Classes{SYNOut: 94, NoFlags: 6}}, func(f *flow.Finding) { f.Samples, f.Distinct = 94, 94 }, []string{GateNoFlags}},
		{"half of the destinations", &flow.HostStat{Classes: flow.Classes{SYNOut: 80}}, nil, nil},
		{"less than half", &flow.HostStat{Classes: flow.Classes{SYNOut: 81}}, nil, []string{GatePortShare}},
		{"less than half at 50 a second", &flow.HostStat{Classes: flow.Classes{SYNOut: 81}}, func(f *flow.Finding) { f.SamplingRate = 75 }, nil},
		{"less than half, just below 50 a second", &flow.HostStat{Classes: flow.Classes{SYNOut: 81}}, func(f *flow.Finding) { f.SamplingRate = 74.9 }, []string{GatePortShare}},
		{"nothing comes in", &flow.HostStat{Classes: flow.Classes{SYNOut: 40, EstOut: 1000}}, nil, []string{GateNoIncoming}},
		{"little comes in", &flow.HostStat{Classes: flow.Classes{SYNOut: 40, EstOut: 1000}, Counts: flow.Counts{InRecords: 20}}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := base
			if c.edit != nil {
				c.edit(&f)
			}
			if c.host != nil {
				c.host.Rate = f.SamplingRate
			}
			th.hostGates(&f, c.host, ownShare{})
			if !slices.Equal(f.Gates, c.want) {
				t.Errorf("gates %v, want %v", f.Gates, c.want)
			}
		})
	}
}

// One tenant that sends ACKs into the void must not silence the others' alarms.
func TestDeafFleet(t *testing.T) {
	pairs := func(tenants int, est, in uint64) []flow.PairStat {
		var out []flow.PairStat
		a := tenant4
		for range tenants {
			out = append(out, flow.PairStat{Tenant: a, EstOutPackets: est, Counts: flow.Counts{InPackets: in}})
			a = a.Next()
		}
		return out
	}
	for _, c := range []struct {
		name  string
		stats []flow.PairStat
		want  bool
	}{
		{"nobody", nil, false},
		{"one ACK flood", pairs(1, 1e9, 0), false},
		{"two tenants", pairs(2, 1e6, 0), false},
		{"three tenants without incoming packets", pairs(3, 1e6, 0), true},
		{"three that receive", pairs(3, 1e6, 1e5), false},
	} {
		f := fleet{}
		f.see(c.stats)
		if f.deaf() != c.want {
			t.Errorf("%s: %t", c.name, f.deaf())
		}
	}
}
