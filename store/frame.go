package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A spool file is a sequence of frames. A frame holds the rows of one table and
// one Write as columns in ClickHouse's Native format, in the order of the
// schema, so that sending is copying. All numbers are little endian.
//
//	 0  magic "FCS2": the digit is the version of all this, schema included
//	 4  table
//	 5  state: 0, or stateShed once a full spool has given up the rows
//	 6  flags, uint16
//	 8  id of the batch, uint64: a file is used again, so what follows the
//	    last frame may be an older batch
//	16  rows, uint32
//	20  length of the header, uint32
//	24  length of the payload in the file, uint32
//	28  length of the payload as columns, uint32
//	32  CRC-32C of the payload in the file, uint32
//	36  first and last event time, seconds, 2 × uint32
//	44  columns, uint16; partitions, uint32; 2 bytes 0
//	52  length of each column, uint32
//	    each partition's number and rows, 2 × uint32
//	    CRC-32C of the header with state 0, uint32
//	    payload
const (
	frameMagic  = "FCS2"
	frameFixed  = 52
	offState    = 5
	offFlags    = 6
	offBatch    = 8
	offRows     = 16
	offHeader   = 20
	offStored   = 24
	offRaw      = 28
	offChecksum = 32
	offFirst    = 36
	offLast     = 40
	offCols     = 44
	offSlots    = 46

	// stateShed is no small number, so that a single wrong bit is not taken
	// for it: the byte is not under the header's checksum.
	stateShed = 0xd5

	flagLZ4  = 1 // the payload is one LZ4 block
	flagMore = 2 // the next frame belongs to the same Write

	// maxFrameRows keeps the rows and the frame, 200 to 400 KB, in the cache
	// from one pass over them to the next.
	maxFrameRows = 2048
	// maxFrameHeader: every row in a partition of its own.
	maxFrameHeader = frameFixed + 4*64 + 8*maxFrameRows + 4
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

var (
	// errTorn: the last frame is incomplete, as a crash in the middle of a
	// Write leaves it. That Write was never acknowledged.
	errTorn    = errors.New("spool frame is incomplete")
	errCorrupt = errors.New("spool frame is damaged")
	errVersion = errors.New("another version of flowcordon has written it")
	// errForeign: another batch's frame, left from the file's earlier use.
	errForeign = fmt.Errorf("%w: it belongs to another batch", errCorrupt)
)

// slotRows is a number of rows in one partition.
type slotRows struct{ slot, rows uint32 }

// header describes a frame.
type header struct {
	table       *table
	shed        bool
	lz4, more   bool
	batch       uint64
	rows        int
	size        int // of the header in the file
	stored, raw int // bytes of the payload: in the file, as columns
	checksum    uint32
	first, last uint32 // event time, seconds
	cols        []uint32
	slots       []slotRows
}

// put writes h to the front of buf, which has room for it; seal completes it.
func (h *header) put(buf []byte) {
	le := binary.LittleEndian
	copy(buf, frameMagic)
	buf[4], buf[offState] = h.table.id, 0
	flags := uint16(0)
	if h.lz4 {
		flags |= flagLZ4
	}
	if h.more {
		flags |= flagMore
	}
	le.PutUint16(buf[offFlags:], flags)
	le.PutUint32(buf[offRows:], uint32(h.rows))
	le.PutUint32(buf[offHeader:], uint32(h.size))
	le.PutUint32(buf[offStored:], uint32(h.stored))
	le.PutUint32(buf[offRaw:], uint32(h.raw))
	le.PutUint32(buf[offChecksum:], h.checksum)
	le.PutUint32(buf[offFirst:], h.first)
	le.PutUint32(buf[offLast:], h.last)
	le.PutUint16(buf[offCols:], uint16(len(h.cols)))
	le.PutUint32(buf[offSlots:], uint32(len(h.slots)))
	le.PutUint16(buf[offSlots+4:], 0)
	at := frameFixed
	for _, n := range h.cols {
		le.PutUint32(buf[at:], n)
		at += 4
	}
	for _, s := range h.slots {
		le.PutUint32(buf[at:], s.slot)
		le.PutUint32(buf[at+4:], s.rows)
		at += 8
	}
}

// headerSize is the length of a header.
func headerSize(cols, slots int) int { return frameFixed + 4*cols + 8*slots + 4 }

// sealFrames writes the batch that the frames of a Write have come to, and the
// checksums of their headers.
func sealFrames(buf []byte, batch uint64) {
	le := binary.LittleEndian
	for len(buf) > 0 {
		size := int(le.Uint32(buf[offHeader:]))
		le.PutUint64(buf[offBatch:], batch)
		le.PutUint32(buf[size-4:], crc32.Checksum(buf[:size-4], crcTable))
		buf = buf[size+int(le.Uint32(buf[offStored:])):]
	}
}

// parseHeader reads the header at the front of b, which may end early.
func parseHeader(b []byte) (header, error) {
	le := binary.LittleEndian
	var h header
	if len(b) < frameFixed {
		return h, errTorn
	}
	if string(b[:4]) != frameMagic {
		if string(b[:3]) == frameMagic[:3] {
			return h, fmt.Errorf("%w: %w: it begins with %q, this version writes %q", errCorrupt, errVersion, b[:4], frameMagic)
		}
		return h, fmt.Errorf("%w: magic %q", errCorrupt, b[:4])
	}
	h.size = int(le.Uint32(b[offHeader:]))
	cols, slots := int(le.Uint16(b[offCols:])), int(le.Uint32(b[offSlots:]))
	if slots > maxFrameRows || h.size > maxFrameHeader || h.size != headerSize(cols, slots) {
		return h, fmt.Errorf("%w: length of the header", errCorrupt)
	}
	if len(b) < h.size {
		return h, errTorn
	}
	sum := crc32.Update(crc32.Checksum(b[:offState], crcTable), crcTable, []byte{0})
	if crc32.Update(sum, crcTable, b[offState+1:h.size-4]) != le.Uint32(b[h.size-4:]) {
		return h, fmt.Errorf("%w: checksum of the header", errCorrupt)
	}
	if s := b[offState]; s != 0 && s != stateShed {
		return h, fmt.Errorf("%w: state %d", errCorrupt, s)
	}
	flags := le.Uint16(b[offFlags:])
	if i := tableIndex(b[4]); i >= 0 {
		h.table = tables[i]
	}
	h.shed, h.lz4, h.more = b[offState] == stateShed, flags&flagLZ4 != 0, flags&flagMore != 0
	h.batch = le.Uint64(b[offBatch:])
	h.rows, h.stored, h.raw = int(le.Uint32(b[offRows:])), int(le.Uint32(b[offStored:])), int(le.Uint32(b[offRaw:]))
	h.checksum, h.first, h.last = le.Uint32(b[offChecksum:]), le.Uint32(b[offFirst:]), le.Uint32(b[offLast:])
	at := frameFixed
	for range cols {
		h.cols = append(h.cols, le.Uint32(b[at:]))
		at += 4
	}
	for range slots {
		h.slots = append(h.slots, slotRows{le.Uint32(b[at:]), le.Uint32(b[at+4:])})
		at += 8
	}
	return h, h.check()
}

// check refuses what put would not have written, so that whoever reads the
// columns can rely on the lengths.
func (h *header) check() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", errCorrupt, what) }
	if h.table == nil {
		return bad("unknown table")
	}
	if len(h.cols) != len(h.table.cols) || h.rows == 0 || h.rows > maxFrameRows {
		return bad("shape")
	}
	sum := 0
	for i, c := range h.table.cols {
		n := int(h.cols[i])
		if !c.array && n != h.rows*c.width || c.array && (n < 8*h.rows || (n-8*h.rows)%c.width != 0) {
			return bad("length of column " + c.name)
		}
		sum += n
	}
	// An LZ4 block is at most 255 times as long when unpacked.
	if sum != h.raw || !h.lz4 && h.stored != h.raw || h.lz4 && h.raw/255 > h.stored {
		return bad("length of the payload")
	}
	rows := 0
	for _, s := range h.slots {
		rows += int(s.rows)
	}
	if rows != h.rows {
		return bad("rows of the partitions")
	}
	return nil
}

// frame is one frame of a batch. Its payload is in memory or, from its offset
// on, in the batch's file.
type frame struct {
	header
	at      int64  // of the payload
	payload []byte // columns; nil while they are in the file
}

// end is the offset of what follows the frame.
func (f *frame) end() int64 { return f.at + int64(f.stored) }

// column returns one column; the payload must be in memory.
func (f *frame) column(i int) []byte {
	at := 0
	for _, n := range f.cols[:i] {
		at += int(n)
	}
	return f.payload[at:][:f.cols[i]]
}

// checkArrays makes sure that the arrays' ends rise and end with their elements:
// ClickHouse would close the connection over them again and again.
func (f *frame) checkArrays() error {
	for i, c := range f.table.cols {
		if !c.array {
			continue
		}
		b, last := f.column(i), uint64(0)
		for r := range f.rows {
			end := binary.LittleEndian.Uint64(b[8*r:])
			if end < last {
				return fmt.Errorf("%w: array of column %s", errCorrupt, c.name)
			}
			last = end
		}
		if last != uint64((len(b)-8*f.rows)/c.width) {
			return fmt.Errorf("%w: arrays of column %s", errCorrupt, c.name)
		}
	}
	return nil
}

// headerSummary is what the spool counts of a frame that it has in memory.
type headerSummary struct {
	table int // index in tables
	holding
	length int // of the frame
	lz4    bool
}

func summarize(b []byte) headerSummary {
	le := binary.LittleEndian
	stored := int(le.Uint32(b[offStored:]))
	return headerSummary{
		table:   tableIndex(b[4]),
		holding: holding{rows: int(le.Uint32(b[offRows:])), bytes: int64(stored)},
		length:  int(le.Uint32(b[offHeader:])) + stored,
		lz4:     le.Uint16(b[offFlags:])&flagLZ4 != 0,
	}
}
