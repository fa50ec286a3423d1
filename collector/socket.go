package collector

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/flowcordon/flowcordon/collector/decode"
)

// socket is a bound UDP socket.
type socket struct {
	conn       *net.UDPConn
	raw        syscall.RawConn
	kind       decode.Kind
	readBuffer int // bytes that the kernel granted
}

// listen binds one entry of the configuration.
func listen(ctx context.Context, index int, l Listen, readBuffer int) (*socket, error) {
	entry := fmt.Sprintf("listen[%d] %s", index, l.Address)
	pc, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", l.Address)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("%s: another program, or another entry, listens there already (ss -lunp shows it): %w", entry, err)
	case errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("%s: not permitted; choose a port above 1023 or give CAP_NET_BIND_SERVICE: %w", entry, err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s: this host does not have that address: %w", entry, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", entry, err)
	}
	s := &socket{conn: pc.(*net.UDPConn), kind: l.Protocol}
	if s.raw, err = s.conn.SyscallConn(); err == nil {
		err = s.setOptions(readBuffer)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", entry, err), s.conn.Close())
	}
	return s, nil
}

// setOptions asks for the receive buffer, past net.core.rmem_max where we may,
// and for the kernel's count of drops with each datagram.
func (s *socket) setOptions(readBuffer int) error {
	var err error
	cerr := s.raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, readBuffer) != nil {
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, readBuffer); err != nil {
				err = fmt.Errorf("set receive buffer: %w", err)
				return
			}
		}
		var granted int
		if granted, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF); err != nil {
			err = fmt.Errorf("read receive buffer: %w", err)
			return
		}
		s.readBuffer = granted / 2 // the kernel doubles it for its own needs, socket(7)
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1); err != nil {
			err = fmt.Errorf("ask for the count of dropped datagrams: %w", err)
		}
	})
	return errors.Join(cerr, err)
}

// waiting is the number of bytes of the next datagram in the kernel's buffer;
// 0 if there is none (or an empty one).
func (s *socket) waiting() int {
	n := 0
	_ = s.raw.Control(func(fd uintptr) { // closed: nothing waits
		if v, err := unix.IoctlGetInt(int(fd), unix.SIOCINQ); err == nil {
			n = v
		}
	})
	return n
}

// message is what one receive call brought.
type message struct {
	n         int
	from      netip.AddrPort
	truncated bool
	drops     uint32 // the kernel's count since the socket exists; valid with hasDrops
	hasDrops  bool
}

// receiveFunc is recvmsg, or one that fails.
type receiveFunc func(fd int, buf, oob []byte) (message, error)

// recvmsg receives without waiting; unix.EAGAIN if nothing is there.
func recvmsg(fd int, buf, oob []byte) (message, error) {
	n, oobn, flags, from, err := unix.Recvmsg(fd, buf, oob, unix.MSG_DONTWAIT)
	if err != nil {
		return message{}, err
	}
	m := message{n: n, truncated: flags&unix.MSG_TRUNC != 0}
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		m.from = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		m.from = netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	m.drops, m.hasDrops = overflowCount(oob[:oobn])
	return m, nil
}

// oobSize has room for the one control message asked for.
var oobSize = unix.CmsgSpace(4)

// overflowCount reads SO_RXQ_OVFL (socket(7)) from the control messages.
func overflowCount(oob []byte) (uint32, bool) {
	if len(oob) < oobSize {
		return 0, false
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, false
	}
	for _, m := range msgs {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_RXQ_OVFL && len(m.Data) >= 4 {
			return binary.NativeEndian.Uint32(m.Data), true
		}
	}
	return 0, false
}
