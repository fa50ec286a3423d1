package aggregate

import (
	"math/bits"
	"unsafe"
)

// ways is the number of keys in a bucket, which is one cache line.
const ways = 8

// bucket holds keys: tag<<(32+winBits) | window<<32 | row. 0 is a free way: no
// window has the handle 0.
type bucket [ways]uint64

const (
	winBits = 13 // window handles: two for each window of maxAgeLimit, at least
	maxWin  = 1 << winBits
)

// noRow: there is no such key.
const noRow = ^uint32(0)

// index finds the rows of one kind in all windows. A key is in the bucket that
// its hash and its window name, or in a second beside it, and nowhere else: keys
// can be taken out without a trace. The buckets of one key in several windows
// are near each other, for the sake of the page table, but never beside each
// other: who is busy in all windows would fill them.
type index struct {
	mem     *memory
	buckets []bucket
	mask    uint32
	n       int // keys
}

func newIndex(mem *memory, buckets int) index {
	return index{mem: mem, buckets: bucketsOf[bucket](mem, buckets), mask: uint32(buckets - 1)}
}

// at returns the number of the first bucket of hash in a window; the second is
// the one beside it, at^1.
func (x *index) at(hash uint64, win uint16) uint32 { return (uint32(hash) + 5*uint32(win)) & x.mask }

// tagOf is the upper half of the key under which hash is found in the window
// with that handle.
func tagOf(hash uint64, win uint16) uint32 {
	return uint32(hash>>(32+winBits))<<winBits | uint32(win)
}

func winOf(key uint64) uint16 { return uint16(key>>32) & (maxWin - 1) }

func rowOf(key uint64) uint32 { return uint32(key) }

// row returns the row of the first key with that tag, or noRow. Whether it is
// the one that was meant, the row tells.
func (x *index) row(at, tag uint32) uint32 {
	b := x.bucket(at)
	m := b.match(tag)
	if m == 0 {
		b = x.bucket(at ^ 1)
		if m = b.match(tag); m == 0 {
			return noRow
		}
	}
	return rowOf(b[bits.TrailingZeros32(m)%ways])
}

// match returns a bit for each way whose key has that tag. Where in a bucket a
// key is nothing foretells, so no branch asks.
func (b *bucket) match(tag uint32) (m uint32) {
	if uint32(b[7]>>32) == tag {
		m = 1 << 7
	}
	if n := m | 1<<6; uint32(b[6]>>32) == tag {
		m = n
	}
	if n := m | 1<<5; uint32(b[5]>>32) == tag {
		m = n
	}
	if n := m | 1<<4; uint32(b[4]>>32) == tag {
		m = n
	}
	if n := m | 1<<3; uint32(b[3]>>32) == tag {
		m = n
	}
	if n := m | 1<<2; uint32(b[2]>>32) == tag {
		m = n
	}
	if n := m | 1<<1; uint32(b[1]>>32) == tag {
		m = n
	}
	if n := m | 1; uint32(b[0]>>32) == tag {
		m = n
	}
	return m
}

// free returns a free way, by bucket·ways + way.
func (x *index) free(at uint32) (_ uint32, ok bool) {
	for n := range uint32(2) {
		for i, k := range &x.buckets[at^n] {
			if k == 0 {
				return (at^n)*ways + uint32(i), true
			}
		}
	}
	return 0, false
}

// bucket returns a bucket without reading it, see slab.at.
func (x *index) bucket(at uint32) *bucket {
	return (*bucket)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(x.buckets)), uintptr(at)*unsafe.Sizeof(bucket{})))
}

func (x *index) way(at uint32) *uint64 { return &x.bucket(at / ways)[at%ways] }

// capacity is the number of ways.
func (x *index) capacity() int { return len(x.buckets) * ways }

// put enters a key into a free way.
func (x *index) put(at, tag, row uint32) {
	*x.way(at) = uint64(tag)<<32 | uint64(row)
	x.n++
}

func (x *index) remove(at uint32) {
	*x.way(at) = 0
	x.n--
}

// grown returns an index with twice the buckets. hash gives the hash and the
// window of a row. If keys find no room although there is twice as much
// it doubles again; limit (in buckets) ends that, and then ok is false.
func (x *index) grown(limit int, hash func(row uint32) (uint64, uint16)) (_ index, ok bool) {
	for size := 2 * len(x.buckets); size <= limit; size *= 2 {
		y := newIndex(x.mem, size)
		if y.fill(x, hash) {
			release(x.mem, x.buckets)
			return y, true
		}
		release(y.mem, y.buckets)
	}
	return index{}, false
}

func (x *index) fill(from *index, hash func(row uint32) (uint64, uint16)) bool {
	for i := range from.buckets {
		for _, k := range &from.buckets[i] {
			if k == 0 {
				continue
			}
			at, ok := x.free(x.at(hash(rowOf(k))))
			if !ok {
				return false
			}
			*x.way(at) = k
			x.n++
		}
	}
	return true
}
