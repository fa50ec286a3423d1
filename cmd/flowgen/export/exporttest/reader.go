// Package exporttest reads what the encoders wrote, for tests: with goflow2 and
// gopacket, which share no code with them.
package exporttest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/netsampler/goflow2/v2/decoders/netflow"
	"github.com/netsampler/goflow2/v2/decoders/netflowlegacy"
	gosflow "github.com/netsampler/goflow2/v2/decoders/sflow"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
)

// Reader decodes datagrams with goflow2, which shares no code with the
// encoders, and keeps what a collector would.
type Reader struct {
	t     testing.TB
	known netflow.NetFlowTemplateSystem

	Flows     []export.Flow
	Sampling  map[string]uint32 // the rate as announced, by field name or number
	Templates int               // template records seen
	Counters  int               // sFlow counter samples
	Headers   []Header
}

// Header is what one datagram's header says, and what it held.
type Header struct {
	Seq     uint32
	Count   int // as the header states it
	Records int // flow records or samples
	Options int // options data records
	Len     int // bytes
}

// New returns a Reader that fails t on a datagram that does not decode.
func New(t testing.TB) *Reader {
	return &Reader{t: t, known: netflow.CreateTemplateSystem(), Sampling: map[string]uint32{}}
}

// Read decodes one datagram.
func (r *Reader) Read(b []byte) {
	r.t.Helper()
	var err error
	switch version := binary.BigEndian.Uint16(b); {
	case version == 5:
		err = r.v5(b)
	case version == 9:
		err = r.v9(b)
	case version == 10:
		err = r.ipfix(b)
	case binary.BigEndian.Uint32(b) == 5:
		err = r.sflow(b)
	default:
		err = fmt.Errorf("version %d", version)
	}
	if err != nil {
		r.t.Fatalf("datagram of %d bytes: %v", len(b), err)
	}
}

func (r *Reader) v5(b []byte) error {
	var p netflowlegacy.PacketNetFlowV5
	if err := netflowlegacy.DecodeMessageVersion(bytes.NewBuffer(b), &p); err != nil {
		return err
	}
	now := int64(p.UnixSecs)*1e9 + int64(p.UnixNSecs)
	at := func(up uint32) int64 { return now - int64(p.SysUptime-up)*1e6 }
	for _, rec := range p.Records {
		f := export.Flow{
			Src: v4(uint32(rec.SrcAddr)), Dst: v4(uint32(rec.DstAddr)), SrcPort: rec.SrcPort, DstPort: rec.DstPort,
			IPProto: rec.Proto, TCPFlags: rec.TCPFlags, Packets: uint64(rec.DPkts), Bytes: uint64(rec.DOctets),
			Start: at(rec.First), End: at(rec.Last), InIf: uint32(rec.Input), OutIf: uint32(rec.Output),
		}
		if f.IPProto == 1 {
			f.ICMPType, f.ICMPCode, f.DstPort = uint8(rec.DstPort>>8), uint8(rec.DstPort), 0
		}
		r.Flows = append(r.Flows, f)
	}
	r.Sampling["mode"] = uint32(p.SamplingInterval >> 14)
	r.Sampling["interval"] = uint32(p.SamplingInterval & 0x3fff)
	r.Headers = append(r.Headers, Header{Seq: p.FlowSequence, Count: int(p.Count), Records: len(p.Records), Len: len(b)})
	return nil
}

func v4(u uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(u >> 24), byte(u >> 16), byte(u >> 8), byte(u)})
}

func (r *Reader) v9(b []byte) error {
	var p netflow.NFv9Packet
	if err := netflow.DecodeMessageVersion(bytes.NewBuffer(b), r.known, &p, nil); err != nil {
		return err
	}
	h := Header{Seq: p.SequenceNumber, Count: int(p.Count), Len: len(b)}
	boot := int64(p.UnixSeconds)*1e9 - int64(p.SystemUptime)*1e6
	r.sets(p.FlowSets, &h, boot)
	r.Headers = append(r.Headers, h)
	return nil
}

func (r *Reader) ipfix(b []byte) error {
	var p netflow.IPFIXPacket
	if err := netflow.DecodeMessageVersion(bytes.NewBuffer(b), r.known, nil, &p); err != nil {
		return err
	}
	if int(p.Length) != len(b) {
		return fmt.Errorf("length field %d", p.Length)
	}
	h := Header{Seq: p.SequenceNumber, Len: len(b)}
	r.sets(p.FlowSets, &h, 0)
	r.Headers = append(r.Headers, h)
	return nil
}

func (r *Reader) sets(sets []interface{}, h *Header, boot int64) {
	for _, set := range sets {
		switch s := set.(type) {
		case netflow.TemplateFlowSet:
			r.Templates += len(s.Records)
		case netflow.NFv9OptionsTemplateFlowSet:
			r.Templates += len(s.Records)
		case netflow.IPFIXOptionsTemplateFlowSet:
			r.Templates += len(s.Records)
		case netflow.OptionsDataFlowSet:
			for _, rec := range s.Records {
				h.Options++
				for _, v := range rec.OptionsValues {
					r.Sampling[fmt.Sprint(v.Type)] = uint32(number(v.Value))
				}
			}
		case netflow.DataFlowSet:
			for _, rec := range s.Records {
				h.Records++
				r.Flows = append(r.Flows, dataFlow(rec, boot))
			}
		default:
			r.t.Fatalf("set %T: a template is missing or wrong", set)
		}
	}
}

func number(v interface{}) uint64 {
	var n uint64
	for _, c := range v.([]byte) {
		n = n<<8 | uint64(c)
	}
	return n
}

func dataFlow(rec netflow.DataRecord, boot int64) export.Flow {
	var f export.Flow
	for _, v := range rec.Values {
		n := number(v.Value)
		switch v.Type {
		case 8, 27:
			f.Src, _ = netip.AddrFromSlice(v.Value.([]byte))
		case 12, 28:
			f.Dst, _ = netip.AddrFromSlice(v.Value.([]byte))
		case 7:
			f.SrcPort = uint16(n)
		case 11:
			f.DstPort = uint16(n)
		case 4:
			f.IPProto = uint8(n)
		case 6:
			f.TCPFlags = uint8(n)
		case 10:
			f.InIf = uint32(n)
		case 14:
			f.OutIf = uint32(n)
		case 2:
			f.Packets = n
		case 1:
			f.Bytes = n
		case 22:
			f.Start = boot + int64(n)*1e6
		case 21:
			f.End = boot + int64(n)*1e6
		case 152:
			f.Start = int64(n) * 1e6
		case 153:
			f.End = int64(n) * 1e6
		case 32, 139:
			f.ICMPType, f.ICMPCode = uint8(n>>8), uint8(n)
		}
	}
	return f
}

func (r *Reader) sflow(b []byte) error {
	var p gosflow.Packet
	if err := gosflow.DecodeMessageVersion(bytes.NewBuffer(b), &p); err != nil {
		return err
	}
	h := Header{Seq: p.SequenceNumber, Count: int(p.SamplesCount), Len: len(b)}
	for _, s := range p.Samples {
		switch s := s.(type) {
		case gosflow.FlowSample:
			h.Records++
			f, err := sampleFlow(s)
			if err != nil {
				return err
			}
			r.Sampling["rate"] = s.SamplingRate
			r.Flows = append(r.Flows, f)
		case gosflow.CounterSample:
			r.Counters++
		default:
			return fmt.Errorf("sample %T", s)
		}
	}
	r.Headers = append(r.Headers, h)
	return nil
}

func sampleFlow(s gosflow.FlowSample) (export.Flow, error) {
	raw, ok := s.Records[0].Data.(gosflow.SampledHeader)
	if !ok || len(s.Records) != 1 || raw.Protocol != 1 {
		return export.Flow{}, fmt.Errorf("records %+v", s.Records)
	}
	if int(raw.OriginalLength) > len(raw.HeaderData) || len(raw.HeaderData)-int(raw.OriginalLength) > 3 {
		return export.Flow{}, fmt.Errorf("header length %d, %d bytes", raw.OriginalLength, len(raw.HeaderData))
	}
	data := raw.HeaderData[:raw.OriginalLength]
	if raw.FrameLength < 64 || int(raw.FrameLength-raw.Stripped) < len(data) {
		return export.Flow{}, fmt.Errorf("frame length %d, header %d", raw.FrameLength, len(data))
	}
	f := export.Flow{Packets: 1, InIf: s.Input, OutIf: s.Output}
	pkt := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default)
	for _, l := range pkt.Layers() {
		switch l := l.(type) {
		case *layers.Ethernet:
			copy(f.SrcMAC[:], l.SrcMAC)
			copy(f.DstMAC[:], l.DstMAC)
		case *layers.Dot1Q:
			f.VLAN = l.VLANIdentifier
		case *layers.IPv4:
			f.Src, _ = netip.AddrFromSlice(l.SrcIP)
			f.Dst, _ = netip.AddrFromSlice(l.DstIP)
			f.IPProto, f.TTL, f.Bytes = uint8(l.Protocol), l.TTL, uint64(l.Length)
		case *layers.IPv6:
			f.Src, _ = netip.AddrFromSlice(l.SrcIP)
			f.Dst, _ = netip.AddrFromSlice(l.DstIP)
			f.IPProto, f.TTL, f.Bytes = uint8(l.NextHeader), l.HopLimit, uint64(l.Length)+40
		case *layers.TCP:
			f.SrcPort, f.DstPort, f.TCPFlags = uint16(l.SrcPort), uint16(l.DstPort), l.Contents[13]
		case *layers.UDP:
			f.SrcPort, f.DstPort = uint16(l.SrcPort), uint16(l.DstPort)
		case *layers.ICMPv4:
			f.ICMPType, f.ICMPCode = l.TypeCode.Type(), l.TypeCode.Code()
		case *layers.ICMPv6:
			f.ICMPType, f.ICMPCode = l.TypeCode.Type(), l.TypeCode.Code()
		}
	}
	if el := pkt.ErrorLayer(); el != nil && !pkt.Metadata().Truncated {
		return export.Flow{}, fmt.Errorf("sampled header: %w", el.Error())
	}
	return f, nil
}
