package collector

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/flowcordon/flowcordon/collector/decode"
)

// openOne binds one socket and maps memory for it.
func openOne(t *testing.T, address string, maxDatagram int) (*group, *batch) {
	t.Helper()
	g, err := openGroup(context.Background(), 0, Listen{decode.KindNetFlow, address}, 1, 4<<20, attachSteering)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBatch(maxDatagram)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(g.close(), b.free()); err != nil {
			t.Error(err)
		}
	})
	return g, b
}

func TestBatchKeepsDatagramsApart(t *testing.T) {
	g, b := openOne(t, "[::]:0", DefaultMaxDatagram)
	if _, err := recvmmsg(g.sockets[0], b); !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("an empty socket: %v", err)
	}
	type sent struct {
		from netip.Addr
		n    int
	}
	var all []sent
	for i, n := range []int{0, 1, 1464, 9000, 60_000, 65_507, 1500, 4096} {
		all = append(all, sent{netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}), n}, sent{netip.IPv6Loopback(), n})
	}
	for round := range 3 { // slots are used again
		for i, s := range all {
			sendFrom(t, s.from, g.addr, bytes.Repeat([]byte{byte(round + i)}, s.n))
		}
		n, err := recvmmsg(g.sockets[0], b)
		if err != nil || n != len(all) {
			t.Fatalf("%d datagrams of %d, %v", n, len(all), err)
		}
		for i, s := range all {
			if got := b.sender(i); got.Addr() != s.from || got.Port() == 0 {
				t.Errorf("datagram %d is from %s, not %s", i, got, s.from)
			}
			if p := b.payload(i); b.truncated(i) || !bytes.Equal(p, bytes.Repeat([]byte{byte(round + i)}, s.n)) {
				t.Errorf("datagram %d: %d bytes of %d, or other ones", i, len(p), s.n)
			}
		}
		b.reset(n)
	}
}

func TestTruncationIsSeen(t *testing.T) {
	g, b := openOne(t, "127.0.0.1:0", 2000)
	for i, n := range []int{1999, 2000, 2001, 60_000, 2000} {
		sendFrom(t, netip.MustParseAddr("127.0.0.1"), g.addr, make([]byte, n))
		if got, err := recvmmsg(g.sockets[0], b); got != 1 || err != nil {
			t.Fatalf("%d, %v", got, err)
		}
		if got := b.truncated(0); got != (n > 2000) || len(b.payload(0)) != min(n, 2000) {
			t.Errorf("%d: %d bytes: truncated is %t, %d bytes taken", i, n, got, len(b.payload(0)))
		}
		b.reset(1)
	}
}

func TestBatchIsFilledAndDropsAreTold(t *testing.T) {
	g, err := openGroup(context.Background(), 0, Listen{decode.KindNetFlow, "127.0.0.1:0"}, 1, 1, attachSteering)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBatch(2000)
	if err != nil {
		t.Fatal(err)
	}
	const sent = 200
	send := func(n int) {
		for range n {
			sendFrom(t, netip.MustParseAddr("127.0.0.1"), g.addr, make([]byte, 100))
		}
	}
	receive := func() (n int, drops uint32) {
		for {
			got, err := recvmmsg(g.sockets[0], b)
			if errors.Is(err, unix.EAGAIN) {
				return n, drops
			}
			if err != nil {
				t.Fatal(err)
			}
			if d, ok := b.kernelDrops(got); ok {
				drops = d
			}
			b.reset(got)
			n += got
		}
	}
	send(1)
	if n, drops := receive(); n != 1 || drops != 0 {
		t.Errorf("%d received, %d dropped", n, drops)
	}
	send(sent)
	n, _ := receive()
	send(1) // brings the count
	if m, drops := receive(); m != 1 || n == 0 || int(drops) != sent-n {
		t.Errorf("%d of %d received, %d dropped by the kernel's count", n, sent, drops)
	}
	if err := errors.Join(g.close(), b.free()); err != nil {
		t.Error(err)
	}

	g, b = openOne(t, "127.0.0.1:0", 2000)
	for range batchSize + 10 {
		sendFrom(t, netip.MustParseAddr("127.0.0.1"), g.addr, make([]byte, 100))
	}
	if n, err := recvmmsg(g.sockets[0], b); n != batchSize || err != nil {
		t.Errorf("%d in the first batch, %v", n, err)
	}
	b.reset(batchSize)
	if n, err := recvmmsg(g.sockets[0], b); n != 10 || err != nil {
		t.Errorf("%d in the second batch, %v", n, err)
	}
}
