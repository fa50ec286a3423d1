package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// take returns the oldest batch that no sender has. Without one it returns a
// channel that is closed when there may be, and when to look again at the
// latest (zero: never).
func (s *spool) take(now time.Time) (*spoolBatch, <-chan struct{}, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var again time.Time
	if s.current != nil {
		if due := s.current.since.Add(s.maxWait); !now.Before(due) {
			s.sealLocked()
		} else {
			again = due
		}
	}
	if len(s.queue) == 0 {
		return nil, s.changed, again
	}
	b := s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:]
	s.inFlight[b.seq] = b
	return b, nil, again
}

// putBack returns a batch that could not be sent.
func (s *spool) putBack(b *spoolBatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inFlight, b.seq)
	i, _ := slices.BinarySearchFunc(s.queue, b.seq, func(q *spoolBatch, seq uint64) int {
		if q.seq < seq {
			return -1
		}
		return 1
	})
	s.queue = slices.Insert(s.queue, i, b)
	s.announceLocked()
}

// done removes a batch that ClickHouse has acknowledged.
func (s *spool) done(b *spoolBatch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.discardLocked(b)
	s.forgetLocked(b)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		// It will be sent again after a restart, and deduplicated.
		return fmt.Errorf("remove an acknowledged batch: %w", err)
	}
	return nil
}

// discardLocked keeps the file to be written again, or removes it.
func (s *spool) discardLocked(b *spoolBatch) error {
	if !b.once && !b.found && !s.closed && len(s.free) < maxFreeFiles {
		free := filepath.Join(s.dir, b.token+extFree)
		if err := os.Rename(b.path, free); err == nil {
			s.free = append(s.free, free)
			return nil
		}
	}
	return os.Remove(b.path)
}

// aside renames a batch that can never be stored, so that it does not hold up
// the others and a human can look at it.
func (s *spool) aside(b *spoolBatch, ext string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := os.Rename(b.path, strings.TrimSuffix(b.path, filepath.Ext(b.path))+ext)
	s.setAside++
	s.forgetLocked(b)
	return err
}

func (s *spool) forgetLocked(b *spoolBatch) {
	delete(s.inFlight, b.seq)
	s.releaseLocked(b)
	s.bytes -= b.bytes - b.holes
	s.metrics.spoolBytes.Set(float64(s.bytes))
	s.behindLocked()
	s.announceLocked()
}
