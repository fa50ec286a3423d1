package collector

import (
	"time"
)

// pacer says how long a reader naps once its socket ran empty. To wake up costs
// tens of microseconds of CPU, as much as a thousand records, and datagrams that
// come one by one would have it pay that for each. A nap lets them gather.
type pacer struct {
	most  time.Duration // longest nap; below minNap: never
	came  int           // datagrams since the last wait began
	since time.Time     // when that was
}

const (
	// minNap: the runtime's timers wait in whole milliseconds (epoll_wait(2)).
	minNap = time.Millisecond

	// maxNap: after a nap the caches are others', and Go's monitor thread looks
	// about every 20 µs for a millisecond; with 100 ms a quiet record costs a
	// tenth less than with 20. That is still little beside windows of 10 s and
	// the 0.2 s that a tick is prepared ahead. An exporter's clock offset and
	// delay are told by this much too large.
	maxNap = 100 * time.Millisecond

	// napGather is how many datagrams a nap is meant to find: that many pay
	// for it (a wake-up is under 1 % of their records' cost), and what they
	// take in the kernel, about 0.6 MB, is still in the cache.
	napGather = 256

	// burstRate, in datagrams of skbSize a second, must fit into the receive
	// buffer during a nap: 1.2 Gbit/s of 1,500-byte datagrams. A buffer of
	// 32 MiB takes 0.3 s of it, Linux's default of 208 KiB 2 ms.
	burstRate = 100_000
	skbSize   = 2304 // what the kernel charges for one
)

// newPacer paces the reader of a socket with a receive buffer of this many
// bytes, of which the kernel fills twice that with its own needs (socket(7)).
func newPacer(readBuffer int, now time.Time) pacer {
	return pacer{
		most:  min(maxNap, time.Duration(2*readBuffer/skbSize)*time.Second/burstRate),
		since: now,
	}
}

// next is asked after a receive call that brought n datagrams. nap above zero:
// sleep that long, there will be more. idle: wait in the kernel for the next
// one, however long that takes. Neither: go on at once.
func (p *pacer) next(n int, now time.Time) (nap time.Duration, idle bool) {
	p.came += n
	if n == batchSize {
		return 0, false // probably not all
	}
	if p.came > 0 {
		nap = min(now.Sub(p.since)*napGather/time.Duration(p.came), p.most)
	}
	p.came, p.since = 0, now
	if nap < minNap { // too many come to sleep, or none came while we did
		return 0, true
	}
	return nap, false
}

// nap sleeps about d. The runtime cuts its timers' waits to whole milliseconds
// and would wake up twice for a sleep of just as many: once shortly before the
// timer is due, and a millisecond later.
func nap(d time.Duration) { time.Sleep(d.Truncate(time.Millisecond) + 30*time.Microsecond) }
