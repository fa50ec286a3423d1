package report

import (
	"fmt"
	"math"
	"strings"
)

// What a machine is sized for.
const (
	// busy is how much of a core the collector may use on average: the rest is
	// for bursts, late routers and flushes.
	busy = 0.6
	// bridge is the pause, in seconds, that receive buffers must bridge: a
	// collector that the system does not run, or that flushes.
	bridge = 0.5
	// kernelBytes is what the kernel accounts for a datagram of 1,400 bytes.
	kernelBytes = 2304
	perDatagram = 25
)

// Sizing is the table of cores, memory, disk and buffers, from what the point
// cost.
func Sizing(p Point) string {
	var b strings.Builder
	b.WriteString("| records/s | collector cores | database cores | memory of the collector | disk a day, at most | receive buffers |\n|---|---|---|---|---|---|\n")
	for _, rate := range []float64{10_000, 100_000, 1e6, 10e6} {
		collector, database := rate*p.CPU/1e6/busy, rate*p.Engine/1e6/busy
		memory := p.Memory
		if collector > 1 { // tables are spread over cores, their slack is not
			memory = int64(float64(memory) * min(collector, 2))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %d MB | %s | %d MB |\n", grouped(rate), cores(collector), cores(database), memory>>20,
			volume(p.Disk*rate/1e6*86400), int(math.Ceil(rate/perDatagram*bridge*kernelBytes/1e6)))
	}
	return b.String()
}

// cores is a number of them, rounded up where it is more than one.
func cores(v float64) string {
	if v < 1 {
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.0f", math.Ceil(v))
}

// grouped writes thousands apart.
func grouped(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func volume(bytes float64) string {
	if bytes < 1e12 {
		return fmt.Sprintf("%.0f GB", math.Ceil(bytes/1e9))
	}
	return fmt.Sprintf("%.1f TB", bytes/1e12)
}
