package collector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/flowcordon/flowcordon/collector/decode"
)

// TestSteeringIsTheKernels sends from many addresses and ports to groups of
// sockets and looks where the kernel puts it.
func TestSteeringIsTheKernels(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0", ":0"} {
		for _, n := range []int{2, 3, 4, 7} {
			t.Run(fmt.Sprintf("%s over %d", listen, n), func(t *testing.T) {
				g, err := openGroup(context.Background(), 0, Listen{decode.KindNetFlow, listen}, n, 1<<20, attachSteering)
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := g.close(); err != nil {
						t.Error(err)
					}
				}()
				if g.unsteered != nil || len(g.sockets) != n {
					t.Fatalf("%d sockets: %v", len(g.sockets), g.unsteered)
				}
				hit := map[int]bool{}
				for _, from := range sources(g.addr.IP) {
					want := steer(from, n)
					hit[want] = true
					for range 3 { // from other ports
						sendFrom(t, from, g.addr, []byte(from.String()))
						for i, fd := range g.sockets {
							if got := waiting(fd); (got > 0) != (i == want) {
								t.Errorf("%s: socket %d has %d bytes waiting, the datagram should be at %d", from, i, got, want)
							}
							drainSocket(t, fd)
						}
					}
				}
				if len(hit) != n {
					t.Errorf("only sockets %v were chosen", hit)
				}
			})
		}
	}
}

// sources are addresses that can send to one on this host.
func sources(to net.IP) []netip.Addr {
	var out []netip.Addr
	if to.IsUnspecified() && to.To4() == nil || to.To4() != nil {
		for i := range 40 {
			out = append(out, netip.AddrFrom4([4]byte{127, byte(i * 13), byte(i * 7), byte(1 + i)}))
		}
	}
	if to.To4() == nil {
		out = append(out, netip.IPv6Loopback())
		for i := range 40 { // not ours: see sendFrom
			out = append(out, netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, byte(i), byte(i * 5), 9, 9, byte(i * 3), 15: byte(i)}))
		}
	}
	return out
}

// sendFrom sends one datagram from the address and a new port. IPv6 lets a
// socket be bound to an address that the host does not have (IPV6_FREEBIND).
func sendFrom(t *testing.T, from netip.Addr, to *net.UDPAddr, payload []byte) {
	t.Helper()
	dst := netip.MustParseAddr("127.0.0.1")
	if from.Is6() {
		dst = netip.IPv6Loopback()
	}
	family, src, err := sockaddr(netip.AddrPortFrom(from, 0))
	if err != nil {
		t.Fatal(err)
	}
	_, sa, err := sockaddr(netip.AddrPortFrom(dst, uint16(to.Port)))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	}()
	if from.Is6() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Bind(fd, src); err != nil {
		t.Fatalf("bind %s: %v", from, err)
	}
	if err := unix.Sendto(fd, payload, 0, sa); err != nil {
		t.Fatalf("send from %s: %v", from, err)
	}
}

func drainSocket(t *testing.T, fd int) {
	t.Helper()
	buf := make([]byte, 2048)
	for {
		if _, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT); err != nil {
			if !errors.Is(err, unix.EAGAIN) {
				t.Fatal(err)
			}
			return
		}
	}
}
