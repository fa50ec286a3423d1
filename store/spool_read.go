package store

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/pierrec/lz4/v4"
)

// batchReader gives out a batch's rows a table at a time, so that no more of it
// is in memory than is being sent.
type batchReader struct {
	src     io.ReaderAt // the file; nil: the payloads are in memory
	frames  []frame
	buffers *buffers
	lent    [][]byte
}

// read looks through a batch. The error is errCorrupt or errTorn when the file
// is not whole.
func (s *spool) read(b *spoolBatch) (*batchReader, error) {
	s.mu.Lock()
	kept := b.kept
	s.mu.Unlock()
	r := &batchReader{buffers: &s.buffers}
	if kept != nil { // by a batch in flight until it is done or put back
		for _, buf := range kept {
			_, err := eachFrame(bytes.NewReader(buf), int64(len(buf)), b.id(), func(f *frame) error {
				f.payload = buf[f.at:f.end()]
				r.frames = append(r.frames, *f)
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
		return r, nil
	}
	file, err := os.Open(b.path)
	if err != nil {
		return nil, err
	}
	r.src = file
	_, err = eachFrame(file, b.bytes, b.id(), func(f *frame) error {
		if !f.shed {
			r.frames = append(r.frames, *f)
		}
		return f.verify(file)
	})
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// rowsOtherThan is the number of rows of the tables that have no bit, by id.
func (r *batchReader) rowsOtherThan(tables uint16) int {
	n := 0
	for i := range r.frames {
		if f := &r.frames[i]; tables&(1<<f.table.id) == 0 {
			n += f.rows
		}
	}
	return n
}

// table returns the frames of one table with their columns, valid until
// release.
func (r *batchReader) table(t *table) ([]frame, error) {
	var l []frame
	for i := range r.frames {
		if r.frames[i].table != t {
			continue
		}
		f := r.frames[i]
		if err := r.load(&f); err != nil {
			r.release()
			return nil, err
		}
		l = append(l, f)
	}
	return l, nil
}

// load reads a frame's columns if they are not in memory.
func (r *batchReader) load(f *frame) error {
	if f.payload != nil {
		return nil
	}
	p := r.lend(f.raw)
	in := p
	if f.lz4 {
		in = r.buffers.get(f.stored)
		defer r.buffers.put(in)
	}
	if _, err := r.src.ReadAt(in, f.at); err != nil {
		return err
	}
	if crc32.Checksum(in, crcTable) != f.checksum {
		return fmt.Errorf("%w: checksum", errCorrupt)
	}
	if f.lz4 {
		n, err := lz4.UncompressBlock(in, p)
		if err != nil {
			return fmt.Errorf("%w: %w", errCorrupt, err)
		}
		if n != f.raw {
			return fmt.Errorf("%w: %d bytes unpacked, want %d", errCorrupt, n, f.raw)
		}
	}
	f.payload = p
	return f.checkArrays()
}

// lend returns a buffer that release takes back.
func (r *batchReader) lend(n int) []byte {
	b := r.buffers.get(n)
	r.lent = append(r.lent, b)
	return b
}

// release takes back what table and lend gave out.
func (r *batchReader) release() {
	for _, b := range r.lent {
		r.buffers.put(b)
	}
	r.lent = r.lent[:0]
}

func (r *batchReader) close() {
	r.release()
	if f, ok := r.src.(*os.File); ok {
		_ = f.Close() // only read
	}
}
