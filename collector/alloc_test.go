package collector

import (
	"encoding/binary"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/collector/aggregate"
)

// TestSteadyStateDoesNotAllocate sends the same hosts over and over: once their
// tables are there, no record allocates anything on its way from the socket to
// its window, whether the reader aggregates or workers do.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	const perDatagram = 30
	var netflow5, netflow9 [][]byte
	netflow9 = append(netflow9, v9(0, 1, v9Template()))
	for i := range 2000 {
		tenant := fmt.Sprintf("198.18.%d.%d", i/250, i%250)
		netflow5 = append(netflow5, v5(uint32(i*perDatagram), tenant, perDatagram))
		set := []byte{300 >> 8, 300 & 0xff, 0, 0}
		for range perDatagram {
			set = append(set, v9Data(tenant)[4:26]...)
		}
		binary.BigEndian.PutUint16(set[2:], uint16(len(set)))
		netflow9 = append(netflow9, v9(uint32(1+i), perDatagram, set))
	}
	for _, workers := range []int{1, 4} {
		for name, datagrams := range map[string][][]byte{"v5": netflow5, "v9": netflow9} {
			h := start(t, func(c *Config, d *Deps) {
				c.Workers, d.Sink = workers, discard{}
				c.Aggregate.FlowPolicy = aggregate.FlowOff
			})
			conn, err := net.Dial("udp", h.Addrs()[0].String())
			if err != nil {
				t.Fatal(err)
			}
			received := func() (n uint64) {
				for _, r := range h.readers {
					n += r.counts.received.Load()
				}
				return n
			}
			send := func() {
				from := received()
				for i, d := range datagrams {
					if _, err := conn.Write(d); err != nil {
						t.Fatal(err)
					}
					for received()+512 < from+uint64(i) { // within the kernel's buffer
						time.Sleep(time.Millisecond)
					}
				}
				h.Flush()
			}
			send()
			send()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			send()
			runtime.ReadMemStats(&after)
			if got := float64(after.Mallocs-before.Mallocs) / float64(len(datagrams)*perDatagram); got > 0.01 {
				t.Errorf("%s, %d workers: %.4f allocations a record", name, workers, got)
			}
			if got := h.totals().agg.Aggregated; got != uint64(3*2000*perDatagram) {
				t.Errorf("%s, %d workers: %d records aggregated", name, workers, got)
			}
			_ = conn.Close()
			h.stop()
		}
	}
}
