package decode

import (
	"encoding/binary"
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// sflowHeaderMax is the length of a header with an IPv6 agent.
const sflowHeaderMax = 40

// Formats of samples and of the flow records within them: enterprise 0, so the
// number alone (sflow.org, sflow_version_5.txt §5; sflow_drops.txt).
const (
	sampleFlow             = 1
	sampleCounters         = 2
	sampleFlowExpanded     = 3
	sampleCountersExpanded = 4
	sampleDiscarded        = 5

	flowRaw      = 1
	flowEthernet = 2
	flowIPv4     = 3
	flowIPv6     = 4
	flowSwitch   = 1001
)

func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

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
		domain:   d.domainOf(e, domainKey{id: be32(b), agent: agent}),
		protocol: flow.SFlow5,
		received: dg.Received,
	}
	seq, samples := be32(b[4:]), be32(b[12:])
	b = b[16:]
	for ; samples > 0; samples-- {
		if len(b) < 8 {
			e.count(d, rSampleLength)
			break
		}
		format, length := be32(b), be32(b[4:])
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
	typ := be32(b)
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
	case sampleFlow:
		if len(b) < compactHeader {
			o.exporter.count(d, rSampleBad)
			return
		}
		in, out := be32(b[20:]), be32(b[24:])
		d.flowSample(o, &sample{
			seq: be32(b), source: be32(b[4:]), rate: be32(b[8:]), pool: be32(b[12:]), drops: be32(b[16:]),
			inFormat: in >> 30, in: in & ifIndexMask, outFormat: out >> 30, out: out & ifIndexMask,
			records: be32(b[28:]), body: b[compactHeader:],
		})
	case sampleFlowExpanded:
		if len(b) < expandedHeader {
			o.exporter.count(d, rSampleBad)
			return
		}
		d.flowSample(o, &sample{
			// The class (ifIndex, VLAN, physical entity) shares the word with
			// the index in compact samples, and so it does here.
			seq: be32(b), source: be32(b[4:])<<24 ^ be32(b[8:]), rate: be32(b[12:]), pool: be32(b[16:]), drops: be32(b[20:]),
			inFormat: be32(b[24:]), in: be32(b[28:]), outFormat: be32(b[32:]), out: be32(b[36:]),
			records: be32(b[40:]), body: b[expandedHeader:],
		})
	case sampleCounters, sampleCountersExpanded:
		o.exporter.count(d, nCounterSample)
	case sampleDiscarded:
		// A packet that the switch dropped: it went nowhere and is no traffic.
		// It is sampled by no rate either: each is one packet.
		if len(b) < discardedHeader {
			o.exporter.count(d, rSampleBad)
			return
		}
		o.exporter.count(d, nDiscardedSample)
	default:
		o.exporter.count(d, rSampleForeign)
	}
}

// Lengths of what stands before the flow records of a sample: sequence, source,
// rate, pool, drops, input, output, number of records; expanded, source and
// both interfaces have two words. A discarded packet has sequence, source (2),
// drops, input, output, reason, number of records.
const (
	compactHeader   = 8 * 4
	expandedHeader  = 11 * 4
	discardedHeader = 8 * 4
)

const ifIndexMask = 1<<30 - 1

// sample is a flow sample of either form.
type sample struct {
	seq, source, rate, pool, drops uint32
	inFormat, in, outFormat, out   uint32
	records                        uint32
	body                           []byte // the flow records
}

// flowSample turns one flow sample into one record: one packet, of as many
// bytes as its IP header says.
func (d *Decoder) flowSample(o *origin, s *sample) {
	e := o.exporter
	// Each flow record has a header of 8 bytes: a count that does not fit is
	// damage. goflow2 passes it to make(): 103 GB from a datagram of 80 bytes.
	if s.records > maxFlowRecords || int(s.records)*8 > len(s.body) {
		e.count(d, rSampleBad)
		return
	}
	r := d.room(o)
	*r = flow.Record{}
	r.Exporter = e.addr
	r.Protocol = flow.SFlow5
	r.Domain = o.domain.key.id
	r.Received, r.Start, r.End = o.received, o.received, o.received
	r.Packets = 1
	// Only format 0 is an ifIndex, and there 0 is "unknown" and 0x3FFFFFFF
	// "none, the device itself".
	var has flow.Has
	if s.inFormat == 0 && s.in != 0 && s.in != ifIndexMask {
		r.InIf = s.in
		has |= flow.HasInIf
	}
	if s.outFormat == 0 && s.out != 0 && s.out != ifIndexMask {
		r.OutIf = s.out
		has |= flow.HasOutIf
	}
	r.Has = has
	rate := s.rate
	if rate > maxSamplingRate {
		e.count(d, nSamplingRefused)
		rate = 0
	}
	r.SamplingRate, r.SamplingSource = e.resolve(rate, 0, 0)
	d.source(o, s, rate)
	d.flowRecords(o, r, s)
	d.out = d.out[:len(d.out)+1]
}

// flowRecords walks the flow records of a sample. A bad one costs only itself.
// Router, gateway, user and tunnel records, and those of vendors, are skipped.
func (d *Decoder) flowRecords(o *origin, r *flow.Record, s *sample) {
	b, hasIP := s.body, false
	var parsed []byte // by the agent, in case there is no header
	var parsed6 bool
	for n := s.records; n > 0; n-- {
		if len(b) < 8 || uint64(be32(b[4:])) > uint64(len(b)-8) {
			o.exporter.count(d, nFlowRecordBad)
			break
		}
		format, length := be32(b), be32(b[4:])
		body := b[8 : 8+length]
		b = b[8+length:]
		ok := true
		switch format {
		case flowRaw:
			if !hasIP {
				hasIP, ok = d.sampledHeader(r, body)
			}
		case flowIPv4:
			if ok = len(body) >= sampledIPv4Len; ok {
				parsed, parsed6 = body, false
			}
		case flowIPv6:
			if ok = len(body) >= sampledIPv6Len; ok {
				parsed, parsed6 = body, true
			}
		case flowEthernet:
			ok = sampledEthernet(r, body)
		case flowSwitch:
			ok = extendedSwitch(r, body)
		}
		if !ok {
			o.exporter.count(d, nFlowRecordBad)
		}
	}
	if parsed != nil && !hasIP {
		sampledIP(r, parsed, parsed6)
	}
}
