package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/zap"
)

// Rollups are made by the hour from what is stored, not by materialized views:
// an insert costs nothing more; what was resent, lost in a crash and repaired, or
// came late is counted as often as it is stored, which is once; and a database
// from before has its past rolled up too. An hour is written under an id of its
// own (roll) and becomes visible when table rollup says that it is done. When
// later rows are found in an hour it is made anew under another id.
const (
	hour = time.Hour
	// rollSettle after an hour's end before it is rolled up: exporters with an
	// active timeout of a minute have told all by then.
	rollSettle = 10 * time.Minute
	// rollAgain is the least time between two rolls of one hour.
	rollAgain = 30 * time.Minute
	// rollEvery is the time between two looks for hours to do.
	rollEvery = 5 * time.Minute
	// sweepAfter: what is out of force is deleted when no query that began
	// before can still be reading it.
	sweepAfter = time.Hour
	// rollRows are summed by one statement: 1 GB of groups where none repeats.
	rollRows = 4_000_000
	// rollWait bounds one statement, rollMax all of an hour: what takes longer
	// must not be taken for cut off and deleted (sweepAfter).
	rollWait = 10 * time.Minute
	rollMax  = 45 * time.Minute
)

// Rolled is what a pass of Rollup did.
type Rolled struct {
	Hours   int       // rolled up
	Rows    uint64    // of host, service and pair windows in them
	Waiting int       // hours that have ended and settled and are not done; after an error only
	Oldest  time.Time // beginning of the first of them
}

// RunRollups keeps the rollups up to date until ctx ends. What fails is logged,
// counted and tried again. The schema must be there.
func (s *Store) RunRollups(ctx context.Context) error {
	for {
		began := time.Now()
		done, err := s.Rollup(ctx, began)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.metrics.rollupErrors.Inc()
			s.log.Warn("rollups are behind, they are tried again", zap.Error(err), zap.Int("hours", done.Waiting), zap.Duration("after", rollEvery))
		case done.Hours > 0:
			s.log.Info("rolled up", zap.Int("hours", done.Hours), zap.Uint64("rows", done.Rows), zap.Duration("took", time.Since(began)))
		}
		behind := 0.0
		if done.Waiting > 0 {
			behind = time.Since(done.Oldest).Seconds()
		}
		s.metrics.rollupBehind.Set(behind)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rollEvery):
		}
	}
}

// Rollup sums every hour that ended before now, has settled and is not summed as
// it is stored, oldest first, and deletes what went out of force. It may run in
// several processes at a time.
func (s *Store) Rollup(ctx context.Context, now time.Time) (Rolled, error) {
	var r Rolled
	due, err := s.dueSlots(ctx, now)
	if err != nil {
		return r, fmt.Errorf("look for hours to roll up: %w", err)
	}
	for i, d := range due {
		began := time.Now()
		if err := s.roll(ctx, d); err != nil {
			r.Waiting, r.Oldest = len(due)-i, time.Unix(d.slot, 0).UTC()
			return r, fmt.Errorf("roll up the hour of %s: %w", r.Oldest.Format(time.DateTime), err)
		}
		s.metrics.rollupSec.Observe(time.Since(began).Seconds())
		r.Hours++
		r.Rows += d.rows.sum()
	}
	if err := s.sweep(ctx, now); err != nil {
		return r, fmt.Errorf("delete superseded rollups: %w", err)
	}
	return r, nil
}

// sourceRows counts rows of host_window, service_window and pair_window.
type sourceRows [3]uint64

func (n sourceRows) sum() uint64 { return n[0] + n[1] + n[2] }

// grown reports whether there are more rows than was, and nowhere less: what
// shrinks is expiring.
func (n sourceRows) grown(was sourceRows) bool {
	return n != was && n[0] >= was[0] && n[1] >= was[1] && n[2] >= was[2]
}

// slotState is an hour: the rows stored, or those of the roll in force.
type slotState struct {
	slot    int64 // Unix time of its beginning
	rows    sourceRows
	written time.Time // when it was last rolled
}

// dueSlots compares by day first, which needs no rows to be read, and by hour in
// the days that differ.
func (s *Store) dueSlots(ctx context.Context, now time.Time) ([]slotState, error) {
	days, err := query(ctx, s, "rows by day", `SELECT toInt64(toUnixTimestamp(toDateTime(toDate(partition), 'UTC'))) AS day,
		sumIf(rows, table = 'host_window'), sumIf(rows, table = 'service_window'), sumIf(rows, table = 'pair_window')
	FROM system.parts
	WHERE active AND database = currentDatabase() AND table IN ('host_window', 'service_window', 'pair_window')
	GROUP BY day ORDER BY day`, nil, scanSlot)
	if err != nil {
		return nil, err
	}
	done, err := query(ctx, s, "hours rolled up", `SELECT toInt64(toUnixTimestamp(slot)),
		argMax(host_rows, roll), argMax(service_rows, roll), argMax(pair_rows, roll), toInt64(toUnixTimestamp(max(written)))
	FROM rollup WHERE done GROUP BY slot`, nil, func(rows driver.Rows, v *slotState) error {
		var at int64
		err := rows.Scan(&v.slot, &v.rows[0], &v.rows[1], &v.rows[2], &at)
		v.written = time.Unix(at, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	const day = 86400
	bySlot, byDay := map[int64]slotState{}, map[int64]sourceRows{}
	for _, d := range done {
		bySlot[d.slot] = d
		sum := byDay[d.slot/day*day]
		for i, n := range d.rows {
			sum[i] += n
		}
		byDay[d.slot/day*day] = sum
	}
	var due []slotState
	for _, d := range days {
		if !d.rows.grown(byDay[d.slot]) {
			continue
		}
		hours, err := query(ctx, s, "rows by hour", hourRowsSQL, []any{named("from", d.slot), named("to", min(d.slot+day, 1<<32-1))}, scanSlot)
		if err != nil {
			return nil, err
		}
		for _, h := range hours {
			was, rolled := bySlot[h.slot]
			settled := time.Unix(h.slot, 0).Add(hour + rollSettle)
			if settled.After(now) || rolled && (!h.rows.grown(was.rows) || now.Sub(was.written).Abs() < rollAgain) {
				continue
			}
			due = append(due, h)
		}
	}
	return due, nil
}

const hourRowsSQL = `SELECT toInt64(toUnixTimestamp(slot)) AS hour, sum(h), sum(s), sum(p) FROM (
	SELECT toStartOfHour(start) AS slot, count() AS h, 0 AS s, 0 AS p FROM host_window WHERE ` + inRange + ` GROUP BY slot
	UNION ALL SELECT toStartOfHour(start) AS slot, 0 AS h, count() AS s, 0 AS p FROM service_window WHERE ` + inRange + ` GROUP BY slot
	UNION ALL SELECT toStartOfHour(start) AS slot, 0 AS h, 0 AS s, count() AS p FROM pair_window WHERE ` + inRange + ` GROUP BY slot)
GROUP BY hour ORDER BY hour`

func scanSlot(rows driver.Rows, v *slotState) error {
	return rows.Scan(&v.slot, &v.rows[0], &v.rows[1], &v.rows[2])
}

// roll sums one hour. d.rows were counted before, so that rows which come
// meanwhile are found by the next pass.
func (s *Store) roll(ctx context.Context, d slotState) error {
	ctx, cancel := context.WithTimeout(ctx, rollMax)
	defer cancel()
	id := time.Now().UnixMicro()
	if err := s.noteRoll(ctx, d, id, false); err != nil {
		return err
	}
	for _, j := range rollJobs(d) {
		// One thread: nobody waits for it, and the detector goes first.
		jctx, cancel := context.WithTimeout(clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
			"max_threads": 1, "max_insert_threads": 1, "insert_deduplicate": 0, "async_insert": 0,
			"max_bytes_before_external_group_by": 512 << 20, "max_execution_time": int(rollWait / time.Second),
		})), rollWait)
		err := s.conn.Exec(jctx, j.sql, append([]any{named("roll", id)}, j.args...)...)
		cancel()
		if err != nil {
			return fmt.Errorf("fill %s: %w", j.table, err)
		}
	}
	return s.noteRoll(ctx, d, id, true)
}

func (s *Store) noteRoll(ctx context.Context, d slotState, id int64, done bool) error {
	ctx, cancel := context.WithTimeout(ctx, insertWait)
	defer cancel()
	err := s.conn.Exec(ctx, `INSERT INTO rollup (slot, roll, done, host_rows, service_rows, pair_rows)
		SELECT toDateTime({slot:Int64}, 'UTC'), {roll:UInt64}, {done:UInt8}, {h:UInt64}, {s:UInt64}, {p:UInt64}`,
		named("slot", d.slot), named("roll", id), named("done", bit(done)),
		named("h", d.rows[0]), named("s", d.rows[1]), named("p", d.rows[2]))
	if err != nil {
		return fmt.Errorf("note in table rollup: %w", err)
	}
	return nil
}

// rollupTables hold rows of rolls.
var rollupTables = []string{"host_1m", "host_1h", "service_1h", "pair_1h", "fleet_1m"}

// sweep deletes the rows of rolls that are not in force, when no reader can be
// left that began while they were.
func (s *Store) sweep(ctx context.Context, now time.Time) error {
	type old struct {
		slot int64
		roll uint64
	}
	// What a slot has in force was noted some time ago, or nothing is in force.
	all, err := query(ctx, s, "superseded rollups", `SELECT toInt64(toUnixTimestamp(slot)), r.roll FROM rollup AS r
		LEFT JOIN (SELECT slot, max(roll) AS best, argMax(written, roll) AS since FROM rollup WHERE done GROUP BY slot) AS f USING slot
		WHERE r.roll != f.best AND greatest(r.written, f.since) < fromUnixTimestamp64Milli({before:Int64}, 'UTC')
		GROUP BY slot, r.roll
		ORDER BY slot LIMIT 1000`, []any{named("before", now.Add(-sweepAfter).UnixMilli())},
		func(rows driver.Rows, v *old) error { return rows.Scan(&v.slot, &v.roll) })
	if err != nil || len(all) == 0 {
		return err
	}
	// Mutations are by table, and cost by the parts they touch: hours that lie
	// near each other go together.
	for chunk := range slices.Chunk(all, 100) {
		ids := make([]uint64, len(chunk))
		for i, o := range chunk {
			ids[i] = o.roll
		}
		args := []any{named("from", chunk[0].slot), named("to", chunk[len(chunk)-1].slot+3600), clickhouse.Named("rolls", uintsText(ids))}
		for _, t := range rollupTables {
			if err := s.delete(ctx, "DELETE FROM "+t+" WHERE "+inRange+" AND roll IN {rolls:Array(UInt64)}", args); err != nil {
				return fmt.Errorf("from %s: %w", t, err)
			}
		}
		if err := s.delete(ctx, "DELETE FROM rollup WHERE slot >= toDateTime({from:Int64}, 'UTC') AND slot < toDateTime({to:Int64}, 'UTC') AND roll IN {rolls:Array(UInt64)}", args); err != nil {
			return fmt.Errorf("from rollup: %w", err)
		}
	}
	return nil
}

func (s *Store) delete(ctx context.Context, sql string, args []any) error {
	ctx, cancel := context.WithTimeout(clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"lightweight_deletes_sync": 1})), rollWait)
	defer cancel()
	return s.conn.Exec(ctx, sql, args...)
}
