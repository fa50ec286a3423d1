package store

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// sumLevel is where sums of services and hosts of one length are stored.
type sumLevel struct {
	length         time.Duration
	services, host string
	within         string // that a sum touches the range bound by rangeArgs
}

var (
	windowLevel = sumLevel{flow.WindowSeconds * time.Second, "service_window", "host_window",
		`start > toDateTime({from:Int64}, 'UTC') - 10 AND start < toDateTime({to:Int64}, 'UTC')`}
	hourLevel = sumLevel{time.Hour, "service_1h", "host_1h",
		`start > toDateTime({from:Int64}, 'UTC') - 3600 AND start < toDateTime({to:Int64}, 'UTC') AND roll IN ` + rollsInForce}
)

// maxServiceSums bounds what ServicesWith returns: a host that scans ports has a
// service for each.
const maxServiceSums = 20_000

// rows is the question for the sums; those that tried what is asked about come first.
func (l sumLevel) rows() string {
	return `SELECT toInt64(toUnixTimestamp(start)) AS at, rate, ip_proto, role, svc_port,
	sum(out_records), sum(in_records), sum(out_packets), sum(in_packets), sum(out_bytes), sum(in_bytes), sum(attempts),
	arrayFilter(h -> has({hashes:Array(UInt64)}, h), groupUniqArrayArray(remotes)) AS tried, max(remotes_level)
FROM ` + l.services + ` WHERE tenant = {tenant:IPv6} AND ` + l.within + `
GROUP BY at, rate, ip_proto, role, svc_port ORDER BY empty(tried), at, ip_proto, svc_port, role, rate LIMIT {limit:UInt32}`
}

// accounts is the question whether the services account for the host's records;
// what went to bogons is in no service.
func (l sumLevel) accounts() string {
	return `SELECT (SELECT toInt64(sum(out_records)) FROM ` + l.services + ` WHERE tenant = {tenant:IPv6} AND ` + l.within + `),
	(SELECT toInt64(sum(out_records)) - toInt64(sum(bogon_out)) FROM ` + l.host + ` WHERE tenant = {tenant:IPv6} AND ` + l.within + `)`
}

// ServicesWith gives the sums of a tenant's services that touch r, of windows or
// of hours (res), and which of the remotes each tried. Of windows r should be
// minutes, not days.
func (s *Store) ServicesWith(ctx context.Context, tenant netip.Addr, r flow.Range, res flow.Resolution, remotes []netip.Addr) (flow.ServiceSums, error) {
	var level sumLevel
	switch res {
	case flow.ResolutionWindow:
		level = windowLevel
	case flow.ResolutionHour:
		level = hourLevel
	default:
		return flow.ServiceSums{}, fmt.Errorf("services are summed by %s and %s, not by %q", flow.ResolutionWindow, flow.ResolutionHour, res)
	}
	hashes := make([]uint64, len(remotes))
	for i, a := range remotes {
		hashes[i] = flow.RemoteHash(a)
	}
	args := rangeArgs(r, namedAddr("tenant", tenant), named("hashes", uintsText(hashes)), named("limit", maxServiceSums))
	if res == flow.ResolutionHour {
		args = append(args, asof())
	}
	rows, err := query(ctx, s, "services with remotes", level.rows(), args, func(rows driver.Rows, v *flow.ServiceSum) error {
		var role uint8
		err := rows.Scan(dest([]any{&v.Start, &v.Rate, &v.IPProto, &role, &v.SvcPort}, countDest(&v.Counts), []any{&v.Attempts, &v.Tried, &v.Level})...)
		v.Tenant, v.Role, v.Length = tenant, flow.Role(role), level.length
		return err
	})
	if err != nil || len(rows) == 0 || len(rows) == maxServiceSums {
		return flow.ServiceSums{Rows: rows}, err
	}
	type account struct{ services, host int64 }
	l, err := query(ctx, s, "whether services account for a host", level.accounts(), args, func(rows driver.Rows, v *account) error {
		return rows.Scan(&v.services, &v.host)
	})
	if err != nil || len(l) != 1 {
		return flow.ServiceSums{}, err
	}
	return flow.ServiceSums{Rows: rows, Whole: l[0].services == l[0].host}, nil
}
