package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/flowcordon/flowcordon/flow"
)

// AppendLedger stores events of the ledger and returns when ClickHouse has
// acknowledged them. Incident is the case's id; Seq and Reason are not kept. It
// does not try again: appending the same events once more is harmless.
func (s *Store) AppendLedger(ctx context.Context, events []flow.Event) error {
	if len(events) == 0 {
		return nil
	}
	ctx, cancel := withDeadline(ctx, appendWait)
	defer cancel()
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"async_insert": 0, "insert_deduplicate": 0}))
	w, err := s.conn.PrepareBatch(ctx, "INSERT INTO ledger (time, kind, case_id, actor, body)")
	if err != nil {
		return fmt.Errorf("append to ledger: %w", err)
	}
	defer func() { _ = w.Close() }()
	for _, e := range events {
		if err := w.Append(toDB(e.Time), e.Kind, e.Incident, e.Actor, string(e.Body)); err != nil {
			return fmt.Errorf("append to ledger: %w", err)
		}
	}
	if err := w.Send(); err != nil {
		return fmt.Errorf("append to ledger: %w", err)
	}
	s.metrics.rows.WithLabelValues("ledger").Add(float64(len(events)))
	return nil
}

// LedgerEvents calls fn with the events of the ledger from since on, in the order
// of their time. It stops at fn's first error and returns it.
func (s *Store) LedgerEvents(ctx context.Context, since time.Time, fn func(flow.Event) error) error {
	rows, err := s.conn.Query(ctx, `SELECT time, kind, case_id, actor, body FROM ledger
		WHERE time >= fromUnixTimestamp64Nano({since:Int64}, 'UTC') ORDER BY time, written, case_id`, named("since", nanos(since)))
	if err != nil {
		return fmt.Errorf("query ledger: %w", err)
	}
	_, err = collect(rows, struct{}{}, func(none struct{}) (struct{}, error) {
		var e flow.Event
		var body string
		if err := rows.Scan(&e.Time, &e.Kind, &e.Incident, &e.Actor, &body); err != nil {
			return none, fmt.Errorf("query ledger: %w", err)
		}
		e.Time = fromDB(e.Time)
		if body != "" {
			e.Body = json.RawMessage(body)
		}
		return none, fn(e)
	})
	return err
}
