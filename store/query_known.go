package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// exchangedSQL reads one tenant's rows by their key; 4 is the established class.
const exchangedSQL = `SELECT sumIf(packets * rate, dir = 1), sumIf(packets * rate, dir = 2) FROM flows
WHERE tenant = {tenant:IPv6} AND remote = {remote:IPv6} AND ip_proto = 6 AND class = 4 AND NOT spoofed AND ` + inTimeRange + `
GROUP BY intDiv(toUnixTimestamp(toDateTime(time)), {step:UInt32})`

// Exchanged returns, from the stored flow rows, the packets that a tenant and a
// remote exchanged over established TCP connections in r, times their sampling
// rates: one Exchange for each step with any, in no order.
func (s *Store) Exchanged(ctx context.Context, tenant, remote netip.Addr, r flow.Range, step time.Duration) ([]flow.Exchange, error) {
	return query(ctx, s, "exchanged packets", exchangedSQL, nanoArgs(r, namedAddr("tenant", tenant), namedAddr("remote", remote),
		named("step", max(int64(step/time.Second), 1))),
		func(rows driver.Rows, v *flow.Exchange) error { return rows.Scan(&v.Out, &v.In) })
}

const answeredSQL = `WITH spoke AS (
	SELECT DISTINCT remote FROM flows
	WHERE tenant = {tenant:IPv6} AND ip_proto = {proto:UInt8} AND dir = 2 AND NOT spoofed
		AND time >= fromUnixTimestamp64Nano({back:Int64}, 'UTC') AND time < fromUnixTimestamp64Nano({from:Int64}, 'UTC'))
SELECT count(), countIf(d IN spoke) FROM (
	SELECT DISTINCT remote AS d FROM flows
	WHERE tenant = {tenant:IPv6} AND ip_proto = {proto:UInt8} AND dir = 1 AND NOT spoofed AND ` + inTimeRange + `)`

// Answered says to how many remotes a tenant sent by a protocol in r (Remotes),
// and from how many of them a packet of that protocol was stored within lookback
// before r (Known), from the flow rows. The other fields are 0.
func (s *Store) Answered(ctx context.Context, tenant netip.Addr, ipProto uint8, r flow.Range, lookback time.Duration) (flow.Peers, error) {
	l, err := query(ctx, s, "answered remotes", answeredSQL, nanoArgs(r, named("back", nanos(r.From.Add(-lookback))),
		namedAddr("tenant", tenant), named("proto", ipProto)),
		func(rows driver.Rows, v *flow.Peers) error { return rows.Scan(&v.Remotes, &v.Known) })
	if err != nil || len(l) == 0 {
		return flow.Peers{}, err
	}
	return l[0], nil
}
