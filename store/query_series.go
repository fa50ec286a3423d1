package store

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// seriesOfSQL sums windows of some tenants. Attempts are kept by service only, in
// a projection by tenant; a service window can be there without its host window for
// a moment, and is not shown then.
const seriesOfSQL = `SELECT tenant, step, sum(a), sum(b), sum(c), sum(d), sum(e), sum(f), sum(g), sum(tries) FROM (
	SELECT tenant, ` + stepOf + ` AS step, count() AS windows, sum(out_packets * rate) AS a, sum(in_packets * rate) AS b, sum(out_bytes * rate) AS c, sum(in_bytes * rate) AS d,
		sum(out_records) AS e, sum(in_records) AS f, sum(syn_out) AS g, toUInt64(0) AS tries
	FROM host_window WHERE tenant IN {tenants:Array(IPv6)} AND ` + inRange + ` GROUP BY tenant, step
	UNION ALL
	SELECT tenant, ` + stepOf + ` AS step, toUInt64(0), toUInt64(0), toUInt64(0), toUInt64(0), toUInt64(0), toUInt64(0), toUInt64(0), toUInt64(0), sum(attempts)
	FROM service_window WHERE tenant IN {tenants:Array(IPv6)} AND ` + inRange + ` GROUP BY tenant, step)
GROUP BY tenant, step HAVING sum(windows) > 0 ORDER BY tenant, step`

// seriesOf is the series of windows of each of the tenants.
func (s *Store) seriesOf(ctx context.Context, tenants []netip.Addr, r flow.Range, step time.Duration) (map[netip.Addr][]flow.SeriesPoint, error) {
	type point struct {
		tenant netip.Addr
		flow.SeriesPoint
	}
	points, err := query(ctx, s, "time series", seriesOfSQL, rangeArgs(r, namedAddrs("tenants", tenants), named("step", int64(step/time.Second))),
		func(rows driver.Rows, v *point) error {
			var at int64
			err := rows.Scan(&v.tenant, &at, &v.EstOutPackets, &v.EstInPackets, &v.EstOutBytes, &v.EstInBytes, &v.OutRecords, &v.InRecords, &v.SYNOut, &v.Attempts)
			v.Time = time.Unix(at, 0).UTC()
			return err
		})
	out := make(map[netip.Addr][]flow.SeriesPoint, len(tenants))
	for i := range points {
		key := unmap(points[i].tenant)
		out[key] = append(out[key], points[i].SeriesPoint)
	}
	return out, err
}

// onWindows moves a range's ends to where windows begin, which takes none in or out.
func onWindows(r flow.Range) flow.Range {
	grid := func(t time.Time) time.Time { return time.Unix(ceilTo(ceilSeconds(t), flow.WindowSeconds), 0).UTC() }
	return flow.Range{From: grid(r.From), To: grid(r.To)}
}

// Series is HostSeries with what it was read from.
func (s *Store) Series(ctx context.Context, tenant netip.Addr, r flow.Range, step time.Duration) (flow.Series, error) {
	if err := checkStep(step); err != nil {
		return flow.Series{}, err
	}
	r, tenant = onWindows(r), unmap(tenant)
	long := step%time.Minute == 0 && (r.To.Sub(r.From) > longSeries || r.From.Unix() < s.horizon(s.cfg.WindowTTL, time.Now()))
	q := question[flow.Series]{shape: fmt.Sprint("series ", r.From.Unix(), r.To.Unix(), step), tenant: tenant, to: r.To,
		bytes: func(v flow.Series) int { return rowsBytes(v.Points) }}
	if long {
		q.shape += " " + tenant.String() // nobody else's
		q.ask = alone(func(ctx context.Context) (flow.Series, error) {
			return s.History(ctx, flow.SeriesQuery{Tenant: tenant, Range: r, Step: step})
		})
		return answer(ctx, s, q)
	}
	q.ask = func(ctx context.Context, tenants []netip.Addr) (map[netip.Addr]flow.Series, error) {
		points, err := s.seriesOf(ctx, tenants, r, step)
		out := make(map[netip.Addr]flow.Series, len(tenants))
		for _, t := range tenants {
			out[t] = flow.Series{Range: r, Step: step, Resolution: flow.ResolutionWindow, Points: points[t]}
		}
		return out, err
	}
	return answer(ctx, s, q)
}
