package decode

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"

	"github.com/netsampler/goflow2/v2/decoders/sflow"

	"github.com/flowcordon/flowcordon/flow"
)

// sflowHeaderMax is the length of a header with an IPv6 agent.
const sflowHeaderMax = 40

// sflow5 decodes an sFlow v5 datagram (sflow.org, sflow_version_5.txt §5).
func (d *Decoder) sflow5(dg Datagram) reason {
	b := dg.Payload
	if len(b) < 8 {
		return d.reject(dg, rShort)
	}
	agent, b, ok := sflowAddress(b[4:])
	if !ok && len(dg.Payload) >= sflowHeaderMax {
		return d.reject(dg, rSFlowHeader)
	}
	if !ok || len(b) < 16 {
		return d.reject(dg, rShort)
	}
	e := d.exporterOf(dg, flow.SFlow5)
	o := &d.origin
	*o = origin{
		exporter: e,
		domain:   d.domainOf(e, domainKey{id: binary.BigEndian.Uint32(b), agent: agent}),
		protocol: flow.SFlow5,
		received: dg.Received,
	}
	seq, samples := binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[12:])
	b = b[16:]
	for ; samples > 0; samples-- {
		if len(b) < 8 {
			e.count(d, rSampleLength)
			break
		}
		format, length := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		if uint64(length) > uint64(len(b)-8) {
			e.count(d, rSampleLength)
			break
		}
		d.sflowSample(o, format, b[8:8+length])
		b = b[8+length:]
	}
	d.flush(o)
	d.track(o, seq, 1, true)
	return accepted
}

// sflowAddress reads an address: 0 unknown, 1 IPv4, 2 IPv6.
func sflowAddress(b []byte) (netip.Addr, []byte, bool) {
	if len(b) < 4 {
		return netip.Addr{}, nil, false
	}
	typ := binary.BigEndian.Uint32(b)
	b = b[4:]
	switch {
	case typ == 0:
		return netip.Addr{}, b, true
	case typ == 1 && len(b) >= 4:
		return netip.AddrFrom4([4]byte(b)), b[4:], true
	case typ == 2 && len(b) >= 16:
		return netip.AddrFrom16([16]byte(b)).Unmap(), b[16:], true
	}
	return netip.Addr{}, nil, false
}

// sflowSample takes one sample. b is exactly its contents.
func (d *Decoder) sflowSample(o *origin, format uint32, b []byte) {
	switch format {
	case sflow.SAMPLE_FORMAT_FLOW, sflow.SAMPLE_FORMAT_EXPANDED_FLOW:
		d.flowSample(o, b, format == sflow.SAMPLE_FORMAT_EXPANDED_FLOW)
	case sflow.SAMPLE_FORMAT_COUNTER, sflow.SAMPLE_FORMAT_EXPANDED_COUNTER:
		o.exporter.count(d, nCounterSample)
	case sflow.SAMPLE_FORMAT_DROP:
		o.exporter.count(d, nDiscardedSample)
	default:
		o.exporter.count(d, rSampleForeign)
	}
}

// flowSample turns one flow sample into one record: one packet, of as many
// bytes as its IP header says.
func (d *Decoder) flowSample(o *origin, b []byte, expanded bool) {
	words := 8 // sequence, source, rate, pool, drops, input, output, records
	if expanded {
		words = 11 // source, input and output have two words each
	}
	if len(b) < words*4 {
		o.exporter.count(d, rSampleBad)
		return
	}
	word := func(i int) uint32 { return binary.BigEndian.Uint32(b[i*4:]) }
	records := word(words - 1)
	// Each flow record has a header of 8 bytes. goflow2 passes this count to
	// make() in expanded samples: 103 GB from a datagram of 80 bytes.
	if records > maxFlowRecords || int(records)*8 > len(b)-words*4 {
		o.exporter.count(d, rSampleBad)
		return
	}
	r := flow.Record{
		Exporter: o.exporter.addr,
		Protocol: flow.SFlow5,
		Domain:   o.domain.key.id,
		Received: o.received,
		Start:    o.received,
		End:      o.received,
		Packets:  1,
	}
	var rate uint32
	if expanded {
		rate = word(3)
		sflowInterfaces(&r, word(6), word(7), word(8), word(9))
	} else {
		rate = word(2)
		in, out := word(5), word(6)
		sflowInterfaces(&r, in>>30, in&0x3fffffff, out>>30, out&0x3fffffff)
	}
	if rate > maxSamplingRate {
		o.exporter.count(d, nSamplingRefused)
		rate = 0
	}
	r.SamplingRate, r.SamplingSource = o.exporter.resolve(rate, 0, 0)
	d.flowRecords(o, &r, b[words*4:], records)
	d.out = append(d.out, r)
}

// sflowInterfaces sets the interfaces. Only format 0 is an ifIndex, and there
// 0 is "unknown" and 0x3FFFFFFF "none, the device itself".
func sflowInterfaces(r *flow.Record, inFormat, in, outFormat, out uint32) {
	if inFormat == 0 && in != 0 && in != 0x3fffffff {
		r.InIf = in
		r.Has |= flow.HasInIf
	}
	if outFormat == 0 && out != 0 && out != 0x3fffffff {
		r.OutIf = out
		r.Has |= flow.HasOutIf
	}
}

// How much a flow record tells; the best one of a sample is used.
const (
	detailNone = iota
	detailEthernet
	detailIP
	detailHeader
)

// flowRecords walks the flow records of a sample and hands those we use to
// goflow2, one at a time, so that a bad one costs only itself.
func (d *Decoder) flowRecords(o *origin, r *flow.Record, b []byte, n uint32) {
	detail := detailNone
	for ; n > 0; n-- {
		if len(b) < 8 {
			o.exporter.count(d, nFlowRecordBad)
			return
		}
		format, length := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		if uint64(length) > uint64(len(b)-8) {
			o.exporter.count(d, nFlowRecordBad)
			return
		}
		body := b[8 : 8+length]
		b = b[8+length:]
		switch format {
		case sflow.FLOW_TYPE_RAW, sflow.FLOW_TYPE_ETH, sflow.FLOW_TYPE_IPV4, sflow.FLOW_TYPE_IPV6, sflow.FLOW_TYPE_EXT_SWITCH:
		default:
			continue
		}
		rec, err := sflow.DecodeFlowRecord(&sflow.RecordHeader{DataFormat: format, Length: length}, bytes.NewBuffer(body))
		if err != nil {
			o.exporter.count(d, nFlowRecordBad)
			continue
		}
		switch v := rec.Data.(type) {
		case sflow.SampledHeader:
			if detail < detailHeader && d.sampledHeader(o, r, &v) {
				detail = detailHeader
			}
		case sflow.SampledIPv4:
			if detail < detailIP {
				detail = detailIP
				sampledIP(r, &v.SampledIPBase)
			}
		case sflow.SampledIPv6:
			if detail < detailIP {
				detail = detailIP
				sampledIP(r, &v.SampledIPBase)
			}
		case sflow.SampledEthernet:
			if detail < detailEthernet {
				detail = detailEthernet
			}
			if r.Has&flow.HasSrcMAC == 0 && len(v.SrcMac) == 6 {
				r.SrcMAC = [6]byte(v.SrcMac)
				r.Has |= flow.HasSrcMAC
			}
		case sflow.ExtendedSwitch:
			if r.Has&flow.HasVLAN == 0 && v.SrcVlan < 4096 {
				r.VLAN = uint16(v.SrcVlan)
				r.Has |= flow.HasVLAN
			}
		}
	}
}

// Header protocols of a raw header that are read (sFlow v5 §5, header_protocol).
const (
	headerEthernet = 1
	headerIPv4     = 11
	headerIPv6     = 12
	headerMPLS     = 13
)

// sampledHeader reads a raw packet header. goflow2 calls the header's own
// length OriginalLength; what follows it is XDR padding.
func (d *Decoder) sampledHeader(o *origin, r *flow.Record, h *sflow.SampledHeader) bool {
	data := h.HeaderData
	if uint64(h.OriginalLength) < uint64(len(data)) {
		data = data[:h.OriginalLength]
	} else if uint64(h.OriginalLength) > uint64(len(data)) {
		o.exporter.count(d, nFlowRecordBad) // cut short; what is there is read
	}
	var p packet
	switch h.Protocol {
	case headerEthernet:
		p.ethernet(data)
	case headerIPv4, headerIPv6:
		p.ip(data)
	case headerMPLS:
		p.mpls(data)
	default:
		return false
	}
	if p.bad {
		o.exporter.count(d, nFlowRecordBad)
	}
	p.fill(r)
	r.Bytes = uint64(p.ipLen)
	// A host that samples before segmentation offload shows an IP length of 0.
	// The frame's length less its lower header stands in for the bytes; IPLen
	// stays unknown.
	if rest := int64(h.FrameLength) - int64(h.Stripped) - int64(p.l2); p.hasIP && p.ipLen == 0 && rest > 0 {
		r.Bytes = uint64(rest)
	}
	return p.hasIP
}

// sampledIP takes a flow record of type 3 or 4, where the agent parsed the
// header itself. Its length is "the length of the IP packet excluding lower
// layer encapsulations".
func sampledIP(r *flow.Record, v *sflow.SampledIPBase) {
	src, ok1 := netip.AddrFromSlice(v.SrcIP)
	dst, ok2 := netip.AddrFromSlice(v.DstIP)
	if !ok1 || !ok2 {
		return
	}
	r.Src, r.Dst = src.Unmap(), dst.Unmap()
	r.Bytes = uint64(v.Length)
	if v.Length > 0 {
		r.IPLen = uint16(min(v.Length, math.MaxUint16))
		r.Has |= flow.HasIPLen
	}
	if v.Protocol > math.MaxUint8 || v.SrcPort > math.MaxUint16 || v.DstPort > math.MaxUint16 {
		return
	}
	r.IPProto = uint8(v.Protocol)
	r.Has |= flow.HasIPProto
	switch {
	case hasPorts(r.IPProto):
		r.SrcPort, r.DstPort = uint16(v.SrcPort), uint16(v.DstPort)
		r.Has |= flow.HasPorts
		if r.IPProto == flow.ProtoTCP {
			r.TCPFlags = uint8(v.TcpFlags)
			r.Has |= flow.HasTCPFlags
		}
	}
}
