package decode_test

import (
	"testing"

	"github.com/flowcordon/flowcordon/collector/decode"
)

// runNetFlowCase makes a case of the choices and holds that decoder and
// reference agree on it.
func runNetFlowCase(p *pair, d *dice) {
	g := &generator{dice: d, version: 9 + d.n(2), defs: map[[2]int]*genTemplate{}}
	for range 2 + d.n(6) {
		domain := g.domain()
		var sets [][]byte
		for range 1 + d.n(5) {
			sets = append(sets, g.action(domain))
		}
		p.decode(decode.Datagram{
			Exporter: genExporters[d.n(4)/2*d.n(3)], Received: genNow + int64(g.seq)*1e6,
			Payload: g.datagram(domain, sets...), Kind: decode.KindNetFlow,
		})
		if d.over {
			break
		}
	}
	p.end()
}

// action is one set: a template, new or known or changed, data whether or not
// its template was sent, a withdrawal, or nonsense.
func (g *generator) action(domain int) []byte {
	k := [2]int{domain, 256 + g.n(4)}
	t := g.defs[k]
	if t == nil {
		t = g.template(k[1])
		g.defs[k] = t
		if !g.one(4) {
			return g.templateSet(t)
		}
	}
	switch g.n(16) {
	case 0: // redefined, and sent at once or not
		g.defs[k] = g.template(k[1])
		return g.templateSet(pick(g.dice, t, g.defs[k]))
	case 1, 2:
		ts := []*genTemplate{t}
		for id := range 4 {
			if u := g.defs[[2]int{domain, 256 + id}]; u != nil && g.one(2) {
				ts = append(ts, u)
			}
		}
		return g.templateSet(ts...)
	case 3:
		if g.version == 10 { // withdrawal: of one, of all, of nothing
			id := pick(g.dice, k[1], k[1], 2, 3, 77)
			return g.set(pick(g.dice, 2, 3), cat(be16(id), be16(0)))
		}
		return g.set(g.n(256), g.bytes(g.n(20)))
	case 4:
		return g.set(g.n(300), g.bytes(g.n(40)))
	}
	return g.dataSet(t)
}

// netflowCases is how many random cases each run of the tests holds.
const netflowCases = 20_000

func TestDiffRandomNetFlow(t *testing.T) {
	n := netflowCases
	if testing.Short() {
		n /= 10
	}
	var datagrams, records, options, templates int
	for seed := range uint64(n) {
		d := newDice(seed)
		p := newPair(t, "seed "+itoa(seed), genConfig(d))
		runNetFlowCase(p, d)
		datagrams += p.datagrams
		records += p.records
		options += p.ref.n["options"]
		templates += p.ref.n["templates"]
		if t.Failed() {
			break
		}
	}
	t.Logf("%d cases: %d datagrams, %d templates, %d options records, %d records equal", n, datagrams, templates, options, records)
	if !t.Failed() && (records < 5*n || options < n || templates < 2*n) {
		t.Error("the generator makes too little that can be compared")
	}
}

// runNetFlow5Case: headers and records of v5, counts that lie included.
func runNetFlow5Case(p *pair, d *dice) {
	for i := range 1 + d.n(3) {
		var recs []byte
		n := pick(d, 1, 2, 30, 31, d.n(70))
		for range n {
			first := genUptime - d.n(65536)
			last := first + pick(d, d.n(2000), d.n(2000), d.n(2000), -1, 1<<31)
			port := pick(d, d.n(65536), 0)
			recs = cat(recs, d.bytes(12), be16(d.n(3)), be16(d.n(65536)), be(uint64(d.n(9)), 4), d.bytes(4), be32(first), be32(last),
				be16(port), be16(pick(d, port, d.n(65536))), []byte{0, d.byte(), pick[byte](d, 6, 17, 1, 58, 47, d.byte()), 0}, make([]byte, 8))
		}
		if d.one(10) {
			n = pick(d, 0, n+1, n-1, 65535)
		}
		b := cat(be16(5), be16(n), be32(genUptime+d.n(1000)), be32(int(genNow/1e9)+pick(d, 0, 0, -100, 400, -1_800_000_000)), be32(pick(d, d.n(1e9), 1<<32-1)),
			be32(i), be16(d.n(3)), be16(d.n(65536)), recs)
		if d.one(10) {
			b = pick(d, b[:d.n(len(b)+1)], append(b, 1, 2, 3))
		}
		p.decode(decode.Datagram{Exporter: genExporters[0], Received: genNow, Payload: b, Kind: decode.KindNetFlow})
		if d.over {
			break
		}
	}
	p.end()
}

func TestDiffRandomNetFlow5(t *testing.T) {
	n := netflowCases / 10
	records := 0
	for seed := range uint64(n) {
		d := newDice(1<<33 + seed)
		p := newPair(t, "seed "+itoa(seed), genConfig(d))
		runNetFlow5Case(p, d)
		records += p.records
		if t.Failed() {
			break
		}
	}
	t.Logf("%d cases: %d records equal", n, records)
	if !t.Failed() && records < 20*n {
		t.Error("the generator makes too little that can be compared")
	}
}
