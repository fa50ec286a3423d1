package bundle

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Source answers what a bundle is made from (store).
type Source interface {
	Flows(ctx context.Context, q flow.FlowQuery) ([]flow.FlowRow, error)
	HostSeries(ctx context.Context, tenant netip.Addr, r flow.Range, step time.Duration) ([]flow.SeriesPoint, error)
	Evidence(ctx context.Context, key string) (flow.Evidence, error)
}

// What Collect asks for at most.
const (
	maxRows     = 10_000 // as with the frozen texts: about 2 MB of CSV
	maxQueries  = 8      // findings, strongest first
	maxSpan     = 6 * time.Hour
	around      = 10 * time.Minute // before the first finding and after the act, in the picture
	pointsShown = 360
)

// Collect asks for an incident's evidence, rows and series. Rows that have
// expired are missing, the frozen texts are not. now bounds what is looked at.
func Collect(ctx context.Context, src Source, inc flow.Incident, now time.Time) (Input, error) {
	in := Input{Incident: inc}
	for _, key := range inc.Evidence {
		e, err := src.Evidence(ctx, key)
		if err != nil {
			return in, fmt.Errorf("read evidence %s: %w", key, err)
		}
		e.Incident = key
		in.Evidence = append(in.Evidence, e)
	}
	span := spanOf(inc, now)
	if err := in.collectRows(ctx, src, span); err != nil {
		return in, err
	}
	in.Shown = flow.Range{From: span.From.Add(-around), To: span.To.Add(around)}
	if in.Shown.To.After(now) {
		in.Shown.To = now
	}
	in.Step = max(in.Shown.To.Sub(in.Shown.From)/pointsShown, defaultStep).Truncate(defaultStep)
	var err error
	if in.Series, err = src.HostSeries(ctx, inc.Tenant, in.Shown, in.Step); err != nil {
		return in, fmt.Errorf("read the traffic of %s: %w", inc.Tenant, err)
	}
	return in, nil
}

// collectRows asks for the outgoing rows behind the strongest findings, each row
// once.
func (in *Input) collectRows(ctx context.Context, src Source, span flow.Range) error {
	var asked []flow.FlowQuery
	for _, f := range in.Incident.Findings {
		q := flow.FlowQuery{Tenant: in.Incident.Tenant, Range: span, Dir: flow.Out, Remote: f.Remote, IPProto: f.IPProto, SvcPort: -1, Limit: maxRows + 1}
		if f.Port != 0 {
			q.SvcPort = int(f.Port)
		}
		if slices.Contains(asked, q) {
			continue
		}
		if len(asked) == maxQueries {
			in.Truncated = true
			break
		}
		rows, err := src.Flows(ctx, q)
		if err != nil {
			return fmt.Errorf("read flows of %s: %w", in.Incident.Tenant, err)
		}
		for _, r := range rows {
			if !slices.ContainsFunc(asked, func(o flow.FlowQuery) bool { return selects(o, r) }) {
				in.Flows = append(in.Flows, r)
			}
		}
		asked = append(asked, q)
	}
	if in.Flows = own(*in); len(in.Flows) > maxRows {
		in.Flows, in.Truncated = in.Flows[:maxRows], true
	}
	return nil
}

func selects(q flow.FlowQuery, r flow.FlowRow) bool {
	return (!q.Remote.IsValid() || q.Remote == r.Remote) && (q.IPProto == 0 || q.IPProto == r.IPProto) && (q.SvcPort < 0 || q.SvcPort == int(r.SvcPort))
}

// spanOf is from the first finding to the act or the last change.
func spanOf(inc flow.Incident, now time.Time) flow.Range {
	r := flow.Range{From: inc.Opened, To: inc.Updated}
	for _, f := range inc.Findings {
		if !f.From.IsZero() && f.From.Before(r.From) {
			r.From = f.From
		}
		if f.To.After(r.To) {
			r.To = f.To
		}
	}
	if r.To.After(now) {
		r.To = now
	}
	if r.To.Sub(r.From) > maxSpan {
		r.To = r.From.Add(maxSpan)
	}
	return flow.Range{From: r.From.UTC(), To: r.To.UTC()}
}
