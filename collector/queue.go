package collector

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/flowcordon/flowcordon/collector/decode"
)

// item is a datagram on its way to a shard, or a request to it that keeps its
// place among them.
type item struct {
	buf      *[]byte // pooled; its length is the datagram's
	from     netip.AddrPort
	received int64
	kind     decode.Kind
	request  func() // instead of a datagram
}

// queue holds what waits for one shard, bounded in bytes of memory taken, not
// in datagrams: those differ by a factor of fifty.
type queue struct {
	items chan item
	bytes atomic.Int64
	limit int64
}

// minCost is what the smallest datagram is reckoned at: its buffer.
const minCost = smallBuffer

func newQueue(limit int) *queue {
	return &queue{items: make(chan item, max(1, limit/minCost)), limit: int64(limit)}
}

// push enqueues a copy of payload; false if there is no room. It never blocks.
func (q *queue) push(payload []byte, it item) bool {
	buf := getBuffer(len(payload))
	cost := int64(cap(*buf))
	if q.bytes.Add(cost) > q.limit {
		q.bytes.Add(-cost)
		putBuffer(buf)
		return false
	}
	*buf = append((*buf)[:0], payload...)
	it.buf = buf
	select {
	case q.items <- it:
		return true
	default:
		q.bytes.Add(-cost)
		putBuffer(buf)
		return false
	}
}

// free gives the item's buffer back.
func (q *queue) free(it item) {
	q.bytes.Add(-int64(cap(*it.buf)))
	putBuffer(it.buf)
}

// The sizes of pooled buffers: a full Ethernet frame's payload, a jumbo frame's,
// and all that UDP can carry.
const (
	smallBuffer  = 2048
	mediumBuffer = 9216
	largeBuffer  = 65536
)

var bufferPools = [...]sync.Pool{
	{New: func() any { return newBuffer(smallBuffer) }},
	{New: func() any { return newBuffer(mediumBuffer) }},
	{New: func() any { return newBuffer(largeBuffer) }},
}

func newBuffer(size int) *[]byte {
	b := make([]byte, 0, size)
	return &b
}

func poolOf(n int) *sync.Pool {
	switch {
	case n <= smallBuffer:
		return &bufferPools[0]
	case n <= mediumBuffer:
		return &bufferPools[1]
	}
	return &bufferPools[2]
}

func getBuffer(n int) *[]byte { return poolOf(n).Get().(*[]byte) }

func putBuffer(b *[]byte) { poolOf(cap(*b)).Put(b) }
