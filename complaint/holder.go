package complaint

import (
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// holderAt is who held our address of a line.
func (r *run) holderAt(c *claim, at time.Time) (flow.Holder, bool) {
	return r.m.deps.Inventory.Holder(c.host, at)
}

// undatedAfter is the age from which a holder without a beginning is doubtful: so
// long the inventory remembers changes that nobody wrote down.
const undatedAfter = 90 * 24 * time.Hour

// holding notes what is unsure about who held the address: nobody known, a
// change of hands near the time, or within what an unknown zone leaves open,
// and an address that serves several.
func (r *run) holding(l *Line, c *claim) {
	h, ok := r.holderAt(c, l.Time)
	if !ok {
		l.note("no_holder")
	} else if r.shared(h) {
		if c.hostPort == 0 {
			l.note("shared_no_port")
		} else {
			l.note("shared")
		}
	}
	if ok && h.From.IsZero() && r.req.Received.Sub(l.Time) > undatedAfter {
		l.note("holder_undated")
	}
	from, to := -r.m.cfg.Tolerance, r.m.cfg.Tolerance
	if !l.Zone.Known() {
		// Read as UTC, the true time is up to 14 h earlier (UTC+14) and 12 h later.
		from, to = -14*time.Hour, 12*time.Hour
	}
	if at, other := r.otherHolder(c, l.Time, from, to, h, ok); other {
		if l.Zone.Known() {
			l.note("changed_hands", at.UTC().Format(time.RFC3339))
		} else {
			l.note("zone_decides_holder", at.UTC().Format(time.RFC3339))
		}
	}
}

// otherHolder looks for a moment near at when somebody else held the address.
func (r *run) otherHolder(c *claim, at time.Time, from, to time.Duration, h flow.Holder, ok bool) (time.Time, bool) {
	step := max((to-from)/26, time.Minute)
	for d := from; d <= to; d += step {
		o, okO := r.holderAt(c, at.Add(d))
		if okO != ok || okO && !sameHolder(o, h) {
			return at.Add(d), true
		}
	}
	return time.Time{}, false
}

func sameHolder(a, b flow.Holder) bool { return a.Tenant == b.Tenant && a.VDS == b.VDS }

func (r *run) shared(h flow.Holder) bool {
	return slices.ContainsFunc(r.m.cfg.SharedTags, h.Tagged)
}
