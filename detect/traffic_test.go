package detect

import (
	"cmp"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// This file makes a tenant's traffic as a router would export it: connections
// arrive as a Poisson process, each of their packets is sampled 1:N, and what
// is sampled leaves as sFlow samples or as the records of a NetFlow cache.

const (
	inactiveTimeout = 15 * time.Second
	activeTimeout   = 60 * time.Second
	sflowDelay      = time.Second
	step            = 5 * time.Second
)

var (
	tenant4  = netip.MustParseAddr("198.18.7.9")
	tenant6  = netip.MustParseAddr("2001:db8:7:9::1")
	exporter = netip.MustParseAddr("192.0.2.1")
	epoch    = time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
)

// pkt is one packet of a conversation; at is its delay in seconds.
type pkt struct {
	at     float64
	out    bool
	flags  uint8
	length uint16
}

// source is one line of a scenario.
type source struct {
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
	active     time.Duration // of the exporter
	spoofed    bool          // comes in from outside with the tenant's source
	own        uint16        // the tenant's port; 0: an ephemeral one
	next       int
	v6         bool
}

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
}

type generator struct {
	rng     *rand.Rand
	n       uint32
	netflow bool
	buckets map[int64][]flow.Record
	records int
	taken   int64 // the last bucket handed out
	outOnly bool  // the export lacks what the tenant receives
}

func newGenerator(seed uint64, n uint32, netflow bool) *generator {
	return &generator{rng: rand.New(rand.NewPCG(seed, uint64(n))), n: n, netflow: netflow, buckets: map[int64][]flow.Record{}}
}

func (g *generator) poisson(mean float64) int {
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
func (g *generator) emit(r flow.Record) {
	if g.outOnly && r.Src != tenant4 && r.Src != tenant6 {
		return
	}
	r.Exporter, r.SamplingRate, r.SamplingSource = exporter, g.n, flow.SamplingRecord
	g.records++
	k := r.Received / int64(step)
	if k <= g.taken {
		panic("a record was made after its time")
	}
	g.buckets[k] = append(g.buckets[k], r)
}

// take returns the records received before at, in order.
func (g *generator) take(at time.Time) []flow.Record {
	k := at.UnixNano()/int64(step) - 1
	rs := g.buckets[k]
	delete(g.buckets, k)
	g.taken = k
	slices.SortFunc(rs, func(a, b flow.Record) int { return int(a.Received - b.Received) })
	return rs
}

// run makes what the source sends in [t, t+step).
func (g *generator) run(s *source, start time.Time, t time.Duration) {
	from, to := max(t, s.from), min(t+step, s.to)
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

type outcome struct {
	share float64
	pkts  []pkt
	ok    bool
}

// outcomes are the packets of each way a conversation can end.
func (s *source) outcomes() []outcome {
	var out []outcome
	add := func(share float64, ok bool, pkts []pkt) {
		if share > 1e-9 {
			if s.server {
				for i := range pkts {
					pkts[i].out = !pkts[i].out
				}
			}
			out = append(out, outcome{share, pkts, ok})
		}
	}
	if s.proto != flow.ProtoTCP {
		var q, a []pkt
		for i := range s.udp.out {
			q = append(q, pkt{0.01 * float64(i), true, 0, uint16(s.udp.size)})
		}
		for i := range s.udp.in {
			a = append(a, pkt{0.005 + 0.01*float64(i), false, 0, uint16(s.udp.insize)})
		}
		add(s.udp.ok, true, append(slices.Clone(q), a...))
		add(1-s.udp.ok, false, q)
		return out
	}
	c := s.tcp
	syn := pkt{0, true, flow.SYN, c.length}
	synack := pkt{0.05, false, flow.SYN | flow.ACK, 60}
	var dead []pkt
	for i := range c.syn {
		dead = append(dead, pkt{math.Pow(2, float64(i)) - 1, true, flow.SYN, c.length}) // RFC 6298 §2: 1 s, then doubled
	}
	whole := []pkt{syn, synack}
	for i := 1; i < c.out; i++ {
		f := uint8(flow.ACK)
		if i == c.out-1 && i > 1 {
			f |= flow.FIN
		} else if i%2 == 0 {
			f |= flow.PSH
		}
		whole = append(whole, pkt{0.1 + c.dur*float64(i)/float64(c.out), true, f, c.size})
	}
	for i := 1; i < c.in; i++ {
		f := uint8(flow.ACK | flow.PSH)
		if i == c.in-1 {
			f |= flow.FIN
		}
		whole = append(whole, pkt{0.12 + c.dur*float64(i)/float64(c.in), false, f, c.insize})
	}
	add(c.ok, true, whole)
	add(c.rst, false, []pkt{syn, {0.05, false, flow.RST | flow.ACK, 40}})
	add(c.half, true, []pkt{syn, synack, {0.051, true, flow.RST, 40}})
	add(c.silent, false, []pkt{syn, synack})
	add(c.scatter, false, []pkt{synack, {0.051, true, flow.RST, 40}})
	add(1-c.ok-c.rst-c.half-c.silent-c.scatter, false, dead)
	return out
}

func (g *generator) conversation(s *source, at time.Time, o outcome, p float64) {
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
func (g *generator) addresses(s *source, ok bool) flow.Record {
	r := flow.Record{Src: tenant4, IPProto: s.proto, Has: flow.HasIPProto}
	if s.v6 {
		r.Src = tenant6
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
func (s *source) member(i int) netip.Addr {
	if s.v6 {
		return netip.AddrFrom16([16]byte{0x2a, 0x04, 0x4e, 0x42, byte(i >> 8), byte(i), 15: 1})
	}
	return netip.AddrFrom4([4]byte{151, 101, byte(i >> 8), byte(i)})
}

func (s *source) success() float64 {
	if s.proto != flow.ProtoTCP {
		return s.udp.ok
	}
	return s.tcp.ok + s.tcp.half
}

func (g *generator) public() netip.Addr {
	for {
		a := netip.AddrFrom4([4]byte{byte(11 + g.rng.UintN(150)), byte(g.rng.UintN(256)), byte(g.rng.UintN(256)), byte(1 + g.rng.UintN(254))})
		if b := a.As4(); b[0] != 127 && b[0] != 100 { // 100.64.0.0/10 is a bogon
			return a
		}
	}
}

func (g *generator) bogon() netip.Addr {
	switch g.rng.IntN(3) {
	case 0:
		return netip.AddrFrom4([4]byte{10, byte(g.rng.UintN(256)), byte(g.rng.UintN(256)), 1})
	case 1:
		return netip.AddrFrom4([4]byte{100, byte(64 + g.rng.UintN(64)), byte(g.rng.UintN(256)), 1})
	}
	return netip.AddrFrom4([4]byte{192, 168, byte(g.rng.UintN(256)), byte(1 + g.rng.UintN(254))})
}

// turn makes r incoming if the packet is.
func turn(r flow.Record, out bool) flow.Record {
	if !out {
		r.Src, r.Dst, r.SrcPort, r.DstPort = r.Dst, r.Src, r.DstPort, r.SrcPort
	}
	return r
}

func (s *source) finish(r *flow.Record, q pkt, flags uint8) {
	switch {
	case s.proto == flow.ProtoTCP && !s.noFlags:
		r.Has |= flow.HasTCPFlags
		r.TCPFlags = flags
	case s.proto == flow.ProtoICMP || s.proto == flow.ProtoICMPv6:
		r.Has |= flow.HasICMP
		r.ICMPType = s.echo(q.out != s.server)
	case s.udp.icmp && q.out:
		r.IPProto, r.Has = flow.ProtoICMP, flow.HasIPProto|flow.HasICMP
		r.ICMPType, r.ICMPCode, r.SrcPort, r.DstPort = 3, 3, 0, 0
	}
	if s.spoofed && q.out {
		r.InIf = 99
		r.Has |= flow.HasInIf
	}
}

// echo is the ICMP type of a request or of a reply.
func (s *source) echo(request bool) uint8 {
	switch {
	case s.proto == flow.ProtoICMPv6 && request:
		return 128
	case s.proto == flow.ProtoICMPv6:
		return 129
	case request:
		return 8
	}
	return 0
}

func (g *generator) sample(s *source, r flow.Record, at time.Time, q pkt) {
	r = turn(r, q.out)
	r.Protocol, r.Packets, r.Bytes, r.IPLen = flow.SFlow5, 1, uint64(q.length), q.length
	r.Received = at.Add(sflowDelay).UnixNano()
	r.Start, r.End = r.Received, r.Received
	r.Has |= flow.HasIPLen | flow.HasTTL
	if r.TTL = 60; q.out && s.proto == flow.ProtoTCP {
		r.TTL = s.tcp.ttl
	}
	s.finish(&r, q, q.flags)
	g.emit(r)
}

// cache exports the sampled packets of one direction as a NetFlow cache does:
// one record until the flow was silent for the inactive timeout or lasted the
// active timeout.
func (g *generator) cache(s *source, r flow.Record, at time.Time, pkts []pkt, out bool) {
	var cur flow.Record
	var first, last float64
	flush := func(end float64, wait time.Duration) {
		if cur.Packets > 0 {
			cur.Received = at.Add(time.Duration(end*float64(time.Second)) + wait).UnixNano()
			g.emit(cur)
			cur = flow.Record{}
		}
	}
	sorted := slices.Clone(pkts)
	slices.SortFunc(sorted, func(a, b pkt) int { return int(math.Copysign(1, a.at-b.at)) })
	for _, q := range sorted {
		if q.out != out {
			continue
		}
		if cur.Packets > 0 && q.at-last > inactiveTimeout.Seconds() {
			flush(last, inactiveTimeout)
		} else if cur.Packets > 0 && q.at-first > activeTimeout.Seconds() {
			flush(q.at, 0)
		}
		ns := at.Add(time.Duration(q.at * float64(time.Second))).UnixNano()
		if cur.Packets == 0 {
			cur = turn(r, out)
			cur.Protocol, cur.Start, first = flow.NetFlow9, ns, q.at
			cur.Has |= flow.HasTimes
		}
		s.finish(&cur, q, cur.TCPFlags|q.flags)
		cur.End, last = ns, q.at
		cur.Packets++
		cur.Bytes += uint64(q.length)
	}
	flush(last, inactiveTimeout)
}

// runStream makes packets of constant rate on pool flows: a download, a tunnel,
// a flood.
func (g *generator) runStream(s *source, start time.Time, from, to time.Duration) {
	length := (to - from).Seconds()
	for i := range s.pool {
		r := g.addresses(s, true)
		r.Dst = s.member(i)
		if len(s.ports) > 0 {
			own, svc := cmp.Or(s.own, uint16(40000+i)), s.ports[0]
			r.SrcPort, r.DstPort = own, svc
			if s.server {
				r.SrcPort, r.DstPort = svc, own
			}
		}
		for _, out := range []bool{true, false} {
			pps, size := s.rate/float64(s.pool), s.udp.size
			if !out {
				pps, size = pps*s.udp.ok, s.udp.insize
			}
			if g.netflow {
				g.streamRecord(s, turn(r, out), start, from, to, pps, size, out)
				continue
			}
			for range g.poisson(pps * length / float64(g.n)) {
				at := start.Add(from + time.Duration(g.rng.Float64()*float64(to-from)))
				g.sample(s, r, at, pkt{0, out, flow.ACK, uint16(size)})
			}
		}
	}
}

// streamRecord exports a stream by the active timeout, counted from its start.
func (g *generator) streamRecord(s *source, r flow.Record, start time.Time, from, to time.Duration, pps float64, size int, out bool) {
	begin := s.from + (from-s.from)/s.active*s.active
	end := min(begin+s.active, s.to)
	if to < end {
		return
	}
	n := uint64(g.poisson(pps * (end - begin).Seconds() / float64(g.n)))
	if n == 0 {
		return
	}
	wait := time.Duration(0)
	if end == s.to {
		wait = inactiveTimeout
	}
	r.Protocol, r.Packets, r.Bytes = flow.NetFlow9, n, n*uint64(size)
	r.Start, r.End = start.Add(begin).UnixNano(), start.Add(end).UnixNano()
	r.Received = r.End + int64(wait)
	r.Has |= flow.HasTimes
	s.finish(&r, pkt{out: out}, flow.ACK)
	g.emit(r)
}
