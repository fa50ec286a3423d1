package collector

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many datagrams one receive call brings at most: enough
	// that the call costs little for each, few enough that they are in the
	// second-level cache when they are decoded (64 × 1,400 bytes).
	batchSize = 64

	// slotSkew sets the slots of a batch apart from each other by other than a
	// power of two: at 64 KiB apart, all would share the same few cache sets.
	slotSkew = 1536
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// batch is the memory that receive calls of one reader fill. Each slot has room
// for the longest datagram; of that, only pages that a datagram reached are
// ever backed by memory, which with datagrams of up to 1,500 bytes is one or two.
type batch struct {
	buf  []byte
	slot int // bytes from one datagram to the next
	msgs [batchSize]mmsghdr
	iovs [batchSize]unix.Iovec
	from [batchSize]unix.RawSockaddrInet6 // has room for IPv4, too
	ctrl [batchSize]control
}

// control has room for the one control message asked for (cmsg(3)).
type control struct {
	hdr   unix.Cmsghdr
	drops uint32
	_     uint32
}

// newBatch maps memory outside of the heap, which would otherwise let the
// garbage collector count all of it; free it by free.
func newBatch(maxDatagram int) (*batch, error) {
	b := &batch{slot: maxDatagram + slotSkew}
	var err error
	b.buf, err = unix.Mmap(-1, 0, b.slot*batchSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map receive buffers: %w", err)
	}
	_ = unix.Madvise(b.buf, unix.MADV_NOHUGEPAGE) // only saves memory, where the kernel knows it
	for i := range b.msgs {
		b.iovs[i].Base = &b.buf[i*b.slot]
		b.iovs[i].SetLen(maxDatagram)
		h := &b.msgs[i].hdr
		h.Iov = &b.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&b.from[i]))
		h.Control = (*byte)(unsafe.Pointer(&b.ctrl[i]))
	}
	b.reset(batchSize)
	return b, nil
}

// free unmaps; no payload may be used after it.
func (b *batch) free() error { return unix.Munmap(b.buf) }

// reset readies the first n slots, which a call filled, for the next.
func (b *batch) reset(n int) {
	for i := range b.msgs[:n] {
		h := &b.msgs[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(int(unsafe.Sizeof(control{})))
	}
}

// payload is the i-th datagram, valid until the next receive call.
func (b *batch) payload(i int) []byte {
	at := i * b.slot
	return b.buf[at : at+int(b.msgs[i].n) : at+int(b.msgs[i].n)]
}

// truncated reports whether the i-th datagram was longer than its slot.
func (b *batch) truncated(i int) bool { return b.msgs[i].hdr.Flags&unix.MSG_TRUNC != 0 }

// sender is where the i-th datagram came from, IPv4 never mapped.
func (b *batch) sender(i int) netip.AddrPort {
	a := &b.from[i]
	port := (*[2]byte)(unsafe.Pointer(&a.Port)) // network byte order
	p := binary.BigEndian.Uint16(port[:])
	if a.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(a)).Addr), p)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), p)
}

// kernelDrops is the kernel's count of datagrams dropped at this socket since
// it exists (SO_RXQ_OVFL, socket(7)) as of the latest of the first n datagrams
// that came with one: those after the first drop do.
func (b *batch) kernelDrops(n int) (uint32, bool) {
	for i := n - 1; i >= 0; i-- {
		if int(b.msgs[i].hdr.Controllen) < unix.CmsgLen(4) {
			continue
		}
		if c := &b.ctrl[i]; c.hdr.Level == unix.SOL_SOCKET && c.hdr.Type == unix.SO_RXQ_OVFL {
			return c.drops, true
		}
	}
	return 0, false
}

// receiveFunc is recvmmsg, or one that fails.
type receiveFunc func(fd int, b *batch) (int, error)

// recvmmsg takes what is there, at most batchSize datagrams, without waiting;
// unix.EAGAIN if nothing is. The scheduler is not told of the call: it never
// blocks, and a batch is copied in well under 100 µs.
func recvmmsg(fd int, b *batch) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.msgs[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
