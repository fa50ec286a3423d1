package respond

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// effect looks at the flows for what the measure in force is to stop. seen
// says what was, for people.
func (c *Controller) effect(ctx context.Context, inc flow.Incident, since, now time.Time) (v verdict, seen string, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.QueryTimeout)
	defer cancel()
	o, err := c.deps.Flows.Outbound(ctx, inc.Tenant, since)
	if err != nil {
		return waiting, "", err
	}
	switch inc.Action.Taken() {
	case flow.MeasureLimit:
		return c.limited(ctx, inc, o, since, now)
	case flow.MeasureBlockPort:
		o.Packets, o.Last = 0, time.Time{}
		if err := c.toPorts(ctx, inc, since, now, &o); err != nil {
			return waiting, "", err
		}
		seen = " to the blocked ports"
	}
	seen = fmt.Sprintf("%d sampled packets%s since %s, the last until %s", o.Packets, seen, stamp(since), stamp(o.Last))
	return judge(c.cfg, inc, o, now), seen, nil
}

// portRows bounds the rows that are looked at for one blocked port: the newest.
const portRows = 1000

// toPorts counts what the tenant sent to the blocked ports. Its own service at
// one of those ports answers from it, and that is not what was blocked.
func (c *Controller) toPorts(ctx context.Context, inc flow.Incident, since, now time.Time, o *flow.Outbound) error {
	for _, p := range inc.Action.Measure.Ports {
		q := flow.FlowQuery{
			Tenant: inc.Tenant, Range: flow.Range{From: since, To: now}, Dir: flow.Out, IPProto: p.Proto, SvcPort: -1,
			Limit: portRows, Newest: true,
		}
		if p.Port != 0 {
			q.SvcPort = int(p.Port)
		}
		rows, err := c.deps.Flows.Flows(ctx, q)
		if err != nil {
			return fmt.Errorf("read flows to port %d: %w", p.Port, err)
		}
		for _, row := range rows {
			at := time.Unix(0, max(row.Time, row.End)).UTC()
			if p.Port != 0 && row.RemotePort != p.Port || at.Before(since) {
				continue
			}
			o.Packets += row.Packets
			if at.After(o.Last) {
				o.Last = at
			}
		}
	}
	return nil
}

// limitSlack is by how much what was sampled may pass the limit: bursts, and
// the error of few samples.
const limitSlack = 1.25

// limited judges a rate limit: the mean of what it sent, over VerifyFor at
// least, is below the limit while others are heard.
func (c *Controller) limited(ctx context.Context, inc flow.Incident, o flow.Outbound, since, now time.Time) (verdict, string, error) {
	m, ok := c.deps.Flows.(Meter)
	if !ok {
		return unmetered, "", nil
	}
	step := flow.WindowSeconds * time.Second
	need := max(c.cfg.VerifyFor, 3*step).Round(step)
	to := now.Add(-flushLag).Truncate(step)
	from := to.Add(-need)
	switch {
	case now.After(since.Add(need+skew)) && o.FleetLast.Before(now.Add(-need-skew)):
		return fleetSilent, "", nil
	case from.Before(since), o.FleetLast.Before(to):
		return waiting, "", nil
	}
	points, err := m.HostSeries(ctx, inc.Tenant, flow.Range{From: from, To: to}, step)
	if err != nil {
		return waiting, "", fmt.Errorf("read how fast %s sends: %w", inc.Tenant, err)
	}
	points = slices.DeleteFunc(points, func(p flow.SeriesPoint) bool { return p.Time.Before(from) || !p.Time.Before(to) })
	var bytes uint64
	for _, p := range points {
		bytes += p.EstOutBytes
	}
	kbit := float64(bytes) * 8 / 1000 / need.Seconds()
	seen := fmt.Sprintf("%.0f kbit/s from %s to %s, the limit is %d", kbit, stamp(from), stamp(to), inc.Action.Measure.KbitS)
	switch {
	case kbit <= limitSlack*float64(inc.Action.Measure.KbitS):
		return silent, seen, nil
	case !now.Before(since.Add(c.cfg.VerifyDeadline)):
		return sending, seen, nil
	}
	return waiting, seen, nil
}
