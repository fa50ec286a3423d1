package store

import (
	"encoding/binary"

	"github.com/ClickHouse/ch-go/proto"
)

// block is what one insert sends: columns that already lie in ClickHouse's
// format, each in several pieces. Nothing is decoded or copied on the way to the
// socket.
type block struct {
	rows int
	cols []blockColumn
}

type blockColumn struct {
	name  string
	typ   proto.ColumnType // as in the schema: the server converts nothing
	parts [][]byte
}

// newBlock puts the frames of one table together: fixed columns one after
// another, arrays with their ends counted through, and the column batch. lend
// returns memory that lives as long as the frames.
func newBlock(t *table, frames []frame, batch uint64, lend func(int) []byte) *block {
	b := &block{rows: rowsIn(frames), cols: make([]blockColumn, 0, len(t.cols)+1)}
	for k, c := range t.cols {
		col := blockColumn{name: c.name, typ: c.typ}
		if c.array {
			col.parts = append(col.parts, arrayEnds(frames, k, b.rows, lend))
		}
		for i := range frames {
			p := frames[i].column(k)
			if c.array {
				p = p[8*frames[i].rows:]
			}
			if len(p) > 0 {
				col.parts = append(col.parts, p)
			}
		}
		b.cols = append(b.cols, col)
	}
	b.cols = append(b.cols, blockColumn{name: "batch", typ: "UInt64", parts: constant(batch, b.rows, lend)})
	return b
}

func rowsIn(frames []frame) int {
	n := 0
	for i := range frames {
		n += frames[i].rows
	}
	return n
}

// arrayEnds returns where each array ends in all the frames' elements.
func arrayEnds(frames []frame, k, rows int, lend func(int) []byte) []byte {
	if len(frames) == 1 {
		return frames[0].column(k)[:8*rows]
	}
	ends, at, base := lend(8*rows), 0, uint64(0)
	for i := range frames {
		b := frames[i].column(k)[:8*frames[i].rows]
		end := uint64(0)
		for r := 0; r < len(b); r += 8 {
			end = binary.LittleEndian.Uint64(b[r:])
			binary.LittleEndian.PutUint64(ends[at+r:], base+end)
		}
		at += len(b)
		base += end
	}
	return ends
}

// constant is a UInt64 column with one value.
func constant(v uint64, rows int, lend func(int) []byte) (parts [][]byte) {
	b := lend(8 * min(rows, 4096))
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], v)
	}
	for rest := 8 * rows; rest > 0; rest -= len(b) {
		parts = append(parts, b[:min(rest, len(b))])
	}
	return parts
}

// bytes is how long the columns are.
func (b *block) bytes() int {
	n := 0
	for _, c := range b.cols {
		for _, p := range c.parts {
			n += len(p)
		}
	}
	return n
}

// write gives the block to small, which takes what describes it, and to large,
// which takes the columns, in turns.
func (b *block) write(small func(func(*proto.Buffer)), large func([]byte)) {
	small(func(buf *proto.Buffer) {
		proto.BlockInfo{BucketNum: -1}.Encode(buf)
		buf.PutInt(len(b.cols))
		buf.PutInt(b.rows)
	})
	for _, c := range b.cols {
		small(func(buf *proto.Buffer) {
			buf.PutString(c.name)
			buf.PutString(string(c.typ))
		})
		for _, p := range c.parts {
			large(p)
		}
	}
}
