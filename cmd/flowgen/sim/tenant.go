package sim

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Tenant is a customer's VM.
type Tenant struct {
	ID      string // customer
	VDS     string
	Addr    netip.Addr
	Addr6   netip.Addr // invalid: v4 only; each has a /64 of its own
	MAC     string
	Contact string
	Profile string // what the VM does, for people
	// Sent counts the packets that left the VM. A conversation's are counted
	// when it begins, an attack's one by one. LastSent is the time of the last.
	Sent     uint64
	LastSent time.Time
	// FirstExport and LastExport are when the first and last record or sample
	// of an attack's packets went out to the collector; zero for the others.
	FirstExport, LastExport time.Time

	hw     [6]byte
	router router
	off    bool // powered off: never sends, never answers
	acts   []activity
	down   bool
	clean  bool  // attacks no more
	cutAt  int64 // when the link last went down
}

// Down reports whether the link was down at the last tick.
func (t *Tenant) Down() bool { return t.down }

// activity is something that a tenant does at random moments.
type activity struct {
	kind kind
	mean float64 // ns between two
	next int64
}

// gap is the time to the next one: exponential, so that arrivals are Poisson.
func (a *activity) gap(r *rand.Rand) int64 { return int64(r.ExpFloat64()*a.mean) + 1 }

func (w *World) tenant(i int, profile string, r router) *Tenant {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 198<<24|18<<16+uint32(i)+10)
	t := &Tenant{
		ID: fmt.Sprintf("c-%d", 1000+i), VDS: fmt.Sprintf("vds-%d", 1000+i), Addr: netip.AddrFrom4(a),
		hw: [6]byte{0x52, 0x54, 0, byte(i >> 16), byte(i >> 8), byte(i)}, Profile: profile, router: r,
		Contact: fmt.Sprintf("owner-%d@customer.example", 1000+i),
	}
	t.MAC = fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", t.hw[0], t.hw[1], t.hw[2], t.hw[3], t.hw[4], t.hw[5])
	w.tenants = append(w.tenants, t)
	return t
}

func (t *Tenant) does(w *World, k kind, perSecond float64) {
	a := activity{kind: k, mean: 1e9 / perSecond}
	a.next = w.now + a.gap(w.rng)
	t.acts = append(t.acts, a)
}

// profile is an ordinary way of life of a VM with its share of the fleet.
type profile struct {
	name  string
	share float64
	acts  map[kind]float64 // per second, for a tenant of average size
}

// The fleet. Rates are for a small hoster's average VM; each tenant's are
// multiplied by its size, between a fifth and five times.
var profiles = []profile{
	{"web server", 0.46, map[kind]float64{webIn: 0.9, apiOut: 0.12, dnsOut: 0.15}},
	{"web shop with mail", 0.12, map[kind]float64{webIn: 1.2, mailIn: 0.1, mailOut: 0.06, dnsOut: 0.4, apiOut: 0.1}},
	{"mail server", 0.06, map[kind]float64{mailIn: 0.5, mailOut: 0.3, imapIn: 0.4, dnsOut: 1.2}},
	{"name server", 0.04, map[kind]float64{dnsIn: 6, sshIn: 0.005}},
	{"developer's machine", 0.12, map[kind]float64{sshIn: 0.03, gitOut: 0.05, apiOut: 0.3, dnsOut: 0.4, pingOut: 0.1}},
	{"game server", 0.04, map[kind]float64{gameIn: 0.2, dnsOut: 0.02}},
	{"crawler", 0.01, map[kind]float64{crawlOut: 6, dnsOut: 5}},
	{"backup client", 0.03, map[kind]float64{backupOut: 0.02, sshIn: 0.01, dnsOut: 0.05}},
	{"idle", 0.10, map[kind]float64{dnsOut: 0.02}},
	{"switched off", 0.02, nil},
}

// populate makes the fleet and the three tenants with a part to play.
func (w *World) populate() {
	for i := range w.cfg.Tenants {
		p := w.pick()
		t := w.tenant(i, p.name, router(i%2))
		size := 0.2 * math.Pow(25, w.rng.Float64())
		for _, k := range kinds { // in a fixed order: a map's would differ from run to run
			if rate, ok := p.acts[k]; ok {
				t.does(w, k, rate*size)
			}
		}
		t.off = p.acts == nil
		if !t.off {
			t.does(w, ntpOut, 1.0/64)
			if w.rng.IntN(4) == 0 {
				t.Addr6 = addr6(uint32(i))
			}
		}
		t.does(w, noiseIn, 0.05) // the Internet scans everyone
		t.does(w, bruteIn, 0.01)
	}
	n := w.cfg.Tenants
	w.Scanner = w.tenant(n, "web server, broken into: scans TCP/22", routerA)
	w.Flooder = w.tenant(n+1, "web server, broken into: floods by UDP", routerB)
	for _, t := range []*Tenant{w.Scanner, w.Flooder} {
		t.does(w, webIn, 0.8)
		t.does(w, dnsOut, 0.2)
		t.does(w, noiseIn, 0.05)
	}
	w.Honest = w.tenant(n+2, "seeds by BitTorrent", routerA)
	w.Honest.does(w, torrentDial, w.cfg.DialRate)
	w.Honest.does(w, torrentDHT, 100)
	w.Honest.does(w, torrentIn, 4)
	w.Honest.does(w, dnsOut, 0.3)
}

func (w *World) pick() *profile {
	x := w.rng.Float64()
	for i := range profiles {
		if x -= profiles[i].share; x < 0 {
			return &profiles[i]
		}
	}
	return &profiles[0]
}

func addr6(i uint32) netip.Addr {
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}
	binary.BigEndian.PutUint32(a[4:], i)
	return netip.AddrFrom16(a)
}

// remote4 is an address outside: in US military space that is allocated but
// carries no public service, so that a simulated attack names nobody's server,
// and that no list of bogons contains.
func (w *World) remote4() netip.Addr {
	u := w.rng.Uint32()
	return netip.AddrFrom4([4]byte{[...]byte{11, 22, 26, 33}[u>>30], byte(u >> 16), byte(u >> 8), byte(u)})
}

func (w *World) remote6() netip.Addr {
	a := [16]byte{0x26, 0x08}
	binary.BigEndian.PutUint32(a[4:], w.rng.Uint32())
	binary.BigEndian.PutUint32(a[12:], w.rng.Uint32())
	return netip.AddrFrom16(a)
}
