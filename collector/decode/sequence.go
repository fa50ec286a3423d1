package decode

// sequence finds losses from the sequence numbers of one stream. The unit is
// the protocol's: records (NetFlow v5: RFC-less, Cisco; IPFIX: RFC 7011 §3.1)
// or datagrams (NetFlow v9: RFC 3954 §5.1; sFlow).
type sequence struct {
	next  uint32 // expected
	known bool
	lost  uint64
	gaps  [8]gap // the latest losses, so that a late datagram takes its own back
	nGap  int
	late  int // datagrams in a row that lay behind next
}

type gap struct {
	from uint32
	n    uint32
}

// reorderUnits is how far back a number may lie and still be a late datagram
// rather than a restart: 64 full v5 datagrams, or 2,000 v9 ones.
const reorderUnits = 2000

// maxLate is how many late datagrams in a row are taken for reordering. More,
// and the exporter restarted from a number not far back.
const maxLate = 8

// maxGapUnits is the longest jump ahead taken for a loss. 16 million records
// are minutes of a router's full export; a jump over it is a restart.
const maxGapUnits = 1 << 24

type seqEvent uint8

const (
	seqOK seqEvent = iota
	seqLoss
	seqLate
	seqRestart
)

// step takes a datagram that begins at seq and holds n units. With countKnown
// false n could not be told (data without template), and the next datagram is
// believed whatever it says.
func (s *sequence) step(seq, n uint32, countKnown bool) seqEvent {
	ev := seqOK
	if s.known {
		d := int32(seq - s.next)
		switch {
		case d == 0:
		case d > 0 && d <= maxGapUnits:
			ev = seqLoss
			s.lost += uint64(d)
			s.gaps[s.nGap%len(s.gaps)] = gap{s.next, uint32(d)}
			s.nGap++
		case d < 0 && d >= -reorderUnits && s.late < maxLate:
			s.late++
			s.takeBack(seq, n)
			return seqLate
		default:
			ev = seqRestart
			s.gaps = [8]gap{}
		}
	}
	s.late = 0
	s.next = seq + n
	s.known = countKnown
	return ev
}

// takeBack lowers the loss by a late datagram that lies within a known gap.
func (s *sequence) takeBack(seq, n uint32) {
	for i := range s.gaps {
		g := &s.gaps[i]
		off := seq - g.from
		if g.n == 0 || off >= g.n {
			continue
		}
		n = min(n, g.n-off)
		s.lost -= uint64(n)
		switch {
		case off == 0:
			g.from, g.n = g.from+n, g.n-n
		case off+n == g.n:
			g.n = off
		default: // from the middle: keep the longer rest, so nothing is taken back twice
			left, right := off, g.n-off-n
			if left >= right {
				g.n = left
			} else {
				g.from, g.n = seq+n, right
			}
		}
		return
	}
}
