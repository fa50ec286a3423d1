package decode_test

import (
	"net/netip"
	"strconv"
	"testing"

	"github.com/flowcordon/flowcordon/collector/decode"
)

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

// genFlowRecord is one flow record of a sample, whose length may lie.
func genFlowRecord(d *dice) []byte {
	var typ int
	var body []byte
	switch d.n(12) {
	case 0:
		typ, body = 2, cat(be32(d.n(2000)), d.bytes(6), d.bytes(6), be32(0x0800))
		if d.one(2) { // MAC addresses are opaque<6>, padded to 8 by some
			body = cat(be32(d.n(2000)), d.bytes(6), []byte{0, 0}, d.bytes(6), []byte{0, 0}, be32(0x0800))
		}
	case 1, 2, 3:
		n := 4
		typ = 3
		if d.one(2) {
			typ, n = 4, 16
		}
		body = cat(be32(pick(d, 0, 40, 1500, 70000)), be32(pick(d, 6, 17, 1, 58, 300)), d.bytes(2*n),
			be32(d.n(65536)), be32(pick(d, d.n(65536), 70000)), be32(d.n(512)), be32(d.n(256)))
	case 4:
		typ, body = 1001, cat(be32(pick(d, d.n(4096), 4096, 0)), be32(0), be32(d.n(4096)), be32(0))
	case 5:
		typ, body = pick(d, 1002, 1003, 1012, 4<<12|1, 1<<30), d.bytes(4*d.n(10))
	default:
		typ = 1
		proto := pick(d, 1, 1, 1, 1, 11, 12, 13, 7, 14, 5)
		var p []byte
		switch proto {
		case 13:
			p = genMPLS(d, 0)
		case 7, 14:
			p = genPPP(d, 0)
		default:
			p = genPacket(d, proto == 1)
		}
		p = p[:min(len(p), 256)]
		n := len(p)
		if d.one(12) {
			n = pick(d, 0, n-1, n+1, n+40, 1<<31)
		}
		frame := pick(d, len(p)+4, 1518, 0)
		body = cat(be32(proto), be32(frame), be32(pick(d, 4, 4, 0, 5000)), be32(n), p, make([]byte, -len(p)&3))
	}
	if d.one(15) {
		body = body[:d.n(len(body)+1)]
	}
	n := len(body)
	if d.one(25) {
		n = pick(d, 0, n-1, n+1, n+8, 1<<32-4)
	}
	return cat(be32(typ), be32(n), body)
}

func genSample(d *dice) []byte {
	var recs []byte
	n := d.n(4)
	for range n {
		recs = cat(recs, genFlowRecord(d))
	}
	if d.one(20) {
		n = pick(d, n+1, n-1, 1<<32-1, 1024, 1025)
	}
	rate := pick(d, 1, 1000, 0, 1_000_000, 1_000_001)
	ifs := func() int { return pick(d, d.n(100), 0, 0x3fffffff, 0x40000000|d.n(100), 0x80000000|d.n(10)) }
	var typ int
	var body []byte
	switch d.n(10) {
	case 0:
		typ, body = pick(d, 2, 4), d.bytes(4*d.n(12))
	case 1:
		typ, body = 5, cat(be32(1), be32(0), be32(3), be32(0), be32(ifs()), be32(ifs()), be32(pick(d, 1, 288, 700)), be32(n), recs)
	case 2, 3, 4:
		typ = 3
		body = cat(be32(1), be32(0), be32(3), be32(rate), d.bytes(4), be32(0),
			be32(pick(d, 0, 0, 1)), be32(ifs()), be32(pick(d, 0, 0, 2)), be32(ifs()), be32(n), recs)
	case 5:
		typ, body = pick(d, 0, 6, 4413<<12|1), d.bytes(4*d.n(8))
	default:
		typ, body = 1, cat(be32(1), be32(3), be32(rate), d.bytes(4), be32(0), be32(ifs()), be32(ifs()), be32(n), recs)
	}
	size := len(body)
	if d.one(20) {
		body = body[:d.n(len(body)+1)]
		size = len(body)
	}
	if d.one(40) {
		size = pick(d, 0, size-1, size+4, 1<<32-4)
	}
	return cat(be32(typ), be32(size), body)
}

func runSFlowCase(p *pair, d *dice) {
	for i := range 1 + d.n(3) {
		agent := pick(d, cat(be32(1), d.bytes(4)), cat(be32(2), d.bytes(16)), be32(0), cat(be32(1), []byte{10, 0, 0, 1}))
		if d.one(40) {
			agent = cat(be32(d.n(5)), d.bytes(d.n(20)))
		}
		var samples []byte
		n := d.n(5)
		for range n {
			samples = cat(samples, genSample(d))
		}
		if d.one(20) {
			n = pick(d, n+1, 0, 1<<32-1)
		}
		b := cat(be32(5), agent, be32(d.n(3)), be32(i), be32(1000), be32(n), samples)
		if d.one(20) {
			b = b[:d.n(len(b)+1)]
		}
		got := p.decode(decode.Datagram{Exporter: netip.MustParseAddrPort("192.0.2.9:6343"), Received: genNow, Payload: b, Kind: decode.KindSFlow})
		for i := range got {
			if got[i].Src.IsValid() {
				p.found++
			}
		}
		if d.over {
			break
		}
	}
	p.end()
}

func TestDiffRandomSFlow(t *testing.T) {
	n := netflowCases
	if testing.Short() {
		n /= 10
	}
	var datagrams, records, found int
	for seed := range uint64(n) {
		d := newDice(1<<32 + seed)
		p := newPair(t, "seed "+itoa(seed), genConfig(d))
		runSFlowCase(p, d)
		datagrams += p.datagrams
		records += p.records
		found += p.found
		if t.Failed() {
			break
		}
	}
	t.Logf("%d cases: %d datagrams, %d records equal, %d of them with addresses", n, datagrams, records, found)
	if !t.Failed() && (records < 2*n || found < n) {
		t.Error("the generator makes too little that can be compared")
	}
}
