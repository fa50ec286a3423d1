package collector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/flowcordon/flowcordon/collector/decode"
)

// group is one listen address: sockets that share its port, each with its
// reader. Socket i is read into lane i.
type group struct {
	kind       decode.Kind
	addr       *net.UDPAddr // as bound
	sockets    []int        // file descriptors
	readBuffer int          // bytes that the kernel granted each
	unsteered  error        // why there is only one socket, if there should be more
}

// steerFunc is attachSteering, or one that fails.
type steerFunc func(fd, n int) error

// openGroup binds one entry of the configuration to n sockets.
//
// The first is bound alone, so that a port that another program has is an error
// even if that program would share it. The others join, then the program goes
// in. What arrives in between may be read by another reader than later; it is
// decoded in its exporter's lane all the same.
func openGroup(ctx context.Context, index int, l Listen, n, readBuffer int, steering steerFunc) (_ *group, err error) {
	g := &group{kind: l.Protocol}
	defer func() {
		if err != nil {
			err = errors.Join(explain(fmt.Sprintf("listen[%d] %s", index, l.Address), err), g.close())
		}
	}()
	ap, err := resolve(ctx, l.Address)
	if err != nil {
		return nil, err
	}
	bound, err := g.bind(ap, readBuffer, false)
	if errors.Is(err, unix.EAFNOSUPPORT) && ap.Addr() == netip.IPv6Unspecified() { // a host without IPv6
		bound, err = g.bind(netip.AddrPortFrom(netip.IPv4Unspecified(), ap.Port()), readBuffer, false)
	}
	if err != nil {
		return nil, err
	}
	g.addr = net.UDPAddrFromAddrPort(bound)
	if n == 1 {
		return g, nil
	}
	first := g.sockets[0]
	if err = unix.SetsockoptInt(first, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return nil, fmt.Errorf("share the port: %w", err)
	}
	for range n - 1 {
		if _, err = g.bind(bound, readBuffer, true); err != nil {
			return nil, err
		}
	}
	if g.unsteered = steering(first, n); g.unsteered != nil {
		return g, g.keepFirst()
	}
	return g, nil
}

// keepFirst closes all sockets but the first, which is alone again.
func (g *group) keepFirst() error {
	var errs []error
	for _, fd := range g.sockets[1:] {
		errs = append(errs, unix.Close(fd))
	}
	g.sockets = g.sockets[:1]
	return errors.Join(append(errs, unix.SetsockoptInt(g.sockets[0], unix.SOL_SOCKET, unix.SO_REUSEPORT, 0))...)
}

func (g *group) close() error {
	var errs []error
	for _, fd := range g.sockets {
		errs = append(errs, unix.Close(fd))
	}
	g.sockets = nil
	return errors.Join(errs...)
}

// explain says what to do about an error of bind.
func explain(entry string, err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%s: another program, or another entry, listens there already (ss -lunp shows it): %w", entry, err)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%s: not permitted; choose a port above 1023 or give CAP_NET_BIND_SERVICE: %w", entry, err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%s: this host does not have that address: %w", entry, err)
	}
	return fmt.Errorf("%s: %w", entry, err)
}

// resolve returns the address to bind; without a host it is the IPv6 wildcard,
// which takes both families.
func resolve(ctx context.Context, address string) (netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host == "" {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port)), nil
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return netip.AddrPort{}, err
		}
		addr = all[0]
		if i := slices.IndexFunc(all, func(a netip.Addr) bool { return a.Unmap().Is4() }); i >= 0 {
			addr = all[i] // as net.Listen does: localhost is 127.0.0.1
		}
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}

// bind adds a socket and returns the address it got. The sockets stay out of
// Go's poller, which would wake a thread for each datagram that comes while
// their readers nap.
func (g *group) bind(ap netip.AddrPort, readBuffer int, shared bool) (netip.AddrPort, error) {
	family, sa, err := sockaddr(ap)
	if err != nil {
		return ap, err
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return ap, fmt.Errorf("socket: %w", err)
	}
	g.sockets = append(g.sockets, fd)
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return ap, fmt.Errorf("take both families: %w", err)
		}
	}
	if shared {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return ap, fmt.Errorf("share the port: %w", err)
		}
	}
	if err := g.setOptions(fd, readBuffer); err != nil {
		return ap, err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return ap, err
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return ap, fmt.Errorf("read the bound address: %w", err)
	}
	switch a := bound.(type) {
	case *unix.SockaddrInet4:
		ap = netip.AddrPortFrom(ap.Addr(), uint16(a.Port))
	case *unix.SockaddrInet6:
		ap = netip.AddrPortFrom(ap.Addr(), uint16(a.Port))
	}
	return ap, nil
}

func sockaddr(ap netip.AddrPort) (family int, _ unix.Sockaddr, _ error) {
	a := ap.Addr()
	if a.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: a.As4()}, nil
	}
	sa := &unix.SockaddrInet6{Port: int(ap.Port()), Addr: a.As16()}
	if zone := a.Zone(); zone != "" {
		if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
			sa.ZoneId = uint32(n)
		} else if i, err := net.InterfaceByName(zone); err == nil {
			sa.ZoneId = uint32(i.Index)
		} else {
			return 0, nil, fmt.Errorf("interface %q: %w", zone, err)
		}
	}
	return unix.AF_INET6, sa, nil
}

// setOptions asks for the receive buffer, past net.core.rmem_max where we may,
// and for the kernel's count of drops with each datagram.
func (g *group) setOptions(fd, readBuffer int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, readBuffer) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, readBuffer); err != nil {
			return fmt.Errorf("set receive buffer: %w", err)
		}
	}
	granted, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return fmt.Errorf("read receive buffer: %w", err)
	}
	g.readBuffer = granted / 2 // the kernel doubles it for its own needs, socket(7)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1); err != nil {
		return fmt.Errorf("ask for the count of dropped datagrams: %w", err)
	}
	return nil
}

// waiting is the number of bytes of the next datagram in the kernel's buffer;
// 0 if there is none (or an empty one).
func waiting(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
	if err != nil {
		return 0 // closed: nothing waits
	}
	return n
}
