package store

import (
	"context"
	"fmt"

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

// missingRows returns the rows of those partitions in which the table has none
// of the batch.
func missingRows[T any](ctx context.Context, s *Store, b *spoolBatch, t *table[T], rows []T) ([]T, error) {
	want := map[int64]uint64{}
	for i := range rows {
		want[t.slot(&rows[i])]++
	}
	have, err := s.batchSlots(ctx, t.name, t.slotSQL, b.id())
	if err != nil {
		return nil, err
	}
	var missing []T
	for slot, n := range want {
		switch have[slot] {
		case n:
			delete(want, slot)
		case 0:
		default:
			return nil, fmt.Errorf("partition %d holds %d of %d rows of batch %s: parts should be whole", slot, have[slot], n, b.token)
		}
	}
	for i := range rows {
		if _, ok := want[t.slot(&rows[i])]; ok {
			missing = append(missing, rows[i])
		}
	}
	return missing, nil
}
