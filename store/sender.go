package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"go.uber.org/zap"
)

const (
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

// sender is one goroutine that sends batches over a connection of its own.
type sender struct {
	*Store
	link  link
	batch *batchReader // the one being sent
}

// lend returns memory that lives as long as the frames being sent.
func (s *sender) lend(n int) []byte { return s.batch.lend(n) }

// run sends batches until ctx ends, and then what is left for as long as drain
// lives and the database answers.
func (s *sender) run(ctx, drain context.Context) {
	defer s.link.close()
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
		err := s.send(drain, b)
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

// send inserts one batch and removes it. It returns an error if the batch has
// to be sent again; a batch that can never be stored is set aside.
func (s *sender) send(ctx context.Context, b *spoolBatch) error {
	r, err := s.spool.read(b)
	rows := 0 // not stored
	if err == nil {
		s.batch = r
		err = s.insertTables(ctx, b)
		rows = r.rowsOtherThan(b.stored)
		r.close()
		s.batch = nil
	}
	switch {
	case err == nil:
		if err := s.spool.done(b); err != nil {
			s.log.Error("spool", zap.Error(err))
		}
		return nil
	case errors.Is(err, errCorrupt) || errors.Is(err, errTorn) || errors.Is(err, os.ErrNotExist):
		s.metrics.dropped.WithLabelValues(dropCorrupt).Inc()
		s.log.Error("batch in the spool cannot be read, it is set aside", zap.Error(err), zap.String("batch", b.path))
		s.setAside(b, extCorrupt)
		return nil
	case b.tries >= rejectAfter && inTheData(err):
		s.metrics.dropped.WithLabelValues(dropRejected).Add(float64(rows))
		s.log.Error("ClickHouse refuses a batch for good, it is set aside", zap.Error(err), zap.String("batch", b.path))
		s.setAside(b, extRejected)
		return nil
	}
	return err
}

func (s *sender) setAside(b *spoolBatch, ext string) {
	if err := s.spool.aside(b, ext); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Error("the batch stays where it is and is tried again at the next start", zap.Error(err))
	}
}

// inTheData reports whether ClickHouse's error would come back for these rows
// whatever the state of the server (codes of ErrorCodes.cpp).
func inTheData(err error) bool {
	code, ok := exceptionCode(err)
	if !ok {
		return errors.Is(err, clickhouse.ErrBatchInvalid) || errors.Is(err, errPartial)
	}
	switch code {
	case 6, 27, 53, 69, 70, 131, 349, 407: // CANNOT_PARSE_TEXT, …_INPUT, TYPE_MISMATCH, ARGUMENT_OUT_OF_BOUND, CANNOT_CONVERT_TYPE, TOO_LARGE_STRING_SIZE, CANNOT_INSERT_NULL, DECIMAL_OVERFLOW
		return true
	}
	return false
}

// exceptionCode is that of the server's exception in err, of either client.
func exceptionCode(err error) (code int32, ok bool) {
	var query *clickhouse.Exception
	if errors.As(err, &query) {
		return query.Code, true
	}
	var insert *exception
	if errors.As(err, &insert) {
		return int32(insert.Code), true
	}
	return 0, false
}

// insertTables inserts the batch's rows table by table. One that refuses its
// rows does not hold up the others; a server that does not answer does.
func (s *sender) insertTables(ctx context.Context, b *spoolBatch) error {
	var errs []error
	for _, t := range tables {
		if b.stored&(1<<t.id) != 0 {
			continue
		}
		frames, err := s.batch.table(t)
		if err == nil && len(frames) > 0 {
			err = s.insertTable(ctx, b, t, frames)
		}
		s.batch.release()
		if err == nil {
			b.stored |= 1 << t.id
			continue
		}
		errs = append(errs, err)
		if _, answered := exceptionCode(err); !answered && !errors.Is(err, errPartial) {
			break
		}
	}
	return errors.Join(errs...)
}

// insertTable inserts the batch's rows of one table under the batch's token.
func (s *sender) insertTable(ctx context.Context, b *spoolBatch, t *table, frames []frame) error {
	rows := rowsIn(frames)
	again := b.tries > 1 || b.found
	if again {
		// ClickHouse remembers the last 10,000 tokens of a table. A batch that
		// one table refused for hours, or that lay in the spool while others
		// went past it, is older than that: look first.
		missing, err := s.missingSlots(ctx, b, t, frames)
		if err != nil {
			return fmt.Errorf("look for the batch in %s: %w", t.name, err)
		}
		if len(missing) == 0 {
			s.metrics.rows.WithLabelValues(t.name).Add(float64(rows))
			return nil
		}
	}
	if err := s.insertFrames(ctx, t, frames, b.id(), b.token); err != nil {
		return fmt.Errorf("insert into %s: %w", t.name, err)
	}
	if again {
		if err := s.repair(ctx, b, t, frames); err != nil {
			return fmt.Errorf("check %s after a second insert: %w", t.name, err)
		}
	}
	s.metrics.rows.WithLabelValues(t.name).Add(float64(rows))
	return nil
}

// insertFrames sends rows in one block, so that ClickHouse makes one part of
// them for each partition, and returns when that is acknowledged.
func (s *sender) insertFrames(ctx context.Context, t *table, frames []frame, batch uint64, token string) error {
	began := time.Now()
	b := newBlock(t, frames, batch, s.lend)
	if err := s.link.insert(ctx, t.insert, token, b); err != nil {
		return err
	}
	s.metrics.insertSec.Observe(time.Since(began).Seconds())
	s.metrics.sentBytes.Add(float64(b.bytes()))
	return nil
}
