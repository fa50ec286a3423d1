package aggregate

import (
	"runtime"
	"unsafe"
)

// memory is what the tables of an Aggregator lie in. The first megabyte comes
// from Go's heap; what is more comes from the system, in pages of 2 MB where it
// has them, and outside of the heap. For the tables are read at random: with
// pages of 4 KB nearly every access also waits for the page table, which cost as
// much as the access itself. And what is not heap does not make the garbage
// collector let the heap grow to twice its size.
//
// Nothing in it may have a pointer.
type memory struct {
	heap int // bytes taken from it
	rest []byte
	maps *mappings
}

// mappings are given back when their memory is not used any more.
type mappings struct{ of map[*byte][]byte }

const (
	heapMemory = 1 << 20 // an Aggregator of a small site, or of a test, needs no more
	pageSize   = 2 << 20
	blockSize  = 4 * pageSize
)

// newMemory returns the memory of owner; it lasts as long as owner does.
func newMemory[T any](owner *T) *memory {
	m := &memory{maps: &mappings{of: map[*byte][]byte{}}}
	runtime.AddCleanup(owner, func(maps *mappings) {
		for _, b := range maps.of {
			unmapPages(b)
		}
	}, m.maps)
	return m
}

// take returns size bytes of zeros that are never given back.
func (m *memory) take(size int) unsafe.Pointer {
	if m.heap+size <= heapMemory {
		m.heap += size
		return unsafe.Pointer(unsafe.SliceData(make([]uint64, (size+7)/8)))
	}
	size = (size + 63) &^ 63
	if len(m.rest) < size {
		if m.rest = mapPages(max(blockSize, size)); m.rest == nil {
			return unsafe.Pointer(unsafe.SliceData(make([]uint64, size/8)))
		}
		m.maps.of[&m.rest[0]] = m.rest
	}
	p := unsafe.Pointer(&m.rest[0])
	m.rest = m.rest[size:]
	return p
}

// bucketsOf returns n empty buckets of a kind.
func bucketsOf[T any](m *memory, n int) []T {
	var one T
	size := n * int(unsafe.Sizeof(one))
	if size < pageSize {
		return make([]T, n)
	}
	b := mapPages(size)
	if b == nil {
		return make([]T, n)
	}
	m.maps.of[&b[0]] = b
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), n)
}

// release gives buckets back that are not used any more.
func release[T any](m *memory, buckets []T) {
	at := (*byte)(unsafe.Pointer(&buckets[0]))
	if b, ok := m.maps.of[at]; ok {
		delete(m.maps.of, at)
		unmapPages(b)
	}
}
