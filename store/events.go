package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// appendWait bounds AppendEvents where the caller has set no deadline: an act
// waits for its intent to be stored.
const appendWait = 10 * time.Second

// AppendEvents stores events and returns when ClickHouse has acknowledged them
// all; it tries again until ctx ends (10 s if it has no deadline). After an
// error some of them may be stored nevertheless: append the same events again.
//
// Repeating is harmless because Events takes the first row of each Seq. No
// deduplication token is used: a server that is killed may remember a token and
// not the rows (see repair), and an event must never be lost.
func (s *Store) AppendEvents(ctx context.Context, events []flow.Event) error {
	if len(events) == 0 {
		return nil
	}
	ctx, cancel := withDeadline(ctx, appendWait)
	defer cancel()
	for wait := minRetry; ; wait = min(2*wait, time.Second) {
		err := s.insertEvents(ctx, events)
		if err == nil {
			s.metrics.rows.WithLabelValues("event").Add(float64(len(events)))
			return nil
		}
		s.metrics.insertErrors.Inc()
		err = fmt.Errorf("append events %d to %d: %w", events[0].Seq, events[len(events)-1].Seq, err)
		if ctx.Err() != nil || inTheData(err) {
			return err
		}
		s.log.Warn("append failed, it is tried again", zap.Error(err))
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

func (s *Store) insertEvents(ctx context.Context, events []flow.Event) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"async_insert": 0, "insert_deduplicate": 0}))
	w, err := s.conn.PrepareBatch(ctx, "INSERT INTO event (seq, time, incident, kind, actor, reason, body)")
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	for _, e := range events {
		if err := w.Append(e.Seq, toDB(e.Time), e.Incident, e.Kind, e.Actor, e.Reason, string(e.Body)); err != nil {
			return err
		}
	}
	return w.Send()
}

// Events calls fn with every stored event in the order of Seq, each Seq once.
// It stops at fn's first error and returns it.
func (s *Store) Events(ctx context.Context, fn func(flow.Event) error) error {
	rows, err := s.conn.Query(ctx, `SELECT seq, time, incident, kind, actor, reason, body
		FROM event ORDER BY seq, written LIMIT 1 BY seq`)
	if err != nil {
		return fmt.Errorf("query events: %w", err)
	}
	_, err = collect(rows, struct{}{}, func(none struct{}) (struct{}, error) {
		var e flow.Event
		var body string
		if err := rows.Scan(&e.Seq, &e.Time, &e.Incident, &e.Kind, &e.Actor, &e.Reason, &body); err != nil {
			return none, fmt.Errorf("query events: %w", err)
		}
		e.Time = fromDB(e.Time)
		if body != "" {
			e.Body = json.RawMessage(body)
		}
		return none, fn(e)
	})
	return err
}
