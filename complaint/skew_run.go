package complaint

import (
	"context"
	"time"
)

const (
	// maxSought: a thousand lines show an offset as well as all, and twenty hosts.
	maxSought      = 1000
	maxSoughtHosts = 20
)

// sought are the claims that an offset is searched by, each with the evidence of
// its host.
type sought struct {
	claims []*claim
	evs    map[int]*evidence
}

func (s *sought) add(c *claim, ev *evidence) {
	if s.evs == nil {
		s.evs = map[int]*evidence{}
	}
	s.evs[len(s.claims)] = ev
	s.claims = append(s.claims, c)
}

// skew looks for the offset of the reporter's clock, and marks the lines that
// it explains when it is significant: in single flows, or else in the sums that
// are left of lines too old for those.
func (r *run) skew(ctx context.Context) error {
	tolerance := r.m.cfg.Tolerance
	var fresh, old sought
	for _, c := range r.claims {
		if !c.remote.IsValid() || r.res.Lines[c.line].Traffic.Verdict == Shifted {
			continue
		}
		if !r.since.IsZero() && !c.to.Add(searchSpan).Before(r.since) && len(fresh.claims) < maxSought {
			fresh.add(c, r.evs[c.tenant])
		}
		if r.old(c) && len(old.claims) < maxSought {
			old.add(c, r.evs[c.tenant])
		}
	}
	s := search(fresh.claims, fresh.evs, tolerance)
	if s == nil || !s.Significant {
		wide, err := r.wide(ctx, old)
		if err != nil {
			return err
		}
		if h := searchHours(wide.claims, wide.evs, tolerance); h != nil && (s == nil || h.Significant) {
			s, r.evsWide = h, wide.byTenant()
		}
	}
	if s == nil {
		return nil
	}
	s.Text, s.TextRU = skewText(s)
	r.res.Skew = s
	if s.Significant {
		r.shift(time.Duration(s.OffsetS) * time.Second)
	}
	return nil
}

// old reports whether single flows of the claim's time are not stored.
func (r *run) old(c *claim) bool { return r.since.IsZero() || c.from.Before(r.since) }

// shift marks the lines that are found with an offset.
func (r *run) shift(off time.Duration) {
	for _, c := range r.claims {
		l := &r.res.Lines[c.line]
		if l.Traffic.Verdict == Confirmed || l.Traffic.Verdict == Shifted || !c.remote.IsValid() {
			continue
		}
		f := r.evs[c.tenant].look(c, off, r.m.cfg.Tolerance)
		if ev := r.evsWide[c.tenant]; f.rows == 0 && ev != nil && r.old(c) {
			f = ev.sum(c.moved(off), r.m.cfg.Tolerance)
		}
		if f.rows > 0 {
			t := l.Traffic.confirm(c, f)
			t.Verdict, t.Why = Shifted, WhyOffset
			l.Traffic = &t
		}
	}
}
