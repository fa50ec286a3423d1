package capture

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket/layers"
)

// nextPacket reads one packet; ok is false where it completes no UDP datagram.
func (r *Reader) nextPacket() (d Datagram, ok bool, err error) {
	data, ci, err := r.packets.ReadPacketData()
	if err != nil {
		return d, false, err
	}
	link := r.link
	if r.perPkt {
		link, _ = ci.AncillaryData[0].(layers.LinkType)
	}
	b, ok := network(link, data)
	if !ok {
		return d, false, nil
	}
	src, dst, proto, seg, ok := r.frags.segment(b)
	if !ok || proto != 17 || len(seg) < 8 {
		return d, false, nil
	}
	n := int(binary.BigEndian.Uint16(seg[4:]))
	if n == 0 { // RFC 2675 jumbograms, and captures taken before offload filled it in
		n = len(seg)
	}
	if n < 8 || n > len(seg) {
		return d, false, nil // cut by the snap length: half a datagram decodes to nonsense
	}
	return Datagram{
		Exporter: netip.AddrPortFrom(src, binary.BigEndian.Uint16(seg)),
		Dest:     netip.AddrPortFrom(dst, binary.BigEndian.Uint16(seg[2:])),
		Time:     ci.Timestamp.UnixNano(),
		Payload:  slices.Clone(seg[8:n]),
	}, true, nil
}

// Link types without a name in gopacket (tcpdump.org/linktypes.html).
const (
	linkRawBSD    = 12
	linkRawOpen   = 14
	linkLinuxSLL2 = 276
)

// network strips the link layer and returns the IP packet.
func network(link layers.LinkType, b []byte) ([]byte, bool) {
	var typ uint16
	switch link {
	case layers.LinkTypeEthernet:
		if len(b) < 14 {
			return nil, false
		}
		typ, b = binary.BigEndian.Uint16(b[12:]), b[14:]
	case layers.LinkTypeLinuxSLL:
		if len(b) < 16 {
			return nil, false
		}
		typ, b = binary.BigEndian.Uint16(b[14:]), b[16:]
	case linkLinuxSLL2:
		if len(b) < 20 {
			return nil, false
		}
		typ, b = binary.BigEndian.Uint16(b), b[20:]
	case layers.LinkTypeNull, layers.LinkTypeLoop:
		// Four bytes of address family in the byte order of the machine that
		// captured; the IP version below says the same more simply.
		if len(b) < 4 {
			return nil, false
		}
		return b[4:], true
	case layers.LinkTypeRaw, layers.LinkTypeIPv4, layers.LinkTypeIPv6, linkRawBSD, linkRawOpen:
		return b, true
	default:
		return nil, false
	}
	for range maxVLANTags {
		if typ != 0x8100 && typ != 0x88a8 && typ != 0x9100 {
			break
		}
		if len(b) < 4 {
			return nil, false
		}
		typ, b = binary.BigEndian.Uint16(b[2:]), b[4:]
	}
	return b, typ == 0x0800 || typ == 0x86dd
}

// fragments puts IP fragments together. Overlaps make a packet invalid (RFC
// 5722 for IPv6; for IPv4 nobody honest sends them).
type fragments struct {
	open []*partial // oldest first
}

type fragKey struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8
}

type partial struct {
	key   fragKey
	parts []part
	total int // 0 until the last fragment came
	have  int
}

type part struct {
	off int
	b   []byte
}

// segment returns the upper-layer packet in an IP packet, put together from
// fragments where that takes several; ok is false until it is whole.
func (f *fragments) segment(b []byte) (src, dst netip.Addr, proto uint8, seg []byte, ok bool) {
	if len(b) < 20 {
		return
	}
	switch b[0] >> 4 {
	case 4:
		return f.ipv4(b)
	case 6:
		return f.ipv6(b)
	}
	return
}

func (f *fragments) ipv4(b []byte) (src, dst netip.Addr, proto uint8, seg []byte, ok bool) {
	ihl, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 { // segmentation offload: the length is that of the capture
		total = len(b)
	}
	if ihl < 20 || total < ihl || len(b) < ihl {
		return
	}
	src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	proto = b[9]
	seg = b[ihl:min(total, len(b))] // beyond total is Ethernet padding
	frag := binary.BigEndian.Uint16(b[6:])
	off, more := int(frag&0x1fff)*8, frag&0x2000 != 0
	if off == 0 && !more {
		return src, dst, proto, seg, true
	}
	if total > len(b) {
		return // a cut fragment cannot become a whole packet
	}
	seg, ok = f.add(fragKey{src, dst, uint32(binary.BigEndian.Uint16(b[4:])), proto}, off, more, seg)
	return src, dst, proto, seg, ok
}

func (f *fragments) ipv6(b []byte) (src, dst netip.Addr, proto uint8, seg []byte, ok bool) {
	if len(b) < 40 {
		return
	}
	src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	payload := int(binary.BigEndian.Uint16(b[4:]))
	proto = b[6]
	whole := 40+payload <= len(b)
	seg = b[40:min(40+payload, len(b))]
	for range maxIPv6Ext {
		switch proto {
		case 0, 43, 60:
			if len(seg) < 8 || len(seg) < (int(seg[1])+1)*8 {
				return src, dst, proto, nil, false
			}
			proto, seg = seg[0], seg[(int(seg[1])+1)*8:]
		case 44:
			if len(seg) < 8 || !whole {
				return src, dst, proto, nil, false
			}
			frag, id := binary.BigEndian.Uint16(seg[2:]), binary.BigEndian.Uint32(seg[4:])
			next := seg[0]
			seg, ok = f.add(fragKey{src, dst, id, next}, int(frag&^7), frag&1 != 0, seg[8:])
			if !ok {
				return src, dst, next, nil, false
			}
			proto = next
		default:
			return src, dst, proto, seg, true
		}
	}
	return src, dst, proto, nil, false
}

// add stores one fragment and returns the whole packet once it is complete.
func (f *fragments) add(k fragKey, off int, more bool, b []byte) ([]byte, bool) {
	i := slices.IndexFunc(f.open, func(p *partial) bool { return p.key == k })
	if i < 0 {
		if len(f.open) >= maxFragments {
			f.open = slices.Delete(f.open, 0, 1)
		}
		f.open = append(f.open, &partial{key: k})
		i = len(f.open) - 1
	}
	p := f.open[i]
	drop := func() { f.open = slices.Delete(f.open, i, i+1) }
	end := off + len(b)
	if len(b) == 0 || end > maxIPPacket || more && len(b)%8 != 0 || p.total > 0 && (end > p.total || !more && end != p.total) {
		drop()
		return nil, false
	}
	for _, q := range p.parts {
		if off == q.off && len(b) == len(q.b) {
			return nil, false // the same fragment again: captured twice
		}
		if off < q.off+len(q.b) && q.off < end || !more && q.off+len(q.b) > end {
			drop()
			return nil, false
		}
	}
	p.parts = append(p.parts, part{off, slices.Clone(b)})
	p.have += len(b)
	if !more {
		p.total = end
	}
	if p.total == 0 || p.have < p.total {
		return nil, false
	}
	out := make([]byte, p.total)
	for _, q := range p.parts {
		copy(out[q.off:], q.b)
	}
	drop()
	return out, true
}

// pending is how many packets wait for fragments.
func (f *fragments) pending() int { return len(f.open) }
