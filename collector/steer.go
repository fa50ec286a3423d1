package collector

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// All sockets of one listen address share its port. Left alone, the kernel
// spreads datagrams by both addresses and both ports, and a router's line cards
// send from several ports: its templates would be in one decoder and its data
// in another. A classic BPF program (socket(7), SO_ATTACH_REUSEPORT_CBPF) picks
// the socket by the sender's address alone.

// steer returns which of n lanes takes an exporter's datagrams. The program of
// steering computes the same in the kernel; both change together.
func steer(addr netip.Addr, n int) int {
	if n == 1 {
		return 0
	}
	var h uint32
	if addr = addr.Unmap(); addr.Is4() {
		b := addr.As4()
		h = binary.BigEndian.Uint32(b[:])
	} else {
		b := addr.As16()
		for i := 0; i < len(b); i += 4 {
			h = h*steerFold ^ binary.BigEndian.Uint32(b[i:])
		}
	}
	h ^= h >> 16
	h *= steerMix
	h ^= h >> 15
	return int(h % uint32(n))
}

// Odd constants with well-spread bits (xxHash's first prime, MurmurHash3's
// finalizer). Who could choose colliding addresses gains nothing but a busy lane.
const (
	steerFold = 0x9e3779b1
	steerMix  = 0x85ebca6b
)

// Offsets into the packet as the program sees it: from its network header,
// whatever lies before it (linux/filter.h, SKF_NET_OFF; RFC 791 §3.1, RFC 8200 §3).
const (
	netOff    = 0xfff00000 // SKF_NET_OFF, -0x100000
	offSource = netOff + 12
	offSrcV6  = netOff + 8
)

// steering is the program: steer in classic BPF, A and X its two registers. A
// dual-stack socket gets IPv4 packets as such, so mapped addresses do not occur.
func steering(n int) []unix.SockFilter {
	stmt := func(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		loadB = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		alu   = unix.BPF_ALU | unix.BPF_K
		xorX  = unix.BPF_ALU | unix.BPF_XOR | unix.BPF_X
		tax   = unix.BPF_MISC | unix.BPF_TAX
	)
	v6 := []unix.SockFilter{stmt(load, offSrcV6)}
	for i := uint32(4); i < 16; i += 4 {
		v6 = append(v6, stmt(alu|unix.BPF_MUL, steerFold), stmt(tax, 0), stmt(load, offSrcV6+i), stmt(xorX, 0))
	}
	v4 := []unix.SockFilter{stmt(load, offSource), stmt(unix.BPF_JMP|unix.BPF_JA, uint32(len(v6)))}
	p := []unix.SockFilter{
		stmt(loadB, netOff), stmt(alu|unix.BPF_RSH, 4), // the IP version
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(v4)), K: 6},
	}
	p = append(append(p, v4...), v6...)
	return append(p,
		stmt(tax, 0), stmt(alu|unix.BPF_RSH, 16), stmt(xorX, 0),
		stmt(alu|unix.BPF_MUL, steerMix),
		stmt(tax, 0), stmt(alu|unix.BPF_RSH, 15), stmt(xorX, 0),
		stmt(alu|unix.BPF_MOD, uint32(n)),
		stmt(unix.BPF_RET|unix.BPF_A, 0))
}

// attachSteering gives the group of n sockets that fd belongs to its program.
func attachSteering(fd, n int) error {
	if err := attach(fd, unix.SO_ATTACH_REUSEPORT_CBPF, steering(n)); err != nil {
		return fmt.Errorf("attach the program that spreads exporters over sockets: %w", err)
	}
	return nil
}

// refuseAll lets the kernel drop all that comes from now on; what it has
// already stays to be read.
func refuseAll(fd int) error {
	return attach(fd, unix.SO_ATTACH_FILTER, []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}})
}

func attach(fd, option int, p []unix.SockFilter) error {
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, option, &unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]})
}
