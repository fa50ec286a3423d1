package store

import (
	"math/bits"
	"sync"
)

// Bounds of the memory that batches lie in.
const (
	// maxKept is what Write leaves in memory besides the file, so that it need
	// not be read back: three batches or so, more than wait as a rule.
	maxKept = 64 << 20
	// maxFree is what is kept of buffers that nobody uses: two batches being
	// sent and the Writes of a flush meanwhile.
	maxFree = 32 << 20
)

// buffers lends byte slices whose capacity is a power of two, so that what one
// batch gave back serves the next.
type buffers struct {
	mu   sync.Mutex
	free [32][][]byte // by the logarithm of the capacity
	size int64        // of all in free
}

// get returns n bytes with any contents.
func (p *buffers) get(n int) []byte {
	class := bits.Len(uint(max(n, 1<<12) - 1))
	if class >= len(p.free) {
		return make([]byte, n)
	}
	p.mu.Lock()
	if l := p.free[class]; len(l) > 0 {
		b := l[len(l)-1]
		l[len(l)-1] = nil
		p.free[class] = l[:len(l)-1]
		p.size -= int64(cap(b))
		p.mu.Unlock()
		return b[:n]
	}
	p.mu.Unlock()
	return make([]byte, n, 1<<class)
}

// put takes a buffer of get back.
func (p *buffers) put(b []byte) {
	class := bits.Len(uint(max(cap(b), 1)) - 1)
	if class >= len(p.free) || cap(b) != 1<<class {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.size+int64(cap(b)) > maxFree {
		return // the garbage collector's
	}
	p.free[class] = append(p.free[class], b)
	p.size += int64(cap(b))
}
