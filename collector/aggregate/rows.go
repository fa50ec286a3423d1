package aggregate

import "github.com/flowcordon/flowcordon/flow"

// counts are the counters that rows of all kinds have, in 48 bytes. The narrow
// ones never overflow: a row goes out early when one nears its limit, and rows
// are partial sums.
type counts struct {
	bytes   [2]uint64 // by direction
	packets [2]uint32
	records [2]uint16
	classes [numCounters]uint16
}

// maxRecords is the limit of counts.records. Every 16-bit counter grows by at
// most one a record and direction, noFlags in both.
const maxRecords = 1<<15 - 1

// The indexes of counts.classes; those of incoming records follow those of
// outgoing ones.
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
// since its last row. A service and a pair name their host by its row.
type (
	hostRow struct {
		counts
		tenant                         ip
		rate                           uint32
		udpOut, icmpOut                uint32
		icmpErrOut, bogonOut, spoofOut uint16
		attempts                       uint16 // decides when the row is due; not stored
		win                            uint16
		flags                          uint8
		_                              uint8
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
		_        uint8
	}
	pairRow struct {
		counts
		remote        ip
		host          uint32
		syn, est, rst uint32 // packets: SYNs out, established out, resets in
		ports         portsRef
		proto, flags  uint8
	}
)

// The bits of flags.
const (
	rowDirty = 1 << iota // counted something since the last row
	rowHot               // is in the hot list
)

// slab holds rows of one kind. It grows by chunks, so that a row never moves
// and growing copies nothing, and never shrinks: memory is that of the busiest
// moment. No row has a pointer.
type slab[T any] struct {
	chunks []*[chunkRows]T
	unused []uint32 // stack
}

const chunkRows = 1024

func (s *slab[T]) at(i uint32) *T { return &s.chunks[i/chunkRows][i%chunkRows] }

func (s *slab[T]) get() uint32 {
	if len(s.unused) == 0 {
		s.grow()
	}
	n := len(s.unused) - 1
	i := s.unused[n]
	s.unused = s.unused[:n]
	return i
}

func (s *slab[T]) put(i uint32) { s.unused = append(s.unused, i) }

func (s *slab[T]) grow() {
	first := uint32(len(s.chunks)) * chunkRows
	s.chunks = append(s.chunks, new([chunkRows]T))
	for i := uint32(chunkRows); i > 0; i-- { // the lowest on top
		s.unused = append(s.unused, first+i-1)
	}
}
