package aggregate

// ways is the number of keys in a bucket. Sixteen 32-bit tags are one cache
// line, and with sixteen an index at half its capacity hardly ever has a full
// bucket (Poisson: 0.4 %).
const ways = 16

// bucket is where the keys of one hash are looked for, and nowhere else: keys
// can be taken out without a trace.
type bucket struct {
	key [ways]uint32 // tag<<winBits | window; 0: free
	val [ways]uint32 // row<<2 | worth
}

const (
	winBits   = 13 // window handles: two for each window of maxAgeLimit, at least
	maxWin    = 1 << winBits
	worthBits = 2
	maxRows   = 1 << (32 - worthBits)
)

// index finds the rows of one kind in all windows. A key's bucket follows from
// its hash and the number of its window, so that the buckets of one key in
// windows that follow each other are neighbours in memory: a record that is
// spread over its duration touches them one after the other.
type index struct {
	buckets []bucket
	mask    uint32
	n       int
}

func newIndex(buckets int) index {
	return index{buckets: make([]bucket, buckets), mask: uint32(buckets - 1)}
}

// at returns the number of the bucket of hash in window number no.
func (x *index) at(hash uint64, no int64) uint32 { return (uint32(hash) + uint32(no)) & x.mask }

// tagOf is the key under which hash is found in the window with that handle.
func tagOf(hash uint64, win uint16) uint32 {
	return uint32(hash>>(32+winBits))<<winBits | uint32(win)
}

// free returns a free way of b, or ways if there is none.
func (b *bucket) free() int {
	for i, k := range b.key {
		if k == 0 {
			return i
		}
	}
	return ways
}

// capacity is the number of ways.
func (x *index) capacity() int { return len(x.buckets) * ways }

// put enters a key. The way must be free.
func (x *index) put(b *bucket, way int, key, row uint32) {
	b.key[way], b.val[way] = key, row<<worthBits
	x.n++
}

func (x *index) remove(b *bucket, way int) {
	b.key[way] = 0
	x.n--
}

// grown returns an index with twice the buckets. hash gives the hash and the
// window's number of a row. A bucket that overflows although there is twice the
// room doubles again; limit (in buckets) ends that, and then ok is false.
func (x *index) grown(limit int, hash func(row uint32) (uint64, int64)) (_ index, ok bool) {
	for size := 2 * len(x.buckets); size <= limit; size *= 2 {
		y := newIndex(size)
		if y.fill(x, hash) {
			return y, true
		}
	}
	return index{}, false
}

func (x *index) fill(from *index, hash func(row uint32) (uint64, int64)) bool {
	for i := range from.buckets {
		o := &from.buckets[i]
		for w, k := range o.key {
			if k == 0 {
				continue
			}
			h, no := hash(o.val[w] >> worthBits)
			b := &x.buckets[x.at(h, no)]
			f := b.free()
			if f == ways {
				return false
			}
			b.key[f], b.val[f] = k, o.val[w]
			x.n++
		}
	}
	return true
}
