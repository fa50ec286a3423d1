package scenario

import (
	"cmp"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// The timeouts of the NetFlow cache (detection.md §10) and the length of a step
// that Generator.Run makes.
const (
	InactiveTimeout = 15 * time.Second
	ActiveTimeout   = 60 * time.Second
	Step            = 5 * time.Second
	sflowDelay      = time.Second
)

// Who takes part: the tenant, with IPv4 and IPv6, a second one, the router, and its
// interfaces: towards outside, towards the tenants, and that of the tenant who
// forges sources.
var (
	Tenant4  = netip.MustParseAddr("198.18.7.9")
	Second4  = netip.MustParseAddr("198.18.7.10")
	Tenant6  = netip.MustParseAddr("2001:db8:7:9::1")
	Exporter = netip.MustParseAddr("192.0.2.1")
)

// Interfaces of the router.
const (
	IfExternal = 99
	IfTenants  = 2
	IfForger   = 77
)

// pkt is one packet of a conversation; at is its delay in seconds.
type pkt struct {
	at     float64
	out    bool
	flags  uint8
	length uint16
}

// Source is one line of a scenario.
type Source struct {
	proto      uint8
	rate       float64 // conversations per second, or packets per second of a stream
	stream     bool
	from, to   time.Duration
	ports      []uint16
	randomPort bool
	sequential bool // ports one after the other
	dst        string
	pool       int
	server     bool // the remote opens the conversation
	tcp        shape
	udp        udpShape
	noFlags    bool
	active     time.Duration // of the Exporter
	spoofed    bool          // comes in from outside with the tenant's Source
	own        uint16        // the tenant's port; 0: an ephemeral one
	next       int
	v6         bool
	forged     string        // sources that are not the tenant's: any, or one address
	every, on  time.Duration // pulses: on of every; 0: steady
	spread     bool          // no two of the pool are of one network
	second     bool          // the second tenant sends it
	flags      uint8         // of a stream's TCP packets out; 0: ACK
}

// Forges reports whether packets leave with sources that are not the tenant's.
func (s Source) Forges() bool { return s.forged != "" }

// IsSecond reports whether the second tenant sends them.
func (s Source) IsSecond() bool { return s.second }

type shape struct {
	ok, rst, half, silent, scatter float64 // shares; the rest is dead
	syn                            int     // tries of a dead one
	out, in                        int     // packets of one that succeeds
	length                         uint16  // of a SYN
	ttl                            uint8
	size, insize                   uint16 // of data packets
	dur                            float64
}

type udpShape struct {
	ok                    float64 // share answered; of a stream: packets back per packet
	out, in, size, insize int
	icmp                  bool // the tenant answers with ICMP unreachable
	errors                bool // routers on the way answer, with ICMP errors
}

// Generator makes the records of one tenant, as its router would export them:
// connections arrive as a Poisson process, each of their packets is sampled
// 1:n, and what is sampled leaves as sFlow samples or by a NetFlow cache. The
// same seed gives the same records. It belongs to one goroutine.
type Generator struct {
	rng     *rand.Rand
	n       uint32
	netflow bool
	buckets map[int64][]flow.Record
	free    [][]flow.Record // buckets that were taken
	records int
	taken   int64 // the last bucket handed out

	// OutOnly leaves out what the tenant receives.
	OutOnly bool
}

// NewGenerator returns a Generator that samples 1:n and exports by NetFlow, or
// else by sFlow.
func NewGenerator(seed uint64, n uint32, netflow bool) *Generator {
	return &Generator{rng: rand.New(rand.NewPCG(seed, uint64(n))), n: n, netflow: netflow, buckets: map[int64][]flow.Record{}}
}

func (g *Generator) poisson(mean float64) int {
	if mean <= 0 {
		return 0
	}
	if mean > 50 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*g.rng.NormFloat64())))
	}
	n, p := 0, math.Exp(-mean)
	for u := g.rng.Float64(); u > p; n++ {
		u *= g.rng.Float64()
	}
	return n
}

// emit puts a record where it will be received.
func (g *Generator) emit(r flow.Record) {
	if g.OutOnly && r.Src != Tenant4 && r.Src != Tenant6 && r.Src != Second4 {
		return
	}
	r.Exporter, r.SamplingRate, r.SamplingSource = Exporter, g.n, flow.SamplingRecord
	g.records++
	k := r.Received / int64(Step)
	if k <= g.taken {
		panic("a record was made after its time")
	}
	rs := g.buckets[k]
	if n := len(g.free); rs == nil && n > 0 {
		rs, g.free = g.free[n-1], g.free[:n-1]
	}
	g.buckets[k] = append(rs, r)
}

// Records is the number of records made so far.
func (g *Generator) Records() int { return g.records }

// Take returns the records received in the Step before at, in order.
func (g *Generator) Take(at time.Time) []flow.Record {
	k := at.UnixNano()/int64(Step) - 1
	rs := g.buckets[k]
	delete(g.buckets, k)
	g.taken = k
	order := make([]int32, len(rs)) // a record is large: only numbers are moved
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(rs[a].Received, rs[b].Received), cmp.Compare(a, b))
	})
	sorted := make([]flow.Record, len(rs))
	for i, j := range order {
		sorted[i] = rs[j]
	}
	if rs != nil {
		g.free = append(g.free, rs[:0])
	}
	return sorted
}

// Run makes what s sends in [t, t+Step) of a run that began at start.
func (g *Generator) Run(s *Source, start time.Time, t time.Duration) {
	from, to := max(t, s.from), min(t+Step, s.to)
	if s.every == 0 {
		g.steady(s, start, from, to)
		return
	}
	for k := max(0, (from-s.from)/s.every); s.from+k*s.every < to; k++ {
		begin := s.from + k*s.every
		pulse := *s
		pulse.from, pulse.to = begin, min(begin+s.on, s.to)
		g.steady(&pulse, start, max(from, begin), min(to, pulse.to))
	}
}

func (g *Generator) steady(s *Source, start time.Time, from, to time.Duration) {
	if from >= to {
		return
	}
	if s.stream {
		g.runStream(s, start, from, to)
		return
	}
	// The shapes are drawn by thinning: only conversations of which at least
	// one packet is sampled are made.
	for _, o := range s.outcomes() {
		p := 1 / float64(g.n)
		seen := 1 - math.Pow(1-p, float64(len(o.pkts)))
		for range g.poisson(s.rate * o.share * (to - from).Seconds() * seen) {
			at := start.Add(from + time.Duration(g.rng.Float64()*float64(to-from)))
			g.conversation(s, at, o, p)
		}
	}
}

func (g *Generator) conversation(s *Source, at time.Time, o outcome, p float64) {
	sampled := o.pkts
	if g.n > 1 {
		// At least one: the first that is sampled is geometric within the packets.
		k := len(o.pkts)
		first := int(math.Log(1-g.rng.Float64()*(1-math.Pow(1-p, float64(k)))) / math.Log(1-p))
		sampled = []pkt{o.pkts[min(first, k-1)]}
		for _, q := range o.pkts[min(first, k-1)+1:] {
			if g.rng.Float64() < p {
				sampled = append(sampled, q)
			}
		}
	}
	r := g.addresses(s, o.ok)
	if !g.netflow {
		for _, q := range sampled {
			g.sample(s, r, at.Add(time.Duration(q.at*float64(time.Second))), q)
		}
		return
	}
	for _, out := range []bool{true, false} {
		g.cache(s, r, at, sampled, out)
	}
}

// addresses returns a record with the ends of a new conversation, outgoing.
func (g *Generator) addresses(s *Source, ok bool) flow.Record {
	r := flow.Record{Src: Tenant4, IPProto: s.proto, Has: flow.HasIPProto}
	switch {
	case s.v6:
		r.Src = Tenant6
	case s.second:
		r.Src = Second4
	}
	switch s.forged {
	case "":
	case "any":
		r.Src = g.public()
	default:
		r.Src = netip.MustParseAddr(s.forged)
	}
	switch s.dst {
	case "any":
		r.Dst = g.public()
	case "bogon":
		r.Dst = g.bogon()
	case "v6":
		var b [16]byte
		b[0], b[1] = 0x26, 0x00
		for i := 2; i < 16; i++ {
			b[i] = byte(g.rng.UintN(256))
		}
		r.Dst = netip.AddrFrom16(b)
	default: // a pool; the first of it answer
		i := g.rng.IntN(s.pool)
		if up := int(math.Round(s.success() * float64(s.pool))); up > 0 && up < s.pool {
			if ok {
				i = g.rng.IntN(up)
			} else {
				i = up + g.rng.IntN(s.pool-up)
			}
		}
		r.Dst = s.member(i)
	}
	if s.proto != flow.ProtoTCP && s.proto != flow.ProtoUDP {
		return r
	}
	r.Has |= flow.HasPorts
	svc := uint16(1024 + g.rng.UintN(64511))
	switch {
	case s.sequential:
		svc = s.ports[0] + uint16(s.next%int(s.ports[1]-s.ports[0]+1))
		if g.n > 1 { // which of them are sampled is random
			svc = s.ports[0] + uint16(g.rng.UintN(uint(s.ports[1]-s.ports[0])+1))
		}
		s.next++
	case !s.randomPort:
		svc = s.ports[g.rng.IntN(len(s.ports))]
	}
	own := cmp.Or(s.own, uint16(32768+g.rng.UintN(28232))) // Linux's ip_local_port_range
	r.SrcPort, r.DstPort = own, svc
	if s.server {
		r.SrcPort, r.DstPort = svc, own
	}
	return r
}

// member is the i-th remote of a pool.
func (s *Source) member(i int) netip.Addr {
	if s.spread {
		h := uint32(i+1) * 2654435761 // Knuth's: no two of a pool in one /24
		a := [4]byte{byte(11 + h>>24%80), byte(h >> 16), byte(h >> 8), byte(1 + h%250)}
		if s.v6 {
			return netip.AddrFrom16([16]byte{0x26, a[0], a[1], a[2], byte(i >> 8), byte(i), 15: 1})
		}
		return netip.AddrFrom4(a)
	}
	if s.v6 {
		return netip.AddrFrom16([16]byte{0x2a, 0x04, 0x4e, 0x42, byte(i >> 8), byte(i), 15: 1})
	}
	return netip.AddrFrom4([4]byte{151, 101, byte(i >> 8), byte(i)})
}

func (s *Source) success() float64 {
	if s.proto != flow.ProtoTCP {
		return s.udp.ok
	}
	return s.tcp.ok + s.tcp.half
}

func (g *Generator) public() netip.Addr {
	for {
		a := netip.AddrFrom4([4]byte{byte(11 + g.rng.UintN(150)), byte(g.rng.UintN(256)), byte(g.rng.UintN(256)), byte(1 + g.rng.UintN(254))})
		if b := a.As4(); b[0] != 127 && b[0] != 100 { // 100.64.0.0/10 is a bogon
			return a
		}
	}
}

func (g *Generator) bogon() netip.Addr {
	switch g.rng.IntN(3) {
	case 0:
		return netip.AddrFrom4([4]byte{10, byte(g.rng.UintN(256)), byte(g.rng.UintN(256)), 1})
	case 1:
		return netip.AddrFrom4([4]byte{100, byte(64 + g.rng.UintN(64)), byte(g.rng.UintN(256)), 1})
	}
	return netip.AddrFrom4([4]byte{192, 168, byte(g.rng.UintN(256)), byte(1 + g.rng.UintN(254))})
}
