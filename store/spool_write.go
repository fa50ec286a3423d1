package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
)

// add appends the frames of one Write, in a buffer that is the spool's from here
// on. When it returns nil they are in the file: a kill of the process loses
// nothing (a loss of power may lose what the kernel had not written).
func (s *spool) add(buf []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep, err := s.addLocked(buf)
	if !keep {
		s.buffers.put(buf)
	}
	return err
}

func (s *spool) addLocked(buf []byte) (keep bool, err error) {
	if err := s.openLocked(); err != nil {
		return false, err
	}
	if over := s.bytes + int64(len(buf)) - s.maxBytes; over > 0 && !s.shedLocked(over) {
		return false, fmt.Errorf("%w: %d of %d bytes", ErrSpoolFull, s.bytes, s.maxBytes)
	}
	err = s.appendLocked(buf)
	if noSpace(err) && s.makeSpaceLocked(int64(len(buf))) {
		err = s.appendLocked(buf)
	}
	s.said.disk(s, err)
	if err != nil {
		return false, fmt.Errorf("write to the spool: %w", err)
	}
	c := s.current
	s.bytes += int64(len(buf))
	s.metrics.spoolBytes.Set(float64(s.bytes))
	keep = s.keepLocked(c, buf)
	if c.rows >= s.maxRows {
		s.sealLocked()
	}
	return keep, nil
}

// appendLocked writes buf to the current batch, which it begins if need be.
func (s *spool) appendLocked(buf []byte) error {
	if s.current == nil {
		if err := s.beginLocked(); err != nil {
			return fmt.Errorf("begin a batch: %w", err)
		}
	}
	c := s.current
	sealFrames(buf, c.id())
	if _, err := c.f.WriteAt(buf, c.bytes); err != nil {
		// What part of it got in is overwritten by the next, or cut off. It
		// ends with a torn frame, so nobody takes it for a whole Write.
		_ = c.f.Truncate(c.bytes)
		return err
	}
	c.bytes += int64(len(buf))
	for at := 0; at < len(buf); {
		h := summarize(buf[at:])
		c.rows += h.rows
		c.held[h.table].rows += h.rows
		c.held[h.table].bytes += h.bytes
		c.once = c.once || h.lz4
		at += h.length
	}
	return nil
}

// keepLocked decides whether buf stays in memory. A batch is kept whole or not
// at all.
func (s *spool) keepLocked(c *openBatch, buf []byte) bool {
	whole := c.kept != nil || c.bytes == int64(len(buf))
	if !whole {
		return false
	}
	// A Write that was compressed while the database was behind may get here when
	// it has just caught up: senders take what is in memory as it is.
	if c.once || s.behind.Load() || s.kept+int64(cap(buf)) > maxKept {
		s.releaseLocked(&c.spoolBatch)
		return false
	}
	c.kept = append(c.kept, buf)
	s.kept += int64(cap(buf))
	return true
}

// releaseLocked gives back the memory of a batch.
func (s *spool) releaseLocked(b *spoolBatch) {
	for _, buf := range b.kept {
		s.kept -= int64(cap(buf))
		s.buffers.put(buf)
	}
	b.kept = nil
}

func (s *spool) beginLocked() error {
	// Rising over restarts, so that names sort by age; the random part keeps
	// tokens apart when a clock was set back or a spool was deleted.
	now := time.Now()
	seq := max(s.lastSeq+1, uint64(now.UnixNano()))
	token := fmt.Sprintf("%016x-%08x", seq, rand.Uint32())
	open := filepath.Join(s.dir, token+extOpen)
	flags, reused := os.O_CREATE|os.O_EXCL|os.O_WRONLY, false
	if n := len(s.free); n > 0 {
		if err := os.Rename(s.free[n-1], open); err == nil {
			flags, reused = os.O_WRONLY, true
		}
		s.free = s.free[:n-1]
	}
	f, err := os.OpenFile(open, flags, 0o600)
	if err != nil {
		return err
	}
	s.lastSeq = seq
	s.current = &openBatch{
		spoolBatch: spoolBatch{seq: seq, token: token, path: filepath.Join(s.dir, token+extBatch)},
		f:          f, reused: reused, since: now,
	}
	s.announceLocked() // the senders must know when to seal it
	return nil
}

// sealLocked closes the current batch and queues it.
func (s *spool) sealLocked() {
	c := s.current
	if c == nil {
		return
	}
	s.current = nil
	open := filepath.Join(s.dir, c.token+extOpen)
	if c.bytes == 0 { // its first Write failed
		if err := errors.Join(c.f.Close(), os.Remove(open)); err != nil {
			s.log.Error("remove an empty batch of the spool", zap.Error(err))
		}
		s.announceLocked()
		return
	}
	b := c.spoolBatch
	var err error
	if c.reused {
		err = c.f.Truncate(c.bytes)
	}
	if err = errors.Join(err, c.f.Close()); err == nil {
		err = os.Rename(open, c.path)
	}
	if err != nil {
		// The rows are on disk under the other name: they are read there.
		s.log.Error("seal a batch of the spool", zap.Error(err), zap.String("batch", b.token))
		b.path = open
	}
	s.queue = append(s.queue, &b)
	s.behindLocked()
	s.announceLocked()
}
