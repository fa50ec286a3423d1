package complaint

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/complaint/parse"
	"github.com/flowcordon/flowcordon/flow"
)

// Request is one complaint with what the desk knows about it.
type Request struct {
	Data     []byte
	Type     string         // text/plain, message/rfc822, application/json; empty: seen from the data
	Received time.Time      // zero: now
	Zone     *time.Location // of times without one; nil: not known
	Target   netip.Addr     // the reporter's address, for lines that do not name it
}

// Match reads a complaint and holds each of its lines against what is stored.
// An error is of the reader (parse.ErrEmpty, parse.ErrTooLarge), of the store,
// or the context's.
func (m *Matcher) Match(ctx context.Context, req Request) (*Result, error) {
	if req.Received.IsZero() {
		req.Received = m.deps.Now()
	}
	req.Received = req.Received.UTC()
	c, err := parse.Parse(ctx, parse.Input{Data: req.Data, Type: req.Type, Received: req.Received, Zone: req.Zone, Target: req.Target})
	if err != nil {
		return nil, err
	}
	r := &run{m: m, req: req, res: resultOf(c, req.Received, m.cfg.Tolerance), byTenant: map[netip.Addr][]*claim{}, evs: map[netip.Addr]*evidence{}, groups: map[groupKey]*groupSum{}, fleet: map[int64]presence{}, kept: map[keptKey]bool{}}
	if err := r.match(ctx); err != nil {
		return nil, err
	}
	return r.res, nil
}

func resultOf(c *parse.Complaint, received time.Time, tolerance time.Duration) *Result {
	res := &Result{ReportID: c.ReportID, From: c.From, Subject: c.Subject, MessageID: c.MessageID, Date: c.Date, Received: received,
		Tolerance: int(tolerance / time.Second), Counts: map[Verdict]int{}, Unread: c.Unread, UnreadCount: c.UnreadCount, TextLines: c.TextLines,
		Parts: c.Parts, Notes: c.Notes, Cases: []Case{}, Lines: make([]Line, len(c.Observations))}
	for i, o := range c.Observations {
		res.Lines[i] = Line{Observation: o, Case: -1, Notes: []Note{}}
	}
	return res
}

// run is one complaint while it is matched.
type run struct {
	m        *Matcher
	req      Request
	res      *Result
	claims   []*claim
	tenants  []netip.Addr // in the order of the lines
	byTenant map[netip.Addr][]*claim
	evs      map[netip.Addr]*evidence
	groups   map[groupKey]*groupSum
	since    time.Time                // of the earliest flow row; zero: there is none
	fleet    map[int64]presence       // by time, see collected
	kept     map[keptKey]bool         // see rowsKept
	evsWide  map[netip.Addr]*evidence // sums by the hour around, if an offset was found in them
}

func (r *run) match(ctx context.Context) error {
	r.turn()
	if len(r.claims) > 0 {
		var err error
		if r.since, err = r.m.deps.Store.FlowsSince(ctx); err != nil {
			return fmt.Errorf("ask for the earliest flow: %w", err)
		}
		if r.m.cfg.FlowPolicy == "off" {
			r.since = time.Time{}
		}
	}
	for _, t := range r.tenants {
		ev, err := r.m.gather(ctx, r.byTenant[t], r.since)
		if err != nil {
			return err
		}
		if ev.cut {
			r.res.Notes = append(r.res.Notes, "there are more flows of "+t.String()+" with these targets than are read; what is not found may be among the rest")
		}
		r.evs[t] = ev
	}
	if err := r.judge(ctx); err != nil {
		return err
	}
	if err := r.skew(ctx); err != nil {
		return err
	}
	for i := range r.res.Lines {
		l := &r.res.Lines[i]
		l.Verdict = l.headline()
		r.res.Counts[l.Verdict]++
		l.Text, l.TextRU = explain(l)
	}
	if err := r.cases(ctx); err != nil {
		return err
	}
	r.res.Draft = r.draft()
	return nil
}

// turn finds the lines that are about us and bounds their number.
func (r *run) turn() {
	for i := range r.res.Lines {
		l := &r.res.Lines[i]
		c, ours := r.m.sides(l)
		if !ours {
			l.Traffic = &Traffic{Verdict: NotOurs, Why: WhyForeign}
			continue
		}
		if len(r.byTenant[c.tenant]) == 0 && len(r.tenants) >= maxHosts || len(r.claims) >= maxLines {
			l.Traffic = &Traffic{Verdict: NotVisible, Why: WhyTooMany, Claimed: c.k, CountStated: c.stated}
			continue
		}
		c.line = i
		if len(r.byTenant[c.tenant]) == 0 {
			r.tenants = append(r.tenants, c.tenant)
		}
		r.claims = append(r.claims, &c)
		r.byTenant[c.tenant] = append(r.byTenant[c.tenant], &c)
	}
	if n := len(r.res.Lines); len(r.claims) == maxLines && n > maxLines {
		r.res.Notes = append(r.res.Notes, fmt.Sprintf("of %d lines the first %d were matched; send the rest on its own", n, maxLines))
	}
}

// judge gives the verdicts at the times as read.
func (r *run) judge(ctx context.Context) error {
	r.groups = groupsOf(r.claims)
	found := make([]shown, len(r.claims))
	for i, c := range r.claims {
		ev := r.evs[c.tenant]
		found[i] = ev.look(c, 0, r.m.cfg.Tolerance)
		if found[i].rows == 0 {
			if s := ev.sum(c, r.m.cfg.Tolerance); s.rows > 0 {
				s.forged = found[i].forged
				found[i] = s
			}
		}
		if found[i].rows > 0 {
			r.groups[c.group()].seen++
		}
	}
	for i, c := range r.claims {
		if i%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		k, err := r.known(ctx, c)
		if err != nil {
			return err
		}
		t := judge(c, found[i], k, r.m.cfg.Certain, *r.groups[c.group()])
		l := &r.res.Lines[c.line]
		if t.Verdict == Contradicted {
			if err := r.doubt(ctx, l, c, &t); err != nil {
				return err
			}
		}
		l.Traffic = &t
		r.remarks(l, c, found[i])
		if t.Verdict != Confirmed {
			r.reading(l, c)
		}
	}
	return nil
}

// known finds out what is known of the time of a claim.
func (r *run) known(ctx context.Context, c *claim) (known, error) {
	ev := r.evs[c.tenant]
	var k known
	k.packets, k.rate, k.host = ev.seen(c.span(around))
	_, _, k.covered = ev.seen(c.span(r.m.cfg.Tolerance))
	k.asked = k.covered
	k.kept = !r.since.IsZero() && !c.from.Before(r.since)
	k.whole = !ev.cut
	if !k.kept {
		k.sums = ev.about(c, r.m.cfg.Tolerance)
	}
	if k.covered {
		return k, nil
	}
	p, err := r.collected(ctx, c)
	if err != nil {
		return k, err
	}
	k.asked, k.covered = p.asked, p.any
	if k.rate == 0 {
		k.rate = p.rate
	}
	return k, nil
}

// reading tries the other readings of a line's time.
func (r *run) reading(l *Line, c *claim) {
	for i, at := range c.readings {
		off := at.Sub(l.Time)
		s := r.evs[c.tenant].look(c, off, r.m.cfg.Tolerance)
		if s.rows == 0 {
			s = r.evs[c.tenant].sum(c.moved(off), r.m.cfg.Tolerance)
		}
		if s.rows > 0 {
			t := l.Traffic.confirm(c, s)
			t.Verdict, t.Why = Shifted, WhyReading
			l.Traffic = &t
			l.note("reading", l.Zone.Alternatives[i].Name, l.Zone.Alternatives[i].Time.Format(time.RFC3339))
			return
		}
	}
}

// headline is the verdict of the line: who held the address comes first.
func (l *Line) headline() Verdict {
	if l.Traffic.Verdict == NotOurs || !l.noted("no_holder") {
		return l.Traffic.Verdict
	}
	return UnknownHolder
}

func (l *Line) noted(code string) bool {
	return slices.ContainsFunc(l.Notes, func(n Note) bool { return n.Code == code })
}

// remarks are what a person should know of a line beside its verdict.
func (r *run) remarks(l *Line, c *claim, s shown) {
	r.holding(l, c)
	switch {
	case s.forged > 0 && s.rows == 0:
		l.note("forged")
	case s.rows > 0 && (s.synack || c.answer):
		l.note("answers")
	case s.server, s.rows == 0 && l.Side == "source" && c.proto == flow.ProtoTCP && isService(c.hostPort) && c.remotePort >= 32768:
		l.note("server_side")
	}
	if l.Traffic.Verdict == Confirmed && l.Traffic.Why == WhyService {
		l.note("no_target")
	}
	if l.Time.After(r.req.Received.Add(15 * time.Minute)) {
		l.note("future")
	}
}

// isService reports whether a port is one that servers listen on, as a rule.
func isService(p uint16) bool {
	return p > 0 && p < 1024 || slices.Contains([]uint16{3306, 3389, 5432, 8080, 8443, 25565, 27015}, p)
}
