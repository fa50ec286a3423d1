package decode

import (
	"encoding/binary"

	"github.com/flowcordon/flowcordon/flow"
)

const (
	v9HeaderLen    = 20 // RFC 3954 §5.1
	ipfixHeaderLen = 16 // RFC 7011 §3.1
	setHeaderLen   = 4
)

// netflow9 decodes a NetFlow v9 datagram. The header's count of records is not
// used: exporters fill it in differently, and the sets say where they end.
func (d *Decoder) netflow9(dg Datagram) reason {
	b := dg.Payload
	if len(b) < v9HeaderLen {
		return d.reject(dg, rShort)
	}
	e := d.exporterOf(dg, flow.NetFlow9)
	o := &d.origin
	*o = origin{
		exporter:    e,
		domain:      d.domainOf(e, domainKey{version: 9, id: binary.BigEndian.Uint32(b[16:])}),
		protocol:    flow.NetFlow9,
		received:    dg.Received,
		uptime:      binary.BigEndian.Uint32(b[4:]),
		export:      int64(binary.BigEndian.Uint32(b[8:])) * 1e9,
		uptimeKnown: true,
	}
	e.timing.header(o.export, o.received)
	d.sets(o, b[v9HeaderLen:], len(b)-v9HeaderLen)
	d.track(o, binary.BigEndian.Uint32(b[12:]), 1, true)
	return accepted
}

// ipfix decodes an IPFIX message.
func (d *Decoder) ipfix(dg Datagram) reason {
	b := dg.Payload
	if len(b) < ipfixHeaderLen {
		return d.reject(dg, rShort)
	}
	length := int(binary.BigEndian.Uint16(b[2:]))
	if length < ipfixHeaderLen || length > len(b) {
		return d.reject(dg, rIPFIXLength)
	}
	e := d.exporterOf(dg, flow.IPFIX)
	if length < len(b) {
		e.count(d, nTrailing)
	}
	o := &d.origin
	*o = origin{
		exporter: e,
		domain:   d.domainOf(e, domainKey{version: 10, id: binary.BigEndian.Uint32(b[12:])}),
		protocol: flow.IPFIX,
		received: dg.Received,
		export:   int64(binary.BigEndian.Uint32(b[4:])) * 1e9,
	}
	e.timing.header(o.export, o.received)
	d.setRecords, d.setsSkipped = 0, false
	d.sets(o, b[ipfixHeaderLen:], length-ipfixHeaderLen)
	// RFC 7011 §3.1: the number counts the data records sent before this
	// message, modulo 2^32, options data included.
	d.track(o, binary.BigEndian.Uint32(b[8:]), d.setRecords, !d.setsSkipped)
	return accepted
}

// sets walks the sets of a datagram in their order, those that begin within the
// first size bytes of b. Each consumes at least its header, and a set that runs
// over the end of the datagram ends the walk. One that runs over the length in
// the message's header only is taken: a datagram holds one message (RFC 7011
// §10.3.3), and there are exporters that count a few bytes too few.
func (d *Decoder) sets(o *origin, b []byte, size int) {
	version := o.domain.key.version
	for end := len(b) - size; len(b) > end && len(b) >= setHeaderLen; {
		id := binary.BigEndian.Uint16(b)
		length := int(binary.BigEndian.Uint16(b[2:]))
		if length < setHeaderLen || length > len(b) {
			if zeros(b) && version == 9 {
				return // padding after the last set
			}
			o.exporter.count(d, rSetLength)
			d.setsSkipped = true
			return
		}
		body := b[setHeaderLen:length]
		b = b[length:]
		switch {
		case id >= 256:
			d.dataSetOrHold(o, templateKey{version, o.domain.key.id, id}, body)
		case version == 9 && id <= 1:
			d.templateSet(o, body, id == 1)
		case version == 10 && (id == 2 || id == 3):
			d.templateSet(o, body, id == 3)
		default:
			o.exporter.count(d, rSetID)
			d.setsSkipped = true
		}
	}
}

func (d *Decoder) dataSetOrHold(o *origin, key templateKey, body []byte) {
	if _, ok := o.exporter.templates.get(key); !ok {
		d.setsSkipped = true
		d.warnTemplate(o, key)
		d.holdBack(o, key, body)
		return
	}
	n := d.dataSet(o, key, body)
	d.setRecords += uint32(n)
}

// dataSet decodes the records of one set in runs of chunkRecords, and returns
// how many there were. The template must be known.
func (d *Decoder) dataSet(o *origin, key templateKey, body []byte) int {
	t, ok := o.exporter.templates.get(key)
	if !ok {
		return 0
	}
	o.templateID = key.id
	total := 0
	for {
		size, n, cut := t.span(body, chunkRecords)
		if n > 0 {
			total += n
			visit := d.visitData
			if t.options {
				visit = d.visitOptions
			}
			d.current = o
			if err := t.plan.records(body[:size], n, visit); err != nil {
				d.out = d.out[:0]
				o.exporter.count(d, rDataBad)
				d.setsSkipped = true
				return total
			}
			d.flush(o)
			body = body[size:]
		}
		if cut {
			o.exporter.count(d, rRecordTruncated)
			d.setsSkipped = true
			return total
		}
		if n < chunkRecords {
			break
		}
	}
	// RFC 7011 §3.3.1: padding is shorter than a record. A set without one
	// whole record is no padding. (A set of no bytes at all is odd but empty.)
	if total == 0 && len(body) > 0 {
		o.exporter.count(d, rDataBad)
		d.setsSkipped = true
	}
	return total
}
