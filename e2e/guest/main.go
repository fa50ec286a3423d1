// Command guest is the abuse inside the test VDS: it opens TCP connections to
// one port of ever new addresses of a prefix, as the scanners on hacked
// machines do, and never mind the answers. The kernel makes the SYNs. It takes
// its orders from a host on the Internet if it is told one, as those do. It is
// built statically and put into the guest's initramfs by e2e/lab; it is no part
// of the product and reaches nothing but the namespaces of its test.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
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
		master = flag.String("orders", "", "address of the host that says which port to try")
	)
	flag.Parse()
	var now atomic.Int64
	now.Store(int64(*port))
	if *master != "" {
		go obey(*master, &now)
	}
	if err := scan(*prefix, &now, *rate); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

// lost is after how many unanswered questions the scan stops: who is cut off
// does not go on from what it was told long ago.
const lost = 3

// obey asks for the port to try, 0 for none, again and again.
func obey(master string, port *atomic.Int64) {
	for misses := 0; ; time.Sleep(300 * time.Millisecond) {
		p, err := ask(master)
		switch {
		case err == nil:
			misses = 0
			port.Store(p)
		default:
			if misses++; misses >= lost {
				port.Store(0)
			}
		}
	}
}

func ask(master string) (int64, error) {
	c, err := net.DialTimeout("tcp", master, 3*time.Second)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return 0, err
	}
	b, err := io.ReadAll(io.LimitReader(c, 16))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 32)
}

type attempt struct {
	fd int
	at time.Time
}

func scan(prefix string, port *atomic.Int64, rate int) error {
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
		sa := &syscall.SockaddrInet4{Port: int(port.Load())}
		if sa.Port == 0 {
			continue
		}
		// An odd step visits every address of a power-of-two range once.
		binary.BigEndian.PutUint32(sa.Addr[:], base+(n*40503)%size)
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		_ = syscall.Connect(fd, sa) // in progress, or unreachable while the link is down
		open = append(open, attempt{fd, time.Now()})
	}
}
