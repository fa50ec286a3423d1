package complaint

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Of lines that are older than single flows the offset is searched in the sums by
// the hour: which targets a host tried in which hour, and from when to when it had
// traffic with a pair. That tells whole hours, as wrong zones are; a clock that is
// minutes off, or a zone of a half hour, is not told by it.

// maxHours is how many of them searchSpan has.
const maxHours = int(searchSpan / time.Hour)

var byHours = grid{time.Hour, maxHours, hourWeight}

// hourWeight of an offset in hours; they add up to one.
func hourWeight(o int) float64 {
	switch {
	case o == 0:
		return 1
	case abs(o) <= 14:
		return 0.8 / 28
	}
	return 0.2 / float64(2*(maxHours-14))
}

// hourGap parts two moments: hours that touch each other are one, since what goes
// on for hours matches at one offset or another whenever it was.
const hourGap = 2 * time.Hour

// searchHours is search for claims of which evs has the sums by the hour around.
// An offset that another one equals is not told: it is neither of them.
func searchHours(claims []*claim, evs map[int]*evidence, tolerance time.Duration) *Skew {
	var perClaim [][]uint8
	var told []*claim
	for i, c := range claims {
		hit, could := evs[i].hoursOf(c, tolerance)
		if could {
			perClaim, told = append(perClaim, hit), append(told, c)
		}
	}
	s, as := byHours.best(perClaim, unitsOf(told, perClaim, hourGap+2*tolerance))
	if s == nil || as > 0 {
		return nil
	}
	s.Resolution = ResolutionHour
	return s
}

// hoursOf marks the offsets, in hours, at which the sums show the claim; could is
// false where they could not name its target at any.
func (ev *evidence) hoursOf(c *claim, tolerance time.Duration) (hit []uint8, could bool) {
	hit = make([]uint8, 2*maxHours+1)
	mark := func(shows func(span flow.Range) bool) {
		for o := range hit {
			if hit[o] == 0 && shows(c.moved(time.Duration(o-maxHours)*time.Hour).span(tolerance)) {
				hit[o], could = 1, true
			}
		}
	}
	hash, level := flow.RemoteHash(c.remote), uint8(0)
	for i := range ev.old {
		for k := range ev.old[i].Rows {
			w := &ev.old[i].Rows[k]
			if w.Role != flow.RoleClient || c.proto != 0 && w.IPProto != c.proto || !c.serves(w) {
				continue
			}
			level = max(level, w.Level)
			if slices.Contains(w.Tried, hash) {
				mark(func(span flow.Range) bool { return c.touches(w, span) })
			}
		}
	}
	for i := range ev.hours {
		if ev.hours[i].Remote == c.remote {
			mark(func(span flow.Range) bool {
				s := shown{}
				s.hour(c, span, &ev.hours[i])
				return s.rows > 0
			})
		}
	}
	return hit, could || hash&(1<<level-1) == 0
}

// wide reads the sums by the hour around the claims of long ago, as far as an
// offset may reach. Nothing is read where one could not be shown: of lines that
// are mostly confirmed as written, or that are one moment.
func (r *run) wide(ctx context.Context, old sought) (sought, error) {
	sums, ok := r.m.deps.Store.(Sums)
	confirmed, byTenant := 0, map[netip.Addr][]*claim{}
	var order []netip.Addr
	for _, c := range old.claims {
		if r.res.Lines[c.line].Traffic.Verdict == Confirmed {
			confirmed++
		}
		if byTenant[c.tenant] == nil {
			order = append(order, c.tenant)
		}
		byTenant[c.tenant] = append(byTenant[c.tenant], c)
	}
	if !ok || 2*confirmed > len(old.claims) || len(momentsOf(old.claims, hourGap+2*r.m.cfg.Tolerance)) < 2 {
		return sought{}, nil
	}
	var out sought
	for _, tenant := range order[:min(len(order), maxSoughtHosts)] {
		ev := &evidence{}
		if err := r.m.readHours(ctx, sums, ev, tenant, byTenant[tenant]); err != nil {
			return sought{}, err
		}
		for _, c := range byTenant[tenant] {
			out.add(c, ev)
		}
	}
	return out, nil
}

// readHours reads a host's sums by the hour, searchSpan around its claims.
func (m *Matcher) readHours(ctx context.Context, sums Sums, ev *evidence, tenant netip.Addr, claims []*claim) error {
	var ranges []flow.Range
	var remotes []netip.Addr
	for _, c := range claims {
		ranges, remotes = append(ranges, c.span(searchSpan+m.cfg.Tolerance)), append(remotes, c.remote)
	}
	slices.SortFunc(remotes, netip.Addr.Compare)
	remotes = slices.Compact(remotes)
	remotes = remotes[:min(len(remotes), maxRemotes)]
	for _, r := range merge(ranges, 0, maxRanges) {
		pairs, err := sums.PairHours(ctx, tenant, r, remotes)
		if err != nil {
			return fmt.Errorf("ask for the pairs of %s by the hour: %w", tenant, err)
		}
		services, err := sums.ServicesWith(ctx, tenant, r, flow.ResolutionHour, remotes)
		if err != nil {
			return fmt.Errorf("ask for the services of %s: %w", tenant, err)
		}
		ev.hours, ev.old = append(ev.hours, pairs...), append(ev.old, serviceSums{r, flow.ResolutionHour, services})
	}
	return nil
}

// byTenant is the evidence by host.
func (s *sought) byTenant() map[netip.Addr]*evidence {
	out := map[netip.Addr]*evidence{}
	for i, c := range s.claims {
		out[c.tenant] = s.evs[i]
	}
	return out
}
