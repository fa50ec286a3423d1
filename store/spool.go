package store

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
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

func (s *spool) announceLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
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
