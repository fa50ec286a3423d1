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
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/flowcordon/flowcordon/flow"
)

// ErrSpoolFull is returned by Write when the spool holds as much as it may:
// the database has been away, or too slow, for long. The rows are dropped and
// counted.
var ErrSpoolFull = errors.New("the spool is full")

// ErrClosed is returned by Write and Sync after Run has ended.
var ErrClosed = errors.New("the store is closed")

// Names in the spool directory. A batch is written as <name>.open, frame by
// frame, becomes <name>.batch when it is full or old enough, and never changes
// from then on. <name> is the deduplication token. What cannot be read or what
// the database refuses for good is set aside under another ending.
const (
	extOpen     = ".open"
	extBatch    = ".batch"
	extCorrupt  = ".corrupt"
	extRejected = ".rejected"
	spoolLock   = "lock"
)

// spoolBatch is one sealed file.
type spoolBatch struct {
	seq   uint64
	token string
	path  string
	bytes int64
	tries int  // inserts begun in this process
	found bool // at start: an earlier process may have begun to insert it
	// stored has a bit for each table, by id, that this process has inserted.
	stored uint16
}

// id is what the rows carry in their column batch.
func (b *spoolBatch) id() uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(b.token)) // never fails
	return h.Sum64()
}

type spool struct {
	dir      string
	maxBytes int64
	maxRows  int
	maxWait  time.Duration
	log      *zap.Logger
	metrics  *metrics

	mu       sync.Mutex
	opened   bool
	closed   bool
	lock     *os.File
	bytes    int64
	lastSeq  uint64
	current  *openBatch
	queue    []*spoolBatch          // sealed, oldest first, not taken
	inFlight map[uint64]*spoolBatch // taken by a sender
	setAside uint64                 // since start
	changed  chan struct{}          // closed and replaced when queue, inFlight or current changes
}

type openBatch struct {
	spoolBatch
	f     *os.File
	rows  int
	since time.Time
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
	s.lock, s.opened = lock, true
	s.metrics.spoolBytes.Set(float64(s.bytes))
	return nil
}

// add appends one encoded frame. When it returns nil the frame is in the file:
// a kill of the process loses nothing (a loss of power may lose what the
// kernel had not written).
func (s *spool) add(frame []byte, rows int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.openLocked(); err != nil {
		return err
	}
	if s.bytes+int64(len(frame)) > s.maxBytes {
		return fmt.Errorf("%w: %d of %d bytes", ErrSpoolFull, s.bytes, s.maxBytes)
	}
	if s.current == nil {
		if err := s.beginLocked(); err != nil {
			return fmt.Errorf("begin a batch: %w", err)
		}
	}
	c := s.current
	if _, err := c.f.Write(frame); err != nil {
		// Take back what part of it got in, or the frames after it are lost.
		if terr := c.f.Truncate(c.bytes); terr != nil {
			s.sealLocked() // the torn end is found when the batch is read
			return fmt.Errorf("write to the spool: %w", errors.Join(err, terr))
		}
		if _, serr := c.f.Seek(c.bytes, 0); serr != nil {
			s.sealLocked()
			return fmt.Errorf("write to the spool: %w", errors.Join(err, serr))
		}
		return fmt.Errorf("write to the spool: %w", err)
	}
	c.bytes += int64(len(frame))
	c.rows += rows
	s.bytes += int64(len(frame))
	s.metrics.spoolBytes.Set(float64(s.bytes))
	if c.rows >= s.maxRows {
		s.sealLocked()
	}
	return nil
}

func (s *spool) beginLocked() error {
	// Rising over restarts, so that names sort by age; the random part keeps
	// tokens apart when a clock was set back or a spool was deleted.
	seq := max(s.lastSeq+1, uint64(time.Now().UnixNano()))
	token := fmt.Sprintf("%016x-%08x", seq, rand.Uint32())
	f, err := os.OpenFile(filepath.Join(s.dir, token+extOpen), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	s.lastSeq = seq
	s.current = &openBatch{
		spoolBatch: spoolBatch{seq: seq, token: token, path: filepath.Join(s.dir, token+extBatch)},
		f:          f, since: time.Now(),
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
	b := c.spoolBatch
	if err := errors.Join(c.f.Close(), os.Rename(filepath.Join(s.dir, c.token+extOpen), c.path)); err != nil {
		// The rows are on disk under the other name: read them there.
		s.log.Error("seal a batch of the spool", zap.Error(err), zap.String("batch", b.token))
		b.path = filepath.Join(s.dir, c.token+extOpen)
	}
	s.queue = append(s.queue, &b)
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
	err := os.Remove(b.path)
	s.forget(b, false)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		// It will be sent again after a restart, and deduplicated.
		return fmt.Errorf("remove an acknowledged batch: %w", err)
	}
	return nil
}

// aside renames a batch that can never be stored, so that it does not hold up
// the others and a human can look at it.
func (s *spool) aside(b *spoolBatch, ext string) error {
	err := os.Rename(b.path, strings.TrimSuffix(b.path, filepath.Ext(b.path))+ext)
	s.forget(b, true)
	return err
}

func (s *spool) forget(b *spoolBatch, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inFlight, b.seq)
	s.bytes -= b.bytes
	if lost {
		s.setAside++
	}
	s.metrics.spoolBytes.Set(float64(s.bytes))
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
	s.announceLocked()
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// read decodes a batch.
func (s *spool) read(b *spoolBatch) (*flow.Batch, error) {
	buf, err := os.ReadFile(b.path)
	if err != nil {
		return nil, err
	}
	var rows flow.Batch
	if err := decodeFrames(buf, &rows); err != nil {
		return nil, err
	}
	return &rows, nil
}
