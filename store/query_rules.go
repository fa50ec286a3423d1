package store

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// serviceTotalsSQL needs no first pass: the ports are few, and servers' rows
// have no destinations.
var serviceTotalsSQL = scoped(func(c scope) string {
	return c.with("", withThinned) + `SELECT tenant, svc_port, ` + countSums + `, ` + classSums + `,
	` + thinned("attempts") + `, ` + thinnedDistinct(c.distinctRemotes(), "attempts") + `, toFloat64(` + thinnest + `)
FROM service_window
WHERE ` + inRange + ` AND ip_proto = {proto:UInt8} AND role = {role:UInt8}
	AND ({any_port:UInt8} = 1 OR svc_port IN {ports:Array(UInt16)}) ` + amongMark + `
GROUP BY tenant, svc_port HAVING sum(out_packets) >= {packets:UInt64}`
})

// ServiceTotals sums the windows that begin in r by tenant and service port, for
// the query's protocol, role and ports, where at least q.MinOutPackets packets
// went out (unscaled). Rows of several sampling rates are brought to the
// thinnest. The order is undefined.
func (s *Store) ServiceTotals(ctx context.Context, r flow.Range, q flow.ServiceQuery) ([]flow.ServiceStat, error) {
	return query(ctx, s, "service totals", serviceTotalsSQL.of(ctx),
		rangeArgs(r, named("proto", q.IPProto), named("role", uint8(q.Role)), named("any_port", bit(q.Ports == nil)),
			namedPorts("ports", q.Ports), named("packets", q.MinOutPackets)),
		func(rows driver.Rows, v *flow.ServiceStat) error {
			v.IPProto = q.IPProto
			err := rows.Scan(dest([]any{&v.Tenant, &v.SvcPort}, countDest(&v.Counts), classDest(&v.Classes),
				[]any{&v.Attempts, &v.Distinct, &v.Rate})...)
			v.Tenant = unmap(v.Tenant)
			return err
		})
}

// attemptSQL screens by tenant as serviceSQL does, then adds up by port, since
// that is what distinct pairs are counted by, and then by tenant. The inner
// names are those of the columns, so that thinned serves both levels: there the
// sums are scaled already and the rate is 1.
var attemptSQL = scoped(func(c scope) string {
	return c.with(attemptPorts(c), attemptTenants, withThinned) + `SELECT tenant, ` + rescaledSums() + `,
	` + rescaled("scaled") + ` AS attempts,
	intDiv(sum(n) * attempts, greatest(sum(tries), 1)), intDiv(` + distinctOfAll + ` * attempts, greatest(sum(tries), 1)),
	countIf(tries > 0), argMax(svc_port, (n, -toInt32(svc_port))) AS top, intDiv(max(n) * attempts, greatest(sum(tries), 1)), toFloat64(` + thinnest + `)
FROM p GROUP BY tenant` + c.notFound(`sum(tries) >= {min:UInt64} AND sum(scaled) >= {scaled:UInt64}`) + c.noIndexForFound()
})

const attemptTenants = `k AS (
	SELECT tenant FROM service_window
	WHERE ` + inRange + ` AND ip_proto = {proto:UInt8} AND role = 1 AND attempts > 0 ` + amongMark + `
	GROUP BY tenant HAVING sum(attempts) >= {min:UInt64} AND sum(attempts * rate) >= {scaled:UInt64})`

func attemptPorts(c scope) string {
	return `p AS (
	SELECT tenant, svc_port, max(rate) AS rate, ` + scaledSums() + `,
		sum(w.attempts * w.rate) AS scaled, sum(w.attempts) AS tries,
		` + c.distinctRemotes() + ` AS n, groupUniqArrayArray(remotes) AS all, max(remotes_level) AS level
	FROM service_window AS w
	WHERE ` + inRange + ` AND ip_proto = {proto:UInt8} AND role = 1` + c.found(`tenant IN k`) + ` ` + amongMark + `
	GROUP BY tenant, svc_port)`
}

// distinctOfAll is distinctRemotes over the ports of a tenant.
const distinctOfAll = `bitShiftLeft(arrayCount(h -> bitAnd(h, bitShiftLeft(toUInt64(1), max(level)) - 1) = 0, groupUniqArrayArray(all)), max(level))`

// sumColumns are the counters of flow.Counts and flow.Classes, in the order of
// countDest and classDest.
func sumColumns() []string {
	return []string{"out_records", "in_records", "out_packets", "in_packets", "out_bytes", "in_bytes",
		"syn_out", "est_out", "synack_out", "rst_out", "syn_in", "est_in", "synack_in", "rst_in", "raw_syn", "no_flags"}
}

func scaledSums() string {
	var l []string
	for _, c := range sumColumns() {
		l = append(l, "sum(w."+c+" * w.rate) AS "+c)
	}
	return strings.Join(l, ", ")
}

// rescaled is thinned for sums that are scaled already.
func rescaled(name string) string {
	return "intDiv(sum(" + name + ") + intDiv(" + thinnest + ", 2), " + thinnest + ")"
}

func rescaledSums() string {
	l := sumColumns()
	for i, c := range l {
		l[i] = rescaled(c)
	}
	return strings.Join(l, ", ")
}

// AttemptStats sums the client side of all service ports by tenant, over the
// windows that begin in r, for tenants with at least minAttempts attempts that
// stand for at least minScaled. Pairs, Remotes and TopDistinct are exact before
// they are brought to the thinnest rate. The order is undefined.
func (s *Store) AttemptStats(ctx context.Context, r flow.Range, ipProto uint8, minAttempts, minScaled uint64) ([]flow.AttemptStat, error) {
	return query(ctx, s, "attempt statistics", attemptSQL.of(ctx),
		rangeArgs(r, named("proto", ipProto), named("min", max(minAttempts, 1)), named("scaled", minScaled)),
		func(rows driver.Rows, v *flow.AttemptStat) error {
			v.IPProto = ipProto
			err := rows.Scan(dest([]any{&v.Tenant}, countDest(&v.Counts), classDest(&v.Classes),
				[]any{&v.Attempts, &v.Pairs, &v.Remotes, &v.Ports, &v.TopPort, &v.TopDistinct, &v.Rate})...)
			v.Tenant = unmap(v.Tenant)
			return err
		})
}

// otherPairSQL is for all protocols but TCP and UDP. They are rare, so that one
// pass does; the inner one is for the protocol with the most packets.
var otherPairSQL = `SELECT tenant, remote, ` + rescaledSums() + `,
	toFloat64(` + thinnest + `), argMax(ip_proto, (out, -toInt16(ip_proto))),
	minIf(first, out > 0), max(last), length(arrayDistinct(arrayFlatten(groupArray(starts))))
FROM (
	SELECT tenant, remote, ip_proto, max(rate) AS rate, ` + scaledSums() + `, sum(w.out_packets) AS out,
		groupUniqArrayIf(start, w.out_packets > 0) AS starts, minIf(start, w.out_packets > 0) AS first, maxIf(start, w.out_packets > 0) AS last
	FROM pair_window AS w
	WHERE ` + inRange + ` AND ip_proto NOT IN (6, 17) ` + amongMark + `
	GROUP BY tenant, remote, ip_proto)
GROUP BY tenant, remote HAVING sum(out) >= {packets:UInt64}`

// OtherPairStats sums the windows that begin in r by tenant and remote over all
// protocols but TCP and UDP, for pairs with at least minOutPackets outgoing
// packets (unscaled, at least 1). IPProto is the protocol with the most of them.
// The order is undefined.
func (s *Store) OtherPairStats(ctx context.Context, r flow.Range, minOutPackets uint64) ([]flow.PairStat, error) {
	return query(ctx, s, "pair statistics of other protocols", otherPairSQL,
		rangeArgs(r, named("packets", max(minOutPackets, 1))),
		func(rows driver.Rows, v *flow.PairStat) error {
			err := rows.Scan(dest([]any{&v.Tenant, &v.Remote}, countDest(&v.Counts), classDest(&v.Classes),
				[]any{&v.Rate, &v.IPProto, &v.First, &v.Last, &v.Windows})...)
			v.Tenant, v.Remote = unmap(v.Tenant), unmap(v.Remote)
			v.First, v.Last = v.First.UTC(), v.Last.UTC()
			return err
		})
}

// peersSQL reads the tenants' rows twice by the key: those before the range for
// who is known, as knownSQL does, and those of the range. Each tenant has all of
// the ports: which are of interest to whom is not said.
var peersSQL = `WITH known AS (
	SELECT DISTINCT tenant, ` + destination + ` FROM flows
	WHERE tenant IN {tenants:Array(IPv6)} AND ip_proto = {proto:UInt8} AND ` + isAnswer + `
		AND time >= fromUnixTimestamp64Nano({back:Int64}, 'UTC') AND time < fromUnixTimestamp64Nano({settled:Int64}, 'UTC'))
SELECT tenant, svc_port, count(), countIf((tenant, d) IN known), sum(n), max(n), sum(n * n) FROM (
	SELECT tenant, svc_port, ` + destination + ` AS d, sum(packets) AS n FROM flows
	WHERE tenant IN {tenants:Array(IPv6)} AND ip_proto = {proto:UInt8} AND svc_port IN {ports:Array(UInt16)} AND role = {role:UInt8}
		AND dir = 1 AND NOT bogon AND NOT spoofed AND ` + inTimeRange + `
	GROUP BY tenant, svc_port, d) GROUP BY tenant, svc_port`

// Peers says whom tenants sent to on service ports, in the order of the questions,
// from the stored flow rows; zeros where there are none (store.flow_policy, or they
// have expired). The questions differ in tenant and port only. About 85 tenants
// at once they cost the engine 28 ms, about one 19: it opens the same parts.
func (s *Store) Peers(ctx context.Context, of []flow.PeerQuery) ([]flow.Peers, error) {
	if len(of) == 0 {
		return nil, nil
	}
	type service struct {
		tenant netip.Addr
		port   uint16
	}
	type answer struct {
		service
		flow.Peers
	}
	q, tenants, ports := of[0], make([]netip.Addr, len(of)), make([]string, len(of))
	for i := range of {
		tenants[i], ports[i] = of[i].Tenant, strconv.Itoa(int(of[i].SvcPort))
	}
	slices.SortFunc(tenants, netip.Addr.Compare)
	slices.Sort(ports)
	l, err := query(ctx, s, "peers", peersSQL, nanoArgs(q.Range,
		named("back", nanos(q.Range.From.Add(-q.Lookback))), named("settled", nanos(q.Range.From.Add(-q.Settled))),
		namedAddrs("tenants", slices.Compact(tenants)), named("ports", "["+strings.Join(slices.Compact(ports), ",")+"]"),
		named("proto", q.IPProto), named("role", uint8(q.Role))),
		func(rows driver.Rows, v *answer) error {
			err := rows.Scan(&v.tenant, &v.port, &v.Remotes, &v.Known, &v.Packets, &v.Top, &v.Squares)
			v.tenant = unmap(v.tenant)
			return err
		})
	if err != nil {
		return nil, err
	}
	found := make(map[service]flow.Peers, len(l))
	for i := range l {
		found[l[i].service] = l[i].Peers
	}
	out := make([]flow.Peers, len(of))
	for i := range of {
		out[i] = found[service{unmap(of[i].Tenant), of[i].SvcPort}]
	}
	return out, nil
}

// spoofTenantsSQL finds the claimed sources, for which the flow rows are then
// read by their key.
const spoofTenantsSQL = `SELECT DISTINCT tenant FROM host_window WHERE ` + inRange + ` AND spoof_out > 0`

var spoofSQL = `SELECT exporter, in_if, src_mac, vlan, count(), sum(packets), uniqExact(host), uniqExact(` + destination + `), toFloat64(` + thinnest + `)
FROM flows
WHERE tenant IN {tenants:Array(IPv6)} AND spoofed AND dir = 1 AND ` + inTimeRange + `
GROUP BY exporter, in_if, src_mac, vlan HAVING count() >= {min:UInt64}`

// SpoofStats sums the flow rows of r with sources that are not those of the
// interface they came in by, by exporter, interface, MAC and VLAN, for those
// with at least minRecords rows. The order is undefined.
func (s *Store) SpoofStats(ctx context.Context, r flow.Range, minRecords uint64) ([]flow.SpoofStat, error) {
	tenants, err := query(ctx, s, "claimed sources", spoofTenantsSQL, rangeArgs(r),
		func(rows driver.Rows, v *netip.Addr) error { return rows.Scan(v) })
	if err != nil || len(tenants) == 0 {
		return nil, err
	}
	return query(ctx, s, "forged sources", spoofSQL, nanoArgs(r, namedAddrs("tenants", tenants), named("min", max(minRecords, 1))),
		func(rows driver.Rows, v *flow.SpoofStat) error {
			var mac uint64
			err := rows.Scan(&v.Exporter, &v.InIf, &mac, &v.VLAN, &v.Records, &v.Packets, &v.Sources, &v.Remotes, &v.Rate)
			for i := range v.SrcMAC {
				v.SrcMAC[i] = byte(mac >> (8 * (5 - i)))
			}
			v.Exporter = unmap(v.Exporter)
			return err
		})
}

// namedPorts binds ports for a parameter of type Array(UInt16).
func namedPorts(name string, l []uint16) any {
	q := make([]string, len(l))
	for i, p := range l {
		q[i] = strconv.Itoa(int(p))
	}
	return named(name, "["+strings.Join(q, ",")+"]")
}
