package aggregate

import (
	"math"
	"unsafe"

	"github.com/flowcordon/flowcordon/flow"
)

// counts are the counters that hosts and services have in common. The narrow
// ones never overflow: a row goes out early when one nears its limit, and rows
// are partial sums.
type counts struct {
	bytes   [2]uint64 // by direction
	packets [2]uint32
	records [2]uint16
	classes [numCounters]uint16
}

// maxRecords is the limit of counts.records. Every 16-bit counter grows by at
// most one a record and direction, cNoFlags in both.
const maxRecords = 1<<15 - 1

// The indexes of classes; those of incoming records follow those of outgoing
// ones.
const (
	cSYN = iota
	cEst
	cSYNACK
	cRST
	cIn         // + one of the above
	cRawSYN     = 8
	cNoFlags    = 9
	numCounters = 10
	noCounter   = 255
)

// hostRow, serviceRow and pairRow are the counters of one key in one window
// since its last row. A service and a pair name their host by its row. What a
// record touches is one cache line of a service and of a pair, and both of a
// host: they are neighbours, of which the processor fetches the second with the
// first.
type (
	hostRow struct {
		counts
		tenantLo uint64 // its upper word, if it is not 0, is below
		rate     uint32
		win      uint16
		flags    uint8

		_                              [0]uint64 // the second cache line
		tenantHi                       uint64
		udpOut, icmpOut                uint32
		icmpErrOut, bogonOut, spoofOut uint16
		attempts                       uint16 // decides when the row is due; not stored
		services                       ownServices
	}
	serviceRow struct {
		counts
		host     uint32
		svc      uint16
		proto    uint8
		role     flow.Role
		remotes  setRef
		attempts uint16
		flags    uint8
	}
	pairRow struct {
		remote         uint64 // its lower word; the upper one, if it is not 0, is beside
		bytes, packets [2]uint32
		syn, est, rst  uint32 // packets: SYNs out, established out, resets in
		host           uint32
		ports          portsRef
		records        [2]uint16
		classes        [numCounters]uint8 // lower halves
		upper          [4]uint8           // upper halves of some, see upperHalf
		proto, flags   uint8
	}
)

// The bits of flags.
const (
	rowDirty = 1 << iota // counted something since the last row
	rowHot               // is in the hot list
	rowWide              // the host's tenant or the pair's remote has an upper word
	rowFull              // one of the pair's counters is at its limit
	rowOne               // the service has one destination, the v4 address in remotes
)

// init makes it the row of a tenant and a rate in a window, without services.
func (h *hostRow) init(tenant ip, rate uint32, win uint16) {
	*h = hostRow{tenantLo: tenant.lo, tenantHi: tenant.hi, rate: rate, win: win}
	if tenant.hi != 0 {
		h.flags = rowWide
	}
}

// restart starts the counters again at zero.
func (h *hostRow) restart() {
	*h = hostRow{tenantLo: h.tenantLo, tenantHi: h.tenantHi, rate: h.rate, win: h.win, flags: h.flags &^ rowDirty, services: h.services}
}

func (h *hostRow) tenant() ip {
	if h.flags&rowWide != 0 {
		return ip{h.tenantHi, h.tenantLo}
	}
	return ip{lo: h.tenantLo}
}

// isOf reports whether the row is that of a tenant and a rate, in its window.
func (h *hostRow) isOf(tenant ip, rate uint32) bool {
	return h.tenantLo == tenant.lo && h.rate == rate && (tenant.hi == 0 && h.flags&rowWide == 0 || h.tenant() == tenant)
}

// full reports whether the row has to go out before another contribution.
func (c *counts) full(dir uint8, packets uint64) bool {
	return c.records[dir&1] == maxRecords || uint64(c.packets[dir&1])+packets > math.MaxUint32
}

func (c *counts) count(dir uint8, p *span) {
	c.packets[dir&1] += uint32(p.packets)
	c.bytes[dir&1] += p.bytes
}

func (p *pairRow) full(dir uint8, s *span) bool {
	return p.flags&rowFull != 0 || p.records[dir&1] == maxRecords || uint64(p.packets[dir&1])+s.packets > math.MaxUint32 || uint64(p.bytes[dir&1])+s.bytes > math.MaxUint32
}

func (p *pairRow) count(dir uint8, s *span) {
	p.packets[dir&1] += uint32(s.packets)
	p.bytes[dir&1] += uint32(s.bytes)
}

// classify counts what the record is evidence of. The flow record of a whole
// conversation, sent by its server, holds a SYN-ACK too and counts as both: at
// 1:1 it is the only sign that attempts are answered, and the scan rules weigh
// attempts against SYN-ACKs.
func (c *counts) classify(it *Item) {
	if it.counter < numCounters {
		c.classes[it.counter]++
	}
	if it.set&(itemAnswered|itemReset|itemRawSYN) == 0 {
		return
	}
	dir := it.dir & 1 * cIn
	if it.set&itemAnswered != 0 {
		c.classes[dir+cSYNACK]++
	}
	if it.set&itemReset != 0 {
		c.classes[dir+cRST]++
	}
	if it.set&itemRawSYN != 0 {
		c.classes[cRawSYN]++
	}
}

// classify is that of a pair.
func (p *pairRow) classify(it *Item) {
	if it.counter < numCounters {
		p.add(it.counter)
	}
	if it.set&(itemAnswered|itemReset|itemRawSYN) == 0 {
		return
	}
	dir := it.dir & 1 * cIn
	if it.set&itemAnswered != 0 {
		p.add(dir + cSYNACK)
	}
	if it.set&itemReset != 0 {
		p.add(dir + cRST)
	}
	if it.set&itemRawSYN != 0 {
		p.add(cRawSYN)
	}
}

// upperHalf says which of pairRow.upper has the upper half of a counter: those
// have one that scans and floods count in.
var upperHalf = [numCounters]uint8{cSYN: 0, cEst: 1, cIn + cRST: 2, cRawSYN: 3,
	cSYNACK: narrow, cRST: narrow, cIn + cSYN: narrow, cIn + cEst: narrow, cIn + cSYNACK: narrow, cNoFlags: narrow}

const narrow = 255 // a counter without an upper half

func (p *pairRow) add(i uint8) {
	p.classes[i]++
	switch half := upperHalf[i]; {
	case half == narrow:
		if p.classes[i] == math.MaxUint8 {
			p.flags |= rowFull
		}
	case p.classes[i] == 0:
		p.upper[half]++
	}
}

func (p *pairRow) class(i int) uint64 {
	n := uint64(p.classes[i])
	if half := upperHalf[i]; half != narrow {
		n += uint64(p.upper[half]) << 8
	}
	return n
}

// slab holds rows of one kind. It grows by chunks, so that a row never moves
// and growing copies nothing, and never shrinks: memory is that of the busiest
// moment. No row has a pointer.
type slab[T any] struct {
	mem    *memory
	chunks []unsafe.Pointer // to [chunkRows]T
	unused []uint32         // stack
}

const chunkRows = 1024

// at returns row i. It reckons with bare pointers because indexing an array by
// its pointer reads the array's first byte, to see that it is not nil; that
// first line of a chunk is seldom in the cache, and waiting for it was a fifth
// of all that the collector did.
func (s *slab[T]) at(i uint32) *T {
	var row T
	return (*T)(unsafe.Add(s.chunks[i/chunkRows], uintptr(i%chunkRows)*unsafe.Sizeof(row)))
}

func (s *slab[T]) get() uint32 {
	if len(s.unused) == 0 {
		s.grow()
	}
	n := len(s.unused) - 1
	i := s.unused[n]
	s.unused = s.unused[:n]
	return i
}

// next returns the row that the n-th get from now on will take, if nothing is
// put before.
func (s *slab[T]) next(n int) *T {
	for len(s.unused) <= n {
		s.grow()
	}
	return s.at(s.unused[len(s.unused)-1-n])
}

func (s *slab[T]) put(i uint32) { s.unused = append(s.unused, i) }

func (s *slab[T]) grow() {
	first := uint32(len(s.chunks)) * chunkRows
	s.chunks = append(s.chunks, s.mem.take(int(unsafe.Sizeof([chunkRows]T{}))))
	n := len(s.unused)
	s.unused = append(s.unused, make([]uint32, chunkRows)...)
	copy(s.unused[chunkRows:], s.unused[:n])
	for i := range uint32(chunkRows) { // the lowest on top, but below what there was
		s.unused[i] = first + chunkRows - 1 - i
	}
}

// upperWords hold the upper words of the remotes of pairs, by row. In a network
// without IPv6 there are none.
type upperWords struct{ chunks []*[chunkRows]uint64 }

func (u *upperWords) at(row uint32) uint64 { return u.chunks[row/chunkRows][row%chunkRows] }

func (u *upperWords) set(row uint32, word uint64) {
	for int(row/chunkRows) >= len(u.chunks) {
		u.chunks = append(u.chunks, nil)
	}
	c := &u.chunks[row/chunkRows]
	if *c == nil {
		*c = new([chunkRows]uint64)
	}
	(*c)[row%chunkRows] = word
}
