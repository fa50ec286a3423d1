package collector

import (
	"errors"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/flowcordon/flowcordon/collector/decode"
)

// reader takes datagrams from one socket through decoder and front into blocks.
type reader struct {
	c      *Collector
	group  *group
	number int // of the socket in its group
	fd     int
	lane   *lane // where the kernel's steering sends this socket's exporters
	batch  *batch
	pacer  pacer

	// busy is set before a receive call and cleared only when a call found the
	// socket empty and all that came before is with the shards.
	busy atomic.Bool

	lastDrops uint32 // the kernel's count, 32 bits and wrapping
	counts    readerCounts
}

// readerCounts are the datagrams that the reader itself counts; the rest is
// counted where it happens, in decode and aggregate.
type readerCounts struct {
	received, notAllowed, truncated, shutdown, kernelDrops, errors atomic.Uint64
}

// yieldBatches is after how many full batches others have their turn: flushes,
// senders, the API. Under full load a reader never waits for anything, and the
// runtime would let it go on for 10 ms; this many take about 2 ms.
const yieldBatches = 4

// The reader waits this long after a failed receive call, doubling.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

// run reads until the collector's readers are to end. No error of a receive
// call ends it: a process that is up and deaf is worse than one that is down.
func (r *reader) run() {
	backoff := minBackoff
	for full := 0; !r.c.ending(); {
		r.busy.Store(true)
		n, err := r.c.receive(r.fd, r.batch)
		switch {
		case err == nil:
			backoff = minBackoff
			r.take(n)
			r.batch.reset(n)
		case errors.Is(err, unix.EAGAIN):
			n = 0
		case errors.Is(err, unix.EINTR):
			continue
		default:
			r.counts.errors.Add(1)
			r.c.receiveFailed(r.group, err)
			select {
			case <-time.After(backoff):
			case <-r.c.closing:
			}
			backoff = min(2*backoff, maxBackoff)
			continue
		}
		if n < batchSize {
			r.settle()
		} else if full++; full%yieldBatches == 0 {
			runtime.Gosched()
		}
		r.pause(n)
	}
}

// pause waits as the pacer says after a call that brought n datagrams.
func (r *reader) pause(n int) {
	switch d, idle := r.pacer.next(n, time.Now()); {
	case idle:
		r.c.wait(r.fd)
	case d > 0:
		nap(d)
	}
}

// take judges the first n datagrams of the batch by their senders and decodes
// them, each in its exporter's lane. Nearly always that is the reader's own;
// others come from the moments before the socket's group was complete.
func (r *reader) take(n int) {
	c, now := r.c, r.c.now()
	r.counts.received.Add(uint64(n))
	if drops, ok := r.batch.kernelDrops(n); ok {
		r.counts.kernelDrops.Add(uint64(drops - r.lastDrops)) // right over the wrap
		r.lastDrops = drops
	}
	if c.abandon.Load() {
		r.counts.shutdown.Add(uint64(n))
		return
	}
	allow := c.allow.Load()
	var held *lane
	for i := range n {
		from := r.batch.sender(i)
		if !allow.Contains(from.Addr()) {
			r.counts.notAllowed.Add(1)
			c.strangers.met(from.Addr(), now)
			continue
		}
		if r.batch.truncated(i) {
			r.counts.truncated.Add(1)
			continue
		}
		if l := c.laneOf(from.Addr()); l != held {
			r.release(held)
			held = l
			held.mu.Lock()
		}
		held.dec.Decode(decode.Datagram{Exporter: from, Received: now.UnixNano(), Payload: r.batch.payload(i), Kind: r.group.kind}, held.emit)
	}
	r.release(held)
}

// release gives a lane back. Another reader's is settled, since that reader may
// be idle; our own waits until the socket is empty.
func (r *reader) release(l *lane) {
	if l == nil {
		return
	}
	if l != r.lane {
		l.settle()
	}
	l.mu.Unlock()
}

// settle hands over what lies in the lane's blocks: nothing may come for long.
func (r *reader) settle() {
	r.lane.mu.Lock()
	r.lane.settle()
	r.lane.mu.Unlock()
	r.busy.Store(false)
}

// idle reports that all the kernel had is with the shards. The order of the two
// questions matters: see busy.
func (r *reader) idle() bool { return waiting(r.fd) == 0 && !r.busy.Load() }

func (c *Collector) receiveFailed(g *group, err error) {
	if c.limits.receive.AllowN(c.now(), 1) {
		c.log.Error("receive failed, going on", zap.Stringer("listen", g.addr), zap.Error(err))
	}
}

// laneOf returns the lane of an exporter, the same for as long as the number of
// lanes is: its templates are there.
func (c *Collector) laneOf(addr netip.Addr) *lane { return c.lanes[steer(addr, len(c.lanes))] }

// ending reports whether the readers are to end.
func (c *Collector) ending() bool {
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}

// wait blocks until the socket has a datagram or the readers are to end.
func (c *Collector) wait(fd int) {
	// An error (EINTR, ENOMEM) makes the reader look again, no more.
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(c.wake), Events: unix.POLLIN}}, -1)
}
