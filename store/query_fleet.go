package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// FleetSeries is the traffic of all tenants together in r, by step, which is a
// multiple of a minute: from fleet_1m, and from host windows where an hour is not
// rolled up yet. Attempts are not summed. Steps without traffic are absent.
func (s *Store) FleetSeries(ctx context.Context, r flow.Range, step time.Duration) ([]flow.SeriesPoint, error) {
	if step < time.Minute || step%time.Minute != 0 {
		return nil, fmt.Errorf("step %v of the fleet's series is not a multiple of a minute", step)
	}
	p, err := s.plan(ctx, flow.Range{From: r.From.Truncate(time.Minute), To: r.To}, flow.ResolutionMinute)
	if err != nil {
		return nil, err
	}
	from, args := p.fleetSource()
	return query(ctx, s, "traffic of the fleet by time", `SELECT toStartOfInterval(start, toIntervalSecond({step:Int64}), 'UTC') AS at,
		sum(out_packets * rate), sum(in_packets * rate), sum(out_bytes * rate), sum(in_bytes * rate), sum(out_records), sum(in_records), sum(syn_out)
	FROM `+from+` GROUP BY at ORDER BY at`, append(args, named("step", int64(step/time.Second))),
		func(rows driver.Rows, v *flow.SeriesPoint) error {
			err := rows.Scan(&v.Time, &v.EstOutPackets, &v.EstInPackets, &v.EstOutBytes, &v.EstInBytes, &v.OutRecords, &v.InRecords, &v.SYNOut)
			v.Time = v.Time.UTC()
			return err
		})
}

// fleetSource is source for sums over all tenants: a minute of them is one row of
// fleet_1m, not one of each tenant.
func (p plan) fleetSource() (string, []any) {
	args := []any{named("from", p.all.from), named("to", p.all.to), named("asof", p.asof.UnixMilli())}
	var parts []string
	add := func(table, cond string, sp span) {
		n := len(parts)
		args = append(args, named(fmt.Sprintf("a%d", n), sp.from), named(fmt.Sprintf("b%d", n), sp.to))
		parts = append(parts, fmt.Sprintf(`SELECT start, rate, %s FROM %s WHERE start >= toDateTime({a%d:Int64}, 'UTC') AND start < toDateTime({b%d:Int64}, 'UTC')%s`,
			each(hostColumns, "%[1]s"), table, n, n, cond))
	}
	for _, sp := range p.minutes {
		add("fleet_1m", " AND roll IN "+rollsInForce, sp)
	}
	for _, sp := range p.edges {
		add("host_window", "", sp)
	}
	for _, sp := range p.unrolled {
		add("host_window", " AND toStartOfHour(start) NOT IN "+slotsInForce, sp)
	}
	return "(" + strings.Join(parts, "\nUNION ALL\n") + ")", args
}
