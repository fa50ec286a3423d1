package store

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// AppendReads stores who read what, and returns when ClickHouse has acknowledged it.
func (s *Store) AppendReads(ctx context.Context, reads []flow.Read) error {
	if len(reads) == 0 {
		return nil
	}
	ctx, cancel := withDeadline(ctx, appendWait)
	defer cancel()
	w, err := s.conn.PrepareBatch(ctx, "INSERT INTO read_log (time, last, actor, role, operation, target, count, request)")
	if err != nil {
		return fmt.Errorf("append reads: %w", err)
	}
	defer func() { _ = w.Close() }()
	for _, r := range reads {
		if err := w.Append(r.Time, r.Last, r.Actor, r.Role, r.Operation, r.Target, r.Count, r.Request); err != nil {
			return fmt.Errorf("append reads: %w", err)
		}
	}
	if err := w.Send(); err != nil {
		return fmt.Errorf("append reads: %w", err)
	}
	s.metrics.rows.WithLabelValues("read_log").Add(float64(len(reads)))
	return nil
}

// readsSQL has every condition always; an empty parameter takes one away.
const readsSQL = `SELECT time, last, actor, role, operation, target, count, request FROM read_log
WHERE time >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND time < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
	AND ({actor:String} = '' OR actor = {actor:String})
	AND ({operation:String} = '' OR operation = {operation:String})
	AND ({target:String} = '' OR target = {target:String})
ORDER BY time DESC, actor DESC, operation DESC, target DESC, request DESC
LIMIT {limit:UInt32} OFFSET {skip:UInt32}`

// maxReads bounds what Reads returns.
const maxReads = 10_000

// Reads returns who read what, newest first: the newest f.Limit (0: 100, at most
// 10,000) that match, without the first f.Skip.
func (s *Store) Reads(ctx context.Context, f flow.ReadFilter) ([]flow.Read, error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	to := int64(1) << 42 // the year 2109
	if !f.Until.IsZero() {
		to = f.Until.UnixMilli()
	}
	return query(ctx, s, "reads", readsSQL, []any{
		named("from", max(f.Since.UnixMilli(), 0)), named("to", max(to, 0)), clickhouse.Named("actor", f.Actor), clickhouse.Named("operation", f.Operation),
		clickhouse.Named("target", f.Target), named("limit", min(f.Limit, maxReads)), named("skip", max(f.Skip, 0)),
	}, func(rows driver.Rows, v *flow.Read) error {
		var at, last time.Time
		err := rows.Scan(&at, &last, &v.Actor, &v.Role, &v.Operation, &v.Target, &v.Count, &v.Request)
		v.Time, v.Last = at.UTC(), last.UTC()
		return err
	})
}
