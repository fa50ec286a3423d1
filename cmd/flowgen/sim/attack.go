package sim

import (
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// The attacks' shapes, after those of docs/detection.md §10: A1 and A11.
const (
	scanSYN   = 44  // masscan's SYN carries the MSS only
	scanTTL   = 254 // it starts at 255
	floodSize = 1228
	floodPort = 9987
)

// FloodVictim is whom the flooder attacks.
var FloodVictim = netip.AddrFrom4([4]byte{26, 77, 13, 5})

// attacks lets the two attackers send what is due between two moments. An
// attacker whose link is down sends nothing, and does not catch up later.
func (w *World) attacks(from, to int64) {
	if w.attack == 0 || to <= w.attack {
		return
	}
	from = max(from, w.attack)
	if !w.Scanner.down && !w.Scanner.clean {
		w.scan(from, to)
	}
	if !w.Flooder.down && !w.Flooder.clean {
		w.flood(from, to)
	}
}

// due is the number of events of a rate between two moments, so that the sum
// over consecutive intervals is exact.
func (w *World) due(rate float64, from, to int64) uint64 {
	n := func(t int64) uint64 { return uint64(float64(t-w.attack) * rate / 1e9) }
	return n(to) - n(from)
}

// scan sends raw SYNs to random hosts on port 22. One in a hundred is open: it
// answers, and the scanner's kernel, which knows nothing of the SYN, resets.
// One in ten refuses.
func (w *World) scan(from, to int64) {
	n := w.due(w.cfg.ScanRate, from, to)
	for i := range n {
		k := talk{
			tenant: w.Scanner, local: w.Scanner.Addr, remote: w.remote4(), lport: w.ephemeral(), rport: 22,
			proto: flow.ProtoTCP, client: true, outcome: dead, attack: true, ttlOut: scanTTL, ttlIn: 50,
			start: from + (to-from)*int64(i)/int64(n),
			out:   volume{packets: 1, bytes: scanSYN, flags: flow.SYN, first: flow.SYN},
		}
		switch x := w.rng.IntN(100); {
		case x < 1:
			k.outcome, k.dur = answered, int64(80*time.Millisecond)
			k.out = volume{packets: 2, bytes: scanSYN + rstLen, flags: flow.SYN | flow.RST, first: flow.SYN}
			k.in = volume{packets: 1, bytes: scanSYN, flags: flow.SYN | flow.ACK, first: flow.SYN | flow.ACK}
		case x < 11:
			k.outcome, k.dur = refused, int64(80*time.Millisecond)
			k.in = volume{packets: 1, bytes: rstLen, flags: flow.RST | flow.ACK, first: flow.RST | flow.ACK}
		}
		w.send(k)
	}
}

// flood sends UDP packets of one size to one host, which does not answer.
func (w *World) flood(from, to int64) {
	n := w.due(w.cfg.FloodRate, from, to)
	if n == 0 {
		return
	}
	w.send(talk{
		tenant: w.Flooder, local: w.Flooder.Addr, remote: FloodVictim, lport: 44321, rport: floodPort,
		proto: flow.ProtoUDP, client: true, outcome: dead, attack: true, ttlOut: 63,
		start: from, dur: to - from,
		out: volume{packets: n, bytes: n * floodSize},
	})
}

// torrentPorts are where BitTorrent peers listen: the old well-known range,
// one client's default, and any port at all.
func (w *World) torrentPort() uint16 {
	switch x := w.rng.IntN(10); {
	case x < 3:
		return uint16(6881 + w.rng.IntN(9))
	case x < 4:
		return 51413
	}
	return uint16(10000 + w.rng.IntN(55000))
}

// torrent is an honest host that looks like a scanner: it dials dozens of
// peers a second, most of whom have gone, and asks a hundred DHT nodes.
func (w *World) torrent(t *Tenant, k kind, at int64) {
	c := w.begin(t, at, k != torrentIn, flow.ProtoTCP)
	w.far(&c)
	switch k {
	case torrentDial:
		switch x := w.rng.IntN(100); {
		case x < 35:
		case x < 50:
			c.outcome = refused
		default:
			c.outcome = dead
		}
		w.tcp(c, w.torrentPort(), w.bytes(600, 3_000_000), w.bytes(600, 200_000), w.between(time.Second, 50*time.Second))
	case torrentIn:
		w.tcp(c, 6881, w.bytes(500, 20_000), w.bytes(600, 3_000_000), w.between(time.Second, 50*time.Second))
	case torrentDHT:
		c.proto, c.lport = flow.ProtoUDP, 6881
		if w.rng.IntN(100) >= 40 {
			c.outcome = dead
		}
		w.udp(c, w.torrentPort(), 1, 28+100, 1, 28+280, 120*time.Millisecond)
	}
}
