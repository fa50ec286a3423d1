package complaint

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Of times of which single flows are not stored, sums are left: of pairs that
// did enough for a rule, and of services with the destinations that were tried.
// What they show is confirmed at their resolution. What they do not show proves
// little, since an established connection is no attempt and a small pair is not
// stored; that a host used no such service at all is another matter.

// serviceSums are a host's sums by service, with the range that was asked for.
type serviceSums struct {
	r   flow.Range
	res flow.Resolution
	flow.ServiceSums
}

// finest is the length of the finest sums of a moment.
func (m *Matcher) finest(at time.Time) time.Duration {
	if s, ok := m.deps.Store.(Sums); ok {
		return s.Finest(at)
	}
	return flow.WindowSeconds * time.Second
}

// sums reads what is left of times of which no flow rows are kept.
func (m *Matcher) sums(ctx context.Context, ev *evidence, tenant netip.Addr, claims []*claim, since time.Time) error {
	var old []*claim
	var remotes []netip.Addr
	for _, c := range claims {
		if !since.IsZero() && !c.from.Before(since) {
			continue
		}
		old = append(old, c)
		if c.remote.IsValid() {
			remotes = append(remotes, c.remote)
		}
	}
	slices.SortFunc(remotes, netip.Addr.Compare)
	if remotes = slices.Compact(remotes); len(remotes) > maxRemotes {
		remotes, ev.cut = remotes[:maxRemotes], true
	}
	for _, r := range merge(spans(old, m.cfg.Tolerance), 0, maxRanges) {
		if err := m.pairs(ctx, ev, tenant, r, remotes); err != nil {
			return err
		}
		s, ok := m.deps.Store.(Sums)
		if !ok {
			continue
		}
		res := flow.ResolutionHour
		if s.Finest(r.From) == flow.WindowSeconds*time.Second && r.To.Sub(r.From) <= time.Hour {
			res = flow.ResolutionWindow
		}
		l, err := s.ServicesWith(ctx, tenant, r, res, remotes)
		if err != nil {
			return fmt.Errorf("ask for the services of %s: %w", tenant, err)
		}
		ev.old = append(ev.old, serviceSums{r, res, l})
	}
	return nil
}

// pairs reads the pairs of a range: by windows, or else by hours.
func (m *Matcher) pairs(ctx context.Context, ev *evidence, tenant netip.Addr, r flow.Range, remotes []netip.Addr) error {
	if len(remotes) == 0 {
		return nil
	}
	l, err := m.deps.Store.PairsWith(ctx, tenant, r, remotes)
	if err != nil {
		return fmt.Errorf("ask for the pairs of %s: %w", tenant, err)
	}
	ev.pairs = append(ev.pairs, l...)
	s, ok := m.deps.Store.(Sums)
	if !ok || len(l) > 0 {
		return nil
	}
	h, err := s.PairHours(ctx, tenant, r, remotes)
	if err != nil {
		return fmt.Errorf("ask for the pairs of %s by the hour: %w", tenant, err)
	}
	ev.hours = append(ev.hours, h...)
	return nil
}

// moved is the claim with its time moved by off.
func (c *claim) moved(off time.Duration) *claim {
	if off == 0 {
		return c
	}
	far := *c
	far.from, far.to = c.from.Add(off), c.to.Add(off)
	return &far
}

// sum finds the sums that show the claim: of its pair, or else of its service.
func (ev *evidence) sum(c *claim, tolerance time.Duration) shown {
	s := ev.pair(c, tolerance)
	if s.rows == 0 {
		s = ev.service(c, tolerance)
	}
	return s
}

// pair finds the pair's sums.
func (ev *evidence) pair(c *claim, tolerance time.Duration) shown {
	s := shown{res: ResolutionWindow}
	if !c.remote.IsValid() {
		return s
	}
	span := c.span(tolerance)
	for _, w := range ev.pairs {
		at := time.Unix(w.Start, 0).UTC()
		if w.Remote != c.remote || c.proto != 0 && w.IPProto != c.proto || at.Before(span.From.Add(-flow.WindowSeconds*time.Second)) || at.After(span.To) || w.OutPackets+w.InPackets == 0 {
			continue
		}
		// Ports are those of SYNs; without any the pair had other traffic.
		if c.remotePort > 0 && len(w.Ports) > 0 && !slices.Contains(w.Ports, c.remotePort) {
			continue
		}
		if s.rows == 0 {
			s.first = at
		}
		s.rows++
		s.last = at.Add(flow.WindowSeconds * time.Second)
		s.packets += w.OutPackets * uint64(max(w.Rate, 1))
	}
	for i := 0; s.rows == 0 && i < len(ev.hours); i++ {
		s.hour(c, span, &ev.hours[i])
	}
	return s
}

// hour takes in an hour's sum of the claim's pair, if the pair was seen both
// before and after the claimed time or at it: first and last say between when.
func (s *shown) hour(c *claim, span flow.Range, h *flow.PairHour) {
	last := h.Last.Add(flow.WindowSeconds * time.Second)
	if h.Remote != c.remote || c.proto != 0 && h.IPProto != c.proto || h.First.After(span.To) || last.Before(span.From) || h.OutPackets+h.InPackets == 0 ||
		c.remotePort > 0 && len(h.Ports) > 0 && !slices.Contains(h.Ports, c.remotePort) {
		return
	}
	s.rows++
	s.first, s.last, s.res = h.First, last, ResolutionHour
	s.packets += h.OutPackets * uint64(max(h.Rate, 1))
}

// touches reports whether a sum is of the claim's time and protocol.
func (c *claim) touches(w *flow.ServiceSum, span flow.Range) bool {
	at := time.Unix(w.Start, 0)
	return (c.proto == 0 || w.IPProto == c.proto) && !at.After(span.To) && at.Add(w.Length).After(span.From)
}

// serves reports whether a sum is of the service that the claim names; without
// a port it is any.
func (c *claim) serves(w *flow.ServiceSum) bool {
	switch {
	case c.remotePort > 0:
		return w.SvcPort == c.remotePort
	case len(c.usual) > 0:
		return slices.Contains(c.usual, w.SvcPort)
	}
	return true
}

// service finds the sums of services in which the claim's target was tried, or,
// where the claim names no target, in which the host was a client of its service.
func (ev *evidence) service(c *claim, tolerance time.Duration) shown {
	s := shown{}
	if !c.named() || c.net.IsValid() { // of a network no hash can be asked for
		return s
	}
	span, hash := c.span(tolerance), uint64(0)
	if c.remote.IsValid() {
		hash = flow.RemoteHash(c.remote)
	}
	for i := range ev.old {
		for k := range ev.old[i].Rows {
			w := &ev.old[i].Rows[k]
			if w.Role != flow.RoleClient || !c.touches(w, span) || !c.serves(w) ||
				c.remote.IsValid() && !slices.Contains(w.Tried, hash) || !c.remote.IsValid() && w.OutPackets == 0 {
				continue
			}
			at := time.Unix(w.Start, 0).UTC()
			if s.rows == 0 || at.Before(s.first) {
				s.first = at
			}
			if end := at.Add(w.Length); s.rows == 0 || end.After(s.last) {
				s.last = end
			}
			s.rows++
			s.tried, s.res = true, Resolution(ev.old[i].res)
		}
	}
	return s
}

// about is what sums by service say of a claim that they do not show.
type about struct {
	res   Resolution
	keeps bool // the target would be named, had it been tried: the sums keep all, or it is in their sample
	used  bool // the host used such a service, with whomever
	hides bool // something could be the claim's under another name
	whole bool // they account for all that the host sent
}

// about gives what the sums say, nil where none were asked for.
func (ev *evidence) about(c *claim, tolerance time.Duration) *about {
	span := c.span(tolerance)
	var a *about
	level := uint8(0)
	for i := range ev.old {
		o := &ev.old[i]
		if o.r.From.After(span.To) || o.r.To.Before(span.From) {
			continue
		}
		if a == nil {
			a = &about{res: Resolution(o.res), whole: true}
		}
		a.whole = a.whole && o.Whole
		for k := range o.Rows {
			w := &o.Rows[k]
			if !c.touches(w, span) || w.OutPackets == 0 {
				continue
			}
			switch {
			case c.serves(w):
				a.used = true
				if w.Role == flow.RoleClient {
					level = max(level, w.Level)
				}
			case w.SvcPort == 0, w.Role != flow.RoleClient && (c.hostPort == 0 || w.SvcPort == c.hostPort):
				a.hides = true // fragments; a port of ours that was taken for the service's
			}
		}
	}
	if a != nil {
		a.keeps = c.remote.IsValid() && flow.RemoteHash(c.remote)&(1<<level-1) == 0
	}
	return a
}

// tries is how many of the claimed packets are attempts at least: of a stood
// TCP connection one, of anything else all.
func (c *claim) tries() uint64 {
	if c.connected {
		return 1
	}
	return c.k
}

// bySums judges a claim that the sums of a time do not show.
func (t Traffic) bySums(c *claim, k known, certain float64, group groupSum) Traffic {
	never := !k.sums.used && !k.sums.hides && k.sums.whole && c.remotePort > 0 && (c.proto == flow.ProtoTCP || c.proto == flow.ProtoUDP)
	if never && (t.Chance >= certain || t.GroupChance >= certain && group.seen == 0) {
		t.Verdict, t.Why = Contradicted, WhyNoService
		return t
	}
	// What is told is the chance that the sums that are left would name it.
	t.Why, t.GroupLines, t.GroupChance = WhyCoarse, 0, 0
	t.Claimed, t.Chance = c.tries(), 0
	if k.sums.keeps {
		t.Chance = chance(k.rate, c.tries())
	}
	return t
}
