package export

import (
	"encoding/binary"

	"github.com/flowcordon/flowcordon/flow"
)

// sampledHeader is how much of a packet a sample carries, as most switches do.
const sampledHeader = 128

// appendPacket appends the first sampledHeader bytes of the Ethernet frame that
// f describes and returns the frame's length on the wire without the FCS. The
// payload is zeros; checksums are right for it. Frames are padded to 60 bytes
// as Ethernet does, so that the frame is longer than the IP packet when that is
// a bare SYN.
func appendPacket(b []byte, f *Flow, v6 bool) (out []byte, frameLen int) {
	start := len(b)
	be := binary.BigEndian
	b = append(b, f.DstMAC[:]...)
	b = append(b, f.SrcMAC[:]...)
	if f.VLAN != 0 {
		b = be.AppendUint16(b, 0x8100)
		b = be.AppendUint16(b, f.VLAN)
	}
	ipLen := int(f.Bytes)
	if v6 {
		b = be.AppendUint16(b, 0x86dd)
	} else {
		b = be.AppendUint16(b, 0x0800)
	}
	ip := len(b)
	b, sum := appendIP(b, f, v6, ipLen)
	l4Len := ipLen - (len(b) - ip)
	switch f.IPProto {
	case flow.ProtoTCP:
		b = appendTCP(b, f, l4Len, sum)
	case flow.ProtoUDP:
		b = appendUDP(b, f, l4Len, sum)
	case flow.ProtoICMP, flow.ProtoICMPv6:
		if f.IPProto == flow.ProtoICMP {
			sum = 0 // ICMP for IPv4 has no pseudo header
		}
		b = appendICMP(b, f, sum)
	}
	frameLen = max(ip-start+ipLen, 60)
	have := min(frameLen, sampledHeader)
	for len(b)-start < have {
		b = append(b, 0)
	}
	return b[:start+have], frameLen
}

// minIPLen is the shortest IP packet that holds the headers of f.
func minIPLen(f *Flow, v6 bool) int {
	n := 20
	if v6 {
		n = 40
	}
	switch f.IPProto {
	case flow.ProtoTCP:
		return n + 20
	case flow.ProtoUDP, flow.ProtoICMP, flow.ProtoICMPv6:
		return n + 8
	}
	return n
}

// appendIP appends the IP header and returns the sum of the pseudo header.
func appendIP(b []byte, f *Flow, v6 bool, ipLen int) ([]byte, uint32) {
	be := binary.BigEndian
	ttl := f.TTL
	if ttl == 0 {
		ttl = 64
	}
	at := len(b)
	var sum uint32
	if v6 {
		b = be.AppendUint32(b, 6<<28)
		b = be.AppendUint16(b, uint16(ipLen-40))
		b = append(b, f.IPProto, ttl)
		b = appendAddrs(b, f, true)
		sum = checksumAdd(0, b[at+8:at+40]) + uint32(ipLen-40) + uint32(f.IPProto)
		return b, sum
	}
	b = append(b, 0x45, 0)
	b = be.AppendUint16(b, uint16(ipLen))
	b = be.AppendUint16(b, f.SrcPort^f.DstPort) // identification: any
	b = be.AppendUint16(b, 0x4000)              // don't fragment
	b = append(b, ttl, f.IPProto, 0, 0)
	b = appendAddrs(b, f, false)
	be.PutUint16(b[at+10:], checksumEnd(checksumAdd(0, b[at:at+20])))
	sum = checksumAdd(0, b[at+12:at+20]) + uint32(ipLen-20) + uint32(f.IPProto)
	return b, sum
}

// appendTCP appends the TCP header with the options that the packet's length
// leaves room for: a SYN of 60 IP bytes carries those of a Linux socket, one of
// 44 the MSS only, as a raw scanner's does; later packets carry timestamps.
func appendTCP(b []byte, f *Flow, l4Len int, sum uint32) []byte {
	be := binary.BigEndian
	at := len(b)
	b = be.AppendUint16(b, f.SrcPort)
	b = be.AppendUint16(b, f.DstPort)
	b = be.AppendUint32(b, uint32(f.Start>>10)) // sequence: any
	var ack uint32
	if f.TCPFlags&flow.ACK != 0 {
		ack = uint32(f.Start >> 12)
	}
	b = be.AppendUint32(b, ack)
	b = append(b, 0, f.TCPFlags)
	window := uint16(64240)
	syn := f.TCPFlags&flow.SYN != 0
	if syn && l4Len <= 24 {
		window = 1024
	}
	b = be.AppendUint16(b, window)
	b = be.AppendUint32(b, 0) // checksum, urgent pointer
	switch {
	case syn && l4Len >= 40:
		b = append(b, 2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 1, 0, 0, 0, 0, 0, 1, 3, 3, 7)
	case syn && l4Len >= 24:
		b = append(b, 2, 4, 5, 180)
	case !syn && l4Len >= 32:
		b = append(b, 1, 1, 8, 10, 0, 0, 1, 0, 0, 0, 1, 0)
	}
	b[at+12] = byte((len(b)-at)/4) << 4
	be.PutUint16(b[at+16:], checksumEnd(checksumAdd(sum, b[at:])))
	return b
}

func appendUDP(b []byte, f *Flow, l4Len int, sum uint32) []byte {
	be := binary.BigEndian
	at := len(b)
	b = be.AppendUint16(b, f.SrcPort)
	b = be.AppendUint16(b, f.DstPort)
	b = be.AppendUint16(b, uint16(l4Len))
	b = be.AppendUint16(b, 0)
	c := checksumEnd(checksumAdd(sum, b[at:]))
	if c == 0 {
		c = 0xffff // zero would mean "no checksum" (RFC 768)
	}
	be.PutUint16(b[at+6:], c)
	return b
}

func appendICMP(b []byte, f *Flow, sum uint32) []byte {
	at := len(b)
	b = append(b, f.ICMPType, f.ICMPCode, 0, 0, 0, 1, 0, 1)
	binary.BigEndian.PutUint16(b[at+2:], checksumEnd(checksumAdd(sum, b[at:])))
	return b
}

// checksumAdd adds the 16-bit words of b to sum (RFC 1071); b has even length.
func checksumAdd(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	return sum
}

func checksumEnd(sum uint32) uint16 {
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
