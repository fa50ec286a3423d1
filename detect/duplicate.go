package detect

import (
	"net/netip"
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// A part of guard G2: whether packets were exported twice.

// sumsPackets are the rules whose evidence is a number of packets: those that
// see two packets where one was exported twice.
var sumsPackets = []flow.Rule{flow.RuleSYNFlood, flow.RuleUDPFlood, flow.RuleICMPFlood, flow.RulePacketFlood, flow.RuleReflector}

// Of conversations with four packets or more, fewer than half are seen by both
// exporters where each sees a part: that must be shown by leastHeavy of them.
const leastHeavy = 5

// seenTwice reports whether a flood rests on what several exporters saw, none of
// them enough alone, and nothing shows that they saw different packets.
func (t *tickState) seenTwice(f *flow.Finding, q flow.SourceQuery, stats []flow.SourceStat) (bool, error) {
	if t.d.cfg.Thresholds.Guards.SingleExport || !slices.Contains(sumsPackets, f.Rule) {
		return false, nil
	}
	first, second, share := topExporters(stats)
	if !second.IsValid() {
		return false, nil
	}
	n := float64(f.Samples)
	if excess(n*share, expectedOf(n, f.Score)) >= f.Threshold {
		return false, nil
	}
	s, err := t.d.deps.Windows.SharedFlows(t.ctx, q, first, second)
	switch {
	case t.ctx.Err() != nil:
		return false, t.ctx.Err()
	case err != nil:
		t.d.m.errors.WithLabelValues(stepSources).Inc()
		t.d.warn(t.ts, "flows that exporters share not available, the verdict is held", err)
		return true, nil
	}
	return s.Heavy < leastHeavy || 2*s.Both >= s.Heavy, nil
}

// topExporters returns the two exporters with the most outgoing packets, scaled,
// and the first one's share of all.
func topExporters(stats []flow.SourceStat) (first, second netip.Addr, share float64) {
	sums, total := map[netip.Addr]uint64{}, uint64(0)
	for i := range stats {
		if stats[i].Dir == flow.Out {
			sums[stats[i].Exporter] += stats[i].Scaled
			total += stats[i].Scaled
		}
	}
	before := func(a, b netip.Addr) bool {
		return !b.IsValid() || sums[a] > sums[b] || sums[a] == sums[b] && a.Less(b)
	}
	for a := range sums {
		switch {
		case before(a, first):
			first, second = a, first
		case before(a, second):
			second = a
		}
	}
	if total > 0 {
		share = float64(sums[first]) / float64(total)
	}
	return first, second, share
}

// expectedOf is the benign expectation that n packets have a score over: the
// inverse of excess.
func expectedOf(n, score float64) float64 {
	lo, hi := 0.0, n
	for range 60 {
		if mid := (lo + hi) / 2; excess(n, mid) > score {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}
