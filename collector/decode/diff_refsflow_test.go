package decode_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"

	"github.com/netsampler/goflow2/v2/decoders/sflow"

	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// sflow reads a datagram of sFlow v5 (sflow_version_5.txt §5). goflow2 reads the
// header of each sample, and each flow record alone.
func (r *refDecoder) sflow(dg decode.Datagram, addr netip.Addr) {
	b := dg.Payload
	agentLen := 0
	if len(b) >= 8 {
		switch binary.BigEndian.Uint32(b[4:]) {
		case 0:
		case 1:
			agentLen = 4
		case 2:
			agentLen = 16
		default:
			agentLen = -1
		}
	}
	switch {
	case agentLen < 0 && len(b) >= 40:
		r.n[decode.ReasonSFlowHeader]++
		return
	case agentLen < 0 || len(b) < 8+agentLen+16:
		r.n[decode.ReasonShort]++
		return
	}
	agent := b[8 : 8+agentLen]
	b = b[8+agentLen:]
	word := func(b []byte, i int) uint32 { return binary.BigEndian.Uint32(b[4*i:]) }
	from, _ := netip.AddrFromSlice(agent)
	c := r.context(dg, addr, flow.SFlow5, 0, word(b, 0), fmt.Sprint(from.Unmap()))
	samples := uint64(word(b, 3))
	b = b[16:]
	for ; samples > 0; samples-- {
		if len(b) < 8 || uint64(len(b)-8) < uint64(word(b, 1)) {
			r.n[decode.ReasonSampleLength]++
			return
		}
		format, n := word(b, 0), int(word(b, 1))
		r.sample(c, format, b[8:8+n])
		b = b[8+n:]
	}
}

func (r *refDecoder) sample(c refContext, format uint32, b []byte) {
	words := map[uint32]int{1: 8, 3: 11}[format]
	switch {
	case format == 2 || format == 4:
		r.n[decode.NoteCounterSample]++
		return
	case format == 5 && len(b) >= 32:
		r.n[decode.NoteDiscardedSample]++
		return
	case format == 5:
		r.n[decode.ReasonSampleBad]++
		return
	case words == 0:
		r.n[decode.ReasonSampleForeign]++
		return
	case len(b) < 4*words:
		r.n[decode.ReasonSampleBad]++
		return
	}
	records := binary.BigEndian.Uint32(b[4*words-4:])
	if records > refMaxSampleRec || int(records)*8 > len(b)-4*words {
		r.n[decode.ReasonSampleBad]++
		return
	}
	// The header alone: the loop over records, whose make() takes any count,
	// has nothing to do.
	head := bytes.Clone(b[:4*words])
	binary.BigEndian.PutUint32(head[4*words-4:], 0)
	s, err := sflow.DecodeSample(&sflow.SampleHeader{Format: format, Length: uint32(len(head))}, bytes.NewBuffer(head))
	if err != nil {
		panic(err)
	}
	x := flow.Record{
		Exporter: c.exporter, Protocol: c.protocol, Domain: c.domainID,
		Received: c.received, Start: c.received, End: c.received, Packets: 1,
	}
	var rate uint32
	var in, out [2]uint32 // format, value
	switch v := s.(type) {
	case sflow.FlowSample:
		rate = v.SamplingRate
		in, out = [2]uint32{v.Input >> 30, v.Input << 2 >> 2}, [2]uint32{v.Output >> 30, v.Output << 2 >> 2}
	case sflow.ExpandedFlowSample:
		rate = v.SamplingRate
		in, out = [2]uint32{v.InputIfFormat, v.InputIfValue}, [2]uint32{v.OutputIfFormat, v.OutputIfValue}
	default:
		panic(fmt.Sprintf("reference: %T", s))
	}
	known := func(i [2]uint32) bool { return i[0] == 0 && i[1] != 0 && i[1] != 0x3fffffff }
	if known(in) {
		x.InIf, x.Has = in[1], x.Has|flow.HasInIf
	}
	if known(out) {
		x.OutIf, x.Has = out[1], x.Has|flow.HasOutIf
	}
	if rate > refMaxRate {
		r.n[decode.NoteSamplingRefused]++
		rate = 0
	}
	switch {
	case c.rule.Override != 0:
		x.SamplingRate, x.SamplingSource = c.rule.Override, flow.SamplingOverride
	case rate != 0:
		x.SamplingRate, x.SamplingSource = rate, flow.SamplingRecord
	case c.rule.Default != 0:
		x.SamplingRate, x.SamplingSource = c.rule.Default, flow.SamplingDefault
	}
	r.flowRecords(&x, int(records), b[4*words:])
	r.out = append(r.out, x)
}

// flowRecords: a raw header tells most, then what the agent parsed itself
// (types 3 and 4; the last one), then the MAC addresses. A record that is cut costs itself and what follows it.
func (r *refDecoder) flowRecords(x *flow.Record, n int, b []byte) {
	var recs []any
	header := false
	var parsed *sflow.SampledIPBase
	bad := func() { r.n[decode.NoteFlowRecordBad]++ }
	for ; n > 0; n-- {
		if len(b) < 8 || uint64(len(b)-8) < uint64(binary.BigEndian.Uint32(b[4:])) {
			bad()
			break
		}
		format, size := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		body := bytes.Clone(b[8 : 8+size])
		b = b[8+size:]
		switch format {
		case 1, 2, 3, 4, 1001:
			if format == 1 && header {
				continue // nobody looks at a second one
			}
			rec, err := sflow.DecodeFlowRecord(&sflow.RecordHeader{DataFormat: format, Length: size}, bytes.NewBuffer(body))
			if err != nil {
				bad()
				continue
			}
			if v, is := rec.Data.(sflow.SampledHeader); is {
				var ok bool
				if header, ok = r.sampledHeader(x, &v); !ok {
					bad()
				}
			}
			recs = append(recs, rec.Data)
		}
	}
	for _, rec := range recs {
		var v *sflow.SampledIPBase
		switch t := rec.(type) {
		case sflow.SampledIPv4:
			v = &t.SampledIPBase
		case sflow.SampledIPv6:
			v = &t.SampledIPBase
		}
		if v != nil && !header {
			parsed = v
		}
	}
	if parsed != nil {
		refSampledIP(x, parsed)
	}
	for _, rec := range recs {
		switch v := rec.(type) {
		case sflow.SampledEthernet:
			if x.Has&flow.HasSrcMAC == 0 {
				x.SrcMAC, x.Has = [6]byte(v.SrcMac), x.Has|flow.HasSrcMAC
			}
		case sflow.ExtendedSwitch:
			if x.Has&flow.HasVLAN == 0 && v.SrcVlan < 4096 {
				x.VLAN, x.Has = uint16(v.SrcVlan), x.Has|flow.HasVLAN
			}
		}
	}
}

func refSampledIP(x *flow.Record, v *sflow.SampledIPBase) {
	src, _ := netip.AddrFromSlice(v.SrcIP)
	dst, _ := netip.AddrFromSlice(v.DstIP)
	x.Src, x.Dst = src.Unmap(), dst.Unmap()
	x.Bytes = uint64(v.Length)
	if v.Length > 0 {
		x.IPLen, x.Has = uint16(min(v.Length, 65535)), x.Has|flow.HasIPLen
	}
	if v.Protocol > 255 || v.SrcPort > 65535 || v.DstPort > 65535 {
		return
	}
	x.IPProto, x.Has = uint8(v.Protocol), x.Has|flow.HasIPProto
	if refHasPorts(x.IPProto) {
		x.SrcPort, x.DstPort, x.Has = uint16(v.SrcPort), uint16(v.DstPort), x.Has|flow.HasPorts
		if x.IPProto == 6 {
			x.TCPFlags, x.Has = uint8(v.TcpFlags), x.Has|flow.HasTCPFlags
		}
	}
}

// sampledHeader reads a raw header: whether it told the addresses, and whether
// all is well with it.
func (r *refDecoder) sampledHeader(x *flow.Record, h *sflow.SampledHeader) (found, ok bool) {
	b := h.HeaderData
	ok = uint64(h.OriginalLength) <= uint64(len(b)) // goflow2's name for the header's length
	if ok {
		b = b[:h.OriginalLength] // what follows is XDR's padding
	}
	p := refPacket{inner: r.cfg.Inner}
	switch h.Protocol {
	case 1:
		p.ethernet(b, 0)
	case 7, 14:
		p.ppp(b, 0)
	case 11, 12:
		p.network(b, 0)
	case 13:
		p.mpls(b, 0)
	default:
		return false, ok
	}
	p.fill(x)
	if !p.found {
		return false, ok && !p.bad
	}
	x.Bytes = uint64(p.length)
	// Before segmentation offload the IP length is 0: the frame says it.
	if rest := int64(h.FrameLength) - int64(h.Stripped) - int64(p.below); p.length == 0 && rest > 0 {
		x.Bytes = uint64(rest)
	}
	return true, ok
}

// section reads a packet section that an element carries (RFC 5477 §8.5).
func (r *refDecoder) section(fs refFields, x *flow.Record) bool {
	some := func(b []byte) bool { return len(b) > 0 }
	p := refPacket{inner: r.cfg.Inner}
	if b, ok := fs.lastIs(some, 104, 315); ok {
		p.ethernet(b, 0)
	} else if b, ok := fs.lastIs(some, 313); ok {
		p.network(b, 0)
	} else {
		return false
	}
	if p.bad && !p.found {
		r.n[decode.NoteFlowRecordBad]++
	}
	if !x.Src.IsValid() && !x.Dst.IsValid() {
		p.fill(x)
	}
	if fs.counted(2, 86, 24) {
		return true
	}
	x.Packets = 1
	if fs.counted(1, 85, 23) {
		return true
	}
	x.Bytes = uint64(x.IPLen)
	size, _ := fs.num(math.MaxUint32, 312) // dataLinkFrameSize
	if rest := int64(size) - int64(p.below); x.Bytes == 0 && rest > 0 {
		x.Bytes = uint64(rest)
	}
	return true
}

// lastIs: the last of the elements, if ok likes it.
func (fs refFields) lastIs(ok func([]byte) bool, ids ...uint16) ([]byte, bool) {
	b, found := fs.last(0, func([]byte) bool { return true }, ids...)
	return b, found && ok(b)
}

func (fs refFields) counted(ids ...uint16) bool {
	_, ok := fs.u64(ids...)
	return ok
}
