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
