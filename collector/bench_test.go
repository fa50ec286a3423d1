package collector

import (
	"context"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

type discard struct{}

func (discard) Write(*flow.Batch) error { return nil }

// BenchmarkLoopback takes NetFlow v5 datagrams of 30 records from a socket on
// loopback into windows. The sender keeps within the kernel's buffer, so that
// nothing is lost and the slower side sets the pace; cpu-s/Mrec has both.
func BenchmarkLoopback(b *testing.B) {
	cfg := testConfig()
	cfg.Workers = 1
	c, err := New(cfg, Deps{Sink: discard{}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	<-c.Ready()
	conn, err := net.Dial("udp", c.Addrs()[0].String())
	if err != nil {
		b.Fatal(err)
	}
	const records = 30
	datagram := v5(0, "198.18.0.1", records)
	sent := uint64(0)
	start := cpu(b)
	b.ReportAllocs()
	b.SetBytes(int64(len(datagram)))
	for b.Loop() {
		if _, err := conn.Write(datagram); err != nil {
			b.Fatal(err)
		}
		sent++
		for sent-c.counts.received.Load() > 512 {
			runtime.Gosched()
		}
	}
	c.Flush()
	used := cpu(b) - start
	b.ReportMetric(float64(sent*records)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(used.Seconds()/float64(sent*records)*1e6, "cpu-s/Mrec")
	if got := c.counts.received.Load(); got != sent {
		b.Errorf("received %d of %d", got, sent)
	}
	_ = conn.Close()
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
