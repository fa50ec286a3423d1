package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// What slots of time show of each tenant: the first stage of the detector, which
// keeps the answers and asks for new slots only (flow.Sign).

// packed begins the question for a slot's rows as one string: of each tenant 16
// bytes of address, and each kind as a float32, little endian. To scan rows of
// values was 6 % of a quiet collector's CPU.
func packed(kinds ...string) string {
	var b strings.Builder
	b.WriteString("SELECT slot, arrayStringConcat(groupArray(concat(reinterpretAsFixedString(tenant)")
	for _, k := range kinds {
		// Rounded up: it is to stay a bound.
		b.WriteString(", reinterpretAsFixedString(toFloat32(" + k + " * 1.000001))")
	}
	b.WriteString(")))")
	return b.String()
}

// always is evidence enough for everything.
const always = "1e30"

// serviceScreenSQL adds up by key, at the thinnest rate of the slot, then by
// tenant. Destinations are no more than attempts while all rows have them
// complete; where one holds a sample of them, the estimate may be anything.
//
// Servers of other protocols than UDP show nothing.
var serviceScreenSQL = packed("tcp", "udp", "icmp", "opened", "openings", "mails", "closed_tcp", "closed_udp", "answers", "answered", "oneway", "syns") + ` FROM (
SELECT slot, tenant, sum(scan) AS tcp, sum(sweep) AS udp, sum(ping) AS icmp, sum(open) AS opened, sum(opening) AS openings,
	sum(mail) AS mails, sum(shut) AS closed_tcp, sum(closed) AS closed_udp, sum(answer) AS answers, sum(weight) AS answered,
	greatest(0, sum(o) - {oneway:Float64}) AS oneway, greatest(0, sum(s) - {syn:Float64}) AS syns
FROM (
	SELECT slot, tenant, if(ip_proto = 17, toFloat64(sum(out_packets * rate)), 0) AS o, if(role = 1 AND ip_proto = 6, toFloat64(sum(syn_out * rate)), 0) AS s, toFloat64(sum(out_packets)) AS packets,
		greatest(max(rate), 1) AS n, sum(attempts * rate) / n AS a, max(remotes_level) > 0 AS estimated,
		if(role = 1 AND estimated, ` + always + `, 0) AS sure,
		if(role = 1 AND ip_proto = 6, greatest(sure,
			1.2 * a - (2.5 * sum(est_out * rate) + 2. * sum(synack_in * rate) + 2.5 * sum(est_in * rate)) / n,
			0.26 * a - 1.35 * sum(synack_in * rate) / n, 0.1335 * a - 1.2528 * sum(synack_in * rate) / n,
			(4.25 * sum(raw_syn * rate) - 2.25 * sum(syn_out * rate)) / n), 0) AS scan,
		greatest(sure, 0.31 * a - 1.3 * sum(in_records * rate) / n) AS unanswered,
		if(role = 1 AND ip_proto = 17, unanswered, 0) AS sweep,
		if(role = 1 AND ip_proto IN (1, 58), unanswered, 0) AS ping,
		role = 1 AND ip_proto = 6 AND svc_port IN {logins:Array(UInt16)} AS login, toFloat64(sum(attempts + est_out)) AS tried,
		if(login, toFloat64(sum(syn_out + synack_in)), 0) AS open, if(login, toFloat64(sum(syn_out * rate) + sum(synack_in * rate)), 0) AS opening,
		if(role = 1 AND ip_proto = 6 AND svc_port IN {mail:Array(UInt16)}, packets, 0) AS mail,
		if(role = 1 AND ip_proto = 6 AND svc_port IN {closed_tcp:Array(UInt16)}, tried, 0) AS shut,
		if(role = 1 AND ip_proto = 17 AND svc_port IN {closed_udp:Array(UInt16)}, tried, 0) AS closed,
		if(role = 2 AND ip_proto = 17 AND svc_port IN {udp_server:Array(UInt16)}, packets, 0) AS answer,
		if(answer > 0, o * transform(svc_port, {udp_server:Array(UInt16)}, {weights:Array(Float64)}, 0.), 0) AS weight
	FROM service_window WHERE ` + inRange + ` AND (role = 1 OR ip_proto = 17)
	GROUP BY ` + slotOf + ` AS slot, tenant, ip_proto, svc_port, role)
GROUP BY slot, tenant
HAVING greatest(tcp, udp, icmp, openings, mails, closed_tcp, closed_udp, answers, oneway, syns) > 0)
GROUP BY slot`

// slotOf is the slot that a window lies in.
const slotOf = `intDiv(toUnixTimestamp(start), {step:UInt32}) * {step:UInt32}`

// pairScreenSQL counts a pair's SYNs for its ports. Protocols but TCP and UDP are
// one, as in otherPairSQL.
var pairScreenSQL = packed("ports", "syns", "tcp", "udp", "echoes", "others") + ` FROM (
SELECT slot, tenant, sum(scan) AS ports, sum(greatest(0, s - {syn:Float64})) AS syns, sum(if(c = 6, greatest(0, o - {tcp:Float64}), 0)) AS tcp,
	sum(if(c = 17, greatest(0, greatest(o, by) - {udp:Float64}), 0)) AS udp, sum(greatest(0, e - {echo:Float64})) AS echoes,
	sum(if(c = 0, greatest(0, o - {other:Float64}), 0)) AS others
FROM (
	SELECT slot, tenant, c, toFloat64(sum(out_packets * rate)) AS o, sum(out_bytes * rate) * {weight:Float64} AS by,
		if(c = 6, toFloat64(sum(syn_packets * rate)), 0) AS s, toFloat64(sumIf(out_packets * rate, ip_proto IN (1, 58))) AS e,
		if(c = 6, greatest(0, (1.2 * sum(syn_out * rate) - 2.5 * sum(est_out * rate) - 2. * sum(synack_in * rate) - 2.5 * sum(est_in * rate)) / greatest(max(rate), 1)), 0) AS scan
	FROM pair_window WHERE ` + inRange + `
	GROUP BY ` + slotOf + ` AS slot, tenant, remote, if(ip_proto IN (6, 17), ip_proto, 0) AS c)
GROUP BY slot, tenant
HAVING greatest(ports, syns, tcp, udp, echoes, others) > 0)
GROUP BY slot`

// ServiceScreen says what the slots of q show of the tenants' services: the kinds
// of evidence below flow.SignPortScan. The order is undefined.
func (s *Store) ServiceScreen(ctx context.Context, q flow.ScreenQuery) ([]flow.ScreenRow, error) {
	secs := q.Step.Seconds()
	return s.screen(ctx, "screen of services", serviceScreenSQL, flow.SignTCPScan, flow.SignHostSYNs,
		screenArgs(q, namedPorts("logins", q.Logins), namedPorts("mail", q.Mail), namedPorts("closed_tcp", q.ClosedTCP), namedPorts("closed_udp", q.ClosedUDP),
			namedPorts("udp_server", q.UDPServer), clickhouse.Named("weights", floatsText(q.AnswerWeights)),
			named("oneway", q.OneWay*secs), named("syn", q.SYN*secs)))
}

// PairScreen is ServiceScreen for pairs: the kinds from flow.SignPortScan on.
func (s *Store) PairScreen(ctx context.Context, q flow.ScreenQuery) ([]flow.ScreenRow, error) {
	secs := q.Step.Seconds()
	return s.screen(ctx, "screen of pairs", pairScreenSQL, flow.SignPortScan, flow.SignOther,
		screenArgs(q, named("syn", q.SYN*secs), named("tcp", q.TCP*secs), named("udp", q.UDP*secs), named("echo", q.Echo*secs),
			named("other", q.Other*secs), named("weight", q.ByteWeight)))
}

// floatsText is a parameter of type Array(Float64).
func floatsText(l []float64) string {
	b := []byte{'['}
	for i, f := range l {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, f, 'g', -1, 64)
	}
	return string(append(b, ']'))
}

func screenArgs(q flow.ScreenQuery, more ...any) []any {
	return rangeArgs(q.Range, append([]any{named("step", uint32(q.Step/time.Second))}, more...)...)
}

// screen asks one of the questions, which shows the kinds from first to last.
func (s *Store) screen(ctx context.Context, what, sql string, first, last flow.Sign, args []any) ([]flow.ScreenRow, error) {
	type slot struct {
		start  uint64
		packed string
	}
	slots, err := query(ctx, s, what, sql, args, func(rows driver.Rows, v *slot) error { return rows.Scan(&v.start, &v.packed) })
	if err != nil {
		return nil, err
	}
	size, n := 16+4*int(last-first+1), 0
	for i := range slots {
		if len(slots[i].packed)%size != 0 {
			return nil, fmt.Errorf("query %s: %d bytes of rows of %d", what, len(slots[i].packed), size)
		}
		n += len(slots[i].packed) / size
	}
	out := make([]flow.ScreenRow, 0, n)
	for _, sl := range slots {
		for b := []byte(sl.packed); len(b) > 0; b = b[size:] {
			v := flow.ScreenRow{Start: int64(sl.start), Tenant: unmap(netip.AddrFrom16([16]byte(b)))}
			for k := first; k <= last; k++ {
				v.Shows[k] = math.Float32frombits(binary.LittleEndian.Uint32(b[16+4*int(k-first):]))
			}
			out = append(out, v)
		}
	}
	return out, nil
}

// rowCountSQL is answered from the index, but for the granules at both ends.
const rowCountSQL = `SELECT (SELECT count() FROM service_window WHERE ` + inRange + `), (SELECT count() FROM pair_window WHERE ` + inRange + `)`

// RowCount counts the rows of windows that begin in r. Rows are only ever added
// to a window, until they expire: the same number means the same rows.
func (s *Store) RowCount(ctx context.Context, r flow.Range) (flow.RowCounts, error) {
	l, err := query(ctx, s, "number of rows", rowCountSQL, rangeArgs(r),
		func(rows driver.Rows, v *flow.RowCounts) error { return rows.Scan(&v.Services, &v.Pairs) })
	if err != nil || len(l) == 0 {
		return flow.RowCounts{}, err
	}
	return l[0], nil
}

var windowRowsSQL = `SELECT toInt64(toUnixTimestamp(start)) AS s, sum(a), sum(b) FROM (
	SELECT start, count() AS a, 0 AS b FROM service_window WHERE ` + inRange + ` GROUP BY start
	UNION ALL
	SELECT start, 0 AS a, count() AS b FROM pair_window WHERE ` + inRange + ` GROUP BY start)
GROUP BY s`

// WindowRows is RowCount for each window of r that has rows, by its beginning in
// Unix seconds.
func (s *Store) WindowRows(ctx context.Context, r flow.Range) (map[int64]flow.RowCounts, error) {
	type window struct {
		start int64
		rows  flow.RowCounts
	}
	l, err := query(ctx, s, "rows of windows", windowRowsSQL, rangeArgs(r),
		func(rows driver.Rows, v *window) error { return rows.Scan(&v.start, &v.rows.Services, &v.rows.Pairs) })
	if err != nil {
		return nil, err
	}
	out := make(map[int64]flow.RowCounts, len(l))
	for _, w := range l {
		out[w.start] = w.rows
	}
	return out, nil
}

// among returns sql with its marks replaced by a condition on the
// tenants that ctx wants, and the arguments with them. That the list is in the
// text, and not a condition that may be off, is what lets the index be used.
func among(ctx context.Context, sql string, args []any) (string, []any) {
	l, ok := flow.WantedOf(ctx)
	if !ok || !strings.Contains(sql, amongMark) {
		return sql, args
	}
	return strings.ReplaceAll(sql, amongMark, "AND tenant IN {among:Array(IPv6)}"), append(args, namedAddrs("among", l))
}

const amongMark = "/* among */"
