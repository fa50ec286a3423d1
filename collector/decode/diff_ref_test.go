package decode_test

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
	"github.com/netsampler/goflow2/v2/decoders/netflowlegacy"

	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// The reference: goflow2's decoders cut datagrams into lists of fields, and what
// those mean is written a second time here (diff_fields_test.go), from the RFCs
// and the IANA registry, without regard to speed and without a look at how the
// decoder does it. It shares no code with the package but the vocabulary.

// refDecoder is the reference for one decode.Decoder.
type refDecoder struct {
	cfg       decode.Config
	exporters map[netip.Addr]*refExporter
	held      []refHeld
	totals    map[string]refTotal
	out       []flow.Record
	from      []refFields    // what each of out was made of, for messages
	n         map[string]int // options, templates and the reasons, by name
}

type refExporter struct {
	templates map[refKey]refTemplate
	domains   map[refDomainKey]*refDomain
}

type refKey struct {
	version uint16
	domain  uint32
	id      uint16
}

type refDomainKey struct {
	version uint16
	id      uint32
	agent   string
}

type refDomain struct {
	samplers   map[string]uint32 // "sampler 7", "interface 3", "whole", …
	systemInit int64             // ms
}

type refTemplate struct {
	scopes, rest []netflow.Field
	options      bool

	former *refTemplate // what it took the place of, for data sent before it
	since  uint32       // sequence number of the datagram that brought it
}

// refContext is what the records of a set have in common.
type refContext struct {
	exporter   netip.Addr
	e          *refExporter
	domain     *refDomain
	domainID   uint32
	protocol   flow.Protocol
	version    uint16
	received   int64
	export     int64
	uptime     int64 // ms; -1: the header has none
	headerRate uint32
	template   uint16
	sequence   uint32
	trustClock bool
	rule       decode.SamplingRule
}

type refHeld struct {
	c    refContext
	key  refKey
	body []byte
}

// refField is one field of a record as goflow2 lists it.
type refField struct {
	pen   uint32
	id    uint16
	scope bool
	b     []byte
}

type refFields []refField

func newRef(cfg decode.Config) *refDecoder {
	return &refDecoder{cfg: cfg, exporters: map[netip.Addr]*refExporter{}, totals: map[string]refTotal{}, n: map[string]int{}}
}

// decode returns the records of a datagram.
func (r *refDecoder) decode(dg decode.Datagram) []flow.Record {
	r.out, r.from = nil, nil
	b := dg.Payload
	addr := dg.Exporter.Addr().Unmap()
	switch {
	case r.cfg.Allow != nil && !r.cfg.Allow(addr):
		r.n[decode.ReasonNotAllowed]++
	case len(b) < 4:
		r.n[decode.ReasonShort]++
	case b[0] == 0 && b[1] == 5 && dg.Kind != decode.KindSFlow:
		r.v5(dg, addr)
	case b[0] == 0 && b[1] == 9 && dg.Kind != decode.KindSFlow:
		r.v9(dg, addr)
	case b[0] == 0 && b[1] == 10 && dg.Kind != decode.KindSFlow:
		r.ipfix(dg, addr)
	case bytes.Equal(b[:4], []byte{0, 0, 0, 5}) && dg.Kind != decode.KindNetFlow:
		r.sflow(dg, addr)
	default:
		r.n[decode.ReasonVersion]++
	}
	return r.out
}

// context makes the exporter and domain known.
func (r *refDecoder) context(dg decode.Datagram, addr netip.Addr, p flow.Protocol, version uint16, id uint32, agent string) refContext {
	e := r.exporters[addr]
	if e == nil {
		e = &refExporter{templates: map[refKey]refTemplate{}, domains: map[refDomainKey]*refDomain{}}
		r.exporters[addr] = e
	}
	k := refDomainKey{version, id, agent}
	if e.domains[k] == nil {
		e.domains[k] = &refDomain{samplers: map[string]uint32{}}
	}
	return refContext{
		exporter: addr, e: e, domain: e.domains[k], domainID: id, protocol: p, version: version,
		received: dg.Received, uptime: -1, trustClock: r.cfg.TrustClock, rule: refRule(r.cfg.Sampling, addr),
	}
}

// refRule: the longest prefix wins, the first of equals.
func refRule(rules []decode.SamplingRule, addr netip.Addr) decode.SamplingRule {
	var hits []decode.SamplingRule
	for _, x := range rules {
		if x.Exporter.Contains(addr) {
			hits = append(hits, x)
		}
	}
	if len(hits) == 0 {
		return decode.SamplingRule{}
	}
	return slices.MaxFunc(hits, func(a, b decode.SamplingRule) int { return a.Exporter.Bits() - b.Exporter.Bits() })
}

// v5 turns each record into the list of elements that v9 has for its fields.
func (r *refDecoder) v5(dg decode.Datagram, addr netip.Addr) {
	b := dg.Payload
	if len(b) < 24 {
		r.n[decode.ReasonShort]++
		return
	}
	count := int(b[2])<<8 | int(b[3])
	if count == 0 || 24+48*count > len(b) { // goflow2 would yield records of zeros
		r.n[decode.ReasonV5Count]++
		return
	}
	var p netflowlegacy.PacketNetFlowV5
	if err := netflowlegacy.DecodeMessageVersion(bytes.NewBuffer(bytes.Clone(b)), &p); err != nil {
		panic(err)
	}
	if 24+48*count < len(b) {
		r.n[decode.NoteTrailing]++
	}
	c := r.context(dg, addr, flow.NetFlow5, 5, uint32(p.EngineType)<<8|uint32(p.EngineId), "")
	c.export = int64(p.UnixSecs) * 1e9
	if p.UnixNSecs < 1e9 {
		c.export += int64(p.UnixNSecs)
	}
	c.uptime = int64(p.SysUptime)
	c.headerRate = uint32(p.SamplingInterval & 0x3fff)
	num := func(id uint16, v uint64, width int) refField {
		return refField{id: id, b: binary.BigEndian.AppendUint64(nil, v)[8-width:]}
	}
	for _, x := range p.Records[:count] {
		r.record(c, refFields{
			num(8, uint64(x.SrcAddr), 4), num(12, uint64(x.DstAddr), 4), num(10, uint64(x.Input), 2), num(14, uint64(x.Output), 2),
			num(2, uint64(x.DPkts), 4), num(1, uint64(x.DOctets), 4), num(22, uint64(x.First), 4), num(21, uint64(x.Last), 4),
			num(7, uint64(x.SrcPort), 2), num(11, uint64(x.DstPort), 2), num(6, uint64(x.TCPFlags), 1), num(4, uint64(x.Proto), 1),
		})
	}
}

func (r *refDecoder) v9(dg decode.Datagram, addr netip.Addr) {
	b := dg.Payload
	if len(b) < 20 {
		r.n[decode.ReasonShort]++
		return
	}
	c := r.context(dg, addr, flow.NetFlow9, 9, binary.BigEndian.Uint32(b[16:]), "")
	c.uptime = int64(binary.BigEndian.Uint32(b[4:]))
	c.sequence = binary.BigEndian.Uint32(b[12:])
	c.export = int64(binary.BigEndian.Uint32(b[8:])) * 1e9
	r.sets(c, b[20:], len(b)-20)
}

func (r *refDecoder) ipfix(dg decode.Datagram, addr netip.Addr) {
	b := dg.Payload
	if len(b) < 16 {
		r.n[decode.ReasonShort]++
		return
	}
	length := int(b[2])<<8 | int(b[3])
	if length < 16 || length > len(b) {
		r.n[decode.ReasonIPFIXLength]++
		return
	}
	if length < len(b) {
		r.n[decode.NoteTrailing]++
	}
	c := r.context(dg, addr, flow.IPFIX, 10, binary.BigEndian.Uint32(b[12:]), "")
	c.export = int64(binary.BigEndian.Uint32(b[4:])) * 1e9
	c.sequence = binary.BigEndian.Uint32(b[8:])
	r.sets(c, b[16:], length-16)
}

// sets cuts a message into its sets. A set begins within the message's length;
// that it may end behind it is what some exporters need (telegraf-issue_14370).
func (r *refDecoder) sets(c refContext, b []byte, length int) {
	for at := 0; at < length && len(b)-at >= 4; {
		id := binary.BigEndian.Uint16(b[at:])
		n := int(binary.BigEndian.Uint16(b[at+2:]))
		if n < 4 || at+n > len(b) {
			if allZero(b[at:]) {
				return
			}
			r.n[decode.ReasonSetLength]++
			return
		}
		r.set(c, id, b[at:at+n])
		at += n
	}
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// set takes one set, header included.
func (r *refDecoder) set(c refContext, id uint16, b []byte) {
	templates, options := uint16(0), uint16(1)
	if c.version == 10 {
		templates, options = 2, 3
	}
	switch {
	case id == templates || id == options:
		r.templates(c, b[4:], id == options)
	case id < 256:
		r.n[decode.ReasonSetID]++
	default:
		k := refKey{c.version, c.domainID, id}
		if _, ok := c.e.templates[k]; !ok {
			r.n[decode.NoteHeld]++
			r.held = append(r.held, refHeld{c, k, slices.Clone(b[4:])})
			return
		}
		r.data(c, k, b[4:])
	}
}

// dropHeld gives up what waits for a template.
func (r *refDecoder) dropHeld() {
	r.n[decode.ReasonTemplateUnknown] += len(r.held)
	r.held = nil
}

// sole is the one rate that all samplers of a domain agree on.
func (d *refDomain) sole() uint32 {
	rates := slices.Sorted(maps.Values(d.samplers))
	rates = slices.Compact(rates)
	if len(rates) == 1 {
		return rates[0]
	}
	return 0
}
