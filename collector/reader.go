package collector

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// reader moves datagrams from one socket to the shards.
type reader struct {
	c    *Collector
	sock *socket

	// busy is set before a receive call and cleared only after one that found
	// nothing: while it is clear, no datagram is between socket and queue.
	busy atomic.Bool

	lastDrops uint32
	errors    atomic.Uint64
}

const (
	// readBurst is how many datagrams are read before the socket is asked
	// whether it was closed: under full load it never runs empty.
	readBurst = 64
	// The reader waits this long after a failed receive call, doubling.
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

// run reads until the socket is closed. No error of a receive call ends it:
// a process that is up and deaf is worse than one that is down.
func (r *reader) run() {
	buf := make([]byte, r.c.cfg.MaxDatagram)
	oob := make([]byte, oobSize)
	backoff := minBackoff
	for {
		var failed error
		err := r.sock.raw.Read(func(fd uintptr) bool {
			for range readBurst {
				r.busy.Store(true)
				m, err := r.c.receive(int(fd), buf, oob)
				switch {
				case err == nil:
					r.take(m, buf)
				case errors.Is(err, unix.EAGAIN):
					r.busy.Store(false)
					return false
				case errors.Is(err, unix.EINTR):
				default:
					failed = err
					return true
				}
			}
			return true
		})
		if err != nil { // the socket was closed
			r.busy.Store(false)
			return
		}
		if failed == nil {
			backoff = minBackoff
			continue
		}
		r.errors.Add(1)
		r.c.receiveFailed(r.sock, failed)
		select {
		case <-time.After(backoff):
		case <-r.c.stopping:
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// take judges one datagram by its sender and hands it to the sender's shard.
func (r *reader) take(m message, buf []byte) {
	c := r.c
	if m.hasDrops {
		// The kernel's counter is 32 bits wide and wraps; so does the difference.
		c.counts.kernelDrops.Add(uint64(m.drops - r.lastDrops))
		r.lastDrops = m.drops
	}
	c.counts.received.Add(1)
	from := m.from.Addr()
	if !c.allow.Load().Contains(from) {
		c.counts.notAllowed.Add(1)
		c.strangers.met(from, c.now())
		return
	}
	if m.truncated {
		c.counts.truncated.Add(1)
		return
	}
	it := item{from: netip.AddrPortFrom(from, m.from.Port()), received: c.now().UnixNano(), kind: r.sock.kind}
	if !c.shardOf(from).queue.push(buf[:m.n], it) {
		c.counts.queueFull.Add(1)
	}
}

// idle reports that every datagram the kernel had is in a queue. The order of
// the two questions matters: see busy.
func (r *reader) idle() bool { return r.sock.waiting() == 0 && !r.busy.Load() }

func (c *Collector) receiveFailed(s *socket, err error) {
	if c.limits.receive.AllowN(c.now(), 1) {
		c.log.Error("receive failed, going on", zap.Stringer("listen", s.conn.LocalAddr()), zap.Error(err))
	}
}
