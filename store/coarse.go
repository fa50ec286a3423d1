package store

import (
	"context"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/zap"
)

// coarseTables are those that migrations have put aside for one with a finer index,
// under their name with this at its end, until their rows have been moved.
var coarseTables = []string{flowTable.name, hostTable.name}

const coarseSuffix = "_coarse"

// moveCoarse takes the rows of an older flowcordon into their new tables: part by
// part as they lie on disk, without a copy, each partition at once or not at all.
// The tokens of their inserts stay behind: a batch that is found in the spool is
// looked for by its id first (insertTable).
func (s *Store) moveCoarse(ctx context.Context) error {
	for _, table := range coarseTables {
		if err := s.moveInto(ctx, table); err != nil {
			return fmt.Errorf("move rows from %s: %w", table+coarseSuffix, err)
		}
	}
	return nil
}

func (s *Store) moveInto(ctx context.Context, table string) error {
	coarse := table + coarseSuffix
	scan := func(rows driver.Rows, v *string) error { return rows.Scan(v) }
	there, err := query(ctx, s, "table put aside", "SELECT name FROM system.tables WHERE database = currentDatabase() AND name = {table:String}",
		[]any{named("table", coarse)}, scan)
	if err != nil || len(there) == 0 {
		return err
	}
	if err := s.setPolicy(ctx, coarse); err != nil { // both must have the same
		return err
	}
	partitions, err := query(ctx, s, "partitions put aside", `SELECT DISTINCT partition_id FROM system.parts
WHERE database = currentDatabase() AND table = {table:String} AND active ORDER BY partition_id`, []any{named("table", coarse)}, scan)
	if err != nil {
		return err
	}
	for _, id := range partitions { // of digits
		if err := s.conn.Exec(ctx, "ALTER TABLE "+coarse+" MOVE PARTITION ID '"+id+"' TO TABLE "+table); err != nil {
			return err
		}
	}
	if err := s.conn.Exec(ctx, "DROP TABLE IF EXISTS "+coarse); err != nil {
		return err
	}
	s.log.Info("rows moved to the table with the finer index", zap.String("table", table), zap.Int("partitions", len(partitions)))
	return nil
}
