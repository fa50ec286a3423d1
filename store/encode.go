package store

import (
	"fmt"
	"hash/crc32"
	"math"
	"unsafe"

	"github.com/pierrec/lz4/v4"

	"github.com/flowcordon/flowcordon/flow"
)

// blockRows rows are turned into columns at a time: they stay in the first
// level of the cache while the columns go over them.
const blockRows = 64

// encoder turns batches into frames. It is used by one Write at a time.
type encoder struct {
	lz4    lz4.Compressor
	frames []rowFrame
}

// rowFrame is a frame to be: rows, and what has to be known before they are
// written.
type rowFrame struct {
	in rows
	header
	index map[uint32]int // of slots, once there are many
}

// encode returns b as the frames of one Write in a buffer of pool.
func (e *encoder) encode(b *flow.Batch, pool *buffers, compress bool) ([]byte, error) {
	e.frames = e.frames[:0]
	e.add(rowsOf(&hostTable, b.Hosts))
	e.add(rowsOf(&serviceTable, b.Services))
	e.add(rowsOf(&pairTable, b.Pairs))
	e.add(rowsOf(&flowTable, b.Flows))
	total := 0
	for i := range e.frames {
		f := &e.frames[i]
		f.more = i < len(e.frames)-1
		if f.raw > math.MaxInt32 {
			return nil, fmt.Errorf("rows of %s take %d bytes, at most %d can be written", f.table.name, f.raw, math.MaxInt32)
		}
		total += f.size + f.raw
	}
	buf := pool.get(total)
	at := 0
	for i := range e.frames {
		f := &e.frames[i]
		head, payload := buf[at:][:f.size], buf[at+f.size:][:f.raw]
		f.columns(payload)
		f.stored, f.lz4 = f.raw, false
		if compress {
			e.compress(&f.header, payload, pool)
		}
		f.checksum = crc32.Checksum(payload[:f.stored], crcTable)
		f.put(head)
		f.in = rows{} // it points into b
		at += f.size + f.stored
	}
	return buf[:at], nil
}

// compress replaces the payload by an LZ4 block if that is shorter.
func (e *encoder) compress(h *header, payload []byte, pool *buffers) {
	tmp := pool.get(lz4.CompressBlockBound(len(payload)))
	defer pool.put(tmp)
	n, err := e.lz4.CompressBlock(payload, tmp)
	if err != nil || n == 0 || n >= len(payload) {
		return // it cannot be compressed
	}
	copy(payload, tmp[:n])
	h.lz4, h.stored = true, n
}

// add prepares the frames of one table's rows. What earlier frames allocated is
// used again.
func (e *encoder) add(all rows) {
	for i := 0; i < all.n; i += maxFrameRows {
		if len(e.frames) < cap(e.frames) {
			e.frames = e.frames[:len(e.frames)+1]
		} else {
			e.frames = append(e.frames, rowFrame{})
		}
		f := &e.frames[len(e.frames)-1]
		f.in = all.part(i, maxFrameRows)
		f.table, f.rows = all.t, f.in.n
		f.measure()
	}
}

// measure fills in the columns' lengths, the partitions and the times.
func (f *rowFrame) measure() {
	f.cols, f.slots, f.index, f.raw = f.cols[:0], f.slots[:0], nil, 0
	for i := range f.table.cols {
		c := &f.table.cols[i]
		n := f.rows * c.width
		if c.array {
			n = 8*f.rows + c.width*c.elements(f.in.p, f.table.size, f.rows)
		}
		f.cols = append(f.cols, uint32(n))
		f.raw += n
	}
	f.times()
	f.size = headerSize(len(f.cols), len(f.slots))
}

// times counts the rows of each partition. Division is for the first row of a
// run in one partition only.
func (f *rowFrame) times() {
	unit, clamp := int64(1), clampSeconds
	if f.table.nanos {
		unit, clamp = 1e9, clampNanos
	}
	length := f.table.slotSeconds * unit
	at := func(i int) int64 {
		return clamp(*(*int64)(unsafe.Add(f.in.p, uintptr(i)*f.table.size+f.table.cols[0].offset)))
	}
	first, last := at(0), at(0)
	for i := 0; i < f.rows; {
		slot := at(i) / length
		from, run := i, uint64(slot*length)
		for ; i < f.rows; i++ {
			t := at(i)
			if uint64(t)-run >= uint64(length) {
				break
			}
			first, last = min(first, t), max(last, t)
		}
		f.slots[f.slot(uint32(slot))].rows += uint32(i - from)
	}
	f.first, f.last = uint32(first/unit), uint32(last/unit)
}

// slot returns the index of a partition, which it adds if it is new. As a rule
// there are one or two; a broken clock can make as many as rows.
func (f *rowFrame) slot(slot uint32) int {
	const few = 16
	if i, ok := f.index[slot]; ok {
		return i
	}
	if f.index == nil {
		for i := range f.slots {
			if f.slots[i].slot == slot {
				return i
			}
		}
	}
	f.slots = append(f.slots, slotRows{slot: slot})
	switch n := len(f.slots); {
	case n == few:
		f.index = make(map[uint32]int, 2*few)
		for i, s := range f.slots {
			f.index[s.slot] = i
		}
	case n > few:
		f.index[slot] = n - 1
	}
	return len(f.slots) - 1
}

// columns writes the payload.
func (f *rowFrame) columns(dst []byte) {
	t := f.table
	for i := 0; i < f.rows; i += blockRows {
		p, at := f.in.part(i, blockRows), 0
		for k := range t.cols {
			c := &t.cols[k]
			if !c.array {
				c.put(dst[at+i*c.width:][:p.n*c.width], unsafe.Add(p.p, c.offset), t.size, p.n)
			}
			at += int(f.cols[k])
		}
	}
	at := 0
	for k := range t.cols {
		c, n := &t.cols[k], int(f.cols[k])
		if c.array {
			c.putArrays(dst[at:][:n], f.in.p, t.size, f.rows)
		}
		at += n
	}
}
