package decode

import (
	"math"
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// Header protocols of a raw header that are read (sFlow v5 §5, header_protocol).
const (
	headerEthernet = 1
	headerPPP      = 7
	headerIPv4     = 11
	headerIPv6     = 12
	headerMPLS     = 13
	headerPOS      = 14 // PPP in HDLC framing
)

// sampledHeader reads a raw packet header: protocol, frame length, bytes
// stripped, and the header as XDR opaque data. ok is false where the record or
// the header is cut or malformed; what is there is read.
func (d *Decoder) sampledHeader(r *flow.Record, b []byte) (hasIP, ok bool) {
	if len(b) < 16 {
		return false, false
	}
	protocol, frame, stripped, length := be32(b), be32(b[4:]), be32(b[8:]), be32(b[12:])
	b = b[16:]
	ok = uint64(length) <= uint64(len(b))
	if ok {
		b = b[:length] // what follows is padding to four bytes
	}
	p := packet{inner: d.cfg.Inner}
	switch protocol {
	case headerEthernet:
		p.ethernet(b)
	case headerIPv4, headerIPv6:
		p.ip(b)
	case headerMPLS:
		p.mpls(b)
	case headerPPP, headerPOS:
		p.ppp(b)
	default:
		return false, ok
	}
	p.fill(r)
	if p.net == nil {
		return false, ok && !p.bad
	}
	r.Bytes = uint64(p.length())
	if r.Bytes == 0 {
		// A host that samples before segmentation offload shows an IP length
		// of 0. The frame's length less its lower header stands in for the
		// bytes; IPLen stays unknown.
		r.Bytes = uint64(max(0, int64(frame)-int64(stripped)-int64(p.l2)))
	}
	return true, ok
}

// Lengths of flow records of type 3 and 4.
const (
	sampledIPv4Len = 32
	sampledIPv6Len = 56
)

// sampledIP takes a flow record of type 3 or 4, where the agent parsed the
// header itself: length, protocol, addresses, ports, flags, ToS; b has its
// length. The length in it is that of "the IP packet excluding lower layer
// encapsulations".
func sampledIP(r *flow.Record, b []byte, v6 bool) {
	rest := b[16:]
	if v6 {
		r.Src = netip.AddrFrom16([16]byte(b[8:])).Unmap()
		r.Dst = netip.AddrFrom16([16]byte(b[24:])).Unmap()
		rest = b[40:]
	} else {
		r.Src = netip.AddrFrom4([4]byte(b[8:]))
		r.Dst = netip.AddrFrom4([4]byte(b[12:]))
	}
	length, proto := be32(b), be32(b[4:])
	r.Bytes = uint64(length)
	if length > 0 {
		r.IPLen = uint16(min(length, math.MaxUint16))
		r.Has |= flow.HasIPLen
	}
	sport, dport := be32(rest), be32(rest[4:])
	if proto > math.MaxUint8 || sport > math.MaxUint16 || dport > math.MaxUint16 {
		return
	}
	r.IPProto = uint8(proto)
	r.Has |= flow.HasIPProto
	if !hasPorts(r.IPProto) {
		return
	}
	r.SrcPort, r.DstPort = uint16(sport), uint16(dport)
	r.Has |= flow.HasPorts
	if r.IPProto == flow.ProtoTCP {
		r.TCPFlags = uint8(be32(rest[8:]))
		r.Has |= flow.HasTCPFlags
	}
}

// sampledEthernet takes a flow record of type 2: length, source and destination
// MAC, EtherType. Each MAC has 8 bytes in XDR; there are agents that send 6.
func sampledEthernet(r *flow.Record, b []byte) bool {
	if len(b) < 20 {
		return false
	}
	if r.Has&flow.HasSrcMAC == 0 {
		r.SrcMAC = [6]byte(b[4:])
		r.Has |= flow.HasSrcMAC
	}
	return true
}

// extendedSwitch takes the VLAN of the incoming frame, where the header has no
// tag.
func extendedSwitch(r *flow.Record, b []byte) bool {
	if len(b) < 16 {
		return false
	}
	if vlan := be32(b); r.Has&flow.HasVLAN == 0 && vlan < 4096 {
		r.VLAN = uint16(vlan)
		r.Has |= flow.HasVLAN
	}
	return true
}
