package decode

import (
	"math"
	"math/bits"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// timing is what the times of an exporter's datagrams and records tell about
// its clock and its cache, over the last 5 to 10 minutes: two halves, of which
// the older one is thrown away every delayBucket.
type timing struct {
	at     int64 // start of the running half, ns
	halves [2]timingHalf
}

type timingHalf struct {
	offset      int64 // greatest of header clock − receipt, ns
	offsetKnown bool
	late        int64 // greatest of receipt − end of a record, ns
	delay       *histogram
	duration    *histogram
}

// now returns the half that belongs to a time of receipt.
func (t *timing) now(received int64) *timingHalf {
	since := received - t.at
	if uint64(since) < uint64(delayBucket) {
		return &t.halves[0]
	}
	old := t.halves[1]
	t.halves[1] = t.halves[0]
	if since < 0 || since >= 2*int64(delayBucket) {
		t.halves[1] = timingHalf{} // our own clock was set back, or the exporter was silent
	}
	t.at = received
	t.halves[0] = timingHalf{delay: old.delay.cleared(), duration: old.duration.cleared()}
	return &t.halves[0]
}

// header takes the clock in a datagram's header. The way here and waiting can
// only make it look older, and so does the cut to whole seconds in v9 and
// IPFIX, so the greatest difference is the nearest to the truth.
func (t *timing) header(export, received int64) {
	h := t.now(received)
	if off := export - received; !h.offsetKnown || off > h.offset {
		h.offset, h.offsetKnown = off, true
	}
}

// Of long runs every fourth record goes into the histograms, for four; the
// maxima are of all.
const (
	longRun   = 16
	runStride = 4
)

// records takes the times of a run of records that came together. export is the
// clock of their header: with it the delay is the exporter's own, whatever its
// clock is worth.
func (t *timing) records(rs []flow.Record, export int64) {
	h := t.now(rs[0].Received)
	if h.delay == nil {
		h.delay, h.duration = new(histogram), new(histogram)
	}
	stride := 1
	if len(rs) >= longRun {
		stride = runStride
	}
	first, longest := int64(math.MaxInt64), int64(math.MinInt64)
	var delay, duration, due int
	for i := range rs {
		r := &rs[i]
		if r.Has&flow.HasTimes == 0 {
			continue
		}
		first, longest = min(first, r.End), max(longest, r.End-r.Start)
		if due--; due < 0 {
			due = stride - 1
			delay, duration = bucketOf(export-r.End), bucketOf(r.End-r.Start)
			h.delay.counts[delay] += uint32(stride)
			h.duration.counts[duration] += uint32(stride)
		}
	}
	if longest < 0 {
		return // none has times
	}
	h.delay.counts[delay] -= uint32(due) // the last one stood for fewer
	h.duration.counts[duration] -= uint32(due)
	h.late = max(h.late, rs[0].Received-first)
	h.delay.max = max(h.delay.max, export-first)
	h.duration.max = max(h.duration.max, longest)
}

// clockOffset is nil where no header tells a time (sFlow).
func (t *timing) clockOffset() *time.Duration {
	var best *time.Duration
	for i := range t.halves {
		if h := &t.halves[i]; h.offsetKnown && (best == nil || h.offset > int64(*best)) {
			best = (*time.Duration)(&h.offset)
		}
	}
	if best == nil {
		return nil
	}
	off := *best
	return &off
}

// Buckets of a histogram: of four to each power of two, in units of 2^20 ns
// (1.05 ms), up to 2^26 units (20 hours).
const (
	histogramShift   = 20
	histogramOctaves = 26
	histogramBuckets = 4 * (histogramOctaves - 1)
)

// histogram counts durations; a quantile of it is at most a quarter too high.
type histogram struct {
	counts [histogramBuckets]uint32
	max    int64 // ns
}

// bucketOf: 0 to 3 units have a bucket each, then come four to each octave.
func bucketOf(ns int64) int {
	if ns < 4<<histogramShift {
		return int(max(ns, 0) >> histogramShift)
	}
	u := uint64(ns) >> histogramShift
	top := bits.Len64(u) - 3 // bits below the three that name the bucket
	return min(top<<2+int(u>>top), histogramBuckets-1)
}

// bucketEnd is the first duration that belongs to a later bucket.
func bucketEnd(b int) int64 {
	if b < 4 {
		return int64(b+1) << histogramShift
	}
	top := b>>2 - 1
	return int64(b&3+4+1) << (top + histogramShift)
}

func (h *histogram) cleared() *histogram {
	if h != nil {
		*h = histogram{}
	}
	return h
}

// spread unites the two halves of a histogram; nil: nothing was counted.
func spread(a, b *histogram) *flow.Spread {
	var sum histogram
	var total uint64
	var counts [histogramBuckets]uint64
	for _, h := range []*histogram{a, b} {
		if h == nil {
			continue
		}
		sum.max = max(sum.max, h.max)
		for i, n := range h.counts {
			counts[i] += uint64(n)
			total += uint64(n)
		}
	}
	if total == 0 {
		return nil
	}
	quantile := func(q float64) float64 {
		rank, seen := uint64(q*float64(total-1)), uint64(0)
		for i, n := range counts[:histogramBuckets-1] { // the last one has no end
			if seen += n; seen > rank {
				return seconds(min(bucketEnd(i), sum.max))
			}
		}
		return seconds(sum.max)
	}
	return &flow.Spread{P50: quantile(0.5), P99: quantile(0.99), Max: seconds(sum.max), Records: total}
}

func seconds(ns int64) float64 { return time.Duration(ns).Seconds() }
