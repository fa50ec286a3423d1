package store

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// step of the window that a row begins, aligned to the epoch.
const stepOf = `intDiv(toInt64(toUnixTimestamp(start)), {step:Int64}) * {step:Int64}`

// longSeries is from where on HostSeries reads rollups: what is shorter is looked
// at while it happens, and late rows should show at once.
const longSeries = 6 * time.Hour

// HostSeries returns a tenant's windows that begin in r, summed by steps that
// are aligned to the epoch, in order of time; steps without windows are left
// out. The Est values are scaled by each row's sampling rate, records and
// attempts are not. step is a multiple of 10 s. More than six hours by the minute
// or more are read from rollups: History.
func (s *Store) HostSeries(ctx context.Context, tenant netip.Addr, r flow.Range, step time.Duration) ([]flow.SeriesPoint, error) {
	v, err := s.Series(ctx, tenant, r, step)
	return v.Points, err
}

// topOrders are what Top can order by: identifiers are never taken from a
// caller.
var topOrders = map[string]string{
	"out_bytes": "est_out_bytes", "out_packets": "est_out_packets",
	"in_bytes": "est_in_bytes", "in_packets": "est_in_packets",
	"syn": "syn",
}

// ErrOrder is returned by Top for an order that it does not know.
var ErrOrder = errors.New("unknown order: want out_bytes, out_packets, in_bytes, in_packets or syn")

// maxTop bounds what Top returns.
const maxTop = 10_000

// Top returns the limit tenants (0: 20, at most 10,000) with the most traffic
// in the windows that begin in r, largest first; equals by address. by is
// out_bytes, out_packets, in_bytes or in_packets, scaled by the sampling rate,
// or syn, the number of records of outgoing SYNs, not scaled. TopList says from
// what.
func (s *Store) Top(ctx context.Context, r flow.Range, by string, limit int) ([]flow.TopRow, error) {
	l, err := s.TopList(ctx, flow.TopQuery{Range: r, By: by, Limit: limit})
	return l.Rows, err
}

const outboundSQL = `SELECT sum(out_packets), maxIf(start, out_packets > 0), countIf(out_packets > 0)
FROM host_window WHERE tenant = {tenant:IPv6} AND start >= toDateTime({from:Int64}, 'UTC')`

// fleetSQL reads backwards from the newest window and stops at the first row:
// the table's key begins with time.
const fleetSQL = `SELECT start FROM service_window
WHERE start >= toDateTime({from:Int64}, 'UTC') AND out_packets > 0 ORDER BY start DESC LIMIT 1`

// fleetLookback is how far before since Outbound looks for the fleet's last
// traffic.
const fleetLookback = time.Hour

// Outbound returns what a tenant sent in the windows that begin at since or
// later; a window that since cuts is left out. FleetLast is zero if nobody has
// sent anything since an hour before since.
func (s *Store) Outbound(ctx context.Context, tenant netip.Addr, since time.Time) (flow.Outbound, error) {
	type sum struct {
		packets, windows uint64
		last             time.Time
	}
	window := flow.WindowSeconds * time.Second
	sums, err := query(ctx, s, "outbound traffic", outboundSQL,
		[]any{namedAddr("tenant", tenant), named("from", ceilSeconds(since))},
		func(rows driver.Rows, v *sum) error { return rows.Scan(&v.packets, &v.last, &v.windows) })
	if err != nil {
		return flow.Outbound{}, err
	}
	fleet, err := query(ctx, s, "traffic of the fleet", fleetSQL,
		[]any{named("from", ceilSeconds(since.Add(-fleetLookback)))},
		func(rows driver.Rows, v *time.Time) error { return rows.Scan(v) })
	if err != nil {
		return flow.Outbound{}, err
	}
	var o flow.Outbound
	if len(sums) == 1 && sums[0].windows > 0 {
		o.Packets, o.Last = sums[0].packets, sums[0].last.Add(window).UTC()
	}
	if len(fleet) == 1 {
		o.FleetLast = fleet[0].Add(window).UTC()
	}
	return o, nil
}
