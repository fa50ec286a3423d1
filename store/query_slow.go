package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// What scans that take hours are found by: the hours that are rolled up. Windows
// of six hours would be a thousand million rows; hours are some millions, and
// begin with the tenant.

const lastHourSQL = `SELECT toInt64(toUnixTimestamp(max(slot))) FROM rollup
WHERE done AND written <= fromUnixTimestamp64Milli({asof:Int64}, 'UTC')
	AND slot + 3600 <= toDateTime({to:Int64}, 'UTC') AND slot >= toDateTime({from:Int64}, 'UTC')`

// LastHour returns the end of the last hour in r that is rolled up; zero: none is.
func (s *Store) LastHour(ctx context.Context, r flow.Range) (time.Time, error) {
	l, err := query(ctx, s, "last hour rolled up", lastHourSQL, rangeArgs(r, asof()),
		func(rows driver.Rows, v *int64) error { return rows.Scan(v) })
	if err != nil || len(l) == 0 || l[0] == 0 {
		return time.Time{}, err
	}
	return time.Unix(l[0], 0).UTC().Add(hour), nil
}

// maxSlow bounds an answer of SlowScans: those that show most.
const maxSlow = 2000

// slowScansSQL has no destinations: of a scan's evidence (lambda of the detector)
// SYNs are no less than those are.
const slowScansSQL = `SELECT tenant, svc_port, greatest(1.2 * s - (2.5 * sum(est_out * rate) + 2. * sum(synack_in * rate) + 2.5 * sum(est_in * rate)) / n,
	0.26 * s - 1.35 * sum(synack_in * rate) / n, 0.1335 * s - 1.2528 * sum(synack_in * rate) / n) AS shows, greatest(max(rate), 1) AS n, sum(syn_out * rate) / n AS s
FROM service_1h
WHERE ` + inRange + ` AND ip_proto = 6 AND role = 1 AND roll IN ` + rollsInForce + `
GROUP BY tenant, svc_port HAVING sum(attempts) >= {min:UInt64} AND shows >= {least:Float64}
ORDER BY shows DESC, tenant, svc_port LIMIT {limit:UInt32}`

// SlowScans returns the clients of TCP ports, summed over the whole hours of r that
// are rolled up, that have at least minAttempts attempts and may show least of a
// scan's evidence; the 2,000 that show most. See ServiceHourStats.
func (s *Store) SlowScans(ctx context.Context, r flow.Range, minAttempts uint64, least float64) ([]flow.ServiceStat, error) {
	type key struct {
		tenant netip.Addr
		port   uint16
	}
	keys, err := query(ctx, s, "slow scans", slowScansSQL, rangeArgs(r, named("min", max(minAttempts, 1)), named("least", least), named("limit", maxSlow), asof()),
		func(rows driver.Rows, v *key) error {
			var shows, sum float64
			var n uint32
			err := rows.Scan(&v.tenant, &v.port, &shows, &n, &sum)
			v.tenant = unmap(v.tenant)
			return err
		})
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	wanted := make(map[key]bool, len(keys))
	var tenants []netip.Addr
	for _, k := range keys {
		wanted[k] = true
		tenants = append(tenants, k.tenant)
	}
	all, err := s.ServiceHourStats(ctx, r, tenants)
	if err != nil {
		return nil, err
	}
	out := all[:0]
	for i := range all {
		if wanted[key{all[i].Tenant, all[i].SvcPort}] {
			out = append(out, all[i])
		}
	}
	return out, nil
}

var serviceHourStatsSQL = `SELECT tenant, svc_port, ` + countSums + `, ` + sums(hourClassFields()) + `,
	` + thinned("attempts") + `, ` + thinnedDistinct(fewDistinct, "attempts") + `, toFloat64(` + thinnest + `)
FROM service_1h
WHERE tenant IN {tenants:Array(IPv6)} AND ` + inRange + ` AND ip_proto = 6 AND role = 1 AND roll IN ` + rollsInForce + `
GROUP BY tenant, svc_port`

// hourClassFields are those of classFields that hours have.
func hourClassFields() []field {
	var out []field
	for _, f := range classFields {
		if f.name != "raw_syn" && f.name != "no_flags" {
			out = append(out, f)
		}
	}
	return out
}

// ServiceHourStats sums the tenants' client side of TCP ports over the whole hours
// of r that are rolled up. Hours know neither raw SYNs nor records without flags,
// which are 0, and of more than 256 destinations in an hour the number is known to
// 6 %. The order is undefined.
func (s *Store) ServiceHourStats(ctx context.Context, r flow.Range, tenants []netip.Addr) ([]flow.ServiceStat, error) {
	return query(ctx, s, "services by the hour", serviceHourStatsSQL, rangeArgs(r, namedAddrs("tenants", tenants), asof()),
		func(rows driver.Rows, v *flow.ServiceStat) error {
			v.IPProto = flow.ProtoTCP
			c := &v.Classes
			err := rows.Scan(dest([]any{&v.Tenant, &v.SvcPort}, countDest(&v.Counts),
				[]any{&c.SYNOut, &c.EstOut, &c.SYNACKOut, &c.RSTOut, &c.SYNIn, &c.EstIn, &c.SYNACKIn, &c.RSTIn},
				[]any{&v.Attempts, &v.Distinct, &v.Rate})...)
			v.Tenant = unmap(v.Tenant)
			return err
		})
}
