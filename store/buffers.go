package store

import (
	"math/bits"
	"sync"

	"golang.org/x/sys/unix"
)

// Bounds of the memory that batches lie in.
const (
	// maxKept is what Write leaves in memory besides the file, so that it need
	// not be read back: three batches or so, more than wait as a rule.
	maxKept = 64 << 20
	// maxFree is what is kept of buffers that nobody uses: two batches being
	// sent and the Writes of a flush meanwhile.
	maxFree = 32 << 20
	// From mapClass on, 64 KB, buffers are mapped and not Go's: the garbage
	// collector lets the heap grow to twice of what is live, and these, which
	// it need not look at, would be most of that.
	mapClass = 16
)

// buffers lends byte slices whose capacity is a power of two, so that what one
// batch gave back serves the next. Each slice of get goes back by one put and is
// not touched from then on.
type buffers struct {
	mu   sync.Mutex
	free [40][][]byte // by the logarithm of the capacity
	size int64        // of all in free
}

// get returns n bytes with any contents.
func (p *buffers) get(n int) []byte {
	class := bits.Len(uint(max(n, 1<<12) - 1))
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
	if class >= mapClass {
		if b, err := unix.Mmap(-1, 0, 1<<class, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err == nil {
			return b[:n]
		}
	}
	return make([]byte, n, 1<<class)
}

// put takes a buffer of get back.
func (p *buffers) put(b []byte) {
	b = b[:cap(b)]
	p.mu.Lock()
	if p.size+int64(cap(b)) <= maxFree {
		class := bits.Len(uint(cap(b)) - 1)
		p.free[class] = append(p.free[class], b)
		p.size += int64(cap(b))
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	_ = unix.Munmap(b) // if it is not mapped it is the garbage collector's
}

// drop gives back what is free.
func (p *buffers) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for class, l := range p.free {
		for _, b := range l {
			_ = unix.Munmap(b)
		}
		p.free[class] = nil
	}
	p.size = 0
}
