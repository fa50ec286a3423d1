package decode

import (
	"encoding/binary"
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// packet is what is read from a sampled header. Its slices are parts of that
// header; the walk notes where things are, and fill reads them.
type packet struct {
	inner bool // set before the walk: the innermost IP packet is wanted, not the outermost

	bad     bool     // the header ends or contradicts itself before the IP addresses
	hasVLAN bool     // of the outermost tag that names a VLAN
	vlan    uint16   // set with hasVLAN
	depth   uint8    // encapsulations entered
	mac     *[6]byte // the source's, of the outermost frame; nil: none

	whole    int    // capacity of the header at the outset: offsets are told by it
	l2       int    // bytes before the IP header
	net      []byte // from the IP header on, at least its fixed part; nil: none
	upper    []byte // what follows the IP headers; nil: nothing, or not known
	proto    uint8
	fragment bool // not the first fragment
}

// EtherTypes (IEEE 802 numbers).
const (
	etherIPv4    = 0x0800
	etherIPv6    = 0x86dd
	etherVLAN    = 0x8100
	etherQinQ    = 0x88a8 // 802.1ad
	etherQinQ2   = 0x9100 // before the standard
	etherQinQ3   = 0x9200
	etherMPLS    = 0x8847
	etherMPLSm   = 0x8848
	etherPPPoE   = 0x8864 // session stage, RFC 2516 §4
	etherBridged = 0x6558 // a frame within GRE or Geneve, RFC 1701
)

// etherLengthMax: up to here the field is the length of an 802.3 frame, whose
// payload begins with an LLC header (IEEE 802.3 §3.2.6).
const etherLengthMax = 1500

// begin notes the start of the header, at the first of the readers. A slice cut
// off in front or behind has lost as much capacity as was cut off in front.
func (p *packet) begin(b []byte) {
	if p.whole == 0 {
		p.whole = cap(b)
	}
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }

// cut notes that the header ended too early. Behind an IP header it is no
// harm: what stands outside is taken.
func (p *packet) cut() { p.bad = p.bad || p.net == nil }

// ethernet reads a frame from its destination MAC on.
func (p *packet) ethernet(b []byte) {
	p.begin(b)
	if len(b) < 14 {
		p.cut()
		return
	}
	if p.depth == 0 {
		p.mac = (*[6]byte)(b[6:])
	}
	p.payload(be16(b[12:]), b[14:])
}

// payload reads what an EtherType announces, through the tags before it.
func (p *packet) payload(typ uint16, b []byte) {
	for range maxVLANTags + 1 {
		switch typ {
		case etherIPv4, etherIPv6:
			p.network(b)
			return
		case etherVLAN, etherQinQ, etherQinQ2, etherQinQ3:
			if len(b) < 4 {
				p.cut()
				return
			}
			// The outer tag names the port's VLAN; id 0 is a priority only
			// (IEEE 802.1Q §9.6).
			if id := be16(b) & 0x0fff; id != 0 && !p.hasVLAN && p.depth == 0 {
				p.vlan, p.hasVLAN = id, true
			}
			typ, b = be16(b[2:]), b[4:]
		case etherMPLS, etherMPLSm:
			p.mpls(b)
			return
		case etherPPPoE:
			// Version and type 1, code 0: session data.
			if len(b) >= 6 && b[0] == 0x11 && b[1] == 0 {
				p.ppp(b[6:])
			}
			return
		default:
			// RFC 1042: LLC with the SNAP header of an EtherType. Other LLC is
			// no IP that anybody sends.
			if typ > etherLengthMax || len(b) < 8 || [6]byte(b[:6]) != [6]byte{0xaa, 0xaa, 0x03} {
				return
			}
			typ, b = be16(b[6:]), b[8:]
			if typ <= etherLengthMax {
				return
			}
		}
	}
}

// ppp reads a PPP frame from its protocol field on, with or without the HDLC
// bytes before it (RFC 1661 §2, RFC 1662 §3.1).
func (p *packet) ppp(b []byte) {
	p.begin(b)
	if len(b) >= 2 && b[0] == 0xff && b[1] == 0x03 {
		b = b[2:]
	}
	if len(b) < 2 {
		p.cut()
		return
	}
	proto, n := be16(b), 2
	if b[0]&1 != 0 { // compressed to one byte
		proto, n = uint16(b[0]), 1
	}
	switch proto {
	case 0x0021, 0x0057: // IPv4, IPv6
		p.ip(b[n:])
	case 0x0281, 0x0283: // MPLS
		p.mpls(b[n:])
	}
}

// mpls skips the label stack (RFC 3032 §2.1) and reads what follows it.
func (p *packet) mpls(b []byte) {
	p.begin(b)
	for range maxMPLSLabels {
		if len(b) < 4 {
			p.cut()
			return
		}
		bottom := b[2]&1 != 0
		b = b[4:]
		if bottom {
			p.labelled(b)
			return
		}
	}
}

// labelled reads what a label stack carries, which nothing names: routers tell
// IP by the first four bits (RFC 4928 §3), but a frame whose destination MAC
// begins with a 4 or 6 looks the same. A frame is taken for one only where the
// IPv4 or IPv6 header within it proves itself.
func (p *packet) labelled(b []byte) {
	if len(b) == 0 {
		return
	}
	switch b[0] >> 4 {
	case 4:
		if !checksumOK(b) && p.pseudowire(b) {
			return
		}
		p.ip(b)
	case 6:
		if !usualIPv6(b) && p.pseudowire(b) {
			return
		}
		p.ip(b)
	case 0: // a control word (RFC 4385 §3), or a MAC that begins with a 0
		if len(b) >= 4 && p.pseudowire(b[4:]) {
			return
		}
		p.pseudowire(b)
	default:
		p.pseudowire(b)
	}
}

// pseudowire reads a frame (RFC 4448 §4) where it is beyond doubt that b is one.
func (p *packet) pseudowire(b []byte) bool {
	if len(b) < 14 {
		return false
	}
	typ, net := be16(b[12:]), b[14:]
	for range maxVLANTags {
		if typ != etherVLAN && typ != etherQinQ || len(net) < 4 {
			break
		}
		typ, net = be16(net[2:]), net[4:]
	}
	switch {
	case typ == etherIPv4 && checksumOK(net):
	case typ == etherIPv6 && len(net) >= 40 && net[0]>>4 == 6 && net[7] != 0:
	default:
		return false
	}
	if p.enter() {
		p.ethernet(b)
	}
	return true
}

// usualIPv6 reports whether b reads as an IPv6 header of a kind that is routed:
// from a global address (2000::/3), with a common next header. IPv6 has no
// checksum; of frames whose MAC begins with a 6 few pass.
func usualIPv6(b []byte) bool {
	if len(b) < 40 {
		return true // and it ends here
	}
	if b[8]>>5 != 1 {
		return false
	}
	switch b[6] {
	case flow.ProtoTCP, flow.ProtoUDP, flow.ProtoICMPv6, 0, 43, 44, 50, 51, 60:
		return true
	}
	return false
}

// checksumOK reports whether b begins with a whole IPv4 header with a right
// checksum (RFC 1071).
func checksumOK(b []byte) bool {
	if len(b) < 20 || b[0]>>4 != 4 {
		return false
	}
	n := int(b[0]&0x0f) * 4
	if n < 20 || n > len(b) {
		return false
	}
	var sum uint32
	for i := 0; i < n; i += 2 {
		sum += uint32(be16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return sum == 0xffff
}

// enter counts an encapsulation and reports whether it may be gone into.
func (p *packet) enter() bool {
	if p.depth >= maxNesting {
		return false
	}
	p.depth++
	return true
}

// ip reads an IPv4 or IPv6 packet.
func (p *packet) ip(b []byte) {
	p.begin(b)
	p.network(b)
}

// network is ip behind another header, and goes into a tunnel where the inner
// packet is wanted.
func (p *packet) network(b []byte) {
	reached := false
	switch {
	case len(b) > 0 && b[0]>>4 == 4:
		reached = p.ipv4(b)
	case len(b) > 0 && b[0]>>4 == 6:
		reached = p.ipv6(b)
	default:
		p.cut()
	}
	if reached && p.inner {
		p.tunnel(p.upper)
	}
}

// ipv4 reads RFC 791 §3.1, and reports whether it reached the upper header.
func (p *packet) ipv4(b []byte) bool {
	if len(b) < 20 {
		p.cut()
		return false
	}
	header := int(b[0]&0x0f) * 4
	if header < 20 {
		p.cut()
		return false
	}
	p.net, p.l2, p.upper, p.proto, p.fragment = b, p.whole-cap(b), nil, b[9], false
	if be16(b[6:])&0x1fff != 0 {
		p.fragment = true
		return false
	}
	if len(b) < header {
		return false // options cut off; the addresses stand
	}
	p.transport(b, header, int(be16(b[2:])))
	return true
}

// ipv6 reads RFC 8200 §3 and walks the extension headers of §4, and reports
// whether it reached the upper header.
func (p *packet) ipv6(b []byte) bool {
	if len(b) < 40 {
		p.cut()
		return false
	}
	p.net, p.l2, p.upper, p.proto, p.fragment = b, p.whole-cap(b), nil, b[6], false
	total := 0 // a jumbogram or segmentation offload: not known
	if n := int(be16(b[4:])); n > 0 {
		total = 40 + n
	}
	off := 40
	for range maxIPv6Ext {
		next, n := p.proto, 8
		if next == flow.ProtoTCP || next == flow.ProtoUDP {
			p.transport(b, off, total)
			return true
		}
		switch next {
		case 0, 43, 44, 51, 60, 135, 139, 140:
		default:
			p.transport(b, off, total)
			return true
		}
		if len(b)-off < 8 {
			return false // the chain goes on behind the cut: the protocol is the last seen
		}
		switch next {
		case 44: // fragment
			if be16(b[off+2:])&0xfff8 != 0 {
				p.proto, p.fragment = b[off], true
				return false
			}
		case 51: // authentication header: length in 4-byte words, RFC 4302 §2.2
			n = (int(b[off+1]) + 2) * 4
		default: // hop-by-hop, routing, destination options, mobility, HIP, Shim6
			n = (int(b[off+1]) + 1) * 8
		}
		if len(b)-off < n {
			return false
		}
		p.proto = b[off]
		off += n
	}
	return false
}

// transport notes what follows the headers of b, less what the link padded
// behind the packet's total length (0: not known).
func (p *packet) transport(b []byte, header, total int) {
	if total >= header && total < len(b) {
		b = b[:total]
	}
	p.upper = b[header:]
}

// fill sets everything the header told.
func (p *packet) fill(r *flow.Record) {
	has := r.Has
	if p.mac != nil {
		r.SrcMAC = *p.mac
		has |= flow.HasSrcMAC
	}
	if p.hasVLAN {
		r.VLAN = p.vlan
		has |= flow.HasVLAN
	}
	if p.net == nil {
		r.Has = has
		return
	}
	has |= flow.HasIPProto | flow.HasTTL
	b := p.net
	if b[0]>>4 == 4 {
		b = b[:20]
		r.Src = netip.AddrFrom4([4]byte(b[12:16]))
		r.Dst = netip.AddrFrom4([4]byte(b[16:20]))
		r.TTL = b[8]
	} else {
		b = b[:40]
		r.Src = netip.AddrFrom16([16]byte(b[8:24])).Unmap()
		r.Dst = netip.AddrFrom16([16]byte(b[24:40])).Unmap()
		r.TTL = b[7]
	}
	if n := p.length(); n > 0 {
		r.IPLen = uint16(min(n, 0xffff))
		has |= flow.HasIPLen
	}
	if p.fragment {
		has |= flow.HasFragment
	}
	r.IPProto = p.proto
	r.Has = has | p.ports(r)
}

// length is the IP packet's total length; 0 where its header says 0: jumbograms
// and hosts that sample before segmentation offload.
func (p *packet) length() int {
	if p.net == nil {
		return 0
	}
	if p.net[0]>>4 == 4 {
		return int(be16(p.net[2:]))
	}
	if n := int(be16(p.net[4:])); n > 0 {
		return 40 + n
	}
	return 0
}

// ports sets what of the upper header was sampled.
func (p *packet) ports(r *flow.Record) (has flow.Has) {
	u := p.upper
	switch p.proto {
	case flow.ProtoTCP:
		if len(u) >= 14 {
			r.TCPFlags = u[13]
			has |= flow.HasTCPFlags
		}
		fallthrough
	case flow.ProtoUDP, protoDCCP, protoSCTP, protoUDPLite:
		if len(u) >= 4 {
			r.SrcPort, r.DstPort = be16(u), be16(u[2:])
			has |= flow.HasPorts
		}
	case flow.ProtoICMP, flow.ProtoICMPv6:
		if len(u) >= 2 {
			r.ICMPType, r.ICMPCode = u[0], u[1]
			has |= flow.HasICMP
		}
	}
	return has
}
