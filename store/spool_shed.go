package store

import (
	"os"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// canPunch reports whether the file system of f gives back parts of files.
func canPunch(f *os.File) bool { return punch(f, 0, 4096) == nil }

func punch(f *os.File, at, n int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, n)
}

// shedLocked makes room for need bytes by giving up detail, the oldest first:
// flow rows of all batches, then pairs, then services; host windows never. A
// batch whose insert has begun in this process is left alone: what of it is
// stored is not known. The batch being written is sealed if need be, so that it
// can give up its detail too.
func (s *spool) shedLocked(need int64) bool {
	if !s.holes {
		return false
	}
	for i := len(tables) - 1; i > 0; i-- {
		for _, b := range s.queue {
			need -= s.shedTable(b, i)
			if need <= 0 {
				return true
			}
		}
		if c := s.current; c != nil && c.held[i].rows > 0 {
			s.sealLocked()
			need -= s.shedTable(s.queue[len(s.queue)-1], i)
			if need <= 0 {
				return true
			}
		}
	}
	return false
}

// makeSpaceLocked is shedLocked for a disk that is full before the spool is.
func (s *spool) makeSpaceLocked(need int64) bool {
	free := s.dropFreeLocked()
	return s.shedLocked(need) || free
}

// shedTable gives up one table's rows of a batch and returns the bytes gained.
// The frames stay as headers, marked: a restart must not take the holes for
// damage.
func (s *spool) shedTable(b *spoolBatch, i int) (gained int64) {
	if b.held[i].rows == 0 || b.tries > 0 {
		return 0
	}
	lost, err := punchTable(b, tables[i])
	if err != nil { // what is left stays, and is not tried again
		s.log.Error("give up detail of the spool", zap.Error(err), zap.String("batch", b.path))
	}
	s.releaseLocked(b) // it has those rows too
	b.held[i], b.holes, b.once = holding{}, b.holes+lost.bytes, true
	s.bytes -= lost.bytes
	s.metrics.spoolBytes.Set(float64(s.bytes))
	s.metrics.dropped.WithLabelValues(dropShed[i]).Add(float64(lost.rows))
	s.said.given(s, i, lost.rows)
	return lost.bytes
}

// punchTable marks a table's frames and frees their payloads. It returns what is
// gone, also when it fails half-way.
func punchTable(b *spoolBatch, t *table) (lost holding, err error) {
	f, err := os.OpenFile(b.path, os.O_RDWR, 0)
	if err != nil {
		return lost, err
	}
	defer func() { _ = f.Close() }()
	_, err = eachFrame(f, b.bytes, b.id(), func(fr *frame) error {
		if fr.table != t || fr.shed {
			return nil
		}
		if _, err := f.WriteAt([]byte{stateShed}, fr.at-int64(fr.size)+offState); err != nil {
			return err
		}
		lost.rows += fr.rows
		lost.bytes += int64(fr.stored)
		return punch(f, fr.at, int64(fr.stored))
	})
	return lost, err
}
