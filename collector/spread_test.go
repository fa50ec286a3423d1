package collector

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/flowcordon/flowcordon/flow"
)

// sendSteadily sends datagrams round by round and never more than the kernel's
// buffer holds.
func (h *harness) sendSteadily(rounds int, from []string, datagram func(i int) []byte) (records uint64) {
	h.t.Helper()
	var conns []net.Conn
	for _, addr := range from {
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(addr)}, h.Addrs()[0].(*net.UDPAddr))
		if err != nil {
			h.t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	before := h.totals()
	sent := uint64(0)
	for i := range rounds {
		for _, c := range conns {
			if _, err := c.Write(datagram(i)); err != nil {
				h.t.Fatal(err)
			}
			if sent++; sent%256 == 0 {
				h.eventually("all read", func() bool { return h.totals().received-before.received == sent })
			}
		}
	}
	h.Flush()
	h.checkSum()
	after := h.totals()
	if got := after.received - before.received; got != sent {
		h.t.Errorf("%d datagrams of %d received", got, sent)
	}
	return after.records - before.records
}

// shares are the parts of the whole that counts are.
func shares(counts []uint64) (out []float64) {
	sum := uint64(0)
	for _, n := range counts {
		sum += n
	}
	for _, n := range counts {
		out = append(out, float64(n)/float64(sum))
	}
	return out
}

func checkShares(t *testing.T, what string, counts []uint64, least, most float64) {
	t.Helper()
	for i, s := range shares(counts) {
		if s < least || s > most {
			t.Errorf("%s %d has %.0f %%, want %.0f to %.0f: %v", what, i, 100*s, 100*least, 100*most, counts)
		}
	}
}

// TestOneExporterSpreads: the heavier part, aggregation, uses all shards even if
// a single router sends everything, which one decoder must take.
func TestOneExporterSpreads(t *testing.T) {
	h := start(t, func(c *Config, _ *Deps) { c.Workers = 4 })
	datagrams := make([][]byte, 64)
	for i := range datagrams {
		datagrams[i] = v5(0, fmt.Sprintf("198.18.7.%d", i), 30)
	}
	records := h.sendSteadily(640, []string{"127.0.0.1"}, func(i int) []byte { return datagrams[i%len(datagrams)] })
	var aggregated, decoded []uint64
	for _, s := range h.shards {
		aggregated = append(aggregated, s.stats().Aggregated)
	}
	checkShares(t, "shard", aggregated, 0.10, 0.45)
	for _, l := range h.lanes {
		dec, _ := l.stats()
		decoded = append(decoded, dec.Decoded)
	}
	if decoded[steer(netip.MustParseAddr("127.0.0.1"), 4)] != 640 || records != 640*30 {
		t.Errorf("%d records, decoded by %v", records, decoded)
	}
}

// TestFullBlocksGoToWorkers: a busy reader leaves aggregation to the others, and
// Flush waits until they have done it.
func TestFullBlocksGoToWorkers(t *testing.T) {
	cfg := testConfig()
	cfg.Workers = 4
	sink := &keeper{}
	c, err := New(cfg, Deps{Sink: sink})
	if err != nil {
		t.Fatal(err)
	}
	var rs []flow.Record
	for i := range 4 * blockItems {
		now := time.Now().UnixNano()
		rs = append(rs, flow.Record{
			Exporter: netip.MustParseAddr("127.0.0.1"), Received: now, Start: now, End: now, SamplingRate: 1, Packets: 1, Bytes: 40,
			Src: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), Dst: netip.MustParseAddr("9.9.9.9"),
		})
	}
	for range 4 {
		c.lanes[0].route(rs)
	}
	for i, s := range c.shards {
		if n := len(s.full); n < 2 || int64(n) != s.queued.Load() || s.stats().Aggregated != 0 {
			t.Errorf("shard %d: %d blocks wait, %d counted, %d aggregated before any worker runs", i, n, s.queued.Load(), s.stats().Aggregated)
		}
	}
	s := c.shards[0]
	drained := make(chan struct{})
	go func() { s.drain(); close(drained) }()
	s.mu.Lock()
	done := make(chan struct{})
	go func() { s.work(); close(done) }()
	select {
	case <-drained:
		t.Error("drained while a block is with the worker")
	case <-time.After(20 * time.Millisecond):
	}
	s.mu.Unlock()
	<-drained
	if s.stats().Aggregated == 0 || s.queued.Load() != 0 {
		t.Error("drained, but not aggregated")
	}
	close(s.full)
	<-done
}

// TestExportersSpread: each of many exporters meets one reader, whatever port it
// sends from, and all readers have their share.
func TestExportersSpread(t *testing.T) {
	h := start(t, func(c *Config, _ *Deps) { c.Workers = 4 })
	var from []string
	for i := range 64 {
		from = append(from, fmt.Sprintf("127.0.%d.%d", i/8, 1+i))
	}
	h.sendSteadily(10, from, func(i int) []byte { return v5(uint32(30*i), "198.18.0.1", 30) })
	h.sendSteadily(10, from, func(i int) []byte { return v5(uint32(30*(10+i)), "198.18.0.1", 30) }) // from other ports
	var received []uint64
	for _, r := range h.readers {
		received = append(received, r.counts.received.Load())
	}
	checkShares(t, "reader", received, 0.10, 0.40)
	for i, l := range h.lanes {
		if h.readers[i].lane != l {
			t.Errorf("reader %d has another lane of its own", i)
		}
		dec, _ := l.stats()
		if dec.Decoded != received[i] {
			t.Errorf("reader %d received %d datagrams, its lane decoded %d", i, received[i], dec.Decoded)
		}
		for addr, e := range dec.Exporters {
			if e.Lost != 0 || steer(addr, 4) != i {
				t.Errorf("lane %d: %s lost %d", i, addr, e.Lost)
			}
		}
	}
}

// TestUnsteeredDatagrams: where the kernel goes by source ports, as it does for
// the first moments, an exporter's datagrams meet several readers and one decoder.
func TestUnsteeredDatagrams(t *testing.T) {
	h := startWith(t, func(c *Collector) { c.steer = func(int, int) error { return nil } },
		func(c *Config, _ *Deps) { c.Workers = 4 })
	h.send(0, "127.0.0.1", v9(0, 1, v9Template()))
	h.Flush()
	const sent = 64
	for i := range sent {
		h.send(0, "127.0.0.1", v9(uint32(1+i), 1, v9Data("198.18.0.1")))
	}
	h.Flush()
	if got := h.sink.sums()[netip.MustParseAddr("198.18.0.1")].OutRecords; got != sent {
		t.Errorf("%d records of %d understood", got, sent)
	}
	busy := 0
	for _, r := range h.readers {
		if r.counts.received.Load() > 0 {
			busy++
		}
	}
	if busy < 2 {
		t.Errorf("%d readers received: the test shows nothing", busy)
	}
	h.checkSum()
}

// TestNoSteering: a kernel without it leaves one socket, and says so.
func TestNoSteering(t *testing.T) {
	h := startWith(t, func(c *Collector) { c.steer = func(int, int) error { return unix.ENOPROTOOPT } },
		func(c *Config, _ *Deps) { c.Workers = 4 })
	if n := h.logs.FilterLevelExact(zap.WarnLevel).FilterMessageSnippet("several sockets").Len(); n != 1 {
		t.Errorf("%d warnings", n)
	}
	if got := h.metric("sockets"); got != 1 {
		t.Errorf("%g sockets", got)
	}
	for i := range 8 {
		h.send(0, fmt.Sprintf("127.0.0.%d", 1+i), v5(0, "198.18.0.1", 30))
	}
	h.Flush()
	if got := h.sink.sums()[netip.MustParseAddr("198.18.0.1")].OutRecords; got != 8*30 {
		t.Errorf("%d records of %d", got, 8*30)
	}
	h.checkSum()
}

// TestPortIsNotShared: SO_REUSEPORT must not let two collectors, or two entries,
// have the same port, each with a part of the datagrams.
func TestPortIsNotShared(t *testing.T) {
	for _, workers := range []int{1, 4} {
		h := start(t, func(c *Config, _ *Deps) { c.Workers = workers })
		cfg := testConfig()
		cfg.Workers = 4
		cfg.Listen[0].Address = h.Addrs()[0].String()
		c, err := New(cfg, Deps{Sink: &keeper{}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Run(t.Context()); err == nil {
			t.Errorf("%d workers: the port was taken twice", workers)
		}
	}
}

// TestFullShardHoldsReadersBack: what a shard has no blocks for waits in the
// kernel, and only there is anything dropped, counted.
func TestFullShardHoldsReadersBack(t *testing.T) {
	h := start(t, func(c *Config, _ *Deps) { c.Workers, c.ReadBuffer = 2, 64<<10 })
	for _, s := range h.shards {
		s.mu.Lock()
	}
	const sent = 3000 // 90,000 records: over what blocks and buffer hold
	datagrams := [][]byte{v5(0, "198.18.0.1", 30), v5(0, "198.18.0.2", 30), v5(0, "198.18.0.3", 30), v5(0, "198.18.0.4", 30)}
	for i := range sent {
		h.send(0, "127.0.0.1", datagrams[i%len(datagrams)])
	}
	waits := func() (n uint64) {
		for _, s := range h.shards {
			n += s.waits.Load()
		}
		return n
	}
	h.eventually("a reader waits", func() bool { return waits() > 0 })
	for _, s := range h.shards {
		s.mu.Unlock()
	}
	h.Flush()
	h.send(0, "127.0.0.1", datagrams[0]) // brings the kernel's count
	h.Flush()
	received, dropped := h.metric("datagrams_total"), h.metric("kernel_drops_total")
	if dropped == 0 || received+dropped != sent+1 {
		t.Errorf("received %g, dropped by the kernel %g, sent %d", received, dropped, sent+1)
	}
	h.checkSum()
}
