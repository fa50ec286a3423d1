package decode_test

import (
	"encoding/binary"

	"github.com/gopacket/gopacket/layers"

	"github.com/flowcordon/flowcordon/flow"
)

// upper takes what follows the IP headers, without what the link padded behind
// the packet's end.
func (p *refPacket) upper(b []byte, header, length, at int) {
	if length >= header && length < len(b) {
		b = b[:length]
	}
	p.transport(b[header:])
	if !p.inner || p.depth >= refNesting {
		return
	}
	q := refPacket{inner: true, depth: p.depth + 1}
	q.tunnel(layers.IPProtocol(p.ip.IPProto), b[header:], at+header)
	if q.found {
		p.below, p.length, p.ip = q.below, q.length, q.ip
	}
}

// tunnel reads what an IP packet carries, if that is another.
func (p *refPacket) tunnel(proto layers.IPProtocol, b []byte, at int) {
	switch {
	case proto == layers.IPProtocolIPv4 && len(b) > 0 && b[0]>>4 == 4:
		p.ip4(b, at)
	case proto == layers.IPProtocolIPv6 && len(b) > 0 && b[0]>>4 == 6:
		p.ip6(b, at)
	case proto == layers.IPProtocolMPLSInIP:
		p.mpls(b, at)
	case proto == layers.IPProtocolGRE && len(b) >= 4 && b[0]&0x40 == 0 && b[1]&7 == 0: // no source routes, version 0
		var gre layers.GRE
		must(gre.DecodeFromBytes(padded(append(b[:1:1], b[1]&7, b[2], b[3]), 64), noFeedback))
		if n := len(gre.Contents); len(b) >= n {
			p.carried(int(gre.Protocol), b[n:], at+n)
		}
	case proto == layers.IPProtocolUDP && len(b) >= 16:
		switch layers.UDPPort(binary.BigEndian.Uint16(b[2:])) {
		case 4789:
			var vx layers.VXLAN
			must(vx.DecodeFromBytes(b[8:], noFeedback))
			if vx.ValidIDFlag {
				p.ethernet(b[16:], at+16)
			}
		case 6081: // Geneve, RFC 8926 §3.4
			n := 16 + 4*int(b[8]&63)
			if b[8]>>6 == 0 && len(b) >= n {
				p.carried(int(binary.BigEndian.Uint16(b[10:])), b[n:], at+n)
			}
		}
	}
}

func (p *refPacket) carried(typ int, b []byte, at int) {
	if typ == 0x6558 { // transparent Ethernet bridging
		p.ethernet(b, at)
		return
	}
	p.payload(typ, b, at)
}

// transport reads ports, flags, ICMP type and code.
func (p *refPacket) transport(b []byte) {
	var src, dst uint16
	switch layers.IPProtocol(p.ip.IPProto) {
	case layers.IPProtocolICMPv4:
		var icmp layers.ICMPv4
		must(icmp.DecodeFromBytes(padded(b, 8), noFeedback))
		p.icmp(icmp.TypeCode.Type(), icmp.TypeCode.Code(), len(b))
		return
	case layers.IPProtocolICMPv6:
		var icmp layers.ICMPv6
		must(icmp.DecodeFromBytes(padded(b, 8), noFeedback))
		p.icmp(icmp.TypeCode.Type(), icmp.TypeCode.Code(), len(b))
		return
	case layers.IPProtocolTCP:
		var tcp layers.TCP
		head := padded(b, 20)
		head[12] = 5 << 4
		must(tcp.DecodeFromBytes(head, noFeedback))
		src, dst = uint16(tcp.SrcPort), uint16(tcp.DstPort)
		if len(b) >= 14 {
			for bit, on := range []bool{tcp.FIN, tcp.SYN, tcp.RST, tcp.PSH, tcp.ACK, tcp.URG, tcp.ECE, tcp.CWR} {
				if on {
					p.ip.TCPFlags |= 1 << bit
				}
			}
			p.ip.Has |= flow.HasTCPFlags
		}
	case layers.IPProtocolUDP:
		var udp layers.UDP
		head := padded(b, 8)
		head[4], head[5] = 0, 8
		must(udp.DecodeFromBytes(head, noFeedback))
		src, dst = uint16(udp.SrcPort), uint16(udp.DstPort)
	case layers.IPProtocolSCTP:
		var sctp layers.SCTP
		must(sctp.DecodeFromBytes(padded(b, 12), noFeedback))
		src, dst = uint16(sctp.SrcPort), uint16(sctp.DstPort)
	case 33, layers.IPProtocolUDPLite: // DCCP
		head := padded(b, 4)
		src, dst = binary.BigEndian.Uint16(head), binary.BigEndian.Uint16(head[2:])
	default:
		return
	}
	if len(b) >= 4 {
		p.ip.SrcPort, p.ip.DstPort = src, dst
		p.ip.Has |= flow.HasPorts
	}
}

func (p *refPacket) icmp(typ, code uint8, n int) {
	if n >= 2 {
		p.ip.ICMPType, p.ip.ICMPCode = typ, code
		p.ip.Has |= flow.HasICMP
	}
}

// fill copies what was told into x.
func (p *refPacket) fill(x *flow.Record) {
	if p.link.Has&flow.HasSrcMAC != 0 {
		x.SrcMAC, x.Has = p.link.SrcMAC, x.Has|flow.HasSrcMAC
	}
	if p.link.Has&flow.HasVLAN != 0 {
		x.VLAN, x.Has = p.link.VLAN, x.Has|flow.HasVLAN
	}
	if !p.found {
		return
	}
	ip := &p.ip
	x.Has |= ip.Has
	x.Src, x.Dst, x.TTL, x.IPProto = ip.Src, ip.Dst, ip.TTL, ip.IPProto
	if p.length > 0 {
		x.IPLen, x.Has = uint16(min(p.length, 65535)), x.Has|flow.HasIPLen
	}
	if ip.Has&flow.HasPorts != 0 {
		x.SrcPort, x.DstPort = ip.SrcPort, ip.DstPort
	}
	if ip.Has&flow.HasTCPFlags != 0 {
		x.TCPFlags = ip.TCPFlags
	}
	if ip.Has&flow.HasICMP != 0 {
		x.ICMPType, x.ICMPCode = ip.ICMPType, ip.ICMPCode
	}
}
