package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

const (
	// senders overlap one batch's encoding with another's insertion.
	senders = 2
	// insertWait bounds one insert; the next try has the same token.
	insertWait = 60 * time.Second
	// drainWait bounds what Run sends after its context has ended. What is left
	// stays in the spool for the next start.
	drainWait = 5 * time.Second

	minRetry = 100 * time.Millisecond
	maxRetry = 5 * time.Second
	// rejectAfter tries, an error that lies in the data itself is final.
	rejectAfter = 3
)

// sendLoop sends batches until ctx ends, and then what is left for as long as
// drain lives and the database answers.
func (s *Store) sendLoop(ctx, drain context.Context) {
	retry := minRetry
	for {
		if ctx.Err() != nil {
			s.spool.seal() // what came last is sent too
		}
		b, changed, again := s.spool.take(time.Now())
		if b == nil {
			if ctx.Err() != nil {
				return
			}
			waitChange(ctx, changed, again)
			continue
		}
		b.tries++
		err := s.sendBatch(drain, b)
		if err == nil {
			retry = minRetry
			continue
		}
		tries := b.tries
		s.spool.putBack(b) // the other sender may have it from here on
		if ctx.Err() != nil {
			return // no patience during a shutdown
		}
		s.metrics.insertErrors.Inc()
		s.log.Warn("insert failed, it is tried again", zap.Error(err), zap.String("batch", b.token), zap.Int("tries", tries), zap.Duration("after", retry))
		waitChange(ctx, nil, time.Now().Add(retry))
		retry = min(2*retry, maxRetry)
	}
}

// waitChange waits for changed, until ctx ends or at the moment again, if any.
func waitChange(ctx context.Context, changed <-chan struct{}, again time.Time) {
	var timer <-chan time.Time
	if !again.IsZero() {
		t := time.NewTimer(time.Until(again))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
	case <-changed:
	case <-timer:
	}
}

// sendBatch inserts one batch and removes it. It returns an error if the batch
// has to be sent again; a batch that can never be stored is set aside.
func (s *Store) sendBatch(ctx context.Context, b *spoolBatch) error {
	rows, err := s.spool.read(b)
	switch {
	case errors.Is(err, errCorrupt) || errors.Is(err, errTorn) || errors.Is(err, os.ErrNotExist):
		s.metrics.dropped.WithLabelValues(dropCorrupt).Inc()
		s.log.Error("batch in the spool cannot be read, it is set aside", zap.Error(err), zap.String("batch", b.path))
		s.setAside(b, extCorrupt)
		return nil
	case err != nil:
		return fmt.Errorf("read from the spool: %w", err)
	}
	err = errors.Join(
		insertTable(ctx, s, b, &hostTable, rows.Hosts),
		insertTable(ctx, s, b, &serviceTable, rows.Services),
		insertTable(ctx, s, b, &pairTable, rows.Pairs),
		insertTable(ctx, s, b, &flowTable, rows.Flows),
	)
	if err == nil {
		if err := s.spool.done(b); err != nil {
			s.log.Error("spool", zap.Error(err))
		}
		return nil
	}
	if b.tries >= rejectAfter && inTheData(err) {
		s.metrics.dropped.WithLabelValues(dropRejected).Add(float64(rows.Rows()))
		s.log.Error("ClickHouse refuses a batch for good, it is set aside", zap.Error(err), zap.String("batch", b.path))
		s.setAside(b, extRejected)
		return nil
	}
	return err
}

func (s *Store) setAside(b *spoolBatch, ext string) {
	if err := s.spool.aside(b, ext); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Error("the batch stays where it is and is tried again at the next start", zap.Error(err))
	}
}

// inTheData reports whether ClickHouse's error would come back for these rows
// whatever the state of the server (codes of ErrorCodes.cpp).
func inTheData(err error) bool {
	var ex *clickhouse.Exception
	if !errors.As(err, &ex) {
		return errors.Is(err, clickhouse.ErrBatchInvalid) || errors.Is(err, errPartial)
	}
	switch ex.Code {
	case 6, 27, 53, 69, 70, 131, 349, 407: // CANNOT_PARSE_TEXT, …_INPUT, TYPE_MISMATCH, ARGUMENT_OUT_OF_BOUND, CANNOT_CONVERT_TYPE, TOO_LARGE_STRING_SIZE, CANNOT_INSERT_NULL, DECIMAL_OVERFLOW
		return true
	}
	return false
}

// insertTable inserts the batch's rows of one table under the batch's token.
func insertTable[T any](ctx context.Context, s *Store, b *spoolBatch, t *table[T], rows []T) error {
	if len(rows) == 0 || b.stored&(1<<t.id) != 0 {
		return nil
	}
	again := b.tries > 1 || b.found
	if again {
		// ClickHouse remembers the last 10,000 tokens of a table. A batch that
		// one table refused for hours, or that lay in the spool while others
		// went past it, is older than that: look first.
		missing, err := missingRows(ctx, s, b, t, rows)
		if err != nil {
			return fmt.Errorf("look for the batch in %s: %w", t.name, err)
		}
		if len(missing) == 0 {
			b.stored |= 1 << t.id
			s.metrics.rows.WithLabelValues(t.name).Add(float64(len(rows)))
			return nil
		}
	}
	if err := insertRows(ctx, s, t, rows, b.id(), b.token); err != nil {
		return fmt.Errorf("insert into %s: %w", t.name, err)
	}
	if again {
		if err := repair(ctx, s, b, t, rows); err != nil {
			return fmt.Errorf("check %s after a second insert: %w", t.name, err)
		}
	}
	b.stored |= 1 << t.id
	s.metrics.rows.WithLabelValues(t.name).Add(float64(len(rows)))
	return nil
}

// insertRows sends rows in one block, so that ClickHouse makes one part of
// them for each partition, and returns when that is acknowledged.
func insertRows[T any](ctx context.Context, s *Store, t *table[T], rows []T, batch uint64, token string) error {
	ctx, cancel := context.WithTimeout(ctx, insertWait)
	defer cancel()
	began := time.Now()
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"insert_deduplicate":         1,
		"insert_deduplication_token": token,
		"async_insert":               0,
		// A replay, or an exporter's wrong clock, may span many days.
		"max_partitions_per_insert_block": 0,
	}))
	w, err := s.conn.PrepareBatch(ctx, t.insertSQL())
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	for i, c := range t.cols {
		if err := c.send(w.Column(i), rows); err != nil {
			return fmt.Errorf("column %s: %w", c.name, err)
		}
	}
	ids := make([]uint64, len(rows))
	for i := range ids {
		ids[i] = batch
	}
	if err := w.Column(len(t.cols)).Append(ids); err != nil {
		return fmt.Errorf("column batch: %w", err)
	}
	if err := w.Send(); err != nil {
		return err
	}
	s.metrics.insertSec.Observe(time.Since(began).Seconds())
	return nil
}

// Write puts the rows into the spool and returns; b may be used again at once.
// It never waits for the database. When it returns nil the rows survive a kill
// of this process and will be stored exactly once. Otherwise they are dropped
// and counted; the error is ErrSpoolFull, ErrClosed or one of the disk.
func (s *Store) Write(b *flow.Batch) error {
	n := b.Rows()
	if n == 0 {
		return nil
	}
	buf := s.frames.Get().(*[]byte)
	*buf = appendFrame((*buf)[:0], b)
	err := s.spool.add(*buf, n)
	if cap(*buf) <= maxPooledFrame {
		s.frames.Put(buf)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrSpoolFull):
		s.drop(dropSpoolFull, n)
	case errors.Is(err, ErrClosed):
		s.drop(dropClosed, n)
	default:
		s.drop(dropSpoolError, n)
	}
	return err
}

func (s *Store) drop(reason string, rows int) {
	s.metrics.dropped.WithLabelValues(reason).Add(float64(rows))
}

// Sync waits until every row written before the call is acknowledged by
// ClickHouse. It returns an error if ctx ends first or if a batch had to be set
// aside meanwhile. Run must be running.
func (s *Store) Sync(ctx context.Context) error {
	seq, before := s.spool.seal()
	for {
		wait, aside, changed := s.spool.pending(seq)
		if !wait {
			if aside != before {
				return fmt.Errorf("%d batches were set aside, see the log", aside-before)
			}
			return nil
		}
		select {
		case <-changed:
		case <-s.ended:
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("wait for ClickHouse to acknowledge: %w", ctx.Err())
		}
	}
}
