package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// Limits of Flows.
const (
	defaultFlows = 1000
	maxFlows     = 1_000_000
)

// inTimeRange is the condition on flow rows that nanoArgs binds.
const inTimeRange = `time >= fromUnixTimestamp64Nano({from:Int64}, 'UTC') AND time < fromUnixTimestamp64Nano({to:Int64}, 'UTC')`

func nanoArgs(r flow.Range, more ...any) []any {
	return append([]any{named("from", nanos(r.From)), named("to", nanos(r.To))}, more...)
}

// nanos keeps times that int64 nanoseconds cannot hold, such as the zero time,
// on their side of everything stored.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, 0)):
		return 0
	case t.Year() >= 2262:
		return math.MaxInt64
	}
	return t.UnixNano()
}

// flowsSQL has every condition always, so that it is one constant; a parameter
// of 0 (or -1, or ::) takes a condition away. The order is total up to rows
// that are equal in all that people look at.
var flowsSQL = `SELECT ` + flowColumns() + ` FROM flows
WHERE tenant = {tenant:IPv6} AND ` + inTimeRange + `
	AND ({dir:UInt8} = 0 OR dir = {dir:UInt8})
	AND ({any_remote:UInt8} = 1 OR remote = {remote:IPv6})
	AND ({proto:UInt8} = 0 OR ip_proto = {proto:UInt8})
	AND ({port:Int32} < 0 OR svc_port = {port:Int32})
	AND ({any_class:UInt8} = 1 OR class = {class:UInt8})
ORDER BY ` + flowOrder + `
LIMIT {limit:UInt32}`

const flowOrder = `time, start, remote, remote_port, host_port, ip_proto, dir, packets, bytes`

// newestSQL is flowsSQL from the other end.
var newestSQL = strings.Replace(flowsSQL, flowOrder, strings.ReplaceAll(flowOrder, ",", " DESC,")+" DESC", 1)

func flowColumns() string {
	names := make([]string, len(flowTable.cols))
	for i, c := range flowTable.cols {
		names[i] = c.name
	}
	return strings.Join(names, ", ")
}

// Flows returns stored flow rows in the order of their time: of those that match
// the earliest q.Limit, or with q.Newest the latest (0: 1000, at most a million).
func (s *Store) Flows(ctx context.Context, q flow.FlowQuery) ([]flow.FlowRow, error) {
	if q.Limit <= 0 {
		q.Limit = defaultFlows
	}
	q.Tenant, q.Limit = unmap(q.Tenant), min(q.Limit, maxFlows)
	shape := q
	shape.Tenant, shape.Range = netip.Addr{}, flow.Range{}
	return answer(ctx, s, question[[]flow.FlowRow]{
		shape:  fmt.Sprintf("flows %+v %d %d", shape, nanos(q.Range.From), nanos(q.Range.To)),
		tenant: q.Tenant, to: q.Range.To, bytes: rowsBytes[flow.FlowRow],
		ask: func(ctx context.Context, tenants []netip.Addr) (map[netip.Addr][]flow.FlowRow, error) {
			return s.flowsOf(ctx, q, tenants)
		},
	})
}

// flowsOf is Flows for several tenants, or for the one of q, whose rows are then
// not all read.
func (s *Store) flowsOf(ctx context.Context, q flow.FlowQuery, tenants []netip.Addr) (map[netip.Addr][]flow.FlowRow, error) {
	text := flowsSQL
	if q.Newest {
		text = newestSQL
	}
	who := namedAddr("tenant", tenants[0])
	if len(tenants) > 1 {
		text, who = ofSeveral(text), namedAddrs("tenants", tenants)
	}
	rows, err := query(ctx, s, "flows", text, nanoArgs(q.Range,
		who, named("dir", uint8(q.Dir)),
		named("any_remote", bit(!q.Remote.IsValid())), namedAddr("remote", q.Remote),
		named("proto", q.IPProto), named("port", q.SvcPort),
		named("any_class", bit(!q.HasClass)), named("class", uint8(q.Class)),
		named("limit", q.Limit)), scanFlow)
	if q.Newest {
		slices.Reverse(rows)
	}
	return byTenant(rows, tenants), err
}

// ofSeveral makes of a question about one tenant's rows one about several, with a
// limit for each, in an order that begins as the table's key does.
func ofSeveral(sql string) string {
	return strings.NewReplacer(
		"tenant = {tenant:IPv6}", "tenant IN {tenants:Array(IPv6)}",
		"ORDER BY time DESC", "ORDER BY tenant DESC, time DESC", "ORDER BY time,", "ORDER BY tenant, time,",
		"LIMIT {limit:UInt32}", "LIMIT {limit:UInt32} BY tenant",
	).Replace(sql)
}

// byTenant parts rows, whose order within each tenant stays. The slices do not
// share memory, so that one that is kept keeps no other.
func byTenant(rows []flow.FlowRow, tenants []netip.Addr) map[netip.Addr][]flow.FlowRow {
	if len(tenants) == 1 {
		return map[netip.Addr][]flow.FlowRow{tenants[0]: rows}
	}
	out := make(map[netip.Addr][]flow.FlowRow, len(tenants))
	for i := range rows {
		out[rows[i].Tenant] = append(out[rows[i].Tenant], rows[i])
	}
	return out
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// scanFlow reads a row of flowColumns.
func scanFlow(rows driver.Rows, v *flow.FlowRow) error {
	var at, start, end time.Time
	var dir, role, class uint8
	var mac uint64
	err := rows.Scan(&at, &start, &end, &v.Exporter, &v.Tenant, &v.Host, &v.Remote,
		&v.HostPort, &v.RemotePort, &v.SvcPort, &dir, &v.IPProto, &role, &class,
		&v.TCPFlags, &v.ICMPType, &v.ICMPCode, &v.Packets, &v.Bytes, &v.IPLen, &v.TTL,
		&v.Rate, &v.InIf, &v.OutIf, &mac, &v.VLAN, &v.Bogon, &v.Spoofed)
	v.Time, v.Start, v.End = at.UnixNano(), start.UnixNano(), end.UnixNano()
	v.Dir, v.Role, v.Class = flow.Direction(dir), flow.Role(role), flow.Class(class)
	for i := range v.SrcMAC {
		v.SrcMAC[i] = byte(mac >> (8 * (5 - i)))
	}
	v.Exporter, v.Tenant = unmap(v.Exporter), unmap(v.Tenant)
	v.Host, v.Remote = unmap(v.Host), unmap(v.Remote)
	return err
}

// destination is what counts as one destination: a v4 address or a v6 /64, as
// in ServiceWindow.Remotes.
const destination = `if(remote >= toIPv6('::ffff:0.0.0.0') AND remote <= toIPv6('::ffff:255.255.255.255'),
	remote, tupleElement(IPv6CIDRToRange(remote, 64), 1))`

// Classes and roles as numbers: 1 SYN, 2 SYN-ACK, 4 established, 5 UDP, 6 echo;
// role 1 is the client.
const (
	isAttempt = `dir = 1 AND NOT bogon AND NOT spoofed AND (class = 1 OR class = 6 OR (class = 5 AND role = 1))`
	isAnswer  = `(class = 4 OR (dir = 2 AND (class IN (2, 5) OR ip_proto IN (1, 58) AND icmp_type IN (0, 129))))`
)

var knownSQL = `WITH known AS (
	SELECT DISTINCT ` + destination + ` FROM flows
	WHERE tenant = {tenant:IPv6} AND ip_proto = {proto:UInt8} AND ` + isAnswer + `
		AND time >= fromUnixTimestamp64Nano({back:Int64}, 'UTC') AND time < fromUnixTimestamp64Nano({from:Int64}, 'UTC'))
SELECT count(), countIf(d IN known) FROM (
	SELECT DISTINCT ` + destination + ` AS d FROM flows
	WHERE tenant = {tenant:IPv6} AND ip_proto = {proto:UInt8} AND svc_port = {port:UInt16}
		AND ` + isAttempt + ` AND ` + inTimeRange + `)`

// ErrNoFlows is returned by KnownPeerShare where no flow rows of the attempts
// are stored: store.flow_policy is off, or they have expired.
var ErrNoFlows = errors.New("no flow rows of the attempts are stored")

// KnownPeerShare returns, of the distinct destinations that a tenant tries to
// reach in r by one protocol and service port, the share with which it had
// answered traffic of that protocol, on any port, within lookback before
// r.From. It is computed from the stored flow rows: with a policy that stores
// attempts only, peers without a stored SYN-ACK are unknown; where no row of the
// attempts is stored, nothing can be said, and that is ErrNoFlows.
func (s *Store) KnownPeerShare(ctx context.Context, tenant netip.Addr, ipProto uint8, svcPort uint16, r flow.Range, lookback time.Duration) (float64, error) {
	type counts struct{ all, known uint64 }
	l, err := query(ctx, s, "known peers", knownSQL, nanoArgs(r,
		named("back", nanos(r.From.Add(-lookback))), namedAddr("tenant", tenant),
		named("proto", ipProto), named("port", svcPort)),
		func(rows driver.Rows, v *counts) error { return rows.Scan(&v.all, &v.known) })
	switch {
	case err != nil:
		return 0, err
	case len(l) == 0 || l[0].all == 0:
		return 0, fmt.Errorf("query known peers: %w", ErrNoFlows)
	}
	return float64(l[0].known) / float64(l[0].all), nil
}
