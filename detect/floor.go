package detect

import (
	"fmt"
	"io"
	"math"
	"net/netip"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Floor says what one rule can see at one sampling rate: the least true rate of
// an attack without any answer that is found with 95 % probability within each
// of FloorSeconds (detection.md §3). Export delay, and what the cut of the range
// into two parts costs, are not in it.
type Floor struct {
	Rule flow.Rule `json:"rule"`
	What string    `json:"what"` // of the attack, where a rule sees several differently
	Unit string    `json:"unit"` // of the rates
	// Tier is the highest that the rule reaches; Notify and Act are per second,
	// Act of that tier. 0: not within this time, whatever the rate.
	Tier   flow.Tier `json:"tier"`
	Notify []float64 `json:"notify"`
	Act    []float64 `json:"act"`
}

// FloorSeconds are the times that a Floor's rates are for.
var FloorSeconds = []int{60, 300, 1800}

// seenOf is how many of an attack's events leave a sample at 1:n.
func (fc *floorCase) seenOf(th *Thresholds, n float64) float64 {
	switch fc.rule {
	case flow.RuleSpam: // any of a delivery's packets shows the server
		return -math.Expm1(th.Spam.Packets * math.Log1p(-1/n))
	case flow.RuleBruteforce:
		if n >= unsampledBelow {
			return 2 / n
		}
	}
	return 1 / n
}

// Floors computes what each rule sees at 1:n under thresholds, in the order of
// the rules. n below 1 counts as 1.
func Floors(th *Thresholds, n float64) []Floor {
	n = effectiveRate(n)
	ports := th.PortClasses.table()
	out := make([]Floor, 0, len(floorCases))
	for i := range floorCases {
		fc := &floorCases[i]
		f := Floor{Rule: fc.rule, What: fc.what, Unit: fc.unit, Tier: flow.TierNotify}
		windows := fc.windowsS(th)
		for _, secs := range FloorSeconds {
			notify, act, tier := fc.least(th, ports, n, windows, secs)
			f.Tier = max(f.Tier, tier)
			f.Notify, f.Act = append(f.Notify, notify), append(f.Act, act)
		}
		if f.Tier == flow.TierNotify {
			f.Act = make([]float64, len(FloorSeconds))
		}
		out = append(out, f)
	}
	return out
}

// least is the smallest rate that the best of a rule's lengths sees within secs:
// an attack that lasts secs is all within a range no longer than that, and
// within a part of a longer one.
func (fc *floorCase) least(th *Thresholds, ports *portTable, n float64, windows []int, secs int) (notify, act float64, top flow.Tier) {
	seen := fc.seenOf(th, n)
	for _, w := range windows {
		r := flow.Range{From: time.Unix(0, 0), To: time.Unix(int64(w), 0)}
		covered := float64(min(w, secs))
		for _, tier := range []flow.Tier{flow.TierNotify, flow.TierBlockPort} {
			c, reached, ok := fc.leastCount(th, ports, n, r, tier)
			if !ok {
				continue
			}
			rate := meanFor(c) / seen / covered
			switch {
			case tier == flow.TierNotify && (notify == 0 || rate < notify):
				notify = rate
			case tier > flow.TierNotify && (act == 0 || rate < act):
				act = rate
			}
			top = max(top, reached)
		}
	}
	return notify, act, top
}

// maxFloorCount bounds the search: a rule that is silent at a thousand million
// samples never speaks.
const maxFloorCount = 1 << 30

// leastCount finds the fewest events that reach a tier, which for these pure
// attacks more events never leave again.
func (fc *floorCase) leastCount(th *Thresholds, ports *portTable, n float64, r flow.Range, tier flow.Tier) (uint64, flow.Tier, bool) {
	at := func(c uint64) flow.Tier { return fc.judge(th, ports, c, n, r) }
	hi := uint64(1)
	for at(hi) < tier {
		if hi *= 2; hi > maxFloorCount {
			return 0, flow.TierNone, false
		}
	}
	lo := hi / 2
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; at(mid) < tier {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi, at(hi), true
}

// meanFor is the mean of a Poisson count that is at least c with 95 %.
func meanFor(c uint64) float64 {
	if c > 1000 { // the normal bound, off by less than a thousandth there
		const z = 1.6449
		x := z/2 + math.Sqrt(z*z/4+float64(c)-0.5)
		return x * x
	}
	lo, hi := float64(c)/2, 2*float64(c)+10
	for range 60 {
		if mid := (lo + hi) / 2; below(c, mid) > 0.05 {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

// below is the probability of fewer than c events of a Poisson count.
func below(c uint64, mean float64) float64 {
	term := math.Exp(-mean)
	if term == 0 {
		return 0.5 * math.Erfc((mean-float64(c)+0.5)/math.Sqrt(2*mean))
	}
	sum := 0.0
	for k := uint64(0); k < c; k++ {
		sum += term
		term *= mean / float64(k+1)
	}
	return sum
}

// ExporterFloors are the floors at one rate that an exporter samples at.
type ExporterFloors struct {
	Exporter netip.Addr `json:"exporter"`
	Rate     uint32     `json:"rate"`
	Floors   []Floor    `json:"floors"`
}

// floorsOf are the floors of every rate in force at every exporter. Rates that are
// not known, and those not heard of for ten minutes before ts, are left out.
func (p *policy) floorsOf(exporters []flow.ExporterHealth, ts time.Time) []ExporterFloors {
	var out []ExporterFloors
	for i := range exporters {
		for _, n := range ratesSeen(&exporters[i], ts) {
			out = append(out, ExporterFloors{exporters[i].Exporter, n, p.floorsAt(n)})
		}
	}
	return out
}

// maxFloors rates are kept of a policy: exporters say what they like.
const maxFloors = 64

// floorsAt are the floors at a rate, computed once: that takes some milliseconds.
// Nobody may change them.
func (p *policy) floorsAt(rate uint32) []Floor {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := p.floors[rate]
	if !ok {
		f = Floors(&p.th, float64(rate))
		if p.floors == nil || len(p.floors) >= maxFloors {
			p.floors = map[uint32][]Floor{}
		}
		p.floors[rate] = f
	}
	return f
}

// WriteFloors prints floors as a table for people.
func WriteFloors(w io.Writer, n float64, floors []Floor) error {
	if _, err := fmt.Fprintf(w, "At a sampling rate of 1:%.0f an attack is seen with 95 %% probability from these rates on (per second),\n"+
		"if nothing answers it; export delay comes on top. –: not within that time.\n", effectiveRate(n)); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	row := func(format string, a ...any) { _, _ = fmt.Fprintf(t, format, a...) } // Flush tells its errors
	row("rule\tof\ttier\tin 1 min\tin 5 min\tin 30 min\t\n")
	for i := range floors {
		f := &floors[i]
		what := f.Unit
		if f.What != "" {
			what += ", " + f.What
		}
		row("%s\t%s\tnotify\t%s\t%s\t%s\t\n", f.Rule, what, perSecond(f.Notify[0]), perSecond(f.Notify[1]), perSecond(f.Notify[2]))
		if f.Tier > flow.TierNotify {
			row("\t\t%s\t%s\t%s\t%s\t\n", f.Tier, perSecond(f.Act[0]), perSecond(f.Act[1]), perSecond(f.Act[2]))
		}
	}
	return t.Flush()
}

// perSecond writes a rate with two or three digits, rounded up: a floor must not
// promise more than it holds.
func perSecond(x float64) string {
	if x == 0 {
		return "–"
	}
	unit := math.Pow(10, math.Floor(math.Log10(x))-1)
	x = math.Ceil(x/unit-1e-9) * unit
	if x >= 10 {
		return count(uint64(math.Round(x)))
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}
