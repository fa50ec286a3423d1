package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Traffic is what of some sources reached the Internet in a time.
type Traffic struct {
	All       int64         // packets
	SYN, SYN6 map[int]int64 // TCP connection attempts by port, over IPv4 and IPv6
}

// Sniffer counts the packets of some sources that reach the Internet.
type Sniffer struct {
	stop chan struct{}
	fd   int

	mu  sync.Mutex
	sum Traffic
}

// Sniff opens a packet socket at the Internet's end of the uplink. Close it.
func (l *Lab) Sniff(sources ...netip.Addr) (*Sniffer, error) {
	s := &Sniffer{stop: make(chan struct{}), sum: Traffic{SYN: map[int]int64{}, SYN6: map[int]int64{}}}
	if err := InNS(l.Inet, func() (err error) {
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
		return err
	}); err != nil {
		return nil, err
	}
	// So that the reader notices the end.
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		return nil, err
	}
	go s.run(sources)
	return s, nil
}

func (s *Sniffer) run(sources []netip.Addr) {
	defer func() { _ = unix.Close(s.fd) }()
	b := make([]byte, 2048)
	for {
		select {
		case <-s.stop:
			return
		default:
		}
		n, from, err := unix.Recvfrom(s.fd, b, 0)
		if err != nil {
			continue
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok || ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		src, tcp, ok := split(ll.Protocol, b[:n])
		if !ok || !slices.Contains(sources, src) {
			continue
		}
		s.mu.Lock()
		s.sum.All++
		if len(tcp) >= 14 && tcp[13]&0x12 == 0x02 {
			by := s.sum.SYN
			if src.Is6() {
				by = s.sum.SYN6
			}
			by[int(tcp[2])<<8|int(tcp[3])]++
		}
		s.mu.Unlock()
	}
}

// split gives a packet's source and, if it is TCP, what is behind its IP header.
// The guests send no extension headers before TCP.
func split(proto uint16, b []byte) (src netip.Addr, tcp []byte, ok bool) {
	switch {
	case proto == htons(unix.ETH_P_IP) && len(b) >= 20:
		src = netip.AddrFrom4([4]byte(b[12:16]))
		if ihl := int(b[0]&15) * 4; b[9] == 6 && ihl <= len(b) {
			tcp = b[ihl:]
		}
		return src, tcp, true
	case proto == htons(unix.ETH_P_IPV6) && len(b) >= 40:
		if b[6] == 6 {
			tcp = b[40:]
		}
		return netip.AddrFrom16([16]byte(b[8:24])), tcp, true
	}
	return netip.Addr{}, nil, false
}

// Watch counts for d.
func (s *Sniffer) Watch(d time.Duration) Traffic {
	before := s.now()
	time.Sleep(d)
	t := s.now()
	t.All -= before.All
	for p, n := range before.SYN {
		t.SYN[p] -= n
	}
	for p, n := range before.SYN6 {
		t.SYN6[p] -= n
	}
	return t
}

func (s *Sniffer) now() Traffic {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Traffic{All: s.sum.All, SYN: maps.Clone(s.sum.SYN), SYN6: maps.Clone(s.sum.SYN6)}
}

// Count watches for d and returns the packets in that time, and of them the
// SYNs to port 22 over IPv4.
func (s *Sniffer) Count(d time.Duration) (all, syn22 int64) {
	t := s.Watch(d)
	return t.All, t.SYN[22]
}

// Close ends the sniffer.
func (s *Sniffer) Close() { close(s.stop) }

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// Exporter runs softflowd on the node's bridge, exporting NetFlow v9 (9) or
// IPFIX (10) to target, which the node must reach. It looks once a second for
// flows that are 2 s idle or 10 s old, as a border router with short timeouts.
// It ends with stop or with the lab.
func (l *Lab) Exporter(version int, target string) (stop func(), err error) {
	log, err := os.Create(filepath.Join(l.Dir, "log", "softflowd"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := Command(l.Node, "softflowd", "-i", Bridge, "-n", target, "-v", fmt.Sprint(version), "-m", "65536",
		// softflowd reads a ring whose blocks of 256 KiB are handed over only when
		// full (libpcap, a read timeout of 0). With whole packets in it the
		// honest tenant's downloads fill one within a second; with the
		// default of 96 bytes a scan would sit in there for 17 s.
		"-C", "65535",
		"-d", "-c", "none", // with a control socket outside its run folder softflowd 1.1.0 ends at once
		"-p", filepath.Join(l.Dir, "softflowd.pid"),
		"-t", "expint=1", "-t", "tcp=2", "-t", "tcp.rst=1", "-t", "tcp.fin=1", "-t", "udp=2", "-t", "icmp=2",
		"-t", "general=2", "-t", "maxlife=10")
	return l.Spawn(cmd, log)
}

// Honest lets the tenant beside the guests fetch something from a server on the
// Internet over and over until Stop: real TCP conversations in the same export.
// An error means that it did not get through once.
func (l *Lab) Honest() error {
	addr := net.JoinHostPort(ServerIP, "443")
	var ln net.Listener
	if err := InNS(l.Inet, func() (err error) {
		ln, err = net.Listen("tcp", addr)
		return err
	}); err != nil {
		return err
	}
	go serve(ln)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if fetch(ctx, DialIn(l.Tenant), addr) == nil {
				l.fetched.Add(1)
			}
			select {
			case <-time.After(300 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	l.onStop(func() { cancel(); _ = ln.Close(); <-done })
	return fetch(ctx, DialIn(l.Tenant), addr)
}

// Fetched is how many downloads the honest tenant has completed.
func (l *Lab) Fetched() int64 { return l.fetched.Load() }

const pageSize = 200_000

func serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			b := make([]byte, 16)
			if _, err := io.ReadFull(c, b); err == nil {
				_, _ = c.Write(make([]byte, pageSize))
			}
		}()
	}
}

func fetch(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := dial(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write(make([]byte, 16)); err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, c)
	if err == nil && n != pageSize {
		err = errors.New("short answer")
	}
	return err
}

// banner reads the 12 bytes that an RFB server sends first.
func (l *Lab) banner(addr string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := DialIn(l.Node)(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 12)
	_, err = io.ReadFull(c, b)
	return strings.TrimSpace(string(b)), err
}
