package store

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// maxHeld bounds the conditions on tenants of one question.
const maxHeld = 256

// searchOrder is total up to rows that are equal in all that people look at, so
// that a page goes on where the one before ended.
const searchOrder = `time, tenant, start, remote, remote_port, host_port, ip_proto, dir, packets, bytes, exporter`

// SearchFlows returns flow rows of any tenants in the order of their time: after
// q.Skip of those that match, the next q.Limit (0: 1000, at most a million). Without
// q.Of every row of the range is read.
func (s *Store) SearchFlows(ctx context.Context, q flow.FlowSearch) ([]flow.FlowRow, error) {
	if q.Of != nil && len(q.Of) == 0 {
		return nil, nil
	}
	if q.Limit <= 0 {
		q.Limit = defaultFlows
	}
	q.Limit = min(q.Limit, maxFlows)
	shape := q
	shape.Range, shape.Of = flow.Range{}, nil
	found := question[[]flow.FlowRow]{shape: fmt.Sprintf("search %+v %d %d", shape, nanos(q.Range.From), nanos(q.Range.To)),
		to: q.Range.To, wide: q.Of == nil, bytes: rowsBytes[flow.FlowRow]}
	if tenant, ok := oneTenant(q.Of); ok && q.Skip == 0 {
		found.tenant = tenant
		found.ask = func(ctx context.Context, tenants []netip.Addr) (map[netip.Addr][]flow.FlowRow, error) {
			rows, err := s.searchFlows(ctx, q, tenants)
			return byTenant(rows, tenants), err
		}
		return answer(ctx, s, found)
	}
	for _, h := range q.Of {
		found.shape += fmt.Sprintf(" %v %d %d", h.Prefix, nanos(h.From), nanos(h.To))
	}
	found.ask = alone(func(ctx context.Context) ([]flow.FlowRow, error) { return s.searchFlows(ctx, q, nil) })
	return answer(ctx, s, found)
}

// oneTenant is the tenant that is meant at any time, if it is one.
func oneTenant(of []flow.Held) (netip.Addr, bool) {
	if len(of) != 1 || !of[0].From.IsZero() || !of[0].To.IsZero() || !of[0].Prefix.IsSingleIP() {
		return netip.Addr{}, false
	}
	return unmap(of[0].Prefix.Addr()), true
}

// searchFlows asks for q.Of, or for several tenants with a limit for each.
func (s *Store) searchFlows(ctx context.Context, q flow.FlowSearch, tenants []netip.Addr) ([]flow.FlowRow, error) {
	who, args := heldSQL(q.Of)
	if len(tenants) > 0 {
		who, args = "tenant IN {tenants:Array(IPv6)} AND ", []any{namedAddrs("tenants", tenants)}
	}
	order := searchOrder
	if q.Newest {
		order = strings.ReplaceAll(searchOrder, ",", " DESC,") + " DESC"
	}
	ports := make([]string, len(q.Ports))
	for i, p := range q.Ports {
		ports[i] = strconv.Itoa(int(p))
	}
	lo, hi := bounds(q.Remote)
	sql := `SELECT ` + flowColumns() + ` FROM flows WHERE ` + who + inTimeRange + `
	AND ({any_remote:UInt8} = 1 OR (remote >= {lo:IPv6} AND remote <= {hi:IPv6}))
	AND ({any_port:UInt8} = 1 OR svc_port IN {ports:Array(UInt16)})
	AND ({proto:UInt8} = 0 OR ip_proto = {proto:UInt8})
	AND ({dir:UInt8} = 0 OR dir = {dir:UInt8})
	AND ({any_class:UInt8} = 1 OR class = {class:UInt8})
	AND bitAnd(tcp_flags, {flags:UInt8}) = {flags:UInt8}
	ORDER BY ` + order + ` LIMIT {limit:UInt32} OFFSET {skip:UInt64}`
	if len(tenants) > 1 {
		sql = ofSeveral(strings.TrimSuffix(sql, " OFFSET {skip:UInt64}"))
	}
	args = append(args, nanoArgs(q.Range, named("any_remote", bit(!q.Remote.IsValid())), namedAddr("lo", lo), namedAddr("hi", hi),
		named("any_port", bit(len(q.Ports) == 0)), clickhouse.Named("ports", "["+strings.Join(ports, ",")+"]"),
		named("proto", q.IPProto), named("dir", uint8(q.Dir)), named("any_class", bit(!q.HasClass)), named("class", uint8(q.Class)),
		named("flags", q.Flags), named("limit", q.Limit), named("skip", max(q.Skip, 0)))...)
	return query(ctx, s, "search flows", sql, args, scanFlow)
}

// heldSQL is the condition that a row is of one of the prefixes at its time, ending
// in AND; empty without any. Only parameters' names are written into it.
func heldSQL(of []flow.Held) (sql string, args []any) {
	if of == nil {
		return "", nil
	}
	var parts []string
	for i, h := range of[:min(len(of), maxHeld)] {
		n := strconv.Itoa(i)
		lo, hi := bounds(h.Prefix)
		to := h.To
		if to.IsZero() {
			to = farAway
		}
		parts = append(parts, `(tenant >= {l`+n+`:IPv6} AND tenant <= {h`+n+`:IPv6} AND time >= fromUnixTimestamp64Nano({f`+n+`:Int64}, 'UTC') AND time < fromUnixTimestamp64Nano({t`+n+`:Int64}, 'UTC'))`)
		args = append(args, namedAddr("l"+n, lo), namedAddr("h"+n, hi), named("f"+n, nanos(h.From)), named("t"+n, nanos(to)))
	}
	return `(` + strings.Join(parts, " OR ") + `) AND `, args
}

// farAway is after everything stored.
var farAway = time.Date(2261, 1, 1, 0, 0, 0, 0, time.UTC)

// bounds are the first and last address of a prefix as they are stored; of an
// invalid one the whole range.
func bounds(p netip.Prefix) (first, last netip.Addr) {
	if !p.IsValid() {
		return netip.IPv6Unspecified(), netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
	}
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	a := p.Masked().Addr().As16()
	for i := bits; i < 128; i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	return p.Masked().Addr(), netip.AddrFrom16(a)
}

// RemotePeers returns the tenants that a remote was seen with in r, most records
// first. Every row of the range is read: r should be hours.
func (s *Store) RemotePeers(ctx context.Context, remote netip.Addr, r flow.Range, limit int) ([]flow.RemotePeer, error) {
	return query(ctx, s, "peers of a remote", `SELECT tenant, count() AS n, max(time) FROM flows
		WHERE remote = {remote:IPv6} AND `+inTimeRange+` GROUP BY tenant ORDER BY n DESC, tenant LIMIT {limit:UInt32}`,
		nanoArgs(r, namedAddr("remote", remote), named("limit", min(max(limit, 1), maxTop))),
		func(rows driver.Rows, v *flow.RemotePeer) error {
			err := rows.Scan(&v.Tenant, &v.Records, &v.Last)
			v.Tenant, v.Last = unmap(v.Tenant), v.Last.UTC()
			return err
		})
}
