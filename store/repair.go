package store

import (
	"context"
	"encoding/binary"
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
func (s *sender) repair(ctx context.Context, b *spoolBatch, t *table, frames []frame) error {
	const tries = 5
	for n := 1; ; n++ {
		missing, err := s.missingSlots(ctx, b, t, frames)
		if err != nil || len(missing) == 0 {
			return err
		}
		if n > tries {
			return fmt.Errorf("%d partitions of batch %s do not become visible", len(missing), b.token)
		}
		var part []frame
		rows := 0
		for i := range frames {
			if f := frames[i].pick(missing, s.lend); f.rows > 0 {
				part = append(part, f)
				rows += f.rows
			}
		}
		s.metrics.repaired.Inc()
		s.log.Warn("a part that ClickHouse had lost in a crash is inserted again",
			zap.String("table", t.name), zap.String("batch", b.token), zap.Int("rows", rows))
		if err := s.insertFrames(ctx, t, part, b.id(), fmt.Sprintf("%s-r%d", b.token, n)); err != nil {
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

// missingSlots returns the partitions in which the table has no row of the
// batch, of those in which the frames have some.
func (s *sender) missingSlots(ctx context.Context, b *spoolBatch, t *table, frames []frame) (map[uint32]bool, error) {
	want := map[uint32]uint64{}
	first, last := frames[0].first, frames[0].last
	for i := range frames {
		first, last = min(first, frames[i].first), max(last, frames[i].last)
		for _, p := range frames[i].slots {
			want[p.slot] += uint64(p.rows)
		}
	}
	have, err := query(ctx, s.Store, "rows of a batch", fmt.Sprintf(`SELECT toInt64(intDiv(toUnixTimestamp(%[1]s), %[2]d)) AS slot, count()
		FROM %[3]s WHERE %[1]s >= toDateTime({first:Int64}, 'UTC') AND %[1]s <= toDateTime({last:Int64}, 'UTC')
			AND batch = {batch:UInt64} GROUP BY slot`, t.time, t.slotSeconds, t.name),
		[]any{named("first", first), named("last", last), named("batch", b.id())},
		func(r driver.Rows, v *slotCount) error { return r.Scan(&v.slot, &v.rows) })
	if err != nil {
		return nil, err
	}
	for _, h := range have {
		if n := want[uint32(h.slot)]; h.rows != n {
			return nil, fmt.Errorf("%w: partition %d holds %d of %d rows of %s", errPartial, h.slot, h.rows, n, b.token)
		}
		delete(want, uint32(h.slot))
	}
	missing := make(map[uint32]bool, len(want))
	for slot := range want {
		missing[slot] = true
	}
	return missing, nil
}

// slotOf is the partition of a row.
func (f *frame) slotOf(times []byte, row int) uint32 {
	var sec uint64
	if f.table.nanos {
		sec = binary.LittleEndian.Uint64(times[8*row:]) / 1e9
	} else {
		sec = uint64(binary.LittleEndian.Uint32(times[4*row:]))
	}
	return uint32(sec / uint64(f.table.slotSeconds))
}

// pick returns the rows of some partitions as a frame of their own, in memory
// of lend. Its header has what insertFrames needs.
func (f *frame) pick(slots map[uint32]bool, lend func(int) []byte) frame {
	var rows []int
	times := f.column(0)
	for r := range f.rows {
		if slots[f.slotOf(times, r)] {
			rows = append(rows, r)
		}
	}
	out := frame{header: header{table: f.table, rows: len(rows)}}
	buf := lend(f.raw)[:0]
	for k, c := range f.table.cols {
		from, b := len(buf), f.column(k)
		if c.array {
			buf = pickArrays(buf, b, rows, f.rows, c.width)
		} else {
			for _, r := range rows {
				buf = append(buf, b[r*c.width:][:c.width]...)
			}
		}
		out.cols = append(out.cols, uint32(len(buf)-from))
	}
	out.payload, out.raw = buf, len(buf)
	return out
}

// pickArrays appends the arrays of some of the rows of an array column.
func pickArrays(buf, col []byte, rows []int, all, width int) []byte {
	le := binary.LittleEndian
	bounds := func(r int) (from, to uint64) {
		if r > 0 {
			from = le.Uint64(col[8*(r-1):])
		}
		return from, le.Uint64(col[8*r:])
	}
	end := uint64(0)
	for _, r := range rows {
		from, to := bounds(r)
		end += to - from
		buf = le.AppendUint64(buf, end)
	}
	elements, w := col[8*all:], uint64(width)
	for _, r := range rows {
		from, to := bounds(r)
		buf = append(buf, elements[from*w:to*w]...)
	}
	return buf
}
