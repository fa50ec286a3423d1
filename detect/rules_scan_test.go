package detect

import (
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

func TestBlockscanBoundaries(t *testing.T) {
	// p raw SYNs to as many pairs, on many addresses and ports.
	tries := func(p uint64, n float64) flow.AttemptStat {
		return flow.AttemptStat{Tenant: tenant4, IPProto: flow.ProtoTCP, Attempts: p, Pairs: p, Remotes: p, Ports: p, TopDistinct: p / 10,
			Rate: n, Classes: flow.Classes{SYNOut: p, RawSYN: p}}
	}
	with := func(s flow.AttemptStat, f func(*flow.AttemptStat)) flow.AttemptStat { f(&s); return s }
	for _, c := range []struct {
		name string
		in   flow.AttemptStat
		want flow.Tier
	}{
		{"14 pairs", tries(14, 4096), flow.TierNone},
		{"15 pairs", tries(15, 4096), flow.TierNotify},
		{"39 pairs", tries(39, 4096), flow.TierNotify},
		{"40 pairs", tries(40, 4096), flow.TierSuspend},
		{"1:1, one below R0's threshold", tries(minExcessCount(600, 14)-1, 1), flow.TierNone},
		{"1:1, at it", tries(minExcessCount(600, 14), 1), flow.TierNotify},
		{"1:1, one below suspend", tries(minExcessCount(600, 30)-1, 1), flow.TierNotify},
		{"1:1, at suspend", tries(minExcessCount(600, 30), 1), flow.TierSuspend},
		{"kernel SYNs over a minute", with(tries(5000, 1), func(s *flow.AttemptStat) { s.RawSYN = 0 }), flow.TierNone},
		{"raw share just below 0.8", with(tries(1000, 256), func(s *flow.AttemptStat) { s.RawSYN = 799 }), flow.TierNone},
		{"raw share 0.8", with(tries(1000, 256), func(s *flow.AttemptStat) { s.RawSYN = 800 }), flow.TierSuspend},
		{"a kernel with TTL 255 that is answered by half", with(tries(1000, 256), func(s *flow.AttemptStat) { s.SYNACKIn, s.EstOut, s.EstIn = 500, 500, 500 }), flow.TierNone},
		{"one port has half of the pairs: netscan", with(tries(1000, 256), func(s *flow.AttemptStat) { s.TopDistinct = 500 }), flow.TierNone},
		{"just below half", with(tries(1000, 256), func(s *flow.AttemptStat) { s.TopDistinct = 499 }), flow.TierSuspend},
		{"11 addresses: portscan", with(tries(1000, 256), func(s *flow.AttemptStat) { s.Remotes = 11 }), flow.TierNone},
		{"12 addresses", with(tries(1000, 256), func(s *flow.AttemptStat) { s.Remotes = 12 }), flow.TierSuspend},
		{"a pool of 40 dead services", with(tries(300, 256), func(s *flow.AttemptStat) { s.Pairs, s.TopDistinct = 40, 4 }), flow.TierNone},
		{"conversations", with(tries(1000, 256), func(s *flow.AttemptStat) { s.RawSYN, s.EstOut, s.EstIn = 0, 300, 300 }), flow.TierNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaultBlockscan()
			if f, ok := blockscan(&cfg, &c.in, minute); f.Tier != c.want || ok != (c.want > flow.TierNone) {
				t.Errorf("%s (score %.2f), want %s", f.Tier, f.Score, c.want)
			}
		})
	}
}

func TestBlockscanKernel(t *testing.T) {
	cfg := defaultBlockscan()
	s := flow.AttemptStat{Tenant: tenant4, IPProto: flow.ProtoTCP, Pairs: 50_000, Remotes: 50_000, TopDistinct: 10, Rate: 1, Classes: flow.Classes{SYNOut: 50_000}}
	for secs, want := range map[int]flow.Tier{60: flow.TierNone, 290: flow.TierNone, 300: flow.TierNotify, 1800: flow.TierNotify} {
		r := flow.Range{From: epoch, To: epoch.Add(time.Duration(secs) * time.Second)}
		if f, _ := blockscan(&cfg, &s, r); f.Tier != want {
			t.Errorf("%d s: %s, want %s", secs, f.Tier, want)
		}
	}
}

// asks is a service's statistic of u requests to as many destinations.
func asks(proto uint8, port uint16, u uint64, n float64) flow.ServiceStat {
	return flow.ServiceStat{Tenant: tenant4, IPProto: proto, SvcPort: port, Attempts: u, Distinct: u, Rate: n,
		Counts: flow.Counts{OutRecords: u, OutPackets: u, OutBytes: 60 * u}}
}

func TestUDPSweepBoundaries(t *testing.T) {
	with := func(s flow.ServiceStat, f func(*flow.ServiceStat)) flow.ServiceStat { f(&s); return s }
	ask := func(u uint64, n float64) flow.ServiceStat { return asks(flow.ProtoUDP, 1900, u, n) }
	for _, c := range []struct {
		name string
		in   flow.ServiceStat
		want flow.Tier
	}{
		{"45 destinations: Λ is 13.95", ask(45, 4096), flow.TierNone},
		{"46 destinations", ask(46, 4096), flow.TierNotify},
		{"96 destinations", ask(96, 4096), flow.TierNotify},
		{"97 destinations", ask(97, 4096), flow.TierSuspend},
		{"1:1, one below R0's threshold", ask(minExcessCount(60, 14)-1, 1), flow.TierNone},
		{"1:1, at it", ask(minExcessCount(60, 14), 1), flow.TierNotify},
		{"1:1, one below suspend", ask(minExcessCount(60, 30)-1, 1), flow.TierNotify},
		{"1:1, at suspend", ask(minExcessCount(60, 30), 1), flow.TierSuspend},
		{"24 % answered has no drift", with(ask(10_000, 1), func(s *flow.ServiceStat) { s.InRecords = 2400 }), flow.TierNone},
		{"a resolver, 70 % answered", with(ask(100_000, 1), func(s *flow.ServiceStat) { s.InRecords = 70_000 }), flow.TierNone},
		{"2 % answered", with(ask(1000, 1), func(s *flow.ServiceStat) { s.InRecords = 20 }), flow.TierSuspend},
		{"a pool of 200", with(ask(3000, 256), func(s *flow.ServiceStat) { s.Distinct = 200 }), flow.TierNotify},
		{"a pool of 40", with(ask(3000, 256), func(s *flow.ServiceStat) { s.Distinct = 40 }), flow.TierNone},
		{"media of 701 bytes", with(ask(1000, 256), func(s *flow.ServiceStat) { s.OutBytes = 701 * 1000 }), flow.TierNotify},
		{"700 bytes", with(ask(1000, 256), func(s *flow.ServiceStat) { s.OutBytes = 700 * 1000 }), flow.TierSuspend},
		{"p2p port", with(ask(1000, 256), func(s *flow.ServiceStat) { s.SvcPort = 6881 }), flow.TierNotify},
		{"before traceroute's ports", with(ask(1000, 256), func(s *flow.ServiceStat) { s.SvcPort = 33433 }), flow.TierSuspend},
		{"traceroute", with(ask(1000, 256), func(s *flow.ServiceStat) { s.SvcPort = 33434 }), flow.TierNone},
		{"traceroute's last", with(ask(1000, 256), func(s *flow.ServiceStat) { s.SvcPort = 33690 }), flow.TierNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaultUDPSweep()
			if f, _ := udpSweep(&cfg, defaultPorts(), &c.in, minute); f.Tier != c.want {
				t.Errorf("%s (score %.2f), want %s", f.Tier, f.Score, c.want)
			}
		})
	}
}

func TestICMPSweepBoundaries(t *testing.T) {
	with := func(s flow.ServiceStat, f func(*flow.ServiceStat)) flow.ServiceStat { f(&s); return s }
	ping := func(u uint64, n float64) flow.ServiceStat { return asks(flow.ProtoICMP, 0, u, n) }
	for _, c := range []struct {
		name string
		in   flow.ServiceStat
		want flow.Tier
	}{
		{"45 destinations", ping(45, 4096), flow.TierNone},
		{"46 destinations", ping(46, 4096), flow.TierNotify},
		{"97 destinations, 18 silent ones prove no share", ping(97, 4096), flow.TierNotify},
		{"115 destinations", ping(115, 4096), flow.TierSuspend},
		{"1:1, below R0's threshold", ping(minExcessCount(60, 14)-1, 1), flow.TierNone},
		{"1:1, at it", ping(minExcessCount(60, 14), 1), flow.TierNotify},
		{"1:1, suspend has an R0 of its own", ping(minExcessCount(120, 30)-1, 1), flow.TierNotify},
		{"1:1, at it", ping(minExcessCount(120, 30), 1), flow.TierSuspend},
		{"a monitor, 95 % reply", with(ping(12_000, 1), func(s *flow.ServiceStat) { s.InRecords = 11_400 }), flow.TierNone},
		{"a tenth replies", with(ping(3000, 1), func(s *flow.ServiceStat) { s.InRecords = 300 }), flow.TierSuspend},
		{"IPv6", with(ping(200, 256), func(s *flow.ServiceStat) { s.IPProto = flow.ProtoICMPv6 }), flow.TierSuspend},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaultICMPSweep()
			if f, _ := icmpSweep(&cfg, &c.in, minute); f.Tier != c.want {
				t.Errorf("%s (score %.2f, proof %.1f), want %s", f.Tier, f.Score, shortfall(float64(c.in.InRecords), float64(c.in.Attempts), 0.3), c.want)
			}
		})
	}
}

func TestSweptTwice(t *testing.T) {
	whole := sweepCounts{u: 200, s: 200, n: 1000}
	for _, c := range []struct {
		name string
		late sweepCounts
		want bool
	}{
		{"half and half", sweepCounts{u: 100, s: 100, n: 1000}, true},
		{"the same destinations again", sweepCounts{u: 190, s: 200, n: 1000}, false},
		{"nearly all early", sweepCounts{u: 10, s: 10, n: 1000}, false},
		{"the later part at a thicker rate", sweepCounts{u: 1000, s: 1000, n: 100}, true},
	} {
		if got := sweptTwice(whole, c.late, 1, 60, 30, 10); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
