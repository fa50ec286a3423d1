package sim

import (
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// kind is one sort of thing that tenants do, or that is done to them.
type kind uint8

const (
	webIn kind = iota
	apiOut
	dnsOut
	dnsIn
	mailIn
	mailOut
	imapIn
	sshIn
	gitOut
	pingOut
	gameIn
	crawlOut
	backupOut
	ntpOut
	noiseIn
	bruteIn
	torrentDial
	torrentDHT
	torrentIn
	kindEnd
)

var kinds = func() (all []kind) {
	for k := range kindEnd {
		all = append(all, k)
	}
	return all
}()

// act lets tenant t do one thing of kind k at a moment.
func (w *World) act(t *Tenant, k kind, at int64) {
	switch k {
	case webIn, mailIn, imapIn, sshIn, bruteIn, noiseIn:
		w.served(t, k, at)
	case apiOut, mailOut, gitOut, crawlOut, backupOut:
		w.dialled(t, k, at)
	case dnsOut, dnsIn, ntpOut, gameIn, pingOut:
		w.datagrams(t, k, at)
	case torrentDial, torrentDHT, torrentIn:
		w.torrent(t, k, at)
	default:
		panic("sim: kind without an act")
	}
}

func (w *World) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo)))
}

// bytes is a size with the long tail that transfers have: mostly near lo,
// seldom up to hi.
func (w *World) bytes(lo, hi uint64) uint64 {
	x := w.rng.Float64()
	return lo + uint64(float64(hi-lo)*x*x*x*x)
}

// served is TCP that others began.
func (w *World) served(t *Tenant, k kind, at int64) {
	c := w.begin(t, at, false, flow.ProtoTCP)
	w.far(&c)
	switch k {
	case webIn:
		port := uint16(443)
		if w.rng.IntN(6) == 0 {
			port = 80
		}
		w.tcp(c, port, w.bytes(300, 4000), w.bytes(2000, 800_000), w.between(80*time.Millisecond, 12*time.Second))
	case mailIn:
		w.tcp(c, 25, w.bytes(1500, 200_000), 900, w.between(300*time.Millisecond, 5*time.Second))
	case imapIn:
		w.tcp(c, 993, w.bytes(800, 4000), w.bytes(2000, 100_000), w.between(time.Second, 40*time.Second))
	case sshIn:
		w.tcp(c, 22, w.bytes(5000, 60_000), w.bytes(8000, 400_000), w.between(5*time.Second, 100*time.Second))
	case bruteIn: // someone outside tries passwords
		w.tcp(c, 22, 1900, 2600, w.between(1500*time.Millisecond, 4*time.Second))
	case noiseIn: // background radiation: mostly dropped, some refused
		c.outcome = dead
		if w.rng.IntN(3) == 0 {
			c.outcome = refused
		}
		ports := [...]uint16{23, 22, 445, 3389, 8080, 5555, 6379, 2375}
		w.tcp(c, ports[w.rng.IntN(len(ports))], 0, 0, 0)
	}
}

// dialled is TCP that the tenant began.
func (w *World) dialled(t *Tenant, k kind, at int64) {
	c := w.begin(t, at, true, flow.ProtoTCP)
	w.far(&c)
	if c.local.Is4() && k != crawlOut {
		c.remote = w.popular[w.rng.IntN(len(w.popular))]
	}
	switch k {
	case apiOut:
		if w.rng.IntN(200) == 0 {
			c.outcome = dead
		}
		w.tcp(c, 443, w.bytes(500, 20_000), w.bytes(1000, 300_000), w.between(60*time.Millisecond, 3*time.Second))
	case mailOut:
		if c.local.Is4() {
			c.remote = w.mx[w.rng.IntN(len(w.mx))]
		}
		if w.rng.IntN(10) == 0 { // dead MX hosts are part of a mail server's day
			c.outcome = dead
		}
		w.tcp(c, 25, w.bytes(2000, 300_000), 1200, w.between(400*time.Millisecond, 6*time.Second))
	case gitOut:
		if c.local.Is4() {
			c.remote = w.popular[w.rng.IntN(3)]
		}
		w.tcp(c, 22, 6000, w.bytes(9000, 900_000), w.between(time.Second, 8*time.Second))
	case crawlOut:
		switch x := w.rng.IntN(100); {
		case x < 8:
			c.outcome = dead
		case x < 10:
			c.outcome = refused
		}
		w.tcp(c, 443, 900, w.bytes(4000, 400_000), w.between(200*time.Millisecond, 5*time.Second))
	case backupOut: // long enough for the active timeout to cut it in pieces
		w.tcp(c, 22, w.bytes(20<<20, 400<<20), 60_000, w.between(20*time.Second, 150*time.Second))
	}
}

// datagrams is UDP and ICMP.
func (w *World) datagrams(t *Tenant, k kind, at int64) {
	c := w.begin(t, at, k != dnsIn && k != gameIn, flow.ProtoUDP)
	w.far(&c)
	if c.client && c.local.Is4() {
		c.remote = w.popular[w.rng.IntN(4)]
	}
	header := uint64(28)
	if !c.local.Is4() {
		header = 48
	}
	rtt := w.between(time.Millisecond, 60*time.Millisecond)
	switch k {
	case dnsOut:
		if w.rng.IntN(100) == 0 {
			c.outcome = dead
		}
		w.udp(c, 53, 1, header+uint64(30+w.rng.IntN(30)), 1, header+uint64(60+w.rng.IntN(300)), rtt)
	case dnsIn:
		w.udp(c, 53, 1, header+uint64(30+w.rng.IntN(30)), 1, header+uint64(60+w.rng.IntN(200)), time.Millisecond)
	case ntpOut:
		w.udp(c, 123, 1, header+48, 1, header+48, rtt)
	case gameIn:
		n := uint64(200 + w.rng.IntN(1500))
		w.udp(c, 27015, n, header+80, n, header+220, w.between(10*time.Second, 90*time.Second))
	case pingOut:
		c.proto, c.icmpOut, c.icmpIn = flow.ProtoICMP, 8, 0
		if !c.local.Is4() {
			c.proto, c.icmpOut, c.icmpIn = flow.ProtoICMPv6, 128, 129
		}
		w.udp(c, 0, 4, header+56, 4, header+56, 3*time.Second)
	}
}
