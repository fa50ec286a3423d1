package decode

import (
	"encoding/binary"
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// packet is what is read from a sampled header.
type packet struct {
	bad bool // the header ends or contradicts itself before the IP addresses

	srcMAC  [6]byte
	hasMAC  bool
	vlan    uint16
	hasVLAN bool
	l2      int // bytes before the IP header

	src, dst netip.Addr
	ipLen    int // IP total length; 0 where the header says 0
	ttl      uint8
	proto    uint8
	hasIP    bool
	fragment bool // not the first fragment

	srcPort, dstPort   uint16
	hasPorts           bool
	flags              uint8
	hasFlags           bool
	icmpType, icmpCode uint8
	hasICMP            bool
}

// EtherTypes (IEEE 802 numbers).
const (
	etherIPv4  = 0x0800
	etherIPv6  = 0x86dd
	etherVLAN  = 0x8100
	etherQinQ  = 0x88a8
	etherQinQ2 = 0x9100
	etherMPLS  = 0x8847
	etherMPLSm = 0x8848
)

// ethernet reads a frame from its destination MAC on.
func (p *packet) ethernet(b []byte) {
	if len(b) < 14 {
		p.bad = true
		return
	}
	copy(p.srcMAC[:], b[6:12])
	p.hasMAC = true
	typ := binary.BigEndian.Uint16(b[12:])
	p.l2 = 14
	b = b[14:]
	for range maxVLANTags {
		if typ != etherVLAN && typ != etherQinQ && typ != etherQinQ2 {
			break
		}
		if len(b) < 4 {
			p.bad = true
			return
		}
		if !p.hasVLAN { // the outer tag: it names the port's VLAN
			p.vlan, p.hasVLAN = binary.BigEndian.Uint16(b)&0x0fff, true
		}
		typ = binary.BigEndian.Uint16(b[2:])
		p.l2 += 4
		b = b[4:]
	}
	switch typ {
	case etherIPv4, etherIPv6:
		p.ip(b)
	case etherMPLS, etherMPLSm:
		p.mpls(b)
	}
}

// mpls skips the label stack (RFC 3032 §2.1). What follows the last label is
// told by its first four bits, as routers do.
func (p *packet) mpls(b []byte) {
	for range maxMPLSLabels {
		if len(b) < 4 {
			p.bad = true
			return
		}
		bottom := b[2]&1 != 0
		p.l2 += 4
		b = b[4:]
		if bottom {
			if len(b) > 0 && (b[0]>>4 == 4 || b[0]>>4 == 6) {
				p.ip(b)
			}
			return
		}
	}
}

// ip reads an IPv4 or IPv6 packet.
func (p *packet) ip(b []byte) {
	switch {
	case len(b) > 0 && b[0]>>4 == 4:
		p.ipv4(b)
	case len(b) > 0 && b[0]>>4 == 6:
		p.ipv6(b)
	default:
		p.bad = true
	}
}

// ipv4 reads RFC 791 §3.1.
func (p *packet) ipv4(b []byte) {
	ihl := int(b[0]&0x0f) * 4
	if len(b) < 20 || ihl < 20 {
		p.bad = true
		return
	}
	p.hasIP = true
	p.ipLen = int(binary.BigEndian.Uint16(b[2:]))
	p.ttl, p.proto = b[8], b[9]
	p.src = netip.AddrFrom4([4]byte(b[12:16]))
	p.dst = netip.AddrFrom4([4]byte(b[16:20]))
	if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		p.fragment = true
		return
	}
	if len(b) < ihl {
		return // options cut off; the addresses stand
	}
	p.transport(b[ihl:])
}

// ipv6 reads RFC 8200 §3 and walks the extension headers of §4.
func (p *packet) ipv6(b []byte) {
	if len(b) < 40 {
		p.bad = true
		return
	}
	p.hasIP = true
	if n := int(binary.BigEndian.Uint16(b[4:])); n > 0 {
		p.ipLen = 40 + n
	}
	p.ttl = b[7]
	p.src = netip.AddrFrom16([16]byte(b[8:24])).Unmap()
	p.dst = netip.AddrFrom16([16]byte(b[24:40])).Unmap()
	next := b[6]
	b = b[40:]
	for range maxIPv6Ext {
		p.proto = next
		var n int
		switch next {
		case 0, 43, 60, 135, 139, 140: // hop-by-hop, routing, destination, mobility, HIP, Shim6
			if len(b) < 8 {
				return
			}
			n = (int(b[1]) + 1) * 8
		case 51: // authentication header: length in 4-byte words, RFC 4302 §2.2
			if len(b) < 8 {
				return
			}
			n = (int(b[1]) + 2) * 4
		case 44: // fragment
			if len(b) < 8 {
				return
			}
			n = 8
			if binary.BigEndian.Uint16(b[2:])&0xfff8 != 0 {
				p.proto, p.fragment = b[0], true
				return
			}
		default:
			p.transport(b)
			return
		}
		if len(b) < n {
			return // the chain goes on behind the cut: protocol is the last seen
		}
		next = b[0]
		b = b[n:]
	}
}

// transport reads what of the upper header was sampled.
func (p *packet) transport(b []byte) {
	switch {
	case p.proto == flow.ProtoICMP || p.proto == flow.ProtoICMPv6:
		if len(b) >= 2 {
			p.icmpType, p.icmpCode, p.hasICMP = b[0], b[1], true
		}
	case hasPorts(p.proto):
		if len(b) >= 4 {
			p.srcPort, p.dstPort, p.hasPorts = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), true
		}
		if p.proto == flow.ProtoTCP && len(b) >= 14 {
			p.flags, p.hasFlags = b[13], true
		}
	}
}

// fill sets everything the header told.
func (p *packet) fill(r *flow.Record) {
	if p.hasMAC {
		r.SrcMAC = p.srcMAC
		r.Has |= flow.HasSrcMAC
	}
	if p.hasVLAN {
		r.VLAN = p.vlan
		r.Has |= flow.HasVLAN
	}
	if !p.hasIP {
		return
	}
	r.Src, r.Dst = p.src, p.dst
	r.IPProto, r.TTL = p.proto, p.ttl
	r.Has |= flow.HasIPProto | flow.HasTTL
	if p.ipLen > 0 {
		r.IPLen = uint16(min(p.ipLen, 65535))
		r.Has |= flow.HasIPLen
	}
	if p.fragment {
		r.Has |= flow.HasFragment
	}
	if p.hasPorts {
		r.SrcPort, r.DstPort = p.srcPort, p.dstPort
		r.Has |= flow.HasPorts
	}
	if p.hasFlags {
		r.TCPFlags = p.flags
		r.Has |= flow.HasTCPFlags
	}
	if p.hasICMP {
		r.ICMPType, r.ICMPCode = p.icmpType, p.icmpCode
		r.Has |= flow.HasICMP
	}
}
