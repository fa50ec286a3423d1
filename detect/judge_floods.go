package detect

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// This file runs the rules of one tenant and one remote.

func (t *tickState) synFlood() error {
	cfg := &t.d.loose.SYNFlood
	err := t.flood(floodRule{
		pairs: t.pairsOf(flow.ProtoTCP), rule: flow.RuleSYNFlood, windowsS: cfg.WindowsS, least: leastPackets(cfg.NotifyScore, ackPerSYN),
		judge: func(p *flow.PairStat, r flow.Range) (flow.Finding, bool) {
			return synFlood(&t.th(p.Tenant).SYNFlood, p, r)
		},
		packets: func(p *flow.PairStat) uint64 { return p.SYNPackets },
		goesOn: func(p *flow.PairStat, rest, n, secs float64) bool {
			return t.th(p.Tenant).SYNFlood.goesOn(rest, n, secs)
		},
		prepare: func(r flow.Range, stats []flow.PairStat) error {
			if t.tcpPairs == nil {
				t.tcpPairs = map[flow.Range]tcpPairs{}
			}
			t.tcpPairs[r] = tcpPairs{leastPackets(cfg.NotifyScore, ackPerSYN), stats}
			return nil
		},
		see: t.fleet.see, confirm: t.reconnects,
	})
	if err != nil {
		return err
	}
	return t.synCarpet() // which leaves out what was judged here
}

func (t *tickState) udpFlood() error {
	cfg := &t.d.loose.UDPFlood
	if err := t.carpet(); err != nil {
		return err
	}
	return t.flood(floodRule{
		pairs: t.pairsOf(flow.ProtoUDP), rule: flow.RuleUDPFlood, windowsS: cfg.WindowsS, least: leastPackets(cfg.NotifyScore, cfg.NotifyReturn),
		judge: func(p *flow.PairStat, r flow.Range) (flow.Finding, bool) {
			return udpFlood(&t.th(p.Tenant).UDPFlood, p, r)
		},
		packets: func(p *flow.PairStat) uint64 { return p.OutPackets },
		tests: func(p *flow.PairStat) float64 {
			return t.th(p.Tenant).UDPFlood.packetRate(p.OutPackets, p.OutBytes)
		},
		ports: true,
		goesOn: func(p *flow.PairStat, rest, n, secs float64) bool {
			own := &t.th(p.Tenant).UDPFlood
			return own.goesOn(rest, own.packetRate(p.OutPackets, p.OutBytes), n, secs)
		},
	})
}

// leastPings is the screen of the ping flood: at a thousandth of a sample
// expected, fewer are not above notify's score either.
const leastPings = 3

func (t *tickState) icmpFlood() error {
	cfg := &t.d.loose.ICMPFlood
	for _, proto := range []uint8{flow.ProtoICMP, flow.ProtoICMPv6} {
		var totals map[netip.Addr]icmpTotals
		err := t.flood(floodRule{
			pairs: t.pairsOf(proto), rule: flow.RuleICMPFlood, windowsS: cfg.WindowsS, least: leastPings,
			prepare: func(r flow.Range, stats []flow.PairStat) (err error) {
				totals, err = t.icmpTotals(r, proto, stats)
				return err
			},
			judge: func(p *flow.PairStat, r flow.Range) (flow.Finding, bool) {
				return icmpFlood(&t.th(p.Tenant).ICMPFlood, p, totals[p.Tenant], r)
			},
			packets: func(p *flow.PairStat) uint64 { return p.OutPackets },
			tests:   func(p *flow.PairStat) float64 { return t.th(p.Tenant).ICMPFlood.tests(p) },
			goesOn: func(p *flow.PairStat, rest, n, secs float64) bool {
				out := float64(p.OutPackets)
				return t.th(p.Tenant).ICMPFlood.goesOn(rest, totals[p.Tenant].echoAtLeast(out, n)/out, n, secs)
			},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// icmpTotals returns what the tenants of the pairs sent by ICMP in all.
func (t *tickState) icmpTotals(r flow.Range, proto uint8, pairs []flow.PairStat) (map[netip.Addr]icmpTotals, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	tenants := make([]netip.Addr, len(pairs))
	for i := range pairs {
		tenants[i] = pairs[i].Tenant
	}
	slices.SortFunc(tenants, netip.Addr.Compare)
	tenants = slices.Compact(tenants)
	hosts, err := t.d.deps.Windows.HostStats(t.ctx, r, tenants)
	if err != nil {
		return nil, fmt.Errorf("host totals: %w", err)
	}
	// By packets: a flow record of a minute is one attempt.
	echo, err := t.d.deps.Windows.ServiceTotals(flow.Among(t.ctx, tenants), r, flow.ServiceQuery{IPProto: proto, Role: flow.RoleClient, MinOutPackets: leastPings})
	if err != nil {
		return nil, fmt.Errorf("service windows: %w", err)
	}
	out := make(map[netip.Addr]icmpTotals, len(hosts))
	for i := range hosts {
		out[hosts[i].Tenant] = icmpTotals{all: float64(hosts[i].ICMPOutPackets), n: effectiveRate(hosts[i].Rate)}
	}
	for i := range echo {
		if h, ok := out[echo[i].Tenant]; ok {
			h.echo += float64(echo[i].OutPackets) * effectiveRate(echo[i].Rate) / h.n
			out[echo[i].Tenant] = h
		}
	}
	return out, nil
}

func (t *tickState) packetFlood() error {
	cfg := &t.d.loose.PacketFlood
	rule := floodRule{
		rule: flow.RulePacketFlood, windowsS: cfg.WindowsS, least: leastPackets(cfg.NotifyScore, cfg.Return),
		judge: func(p *flow.PairStat, r flow.Range) (flow.Finding, bool) {
			return packetFlood(&t.th(p.Tenant).PacketFlood, p, r)
		},
		packets: floodPackets,
		goesOn: func(p *flow.PairStat, rest, n, secs float64) bool {
			return t.th(p.Tenant).PacketFlood.goesOn(rest, n, secs)
		},
		own:   func(p *flow.PairStat) ownShare { return ownShare{estOut: p.EstOut, in: p.InRecords} },
		heard: func(p *flow.PairStat) bool { return t.th(p.Tenant).PacketFlood.mayBeHonest(p) },
	}
	for _, pairs := range []func(flow.Range, uint64) ([]flow.PairStat, error){
		t.knownTCPPairs,
		func(r flow.Range, least uint64) ([]flow.PairStat, error) {
			return t.d.deps.Windows.OtherPairStats(t.ctx, r, least)
		},
	} {
		rule.pairs = pairs
		if err := t.flood(rule); err != nil {
			return err
		}
	}
	return t.packetCarpet()
}

// floodRule is what the flood rules differ in.
type floodRule struct {
	rule     flow.Rule
	pairs    func(r flow.Range, minOutPackets uint64) ([]flow.PairStat, error)
	prepare  func(r flow.Range, stats []flow.PairStat) error // before they are judged; nil: nothing
	windowsS []int
	least    uint64 // packets below which no proportion can be proved
	judge    func(*flow.PairStat, flow.Range) (flow.Finding, bool)
	packets  func(*flow.PairStat) uint64  // those that are the flood
	tests    func(*flow.PairStat) float64 // what one remote may get, packets/s, where tests in short runs look the same; 0, or nil for all: they do not
	ports    bool                         // there are ports that tests go to
	goesOn   func(p *flow.PairStat, rest, n, secs float64) bool
	see      func([]flow.PairStat) // gets the pairs of the longest range; nil: nobody
	// own is the part of the tenant's totals that the pair itself is; nil: not
	// told apart.
	own func(*flow.PairStat) ownShare
	// heard says that the finding needs an export that shows what comes in;
	// nil: never.
	heard func(*flow.PairStat) bool
	// confirm gets a suspension that persists and may hold it; nil: none is held.
	confirm func(*flow.Finding, *flow.PairStat) error
}

// tcpPairs are the pairs of a range with at least least outgoing packets.
type tcpPairs struct {
	least uint64
	stats []flow.PairStat
}

// knownTCPPairs gives packet_flood what syn_flood has asked for already: they
// are the same pairs and more.
func (t *tickState) knownTCPPairs(r flow.Range, least uint64) ([]flow.PairStat, error) {
	if p, ok := t.tcpPairs[r]; ok && p.least <= least {
		return p.stats, nil
	}
	return t.pairsOf(flow.ProtoTCP)(r, least)
}

// pairsOf asks for the pairs of one protocol.
func (t *tickState) pairsOf(ipProto uint8) func(flow.Range, uint64) ([]flow.PairStat, error) {
	return func(r flow.Range, least uint64) ([]flow.PairStat, error) {
		return t.d.deps.Windows.PairStats(t.ctx, r, ipProto, least, 0)
	}
}

func (t *tickState) flood(rule floodRule) error {
	lengths := t.dueLengths(rule.rule, rule.windowsS)
	for _, length := range lengths {
		if r, ok := lastWindow(t.ts, length); ok {
			if err := t.floodOver(rule, r, length, lengths); err != nil {
				return err
			}
		}
		if err := t.floodOver(rule, span(t.ts, length), length, lengths); err != nil {
			return err
		}
	}
	return nil
}

// floodOver judges a flood rule over one range.
func (t *tickState) floodOver(rule floodRule, r flow.Range, length time.Duration, lengths []time.Duration) error {
	stats, err := rule.pairs(r, rule.least)
	if err != nil {
		return fmt.Errorf("pair windows of %s: %w", seconds(length), err)
	}
	if rule.see != nil && length == slices.Max(lengths) {
		rule.see(stats)
	}
	if rule.prepare != nil {
		if err := rule.prepare(r, stats); err != nil {
			return err
		}
	}
	var fs []flow.Finding
	open := map[pairKey]*flow.PairStat{}
	for i := range stats {
		f, ok := rule.judge(&stats[i], r)
		if !ok {
			continue
		}
		t.evidence(&f)
		if f.Tier == flow.TierSuspend {
			if rule.heard != nil && rule.heard(&stats[i]) {
				if err := t.needsIncoming(&f, r, rule.own(&stats[i])); err != nil {
					return err
				}
			}
			open[pairKey{f.Tenant, f.Remote}] = &stats[i]
		}
		fs = append(fs, f)
	}
	rests, err := t.withoutPeak(rule, r, length, open)
	if err != nil {
		return err
	}
	var own func(*flow.Finding) ownShare
	if rule.own != nil {
		all := map[netip.Addr]ownShare{} // who floods six hosts must not be held by the other five
		for k, p := range open {
			o := rule.own(p)
			all[k.tenant] = ownShare{estOut: all[k.tenant].estOut + o.estOut, in: all[k.tenant].in + o.in}
		}
		own = func(f *flow.Finding) ownShare { return all[f.Tenant] }
	}
	persists := func(f *flow.Finding) bool {
		k := pairKey{f.Tenant, f.Remote}
		left, judged := rests[k]
		return judged && rule.goesOn(open[k], left.packets, f.SamplingRate, left.seconds)
	}
	for i := range fs {
		if f := &fs[i]; rule.confirm != nil && f.Tier > flow.TierNotify && persists(f) {
			if err := rule.confirm(f, open[pairKey{f.Tenant, f.Remote}]); err != nil {
				return err
			}
		}
	}
	return t.keepAll(r, length, fs, persists, own)
}
