package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/flowcordon/flowcordon/flow"
)

// numberedLog is an append-only table of events with numbers of their own.
type numberedLog struct {
	name   string // for errors and the metric
	insert string
	read   string
}

// The tables are written out, identifiers being constant.
var (
	exemptionLog = numberedLog{"exemption",
		"INSERT INTO exemption (seq, time, kind, exemption, actor, reason, body)",
		"SELECT seq, time, kind, exemption, actor, reason, body FROM exemption ORDER BY seq, written LIMIT 1 BY seq"}
	caseLog = numberedLog{"complaint_case",
		"INSERT INTO complaint_case (seq, time, kind, case_id, actor, reason, body)",
		"SELECT seq, time, kind, case_id, actor, reason, body FROM complaint_case ORDER BY seq, written LIMIT 1 BY seq"}
)

// AppendExemptions stores events of exemptions and returns when ClickHouse has
// acknowledged them. It does not try again; after an error some of them may be
// stored nevertheless.
func (s *Store) AppendExemptions(ctx context.Context, events []flow.Event) error {
	return s.appendTo(ctx, exemptionLog, events)
}

// ExemptionEvents calls fn with every event in the order of Seq, each Seq once. It
// stops at fn's first error and returns it.
func (s *Store) ExemptionEvents(ctx context.Context, fn func(flow.Event) error) error {
	return s.eventsOf(ctx, exemptionLog, fn)
}

// AppendCases is AppendExemptions for the cases of complaints.
func (s *Store) AppendCases(ctx context.Context, events []flow.Event) error {
	return s.appendTo(ctx, caseLog, events)
}

// CaseEvents is ExemptionEvents for the cases of complaints.
func (s *Store) CaseEvents(ctx context.Context, fn func(flow.Event) error) error {
	return s.eventsOf(ctx, caseLog, fn)
}

func (s *Store) appendTo(ctx context.Context, l numberedLog, events []flow.Event) error {
	if len(events) == 0 {
		return nil
	}
	ctx, cancel := withDeadline(ctx, appendWait)
	defer cancel()
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"async_insert": 0, "insert_deduplicate": 0}))
	w, err := s.conn.PrepareBatch(ctx, l.insert)
	if err != nil {
		return fmt.Errorf("append to %s: %w", l.name, err)
	}
	defer func() { _ = w.Close() }()
	for _, e := range events {
		if err := w.Append(e.Seq, toDB(e.Time), e.Kind, e.Incident, e.Actor, e.Reason, string(e.Body)); err != nil {
			return fmt.Errorf("append to %s: %w", l.name, err)
		}
	}
	if err := w.Send(); err != nil {
		return fmt.Errorf("append to %s: %w", l.name, err)
	}
	s.metrics.rows.WithLabelValues(l.name).Add(float64(len(events)))
	return nil
}

func (s *Store) eventsOf(ctx context.Context, l numberedLog, fn func(flow.Event) error) error {
	rows, err := s.conn.Query(ctx, l.read)
	if err != nil {
		return fmt.Errorf("query %s: %w", l.name, err)
	}
	_, err = collect(rows, struct{}{}, func(none struct{}) (struct{}, error) {
		var e flow.Event
		var body string
		if err := rows.Scan(&e.Seq, &e.Time, &e.Kind, &e.Incident, &e.Actor, &e.Reason, &body); err != nil {
			return none, fmt.Errorf("query %s: %w", l.name, err)
		}
		e.Time = fromDB(e.Time)
		if body != "" {
			e.Body = json.RawMessage(body)
		}
		return none, fn(e)
	})
	return err
}
