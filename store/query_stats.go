package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// serviceSQL first finds the tenants with enough attempts at one port, which
// needs three small columns, and only for those sums up the rest and unites the
// arrays of destinations, which are most of the table's bytes. The first pass
// keeps tenants and not (tenant, port): looking up one address a row is cheaper
// than a tuple (0.82 against 0.98 CPU s for 9 million rows), and the last line
// is exact anyway. The same goes for the setting: the index begins with time, so
// trying the set on its marks is wasted.
var serviceSQL = scoped(func(c scope) string {
	return c.with("", serviceTenants, withThinned) + `SELECT tenant, svc_port, ` + countSums + `, ` + classSums + `,
	` + thinned("attempts") + `, ` + thinnedDistinct(c.distinctRemotes(), "attempts") + `, toFloat64(` + thinnest + `)
FROM service_window
WHERE ` + inRange + ` AND ip_proto = {proto:UInt8} AND role = 1` + c.found(`{min:UInt64} = 0 OR tenant IN k`) + ` ` + amongMark + `
GROUP BY tenant, svc_port HAVING sum(attempts) >= {min:UInt64}` + c.noIndexForFound()
})

const serviceTenants = `k AS (SELECT tenant FROM (
	SELECT tenant, svc_port FROM service_window
	WHERE ` + inRange + ` AND ip_proto = {proto:UInt8} AND role = 1 AND attempts > 0 ` + amongMark + `
	GROUP BY tenant, svc_port HAVING sum(attempts) >= {min:UInt64}))`

// ServiceStats sums the windows that begin in r, with the tenant as client, by
// tenant and service port, for those with at least minAttempts attempts (0:
// all, unscaled). Distinct is the union of the rows' destinations: exact, unless
// a row had so many that it holds a sample of them (ServiceWindow.RemotesLevel).
// Rows of several sampling rates are brought to the thinnest. The order is
// undefined.
func (s *Store) ServiceStats(ctx context.Context, r flow.Range, ipProto uint8, minAttempts uint64) ([]flow.ServiceStat, error) {
	return query(ctx, s, "service statistics", serviceSQL.of(ctx),
		rangeArgs(r, named("proto", ipProto), named("min", minAttempts)),
		func(rows driver.Rows, v *flow.ServiceStat) error {
			v.IPProto = ipProto
			err := rows.Scan(dest([]any{&v.Tenant, &v.SvcPort}, countDest(&v.Counts), classDest(&v.Classes),
				[]any{&v.Attempts, &v.Distinct, &v.Rate})...)
			v.Tenant = unmap(v.Tenant)
			return err
		})
}

// pairSQL screens as serviceSQL does. The sum of the arrays' lengths is at
// least the number of distinct ports.
var pairSQL = scoped(func(c scope) string {
	return c.with("", pairTenants) + `SELECT tenant, remote, ` + countSums + `, ` + classSums + `,
	` + thinned("syn_packets") + `, ` + thinned("est_out_packets") + `, ` + thinned("rst_in_packets") + `,
	` + thinnedDistinct("uniqExactArray(ports)", "syn_out") + `, toFloat64(` + thinnest + `),
	minIf(start, out_packets > 0), maxIf(start, out_packets > 0), uniqExactIf(start, out_packets > 0)
FROM pair_window
WHERE ` + inRange + ` AND ip_proto = {proto:UInt8}` + c.found(`({packets:UInt64} = 0 AND {ports:UInt64} = 0) OR tenant IN k`) + ` ` + amongMark + `
GROUP BY tenant, remote
HAVING ({packets:UInt64} = 0 AND {ports:UInt64} = 0)
	OR ({packets:UInt64} > 0 AND sum(out_packets) >= {packets:UInt64})
	OR ({ports:UInt64} > 0 AND uniqExactArray(ports) >= {ports:UInt64})` + c.noIndexForFound()
})

const pairTenants = `k AS (SELECT tenant FROM (
	SELECT tenant, remote FROM pair_window
	WHERE ` + inRange + ` AND ip_proto = {proto:UInt8} ` + amongMark + `
	GROUP BY tenant, remote
	HAVING ({packets:UInt64} > 0 AND sum(out_packets) >= {packets:UInt64})
		OR ({ports:UInt64} > 0 AND sum(length(ports)) >= {ports:UInt64})))`

// PairStats sums the windows that begin in r by tenant and remote, for pairs
// with at least minOutPackets outgoing packets (unscaled) or at least minPorts
// distinct ports of outgoing SYNs. 0 takes a condition away; with both 0 every
// pair comes. First, Last and Windows count windows with outgoing packets; First
// and Last are zero without any. Rows of several sampling rates are brought to
// the thinnest. The order is undefined.
func (s *Store) PairStats(ctx context.Context, r flow.Range, ipProto uint8, minOutPackets, minPorts uint64) ([]flow.PairStat, error) {
	return query(ctx, s, "pair statistics", pairSQL.of(ctx),
		rangeArgs(r, named("proto", ipProto), named("packets", minOutPackets), named("ports", minPorts)),
		func(rows driver.Rows, v *flow.PairStat) error {
			v.IPProto = ipProto
			err := rows.Scan(dest([]any{&v.Tenant, &v.Remote}, countDest(&v.Counts), classDest(&v.Classes),
				[]any{&v.SYNPackets, &v.EstOutPackets, &v.RSTInPackets, &v.Ports, &v.Rate, &v.First, &v.Last, &v.Windows})...)
			v.Tenant, v.Remote = unmap(v.Tenant), unmap(v.Remote)
			if v.Windows == 0 {
				v.First, v.Last = time.Time{}, time.Time{}
			}
			v.First, v.Last = v.First.UTC(), v.Last.UTC()
			return err
		})
}

var hostSQL = `SELECT tenant, ` + countSums + `, ` + classSums + `,
	` + thinned("udp_out_packets") + `, ` + thinned("icmp_out_packets") + `, ` + thinned("icmp_err_out") + `,
	` + thinned("bogon_out") + `, ` + thinned("spoof_out") + `, toFloat64(` + thinnest + `)
FROM host_window
WHERE ` + inRange + ` AND ({all:UInt8} = 1 OR tenant IN {tenants:Array(IPv6)})
GROUP BY tenant`

// HostStats sums the windows that begin in r by tenant, for the given tenants
// (nil: all). Tenants without windows are left out. Rows of several sampling rates
// are brought to the thinnest. The order is undefined.
func (s *Store) HostStats(ctx context.Context, r flow.Range, tenants []netip.Addr) ([]flow.HostStat, error) {
	if tenants != nil && len(tenants) == 0 {
		return nil, nil
	}
	all := 0
	if tenants == nil {
		all = 1
	}
	return query(ctx, s, "host statistics", hostSQL,
		rangeArgs(r, named("all", all), namedAddrs("tenants", tenants)),
		func(rows driver.Rows, v *flow.HostStat) error {
			err := rows.Scan(dest([]any{&v.Tenant}, countDest(&v.Counts), classDest(&v.Classes),
				[]any{&v.UDPOutPackets, &v.ICMPOutPackets, &v.ICMPErrOut, &v.BogonOut, &v.SpoofOut, &v.Rate})...)
			v.Tenant = unmap(v.Tenant)
			return err
		})
}
