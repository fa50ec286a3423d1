package decode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// templateKey names a template within one exporter. Templates and options
// templates share their ids (RFC 7011 §3.4.1).
type templateKey struct {
	version uint16
	domain  uint32
	id      uint16
}

// element is one field of a template.
type element struct {
	id, length uint16 // bytes; variableLength: stands in the data
	pen        uint32
	enterprise bool // id belongs to pen, not to IANA's registry
}

// template is a checked description of data records. Fields of length 0 are
// left out: they carry nothing, and a template of many of them would make one
// byte of data cost many steps.
type template struct {
	key     templateKey
	fields  []element // scope fields first
	scopes  int       // how many of fields are scope
	options bool
	size    int // bytes of the shortest record; ≥ 1
	plan    plan

	learned, refreshed int64 // when it came first and last, ns; 0: from a state file

	// What this template took the place of, and the sequence number of the
	// datagram that brought this one: data sent before it may still be on its
	// way. nil once the datagrams that may be late have passed.
	former *template
	since  uint32
}

const variableLength = 0xffff // RFC 7011 §7

var errTemplate = errors.New("template malformed")

// newTemplate checks a template, whether from the wire or from a state file.
// The first scopes of fields are scope fields. It keeps fields.
func newTemplate(key templateKey, fields []element, scopes int, options bool) (*template, error) {
	if key.id < 256 {
		return nil, fmt.Errorf("%w: id %d is reserved", errTemplate, key.id)
	}
	if len(fields) > maxTemplateFields {
		return nil, fmt.Errorf("%w: %d fields", errTemplate, len(fields))
	}
	t := &template{key: key, options: options, fields: fields[:0]}
	for i, f := range fields {
		if f.length == 0 {
			continue
		}
		if f.length == variableLength && key.version == 10 {
			t.size++ // at least the byte that says how long
		} else {
			t.size += int(f.length)
		}
		t.fields = append(t.fields, f)
		if i < scopes {
			t.scopes++
		}
	}
	if t.size == 0 {
		return nil, fmt.Errorf("%w: no field has a length", errTemplate)
	}
	// A record longer than any datagram can never come.
	if t.size > 65535 {
		return nil, fmt.Errorf("%w: records of %d bytes", errTemplate, t.size)
	}
	t.plan.compile(t)
	return t, nil
}

// cost is what the template is reckoned to cost, the one it took the place of
// included.
func (t *template) cost() int {
	n := templateCost + fieldCost*len(t.fields)
	if t.former != nil {
		n += t.former.cost()
	}
	return n
}

// same reports whether both describe the same records.
func (t *template) same(u *template) bool {
	return t.options == u.options && t.scopes == u.scopes && slices.Equal(t.fields, u.fields)
}

func zeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// templateSet walks a set of templates or options templates record by record.
// A malformed record ends the set, because the next cannot be found.
func (d *Decoder) templateSet(o *origin, body []byte, options bool) {
	version := o.domain.key.version
	for len(body) >= 4 {
		id := binary.BigEndian.Uint16(body)
		count := int(binary.BigEndian.Uint16(body[2:]))
		if id < 256 && zeros(body) {
			return // padding
		}
		if version == 10 && count == 0 {
			d.withdraw(o, id)
			body = body[4:]
			continue
		}
		size, n, err := templateRecordLen(version, body, options)
		if err != nil {
			o.exporter.count(d, rTemplateBad)
			return
		}
		t, err := parseTemplate(templateKey{version, o.domain.key.id, id}, body[:size], n, options)
		body = body[size:]
		if err != nil {
			o.exporter.count(d, rTemplateBad)
			continue // its length is known, the next one can be found
		}
		d.stats.templates++
		o.exporter.templatesSeen++
		d.learn(o, t)
	}
}

// templateRecordLen is the guard: it finds the length of the (options) template
// record at the start of b without believing any count, and how many fields it
// has.
func templateRecordLen(version uint16, b []byte, options bool) (size, fields int, err error) {
	fields, off := int(binary.BigEndian.Uint16(b[2:])), 4
	if options {
		if len(b) < 6 {
			return 0, 0, errTemplate
		}
		second := int(binary.BigEndian.Uint16(b[4:]))
		off = 6
		if version == 9 { // lengths in bytes, scope then options: RFC 3954 §6.1
			if fields%4 != 0 || second%4 != 0 {
				return 0, 0, errTemplate
			}
			fields = fields/4 + second/4
		} else if second > fields {
			return 0, 0, errTemplate
		}
	}
	if fields == 0 || fields > maxTemplateFields {
		return 0, 0, errTemplate
	}
	for range fields {
		if off+4 > len(b) {
			return 0, 0, errTemplate
		}
		enterprise := version == 10 && b[off]&0x80 != 0
		off += 4
		if enterprise {
			if off+4 > len(b) {
				return 0, 0, errTemplate
			}
			off += 4
		}
	}
	return off, fields, nil
}

// parseTemplate reads the template record that templateRecordLen measured: b is
// exactly the record, and n the number of its fields.
func parseTemplate(key templateKey, b []byte, n int, options bool) (*template, error) {
	scopes, off := 0, 4
	if options {
		off = 6
		if key.version == 9 {
			scopes = int(binary.BigEndian.Uint16(b[2:])) / 4
		} else {
			scopes = int(binary.BigEndian.Uint16(b[4:]))
		}
	}
	fields := make([]element, n)
	for i := range fields {
		f := &fields[i]
		f.id, f.length = binary.BigEndian.Uint16(b[off:]), binary.BigEndian.Uint16(b[off+2:])
		off += 4
		if key.version == 10 && f.id&0x8000 != 0 { // RFC 7011 §3.2
			f.id &^= 0x8000
			f.enterprise, f.pen = true, binary.BigEndian.Uint32(b[off:])
			off += 4
		}
	}
	return newTemplate(key, fields, scopes, options)
}

// learn stores a template and decodes the data that waited for it.
func (d *Decoder) learn(o *origin, t *template) {
	e := o.exporter
	if old, ok := e.templates.get(t.key); ok {
		if old.same(t) {
			old.refreshed = o.received
			return // a refresh
		}
		e.count(d, nTemplateChanged)
		d.forget(e, t.key)
		old.former = nil
		t.former, t.since = old, o.sequence
	}
	t.learned, t.refreshed = o.received, o.received
	d.remember(e, t)
	d.release(o, t)
}

// templateFor returns the template that the data of a datagram is of: t, or the
// one before it where the datagram was sent before t and overtaken.
func (d *Decoder) templateFor(o *origin, t *template) *template {
	if t.former == nil {
		return t
	}
	switch ahead := int32(o.sequence - t.since); {
	case ahead < 0 && ahead >= -reorderUnits:
		return t.former
	case ahead > reorderUnits:
		d.charge(o.exporter, -t.former.cost())
		t.former = nil
	}
	return t
}

// remember stores t, evicting the exporter's least recently used templates
// where it would hold too much.
func (d *Decoder) remember(e *exporter, t *template) {
	for e.cost+t.cost() > maxExporterState {
		k, _, ok := e.templates.oldest()
		if !ok {
			break
		}
		d.forget(e, k)
		e.count(d, nTemplateEvicted)
	}
	d.charge(e, t.cost())
	e.templates.put(t.key, t)
}

func (d *Decoder) forget(e *exporter, k templateKey) {
	if t, ok := e.templates.remove(k); ok {
		d.charge(e, -t.cost())
	}
}

// withdraw takes back one template, or all of a kind: RFC 7011 §8.1, where id 2
// stands for all templates of the domain and 3 for all options templates.
func (d *Decoder) withdraw(o *origin, id uint16) {
	e := o.exporter
	if id >= 256 {
		e.count(d, nTemplateWithdrawn)
		d.forget(e, templateKey{10, o.domain.key.id, id})
		return
	}
	if id != 2 && id != 3 {
		e.count(d, rTemplateBad)
		return
	}
	e.templates.all(func(k templateKey, t *template) {
		if k.version == 10 && k.domain == o.domain.key.id && t.options == (id == 3) {
			e.count(d, nTemplateWithdrawn)
			d.forget(e, k)
		}
	})
}
