package store

import (
	"context"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

var serviceRowsSQL = `SELECT start, tenant, rate, ip_proto, svc_port, ` + strings.Join(concat(names(countFields), names(classFields)), ", ") + `, attempts, remotes, remotes_level
FROM service_window WHERE ` + inRange + ` AND role = 1 ` + amongMark + `
LIMIT {limit:UInt64}`

// ServiceRows returns the rows of windows that begin in r as they are stored, of
// the tenants' client sides, limit at most, in no order.
func (s *Store) ServiceRows(ctx context.Context, r flow.Range, limit int) ([]flow.ServiceWindow, error) {
	return query(ctx, s, "service windows", serviceRowsSQL, rangeArgs(r, named("limit", limit)),
		func(rows driver.Rows, v *flow.ServiceWindow) error {
			var start time.Time
			err := rows.Scan(dest([]any{&start, &v.Tenant, &v.Rate, &v.IPProto, &v.SvcPort}, countDest(&v.Counts), classDest(&v.Classes),
				[]any{&v.Attempts, &v.Remotes, &v.RemotesLevel})...)
			v.Start, v.Tenant, v.Role = start.Unix(), unmap(v.Tenant), flow.RoleClient
			return err
		})
}
