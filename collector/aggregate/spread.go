package aggregate

import (
	"math/bits"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// span is the part of a record that falls into one window.
type span struct {
	no             int64 // the window's number: its start / WindowSeconds
	packets, bytes uint64
	syn            uint64 // of packets
}

// windowNo is the number of the window that holds t (ns).
func windowNo(t int64) int64 {
	n := t / windowNS
	if t%windowNS < 0 {
		n--
	}
	return n
}

// times is a record's duration after it was checked against its arrival.
type times struct {
	start, end int64 // ns
	ahead      bool  // the end was in the future and was set to the arrival
}

// checkTimes takes a record's times for what they are worth. An end more than
// maxAhead after the arrival is a wrong clock: the arrival stands for it.
func checkTimes(r *flow.Record) times {
	t := times{start: r.Start, end: r.End}
	if t.end > r.Received+maxAhead {
		t.end, t.ahead = r.Received, true
	}
	if t.start > t.end {
		t.start = t.end
	}
	return t
}

// tooLate reports whether end lies before the oldest window that a record may
// reach into that was received then.
func tooLate(end, received int64, maxAge time.Duration) bool {
	return end < received-int64(maxAge) && windowNo(end) < windowNo(received-int64(maxAge))
}

// spread divides packets, bytes and SYNs evenly over [start, end] and appends
// one span for each window that gets a packet, in order, and one for the window
// of the end, which is the one that the record itself counts in. The shares are
// differences of a cumulative sum rounded down, so that they add up exactly; the
// rounding favours the later window, and the bytes of a window without a packet
// go with the next packet. What lies before the window number horizon is
// returned as clipped.
func spread(dst []span, start, end, horizon int64, packets, bytes, syn uint64) (spans []span, clipped span) {
	first, last := windowNo(start), windowNo(end)
	if first == last {
		return append(dst, span{no: last, packets: packets, bytes: bytes, syn: syn}), span{}
	}
	d := divider{length: uint64(end) - uint64(start)} // also right if end-start overflows
	d.inverse = (1 + 0x1p-48) / float64(d.length)
	var done span // what the windows before have
	upTo := func(at int64) span {
		passed := uint64(at) - uint64(start)
		c := span{packets: d.share(packets, passed), bytes: d.share(bytes, passed)}
		if syn > 0 {
			c.syn = d.share(syn, passed)
		}
		return c
	}
	if first < horizon {
		clipped = upTo(horizon * windowNS)
		done, first = clipped, horizon
	}
	for no := first; no <= last; no++ {
		c := span{packets: packets, bytes: bytes, syn: syn}
		if no < last {
			if c = upTo((no + 1) * windowNS); c.packets == done.packets {
				continue
			}
		}
		dst = append(dst, span{no: no, packets: c.packets - done.packets, bytes: c.bytes - done.bytes, syn: c.syn - done.syn})
		done = c
	}
	return dst, clipped
}

// divider takes shares of a length.
type divider struct {
	length  uint64
	inverse float64 // of length, a hair too large, so that whole shares stay whole
}

// share is total·part/length rounded down, never more than total. Up to 2^48
// it is one multiplication; a 128-bit division costs ten times that.
func (d *divider) share(total, part uint64) uint64 {
	if part >= d.length {
		return total
	}
	if total < 1<<48 {
		return min(total, uint64(float64(total)*(float64(part)*d.inverse)))
	}
	hi, lo := bits.Mul64(total, part)
	q, _ := bits.Div64(hi, lo, d.length)
	return q
}
