package decode_test

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/flowcordon/flowcordon/flow"
)

// refPacket is what a sampled header tells, read with gopacket's layers. They
// refuse a header that is cut, so each gets zeros behind it, and a field counts
// only where all its bytes are of the packet.
type refPacket struct {
	inner bool // go into tunnels
	depth int  // tunnels and pseudowires gone into

	bad    bool
	found  bool        // the IP addresses
	below  int         // bytes before the IP header
	length int         // of the IP packet; 0: not told
	link   flow.Record // source MAC and VLAN
	ip     flow.Record // the rest
}

const refNesting = 4

// padded is n bytes of b, zeros where it has fewer.
func padded(b []byte, n int) []byte {
	out := make([]byte, n)
	copy(out, b)
	return out
}

// must: with what we hand over gopacket has nothing to complain about.
func must(err error) {
	if err != nil {
		panic("reference: " + err.Error())
	}
}

var noFeedback = gopacket.NilDecodeFeedback

func (p *refPacket) cut() { p.bad = true }

func (p *refPacket) ethernet(b []byte, at int) {
	if len(b) < 14 {
		p.cut()
		return
	}
	var eth layers.Ethernet
	must(eth.DecodeFromBytes(append(b[:12:12], 0x08, 0), noFeedback)) // whatever the type: an 802.3 length is checked there
	if p.depth == 0 {
		p.link.SrcMAC = [6]byte(eth.SrcMAC)
		p.link.Has |= flow.HasSrcMAC
	}
	p.payload(int(binary.BigEndian.Uint16(b[12:])), b[14:], at+14)
}

// payload reads what an EtherType announces, behind four tags or LLC headers at
// most.
func (p *refPacket) payload(typ int, b []byte, at int) {
	for range 5 {
		switch typ {
		case 0x0800, 0x86dd:
			p.network(b, at)
			return
		case 0x8847, 0x8848:
			p.mpls(b, at)
			return
		case 0x8864: // PPPoE, RFC 2516 §4
			var oe layers.PPPoE
			if len(b) >= 6 {
				oe.Version, oe.Type, oe.Code = b[0]>>4, b[0]&15, layers.PPPoECode(b[1])
				if oe.Version == 1 && oe.Type == 1 && oe.Code == layers.PPPoECodeSession {
					p.ppp(b[6:], at+6)
				}
			}
			return
		case 0x8100, 0x88a8, 0x9100, 0x9200:
			if len(b) < 4 {
				p.cut()
				return
			}
			var tag layers.Dot1Q
			must(tag.DecodeFromBytes(b, noFeedback))
			if p.depth == 0 && p.link.Has&flow.HasVLAN == 0 && tag.VLANIdentifier != 0 { // 0: a priority only
				p.link.VLAN = tag.VLANIdentifier
				p.link.Has |= flow.HasVLAN
			}
			typ, b, at = int(tag.Type), b[4:], at+4
		default:
			if typ > 1500 || len(b) < 8 {
				return
			}
			var llc layers.LLC
			llc.DSAP, llc.SSAP, llc.Control = b[0], b[1], uint16(b[2])
			if llc.DSAP != 0xaa || llc.SSAP != 0xaa || llc.Control != 3 || b[3]|b[4]|b[5] != 0 {
				return // RFC 1042 is all that is read
			}
			typ, b, at = int(binary.BigEndian.Uint16(b[6:])), b[8:], at+8
			if typ <= 1500 {
				return
			}
		}
	}
}

// ppp: RFC 1661 §2; the protocol may be compressed to its last byte.
func (p *refPacket) ppp(b []byte, at int) {
	if len(b) >= 2 && b[0] == 0xff && b[1] == 3 {
		b, at = b[2:], at+2
	}
	if len(b) < 2 {
		p.cut()
		return
	}
	proto, n := int(b[0])<<8|int(b[1]), 2
	if b[0]%2 == 1 {
		proto, n = int(b[0]), 1
	}
	switch layers.PPPType(proto) {
	case layers.PPPTypeIPv4, layers.PPPTypeIPv6:
		p.network(b[n:], at+n)
	case layers.PPPTypeMPLSUnicast, layers.PPPTypeMPLSMulticast:
		p.mpls(b[n:], at+n)
	}
}

// mpls: RFC 3032 §2.1.
func (p *refPacket) mpls(b []byte, at int) {
	for range 16 {
		if len(b) < 4 {
			p.cut()
			return
		}
		label := gopacket.NewPacket(b[:4], layers.LayerTypeMPLS, gopacket.Lazy).Layer(layers.LayerTypeMPLS).(*layers.MPLS)
		b, at = b[4:], at+4
		if label.StackBottom {
			p.labelled(b, at)
			return
		}
	}
}

// labelled: IP by the first nibble, unless it is a frame that proves to be one:
// the IPv4 checksum in it is right, or the IPv6 header plausible.
func (p *refPacket) labelled(b []byte, at int) {
	if len(b) == 0 {
		return
	}
	nibble := b[0] >> 4
	if nibble == 6 && (refUsual6(b) || !refIsFrame(b)) || nibble == 4 && (refChecksum(b) || !refIsFrame(b)) {
		p.network(b, at)
		return
	}
	if nibble == 0 && len(b) >= 4 && refIsFrame(b[4:]) { // behind a control word, RFC 4385 §3
		b, at = b[4:], at+4
	}
	if refIsFrame(b) && p.depth < refNesting {
		p.depth++
		p.ethernet(b, at)
	}
}

// refUsual6: IPv6 has no checksum. From a global address and with a common next
// header it is believed.
func refUsual6(b []byte) bool {
	if len(b) < 40 {
		return true
	}
	return b[8]&0xe0 == 0x20 && slices.Contains([]layers.IPProtocol{
		layers.IPProtocolTCP, layers.IPProtocolUDP, layers.IPProtocolICMPv6, layers.IPProtocolIPv6HopByHop,
		layers.IPProtocolIPv6Routing, layers.IPProtocolIPv6Fragment, layers.IPProtocolESP, layers.IPProtocolAH, layers.IPProtocolIPv6Destination,
	}, layers.IPProtocol(b[6]))
}

func refIsFrame(b []byte) bool {
	if len(b) < 14 {
		return false
	}
	typ, net := binary.BigEndian.Uint16(b[12:]), b[14:]
	for tags := 0; tags < 4 && (typ == 0x8100 || typ == 0x88a8) && len(net) >= 4; tags++ {
		typ, net = binary.BigEndian.Uint16(net[2:]), net[4:]
	}
	return typ == 0x0800 && refChecksum(net) || typ == 0x86dd && len(net) >= 40 && net[0]>>4 == 6 && net[7] > 0
}

// refChecksum: RFC 1071, over a whole IPv4 header.
func refChecksum(b []byte) bool {
	if len(b) < 20 || b[0]>>4 != 4 || b[0]&15 < 5 || len(b) < 4*int(b[0]&15) {
		return false
	}
	sum := 0
	for i := range 2 * int(b[0]&15) {
		sum += int(binary.BigEndian.Uint16(b[2*i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum == 0xffff
}

func (p *refPacket) network(b []byte, at int) {
	switch {
	case len(b) > 0 && b[0]>>4 == 4:
		p.ip4(b, at)
	case len(b) > 0 && b[0]>>4 == 6:
		p.ip6(b, at)
	default:
		p.cut()
	}
}

func (p *refPacket) ip4(b []byte, at int) {
	ihl := 0
	if len(b) >= 20 {
		ihl = int(b[0]%16) * 4
	}
	if ihl < 20 {
		p.cut()
		return
	}
	// Without its options and with a length that suits: gopacket gives up on a
	// bad option or a total length below the header's.
	head := padded(b[:20], 20)
	head[0], head[2], head[3] = 0x45, 0, 20
	var ip layers.IPv4
	must(ip.DecodeFromBytes(head, noFeedback))
	p.addresses(ip.SrcIP, ip.DstIP, ip.TTL, at)
	p.length = int(binary.BigEndian.Uint16(b[2:]))
	p.ip.IPProto = uint8(ip.Protocol)
	if ip.FragOffset != 0 {
		p.ip.Has |= flow.HasFragment
		return
	}
	if len(b) >= ihl {
		p.upper(b, ihl, p.length, at)
	}
}

func (p *refPacket) addresses(src, dst []byte, ttl uint8, at int) {
	s, _ := netip.AddrFromSlice(src)
	d, _ := netip.AddrFromSlice(dst)
	p.found, p.below = true, at
	p.ip = flow.Record{Src: s.Unmap(), Dst: d.Unmap(), TTL: ttl, Has: flow.HasTTL | flow.HasIPProto}
}

func (p *refPacket) ip6(b []byte, at int) {
	if len(b) < 40 {
		p.cut()
		return
	}
	head := padded(b[:40], 40)
	head[4], head[5], head[6] = 0, 8, 59 // no next header: the chain is walked here
	var ip layers.IPv6
	must(ip.DecodeFromBytes(head, noFeedback))
	p.addresses(ip.SrcIP, ip.DstIP, ip.HopLimit, at)
	p.length = 0
	if n := int(binary.BigEndian.Uint16(b[4:])); n > 0 {
		p.length = 40 + n
	}
	next := layers.IPProtocol(b[6])
	off := 40
	for range 10 {
		p.ip.IPProto = uint8(next)
		rest := b[off:]
		var size int
		switch next {
		case layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Routing, layers.IPProtocolIPv6Destination, 135, 139, 140:
			var ext layers.IPv6ExtensionSkipper
			must(ext.DecodeFromBytes(padded(rest, 2100), noFeedback))
			next, size = ext.NextHeader, len(ext.Contents)
		case layers.IPProtocolAH:
			if len(rest) < 8 {
				return
			}
			next, size = layers.IPProtocol(rest[0]), (int(rest[1])+2)*4
		case layers.IPProtocolIPv6Fragment:
			if len(rest) < 8 {
				return
			}
			frag := gopacket.NewPacket(rest[:8], layers.LayerTypeIPv6Fragment, gopacket.Lazy).Layer(layers.LayerTypeIPv6Fragment).(*layers.IPv6Fragment)
			if frag.FragmentOffset != 0 {
				p.ip.IPProto = uint8(frag.NextHeader)
				p.ip.Has |= flow.HasFragment
				return
			}
			next, size = frag.NextHeader, 8
		default:
			p.upper(b, off, p.length, at)
			return
		}
		if len(rest) < 8 || len(rest) < size {
			return // the protocol is the last that was seen
		}
		off += size
	}
	p.ip.IPProto = uint8(next)
}
