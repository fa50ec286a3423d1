package decode

import (
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// origin is what the records of one set have in common.
type origin struct {
	exporter *exporter
	domain   *domain
	protocol flow.Protocol
	received int64 // ns
	export   int64 // ns: the header's clock when the datagram was sent
	uptime   uint32
	// uptimeKnown: uptime (ms) was the exporter's when the datagram was sent.
	uptimeKnown bool
	headerRate  uint32
	templateID  uint16
	sequence    uint32 // the header's number
}

// build turns the fields of one record into one flow.Record, or two where the
// record describes both directions (RFC 5103). It appends to d.out.
func (d *Decoder) build(o *origin, f *fields) {
	r := flow.Record{
		Exporter: o.exporter.addr,
		Protocol: o.protocol,
		Domain:   o.domain.key.id,
		Received: o.received,
	}
	d.times(o, f, &r)
	f.translated()
	f.reverseTotals()
	f.addresses(&r)
	f.transport(&r)
	f.counts(&r)
	f.link(&r)
	sampled := d.section(o, f, &r)
	if f.totalsOnly() && r.Src.IsValid() && r.Dst.IsValid() {
		d.running(o, f, &r)
	}

	rate, refused := statedRate(f)
	if refused {
		o.exporter.count(d, nSamplingRefused)
	}
	r.SamplingRate, r.SamplingSource = o.exporter.resolve(rate, d.optionsRate(o, f.rateKey()), o.headerRate)
	*d.room(o) = r
	d.out = d.out[:len(d.out)+1]

	if f.revPackets > 0 && !sampled {
		*d.room(o) = reversed(f, r)
		d.out = d.out[:len(d.out)+1]
	}
}

// translated takes an end from behind a NAT where the record does not have it
// from before. Where it has both, the ends before translation stand: they are
// what the observed packets carried, and what the same flow is called in the
// exports of other routers. Of an outgoing flow they are the internal ones too;
// of an incoming flow the internal end is behind, and a box that exports it
// before as well is told apart by its inventory, not here.
func (f *fields) translated() {
	if f.has&(fSrc4|fSrc6) == 0 && f.has&(fPostSrc4|fPostSrc6) != 0 {
		f.src4, f.src6 = f.postSrc4, f.postSrc6
		f.has |= moved(f.has, fPostSrc4, fSrc4) | moved(f.has, fPostSrc6, fSrc6)
		if f.has&(fSrcPort|fPostSrcPort) == fPostSrcPort {
			f.srcPort = f.postSrcPort
			f.has |= fSrcPort
		}
	}
	if f.has&(fDst4|fDst6) == 0 && f.has&(fPostDst4|fPostDst6) != 0 {
		f.dst4, f.dst6 = f.postDst4, f.postDst6
		f.has |= moved(f.has, fPostDst4, fDst4) | moved(f.has, fPostDst6, fDst6)
		if f.has&(fDstPort|fPostDstPort) == fPostDstPort {
			f.dstPort = f.postDstPort
			f.has |= fDstPort
		}
	}
}

// moved is the bit to where has the bit from.
func moved(has, from, to present) present {
	if has&from != 0 {
		return to
	}
	return 0
}

// addresses takes the family that the record uses. Templates that carry both
// (nProbe, IPFIX probes) leave the other at zero.
func (f *fields) addresses(r *flow.Record) {
	v4 := f.has&(fSrc4|fDst4) != 0
	v6 := f.has&(fSrc6|fDst6) != 0
	if v4 && v6 {
		use6 := f.src4 == [4]byte{} && f.dst4 == [4]byte{} &&
			(f.src6 != [16]byte{} || f.dst6 != [16]byte{})
		if f.has&fIPVersion != 0 {
			use6 = use6 || f.ipVersion == 6 && (f.src6 != [16]byte{} || f.dst6 != [16]byte{})
		}
		v4, v6 = !use6, use6
	}
	switch {
	case v4:
		if f.has&fSrc4 != 0 {
			r.Src = netip.AddrFrom4(f.src4)
		}
		if f.has&fDst4 != 0 {
			r.Dst = netip.AddrFrom4(f.dst4)
		}
	case v6:
		if f.has&fSrc6 != 0 {
			r.Src = netip.AddrFrom16(f.src6).Unmap()
		}
		if f.has&fDst6 != 0 {
			r.Dst = netip.AddrFrom16(f.dst6).Unmap()
		}
	}
}

// transport sets protocol, ports, flags and ICMP.
func (f *fields) transport(r *flow.Record) {
	if f.has&fProto != 0 {
		r.IPProto = f.proto
		r.Has |= flow.HasIPProto
	} else if f.has&(fICMPTypeCode|fICMPType) != 0 && f.has&(fSrcPort|fDstPort) == 0 {
		// softflowd's ICMP templates carry type and code and no protocol.
		r.IPProto = flow.ProtoICMP
		if r.Src.Is6() {
			r.IPProto = flow.ProtoICMPv6
		}
		r.Has |= flow.HasIPProto
		f.icmp(r)
		return
	}
	if f.has&fFragOffset != 0 && f.fragOffset&0x1fff > 0 {
		r.Has |= flow.HasFragment
		return
	}
	if f.has&fProto != 0 && (f.proto == flow.ProtoICMP || f.proto == flow.ProtoICMPv6) {
		f.icmp(r)
		return
	}
	if f.has&(fSrcPort|fDstPort) != 0 && (f.has&fProto == 0 || hasPorts(f.proto) || f.srcPort|f.dstPort != 0) {
		r.SrcPort, r.DstPort = f.srcPort, f.dstPort
		r.Has |= flow.HasPorts
	}
	if f.has&fFlags != 0 && (f.has&fProto == 0 || f.proto == flow.ProtoTCP) {
		r.TCPFlags = f.flags
		r.Has |= flow.HasTCPFlags
	}
}

// hasPorts reports whether the protocol begins with two ports: TCP, UDP, DCCP,
// SCTP, UDP-Lite.
func hasPorts(proto uint8) bool {
	switch proto {
	case flow.ProtoTCP, flow.ProtoUDP, 33, 132, 136:
		return true
	}
	return false
}

// icmp takes type and code from their own fields or, as Cisco does in v5 and
// many exporters do in v9, from the destination port (type × 256 + code).
func (f *fields) icmp(r *flow.Record) {
	switch {
	case f.has&fICMPTypeCode != 0 && f.icmpTypeCode != 0:
		r.ICMPType, r.ICMPCode = uint8(f.icmpTypeCode>>8), uint8(f.icmpTypeCode)
	case f.has&(fICMPType|fICMPCode) != 0:
		r.ICMPType, r.ICMPCode = f.icmpType, f.icmpCode
	case f.has&fDstPort != 0: // also where a template has IE 32 and leaves it at 0
		r.ICMPType, r.ICMPCode = uint8(f.dstPort>>8), uint8(f.dstPort)
	case f.has&fICMPTypeCode != 0:
	default:
		return
	}
	r.Has |= flow.HasICMP
}

// counts takes the counters of this record alone where there are any. Open
// vSwitch and others send running totals of the flow beside the deltas; adding
// totals up counts packets again and again. What left after a middlebox (23,
// 24) is the last resort.
func (f *fields) counts(r *flow.Record) {
	var ok bool
	if r.Packets, ok = f.counter(fPackets, fPacketsTotal, fPacketsPost, f.packets, f.packetsTotal, f.packetsPost); !ok {
		r.Packets = f.initiatorPackets
	}
	if r.Bytes, ok = f.counter(fBytes, fBytesTotal, fBytesPost, f.bytes, f.bytesTotal, f.bytesPost); !ok {
		r.Bytes = f.initiatorBytes
	}
}

func (f *fields) counter(delta, total, post present, d, t, p uint64) (uint64, bool) {
	switch {
	case f.has&delta != 0 && (d != 0 || f.has&post == 0):
		return d, true
	case f.has&delta != 0: // counted on the way out only
		return p, true
	case f.has&total != 0:
		return t, true
	case f.has&post != 0:
		return p, true
	}
	return 0, false
}

// link sets interfaces, MAC, VLAN, TTL and length.
func (f *fields) link(r *flow.Record) {
	switch {
	case f.has&fInIf != 0:
		r.InIf = f.inIf
		r.Has |= flow.HasInIf
	case f.has&fInPhys != 0:
		r.InIf = f.inPhys
		r.Has |= flow.HasInIf
	}
	switch {
	case f.has&fOutIf != 0:
		r.OutIf = f.outIf
		r.Has |= flow.HasOutIf
	case f.has&fOutPhys != 0:
		r.OutIf = f.outPhys
		r.Has |= flow.HasOutIf
	}
	switch {
	case f.has&fSrcMAC != 0:
		r.SrcMAC = f.srcMAC
		r.Has |= flow.HasSrcMAC
	case f.has&fPostSrcMAC != 0:
		r.SrcMAC = f.postSrcMAC
		r.Has |= flow.HasSrcMAC
	}
	switch {
	case f.has&fVLAN != 0 && f.vlan != 0 || f.has&fVLAN != 0 && f.has&fDot1qVLAN == 0:
		r.VLAN = f.vlan
		r.Has |= flow.HasVLAN
	case f.has&fDot1qVLAN != 0:
		r.VLAN = f.dot1qVLAN
		r.Has |= flow.HasVLAN
	}
	// The least TTL of a flow: a rule that looks for crafted packets by a high
	// TTL must hold for all packets of the flow.
	switch {
	case f.has&fTTL != 0:
		r.TTL = f.ttl
		r.Has |= flow.HasTTL
	case f.has&fMinTTL != 0:
		r.TTL = f.minTTL
		r.Has |= flow.HasTTL
	case f.has&fMaxTTL != 0:
		r.TTL = f.maxTTL
		r.Has |= flow.HasTTL
	}
	if f.has&fIPLen != 0 && f.ipLen > 0 {
		r.IPLen = f.ipLen
		r.Has |= flow.HasIPLen
	}
}

// section reads a sampled header that came as an information element (PSAMP,
// RFC 5477 §8.5) and reports whether there was one. A packet that was exported
// without counters counts as one.
func (d *Decoder) section(o *origin, f *fields, r *flow.Record) bool {
	p := packet{inner: d.cfg.Inner}
	switch {
	case f.has&fFrame != 0 && len(f.frame) > 0:
		p.ethernet(f.frame)
	case f.has&fIPSection != 0 && len(f.ipSection) > 0:
		p.ip(f.ipSection)
	default:
		return false
	}
	if p.bad {
		o.exporter.count(d, nFlowRecordBad)
	}
	if !r.Src.IsValid() && !r.Dst.IsValid() {
		p.fill(r)
	}
	if f.has&(fPackets|fPacketsTotal|fPacketsPost) == 0 {
		r.Packets = 1
		if f.has&(fBytes|fBytesTotal|fBytesPost) == 0 {
			r.Bytes = uint64(r.IPLen)
			// Inline monitoring sends the frame's length beside the frame; the
			// IP length is 0 or behind the cut where a host segments late.
			if rest := int64(f.frameSize) - int64(p.l2); r.Bytes == 0 && rest > 0 {
				r.Bytes = uint64(rest)
			}
		}
	}
	return true
}
