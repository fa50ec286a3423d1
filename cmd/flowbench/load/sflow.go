package load

import (
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// sFlow version 5 as in sflow_version_5.txt (sflow.org): flow samples (0,1) of
// one raw packet header (0,1) with 128 bytes, 7 to a datagram of 1,372 bytes.
const (
	sflowHeader  = 28
	sflowSamples = 7
	sflowSample  = 8 + 32 + 8 + 16 + sampledBytes
	sampledBytes = 128
	ethernetFCS  = 4
)

type sflow struct {
	agent   netip.Addr
	rate    uint32
	seq     uint32
	samples uint32
}

func (e *sflow) encode(b []byte, m *mix, _ int) ([]byte, int) {
	b = be.AppendUint32(b, 5)
	b = be.AppendUint32(b, 1) // the agent's address is IPv4
	b = append(b, e.agent.AsSlice()...)
	b = be.AppendUint32(b, 0) // sub-agent
	b = be.AppendUint32(b, 0) // sequence
	b = be.AppendUint32(b, bootUptime)
	b = be.AppendUint32(b, sflowSamples)
	var r record
	for range sflowSamples {
		m.next(&r)
		for _, v := range [...]uint32{
			1, sflowSample - 8, // flow sample
			0, uint32(r.inIf), e.rate, 0, 0, uint32(r.inIf), uint32(r.outIf), 1, // sequence, source, rate, pool, drops, …, records
			1, 16 + sampledBytes, // raw packet header
			1, 14 + r.bytes + ethernetFCS, ethernetFCS, sampledBytes, // Ethernet, frame's length, stripped, header's length
		} {
			b = be.AppendUint32(b, v)
		}
		b = appendPacket(b, &r)
	}
	return b, sflowSamples
}

func (e *sflow) announce() ([][]byte, []int) { return nil, nil }

func (e *sflow) renew(d []byte, _, _ int, _ int64, ms uint64, _ bool) {
	be.PutUint32(d[16:], e.seq)
	e.seq++
	move(d[20:], uint32(ms))
	for s := d[sflowHeader:]; len(s) >= sflowSample; s = s[sflowSample:] {
		// One count for both of the exporter's interfaces: gaps of the samples'
		// own numbers are then only where a datagram was lost.
		e.samples++
		be.PutUint32(s[8:], e.samples)
		be.PutUint32(s[20:], e.samples*e.rate)
	}
}

// appendPacket appends the first bytes of the Ethernet frame that r describes.
func appendPacket(b []byte, r *record) []byte {
	end := len(b) + sampledBytes
	b = append(b, 2, 0xf1, 0, 0, 0, byte(r.outIf), 2, 0xf1, 0, 0, 0, byte(r.inIf), 8, 0)
	ip := len(b)
	b = append(b, 0x45, 0)
	b = be.AppendUint16(b, uint16(r.bytes))
	b = append(b, 0, 1, 0x40, 0, 60, r.proto, 0, 0) // any identification, don't fragment, TTL
	b = be.AppendUint32(b, r.src)
	b = be.AppendUint32(b, r.dst)
	sum := uint32(0)
	for i := ip; i < len(b); i += 2 {
		sum += uint32(be.Uint16(b[i:]))
	}
	sum = sum&0xffff + sum>>16
	be.PutUint16(b[ip+10:], ^uint16(sum&0xffff+sum>>16))
	switch r.proto {
	case flow.ProtoTCP:
		b = appendShorts(b, r.sport, r.dport, 0, 1, 0, 1, 5<<12|uint16(r.flags), 64240, 0, 0)
	case flow.ProtoUDP:
		b = appendShorts(b, r.sport, r.dport, uint16(r.bytes)-20, 0) // no checksum
	default:
		b = appendShorts(b, r.icmp, 0, 1, 1)
	}
	for len(b) < end {
		b = append(b, byte(len(b)))
	}
	return b
}
