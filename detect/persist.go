package detect

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Gate G5 of detection.md §5.2: one stretch of time is not enough to cut
// somebody off. The detector keeps no state, so that the past is asked for
// again, and only where there is a suspension to confirm.

type serviceKey struct {
	tenant netip.Addr
	port   uint16
}

type pairKey struct{ tenant, remote netip.Addr }

// late is the last part of a range.
func late(r flow.Range, length time.Duration) flow.Range {
	return flow.Range{From: r.To.Add(-length), To: r.To}
}

// scansTwice takes those out of open for which the range can be cut so that
// both parts show the scan on their own. Destinations of the later part do not
// count in the earlier one: going through the same list again is not a second
// piece of evidence.
func (t *tickState) scansTwice(cfg *NetscanConfig, r flow.Range, length time.Duration, open map[serviceKey]scanCounts) error {
	defer t.inParts()()
	for _, l := range lateParts(length) {
		if len(open) == 0 {
			return nil
		}
		stats, err := t.d.deps.Windows.ServiceStats(t.ctx, late(r, l), flow.ProtoTCP, 1+uint64(cfg.PersistScore/maxPerSample))
		if err != nil {
			return fmt.Errorf("service windows for persistence: %w", err)
		}
		t.scanned(open, stats, r, l)
	}
	return nil
}

// scanned takes those out of open that a cut of r before its last l shows twice;
// ends are the sums of that.
func (t *tickState) scanned(open map[serviceKey]scanCounts, ends []flow.ServiceStat, r flow.Range, l time.Duration) {
	for i := range ends {
		k := serviceKey{ends[i].Tenant, ends[i].SvcPort}
		whole, ok := open[k]
		if !ok {
			continue
		}
		r0, _ := t.d.ports.lookup(k.port)
		if t.th(k.tenant).Netscan.twice(whole, serviceCounts(&ends[i]), r0, r.Seconds(), l.Seconds()) {
			delete(open, k)
		}
	}
}

// triesTwice is scansTwice for the ports of one remote.
func (t *tickState) triesTwice(cfg *PortscanConfig, r flow.Range, length time.Duration, open map[pairKey]scanCounts) error {
	defer t.inParts()()
	for _, l := range lateParts(length) {
		if len(open) == 0 {
			return nil
		}
		stats, err := t.d.deps.Windows.PairStats(t.ctx, late(r, l), flow.ProtoTCP, 0, 1+uint64(cfg.PersistScore/maxPerSample))
		if err != nil {
			return fmt.Errorf("pair windows for persistence: %w", err)
		}
		for i := range stats {
			k := pairKey{stats[i].Tenant, stats[i].Remote}
			if whole, ok := open[k]; ok && t.th(k.tenant).Portscan.twice(whole, pairCounts(&stats[i]), r.Seconds(), l.Seconds()) {
				delete(open, k)
			}
		}
	}
	return nil
}

// minFloodPersist is the shortest length that a flood can be suspended on: its
// two strongest sixths are left out, and those are 20 s.
const minFloodPersist = 60 * time.Second

// rest is what is left of a pair, in packets, and of how many seconds.
type rest struct{ packets, seconds float64 }

// withoutPeak returns what is left of each open pair without the two strongest
// sixths of the range, wherever they begin. Two bursts of less than 20 s are then
// gone, of longer lengths two of 30 s with what is beside them; a flood that goes
// on is not. Where bandwidth is tested so, what has breaks is not suspended on a
// shorter length than minPulses, and three stretches are left out: see steady.go.
// A length too short for that leaves nothing.
func (t *tickState) withoutPeak(rule floodRule, r flow.Range, length time.Duration, open map[pairKey]*flow.PairStat) (map[pairKey]rest, error) {
	if len(open) == 0 || length < minFloodPersist {
		return nil, nil
	}
	var steady map[pairKey]bool
	if rule.tests != nil {
		var err error
		if steady, err = t.steadyPairs(rule, r, open); err != nil {
			return nil, err
		}
	}
	defer t.inParts()()
	parts, stretch := floodParts(r, length)
	pieces := make(map[pairKey][]float64, len(open))
	secs := 0.
	for i, part := range parts {
		// Parts with less than an eighth of the least count as empty, which
		// spares the store a list of every pair.
		stats, err := rule.pairs(part, max(rule.least/8, 1))
		if err != nil {
			return nil, fmt.Errorf("pair windows for persistence: %w", err)
		}
		for j := range stats {
			k := pairKey{stats[j].Tenant, stats[j].Remote}
			if open[k] == nil {
				continue
			}
			thin := effectiveRate(stats[j].Rate) / effectiveRate(open[k].Rate) // the part may lack the thinnest sampling
			at(pieces, k, len(parts))[i] = float64(rule.packets(&stats[j])) * thin
		}
		secs += part.Seconds()
	}
	rests := make(map[pairKey]rest, len(pieces))
	for k, ns := range pieces {
		without := 2
		if rule.tests != nil && !steady[k] {
			if length < minPulses {
				continue
			}
			without = 3
		}
		// What goes is taken for as little time as it may be, the last part being
		// shorter: too many seconds only make the rest weaker.
		gone := float64(without*stretch-1)*parts[0].Seconds() + parts[len(parts)-1].Seconds()
		rests[k] = rest{withoutStrongest(ns, stretch, without), secs - min(gone, secs*float64(without)/4)}
	}
	return rests, nil
}

// withoutStrongest is the sum of ns without the stretches, so many at most and
// each of so many neighbours, that have most of it.
func withoutStrongest(ns []float64, stretch, stretches int) float64 {
	all := 0.
	for _, n := range ns {
		all += n
	}
	if len(ns) < stretch*stretches {
		return all
	}
	// most[i] is what so many stretches within the first i can have.
	most := make([]float64, len(ns)+1)
	for range stretches {
		next := make([]float64, len(ns)+1)
		for i := stretch; i <= len(ns); i++ {
			sum := 0.
			for _, n := range ns[i-stretch : i] {
				sum += n
			}
			next[i] = max(next[i-1], most[i-stretch]+sum)
		}
		most = next
	}
	return all - most[len(ns)]
}
