package decode

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

// Parts of headers, put together outside in.

var (
	macs = wire{}.u8(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2)
	// A frame of a customer whose MAC begins as an IPv4 and an IPv6 packet do.
	macsLike4 = wire{}.u8(0x45, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 3)
	macsLike6 = wire{}.u8(0x60, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 3)
)

// ip4 is an IPv4 packet whole and right, checksum and all.
func ip4(src, dst string, proto uint8, payload []byte) wire {
	return ip4opts(src, dst, proto, nil, payload)
}

func ip4opts(src, dst string, proto uint8, opts, payload []byte) wire {
	h := wire{}.u8(0x45+uint8(len(opts)/4), 0).u16(uint16(20+len(opts)+len(payload)), 1, 0).u8(61, proto).u16(0).ip(src, dst).raw(opts)
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(be16(h[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
	return h.raw(payload)
}

func ip6(src, dst string, next uint8, payload []byte) wire {
	return wire{}.u32(0x60000000).u16(uint16(len(payload))).u8(next, 62).ip(src, dst).raw(payload)
}

// synTo is a TCP header of a SYN from port 40000.
func synTo(port uint16) wire {
	return wire{}.u16(40000, port).u32(1, 0).u8(0x50, 0x02).u16(1024, 0, 0)
}

func udpTo(port uint16, payload []byte) wire {
	return wire{}.u16(50000, port, uint16(8+len(payload)), 0).raw(payload)
}

func frame(typ uint16, payload []byte) wire { return wire{}.raw(macs).u16(typ).raw(payload) }

// What the packets are that the cases wrap.
var (
	outerSrc, outerDst = "192.0.2.1", "198.51.100.1"
	innerSrc, innerDst = "10.0.0.1", "10.0.0.2"

	plain4 = ip4(outerSrc, outerDst, 6, synTo(22))
	plain6 = ip6("2001:db8::1", "2001:db8::2", 6, synTo(22))
	inner4 = ip4(innerSrc, innerDst, 6, synTo(443))
	inner6 = ip6("fd00::1", "fd00::2", 17, udpTo(53, make([]byte, 20)))
)

// likeFrame is an IPv6 packet whose bytes 12 and on are an EtherType and an IPv4
// header with a right checksum: a spoofed source address can do that.
var likeFrame = func() wire {
	h := ip4(outerSrc, outerDst, 59, nil)
	return wire{}.u32(0x60000000).u16(8).u8(17, 62).u32(0x20010db8).u16(0x0800).raw(h, make([]byte, 6), udpTo(53, nil))
}()

// seen is what is expected of a packet; "" and 0 are "not told".
type seen struct {
	src, dst     string
	proto        uint8
	sport, dport uint16
	flags        uint8
	ipLen        uint16
	ttl          uint8
	vlan         uint16
	mac          byte // the last of the source's; 0: none
	icmp         uint16
	fragment     bool
	l2           int
	bad          bool
}

func (p *packet) seen() seen {
	var r flow.Record
	p.fill(&r)
	s := seen{proto: r.IPProto, sport: r.SrcPort, dport: r.DstPort, flags: r.TCPFlags, ipLen: r.IPLen, ttl: r.TTL, vlan: r.VLAN,
		mac: r.SrcMAC[5], icmp: uint16(r.ICMPType)<<8 | uint16(r.ICMPCode), fragment: r.Has&flow.HasFragment != 0, l2: p.l2, bad: p.bad}
	if r.Src.IsValid() {
		s.src, s.dst = r.Src.String(), r.Dst.String()
	}
	return s
}

// hasMatches: a bit is set for everything that is told, and for nothing else.
// Of the cases here, none has a zero that was told.
func hasMatches(t *testing.T, p *packet) {
	t.Helper()
	var r flow.Record
	p.fill(&r)
	s := p.seen()
	for bit, told := range map[flow.Has]bool{
		flow.HasPorts: s.sport|s.dport != 0, flow.HasTCPFlags: s.flags != 0, flow.HasIPLen: s.ipLen != 0, flow.HasVLAN: s.vlan != 0,
		flow.HasSrcMAC: s.mac != 0, flow.HasTTL: s.ttl != 0, flow.HasIPProto: s.src != "", flow.HasICMP: s.icmp != 0, flow.HasFragment: s.fragment,
	} {
		if (r.Has&bit != 0) != told {
			t.Errorf("Has %b disagrees with %+v", r.Has, s)
		}
	}
}

func eth(s seen, l2 int) seen { s.mac, s.l2 = 2, s.l2+l2; return s }

var (
	saw4      = seen{src: outerSrc, dst: outerDst, proto: 6, sport: 40000, dport: 22, flags: 2, ipLen: 40, ttl: 61}
	saw6      = seen{src: "2001:db8::1", dst: "2001:db8::2", proto: 6, sport: 40000, dport: 22, flags: 2, ipLen: 60, ttl: 62}
	sawInner4 = seen{src: innerSrc, dst: innerDst, proto: 6, sport: 40000, dport: 443, flags: 2, ipLen: 40, ttl: 61}
	sawInner6 = seen{src: "fd00::1", dst: "fd00::2", proto: 17, sport: 50000, dport: 53, ipLen: 68, ttl: 62}
)

func vlan(s seen, id uint16) seen { s.vlan = id; return s }

// outer4 is the outer packet of a tunnel.
func outer4(proto uint8, payload wire, sport, dport uint16) seen {
	return seen{src: outerSrc, dst: outerDst, proto: proto, sport: sport, dport: dport, ipLen: uint16(20 + len(payload)), ttl: 61}
}

func vxlan(flags uint8, payload []byte) wire {
	return udpTo(4789, wire{}.u8(flags, 0, 0, 0, 0, 0, 7, 0).raw(payload))
}

func geneve(opts int, typ uint16, payload []byte) wire {
	return udpTo(6081, wire{}.u8(uint8(opts), 0).u16(typ).u32(7<<8).raw(make([]byte, opts*4), payload))
}

type packetCase struct {
	name     string
	protocol uint32 // of sFlow; 0: Ethernet
	header   []byte
	want     seen
	inner    *seen // nil: the same as want
}

func tunnelCase(name string, proto uint8, payload wire, sport, dport uint16, in seen, l2 int) packetCase {
	out := eth(outer4(proto, payload, sport, dport), 14)
	in = eth(in, 14+20+l2)
	return packetCase{name: name, header: frame(0x0800, ip4(outerSrc, outerDst, proto, payload)), want: out, inner: &in}
}

func packetCases() []packetCase {
	gre := func(flags, typ uint16, opts int, payload []byte) wire {
		return wire{}.u16(flags, typ).raw(make([]byte, opts), payload)
	}
	label := func(bottom uint32) wire { return wire{}.u32(16<<12 | bottom<<8 | 64) }
	pppoe := func(proto uint16, payload []byte) wire {
		return wire{}.u8(0x11, 0).u16(1, uint16(2+len(payload)), proto).raw(payload)
	}
	cases := []packetCase{
		{name: "IPv4", header: frame(0x0800, plain4), want: eth(saw4, 14)},
		{name: "IPv6", header: frame(0x86dd, plain6), want: eth(saw6, 14)},
		{name: "VLAN", header: frame(0x8100, wire{}.u16(7, 0x0800).raw(plain4)), want: vlan(eth(saw4, 18), 7)},
		{name: "QinQ, 802.1ad outside: the outer tag counts", header: frame(0x88a8, wire{}.u16(100, 0x8100, 7, 0x86dd).raw(plain6)), want: vlan(eth(saw6, 22), 100)},
		{name: "QinQ, tags in the other order", header: frame(0x8100, wire{}.u16(7, 0x88a8, 100, 0x0800).raw(plain4)), want: vlan(eth(saw4, 22), 7)},
		{name: "QinQ as before the standard", header: frame(0x9100, wire{}.u16(100, 0x8100, 7, 0x0800).raw(plain4)), want: vlan(eth(saw4, 22), 100)},
		{name: "priority tag: VLAN 0 is none", header: frame(0x8100, wire{}.u16(5<<13, 0x0800).raw(plain4)), want: eth(saw4, 18)},
		{name: "priority tag outside a VLAN", header: frame(0x8100, wire{}.u16(5<<13, 0x8100, 7, 0x0800).raw(plain4)), want: vlan(eth(saw4, 22), 7)},
		{name: "as many tags as are read", header: frame(0x8100, wire{}.u16(1, 0x8100, 2, 0x8100, 3, 0x8100, 4, 0x0800).raw(plain4)), want: vlan(eth(saw4, 30), 1)},
		{name: "one tag more", header: frame(0x8100, wire{}.u16(1, 0x8100, 2, 0x8100, 3, 0x8100, 4, 0x8100, 5, 0x0800).raw(plain4)), want: vlan(eth(seen{}, 0), 1)},
		{name: "802.3 with LLC and SNAP", header: frame(48, wire{}.u8(0xaa, 0xaa, 3, 0, 0, 0).u16(0x0800).raw(plain4)), want: eth(saw4, 22)},
		{name: "802.3, spanning tree", header: frame(38, wire{}.u8(0x42, 0x42, 3).raw(plain4)), want: eth(seen{}, 0)},
		{name: "802.3, SNAP of a vendor", header: frame(48, wire{}.u8(0xaa, 0xaa, 3, 0, 0, 0x0c).u16(0x0800).raw(plain4)), want: eth(seen{}, 0)},
		{name: "ARP", header: frame(0x0806, make([]byte, 46)), want: eth(seen{}, 0)},
		{name: "LLDP", header: frame(0x88cc, plain4), want: eth(seen{}, 0)},
		{name: "link padding behind a packet is no port", header: frame(0x0800, wire{}.raw(ip4(outerSrc, outerDst, 6, nil)).raw([]byte{0, 80, 0, 80}, make([]byte, 22))),
			want: eth(seen{src: outerSrc, dst: outerDst, proto: 6, ipLen: 20, ttl: 61}, 14)},
		{name: "IPv4 with options", header: frame(0x0800, ip4opts(outerSrc, outerDst, 6, []byte{7, 7, 4, 0, 0, 0, 0, 0}, synTo(22))),
			want: eth(with2(saw4, func(s *seen) { s.ipLen = 48 }), 14)},
		{name: "an IPv4 header of 16 bytes", header: frame(0x0800, wire{}.u8(0x44).raw(plain4[1:])), want: eth(seen{bad: true}, 0)},
		{name: "EtherType of IPv4, version 5", header: frame(0x0800, wire{}.u8(0x55).raw(plain4[1:])), want: eth(seen{bad: true}, 0)},
		{name: "first fragment", header: frame(0x0800, fragment4(0x2000, synTo(22))), want: eth(saw4, 14)},
		{name: "later fragment", header: frame(0x0800, fragment4(0x2000|1, synTo(22))),
			want: eth(seen{src: outerSrc, dst: outerDst, proto: 6, ipLen: 40, ttl: 61, fragment: true}, 14)},
		{name: "ICMP", header: frame(0x0800, ip4(outerSrc, outerDst, 1, wire{}.u8(3, 1).u16(0, 0, 0))), want: eth(seen{src: outerSrc, dst: outerDst, proto: 1, icmp: 0x0301, ipLen: 28, ttl: 61}, 14)},
		{name: "SCTP", header: frame(0x0800, ip4(outerSrc, outerDst, 132, udpTo(2905, nil))), want: eth(seen{src: outerSrc, dst: outerDst, proto: 132, sport: 50000, dport: 2905, ipLen: 28, ttl: 61}, 14)},
		{name: "ESP has no ports", header: frame(0x0800, ip4(outerSrc, outerDst, 50, udpTo(2905, nil))), want: eth(seen{src: outerSrc, dst: outerDst, proto: 50, ipLen: 28, ttl: 61}, 14)},
		{name: "an IPv4 address in an IPv6 packet is IPv4", header: frame(0x86dd, ip6("::ffff:192.0.2.1", "2001:db8::2", 6, synTo(22))),
			want: eth(with2(saw6, func(s *seen) { s.src = "192.0.2.1" }), 14)},

		{name: "MPLS", header: frame(0x8847, wire{}.raw(label(0), label(0), label(1), plain4)), want: eth(saw4, 26)},
		{name: "MPLS, IPv6 behind", header: frame(0x8848, wire{}.raw(label(1), plain6)), want: eth(saw6, 18)},
		{name: "MPLS behind a VLAN", header: frame(0x8100, wire{}.u16(7, 0x8847).raw(label(1), plain4)), want: vlan(eth(saw4, 22), 7)},
		{name: "MPLS without a bottom", header: frame(0x8847, repeat(label(0), maxMPLSLabels+1).raw(plain4)), want: eth(seen{}, 0)},
		{name: "MPLS, frame behind a control word", header: frame(0x8847, wire{}.raw(label(1)).u32(0).raw(macsLike4).u16(0x0800).raw(plain4)), want: eth(saw4, 36)},
		{name: "MPLS, frame with VLAN: the customer's tag and MAC are not the port's", header: frame(0x8847, wire{}.raw(label(1)).u32(0).raw(macsLike4).u16(0x8100, 9, 0x86dd).raw(plain6)), want: eth(saw6, 40)},
		{name: "MPLS, frame without control word, MAC like IPv4", header: frame(0x8847, wire{}.raw(label(1), macsLike4).u16(0x0800).raw(plain4)), want: eth(saw4, 32)},
		{name: "MPLS, frame without control word, MAC like a control word", header: frame(0x8847, wire{}.raw(label(1)).u8(0, 0, 0x5e, 1, 2, 3, 2, 0, 0, 0, 0, 3).u16(0x0800).raw(plain4)), want: eth(saw4, 32)},
		{name: "MPLS, frame whose IPv4 header does not prove itself", header: frame(0x8847, wire{}.raw(label(1)).u32(0).raw(macsLike4).u16(0x0800).raw(ipv4TCP)), want: eth(seen{}, 0)},
		{name: "MPLS, IPv4 with a wrong checksum is IPv4 where nothing else fits", header: frame(0x8847, wire{}.raw(label(1), ipv4TCP)),
			want: eth(with2(saw4, func(s *seen) { s.ttl, s.ipLen = 255, 44 }), 18)},
		{name: "MPLS, frame without control word, MAC like IPv6", header: frame(0x8847, wire{}.raw(label(1), macsLike6).u16(0x0800).raw(plain4)), want: eth(saw4, 32)},
		{name: "MPLS, IPv6 whose addresses look like a frame with IPv4 is IPv6", header: frame(0x8847, wire{}.raw(label(1), likeFrame)),
			want: eth(seen{src: "2001:db8:800:4500:14:1:0:3d3b", dst: "9178:c000:201:c633:6401::", proto: 17, sport: 50000, dport: 53, ipLen: 48, ttl: 62}, 18)},
		{name: "MPLS, associated channel", header: frame(0x8847, wire{}.raw(label(1)).u32(0x10000021).raw(plain4)), want: eth(seen{}, 0)},

		{name: "PPPoE", header: frame(0x8864, pppoe(0x0021, plain4)), want: eth(saw4, 22)},
		{name: "PPPoE in a VLAN, IPv6", header: frame(0x8100, wire{}.u16(7, 0x8864).raw(pppoe(0x0057, plain6))), want: vlan(eth(saw6, 26), 7)},
		{name: "PPPoE, LCP", header: frame(0x8864, pppoe(0xc021, plain4)), want: eth(seen{}, 0)},
		{name: "PPPoE discovery", header: frame(0x8863, pppoe(0x0021, plain4)), want: eth(seen{}, 0)},
		{name: "PPP in HDLC framing", protocol: headerPOS, header: wire{}.u8(0xff, 3).u16(0x0021).raw(plain4), want: with2(saw4, func(s *seen) { s.l2 = 4 })},
		{name: "PPP, protocol compressed", protocol: headerPPP, header: wire{}.u8(0x57).raw(plain6), want: with2(saw6, func(s *seen) { s.l2 = 1 })},
		{name: "IPv4 header", protocol: headerIPv4, header: plain4, want: saw4},
		{name: "IPv6 header", protocol: headerIPv6, header: plain6, want: saw6},
		{name: "MPLS header", protocol: headerMPLS, header: wire{}.raw(label(1), plain4), want: with2(saw4, func(s *seen) { s.l2 = 4 })},

		tunnelCase("GRE", 47, gre(0, 0x0800, 0, inner4), 0, 0, sawInner4, 4),
		tunnelCase("GRE with checksum, key and sequence", 47, gre(0xb000, 0x86dd, 12, inner6), 0, 0, sawInner6, 16),
		tunnelCase("GRE, a frame within (NVGRE)", 47, gre(0x2000, 0x6558, 4, frame(0x0800, inner4)), 0, 0, sawInner4, 8+14),
		tunnelCase("GRE, MPLS within", 47, gre(0, 0x8847, 0, wire{}.raw(label(1), inner4)), 0, 0, sawInner4, 8),
		tunnelCase("IP in IP", 4, inner4, 0, 0, sawInner4, 0),
		tunnelCase("IPv6 in IPv4", 41, inner6, 0, 0, sawInner6, 0),
		tunnelCase("MPLS in IP", 137, wire{}.raw(label(1), inner4), 0, 0, sawInner4, 4),
		tunnelCase("VXLAN", 17, vxlan(8, frame(0x0800, inner4)), 50000, 4789, sawInner4, 16+14),
		tunnelCase("VXLAN, VLAN within: the tag is not the port's", 17, vxlan(8, frame(0x8100, wire{}.u16(9, 0x86dd).raw(inner6))), 50000, 4789, sawInner6, 16+18),
		tunnelCase("Geneve", 17, geneve(0, 0x6558, frame(0x0800, inner4)), 50000, 6081, sawInner4, 16+14),
		tunnelCase("Geneve with options, IP within", 17, geneve(3, 0x86dd, inner6), 50000, 6081, sawInner6, 16+12),
		tunnelCase("GRE in VXLAN: the innermost", 17, vxlan(8, frame(0x0800, ip4("172.16.0.1", "172.16.0.2", 47, gre(0, 0x0800, 0, inner4)))), 50000, 4789, sawInner4, 16+14+20+4),
	}
	// What is no tunnel, or none that is read: the outer packet stands.
	for name, payload := range map[string]struct {
		proto        uint8
		payload      wire
		sport, dport uint16
	}{
		"VXLAN without a network":            {17, vxlan(0, frame(0x0800, inner4)), 50000, 4789},
		"VXLAN with ARP within":              {17, vxlan(8, frame(0x0806, make([]byte, 28))), 50000, 4789},
		"from VXLAN's port, not to it":       {17, wire{}.u16(4789, 50000, 100, 0).u8(8, 0, 0, 0, 0, 0, 7, 0).raw(frame(0x0800, inner4)), 4789, 50000},
		"Geneve version 1":                   {17, udpTo(6081, wire{}.u8(0x40, 0).u16(0x0800).u32(0).raw(inner4)), 50000, 6081},
		"GRE version 1":                      {47, gre(0x2001, 0x0800, 4, inner4), 0, 0},
		"GRE with source routes":             {47, gre(0x4000, 0x0800, 4, inner4), 0, 0},
		"GRE, unknown protocol":              {47, gre(0, 0x88be, 0, inner4), 0, 0},
		"IP in IP that holds IPv6":           {4, inner6, 0, 0},
		"IP in IP, inner header too short":   {4, wire{}.u8(0x44).raw(inner4[1:]), 0, 0},
		"ESP, whatever it looks like inside": {50, inner4, 0, 0},
	} {
		c := tunnelCase(name, payload.proto, payload.payload, payload.sport, payload.dport, seen{}, 0)
		c.inner = nil
		cases = append(cases, c)
	}
	return append(cases, ipv6Cases()...)
}

func with2(s seen, f func(*seen)) seen { f(&s); return s }

// fragment4 is plain4 with other fragment bits, as routers leave it.
func fragment4(bits uint16, payload []byte) wire {
	w := ip4(outerSrc, outerDst, 6, payload)
	binary.BigEndian.PutUint16(w[6:], bits)
	return w
}

func ipv6Cases() []packetCase {
	ext := func(next, n uint8) wire { return wire{}.u8(next, n).raw(make([]byte, 6+8*int(n))) }
	six := func(next uint8, payload []byte) []byte {
		return frame(0x86dd, ip6("2001:db8::1", "2001:db8::2", next, payload))
	}
	saw := func(ipLen int, f func(*seen)) seen {
		return with2(eth(saw6, 14), func(s *seen) { s.ipLen = uint16(ipLen); f(s) })
	}
	same := func(*seen) {}
	chain := wire{}
	for range maxIPv6Ext - 1 {
		chain = chain.raw(ext(60, 0))
	}
	return []packetCase{
		{name: "IPv6, hop-by-hop, routing, destination", header: six(0, wire{}.raw(ext(43, 0), ext(60, 2), ext(6, 1), synTo(22))), want: saw(40+8+24+16+20, same)},
		{name: "IPv6, authentication header counts in words of four", header: six(51, wire{}.u8(6, 4).raw(make([]byte, 22), synTo(22))), want: saw(40+24+20, same)},
		{name: "IPv6, first fragment", header: six(44, wire{}.u8(6, 0).u16(1).u32(9).raw(synTo(22))), want: saw(40+8+20, same)},
		{name: "IPv6, later fragment", header: six(44, wire{}.u8(6, 0).u16(8|1).u32(9).raw(synTo(22))),
			want: saw(40+8+20, func(s *seen) { s.sport, s.dport, s.flags, s.fragment = 0, 0, 0, true })},
		{name: "IPv6, ICMPv6 behind destination options", header: six(60, wire{}.raw(ext(58, 0), wire{}.u8(128, 0).u16(0, 1, 1))),
			want: saw(40+8+8, func(s *seen) { s.proto, s.sport, s.dport, s.flags, s.icmp = 58, 0, 0, 0, 0x8000 })},
		{name: "IPv6, no next header", header: six(59, wire{}.u16(80, 80)), want: saw(44, func(s *seen) { s.proto, s.sport, s.dport, s.flags = 59, 0, 0, 0 })},
		{name: "IPv6, as many extension headers as are read", header: six(60, wire{}.raw(chain[:len(chain)-8], ext(6, 0), synTo(22))), want: saw(40+len(chain)+20, same)},
		{name: "IPv6, more than are read: the last type seen", header: six(60, wire{}.raw(chain, ext(60, 0), ext(6, 0), synTo(22))),
			want: saw(40+len(chain)+16+20, func(s *seen) { s.proto, s.sport, s.dport, s.flags = 60, 0, 0, 0 })},
	}
}

func read(protocol uint32, inner bool, b []byte) *packet {
	p := &packet{inner: inner}
	switch protocol {
	case 0, headerEthernet:
		p.ethernet(b)
	case headerIPv4, headerIPv6:
		p.ip(b)
	case headerMPLS:
		p.mpls(b)
	case headerPPP, headerPOS:
		p.ppp(b)
	}
	return p
}

func TestPacket(t *testing.T) {
	for _, c := range packetCases() {
		t.Run(c.name, func(t *testing.T) {
			diff := func(inner bool, want seen) {
				t.Helper()
				p := read(c.protocol, inner, c.header)
				hasMatches(t, p)
				got := p.seen()
				if d := cmp.Diff(want, got, cmp.AllowUnexported(seen{})); d != "" {
					t.Errorf("inner %v (-want +got):\n%s", inner, d)
				}
			}
			diff(false, c.want)
			if c.inner == nil {
				diff(true, c.want)
			} else {
				diff(true, *c.inner)
			}
			// The slack behind the header is not read.
			slack := append(slices.Clone(c.header), make([]byte, 64)...)[:len(c.header)]
			if got, want := read(c.protocol, true, slack).seen(), read(c.protocol, true, c.header).seen(); got != want {
				t.Errorf("with slack %+v, without %+v", got, want)
			}
		})
	}
}

// unproven: cut before what proves that they are frames, these are read as IP.
var unproven = map[string]int{
	"MPLS, frame without control word, MAC like IPv4": 14 + 4 + 14 + 20,
	"MPLS, frame without control word, MAC like IPv6": 14 + 4 + 40,
}

// TestPacketCut cuts every header at every byte. What is told then is the same
// as of the whole header, or of one of its layers, or less.
func TestPacketCut(t *testing.T) {
	for _, c := range packetCases() {
		t.Run(c.name, func(t *testing.T) {
			for _, inner := range []bool{false, true} {
				layers := []seen{c.want}
				if c.inner != nil && inner {
					layers = append(layers, *c.inner, seen{src: "172.16.0.1", dst: "172.16.0.2", mac: 2, proto: 47, ttl: 61, ipLen: 64, l2: 64})
				}
				for n := range len(c.header) {
					if n >= 14+4+20 && n < unproven[c.name] {
						continue
					}
					got := read(c.protocol, inner, slices.Clone(c.header[:n:n])).seen()
					if got.src == "" && (got.ipLen|got.sport|got.dport|got.icmp != 0 || got.ttl|got.flags|got.proto != 0 || got.fragment) {
						t.Fatalf("cut at %d: no addresses, but %+v", n, got)
					}
					if !slices.ContainsFunc(layers, got.within) {
						t.Fatalf("cut at %d of %d: %+v is in none of %+v", n, len(c.header), got, layers)
					}
				}
			}
		})
	}
}

// within reports whether s tells nothing that is not in whole; a protocol in a
// chain of extension headers may be the last one seen.
func (s seen) within(whole seen) bool {
	same := func(got, want any, zero bool) bool { return zero || got == want }
	return same(s.src, whole.src, s.src == "") && same(s.dst, whole.dst, s.dst == "") &&
		same(s.sport, whole.sport, s.sport == 0) && same(s.dport, whole.dport, s.dport == 0) &&
		same(s.flags, whole.flags, s.flags == 0) && same(s.ipLen, whole.ipLen, s.ipLen == 0) &&
		same(s.ttl, whole.ttl, s.ttl == 0) && same(s.vlan, whole.vlan, s.vlan == 0) &&
		same(s.mac, whole.mac, s.mac == 0) && same(s.icmp, whole.icmp, s.icmp == 0) && (whole.fragment || !s.fragment) &&
		(s.src == "" || s.l2 == whole.l2) &&
		(s.proto == whole.proto || s.src == "" || slices.Contains([]uint8{0, 43, 44, 51, 60}, s.proto))
}

// TestPacketNesting: tunnels within tunnels end at the bound, at the packet
// reached by then.
func TestPacketNesting(t *testing.T) {
	for depth := range maxNesting + 3 {
		b := ip4("10.0.0.0", "10.9.9.9", 6, synTo(22))
		for i := range depth {
			b = ip4(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}).String(), "10.9.9.9", 4, b)
		}
		want := netip.AddrFrom4([4]byte{10, 0, 0, byte(max(0, depth-maxNesting))}).String()
		if got := read(headerIPv4, true, b).seen(); got.src != want {
			t.Errorf("%d tunnels: %s, want %s", depth, got.src, want)
		}
	}
}

// FuzzPacket: any bytes, by any protocol: no panic, nothing told that the Has
// bits do not say, and offsets within the header.
func FuzzPacket(f *testing.F) {
	for _, c := range packetCases() {
		f.Add(c.protocol, true, c.header)
		f.Add(c.protocol, false, c.header)
	}
	f.Fuzz(func(t *testing.T, protocol uint32, inner bool, b []byte) {
		p := read(protocol, inner, b)
		p.fill(&flow.Record{})
		if p.l2 < 0 || p.l2 > len(b) || p.net != nil && (p.l2 == len(b) || &p.net[0] != &b[p.l2]) {
			t.Errorf("IP header at %d of %d", p.l2, len(b))
		}
		if p.depth > maxNesting {
			t.Errorf("%d encapsulations", p.depth)
		}
	})
}
