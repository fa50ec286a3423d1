package load

import "github.com/flowcordon/flowcordon/flow"

// field is one entry of a template: information element and length in bytes.
type field struct{ id, length uint16 }

// Information elements that v9 (RFC 3954 §8) and IPFIX (IANA's registry) share.
const (
	ieBytes            = 1
	iePackets          = 2
	ieProtocol         = 4
	ieTOS              = 5
	ieFlags            = 6
	ieSrcPort          = 7
	ieSrc              = 8
	ieInIf             = 10
	ieDstPort          = 11
	ieDst              = 12
	ieOutIf            = 14
	ieNextHop          = 15
	ieLast             = 21
	ieFirst            = 22
	ieICMP             = 32
	ieSamplingInterval = 34
	ieSamplingMode     = 35
	ieDomain           = 149
	ieStartMs          = 152
	ieEndMs            = 153
)

// The fields that every router sends: 54 bytes a record for v9, 25 to a
// datagram; 57 for IPFIX, 24 to a datagram.
var (
	v9Fields = []field{
		{ieSrc, 4}, {ieDst, 4}, {ieNextHop, 4}, {ieSrcPort, 2}, {ieDstPort, 2}, {ieProtocol, 1}, {ieTOS, 1}, {ieFlags, 1}, {ieICMP, 2},
		{ieInIf, 4}, {ieOutIf, 4}, {iePackets, 8}, {ieBytes, 8}, {ieFirst, 4}, {ieLast, 4},
	}
	ipfixFields = []field{
		{ieSrc, 4}, {ieDst, 4}, {ieSrcPort, 2}, {ieDstPort, 2}, {ieProtocol, 1}, {ieTOS, 1}, {ieFlags, 1}, {ieICMP, 2},
		{ieInIf, 4}, {ieOutIf, 4}, {iePackets, 8}, {ieBytes, 8}, {ieStartMs, 8}, {ieEndMs, 8},
	}
)

const (
	maxDatagram   = 1400
	v9Header      = 20
	ipfixHeader   = 16
	setHeader     = 4
	firstTemplate = 256 // the lowest that is allowed (RFC 7011 §3.4.1)
	optionsID     = 65535
)

// layout is a template and where the times are in its records.
type layout struct {
	id          uint16
	fields      []field
	size        int
	first, last int // offsets
}

// templated is NetFlow v9 (RFC 3954) or IPFIX (RFC 7011).
type templated struct {
	ipfix    bool
	header   int
	domain   uint32
	sampling uint32
	layouts  []layout
	seq      uint32
}

func newTemplated(c *Config, domain uint32) *templated {
	e := &templated{ipfix: c.Protocol == flow.IPFIX, header: v9Header, domain: domain, sampling: c.Sampling}
	fields := v9Fields
	if e.ipfix {
		e.header, fields = ipfixHeader, ipfixFields
	}
	for i := range c.Templates {
		l := layout{id: uint16(firstTemplate + i), fields: append([]field(nil), fields...)}
		m := mix{rng: hash(c.Seed, uint64(i))}
		for j := len(l.fields) - 1; i > 0 && j > 0; j-- { // the first is in the usual order
			k := m.below(uint32(j + 1))
			l.fields[j], l.fields[k] = l.fields[k], l.fields[j]
		}
		for _, f := range l.fields {
			switch f.id {
			case ieFirst, ieStartMs:
				l.first = l.size
			case ieLast, ieEndMs:
				l.last = l.size
			}
			l.size += int(f.length)
		}
		e.layouts = append(e.layouts, l)
	}
	return e
}

func (e *templated) begin(b []byte, count int) []byte {
	if e.ipfix {
		b = be.AppendUint16(b, 10)
		b = append(b, make([]byte, 10)...) // length, clock, sequence
	} else {
		b = be.AppendUint16(b, 9)
		b = be.AppendUint16(b, uint16(count))
		b = be.AppendUint32(b, bootUptime)
		b = append(b, make([]byte, 8)...) // clock, sequence
	}
	return be.AppendUint32(b, e.domain)
}

// end pads the set that begins at the given offset, and writes lengths.
func (e *templated) end(b []byte, start, set int) []byte {
	for (len(b)-set)%4 != 0 {
		b = append(b, 0)
	}
	be.PutUint16(b[set+2:], uint16(len(b)-set))
	if e.ipfix {
		be.PutUint16(b[start+2:], uint16(len(b)-start))
	}
	return b
}

func (e *templated) encode(b []byte, m *mix, variant int) ([]byte, int) {
	l := &e.layouts[variant]
	records := (maxDatagram - e.header - setHeader) / l.size
	start := len(b)
	b = e.begin(b, records)
	set := len(b)
	b = be.AppendUint16(b, l.id)
	b = be.AppendUint16(b, 0)
	var r record
	for range records {
		m.next(&r)
		for _, f := range l.fields {
			b = appendField(b, f.id, &r)
		}
	}
	return e.end(b, start, set), records
}

func appendField(b []byte, id uint16, r *record) []byte {
	switch id {
	case ieSrc:
		return be.AppendUint32(b, r.src)
	case ieDst:
		return be.AppendUint32(b, r.dst)
	case ieNextHop:
		return be.AppendUint32(b, nextHop)
	case ieSrcPort:
		return be.AppendUint16(b, r.sport)
	case ieDstPort:
		return be.AppendUint16(b, r.dport)
	case ieProtocol:
		return append(b, r.proto)
	case ieTOS:
		return append(b, 0)
	case ieFlags:
		return append(b, r.flags)
	case ieICMP:
		return be.AppendUint16(b, r.icmp)
	case ieInIf:
		return be.AppendUint32(b, uint32(r.inIf))
	case ieOutIf:
		return be.AppendUint32(b, uint32(r.outIf))
	case iePackets:
		return be.AppendUint64(b, uint64(r.packets))
	case ieBytes:
		return be.AppendUint64(b, uint64(r.bytes))
	case ieFirst:
		return be.AppendUint32(b, bootUptime-r.startAgo)
	case ieLast:
		return be.AppendUint32(b, bootUptime-r.endAgo)
	case ieStartMs:
		return be.AppendUint64(b, uint64(epoch)-uint64(r.startAgo))
	case ieEndMs:
		return be.AppendUint64(b, uint64(epoch)-uint64(r.endAgo))
	}
	panic("load: field without a value")
}

// announce writes the templates, and the sampling rate of the whole domain as
// an options template with one record.
func (e *templated) announce() (datagrams [][]byte, records []int) {
	b := e.begin(nil, 2)
	set := len(b)
	if e.ipfix {
		b = be.AppendUint16(b, 3)
		b = be.AppendUint16(b, 0)
		b = appendShorts(b, optionsID, 3, 1, ieDomain, 4, ieSamplingInterval, 4, ieSamplingMode, 1)
	} else {
		b = be.AppendUint16(b, 1)
		b = be.AppendUint16(b, 0)
		b = appendShorts(b, optionsID, 4, 8, 1, 4, ieSamplingInterval, 4, ieSamplingMode, 1) // scope 1: System
	}
	b = e.end(b, 0, set)
	set = len(b)
	b = appendShorts(b, optionsID, 0)
	b = be.AppendUint32(b, e.domain)
	b = be.AppendUint32(b, e.sampling)
	b = append(b, 1) // deterministic
	datagrams, records = append(datagrams, e.end(b, 0, set)), append(records, 1)

	per := (maxDatagram - e.header - setHeader) / (setHeader + 4*len(e.layouts[0].fields))
	for from := 0; from < len(e.layouts); from += per {
		part := e.layouts[from:min(from+per, len(e.layouts))]
		b := e.begin(nil, len(part))
		set := len(b)
		id := uint16(0)
		if e.ipfix {
			id = 2
		}
		b = appendShorts(b, id, 0)
		for _, l := range part {
			b = appendShorts(b, l.id, uint16(len(l.fields)))
			for _, f := range l.fields {
				b = appendShorts(b, f.id, f.length)
			}
		}
		datagrams, records = append(datagrams, e.end(b, 0, set)), append(records, 0)
	}
	return datagrams, records
}

func appendShorts(b []byte, vs ...uint16) []byte {
	for _, v := range vs {
		b = be.AppendUint16(b, v)
	}
	return b
}

func (e *templated) renew(d []byte, records, variant int, now int64, ms uint64, announcement bool) {
	if e.ipfix {
		be.PutUint32(d[4:], uint32(now/1e9))
		be.PutUint32(d[8:], e.seq) // of data records before this message (RFC 7011 §3.1)
		e.seq += uint32(records)
	} else {
		move(d[4:], uint32(ms))
		be.PutUint32(d[8:], uint32(now/1e9))
		be.PutUint32(d[12:], e.seq) // of datagrams (RFC 3954 §5.1)
		e.seq++
	}
	if announcement {
		return
	}
	l := &e.layouts[variant]
	r := d[e.header+setHeader:]
	if e.ipfix {
		for range records {
			be.PutUint64(r[l.first:], be.Uint64(r[l.first:])+ms)
			be.PutUint64(r[l.last:], be.Uint64(r[l.last:])+ms)
			r = r[l.size:]
		}
		return
	}
	for range records {
		move(r[l.first:], uint32(ms))
		move(r[l.last:], uint32(ms))
		r = r[l.size:]
	}
}
