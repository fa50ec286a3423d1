package bulk

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/flow"
)

// generator makes random records and counts them per internal host.
type generator struct {
	rng      rng
	hosts    []netip.Addr
	counts   []flow.Counts
	sampled  bool
	duration int64 // longest, ns
	first    int64
	last     int64
}

func newGenerator(c *Config) *generator {
	n4, n6 := c.split()
	g := &generator{
		rng: newRNG(c.Seed), sampled: c.Protocol == flow.SFlow5, duration: int64(c.MaxDuration),
		hosts: make([]netip.Addr, 0, c.Hosts), counts: make([]flow.Counts, c.Hosts),
	}
	base4 := binary.BigEndian.Uint32(c.Prefix4.Masked().Addr().AsSlice())
	for i := range n4 {
		g.hosts = append(g.hosts, addr4(base4+1+uint32(i)))
	}
	base6 := c.Prefix6.Masked().Addr().As16()
	for i := range n6 {
		a := base6
		binary.BigEndian.PutUint32(a[4:], uint32(i)) // a /64 for each
		a[15] = 1
		g.hosts = append(g.hosts, netip.AddrFrom16(a))
	}
	return g
}

// next fills f with a random record that ended within the last second before
// now, and counts it.
func (g *generator) next(f *export.Flow, now int64) {
	host := int(g.rng.below(uint32(len(g.hosts))))
	internal := g.hosts[host]
	v6 := !internal.Is4()
	external := g.external(v6)
	out := g.rng.below(2) == 0
	g.protocol(f, v6)
	g.volume(f)
	g.times(f, now)
	c := &g.counts[host]
	if out {
		f.Src, f.Dst, f.InIf, f.OutIf = internal, external, 2, 1
		c.OutRecords++
		c.OutPackets += f.Packets
		c.OutBytes += f.Bytes
		return
	}
	f.Src, f.Dst, f.InIf, f.OutIf = external, internal, 1, 2
	c.InRecords++
	c.InPackets += f.Packets
	c.InBytes += f.Bytes
}

var flagSets = [...]uint8{
	flow.SYN,
	flow.SYN | flow.ACK,
	flow.RST | flow.ACK,
	flow.ACK,
	flow.SYN | flow.ACK | flow.PSH | flow.FIN,
	flow.ACK | flow.PSH | flow.FIN,
}

// servicePorts are what most records go to; the rest goes to any port, because
// a collector must take that too.
var servicePorts = [...]uint16{443, 80, 53, 123, 22, 25, 587, 993, 3306, 5432, 8080, 8443, 3478, 5060, 6379, 51820}

// protocol gives nine in ten records a common service port on one side. Ports
// that were all random would make each record a service and a pair of its own:
// a scan by everybody of everybody, not traffic.
func (g *generator) protocol(f *export.Flow, v6 bool) {
	f.SrcPort, f.DstPort = uint16(32768+g.rng.below(28232)), servicePorts[g.rng.below(uint32(len(servicePorts)))]
	switch g.rng.below(20) {
	case 0, 1:
		f.DstPort = uint16(1 + g.rng.below(65535))
	case 2, 3, 4, 5, 6, 7, 8, 9, 10: // the service's side speaks
		f.SrcPort, f.DstPort = f.DstPort, f.SrcPort
	}
	f.TCPFlags, f.ICMPType, f.ICMPCode = 0, 0, 0
	switch p := g.rng.below(10); {
	case p < 6:
		f.IPProto, f.TCPFlags = flow.ProtoTCP, flagSets[g.rng.below(uint32(len(flagSets)))]
	case p < 9:
		f.IPProto = flow.ProtoUDP
	case v6:
		f.IPProto, f.ICMPType, f.SrcPort, f.DstPort = flow.ProtoICMPv6, uint8(128+g.rng.below(2)), 0, 0
	default:
		f.IPProto, f.ICMPType, f.SrcPort, f.DstPort = flow.ProtoICMP, uint8(8*g.rng.below(2)), 0, 0
	}
}

func (g *generator) volume(f *export.Flow) {
	if g.sampled {
		f.Packets, f.Bytes = 1, uint64(80+g.rng.below(1421)) // above every header, at most 1500
		f.TTL = uint8(32 + g.rng.below(200))
		return
	}
	// Most flows are short, a few are long.
	f.Packets = 1 + uint64(g.rng.below(1<<(1+g.rng.below(10))))
	f.Bytes = f.Packets*40 + uint64(g.rng.below(uint32(f.Packets)*1460))
}

func (g *generator) times(f *export.Flow, now int64) {
	f.End = now - int64(g.rng.below(uint32(time.Second)))
	f.Start = f.End
	if g.duration > 0 {
		hi, _ := bits.Mul64(g.rng.next(), uint64(g.duration)+1)
		f.Start -= int64(hi)
	}
	if g.first == 0 || f.Start < g.first {
		g.first = f.Start
	}
	g.last = max(g.last, f.End)
}

// external is a remote address. The v4 ones lie in 11.0.0.0/8 and the v6 ones
// in 2608::/32: allocated, never announced in earnest, and in no bogon list, so
// that a made-up record points at nobody's server.
func (g *generator) external(v6 bool) netip.Addr {
	u := g.rng.next()
	if !v6 {
		return addr4(11<<24 | uint32(u)&0xffffff)
	}
	var a [16]byte
	a[0], a[1] = 0x26, 0x08
	binary.BigEndian.PutUint32(a[4:], uint32(u>>32))
	binary.BigEndian.PutUint32(a[12:], uint32(u))
	return netip.AddrFrom16(a)
}

func addr4(u uint32) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], u)
	return netip.AddrFrom4(a)
}

// rng is splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
// Generators, OOPSLA 2014): a few instructions per number, and the same numbers
// for a seed whatever the Go version.
type rng struct{ state uint64 }

func newRNG(seed uint64) rng { return rng{seed*0x9e3779b97f4a7c15 + 1} }

func (r *rng) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below is in [0, n), n > 0. The bias of the multiplication is below 2^-32.
func (r *rng) below(n uint32) uint32 { return uint32((r.next() >> 32) * uint64(n) >> 32) }
