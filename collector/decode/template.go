package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
)

// templateKey names a template within one exporter. Templates and options
// templates share their ids (RFC 7011 §3.4.1).
type templateKey struct {
	version uint16
	domain  uint32
	id      uint16
}

// template is a checked description of data records. Fields of length 0 are
// left out: they carry nothing, and a template of many of them would make one
// byte of data cost kilobytes of decoded fields.
type template struct {
	key      templateKey
	fields   []netflow.Field // scope fields first
	scopes   int             // how many of fields are scope
	options  bool
	size     int  // bytes of the shortest record; ≥ 1
	variable bool // has fields whose length stands in the data
	plan     plan
}

const variableLength = 0xffff // RFC 7011 §7

var errTemplate = errors.New("template malformed")

// newTemplate checks a template, whether from the wire or from a state file.
func newTemplate(key templateKey, scopes, rest []netflow.Field, options bool) (*template, error) {
	if key.id < 256 {
		return nil, fmt.Errorf("%w: id %d is reserved", errTemplate, key.id)
	}
	if len(scopes)+len(rest) > maxTemplateFields {
		return nil, fmt.Errorf("%w: %d fields", errTemplate, len(scopes)+len(rest))
	}
	t := &template{key: key, options: options, fields: make([]netflow.Field, 0, len(scopes)+len(rest))}
	for i, f := range slices.Concat(scopes, rest) {
		if f.Length == 0 {
			continue
		}
		if f.PenProvided {
			f.Type &^= 0x8000 // goflow2 leaves the bit in options templates
		}
		switch {
		case f.Length == variableLength && key.version == 10:
			t.variable = true
			t.size++ // at least the byte that says how long
		default:
			t.size += int(f.Length)
		}
		t.fields = append(t.fields, f)
		if i < len(scopes) {
			t.scopes++
		}
	}
	if t.size == 0 {
		return nil, fmt.Errorf("%w: no field has a length", errTemplate)
	}
	// A record longer than any datagram can never come. goflow2 adds lengths
	// up in an int, so it would be harmless, but the template is nonsense.
	if t.size > 65535 {
		return nil, fmt.Errorf("%w: records of %d bytes", errTemplate, t.size)
	}
	t.plan = &goflowPlan{t: t}
	return t, nil
}

func (t *template) cost() int { return templateCost + fieldCost*len(t.fields) }

// same reports whether both describe the same records.
func (t *template) same(u *template) bool {
	return t.options == u.options && t.scopes == u.scopes && slices.Equal(t.fields, u.fields)
}

// span returns how many bytes the first n or fewer whole records of body take,
// and how many they are. cut says that a record runs over the end of body.
func (t *template) span(body []byte, n int) (size, records int, cut bool) {
	if !t.variable {
		records = min(n, len(body)/t.size)
		return records * t.size, records, false
	}
	for records < n && len(body)-size >= t.size {
		rec, ok := t.recordLen(body[size:])
		if !ok {
			// What is left may be padding, which is zero bytes and shorter
			// than a record (RFC 7011 §3.3.1).
			return size, records, !zeros(body[size:])
		}
		size += rec
		records++
	}
	return size, records, false
}

// recordLen walks one record with variable-length fields.
func (t *template) recordLen(b []byte) (int, bool) {
	off := 0
	for _, f := range t.fields {
		n := int(f.Length)
		if f.Length == variableLength {
			if off >= len(b) {
				return 0, false
			}
			n = int(b[off])
			off++
			if n == 255 {
				if off+2 > len(b) {
					return 0, false
				}
				n = int(binary.BigEndian.Uint16(b[off:]))
				off += 2
			}
		}
		if off+n > len(b) {
			return 0, false
		}
		off += n
	}
	return off, true
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
		n, err := templateRecordLen(version, body, options)
		if err != nil {
			o.exporter.count(d, rTemplateBad)
			return
		}
		t, err := parseTemplate(templateKey{version, o.domain.key.id, id}, body[:n], options)
		body = body[n:]
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
// record at the start of b without believing any count.
func templateRecordLen(version uint16, b []byte, options bool) (int, error) {
	fields, off := int(binary.BigEndian.Uint16(b[2:])), 4
	if options {
		if len(b) < 6 {
			return 0, errTemplate
		}
		second := int(binary.BigEndian.Uint16(b[4:]))
		off = 6
		if version == 9 { // lengths in bytes, scope then options: RFC 3954 §6.1
			if fields%4 != 0 || second%4 != 0 {
				return 0, errTemplate
			}
			fields = fields/4 + second/4
		} else if second > fields {
			return 0, errTemplate
		}
	}
	if fields == 0 || fields > maxTemplateFields {
		return 0, errTemplate
	}
	for range fields {
		if off+4 > len(b) {
			return 0, errTemplate
		}
		enterprise := version == 10 && b[off]&0x80 != 0
		off += 4
		if enterprise {
			if off+4 > len(b) {
				return 0, errTemplate
			}
			off += 4
		}
	}
	return off, nil
}

// parseTemplate hands exactly one template record to goflow2.
func parseTemplate(key templateKey, b []byte, options bool) (*template, error) {
	buf := bytes.NewBuffer(b)
	switch {
	case !options:
		recs, err := netflow.DecodeTemplateSet(key.version, buf)
		if err != nil || len(recs) != 1 {
			return nil, errors.Join(errTemplate, err)
		}
		return newTemplate(key, nil, recs[0].Fields, false)
	case key.version == 9:
		recs, err := netflow.DecodeNFv9OptionsTemplateSet(buf)
		if err != nil || len(recs) != 1 {
			return nil, errors.Join(errTemplate, err)
		}
		return newTemplate(key, recs[0].Scopes, recs[0].Options, true)
	default:
		recs, err := netflow.DecodeIPFIXOptionsTemplateSet(buf)
		if err != nil || len(recs) != 1 {
			return nil, errors.Join(errTemplate, err)
		}
		return newTemplate(key, recs[0].Scopes, recs[0].Options, true)
	}
}

// learn stores a template and decodes the data that waited for it.
func (d *Decoder) learn(o *origin, t *template) {
	e := o.exporter
	if old, ok := e.templates.get(t.key); ok {
		if old.same(t) {
			return // a refresh
		}
		e.count(d, nTemplateChanged)
		d.forget(e, t.key)
	}
	d.remember(e, t)
	d.release(o, t.key)
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
