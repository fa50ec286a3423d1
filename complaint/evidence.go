package complaint

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// evidence is what is stored about one host, as far as its claims need it.
type evidence struct {
	rows  []flow.FlowRow    // with the claims' targets, 26 hours around
	open  []flow.FlowRow    // of the claims that name no target, at their times
	pairs []flow.PairWindow // where flow rows are not kept
	hours []flow.PairHour   // where windows are not either
	host  []hostSum         // half an hour around, by time
	old   []serviceSums     // where flow rows are not kept
	cut   bool              // there were more rows than are read
}

// hostSum is what the host did in a step.
type hostSum struct {
	flow.HostWindow
	step time.Duration
}

// presence is whether anything was collected at a time, and how thinly.
type presence struct {
	asked bool
	any   bool
	rate  uint32
}

const activityStep = time.Minute

// gather asks for what the claims of one tenant need.
func (m *Matcher) gather(ctx context.Context, claims []*claim, since time.Time) (*evidence, error) {
	ev := &evidence{}
	tenant := claims[0].tenant
	for _, step := range []func(context.Context, *evidence, netip.Addr, []*claim, time.Time) error{m.activity, m.named, m.unnamed, m.sums} {
		if err := step(ctx, ev, tenant, claims, since); err != nil {
			return nil, err
		}
	}
	return ev, nil
}

func (m *Matcher) activity(ctx context.Context, ev *evidence, tenant netip.Addr, claims []*claim, _ time.Time) error {
	for _, r := range merge(spans(claims, around), 0, maxRanges) {
		step := max(activityStep, m.finest(r.From))
		l, err := m.deps.Store.HostActivity(ctx, tenant, r, step)
		if err != nil {
			return fmt.Errorf("ask for the activity of %s: %w", tenant, err)
		}
		for _, w := range l {
			ev.host = append(ev.host, hostSum{w, step})
		}
	}
	return nil
}

// spans are the claimed times, and their other readings, with d around.
func spans(claims []*claim, d time.Duration) []flow.Range {
	var out []flow.Range
	for _, c := range claims {
		out = append(out, c.span(d))
		for _, at := range c.readings {
			off := at.Sub(c.from)
			r := c.span(d)
			out = append(out, flow.Range{From: r.From.Add(off), To: r.To.Add(off)})
		}
	}
	return out
}

// named reads the flows with the targets that claims name, so far around that
// the search for an offset has them too.
func (m *Matcher) named(ctx context.Context, ev *evidence, tenant netip.Addr, claims []*claim, since time.Time) error {
	var with []*claim
	var remotes []netip.Addr
	for _, c := range claims {
		if c.remote.IsValid() && !since.IsZero() && !c.to.Add(searchSpan).Before(since) {
			with = append(with, c)
			remotes = append(remotes, c.remote)
		}
	}
	slices.SortFunc(remotes, netip.Addr.Compare)
	remotes = slices.Compact(remotes)
	if len(remotes) > maxRemotes {
		remotes, ev.cut = remotes[:maxRemotes], true
	}
	if len(remotes) == 0 {
		return nil
	}
	for _, r := range merge(spans(with, searchSpan+m.cfg.Tolerance), 0, maxRanges) {
		q := flow.FlowQuery{Tenant: tenant, Range: r, SvcPort: -1, Limit: maxRows + 1}
		q.Range.To = q.Range.To.Add(time.Minute) // a row counts when it ends
		l, err := m.deps.Store.FlowsWith(ctx, q, remotes)
		if err != nil {
			return fmt.Errorf("ask for the flows of %s: %w", tenant, err)
		}
		if len(l) > maxRows {
			l, ev.cut = l[:maxRows], true
		}
		ev.rows = append(ev.rows, l...)
	}
	return nil
}

// unnamed reads the flows on the ports of claims without a target, at their
// times only.
func (m *Matcher) unnamed(ctx context.Context, ev *evidence, tenant netip.Addr, claims []*claim, since time.Time) error {
	byPort := map[int][]*claim{}
	for _, c := range claims {
		if !c.service() || since.IsZero() {
			continue
		}
		switch {
		case c.remotePort > 0:
			byPort[int(c.remotePort)] = append(byPort[int(c.remotePort)], c)
		case len(c.usual) > 0:
			for _, p := range c.usual {
				byPort[int(p)] = append(byPort[int(p)], c)
			}
		default:
			byPort[-1] = append(byPort[-1], c)
		}
	}
	for port, l := range byPort {
		for _, r := range merge(spans(l, m.cfg.Tolerance), 0, maxRanges) {
			// The port of the row is the server's, as a rule the remote's here;
			// where it is not, matches decides by the remote's own port.
			q := flow.FlowQuery{Tenant: tenant, Range: flow.Range{From: r.From, To: r.To.Add(time.Minute)}, SvcPort: port, Limit: maxRows / 10}
			rows, err := m.deps.Store.FlowsWith(ctx, q, nil)
			if err != nil {
				return fmt.Errorf("ask for the flows of %s: %w", tenant, err)
			}
			ev.cut = ev.cut || len(rows) == maxRows/10
			ev.open = append(ev.open, rows...)
		}
	}
	return nil
}

// seen sums the host's windows in a range: packets from it, unscaled, the
// thinnest rate, and whether there were any.
func (ev *evidence) seen(r flow.Range) (packets uint64, rate uint32, ok bool) {
	for _, w := range ev.host {
		if w.Start+int64(w.step/time.Second) > r.From.Unix() && w.Start <= r.To.Unix() {
			packets += w.OutPackets
			rate, ok = max(rate, w.Rate), true
		}
	}
	return packets, rate, ok
}

// collected tells whether anything of anybody was collected at the claim's
// time; asked in the store at most maxFleet times for one complaint.
func (r *run) collected(ctx context.Context, c *claim) (presence, error) {
	key := c.from.Truncate(time.Minute).Unix()
	if p, ok := r.fleet[key]; ok || len(r.fleet) == maxFleet {
		return p, nil
	}
	span := c.span(r.m.cfg.Tolerance)
	if span.To.Sub(span.From) > 15*time.Minute { // a long claim: its beginning stands for it
		span.To = span.From.Add(15 * time.Minute)
	}
	l, err := r.m.deps.Store.FleetActivity(ctx, span, activityStep)
	if err != nil {
		return presence{}, fmt.Errorf("ask for what was collected: %w", err)
	}
	p := presence{asked: true}
	for _, w := range l {
		p.any, p.rate = true, max(p.rate, w.Rate)
	}
	r.fleet[key] = p
	return p, nil
}
