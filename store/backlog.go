package store

import (
	"errors"
	"os"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// sayEvery is how often a state that lasts is logged.
const sayEvery = time.Minute

// backlogLog remembers what has been said about the spool.
type backlogLog struct {
	since       time.Time // when the database fell behind; zero: it keeps up
	slow        time.Time // last line about that; zero: none
	refused     time.Time // last line about the disk; zero: it takes rows
	refusals    int       // of Writes, since it took rows for a while
	lastRefusal time.Time
	shed        time.Time // last line about detail that was given up
	shedRows    [len(tables)]int
}

// due reports whether a line that was last written at t may be written again.
func due(t *time.Time, now time.Time) bool {
	if !t.IsZero() && now.Sub(*t) < sayEvery {
		return false
	}
	*t = now
	return true
}

// oldestLocked is the oldest batch that is not acknowledged, the open one
// included; nil without any.
func (s *spool) oldestLocked() *spoolBatch {
	var b *spoolBatch
	if s.current != nil {
		b = &s.current.spoolBatch
	}
	if len(s.queue) > 0 {
		b = s.queue[0]
	}
	for _, f := range s.inFlight {
		if b == nil || f.seq < b.seq {
			b = f
		}
	}
	return b
}

// waiting is how many batches are not acknowledged, and how old the oldest is.
func (s *spool) waiting() (batches int, oldest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	batches = len(s.queue) + len(s.inFlight)
	if s.current != nil {
		batches++
	}
	if b := s.oldestLocked(); b != nil {
		oldest = max(0, time.Since(b.begun()))
	}
	return batches, oldest
}

// behindLocked decides whether the database keeps up, and says so when that
// changes and once a minute while it does not.
func (s *spool) behindLocked() {
	now := time.Now()
	b := s.oldestLocked()
	behind := b != nil && now.Sub(b.begun()) >= behindAfter
	s.behind.Store(behind)
	said := &s.said
	batches := len(s.queue) + len(s.inFlight)
	switch {
	case behind && said.since.IsZero():
		said.since = now
		fallthrough
	case behind:
		// A restart of the engine takes seconds and is not worth a line.
		if now.Sub(said.since) >= behindAfter && due(&said.slow, now) {
			s.log.Warn("ClickHouse is away or slow, batches wait in the spool", zap.Int("batches", batches),
				zap.Duration("oldest", now.Sub(b.begun()).Round(time.Second)), zap.Int64("bytes", s.bytes), zap.Int64("max_bytes", s.maxBytes))
		}
	case !said.since.IsZero():
		if !said.slow.IsZero() {
			s.log.Info("ClickHouse has caught up", zap.Duration("after", now.Sub(said.since).Round(time.Second)), zap.Int64("bytes", s.bytes))
		}
		said.since, said.slow = time.Time{}, time.Time{}
	}
}

// noSpace reports whether err means that the disk is full.
func noSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// disk says what became of a Write: at most once a minute that the disk refuses,
// and that it takes rows again when it has for a while.
func (l *backlogLog) disk(s *spool, err error) {
	if err == nil && l.refusals == 0 {
		return // as a rule
	}
	now := time.Now()
	if err == nil {
		if now.Sub(l.lastRefusal) >= behindAfter {
			s.log.Info("the spool's disk takes rows again", zap.String("spool", s.dir), zap.Int("refused_writes", l.refusals))
			l.refused, l.refusals = time.Time{}, 0
		}
		return
	}
	l.refusals++
	l.lastRefusal = now
	if due(&l.refused, now) {
		s.log.Error("the spool cannot be written, rows are dropped", zap.Error(err), zap.String("spool", s.dir),
			zap.Int("refused_writes", l.refusals), zap.Int64("bytes", s.bytes))
	}
}

// given says, at most once a minute, what a full spool gives up.
func (l *backlogLog) given(s *spool, table, rows int) {
	l.shedRows[table] += rows
	if !due(&l.shed, time.Now()) {
		return
	}
	fields := []zap.Field{zap.Int64("bytes", s.bytes), zap.Int64("max_bytes", s.maxBytes), zap.Int("batches", len(s.queue))}
	for i, n := range l.shedRows {
		if n > 0 {
			fields = append(fields, zap.Int(tables[i].name, n))
		}
	}
	s.log.Error("the spool is full: it gives up the oldest detail, rows are lost", fields...)
	l.shedRows = [len(tables)]int{}
}

// dropFreeLocked removes the files that are kept to be written again.
func (s *spool) dropFreeLocked() bool {
	any := len(s.free) > 0
	for _, f := range s.free {
		if err := os.Remove(f); err != nil {
			s.log.Error("remove a free file of the spool", zap.Error(err))
		}
	}
	s.free = nil
	return any
}
