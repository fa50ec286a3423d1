package detect

import (
	"fmt"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// This file asks for the sums that each rule needs, screens them in the store
// by bounds that no finding can be below, and lets the rules judge.

func (t *tickState) netscan() error {
	cfg := &t.d.loose.Netscan
	for _, length := range t.dueLengths(flow.RuleNetscan, cfg.WindowsS) {
		if length >= slowFrom {
			if err := t.slowScan(cfg, length); err != nil {
				return err
			}
			continue
		}
		r := span(t.ts, length)
		// Attempts ≥ SYNs ≥ distinct destinations ≥ the least that any tier needs.
		stats, err := t.d.deps.Windows.ServiceStats(t.ctx, r, flow.ProtoTCP, cfg.NotifyDistinct)
		if err != nil {
			return fmt.Errorf("service windows of %s: %w", seconds(length), err)
		}
		var fs []flow.Finding
		open := map[serviceKey]scanCounts{} // suspensions that must persist
		for i := range stats {
			f, ok := netscan(&t.th(stats[i].Tenant).Netscan, t.d.ports, &stats[i], r)
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
		err = t.keepAll(r, length, fs, func(f *flow.Finding) bool { _, still := open[serviceKey{f.Tenant, f.Port}]; return !still }, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tickState) portscan() error {
	cfg := &t.d.loose.Portscan
	for _, length := range t.dueLengths(flow.RulePortscan, cfg.WindowsS) {
		r := span(t.ts, length)
		stats, err := t.d.deps.Windows.PairStats(t.ctx, r, flow.ProtoTCP, 0, cfg.NotifyPorts)
		if err != nil {
			return fmt.Errorf("pair windows of %s: %w", seconds(length), err)
		}
		var fs []flow.Finding
		open := map[pairKey]scanCounts{}
		for i := range stats {
			f, ok := portscan(&t.th(stats[i].Tenant).Portscan, &stats[i], r)
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
		err = t.keepAll(r, length, fs, func(f *flow.Finding) bool { _, still := open[pairKey{f.Tenant, f.Remote}]; return !still }, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// keepAll applies the gates that are left to the findings of one length and
// keeps them; persists is asked of those above notify only, own as of hostGates.
func (t *tickState) keepAll(r flow.Range, length time.Duration, fs []flow.Finding, persists func(*flow.Finding) bool, own func(*flow.Finding) ownShare) error {
	for i := range fs {
		if fs[i].Tier > flow.TierNotify && !persists(&fs[i]) {
			hold(&fs[i], GatePersistence)
		}
	}
	if err := t.hostGates(r, fs, own); err != nil {
		return err
	}
	for _, f := range fs {
		t.keep(f, length)
	}
	return nil
}
