package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

// scanLocked queues the batches in the directory. A batch that was still open
// is sealed with the Writes that are whole: the torn one was never acknowledged.
func (s *spool) scanLocked() error {
	entries, err := os.ReadDir(s.dir) // sorted by name, which begins with seq
	if err != nil {
		return err
	}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if ext == extFree {
			if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil {
				return err
			}
		}
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
		if err := b.count(); err != nil {
			return err
		}
		s.bytes += b.bytes - b.holes
		s.lastSeq = max(s.lastSeq, seq)
		s.queue = append(s.queue, b)
	}
	if len(s.queue) > 0 {
		s.log.Info("batches left in the spool are sent first", zap.Int("batches", len(s.queue)), zap.Int64("bytes", s.bytes))
	}
	return nil
}

// count fills in what a batch that was found holds, by the frames' headers. A
// file that cannot be read is left to whoever sends it.
func (b *spoolBatch) count() error {
	f, err := os.Open(b.path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	b.bytes = st.Size()
	_, _ = eachFrame(f, b.bytes, b.id(), func(fr *frame) error {
		if fr.shed {
			b.holes += int64(fr.stored)
			return nil
		}
		h := &b.held[tableIndex(fr.table.id)]
		h.rows += fr.rows
		h.bytes += int64(fr.stored)
		return nil
	})
	return nil
}

// sealLeftover cuts a file that was open at the crash to its whole Writes.
func (s *spool) sealLeftover(b *spoolBatch) (kept bool, err error) {
	open := filepath.Join(s.dir, b.token+extOpen)
	f, err := os.OpenFile(open, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return false, err
	}
	whole, cut := eachFrame(f, st.Size(), b.id(), func(fr *frame) error { return fr.verify(f) })
	switch {
	case errors.Is(cut, errForeign) || st.Size() == 0: // the file's earlier use
	case errors.Is(cut, errVersion):
		s.metrics.dropped.WithLabelValues(dropCorrupt).Inc()
		s.setAside++
		s.log.Error("another version of flowcordon has written a batch in the spool, it is set aside", zap.String("file", open), zap.Error(cut))
		return false, os.Rename(open, filepath.Join(s.dir, b.token+extCorrupt))
	case cut != nil:
		s.log.Warn("the end of a batch was cut off by a crash, it had not been acknowledged",
			zap.String("file", open), zap.Int64("bytes", st.Size()-whole), zap.Error(cut))
	}
	if whole == 0 {
		return false, os.Remove(open)
	}
	if err := f.Truncate(whole); err != nil {
		return false, err
	}
	return true, os.Rename(open, b.path)
}

// eachFrame calls fn for each frame of a file of size bytes. It returns the
// offset at which the last whole Write ends and, unless that is the end of the
// file, why it went no further.
func eachFrame(r io.ReaderAt, size int64, batch uint64, fn func(*frame) error) (whole int64, err error) {
	scratch := make([]byte, 4096)
	for at := int64(0); at < size; {
		f, err := readFrame(r, at, size, &scratch)
		if err == nil && f.batch != batch {
			err = errForeign
		}
		if err == nil {
			err = fn(&f)
		}
		if err != nil {
			return whole, err
		}
		at = f.end()
		if !f.more {
			whole = at
		}
	}
	if whole < size {
		return whole, errTorn // the Write has more frames
	}
	return whole, nil
}

// readFrame reads the header of the frame at the offset at. The payload is
// there in length; verify says whether it is whole.
func readFrame(r io.ReaderAt, at, size int64, scratch *[]byte) (frame, error) {
	for {
		n := min(size-at, int64(len(*scratch)))
		b := (*scratch)[:n]
		if _, err := r.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
			return frame{}, err
		}
		h, err := parseHeader(b)
		if errors.Is(err, errTorn) && n < size-at && h.size > len(*scratch) {
			*scratch = make([]byte, h.size) // many partitions
			continue
		}
		if err != nil {
			return frame{}, err
		}
		f := frame{header: h, at: at + int64(h.size)}
		if f.end() > size {
			return frame{}, errTorn
		}
		return f, nil
	}
}

// verify compares the payload in the file with its checksum.
func (f *frame) verify(r io.ReaderAt) error {
	if f.shed {
		return nil
	}
	sum := crc32.New(crcTable)
	if _, err := io.Copy(sum, io.NewSectionReader(r, f.at, int64(f.stored))); err != nil {
		return err
	}
	if sum.Sum32() != f.checksum {
		return fmt.Errorf("%w: checksum", errCorrupt)
	}
	return nil
}
