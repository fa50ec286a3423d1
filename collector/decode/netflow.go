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
	o.sequence = binary.BigEndian.Uint32(b[12:])
	d.sets(o, b, v9HeaderLen, len(b))
	d.track(o, o.sequence, 1, true)
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
	o.sequence = binary.BigEndian.Uint32(b[8:])
	d.sets(o, b, ipfixHeaderLen, length)
	// RFC 7011 §3.1: the number counts the data records sent before this
	// message, modulo 2^32, options data included.
	d.track(o, o.sequence, d.setRecords, !d.setsSkipped)
	return accepted
}

// sets walks the sets of datagram b in their order, those that begin between off
// and end. Each consumes at least its header, and a set that runs over the end
// of the datagram ends the walk. One that runs over the length in the message's
// header only is taken: a datagram holds one message (RFC 7011 §10.3.3), and
// there are exporters that count a few bytes too few.
func (d *Decoder) sets(o *origin, b []byte, off, end int) {
	version := o.domain.key.version
	for off < end && len(b)-off >= setHeaderLen {
		id := binary.BigEndian.Uint16(b[off:])
		length := int(binary.BigEndian.Uint16(b[off+2:]))
		if length < setHeaderLen || length > len(b)-off {
			if zeros(b[off:]) {
				break // padding after the last set
			}
			o.exporter.count(d, rSetLength)
			d.setsSkipped = true
			break
		}
		body := off + setHeaderLen
		off += length
		switch {
		case id >= 256:
			d.dataSetOrHold(o, templateKey{version, o.domain.key.id, id}, b[body-lead:off])
		case version == 9 && id <= 1:
			d.templateSet(o, b[body:off], id == 1)
		case version == 10 && (id == 2 || id == 3):
			d.templateSet(o, b[body:off], id == 3)
		default:
			o.exporter.count(d, rSetID)
			d.setsSkipped = true
		}
	}
	d.flush(o)
}

// dataSetOrHold takes a data set: b is its body with lead bytes before it.
func (d *Decoder) dataSetOrHold(o *origin, key templateKey, b []byte) {
	t, ok := o.exporter.templates.get(key)
	if !ok {
		d.setsSkipped = true
		d.warnTemplate(o, key)
		d.holdBack(o, key, b)
		return
	}
	d.setRecords += uint32(d.dataSet(o, t, b))
}

// dataSet decodes the records of one set and returns how many there were. b is
// the set's body with lead bytes before it. The records are left in d.out.
func (d *Decoder) dataSet(o *origin, t *template, b []byte) int {
	t = d.templateFor(o, t)
	o.templateID = t.key.id
	var (
		total int
		cut   bool
	)
	switch {
	case t.options:
		total, cut = d.walkRecords(o, t, b, d.option)
	case t.plan.quick.ok:
		total, cut = d.quickRecords(o, t, b)
	default:
		total, cut = d.walkRecords(o, t, b, d.build)
	}
	if cut {
		o.exporter.count(d, rRecordTruncated)
		d.setsSkipped = true
		return total
	}
	// RFC 7011 §3.3.1: padding is shorter than a record. A set without one
	// whole record is no padding. (A set of no bytes at all is odd but empty.)
	if total == 0 && len(b) > lead {
		o.exporter.count(d, rDataBad)
		d.setsSkipped = true
	}
	return total
}

// next measures the record at the start of b behind its lead. Size 0: there is
// none any more, and cut says that one runs over the end.
func (d *Decoder) next(t *template, b []byte) (size int, cut bool) {
	if len(b)-lead < t.size {
		return 0, false
	}
	if len(t.plan.gaps) == 0 {
		return t.size, false
	}
	size, ok := t.plan.measure(b[lead:], &d.walk)
	if !ok {
		// What is left may be padding, which is zero bytes and shorter than a
		// record (RFC 7011 §3.3.1).
		return 0, !zeros(b[lead:])
	}
	return size, false
}

// walkRecords reads records by the plan's ops and calls visit with each.
func (d *Decoder) walkRecords(o *origin, t *template, b []byte, visit func(*origin, *fields)) (n int, cut bool) {
	for {
		size, cut := d.next(t, b)
		if size == 0 {
			return n, cut
		}
		t.plan.read(b[:lead+size], &d.walk, &d.f)
		visit(o, &d.f)
		b = b[size:]
		n++
	}
}

// quickRecords fills in records by the plan's slots.
func (d *Decoder) quickRecords(o *origin, t *template, b []byte) (n int, cut bool) {
	q := &t.plan.quick
	slots := &q.slots
	if len(q.moves) > 0 {
		d.slots = q.slots
		slots = &d.slots
	}
	d.begin(o, q)
	for {
		size, cut := d.next(t, b)
		if size == 0 {
			return n, cut
		}
		rec := b[:lead+size]
		if len(q.moves) > 0 {
			q.place(slots, &d.walk)
		}
		r := d.room(o)
		if q.fill(slots, rec, &d.common, r) && (!d.common.keyed || d.rate(o, q, slots, rec, r)) {
			d.out = d.out[:len(d.out)+1]
		} else {
			t.plan.read(rec, &d.walk, &d.f)
			d.build(o, &d.f)
		}
		b = b[size:]
		n++
	}
}

// room returns the place behind the last record, after handing over the records
// there are where all places are taken.
func (d *Decoder) room(o *origin) *flow.Record {
	if len(d.out) == runRecords {
		d.flush(o)
	}
	return &d.places[len(d.out)%runRecords]
}

// begin prepares what the records of a set share.
func (d *Decoder) begin(o *origin, q *quick) {
	c := &d.common
	c.begin(o, d.cfg.TrustClock)
	zero := d.domainZero(o)
	c.keyed = q.sampled || q.rateHas&fInIf != 0 && (o.domain.samplers.perInterface || zero != nil && zero.samplers.perInterface)
	if !c.keyed {
		c.base.SamplingRate, c.base.SamplingSource = o.exporter.resolve(0, d.optionsRate(o, rateKey{}), o.headerRate)
	}
}
