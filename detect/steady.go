package detect

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Bandwidth is tested by UDP in runs of some seconds, often several in a row. In
// windows of 10 s runs of 10 s look like a flood of half the rate, wherever they
// happen to lie across the edges; what tells them from a flood is that a flood has
// no breaks. A flood that is sent in pulses on purpose has, and is known by how
// long it goes on. The same is true of ping -f, which sends as fast as replies come
// back, or 100 a second (ping(8)): answered pings above a flood's rate may be a test.

const (
	// A flood without a break of about a slice has steadySlices of them in a row:
	// 40 s, while a test of 30 s fills six or seven.
	steadySlice  = 5 * time.Second
	steadySlices = 8
	steadyLook   = 12 // slices
	// By NetFlow a packet's time is not known, only that of its flow. Windows must
	// be even for longer than five runs of 10 s with breaks of 10 s make them.
	steadyWindows     = 11
	steadyWindowsLook = steadyWindows + 1
	// steadyPart of the median is the least of a part without a break. Breaks of 8 s
	// leave a fifth of some slice at most. The median is steadyRate of the whole
	// range's mean at least, and what one remote may get: other traffic beside a test
	// may be steady.
	steadyPart = 0.6
	steadyRate = 0.5
	// steadyPair is how many neighbouring windows of the pair must be even, too: a
	// slice is of the network of the remote.
	steadyPair = 3
	// minPulses is the shortest length that what has breaks can be suspended on,
	// without its three strongest fifths: five runs within three minutes are gone.
	minPulses = 5 * time.Minute
)

// steadyPairs returns those of open that no test looks like, or that went on
// without a break and not to a port of tests.
func (t *tickState) steadyPairs(rule floodRule, r flow.Range, all map[pairKey]*flow.PairStat) (map[pairKey]bool, error) {
	steady, open := make(map[pairKey]bool, len(all)), make(map[pairKey]*flow.PairStat, len(all))
	for k, p := range all {
		if rule.tests(p) > 0 {
			open[k] = p
		} else {
			steady[k] = true
		}
	}
	if len(open) == 0 {
		return steady, nil
	}
	slices, err := t.slicesOf(open)
	if err != nil {
		return nil, err
	}
	windows, err := t.windowsOf(rule, r, open)
	if err != nil {
		return nil, err
	}
	tested := map[netip.Addr]float64{}
	if rule.ports {
		if tested, err = t.onTestPorts(r, open); err != nil {
			return nil, err
		}
	}
	for k, p := range open {
		n := float64(rule.packets(p))
		if tested[k.tenant] >= testShare*n*effectiveRate(p.Rate) {
			continue
		}
		least := max(rule.tests(p), steadyRate*n*effectiveRate(p.Rate)/r.Seconds())
		inWindow := least * window.Seconds()
		steady[k] = even(windows[k], steadyWindows, inWindow) ||
			even(slices[k], steadySlices, least*steadySlice.Seconds()) && even(windows[k], steadyPair, inWindow)
	}
	return steady, nil
}

// testPorts are those that iperf 3 and iperf 2 test bandwidth on unless told
// otherwise (their manuals): a run of a minute is as even as a flood.
var testPorts = []uint16{5001, 5201}

// testShare is the least part of a flood that goes to testPorts for it to be taken
// for a test.
const testShare = 0.9

// onTestPorts returns the packets, scaled to 1:1, that the tenants of open sent to
// testPorts.
func (t *tickState) onTestPorts(r flow.Range, open map[pairKey]*flow.PairStat) (map[netip.Addr]float64, error) {
	tenants := make(map[netip.Addr]struct{}, len(open))
	for k := range open {
		tenants[k.tenant] = struct{}{}
	}
	stats, err := t.d.deps.Windows.ServiceTotals(amongThem(t.ctx, tenants), r, flow.ServiceQuery{IPProto: flow.ProtoUDP, Role: flow.RoleClient, Ports: testPorts, MinOutPackets: 1})
	if err != nil {
		return nil, fmt.Errorf("service windows of bandwidth tests: %w", err)
	}
	out := make(map[netip.Addr]float64, len(stats))
	for i := range stats {
		out[stats[i].Tenant] += float64(stats[i].OutPackets) * effectiveRate(stats[i].Rate)
	}
	return out, nil
}

// slicesOf returns what was sent to the network of each pair's remote in the last
// minute, by the times of the stored flow rows.
func (t *tickState) slicesOf(open map[pairKey]*flow.PairStat) (map[pairKey][]float64, error) {
	var tenants []netip.Addr
	var proto uint8 // one for all of a rule's question
	for k, p := range open {
		tenants, proto = append(tenants, k.tenant), p.IPProto
	}
	slices.SortFunc(tenants, netip.Addr.Compare)
	tenants = slices.Compact(tenants)
	out := make(map[pairKey][]float64, len(open))
	for i := range steadyLook {
		from := floorTo(t.ts, steadySlice).Add(time.Duration(i-steadyLook) * steadySlice)
		nets, err := t.d.deps.Windows.TopPrefixes(t.ctx, flow.Range{From: from, To: from.Add(steadySlice)}, tenants, proto)
		if err != nil {
			return nil, fmt.Errorf("networks of a flood, for its breaks: %w", err)
		}
		for k := range open {
			for j := range nets {
				if nets[j].Tenant == k.tenant && nets[j].Prefix.Contains(k.remote) {
					at(out, k, steadyLook)[i] = float64(nets[j].OutPackets) * effectiveRate(nets[j].Rate)
				}
			}
		}
	}
	return out, nil
}

// windowsOf returns what each pair sent in the last windows of r.
func (t *tickState) windowsOf(rule floodRule, r flow.Range, open map[pairKey]*flow.PairStat) (map[pairKey][]float64, error) {
	defer t.inParts()()
	out := make(map[pairKey][]float64, len(open))
	for i := range steadyWindowsLook {
		from := r.To.Add(time.Duration(i-steadyWindowsLook) * window)
		stats, err := rule.pairs(flow.Range{From: from, To: from.Add(window)}, max(rule.least/8, 1))
		if err != nil {
			return nil, fmt.Errorf("pair windows of a flood, for its breaks: %w", err)
		}
		for j := range stats {
			if k := (pairKey{stats[j].Tenant, stats[j].Remote}); open[k] != nil {
				at(out, k, steadyWindowsLook)[i] = float64(rule.packets(&stats[j])) * effectiveRate(stats[j].Rate)
			}
		}
	}
	return out, nil
}

// at returns m's n numbers of k, which are zeros at first.
func at(m map[pairKey][]float64, k pairKey, n int) []float64 {
	if m[k] == nil {
		m[k] = make([]float64, n)
	}
	return m[k]
}

// even reports whether so many neighbours of ns are least or more in the median
// and each is nearly as much.
func even(ns []float64, run int, least float64) bool {
	for i := 0; i+run <= len(ns); i++ {
		part := slices.Sorted(slices.Values(ns[i : i+run]))
		if median := part[run/2]; median > 0 && median >= least && part[0] >= steadyPart*median {
			return true
		}
	}
	return false
}
