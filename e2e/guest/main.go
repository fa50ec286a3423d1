// Command guest is the abuse inside the test VDS: it opens TCP connections to
// one port of ever new addresses of a prefix, as the scanners on hacked
// machines do, and never mind the answers. The kernel makes the SYNs. It is
// built statically and put into the guest's initramfs by e2e/lab; it is no part
// of the product and reaches nothing but the namespaces of its test.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// openFor is how long a connection attempt is kept: less than the kernel's
// first SYN retransmission (1 s, RFC 6298 §2), so that one attempt is one SYN.
const openFor = 900 * time.Millisecond

func main() {
	var (
		prefix = flag.String("net", "93.184.0.0/16", "addresses to try")
		port   = flag.Int("port", 22, "TCP port to try")
		rate   = flag.Int("rate", 150, "attempts per second")
	)
	flag.Parse()
	if err := scan(*prefix, *port, *rate); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

type attempt struct {
	fd int
	at time.Time
}

func scan(prefix string, port, rate int) error {
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		return err
	}
	if !p.Addr().Is4() || p.Bits() < 8 || rate < 1 {
		return fmt.Errorf("want an IPv4 prefix of /8 or longer and a rate above 0, got %s and %d", p, rate)
	}
	first := p.Masked().Addr().As4()
	base, size := binary.BigEndian.Uint32(first[:]), uint32(1)<<(32-p.Bits())
	var open []attempt
	tick := time.NewTicker(time.Second / time.Duration(rate))
	for n := uint32(1); ; n++ {
		<-tick.C
		for len(open) > 0 && time.Since(open[0].at) > openFor {
			_ = syscall.Close(open[0].fd)
			open = open[1:]
		}
		// An odd step visits every address of a power-of-two range once.
		sa := &syscall.SockaddrInet4{Port: port}
		binary.BigEndian.PutUint32(sa.Addr[:], base+(n*40503)%size)
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		_ = syscall.Connect(fd, sa) // in progress, or unreachable while the link is down
		open = append(open, attempt{fd, time.Now()})
	}
}
