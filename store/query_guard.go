package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// maxSources bounds the attachments of one answer: a flood with random MAC
// addresses has as many as samples.
const maxSources = 1000

// ofFinding is the condition on flow rows that sourceArgs binds.
const ofFinding = `tenant = {tenant:IPv6} AND ` + inTimeRange + ` AND NOT spoofed
	AND ({proto:UInt8} = 0 OR ip_proto = {proto:UInt8})
	AND ({any_remote:UInt8} = 1 OR remote = {remote:IPv6})
	AND ({port:Int32} < 0 OR svc_port = {port:Int32})`

func sourceArgs(q flow.SourceQuery, more ...any) []any {
	return nanoArgs(q.Range, append([]any{namedAddr("tenant", q.Tenant), named("proto", q.IPProto),
		named("any_remote", bit(!q.Remote.IsValid())), namedAddr("remote", q.Remote), named("port", q.SvcPort)}, more...)...)
}

var sourcesSQL = `SELECT dir, exporter, if(dir = 1, in_if, 0) AS i, if(dir = 1, src_mac, 0) AS m, if(dir = 1, vlan, 0) AS v,
	count() AS n, sum(packets), sum(packets * rate), sumIf(packets, packets >= 10 AND start = end), min(rate), max(rate)
FROM flows WHERE ` + ofFinding + `
GROUP BY dir, exporter, i, m, v
ORDER BY n DESC, dir, exporter, i, m, v
LIMIT {limit:UInt32}`

// Sources sums the flow rows that a finding rests on by direction, exporter and
// attachment, those with the most rows first, 1000 at most. Nothing is returned
// where no rows are stored.
func (s *Store) Sources(ctx context.Context, q flow.SourceQuery) ([]flow.SourceStat, error) {
	return query(ctx, s, "sources of a finding", sourcesSQL, sourceArgs(q, named("limit", maxSources)),
		func(rows driver.Rows, v *flow.SourceStat) error {
			var dir uint8
			var mac uint64
			err := rows.Scan(&dir, &v.Exporter, &v.InIf, &mac, &v.VLAN, &v.Records, &v.Packets, &v.Scaled, &v.Untimed, &v.MinRate, &v.MaxRate)
			v.Dir, v.Exporter = flow.Direction(dir), unmap(v.Exporter)
			for i := range v.SrcMAC {
				v.SrcMAC[i] = byte(mac >> (8 * (5 - i)))
			}
			return err
		})
}

var sharedFlowsSQL = `SELECT count(), countIf(a > 0 AND b > 0) FROM (
	SELECT remote, remote_port, host_port,
		sumIf(packets, exporter = {a:IPv6}) AS a, sumIf(packets, exporter = {b:IPv6}) AS b
	FROM flows WHERE ` + ofFinding + ` AND dir = 1 AND exporter IN ({a:IPv6}, {b:IPv6})
	GROUP BY remote, remote_port, host_port HAVING greatest(a, b) >= 4)`

// SharedFlows says of a finding's outgoing rows how many conversations of four
// packets or more exporter a or b saw, and how many of them both.
func (s *Store) SharedFlows(ctx context.Context, q flow.SourceQuery, a, b netip.Addr) (flow.SharedFlows, error) {
	l, err := query(ctx, s, "shared flows", sharedFlowsSQL, sourceArgs(q, namedAddr("a", a), namedAddr("b", b)),
		func(rows driver.Rows, v *flow.SharedFlows) error { return rows.Scan(&v.Heavy, &v.Both) })
	if err != nil || len(l) == 0 {
		return flow.SharedFlows{}, err
	}
	return l[0], nil
}

// fleetAnswersSQL reads service_window, whose key begins with time. In the base
// range a tenant counts as many times more as the range is longer.
var fleetAnswersSQL = `SELECT countIf(active), max(windows), countIf(was >= 3),
	sumIf(was * least(1, {cap:Float64} / was), was >= 3), sumIf(answered_was * least(1, {cap:Float64} / was), was >= 3),
	sumIf(is * least(1, 50 / is), was >= 3 AND is > 0), sumIf(answered_is * least(1, 50 / is), was >= 3 AND is > 0)
FROM (
	SELECT tenant, max(start >= {now:DateTime('UTC')}) AS active,
		toFloat64(sumIf(syn_out + synack_in, start < {now:DateTime('UTC')} AND tcp)) AS was, toFloat64(sumIf(synack_in, start < {now:DateTime('UTC')} AND tcp)) AS answered_was,
		toFloat64(sumIf(syn_out + synack_in, start >= {now:DateTime('UTC')} AND tcp)) AS is, toFloat64(sumIf(synack_in, start >= {now:DateTime('UTC')} AND tcp)) AS answered_is
	FROM (SELECT tenant, start, syn_out, synack_in, ip_proto = 6 AND role = 1 AND tenant NOT IN {except:Array(IPv6)} AS tcp FROM service_window
		WHERE ` + inRange + ` AND (start >= {now:DateTime('UTC')} OR ip_proto = 6 AND role = 1))
	GROUP BY tenant) AS tenants,
	(SELECT uniqExact(start) AS windows FROM service_window WHERE ` + inRange + ` AND start < {now:DateTime('UTC')}) AS stored`

// fleetCap is the 50 of flow.FleetAnswers.
const fleetCap = 50

// FleetAnswers compares how outgoing TCP connections were answered over base and
// over the time from its end to now's end. base.To is where now begins. The
// connections of the tenants in except do not count.
func (s *Store) FleetAnswers(ctx context.Context, base, now flow.Range, except []netip.Addr) (flow.FleetAnswers, error) {
	l, err := query(ctx, s, "answers of the fleet", fleetAnswersSQL,
		rangeArgs(flow.Range{From: base.From, To: now.To}, named("now", ceilSeconds(now.From)), namedAddrs("except", except),
			named("cap", fleetCap*base.Seconds()/max(now.Seconds(), 1))),
		func(rows driver.Rows, v *flow.FleetAnswers) error {
			return rows.Scan(&v.Active, &v.Windows, &v.Tenants, &v.BaseOpened, &v.BaseAnswered, &v.Opened, &v.Answered)
		})
	if err != nil || len(l) == 0 {
		return flow.FleetAnswers{}, err
	}
	return l[0], nil
}

// rateTenantsSQL finds those with the most answered connections, for which the
// flow rows are then read by their key. The key of host_window begins with the
// tenant, so that some minutes of it may be a day.
const rateTenantsSQL = `SELECT tenant FROM service_window WHERE ` + inRange + ` AND ip_proto = 6 AND role = 1 AND synack_in > 0
GROUP BY tenant ORDER BY sum(synack_in) DESC, tenant LIMIT {limit:UInt32}`

// rateChecksSQL: packet samples only (one packet, or at these rates nearly
// always), of the tenants' own connections.
var rateChecksSQL = `SELECT exporter, claimed, tenant, countIf(ack > 0) AS answered, countIf(ack > 0 AND syn > 0) FROM (
	SELECT exporter, rate AS claimed, tenant, countIf(class = 2 AND dir = 2) AS ack, countIf(class = 1 AND dir = 1) AS syn
	FROM flows
	WHERE tenant IN {tenants:Array(IPv6)} AND ` + inTimeRange + ` AND ip_proto = 6 AND class IN (1, 2) AND NOT bogon AND NOT spoofed AND rate >= {least:UInt32}
	GROUP BY exporter, claimed, tenant, remote, remote_port, host_port)
GROUP BY exporter, claimed, tenant HAVING answered > 0
ORDER BY exporter, claimed, tenant`

const (
	rateTenants = 256
	// rateTenantsOf is the time before the end of a range that its busiest tenants
	// are looked for in; where they are fewer, in all of it.
	rateTenantsOf = 5 * time.Minute
)

// RateChecks counts how often both halves of a handshake were sampled in r, by
// exporter, claimed rate of at least 1:least, and tenant, among the 256 tenants
// with the most answered connections in its last five minutes, or, where there
// are fewer, in all of it.
func (s *Store) RateChecks(ctx context.Context, r flow.Range, least uint32) ([]flow.RateCheck, error) {
	busiest := func(r flow.Range) ([]netip.Addr, error) {
		return query(ctx, s, "tenants with answered connections", rateTenantsSQL, rangeArgs(r, named("limit", rateTenants)),
			func(rows driver.Rows, v *netip.Addr) error { return rows.Scan(v) })
	}
	lately := r
	if from := r.To.Add(-rateTenantsOf); from.After(r.From) {
		lately.From = from
	}
	tenants, err := busiest(lately)
	if err == nil && len(tenants) < rateTenants {
		tenants, err = busiest(r)
	}
	if err != nil || len(tenants) == 0 {
		return nil, err
	}
	return query(ctx, s, "sampling rates", rateChecksSQL, nanoArgs(r, namedAddrs("tenants", tenants), named("least", least)),
		func(rows driver.Rows, v *flow.RateCheck) error {
			err := rows.Scan(&v.Exporter, &v.Rate, &v.Tenant, &v.Answered, &v.Both)
			v.Exporter, v.Tenant = unmap(v.Exporter), unmap(v.Tenant)
			return err
		})
}

// oneWaySQL is for all ports of a protocol together. What acquits, incoming
// packets, may have another role than what went out.
var oneWaySQL = `SELECT tenant, ` + countSums + `, toFloat64(` + thinnest + `)
FROM service_window WHERE ` + inRange + ` AND ip_proto = {proto:UInt8} ` + amongMark + `
GROUP BY tenant
HAVING sum(out_packets * rate) >= {scaled:UInt64} AND sum(in_packets * rate) <= {back:Float64} * sum(out_packets * rate)`

// OneWay sums the windows that begin in r by tenant over all ports of a
// protocol, for tenants whose outgoing packets stand for at least minScaled and
// get at most back times as many in return. IPProto and the counts are those of
// that protocol; SvcPort is 0.
func (s *Store) OneWay(ctx context.Context, r flow.Range, ipProto uint8, minScaled uint64, back float64) ([]flow.ServiceStat, error) {
	return query(ctx, s, "one-way tenants", oneWaySQL,
		rangeArgs(r, named("proto", ipProto), named("scaled", minScaled), named("back", back)),
		func(rows driver.Rows, v *flow.ServiceStat) error {
			v.IPProto = ipProto
			err := rows.Scan(dest([]any{&v.Tenant}, countDest(&v.Counts), []any{&v.Rate})...)
			v.Tenant = unmap(v.Tenant)
			return err
		})
}

// prefixSQL: the masks are those of flow.PrefixStat.
var prefixSQL = `SELECT tenant, if(v4, tupleElement(IPv6CIDRToRange(remote, 120), 1), tupleElement(IPv6CIDRToRange(remote, 48), 1)) AS net,
	remote >= toIPv6('::ffff:0.0.0.0') AND remote <= toIPv6('::ffff:255.255.255.255') AS v4,
	` + thinnedIf("packets", "1") + ` AS out, ` + thinnedIf("bytes", "1") + `, ` + thinnedIf("packets", "2") + `,
	uniqExactIf(remote, dir = 1), toFloat64(` + thinnest + `)
FROM flows
WHERE tenant IN {tenants:Array(IPv6)} AND ip_proto = {proto:UInt8} AND NOT spoofed AND ` + inTimeRange + `
GROUP BY tenant, net, v4
ORDER BY tenant, out DESC, net
LIMIT 8 BY tenant`

// thinnedIf is thinned for the flow rows of one direction.
func thinnedIf(name, dir string) string {
	return "intDiv(sumIf(" + name + " * rate, dir = " + dir + ") + intDiv(" + thinnest + ", 2), " + thinnest + ")"
}

// TopPrefixes returns, of each tenant, the eight networks that most packets of a
// protocol went to, from the stored flow rows of r.
func (s *Store) TopPrefixes(ctx context.Context, r flow.Range, tenants []netip.Addr, ipProto uint8) ([]flow.PrefixStat, error) {
	return query(ctx, s, "top networks", prefixSQL, nanoArgs(r, namedAddrs("tenants", tenants), named("proto", ipProto)),
		func(rows driver.Rows, v *flow.PrefixStat) error {
			var net netip.Addr
			var v4 bool
			err := rows.Scan(&v.Tenant, &net, &v4, &v.OutPackets, &v.OutBytes, &v.InPackets, &v.Remotes, &v.Rate)
			v.Tenant = unmap(v.Tenant)
			v.Prefix = netip.PrefixFrom(net, 48)
			if v4 {
				v.Prefix = netip.PrefixFrom(unmap(net), 24)
			}
			return err
		})
}

var usualSQL = `SELECT toUInt64(quantileExact(0.99)(u)), count() FROM (
	SELECT intDiv(toUnixTimestamp(toDateTime(time)), {step:UInt32}) AS s, uniqExact(` + destination + `) AS u FROM flows
	WHERE tenant = {tenant:IPv6} AND ip_proto = {proto:UInt8} AND svc_port = {port:UInt16} AND role = {role:UInt8}
		AND dir = 1 AND NOT bogon AND NOT spoofed AND ` + inTimeRange + `
	GROUP BY s)`

// Usual says to how many distinct remotes a tenant sends on one service port in
// a step of q.Range, from the stored flow rows: the 99th percentile over the
// steps in which it sent at all, and the number of those.
func (s *Store) Usual(ctx context.Context, q flow.PeerQuery, step time.Duration) (flow.Usual, error) {
	l, err := query(ctx, s, "usual remotes", usualSQL, nanoArgs(q.Range, namedAddr("tenant", q.Tenant), named("proto", q.IPProto),
		named("port", q.SvcPort), named("role", uint8(q.Role)), named("step", max(int64(step/time.Second), 1))),
		func(rows driver.Rows, v *flow.Usual) error { return rows.Scan(&v.P99, &v.Steps) })
	if err != nil || len(l) == 0 || l[0].Steps == 0 {
		return flow.Usual{}, err
	}
	return l[0], nil
}
