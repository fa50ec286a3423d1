package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batch is how many datagrams one system call sends at most: enough to make
	// the call cheap, few enough to stay in cache.
	batch = 64
	// tick is how often a fast generator sends; below it datagrams go singly, as
	// a router's do.
	tick = 250 * time.Microsecond
	// maxBehind is how much of what it could not send in time is made up for. A
	// generator that was held up longer must not make a burst of it: no router
	// would.
	maxBehind = 5 * time.Millisecond
	// announceEvery is a usual template refresh.
	announceEvery = 10 * time.Second
	// settle is what a collector gets to take up templates before data come.
	settle = 100 * time.Millisecond
)

// mmsghdr is the kernel's struct mmsghdr on 64-bit machines.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// sender is what Run needs for a batch.
type sender struct {
	l    *Load
	msgs [batch]mmsghdr
	iovs [batch]unix.Iovec
	// segment is the control message UDP_SEGMENT (udp(7)).
	segment struct {
		hdr  unix.Cmsghdr
		size uint16
		_    [6]byte
	}
}

func newSender(l *Load) *sender {
	s := &sender{l: l}
	for i := range s.msgs {
		s.msgs[i].hdr.Iov = &s.iovs[i]
		s.msgs[i].hdr.SetIovlen(1)
	}
	return s
}

// Run sends until ctx ends, in the calling goroutine, which it binds to its
// thread.
func (l *Load) Run(ctx context.Context) error {
	runtime.LockOSThread()
	if l.cfg.Realtime {
		// Not unlocked: the thread ends with the goroutine.
		_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0) // not allowed: it shares
	} else {
		defer runtime.UnlockOSThread()
	}
	// Without it sleeps end up to 50 µs late.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	if err := l.open(); err != nil {
		return err
	}
	defer l.close()
	s := newSender(l)
	for _, x := range l.exporters {
		if err := s.announce(x, time.Now().UnixNano()); err != nil {
			return err
		}
	}
	time.Sleep(settle)
	return s.pace(ctx)
}

func (s *sender) pace(ctx context.Context) error {
	start := time.Now()
	wall := start.UnixNano()
	var next time.Duration // since start, when the next datagram is due
	for turn := 0; ctx.Err() == nil; {
		now := time.Since(start)
		rate := math.Float64frombits(s.l.rate.Load()) / s.l.mean // datagrams per second
		n := batch
		switch {
		case rate <= 0:
			time.Sleep(time.Millisecond)
			next = time.Since(start)
			n = 0
		case !math.IsInf(rate, 1):
			each := float64(time.Second) / rate
			n = min(max(1, int(float64(tick)/each)), batch)
			if wait := next - now; wait > 0 {
				nap(wait) // a signal ends it early, which the next turn sees
				now = time.Since(start)
				if now < next {
					continue
				}
			}
			if now-next > maxBehind {
				s.l.late.Add(1)
				next = now - maxBehind
			}
			next += time.Duration(float64(n) * each)
		}
		if err := s.turn(s.l.exporters[turn%len(s.l.exporters)], n, wall+int64(now)); err != nil {
			return err
		}
		turn++
	}
	return nil
}

// nap sleeps without a word to the Go scheduler, which would wake another
// thread to run goroutines that there are none of: that costs more than what is
// sent. Naps are shorter than any wait that the collector of garbage minds.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(min(d, time.Millisecond)))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}

// turn sends the next n datagrams of x.
func (s *sender) turn(x *exporter, n int, now int64) error {
	if now >= x.due {
		if err := s.announce(x, now); err != nil {
			return err
		}
	}
	if n == 0 {
		return nil
	}
	records := 0
	for i := range n {
		d := &x.ring[x.next]
		if x.next++; x.next == len(x.ring) {
			x.next = 0
		}
		x.renew(d, now, false)
		records += int(d.records)
		s.put(i, d)
	}
	if err := s.flush(x, n); err != nil {
		return err
	}
	s.l.records.Add(uint64(records))
	s.l.datagrams.Add(uint64(n))
	return nil
}

func (s *sender) announce(x *exporter, now int64) error {
	x.due = now + int64(announceEvery)
	for i := range x.announce {
		x.renew(&x.announce[i], now, true)
		s.put(0, &x.announce[i])
		if err := s.flush(x, 1); err != nil {
			return err
		}
		s.l.datagrams.Add(1)
	}
	return nil
}

func (s *sender) put(i int, d *datagram) {
	s.iovs[i].Base = &d.bytes[0]
	s.iovs[i].SetLen(len(d.bytes))
}

// flush sends the first n messages. A target that does not listen is no error:
// routers do not notice either.
func (s *sender) flush(x *exporter, n int) error {
	for done := 0; done < n; {
		var sent int
		var errno unix.Errno
		if s.l.cfg.GSO && n > 1 {
			sent, errno = s.segmented(x.fd, done, min(n-done, maxSegments))
		} else {
			sent, errno = s.single(x.fd, done, n-done)
		}
		switch errno {
		case 0:
			done += sent
		case unix.EINTR, unix.ECONNREFUSED: // an earlier datagram's; the call consumed it
		default:
			return fmt.Errorf("send: %w", errno)
		}
	}
	return nil
}

func (s *sender) single(fd, from, n int) (int, unix.Errno) {
	sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&s.msgs[from])), uintptr(n), 0, 0, 0)
	return int(sent), errno
}

// maxSegments of at most 1,472 bytes are what one IP packet holds.
const maxSegments = 65507 / 1472

// segmented hands n datagrams of one size to the kernel as one that it cuts.
func (s *sender) segmented(fd, from, n int) (int, unix.Errno) {
	h := unix.Msghdr{Iov: &s.iovs[from], Control: (*byte)(unsafe.Pointer(&s.segment))}
	h.SetIovlen(n)
	h.SetControllen(unix.CmsgSpace(2))
	s.segment.hdr.Level, s.segment.hdr.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	s.segment.hdr.SetLen(unix.CmsgLen(2))
	s.segment.size = uint16(s.iovs[from].Len)
	_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), 0)
	return n, errno
}

func (l *Load) open() error {
	target := unix.SockaddrInet4{Addr: l.cfg.Target.Addr().As4(), Port: int(l.cfg.Target.Port())}
	for i, x := range l.exporters {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			l.close()
			return fmt.Errorf("socket %d of %d: %w", i+1, len(l.exporters), err)
		}
		x.fd = fd
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: Source(i).As4()}), unix.Connect(fd, &target)); err != nil {
			l.close()
			return fmt.Errorf("exporter %s: %w", Source(i), err)
		}
	}
	return nil
}

func (l *Load) close() {
	for _, x := range l.exporters {
		if x.fd >= 0 {
			_ = unix.Close(x.fd)
			x.fd = -1
		}
	}
}
