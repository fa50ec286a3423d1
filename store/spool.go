package store

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// ErrSpoolFull is returned by Write when the spool holds as much as it may and
// has no detail left to give up: the database has been away, or too slow, for
// long. The rows are dropped and counted.
var ErrSpoolFull = errors.New("the spool is full")

// ErrClosed is returned by Write and Sync after Run has ended.
var ErrClosed = errors.New("the store is closed")

// Names in the spool directory. A batch is written as <name>.open, frame by
// frame, becomes <name>.batch when it is full or old enough, and does not change
// from then on, except that a full spool takes detail away. <name> is the
// deduplication token. What cannot be read or what the database refuses for good
// is set aside under another ending. Files of acknowledged batches are written
// again: that costs a quarter of filling new pages (measured: 12 against 50 ns
// for 150 bytes).
const (
	extOpen     = ".open"
	extBatch    = ".batch"
	extFree     = ".free"
	extCorrupt  = ".corrupt"
	extRejected = ".rejected"
	spoolLock   = "lock"
)

// maxFreeFiles to be written again: as many as are open, sealed and sent at a
// time when all is well.
const maxFreeFiles = 4

// behindAfter is the age of the oldest batch from which the database counts as
// slow or away: batches are then compressed and no longer kept in memory.
const behindAfter = 5 * time.Second

// spoolBatch is one sealed file.
type spoolBatch struct {
	seq   uint64 // the time when it was begun, ns since the epoch, or later
	token string
	path  string
	bytes int64 // length of the file
	holes int64 // of that, what has been given up
	tries int   // inserts begun in this process
	found bool  // at start: an earlier process may have begun to insert it
	// stored has a bit for each table, by id, that this process has inserted.
	stored uint16
	held   [len(tables)]holding
	// kept is the whole file, one slice a Write, if it is in memory.
	kept [][]byte
	once bool // the file must not be written again: it is compressed or has holes
}

// holding is what a batch has of one table.
type holding struct {
	rows  int
	bytes int64 // of payload in the file
}

// id is what the rows carry in their column batch and the frames in their
// headers.
func (b *spoolBatch) id() uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(b.token)) // never fails
	return h.Sum64()
}

// begun is when the first of its rows was written, as good as.
func (b *spoolBatch) begun() time.Time { return time.Unix(0, int64(b.seq)) }

type spool struct {
	dir      string
	maxBytes int64
	maxRows  int
	maxWait  time.Duration
	log      *zap.Logger
	metrics  *metrics
	buffers  buffers
	behind   atomic.Bool // the database is slow or away

	mu       sync.Mutex
	opened   bool
	closed   bool
	lock     *os.File
	holes    bool // parts of files can be given back to the file system
	bytes    int64
	kept     int64 // capacity of the buffers in memory
	lastSeq  uint64
	current  *openBatch
	queue    []*spoolBatch          // sealed, oldest first, not taken
	inFlight map[uint64]*spoolBatch // taken by a sender
	free     []string               // files to write again
	setAside uint64                 // since start
	changed  chan struct{}          // closed and replaced when queue, inFlight or current changes
	said     backlogLog
}

type openBatch struct {
	spoolBatch
	f      *os.File
	reused bool
	rows   int
	since  time.Time
}

func newSpool(c Config, log *zap.Logger, m *metrics) *spool {
	return &spool{
		dir: c.SpoolDir, maxBytes: c.SpoolMaxBytes, maxRows: c.BatchRows, maxWait: c.BatchWait,
		log: log, metrics: m,
		inFlight: map[uint64]*spoolBatch{},
		changed:  make(chan struct{}),
	}
}

// open takes the directory and queues what an earlier process left. It does
// nothing when it has succeeded before.
func (s *spool) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.openLocked()
}

func (s *spool) openLocked() error {
	if s.closed {
		return ErrClosed
	}
	if s.opened {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the spool: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(s.dir, spoolLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the spool: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		return fmt.Errorf("the spool %s is in use by another process: %w", s.dir, err)
	}
	if err := s.scanLocked(); err != nil {
		_ = lock.Close()
		return fmt.Errorf("read the spool: %w", err)
	}
	s.lock, s.opened, s.holes = lock, true, canPunch(lock)
	if !s.holes {
		s.log.Warn("the spool's file system cannot free parts of a file: a full spool refuses new rows instead of giving up old detail", zap.String("spool", s.dir))
	}
	s.metrics.spoolBytes.Set(float64(s.bytes))
	return nil
}

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
	if s.behind.Load() || s.kept+int64(cap(buf)) > maxKept {
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

func (s *spool) announceLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

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

// seal makes everything added so far ready to send and returns the newest
// sequence number and how many batches have been set aside.
func (s *spool) seal() (seq, setAside uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealLocked()
	return s.lastSeq, s.setAside
}

// pending reports whether a batch up to seq is still to be sent, and a channel
// that is closed at the next change.
func (s *spool) pending(seq uint64) (bool, uint64, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := len(s.queue) > 0 && s.queue[0].seq <= seq
	for q := range s.inFlight {
		wait = wait || q <= seq
	}
	return wait, s.setAside, s.changed
}

// close seals what is open and lets go of the directory.
func (s *spool) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealLocked()
	s.closed = true
	s.dropFreeLocked()
	for _, b := range s.queue {
		s.releaseLocked(b)
	}
	s.buffers.drop()
	s.announceLocked()
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}
