package complaint

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// skewAlpha is the chance below which an offset is called significant.
const skewAlpha = 0.001

// skewShow is the chance below which an offset is mentioned at all.
const skewShow = 0.2

// ephemeral is how many ports a client may have chosen: 32768 to 60999, Linux'
// net.ipv4.ip_local_port_range. Others choose among more.
const ephemeral = 28232

// offsets tried, in minutes: -searchSpan to searchSpan.
const maxOffset = int(searchSpan / time.Minute)

// grid is the offsets that are tried: -n to n steps.
type grid struct {
	step   time.Duration
	n      int
	weight func(o int) float64 // of an offset in steps; they add up to one at most, zero's aside
}

var byMinutes = grid{time.Minute, maxOffset, weight}

// unit is one moment of the complaint: lines that are no farther apart than the
// tolerances reach. All lines of a moment match, or fail, together, so that a
// moment is one piece of evidence however many lines it has.
type unit struct {
	claims []int   // indices into the searched claims
	hit    []uint8 // by offset: 0 no, 1 the target and port, 2 the source port as well
	same   float64 // the chance of an equal source port by accident
}

// search finds the offset of the reporter's clock that explains most of the
// claims, and how likely that is by accident.
//
// Under the null hypothesis the host's traffic with the targets has nothing to
// do with the complaint, and a moment is matched with the share of all offsets
// at which it is. The number of matched moments is then a sum of independent
// trials, and its tail is computed exactly. Because every offset is tried, the
// tail is divided by a weight of the offset: whole hours, which wrong zones
// give, share half of it; half hours a quarter; minutes up to half an hour, of
// clocks that drift, an eighth; everything else the rest (a weighted
// Bonferroni correction: Holm 1979; Genovese, Roeder, Wasserman 2006).
func search(claims []*claim, evs map[int]*evidence, tolerance time.Duration) *Skew {
	if len(claims) == 0 {
		return nil
	}
	perClaim := coverage(claims, evs, tolerance)
	units := unitsOf(claims, perClaim, 2*tolerance+time.Minute)
	for _, u := range units {
		first := u.claims[0]
		u.same = min(1, float64(len(u.claims)*hostPorts(claims[first], evs[first]))/ephemeral)
	}
	s, _ := byMinutes.best(perClaim, units)
	return s
}

// best finds the offset that explains most of the claims, and how many others
// explain as many; nil where none does better than the times as read.
func (g grid) best(perClaim [][]uint8, units []*unit) (s *Skew, as int) {
	lines := make([]int, 2*g.n+1)
	moments := make([]int, 2*g.n+1)
	for _, u := range units {
		for o := range u.hit {
			if u.hit[o] > 0 {
				moments[o]++
			}
		}
	}
	for _, hit := range perClaim {
		for o, h := range hit {
			if h > 0 {
				lines[o]++
			}
		}
	}
	best := -1
	for o := range lines {
		if lines[o] > 0 && (best < 0 || g.better(o-g.n, lines[o], best-g.n, lines[best])) {
			best = o
		}
	}
	total := len(perClaim)
	zero := lines[g.n]
	if best < 0 || best == g.n || lines[best]*10 < total*6 || lines[best] <= zero || zero*2 > total {
		return nil, 0
	}
	p := min(1, accident(units, best, moments[best])/g.weight(best-g.n))
	if p > skewShow {
		return nil, 0
	}
	for o := range lines {
		if o != best && lines[o] == lines[best] {
			as++
		}
	}
	off := time.Duration(best-g.n) * g.step
	return &Skew{OffsetS: int(off / time.Second), Name: offsetName(off), Resolution: ResolutionFlow, Explained: lines[best], Of: total, AtZero: zero,
		Moments: len(units), Chance: p, Significant: p < skewAlpha}, as
}

// better compares two offsets by the lines that they explain; of equals the one
// that is likelier to begin with, then the smaller.
func (g grid) better(a, linesA, b, linesB int) bool {
	if linesA != linesB {
		return linesA > linesB
	}
	if wa, wb := g.weight(a), g.weight(b); wa != wb {
		return wa > wb
	}
	return abs(a) < abs(b)
}

func abs(a int) int { return max(a, -a) }

// weight of an offset in minutes; they add up to less than one.
func weight(o int) float64 {
	switch {
	case o == 0:
		return 1
	case o%60 == 0 && abs(o) <= 14*60:
		return 0.5 / 28
	case o%30 == 0:
		return 0.25 / 77
	case abs(o) < 30:
		return 0.125 / 58
	}
	return 0.125 / float64(2*maxOffset)
}

// accident is the chance that n moments or more are matched at one offset.
func accident(units []*unit, at, n int) float64 {
	dist := []float64{1} // by how many are matched
	same := 1.0
	for _, u := range units {
		hits := 0
		for _, h := range u.hit {
			if h > 0 {
				hits++
			}
		}
		p := float64(hits) / float64(len(u.hit))
		if u.hit[at] == 2 {
			same *= u.same
		}
		dist = append(dist, 0)
		for i := len(dist) - 1; i > 0; i-- {
			dist[i] = dist[i]*(1-p) + dist[i-1]*p
		}
		dist[0] *= 1 - p
	}
	tail := 0.0
	for i := len(dist) - 1; i >= n; i-- {
		tail += dist[i]
	}
	return max(tail*same, math.SmallestNonzeroFloat64)
}

// maxUnits keeps the tail computable at once: 500² additions.
const maxUnits = 500

// unitsOf are the moments of the claims, with the offsets at which they match.
func unitsOf(claims []*claim, perClaim [][]uint8, gap time.Duration) []*unit {
	units := momentsOf(claims, gap)
	for _, u := range units {
		u.fill(perClaim)
	}
	return units
}

// momentsOf groups the claims into moments, which are more than gap apart.
func momentsOf(claims []*claim, gap time.Duration) []*unit {
	order := make([]int, len(claims))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return claims[a].from.Compare(claims[b].from) })
	var units []*unit
	var last time.Time
	for _, i := range order {
		c := claims[i]
		if len(units) == 0 || c.from.Sub(last) > gap {
			if len(units) == maxUnits {
				break
			}
			units = append(units, &unit{same: 1})
		}
		last = c.from
		u := units[len(units)-1]
		u.claims = append(u.claims, i)
	}
	return units
}

// fill marks the offsets at which at least half of the moment's lines match.
func (u *unit) fill(perClaim [][]uint8) {
	u.hit = make([]uint8, len(perClaim[u.claims[0]]))
	for o := range u.hit {
		n, exact := 0, 0
		for _, i := range u.claims {
			switch perClaim[i][o] {
			case 1:
				n++
			case 2:
				n++
				exact++
			}
		}
		if n*2 >= len(u.claims) && n > 0 {
			u.hit[o] = 1
			if exact > 0 {
				u.hit[o] = 2
			}
		}
	}
}

// hostPorts counts the distinct ports of ours in the flows with the claim's
// target and port.
func hostPorts(c *claim, ev *evidence) int {
	seen := map[uint16]bool{}
	for i := range ev.rows {
		if ok, _ := c.matches(&ev.rows[i]); ok {
			seen[ev.rows[i].HostPort] = true
		}
	}
	return len(seen)
}

// coverage marks for each claim the offsets at which flows show it.
func coverage(claims []*claim, evs map[int]*evidence, tolerance time.Duration) [][]uint8 {
	out := make([][]uint8, len(claims))
	byTarget := map[*evidence]map[[16]byte][]*flow.FlowRow{}
	for i, c := range claims {
		out[i] = make([]uint8, 2*maxOffset+1)
		ev := evs[i]
		if byTarget[ev] == nil {
			byTarget[ev] = map[[16]byte][]*flow.FlowRow{}
			for k := range ev.rows {
				a := ev.rows[k].Remote.As16()
				byTarget[ev][a] = append(byTarget[ev][a], &ev.rows[k])
			}
		}
		for _, r := range byTarget[ev][c.remote.As16()] {
			ok, exact := c.matches(r)
			if !ok {
				continue
			}
			mark := uint8(1)
			if exact {
				mark = 2
			}
			// The minutes that, added to the claim, bring it to the row.
			from := int(math.Ceil(float64(r.Start-c.to.UnixNano()-int64(tolerance)) / float64(time.Minute)))
			to := int(math.Floor(float64(r.End-c.from.UnixNano()+int64(tolerance)) / float64(time.Minute)))
			for o := max(from, -maxOffset); o <= min(to, maxOffset); o++ {
				out[i][o+maxOffset] = max(out[i][o+maxOffset], mark)
			}
		}
	}
	return out
}

// offsetName writes an offset as zones are written.
func offsetName(d time.Duration) string {
	sign := '+'
	if d < 0 {
		sign, d = '-', -d
	}
	return fmt.Sprintf("%c%02d:%02d", sign, int(d.Hours()), int(d.Minutes())%60)
}
