package load

import (
	"encoding/binary"
	"math/bits"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// record is one unidirectional record; times are in ms before it is exported.
type record struct {
	src, dst         uint32
	sport, dport     uint16
	proto, flags     uint8
	icmp             uint16 // type and code
	inIf, outIf      uint16
	packets, bytes   uint32
	startAgo, endAgo uint32
}

// mix makes the records of one exporter.
type mix struct {
	rng      uint64
	base     uint32 // first internal address
	hosts    uint32
	zipf     []uint32 // chance of a rank below i, scaled to 2^32
	duration time.Duration
	sampled  bool

	paired  bool
	answers [answerLag]record // in a ring; those without a protocol are none
	begun   int               // conversations, of paired
}

// answerLag is how many conversations later the other direction is exported: a
// cache lets go of both in the same second, and not one after the other.
const answerLag = 256

func newMix(c *Config, exporter int) *mix {
	m := &mix{
		rng: hash(c.Seed, uint64(exporter)), hosts: uint32(c.Hosts), duration: c.Duration, sampled: c.Protocol == flow.SFlow5, paired: c.Paired && c.Protocol != flow.SFlow5,
		base: binary.BigEndian.Uint32(c.Prefix.Masked().Addr().AsSlice()),
	}
	total := 0.0
	for i := range c.Remotes {
		total += 1 / float64(i+1)
	}
	sum := 0.0
	for i := range c.Remotes {
		sum += 1 / float64(i+1)
		m.zipf = append(m.zipf, uint32(min(sum/total*(1<<32), 1<<32-1)))
	}
	return m
}

// services are what servers listen on. UDP ones are those of isUDP; 443 is both.
var services = [...]uint16{443, 80, 22, 25, 587, 993, 3306, 5432, 8080, 8443, 53, 123, 3478, 5060, 6379, 51820}

func isUDP(port uint16) bool {
	switch port {
	case 53, 123, 3478, 5060, 51820:
		return true
	}
	return false
}

// clientPort is where a host goes as a client: mostly to the web, then DNS.
func clientPort(talk uint64) uint16 {
	switch p := talk % 100; {
	case p < 60:
		return 443
	case p < 75:
		return 53
	case p < 85:
		return 80
	case p < 88:
		return 123
	}
	return services[(talk>>8)%uint64(len(services))]
}

var flagSets = [...]uint8{
	flow.SYN,
	flow.RST | flow.ACK,
	flow.ACK,
	flow.SYN | flow.ACK,
	flow.SYN | flow.ACK | flow.PSH | flow.FIN,
	flow.SYN | flow.ACK | flow.PSH,
	flow.ACK | flow.PSH,
	flow.ACK | flow.PSH | flow.FIN,
}

// next fills r with a record of either direction between a host and a remote.
func (m *mix) next(r *record) {
	if m.paired {
		m.nextOfPair(r)
		return
	}
	serves := m.talk(r)
	if r.proto == flow.ProtoTCP {
		r.flags = flagSets[m.below(uint32(len(flagSets)))]
	}
	if m.below(2) == 0 != serves {
		r.turn()
	}
	m.times(r)
	m.volume(r)
}

// talk fills r with what a client sends to a server, without flags, times and
// counters, and reports whether the server is ours.
func (m *mix) talk(r *record) (serves bool) {
	host := m.base + m.below(m.hosts)
	talk := m.random()
	if len(m.zipf) > 0 {
		u, rank := uint32(m.random()), 0
		for rank < len(m.zipf)-1 && u >= m.zipf[rank] {
			rank++
		}
		talk = hash(uint64(host), uint64(rank))
	}
	// Remotes are in 11.0.0.0/8: allocated, never announced in earnest, and in
	// no list of bogons, so that a made-up record points at nobody's server.
	remote := 11<<24 | uint32(talk)&0xffffff
	// Half of the conversations are with a server of ours, which offers one or
	// two services to all.
	service, serves := clientPort(talk>>24), talk>>63 == 0
	if serves {
		own := hash(uint64(host), talk>>62&1)
		service = services[own%uint64(len(services))]
	}
	*r = record{src: host, dst: remote, sport: uint16(32768 + m.below(19_000)), dport: service, inIf: 2, outIf: 1} // clients' ports are below WireGuard's
	if serves {
		r.src, r.dst, r.inIf, r.outIf = remote, host, 1, 2
	}
	switch p := (talk >> 40) % 100; {
	case p < 3:
		r.proto, r.sport, r.dport, r.icmp = flow.ProtoICMP, 0, 0, 8<<8 // echo request
	case isUDP(service), service == 443 && p < 28: // QUIC
		r.proto = flow.ProtoUDP
	default:
		r.proto = flow.ProtoTCP
	}
	return serves
}

// turn makes r the other direction's.
func (r *record) turn() {
	r.src, r.dst, r.sport, r.dport, r.inIf, r.outIf = r.dst, r.src, r.dport, r.sport, r.outIf, r.inIf
	if r.proto == flow.ProtoICMP {
		r.icmp ^= 8 << 8 // echo reply
	}
}

// times sets how long ago the flow was. Most are short and a few are long: 40 %
// are one packet, 45 % end within 5 s, 10 % within 30 s, and 5 % are cut by the
// active timeout. What a FIN or RST does not end waits for the inactive timeout.
func (m *mix) times(r *record) {
	if m.sampled {
		return
	}
	ms := uint32(0)
	kind := m.below(20)
	switch {
	case m.duration != RouterDurations:
		ms = uint32(m.duration / time.Millisecond)
	case kind < 8:
	case kind < 17:
		ms = 1 + m.below(5000)
	case kind < 19:
		ms = 5000 + m.below(25_000)
	default:
		ms = activeTimeout
	}
	r.endAgo = m.below(1000)
	if m.duration == RouterDurations && ms != activeTimeout && r.flags&(flow.FIN|flow.RST) == 0 {
		r.endAgo += inactiveTimeout
	}
	r.startAgo = r.endAgo + ms
}

// Timeouts of the router's cache, ms.
const activeTimeout, inactiveTimeout = 60_000, 15_000

// volume sets the counters.
func (m *mix) volume(r *record) {
	r.packets = 1
	if m.sampled {
		r.bytes = 114 + m.below(1387) // Ethernet and IP of at least 128 bytes, at most 1,500
		return
	}
	if r.startAgo > r.endAgo {
		r.packets += 1 + m.below(1<<(1+m.below(8)))
	}
	r.bytes = r.packets*40 + m.below(r.packets*1460)
}

// random is splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
func (m *mix) random() uint64 {
	m.rng += 0x9e3779b97f4a7c15
	return mixBits(m.rng)
}

// below is in [0, n), n > 0. The bias of the multiplication is below 2^-32.
func (m *mix) below(n uint32) uint32 { return uint32((m.random() >> 32) * uint64(n) >> 32) }

func hash(a, b uint64) uint64 {
	return mixBits(mixBits(a+0x9e3779b97f4a7c15) ^ bits.RotateLeft64(b, 32))
}

func mixBits(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
