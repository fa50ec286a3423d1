package export

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// batchSize is how many datagrams one system call sends: enough to make the
// call cheap, few enough to stay in cache.
const batchSize = 64

// UDP sends datagrams from one source address to one target, many per system
// call. It is not safe for concurrent use.
type UDP struct {
	conn  *net.UDPConn
	write func([]ipv4.Message) (int, error)
	msgs  []ipv4.Message // ipv6.Message is the same type
	n     int
	sent  uint64
	bytes uint64
}

// DialUDP binds source (port 0: any; the zero AddrPort: the system's choice)
// and connects to target.
func DialUDP(source netip.AddrPort, target netip.AddrPort) (*UDP, error) {
	var local *net.UDPAddr
	if source.IsValid() {
		local = net.UDPAddrFromAddrPort(source)
	}
	conn, err := net.DialUDP("udp", local, net.UDPAddrFromAddrPort(target))
	if err != nil {
		return nil, fmt.Errorf("dial collector %s: %w", target, err)
	}
	u := &UDP{conn: conn, msgs: make([]ipv4.Message, batchSize)}
	if target.Addr().Is4() {
		pc := ipv4.NewPacketConn(conn)
		u.write = func(m []ipv4.Message) (int, error) { return pc.WriteBatch(m, 0) }
	} else {
		pc := ipv6.NewPacketConn(conn)
		u.write = func(m []ipv4.Message) (int, error) { return pc.WriteBatch(m, 0) }
	}
	for i := range u.msgs {
		u.msgs[i].Buffers = [][]byte{make([]byte, 0, MaxDatagram)}
	}
	return u, nil
}

// Send queues a copy of datagram and sends the queue when it is full.
func (u *UDP) Send(datagram []byte) error {
	m := &u.msgs[u.n]
	m.Buffers[0] = append(m.Buffers[0][:0], datagram...)
	u.n++
	u.bytes += uint64(len(datagram))
	if u.n == len(u.msgs) {
		return u.Flush()
	}
	return nil
}

// Flush sends what is queued. A target that does not listen (ECONNREFUSED, as
// ICMP reports it for an earlier datagram) is not an error: routers do not
// notice either.
func (u *UDP) Flush() error {
	refused := 0
	for done := 0; done < u.n; {
		n, err := u.write(u.msgs[done:u.n])
		if n > 0 {
			done += n
			u.sent += uint64(n)
			refused = 0
			continue
		}
		if err != nil && isRefused(err) && refused < 2 {
			refused++ // the error is consumed by the read; the same datagram goes again
			continue
		}
		if err != nil && isRefused(err) {
			done++
			refused = 0
			continue
		}
		if err == nil {
			err = fmt.Errorf("no datagram was taken")
		}
		u.n = 0
		return fmt.Errorf("send to collector %s: %w", u.conn.RemoteAddr(), err)
	}
	u.n = 0
	return nil
}

// Sent is the number of datagrams handed to the kernel.
func (u *UDP) Sent() uint64 { return u.sent }

// Bytes is the number of payload bytes queued or sent.
func (u *UDP) Bytes() uint64 { return u.bytes }

// LocalAddr is the source that the collector sees.
func (u *UDP) LocalAddr() netip.AddrPort { return u.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// Close sends what is queued and closes the socket.
func (u *UDP) Close() error {
	ferr := u.Flush()
	if err := u.conn.Close(); err != nil {
		return err
	}
	return ferr
}

// isRefused reports whether err is the kernel's word that nobody listens at
// the target.
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
