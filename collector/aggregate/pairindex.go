package aggregate

import (
	"unsafe"

	"github.com/flowcordon/flowcordon/flow"
)

// pairWays is the number of pairs in a bucket, which is one cache line.
const pairWays = 4

// pairEntry is a pair in one window; key 0 is a free way.
//
//	key  remote's lower half<<32 | displaced<<31 | host's row<<8 | direction<<7 | counter<<3 | form
//	val  row<<32 | window<<3 | worth
//	     or, of a single: packets, bytes and what else is known of its one
//	     contribution | window<<3 | 1<<2 | worth
//
// Of most pairs one record is seen, and never another. Such a single is all
// here, in the cache line that is looked at anyway; the second contribution
// gives the pair a row. Direction and counter are a single's, else 0.
type pairEntry struct{ key, val uint64 }

type pairBucket [pairWays]pairEntry

// The forms of a pair's name. Those of v4 with a protocol that is in the form
// say all: who has the same is the same. Of the others the row must be asked.
const (
	formTCP   = 1 + iota // v4
	formUDP              // v4
	formICMP             // v4
	formOther            // v4, by the row
	formV6               // by the row; the remote's half is of its hash
)

const (
	pairFormMask  = 7
	pairDisplaced = 1 << 31                       // the pair is in the bucket beside its own
	pairName      = ^uint64(pairDisplaced | 0xf8) // of a key: who it is
	maxHostRow    = 1<<23 - 1

	pairSingle = 1 << 2
	pairWinAt  = 3

	singlePort    = 16 // and above, in val
	singlePackets = 32
	singleBytes   = 40
	singleSet     = 58
	maxSinglePkts = 1<<(singleBytes-singlePackets) - 1
	maxSingleByte = 1<<(singleSet-singleBytes) - 1
)

// singleBits are those of Item.set that a pair asks for, in the order in which
// a single has them.
var singleBits = [...]uint16{itemPort, itemSYN, itemHalfSYN, itemAnswered, itemReset, itemRawSYN}

var forms = [256]uint8{flow.ProtoTCP: formTCP, flow.ProtoUDP: formUDP, flow.ProtoICMP: formICMP}

var formProtos = [...]uint8{formTCP: flow.ProtoTCP, formUDP: flow.ProtoUDP, formICMP: flow.ProtoICMP}

// nameOf is the part of a pair's key that says who it is.
func nameOf(remote ip, proto uint8, hash uint64, host uint32) uint64 {
	if !remote.is4() {
		return hash&^0xffffffff | uint64(host)<<8 | formV6
	}
	form := forms[proto]
	if form == 0 {
		form = formOther
	}
	return remote.lo<<32 | uint64(host)<<8 | uint64(form)
}

func (e *pairEntry) win() uint16  { return uint16(e.val>>pairWinAt) & (maxWin - 1) }
func (e *pairEntry) row() uint32  { return uint32(e.val >> 32) }
func (e *pairEntry) host() uint32 { return uint32(e.key>>8) & maxHostRow }
func (e *pairEntry) single() bool { return e.val&pairSingle != 0 }

// fitsSingle reports whether the contribution can be kept as a single: it is
// whole, below the floor, and small.
func fitsSingle(it *Item, c *contribution) bool {
	if !c.last || c.packets > maxSinglePkts || c.bytes > maxSingleByte || enough(c.packets, it.rate) || !it.remote.is4() || forms[it.proto] == 0 {
		return false
	}
	return it.rate < pairFloorRate || !it.answersPair() && c.syn == 0
}

// answersPair: with sampling one such record lifts a pair above the floor.
func (it *Item) answersPair() bool {
	return it.counter == cIn+cRST || it.proto == flow.ProtoUDP && it.dir == in
}

func singleOf(name uint64, it *Item, c *contribution) pairEntry {
	e := pairEntry{
		key: name | uint64(it.dir&1)<<7 | uint64(it.counter&15)<<3,
		val: c.bytes<<singleBytes | c.packets<<singlePackets | uint64(it.remotePort)<<singlePort | uint64(c.window.handle)<<pairWinAt | pairSingle,
	}
	if c.packets*uint64(it.rate) >= pairFloorEst/4 {
		e.val |= worthHalf
	}
	for i, bit := range singleBits {
		if it.set&bit != 0 {
			e.val |= 1 << (singleSet + i)
		}
	}
	return e
}

// unpack gives the contribution that a single holds, as far as a pair asks.
func (e *pairEntry) unpack(it *Item, p *span) {
	it.dir, it.counter = uint8(e.key>>7)&1, uint8(e.key>>3)&15
	it.proto = formProtos[e.key&pairFormMask]
	it.remotePort = uint16(e.val >> singlePort)
	for i, bit := range singleBits {
		if e.val&(1<<(singleSet+i)) != 0 {
			it.set |= bit
		}
	}
	it.packets, it.bytes = e.val>>singlePackets&maxSinglePkts, e.val>>singleBytes&maxSingleByte
	p.packets, p.bytes, p.syn = it.packets, it.bytes, it.synPackets()
}

// pairIndex finds pairs in all windows. A pair is in the bucket that its hash
// and its window name or, when that is full, in the one beside it, displaced.
type pairIndex struct {
	mem     *memory
	buckets []pairBucket
	mask    uint32
	n       int // pairs
}

func newPairIndex(mem *memory, buckets int) pairIndex {
	return pairIndex{mem: mem, buckets: bucketsOf[pairBucket](mem, buckets), mask: uint32(buckets - 1)}
}

// at returns the number of the own bucket of hash in a window.
func (x *pairIndex) at(hash uint64, win uint16) uint32 {
	return (uint32(hash) + 5*uint32(win)) & x.mask
}

// bucket returns a bucket without reading it, see slab.at.
func (x *pairIndex) bucket(at uint32) *pairBucket {
	return (*pairBucket)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(x.buckets)), uintptr(at)*unsafe.Sizeof(pairBucket{})))
}

// match returns a bit for each way that has the name, and whether none is free.
// It has no branches: nothing foretells where in a bucket a pair is.
func (b *pairBucket) match(name uint64) (m uint64, full bool) {
	k0, k1, k2, k3 := b[0].key, b[1].key, b[2].key, b[3].key
	m = isZero((k0^name)&pairName) | isZero((k1^name)&pairName)<<1 | isZero((k2^name)&pairName)<<2 | isZero((k3^name)&pairName)<<3
	return m, isZero(k0)|isZero(k1)|isZero(k2)|isZero(k3) == 0
}

// least returns the pair that is worth least, worth more than all if there is
// none. Among equals the one at turn comes first, so that each has its turn. As
// match, it has no branches.
func (b *pairBucket) least(turn uint32) (way uint32, worth uint64) {
	best := ^uint64(0)
	for i := range b {
		w := b[i].val&worthMask | isZero(b[i].key)*(worthMask+1)
		best = min(best, w*pairWays+uint64((uint32(i)-turn)%pairWays))
	}
	return (uint32(best) + turn) % pairWays, best / pairWays
}

func isZero(x uint64) uint64 { return (x|-x)>>63 ^ 1 }

// capacity is the number of ways.
func (x *pairIndex) capacity() int { return len(x.buckets) * pairWays }

func (x *pairIndex) way(i uint32) *pairEntry { return &x.bucket(i / pairWays)[i%pairWays] }

// free returns a free way for a pair whose own bucket is at, or nil, and whether
// it is displaced there.
func (x *pairIndex) free(at uint32) (e *pairEntry, displaced uint64) {
	for n := range uint32(2) {
		b := x.bucket(at ^ n)
		for i := range b {
			if b[i].key == 0 {
				return &b[i], uint64(n) * pairDisplaced
			}
		}
	}
	return nil, 0
}

// remove frees the way e of a bucket. If it was full, a pair that was displaced
// from it comes back: it would not be found any more.
func (x *pairIndex) remove(at uint32, e *pairEntry) {
	*e = pairEntry{}
	x.n--
	beside := x.bucket(at ^ 1)
	for i := range beside {
		if beside[i].key&pairDisplaced != 0 {
			*e = beside[i]
			e.key &^= pairDisplaced
			beside[i] = pairEntry{}
			return
		}
	}
}

// grown returns an index with twice the buckets. hash gives that of a pair. If
// pairs find no room although there is twice as much it doubles again; limit (in
// buckets) ends that, and then ok is false.
func (x *pairIndex) grown(limit int, hash func(*pairEntry) uint64) (_ pairIndex, ok bool) {
	for size := 2 * len(x.buckets); size <= limit; size *= 2 {
		y := newPairIndex(x.mem, size)
		if y.fill(x, hash) {
			release(x.mem, x.buckets)
			return y, true
		}
		release(y.mem, y.buckets)
	}
	return pairIndex{}, false
}

func (x *pairIndex) fill(from *pairIndex, hash func(*pairEntry) uint64) bool {
	for i := range from.buckets {
		for j := range from.buckets[i] {
			e := &from.buckets[i][j]
			if e.key == 0 {
				continue
			}
			to, displaced := x.free(x.at(hash(e), e.win()))
			if to == nil {
				return false
			}
			*to = *e
			to.key = to.key&^pairDisplaced | displaced
			x.n++
		}
	}
	return true
}
