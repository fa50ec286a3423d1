package detect

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// This file asks for the sums that each rule needs, screens them in the store
// by bounds that no finding can be below, and lets the rules judge.

func (t *tickState) netscan() error {
	th := &t.d.cfg.Thresholds
	cfg := &th.Netscan
	for _, length := range t.dueLengths(cfg.WindowsS) {
		r := span(t.ts, length)
		// Attempts ≥ SYNs ≥ distinct destinations ≥ the least that any tier needs.
		stats, err := t.d.deps.Windows.ServiceStats(t.ctx, r, flow.ProtoTCP, cfg.NotifyDistinct)
		if err != nil {
			return fmt.Errorf("service windows of %s: %w", seconds(length), err)
		}
		var fs []flow.Finding
		for i := range stats {
			f, ok := netscan(cfg, &th.PortClasses, &stats[i], r)
			if !ok {
				continue
			}
			t.evidence(&f)
			if f.Tier == flow.TierSuspend {
				r0, _ := th.PortClasses.lookup(f.Port)
				again, err := t.scansTwice(cfg, &stats[i], r0, r, length)
				if err != nil {
					return err
				}
				if !again {
					hold(&f, GatePersistence)
				}
			}
			fs = append(fs, f)
		}
		if err := t.hostGates(r, fs); err != nil {
			return err
		}
		for _, f := range fs {
			t.keep(f, length)
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
		for i := range stats {
			f, ok := portscan(cfg, &stats[i], r)
			if !ok {
				continue
			}
			t.evidence(&f)
			if f.Tier == flow.TierSuspend {
				again, err := t.triesTwice(cfg, &stats[i], r, length)
				if err != nil {
					return err
				}
				if !again {
					hold(&f, GatePersistence)
				}
			}
			fs = append(fs, f)
		}
		if err := t.hostGates(r, fs); err != nil {
			return err
		}
		for _, f := range fs {
			t.keep(f, length)
		}
	}
	return nil
}

func (t *tickState) synFlood() error {
	cfg := &t.d.cfg.Thresholds.SYNFlood
	// Below this many packets no proportion can be proved: see synFlood.
	least := leastPackets(cfg.NotifyScore, ackPerSYN)
	for _, length := range t.dueLengths(cfg.WindowsS) {
		r := span(t.ts, length)
		stats, err := t.d.deps.Windows.PairStats(t.ctx, r, flow.ProtoTCP, least, 0)
		if err != nil {
			return fmt.Errorf("pair windows of %s: %w", seconds(length), err)
		}
		t.fleet.see(stats)
		var fs []flow.Finding
		for i := range stats {
			p := &stats[i]
			f, ok := synFlood(cfg, p, r)
			if !ok {
				continue
			}
			t.evidence(&f)
			if f.Tier == flow.TierSuspend {
				rest, secs, err := t.withoutPeak(p, r, length, least, func(q *flow.PairStat) uint64 { return q.SYNPackets })
				if err != nil {
					return err
				}
				if !cfg.goesOn(rest, f.SamplingRate, secs) {
					hold(&f, GatePersistence)
				}
			}
			fs = append(fs, f)
		}
		if err := t.hostGates(r, fs); err != nil {
			return err
		}
		for _, f := range fs {
			t.keep(f, length)
		}
	}
	return nil
}

func (t *tickState) udpFlood() error {
	cfg := &t.d.cfg.Thresholds.UDPFlood
	least := leastPackets(cfg.NotifyScore, cfg.NotifyReturn)
	for _, length := range t.dueLengths(cfg.WindowsS) {
		r := span(t.ts, length)
		stats, err := t.d.deps.Windows.PairStats(t.ctx, r, flow.ProtoUDP, least, 0)
		if err != nil {
			return fmt.Errorf("pair windows of %s: %w", seconds(length), err)
		}
		var fs []flow.Finding
		for i := range stats {
			p := &stats[i]
			f, ok := udpFlood(cfg, p, r)
			if !ok {
				continue
			}
			t.evidence(&f)
			if f.Tier == flow.TierSuspend {
				rest, secs, err := t.withoutPeak(p, r, length, least, func(q *flow.PairStat) uint64 { return q.OutPackets })
				if err != nil {
					return err
				}
				if !cfg.goesOn(rest, cfg.packetRate(p.OutPackets, p.OutBytes), f.SamplingRate, secs) {
					hold(&f, GatePersistence)
				}
			}
			fs = append(fs, f)
		}
		if err := t.hostGates(r, fs); err != nil {
			return err
		}
		for _, f := range fs {
			t.keep(f, length)
		}
	}
	return nil
}

// serviceQuery and pairQuery name a query whose answer one tick asks for once.
type serviceQuery struct {
	from, to int64
}

type serviceKey struct {
	tenant netip.Addr
	port   uint16
}

type pairQuery struct {
	from, to            int64
	proto               uint8
	minPackets, minPort uint64
}

type pairKey struct{ tenant, remote netip.Addr }

// part returns the sums of a part of a range by key, from the store once.
func (t *tickState) servicePart(r flow.Range) (map[serviceKey]flow.ServiceStat, error) {
	q := serviceQuery{r.From.Unix(), r.To.Unix()}
	if m, ok := t.services[q]; ok {
		return m, nil
	}
	stats, err := t.d.deps.Windows.ServiceStats(t.ctx, r, flow.ProtoTCP, t.d.cfg.Thresholds.Netscan.NotifyDistinct)
	if err != nil {
		return nil, fmt.Errorf("service windows for persistence: %w", err)
	}
	m := make(map[serviceKey]flow.ServiceStat, len(stats))
	for _, s := range stats {
		m[serviceKey{s.Tenant, s.SvcPort}] = s
	}
	t.services[q] = m
	return m, nil
}

func (t *tickState) pairPart(r flow.Range, proto uint8, minPackets, minPorts uint64) (map[pairKey]flow.PairStat, error) {
	q := pairQuery{r.From.Unix(), r.To.Unix(), proto, minPackets, minPorts}
	if m, ok := t.pairs[q]; ok {
		return m, nil
	}
	stats, err := t.d.deps.Windows.PairStats(t.ctx, r, proto, minPackets, minPorts)
	if err != nil {
		return nil, fmt.Errorf("pair windows for persistence: %w", err)
	}
	m := make(map[pairKey]flow.PairStat, len(stats))
	for _, p := range stats {
		m[pairKey{p.Tenant, p.Remote}] = p
	}
	t.pairs[q] = m
	return m, nil
}

// late is the last part of a range.
func late(r flow.Range, length time.Duration) flow.Range {
	return flow.Range{From: r.To.Add(-length), To: r.To}
}

// scansTwice reports whether the range can be cut so that both parts show the
// scan on their own (gate G5 of detection.md §5.2). Destinations of the later
// part do not count in the earlier one: going through the same list again is
// not a second piece of evidence.
func (t *tickState) scansTwice(cfg *NetscanConfig, s *flow.ServiceStat, r0 float64, r flow.Range, length time.Duration) (bool, error) {
	whole := serviceCounts(s)
	for _, l := range lateParts(length) {
		m, err := t.servicePart(late(r, l))
		if err != nil {
			return false, err
		}
		if p, ok := m[serviceKey{s.Tenant, s.SvcPort}]; ok && cfg.twice(whole, serviceCounts(&p), r0, r.Seconds(), l.Seconds()) {
			return true, nil
		}
	}
	return false, nil
}

// triesTwice is scansTwice for the ports of one remote.
func (t *tickState) triesTwice(cfg *PortscanConfig, s *flow.PairStat, r flow.Range, length time.Duration) (bool, error) {
	whole := pairCounts(s)
	for _, l := range lateParts(length) {
		m, err := t.pairPart(late(r, l), flow.ProtoTCP, 0, cfg.NotifyPorts)
		if err != nil {
			return false, err
		}
		if p, ok := m[pairKey{s.Tenant, s.Remote}]; ok && cfg.twice(whole, pairCounts(&p), r.Seconds(), l.Seconds()) {
			return true, nil
		}
	}
	return false, nil
}

// minFloodPersist is the shortest length that a flood can be suspended on: its
// two strongest sixths are left out, and those are 20 s.
const minFloodPersist = 60 * time.Second

// withoutPeak returns the packets of a pair without the two strongest parts of
// the range, and the seconds of what remains. A burst of less than 20 s is then
// gone, wherever it lies; a flood that goes on is not.
func (t *tickState) withoutPeak(p *flow.PairStat, r flow.Range, length time.Duration, least uint64, packets func(*flow.PairStat) uint64) (rest, secs float64, err error) {
	if length < minFloodPersist {
		return 0, r.Seconds(), nil
	}
	type piece struct{ n, secs float64 }
	var pieces []piece
	for _, part := range floodParts(r, length) {
		// Parts with less than an eighth of the least count as empty, which
		// spares the store a list of every pair.
		m, err := t.pairPart(part, p.IPProto, max(least/8, 1), 0)
		if err != nil {
			return 0, 0, err
		}
		pc := piece{secs: part.Seconds()}
		if q, ok := m[pairKey{p.Tenant, p.Remote}]; ok {
			pc.n = float64(packets(&q))
		}
		pieces = append(pieces, pc)
	}
	slices.SortFunc(pieces, func(a, b piece) int { return cmp.Compare(b.n, a.n) })
	for _, pc := range pieces[min(2, len(pieces)):] {
		rest += pc.n
		secs += pc.secs
	}
	return rest, secs, nil
}
