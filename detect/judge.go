package detect

import (
	"fmt"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// This file asks for the sums that each rule needs, screens them in the store
// by bounds that no finding can be below, and lets the rules judge.

func (t *tickState) netscan() error {
	cfg := &t.d.cfg.Thresholds.Netscan
	for _, length := range t.dueLengths(cfg.WindowsS) {
		r := span(t.ts, length)
		// Attempts ≥ SYNs ≥ distinct destinations ≥ the least that any tier needs.
		stats, err := t.d.deps.Windows.ServiceStats(t.ctx, r, flow.ProtoTCP, cfg.NotifyDistinct)
		if err != nil {
			return fmt.Errorf("service windows of %s: %w", seconds(length), err)
		}
		var fs []flow.Finding
		open := map[serviceKey]scanCounts{} // suspensions that must persist
		for i := range stats {
			f, ok := netscan(cfg, t.d.ports, &stats[i], r)
			if !ok {
				continue
			}
			t.evidence(&f)
			if f.Tier == flow.TierSuspend {
				open[serviceKey{f.Tenant, f.Port}] = serviceCounts(&stats[i])
			}
			fs = append(fs, f)
		}
		if err := t.scansTwice(cfg, r, length, open); err != nil {
			return err
		}
		err = t.keepAll(r, length, fs, func(f *flow.Finding) bool { _, still := open[serviceKey{f.Tenant, f.Port}]; return !still })
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tickState) portscan() error {
	cfg := &t.d.cfg.Thresholds.Portscan
	for _, length := range t.dueLengths(cfg.WindowsS) {
		r := span(t.ts, length)
		stats, err := t.d.deps.Windows.PairStats(t.ctx, r, flow.ProtoTCP, 0, cfg.NotifyPorts)
		if err != nil {
			return fmt.Errorf("pair windows of %s: %w", seconds(length), err)
		}
		var fs []flow.Finding
		open := map[pairKey]scanCounts{}
		for i := range stats {
			f, ok := portscan(cfg, &stats[i], r)
			if !ok {
				continue
			}
			t.evidence(&f)
			if f.Tier == flow.TierSuspend {
				open[pairKey{f.Tenant, f.Remote}] = pairCounts(&stats[i])
			}
			fs = append(fs, f)
		}
		if err := t.triesTwice(cfg, r, length, open); err != nil {
			return err
		}
		err = t.keepAll(r, length, fs, func(f *flow.Finding) bool { _, still := open[pairKey{f.Tenant, f.Remote}]; return !still })
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tickState) synFlood() error {
	cfg := &t.d.cfg.Thresholds.SYNFlood
	return t.flood(floodRule{
		proto: flow.ProtoTCP, windowsS: cfg.WindowsS, least: leastPackets(cfg.NotifyScore, ackPerSYN),
		judge:   func(p *flow.PairStat, r flow.Range) (flow.Finding, bool) { return synFlood(cfg, p, r) },
		packets: func(p *flow.PairStat) uint64 { return p.SYNPackets },
		goesOn: func(_ *flow.PairStat, rest, n, secs float64) bool {
			return cfg.goesOn(rest, n, secs)
		},
		see: t.fleet.see,
	})
}

func (t *tickState) udpFlood() error {
	cfg := &t.d.cfg.Thresholds.UDPFlood
	return t.flood(floodRule{
		proto: flow.ProtoUDP, windowsS: cfg.WindowsS, least: leastPackets(cfg.NotifyScore, cfg.NotifyReturn),
		judge:   func(p *flow.PairStat, r flow.Range) (flow.Finding, bool) { return udpFlood(cfg, p, r) },
		packets: func(p *flow.PairStat) uint64 { return p.OutPackets },
		goesOn: func(p *flow.PairStat, rest, n, secs float64) bool {
			return cfg.goesOn(rest, cfg.packetRate(p.OutPackets, p.OutBytes), n, secs)
		},
	})
}

// floodRule is what the two flood rules differ in.
type floodRule struct {
	proto    uint8
	windowsS []int
	least    uint64 // packets below which no proportion can be proved
	judge    func(*flow.PairStat, flow.Range) (flow.Finding, bool)
	packets  func(*flow.PairStat) uint64 // those that are the flood
	goesOn   func(p *flow.PairStat, rest, n, secs float64) bool
	see      func([]flow.PairStat) // gets the pairs of the longest range; nil: nobody
}

func (t *tickState) flood(rule floodRule) error {
	lengths := t.dueLengths(rule.windowsS)
	for _, length := range lengths {
		r := span(t.ts, length)
		stats, err := t.d.deps.Windows.PairStats(t.ctx, r, rule.proto, rule.least, 0)
		if err != nil {
			return fmt.Errorf("pair windows of %s: %w", seconds(length), err)
		}
		if rule.see != nil && length == slices.Max(lengths) {
			rule.see(stats)
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
				open[pairKey{f.Tenant, f.Remote}] = &stats[i]
			}
			fs = append(fs, f)
		}
		rests, secs, err := t.withoutPeak(rule, r, length, open)
		if err != nil {
			return err
		}
		err = t.keepAll(r, length, fs, func(f *flow.Finding) bool {
			k := pairKey{f.Tenant, f.Remote}
			return open[k] != nil && rule.goesOn(open[k], rests[k], f.SamplingRate, secs)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// keepAll applies the gates that are left to the findings of one length and
// keeps them; persists is asked of suspensions only.
func (t *tickState) keepAll(r flow.Range, length time.Duration, fs []flow.Finding, persists func(*flow.Finding) bool) error {
	for i := range fs {
		if fs[i].Tier == flow.TierSuspend && !persists(&fs[i]) {
			hold(&fs[i], GatePersistence)
		}
	}
	if err := t.hostGates(r, fs); err != nil {
		return err
	}
	for _, f := range fs {
		t.keep(f, length)
	}
	return nil
}
