package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// serviceHoursSQL unites sets of several levels as distinctRemotes does, for one
// tenant only.
var serviceHoursSQL = `SELECT ip_proto, role, svc_port,
	sum(out_packets * rate), sum(in_packets * rate), sum(out_bytes * rate) AS est_out, sum(in_bytes * rate) AS est_in,
	sum(out_records + in_records), sum(attempts),
	bitShiftLeft(toUInt64(arrayCount(h -> bitAnd(h, bitShiftLeft(toUInt64(1), max(remotes_level)) - 1) = 0, groupUniqArrayArray(remotes))), max(remotes_level))
FROM service_1h
WHERE tenant = {tenant:IPv6} AND ` + inRange + ` AND roll IN ` + rollsInForce + `
GROUP BY ip_proto, role, svc_port
ORDER BY est_out + est_in DESC, ip_proto, role, svc_port LIMIT {limit:UInt32}`

// ServiceHours sums a tenant's services over the whole hours that begin in r and
// are rolled up, those with the most bytes first (limit 0: 20, at most 10,000).
func (s *Store) ServiceHours(ctx context.Context, tenant netip.Addr, r flow.Range, limit int) ([]flow.ServiceHours, error) {
	if limit <= 0 {
		limit = 20
	}
	return query(ctx, s, "services by the hour", serviceHoursSQL,
		rangeArgs(r, namedAddr("tenant", tenant), named("limit", min(limit, maxTop)), asof()),
		func(rows driver.Rows, v *flow.ServiceHours) error {
			var role uint8
			err := rows.Scan(&v.IPProto, &role, &v.SvcPort, &v.EstOutPackets, &v.EstInPackets, &v.EstOutBytes, &v.EstInBytes, &v.Records, &v.Attempts, &v.Distinct)
			v.Role = flow.Role(role)
			return err
		})
}

func asof() any { return named("asof", time.Now().Add(-settled).UnixMilli()) }

// pairHoursSQL: an hour matches if the pair was seen before the range's end and
// after its beginning.
var pairHoursSQL = `SELECT toInt64(toUnixTimestamp(start)) AS slot, rate, remote, ip_proto, min(p.first) AS f, max(p.last) AS l,
	sum(out_records), sum(in_records), sum(out_packets), sum(in_packets), sum(out_bytes), sum(in_bytes),
	sum(syn_out), sum(est_out), sum(synack_in), sum(rst_in), arraySort(groupUniqArrayArray(ports))
FROM pair_1h AS p
WHERE tenant = {tenant:IPv6} AND remote IN {remotes:Array(IPv6)}
	AND start > toDateTime({from:Int64}, 'UTC') - 3600 AND start < toDateTime({to:Int64}, 'UTC') AND roll IN ` + rollsInForce + `
GROUP BY slot, rate, remote, ip_proto
HAVING f < toDateTime({to:Int64}, 'UTC') AND l + 10 > toDateTime({from:Int64}, 'UTC')
ORDER BY slot, remote, ip_proto, rate
LIMIT {limit:UInt32}`

// PairHours is PairsWith for times of which windows are stored no more: the sums
// of a tenant's pairs over the hours that r touches, of those pairs whose first
// window begins before r ends and whose last ends after r begins. That they were
// seen in each moment between is not known.
func (s *Store) PairHours(ctx context.Context, tenant netip.Addr, r flow.Range, remotes []netip.Addr) ([]flow.PairHour, error) {
	if len(remotes) == 0 {
		return nil, nil
	}
	return query(ctx, s, "pairs by the hour", pairHoursSQL,
		rangeArgs(r, namedAddr("tenant", tenant), namedAddrs("remotes", remotes), named("limit", maxPairs), asof()),
		func(rows driver.Rows, v *flow.PairHour) error {
			err := rows.Scan(dest([]any{&v.Start, &v.Rate, &v.Remote, &v.IPProto, &v.First, &v.Last}, countDest(&v.Counts),
				[]any{&v.SYNOut, &v.EstOut, &v.SYNACKIn, &v.RSTIn, &v.Ports})...)
			v.Tenant, v.Remote = tenant, unmap(v.Remote)
			v.First, v.Last = v.First.UTC(), v.Last.UTC()
			return err
		})
}
