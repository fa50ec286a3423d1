package machine

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// UDP is the state of all UDP sockets that are bound to a port.
type UDP struct {
	Sockets int
	Queued  int64 // bytes that wait to be read, in the kernel's accounting
	Drops   uint64
}

// UDPPort reads what the kernel counts of a local port, over both families.
func UDPPort(port uint16) (UDP, error) {
	var u UDP
	for _, name := range []string{"/proc/net/udp", "/proc/net/udp6"} {
		b, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue // no IPv6 here
		}
		if err != nil {
			return u, err
		}
		if err := u.add(string(b), port); err != nil {
			return u, fmt.Errorf("%s: %w", name, err)
		}
	}
	return u, nil
}

// add reads lines as in proc(5): sl local_address rem_address st
// tx_queue:rx_queue … drops.
func (u *UDP) add(text string, port uint16) error {
	want := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 5 || !strings.HasSuffix(f[1], want) {
			continue
		}
		_, rx, _ := strings.Cut(f[4], ":")
		queued, err1 := strconv.ParseInt(rx, 16, 64)
		drops, err2 := strconv.ParseUint(f[len(f)-1], 10, 64)
		if err1 != nil || err2 != nil {
			return fmt.Errorf("line %q", line)
		}
		u.Sockets++
		u.Queued += queued
		u.Drops += drops
	}
	return nil
}

// BacklogDrops is what the kernel dropped before any socket: the second column
// of softnet_stat, over all CPUs.
func BacklogDrops() (uint64, error) {
	b, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		return 0, err
	}
	total := uint64(0)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, err := strconv.ParseUint(f[1], 16, 64)
		if err != nil {
			return 0, fmt.Errorf("softnet_stat: %w", err)
		}
		total += n
	}
	return total, nil
}
