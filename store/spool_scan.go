package store

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

// scanLocked queues the batches in the directory. A batch that was still open
// is sealed with the frames that are whole: the torn one was never acknowledged.
func (s *spool) scanLocked() error {
	entries, err := os.ReadDir(s.dir) // sorted by name, which begins with seq
	if err != nil {
		return err
	}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if ext != extOpen && ext != extBatch {
			continue
		}
		token := strings.TrimSuffix(e.Name(), ext)
		hex, _, _ := strings.Cut(token, "-")
		seq, err := strconv.ParseUint(hex, 16, 64)
		if err != nil {
			s.log.Warn("file in the spool is not ours, it is left alone", zap.String("file", e.Name()))
			continue
		}
		b := &spoolBatch{seq: seq, token: token, path: filepath.Join(s.dir, token+extBatch), found: true}
		if ext == extOpen {
			kept, err := s.sealLeftover(b)
			if err != nil {
				return err
			}
			if !kept {
				continue
			}
		}
		st, err := os.Stat(b.path)
		if err != nil {
			return err
		}
		b.bytes = st.Size()
		s.bytes += b.bytes
		s.lastSeq = max(s.lastSeq, seq)
		s.queue = append(s.queue, b)
	}
	if len(s.queue) > 0 {
		s.log.Info("batches left in the spool are sent first", zap.Int("batches", len(s.queue)), zap.Int64("bytes", s.bytes))
	}
	return nil
}

// sealLeftover cuts a file that was open at the crash to its whole frames.
func (s *spool) sealLeftover(b *spoolBatch) (kept bool, err error) {
	open := filepath.Join(s.dir, b.token+extOpen)
	buf, err := os.ReadFile(open)
	if err != nil {
		return false, err
	}
	rest := buf
	for len(rest) > 0 {
		_, r, err := nextFrame(rest)
		if err != nil {
			s.log.Warn("the end of a batch was cut off by a crash, it had not been acknowledged",
				zap.String("file", open), zap.Int("bytes", len(rest)), zap.Error(err))
			break
		}
		rest = r
	}
	if whole := len(buf) - len(rest); whole == 0 {
		return false, os.Remove(open)
	} else if err := os.Truncate(open, int64(whole)); err != nil {
		return false, err
	}
	return true, os.Rename(open, b.path)
}
