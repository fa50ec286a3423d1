// Package loopback chooses where a process that is about to start will listen on
// this machine. The kernel gives out the ports of 127.0.0.1 to everybody: one that
// was free a moment ago is taken now and then before its user binds it. So each
// choice is on an address of its own in 127.0.0.0/8, where nobody else asks for
// ports. It imports the standard library only; Linux answers on the whole network.
package loopback

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
)

// Quiet is a loopback address that nobody else uses.
func Quiet() netip.Addr {
	b := [4]byte{127}
	_, _ = rand.Read(b[1:]) // never fails (crypto/rand)
	b[1] |= 0x80            // not 127.0.x, where people and their daemons listen
	b[3] = 1 + b[3]%254
	return netip.AddrFrom4(b)
}

// Free is a free port of network, "tcp" or "udp", on a quiet address.
func Free(network string) (netip.AddrPort, error) { return FreeOn(Quiet(), network) }

// FreeOn is a free port of network, "tcp" or "udp", on an address.
func FreeOn(addr netip.Addr, network string) (netip.AddrPort, error) {
	at := netip.AddrPortFrom(addr, 0)
	switch network {
	case "tcp":
		l, err := net.ListenTCP(network, net.TCPAddrFromAddrPort(at))
		if err != nil {
			return netip.AddrPort{}, err
		}
		defer func() { _ = l.Close() }()
		return unmapped(l.Addr().(*net.TCPAddr).AddrPort()), nil
	case "udp":
		c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
		if err != nil {
			return netip.AddrPort{}, err
		}
		defer func() { _ = c.Close() }()
		return unmapped(c.LocalAddr().(*net.UDPAddr).AddrPort()), nil
	}
	return netip.AddrPort{}, fmt.Errorf("network %q is neither tcp nor udp", network)
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
