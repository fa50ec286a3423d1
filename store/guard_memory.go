package store

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// SaveGuards stores what the detector's guards remember at ts, which takes the
// place of what was stored before, and returns when ClickHouse has acknowledged it.
func (s *Store) SaveGuards(ctx context.Context, ts time.Time, state []byte) error {
	ctx, cancel := withDeadline(ctx, appendWait)
	defer cancel()
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"async_insert": 0, "insert_deduplicate": 0}))
	w, err := s.conn.PrepareBatch(ctx, "INSERT INTO guard_memory (saved, state)")
	if err != nil {
		return fmt.Errorf("save the guards' memory: %w", err)
	}
	defer func() { _ = w.Close() }()
	if err := w.Append(ts.UTC(), string(state)); err != nil {
		return fmt.Errorf("save the guards' memory: %w", err)
	}
	if err := w.Send(); err != nil {
		return fmt.Errorf("save the guards' memory: %w", err)
	}
	s.metrics.rows.WithLabelValues("guard_memory").Inc()
	return nil
}

// guardsSQL: a row is kept for two days after it was written.
const guardsSQL = `SELECT state FROM guard_memory WHERE saved >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
ORDER BY saved DESC, written DESC LIMIT 1`

// LoadGuards returns what was saved last for a moment not before since; nil: nothing
// was, or it has expired.
func (s *Store) LoadGuards(ctx context.Context, since time.Time) ([]byte, error) {
	l, err := query(ctx, s, "guards' memory", guardsSQL, []any{named("since", max(since.UnixMilli(), 0))},
		func(rows driver.Rows, v *string) error { return rows.Scan(v) })
	if err != nil || len(l) == 0 {
		return nil, err
	}
	return []byte(l[0]), nil
}
