package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/flowcordon/flowcordon/flow"
)

// Write puts the rows into the spool and returns; b may be used again at once.
// It never waits for the database. When it returns nil the rows survive a kill
// of this process and will be stored exactly once, except for detail that a full
// spool gives up, which is counted. Otherwise they are dropped and counted; the
// error is ErrSpoolFull, ErrClosed or one of the disk.
func (s *Store) Write(b *flow.Batch) error {
	n := b.Rows()
	if n == 0 {
		return nil
	}
	e := s.encoders.Get().(*encoder)
	buf, err := e.encode(b, &s.spool.buffers, s.spool.behind.Load())
	s.encoders.Put(e)
	if err == nil {
		err = s.spool.add(buf)
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
