package store

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// flowsWithSQL is newest-last like flowsSQL, for several remotes and with the
// port on the remote's side, which is the one that a complaint names.
var flowsWithSQL = strings.Replace(flowsSQL, `({any_remote:UInt8} = 1 OR remote = {remote:IPv6})`,
	`({any_remote:UInt8} = 1 OR remote IN {remotes:Array(IPv6)})`, 1)

// FlowsWith returns the stored flow rows of q that have one of the remotes at
// the other end (nil: any), in the order of their time, the earliest q.Limit
// (0: 1000, at most a million). q.Remote and q.Newest are not looked at.
func (s *Store) FlowsWith(ctx context.Context, q flow.FlowQuery, remotes []netip.Addr) ([]flow.FlowRow, error) {
	if remotes != nil && len(remotes) == 0 {
		return nil, nil
	}
	limit := q.Limit
	if limit <= 0 {
		limit = defaultFlows
	}
	return query(ctx, s, "flows with remotes", flowsWithSQL, nanoArgs(q.Range,
		namedAddr("tenant", q.Tenant), named("dir", uint8(q.Dir)),
		named("any_remote", bit(remotes == nil)), namedAddrs("remotes", remotes),
		named("proto", q.IPProto), named("port", q.SvcPort),
		named("any_class", bit(!q.HasClass)), named("class", uint8(q.Class)),
		named("limit", min(limit, maxFlows))), scanFlow)
}

const hostActivitySQL = `SELECT ` + stepOf + ` AS step, rate,
	sum(out_records), sum(in_records), sum(out_packets), sum(in_packets), sum(out_bytes), sum(in_bytes)
FROM host_window WHERE tenant = {tenant:IPv6} AND ` + inRange + `
GROUP BY step, rate ORDER BY step, rate`

// HostActivity returns the windows of a tenant that begin in r, summed by step
// and sampling rate, unscaled, in order of time. Of the counters only Counts is
// filled. step is a multiple of 10 s, and of Finest(r.From) where windows have
// expired.
func (s *Store) HostActivity(ctx context.Context, tenant netip.Addr, r flow.Range, step time.Duration) ([]flow.HostWindow, error) {
	if err := checkStep(step); err != nil {
		return nil, err
	}
	if step%time.Minute == 0 && (r.To.Sub(r.From) > longSeries || ceilSeconds(r.From) < s.horizon(s.cfg.WindowTTL, time.Now())) {
		return s.activity(ctx, tenant, r, step)
	}
	return query(ctx, s, "activity of a host", hostActivitySQL,
		rangeArgs(r, namedAddr("tenant", tenant), named("step", int64(step/time.Second))), scanActivity(tenant))
}

// fleetActivitySQL asks service_window, whose key begins with the time.
const fleetActivitySQL = `SELECT ` + stepOf + ` AS step, rate,
	sum(out_records), sum(in_records), sum(out_packets), sum(in_packets), sum(out_bytes), sum(in_bytes)
FROM service_window WHERE ` + inRange + `
GROUP BY step, rate ORDER BY step, rate`

var fleetMinutesSQL = strings.Replace(fleetActivitySQL, "FROM service_window WHERE "+inRange,
	"FROM fleet_1m WHERE "+inRange+" AND roll IN "+rollsInForce, 1)

// FleetActivity is HostActivity for all tenants together, from the service
// windows: it tells whether anything was collected at a time, and at which
// sampling rates. Tenant is not set.
func (s *Store) FleetActivity(ctx context.Context, r flow.Range, step time.Duration) ([]flow.HostWindow, error) {
	if err := checkStep(step); err != nil {
		return nil, err
	}
	if step%time.Minute == 0 && ceilSeconds(r.From) < s.horizon(s.cfg.WindowTTL, time.Now()) {
		return query(ctx, s, "activity of the fleet", fleetMinutesSQL,
			rangeArgs(r, named("step", int64(step/time.Second)), asof()), scanActivity(netip.Addr{}))
	}
	return query(ctx, s, "activity of the fleet", fleetActivitySQL,
		rangeArgs(r, named("step", int64(step/time.Second))), scanActivity(netip.Addr{}))
}

func checkStep(step time.Duration) error {
	if step < flow.WindowSeconds*time.Second || step%(flow.WindowSeconds*time.Second) != 0 {
		return fmt.Errorf("step %v is not a multiple of %d s", step, flow.WindowSeconds)
	}
	return nil
}

func scanActivity(tenant netip.Addr) func(driver.Rows, *flow.HostWindow) error {
	return func(rows driver.Rows, v *flow.HostWindow) error {
		v.Tenant = tenant
		return rows.Scan(dest([]any{&v.Start, &v.Rate}, countDest(&v.Counts))...)
	}
}

const pairsWithSQL = `SELECT toInt64(toUnixTimestamp(start)), rate, remote, ip_proto,
	sum(out_records), sum(in_records), sum(out_packets), sum(in_packets), sum(out_bytes), sum(in_bytes),
	groupUniqArrayArray(ports)
FROM pair_window
WHERE ` + inRange + ` AND tenant = {tenant:IPv6} AND remote IN {remotes:Array(IPv6)}
GROUP BY start, rate, remote, ip_proto ORDER BY start, remote, ip_proto, rate
LIMIT {limit:UInt32}`

// maxPairs bounds what PairsWith returns.
const maxPairs = 100_000

// PairsWith returns the pair windows of a tenant with the remotes that begin in
// r, each key once, in order of time; Counts and Ports are filled. The table's
// key begins with the time: r should be minutes, not days.
func (s *Store) PairsWith(ctx context.Context, tenant netip.Addr, r flow.Range, remotes []netip.Addr) ([]flow.PairWindow, error) {
	if len(remotes) == 0 {
		return nil, nil
	}
	return query(ctx, s, "pairs with remotes", pairsWithSQL,
		rangeArgs(r, namedAddr("tenant", tenant), namedAddrs("remotes", remotes), named("limit", maxPairs)),
		func(rows driver.Rows, v *flow.PairWindow) error {
			err := rows.Scan(dest([]any{&v.Start, &v.Rate, &v.Remote, &v.IPProto}, countDest(&v.Counts), []any{&v.Ports})...)
			v.Tenant, v.Remote = tenant, unmap(v.Remote)
			return err
		})
}

// FlowsSince returns the time of the earliest flow row that is stored; zero if
// none is. It is read from the parts' own bounds.
func (s *Store) FlowsSince(ctx context.Context) (time.Time, error) {
	type first struct {
		at time.Time
		n  uint64
	}
	l, err := query(ctx, s, "earliest flow", `SELECT min(time), count() FROM flows`, nil,
		func(rows driver.Rows, v *first) error { return rows.Scan(&v.at, &v.n) })
	if err != nil || len(l) == 0 || l[0].n == 0 {
		return time.Time{}, err
	}
	return l[0].at.UTC(), nil
}
