package aggregate

import (
	"math/bits"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// span is the part of a record that falls into one window.
type span struct {
	start          int64 // of the window, seconds
	packets, bytes uint64
	syn            uint64 // of packets
}

// floorWindow is the start, in ns, of the window that holds t (ns).
func floorWindow(t int64) int64 {
	m := t % windowNS
	if m < 0 {
		m += windowNS
	}
	return t - m
}

// times is a record's duration after it was checked against its arrival.
type times struct {
	start, end int64
	horizon    int64 // start of the oldest window allowed
	ahead      bool  // the end was in the future and was set to the arrival
}

// checkTimes takes a record's times for what they are worth. An end more than
// maxAhead after the arrival is a wrong clock: the arrival stands for it.
func checkTimes(r *flow.Record, maxAge time.Duration) times {
	t := times{start: r.Start, end: r.End, horizon: floorWindow(r.Received - int64(maxAge))}
	if t.end > r.Received+maxAhead {
		t.end, t.ahead = r.Received, true
	}
	if t.start > t.end {
		t.start = t.end
	}
	return t
}

// spread divides packets, bytes and SYNs evenly over [start, end] and appends
// one span for each window, in order; the last is the window of the end. The
// shares are differences of a cumulative sum rounded down, so that they add up
// exactly; the rounding favours the later window, which is the one that the
// record itself counts in. What lies before the horizon is returned as clipped.
func spread(dst []span, t times, packets, bytes, syn uint64) (spans []span, clipped span) {
	first, last := floorWindow(t.start), floorWindow(t.end)
	if first == last {
		return append(dst, span{start: last / int64(time.Second), packets: packets, bytes: bytes, syn: syn}), span{}
	}
	length := uint64(t.end) - uint64(t.start) // also right if t.end-t.start overflows
	var done span
	cut := func(at int64) span {
		passed := uint64(at) - uint64(t.start)
		c := span{packets: share(packets, passed, length), bytes: share(bytes, passed, length), syn: share(syn, passed, length)}
		s := span{packets: c.packets - done.packets, bytes: c.bytes - done.bytes, syn: c.syn - done.syn}
		done = c
		return s
	}
	if first < t.horizon {
		clipped = cut(t.horizon)
		first = t.horizon
	}
	for w := first; w < last; w += windowNS {
		s := cut(w + windowNS)
		s.start = w / int64(time.Second)
		dst = append(dst, s)
	}
	s := cut(t.end)
	s.start = last / int64(time.Second)
	return append(dst, s), clipped
}

// share is floor(total·part/whole); part ≤ whole, so the quotient fits.
func share(total, part, whole uint64) uint64 {
	if part >= whole {
		return total
	}
	hi, lo := bits.Mul64(total, part)
	q, _ := bits.Div64(hi, lo, whole)
	return q
}
