package decode

import "github.com/flowcordon/flowcordon/flow"

// IP protocols that carry packets or ports (IANA protocol numbers).
const (
	protoIPv4    = 4
	protoDCCP    = 33
	protoIPv6    = 41
	protoGRE     = 47
	protoSCTP    = 132
	protoUDPLite = 136
	protoMPLS    = 137 // RFC 4023
)

// UDP ports of tunnels, and the length of a UDP header.
const (
	portVXLAN  = 4789 // RFC 7348 §5
	portGeneve = 6081 // RFC 8926 §3.3
	udpHeader  = 8
)

// tunnel goes into what p.upper carries. Where that is no tunnel, is cut before
// the inner addresses or is not understood, the outer packet stands.
func (p *packet) tunnel(b []byte) {
	switch p.proto {
	case protoIPv4, protoIPv6:
		version := byte(4)
		if p.proto == protoIPv6 {
			version = 6
		}
		if len(b) > 0 && b[0]>>4 == version && p.enter() {
			p.ip(b)
		}
	case protoGRE:
		p.gre(b)
	case protoMPLS:
		if p.enter() {
			p.mpls(b)
		}
	case flow.ProtoUDP:
		if len(b) < udpHeader+8 {
			return
		}
		switch be16(b[2:]) {
		case portVXLAN:
			// The I flag says that there is a network identifier; without it
			// the header is not valid.
			if b[udpHeader]&0x08 != 0 && p.enter() {
				p.ethernet(b[udpHeader+8:])
			}
		case portGeneve:
			p.geneve(b[udpHeader:])
		}
	}
}

// gre reads RFC 2784 with the key and sequence of RFC 2890. Version 1 (PPTP)
// and source routes (RFC 1701) are left.
func (p *packet) gre(b []byte) {
	if len(b) < 4 || b[0]&0x40 != 0 || b[1]&0x07 != 0 {
		return
	}
	typ, n := be16(b[2:]), 4
	for _, flag := range [...]byte{0x80, 0x20, 0x10} { // checksum, key, sequence
		if b[0]&flag != 0 {
			n += 4
		}
	}
	if len(b) >= n {
		p.carried(typ, b[n:])
	}
}

// geneve reads RFC 8926 §3.4.
func (p *packet) geneve(b []byte) {
	n := 8 + int(b[0]&0x3f)*4
	if b[0]>>6 != 0 || len(b) < n {
		return
	}
	p.carried(be16(b[2:]), b[n:])
}

// carried reads what an EtherType announces within a tunnel.
func (p *packet) carried(typ uint16, b []byte) {
	if !p.enter() {
		return
	}
	if typ == etherBridged {
		p.ethernet(b)
		return
	}
	p.payload(typ, b)
}
