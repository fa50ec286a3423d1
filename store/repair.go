package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/zap"
)

// repair makes up for what deduplication by token leaves open. MergeTree
// records the token of a part before it makes the part visible; a server killed
// between the two has the token and not the part, and takes the second insert
// for a duplicate. So after a second insert the rows are counted by the batch's
// id, and those of a missing part are inserted under a token of their own.
//
// Parts are atomic, so a partition has all rows of a batch or none. The tokens
// of repairs follow from the batch's and are the same after a restart; n counts
// them up, for a repair can be killed as well.
func repair[T any](ctx context.Context, s *Store, b *spoolBatch, t *table[T], rows []T) error {
	const tries = 5
	for n := 1; ; n++ {
		missing, err := missingRows(ctx, s, b, t, rows)
		if err != nil || len(missing) == 0 {
			return err
		}
		if n > tries {
			return fmt.Errorf("%d rows of batch %s do not become visible", len(missing), b.token)
		}
		s.metrics.repaired.Inc()
		s.log.Warn("a part that ClickHouse had lost in a crash is inserted again",
			zap.String("table", t.name), zap.String("batch", b.token), zap.Int("rows", len(missing)))
		if err := insertRows(ctx, s, t, missing, b.id(), fmt.Sprintf("%s-r%d", b.token, n)); err != nil {
			return err
		}
	}
}

// errPartial cannot happen while parts are atomic; a human must look.
var errPartial = errors.New("a batch is stored in part")

type slotCount struct {
	slot int64
	rows uint64
}

// missingRows returns the rows of those partitions in which the table has none
// of the batch.
func missingRows[T any](ctx context.Context, s *Store, b *spoolBatch, t *table[T], rows []T) ([]T, error) {
	want := map[int64]uint64{}
	first, last := t.at(&rows[0]), t.at(&rows[0])
	for i := range rows {
		at := t.at(&rows[i])
		first, last = min(first, at), max(last, at)
		want[at/t.slotSeconds]++
	}
	have, err := query(ctx, s, "rows of a batch", fmt.Sprintf(`SELECT toInt64(intDiv(toUnixTimestamp(%[1]s), %[2]d)) AS slot, count()
		FROM %[3]s WHERE %[1]s >= toDateTime({first:Int64}, 'UTC') AND %[1]s <= toDateTime({last:Int64}, 'UTC')
			AND batch = {batch:UInt64} GROUP BY slot`, t.time, t.slotSeconds, t.name),
		[]any{named("first", first), named("last", last), named("batch", b.id())},
		func(r driver.Rows, v *slotCount) error { return r.Scan(&v.slot, &v.rows) })
	if err != nil {
		return nil, err
	}
	for _, h := range have {
		if n := want[h.slot]; h.rows != n {
			return nil, fmt.Errorf("%w: partition %d holds %d of %d rows of %s", errPartial, h.slot, h.rows, n, b.token)
		}
		delete(want, h.slot)
	}
	if len(want) == 0 {
		return nil, nil
	}
	var missing []T
	for i := range rows {
		if _, ok := want[t.at(&rows[i])/t.slotSeconds]; ok {
			missing = append(missing, rows[i])
		}
	}
	return missing, nil
}
