package decode_test

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/netsampler/goflow2/v2/decoders/netflow"

	"github.com/flowcordon/flowcordon/collector/decode"
)

// Limits of the decoder that show in what it yields, written down again.
const (
	refMaxFields    = 512
	refMaxRate      = 1_000_000
	refMaxFuture    = 5 * 60 * int64(1e9)
	refVariable     = 0xffff
	refReversePEN   = 29305
	refMaxSampleRec = 1024
	refReorder      = 2000
)

// templates reads a set of (options) templates. goflow2 reads each record alone,
// so that what is wrong with one does not cost those before it.
func (r *refDecoder) templates(c refContext, b []byte, options bool) {
	for len(b) >= 4 {
		id, count := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if id < 256 && allZero(b) {
			return // padding
		}
		if c.version == 10 && count == 0 {
			r.withdraw(c, id)
			b = b[4:]
			continue
		}
		t, n, ok := refTemplateRecord(c.version, b, options)
		if !ok {
			r.n[decode.ReasonTemplateBad]++
			return // where the next one begins is not known
		}
		b = b[n:]
		if id < 256 || !t.usable(c.version) {
			r.n[decode.ReasonTemplateBad]++
			continue
		}
		r.n["templates"]++
		r.learn(c, refKey{c.version, c.domainID, id}, t)
	}
}

// refTemplateRecord lets goflow2 read ever more of b until it has one record
// that it does not complain about: no length or count is believed.
func refTemplateRecord(version uint16, b []byte, options bool) (refTemplate, int, bool) {
	count := int(binary.BigEndian.Uint16(b[2:]))
	least := 4 + 4*count
	if options && len(b) < 6 {
		return refTemplate{}, 0, false
	}
	if options && version == 9 {
		second := int(binary.BigEndian.Uint16(b[4:]))
		if count%4 != 0 || second%4 != 0 {
			return refTemplate{}, 0, false
		}
		least, count = 6+count+second, (count+second)/4
	} else if options {
		least = 6 + 4*count
		if int(binary.BigEndian.Uint16(b[4:])) > count {
			return refTemplate{}, 0, false
		}
	}
	if count == 0 || count > refMaxFields {
		return refTemplate{}, 0, false
	}
	for n := least; n <= len(b); n += 4 {
		buf := bytes.NewBuffer(slices.Clone(b[:n]))
		t := refTemplate{options: options}
		switch {
		case !options:
			recs, err := netflow.DecodeTemplateSet(version, buf)
			if err != nil || len(recs) != 1 {
				continue
			}
			t.rest = recs[0].Fields
		case version == 9:
			recs, err := netflow.DecodeNFv9OptionsTemplateSet(buf)
			if err != nil || len(recs) != 1 {
				continue
			}
			t.scopes, t.rest = recs[0].Scopes, recs[0].Options
		default:
			recs, err := netflow.DecodeIPFIXOptionsTemplateSet(buf)
			if err != nil || len(recs) != 1 {
				continue
			}
			t.scopes, t.rest = recs[0].Scopes, recs[0].Options
		}
		// Fields without a length say nothing.
		empty := func(f netflow.Field) bool { return f.Length == 0 }
		t.scopes, t.rest = slices.DeleteFunc(t.scopes, empty), slices.DeleteFunc(t.rest, empty)
		for _, fs := range [][]netflow.Field{t.scopes, t.rest} {
			for i := range fs {
				if fs[i].PenProvided { // goflow2 leaves the bit in options templates
					fs[i].Type &= 0x7fff
				}
			}
		}
		return t, n, true
	}
	return refTemplate{}, 0, false
}

func (t refTemplate) fields() []netflow.Field { return slices.Concat(t.scopes, t.rest) }

// shortest is the length of the shortest record.
func (t refTemplate) shortest(version uint16) int {
	sum := 0
	for _, f := range t.fields() {
		if version == 10 && f.Length == refVariable {
			sum++
		} else {
			sum += int(f.Length)
		}
	}
	return sum
}

// usable: a record has at least a byte, and may fit into a datagram.
func (t refTemplate) usable(version uint16) bool {
	n := t.shortest(version)
	return n > 0 && n <= 65535
}

func (r *refDecoder) learn(c refContext, k refKey, t refTemplate) {
	old, had := c.e.templates[k]
	if had && old.options == t.options && slices.Equal(old.scopes, t.scopes) && slices.Equal(old.rest, t.rest) {
		return
	}
	if had {
		r.n[decode.NoteTemplateChanged]++
		old.former = nil
		t.former, t.since = &old, c.sequence
	}
	c.e.templates[k] = t
	// What waited for it comes now, oldest first.
	var rest, ready []refHeld
	for _, h := range r.held {
		if h.c.e == c.e && h.key == k {
			ready = append(ready, h)
		} else {
			rest = append(rest, h)
		}
	}
	r.held = rest
	for _, h := range ready {
		r.n[decode.NoteHeldDecoded]++
		r.data(h.c, k, h.body)
	}
}

// withdraw: RFC 7011 §8.1.
func (r *refDecoder) withdraw(c refContext, id uint16) {
	switch {
	case id >= 256:
		r.n[decode.NoteTemplateWithdrawn]++
		delete(c.e.templates, refKey{10, c.domainID, id})
	case id == 2 || id == 3:
		for k, t := range c.e.templates {
			if k.version == 10 && k.domain == c.domainID && t.options == (id == 3) {
				r.n[decode.NoteTemplateWithdrawn]++
				delete(c.e.templates, k)
			}
		}
	default:
		r.n[decode.ReasonTemplateBad]++
	}
}

// data cuts a set into records and lets goflow2 cut each into fields.
func (r *refDecoder) data(c refContext, k refKey, b []byte) {
	t := c.e.templates[k]
	if t.former != nil {
		// Datagrams overtake each other: what was sent before the new template
		// is of the old one.
		switch ahead := int32(c.sequence - t.since); {
		case ahead < 0 && ahead >= -refReorder:
			t = *t.former
		case ahead > refReorder:
			t.former = nil
			c.e.templates[k] = t
		}
	}
	c.template = k.id
	whole := len(b)
	got := 0
	for len(b) >= t.shortest(c.version) {
		n, ok := refRecordLen(c.version, t.fields(), b)
		if !ok {
			if !allZero(b) { // else: padding that is longer than it should be
				r.n[decode.ReasonRecordTruncated]++
				return
			}
			break
		}
		buf := bytes.NewBuffer(slices.Clone(b[:n]))
		values, err := netflow.DecodeDataSetUsingFields(c.version, buf, t.fields())
		if err != nil || buf.Len() != 0 {
			panic("reference: goflow2 takes another length than ours")
		}
		var fs refFields
		for i, v := range values {
			x, _ := v.Value.([]byte)
			f := refField{id: v.Type, scope: i < len(t.scopes), b: x}
			if v.PenProvided {
				f.pen = v.Pen
				if v.Pen == 0 {
					f.pen = 1<<32 - 1 // stated, and of nobody: not IANA's own numbers
				}
			}
			fs = append(fs, f)
		}
		got++
		if t.options {
			r.option(c, fs)
		} else {
			r.record(c, fs)
		}
		b = b[n:]
	}
	if got == 0 && whole > 0 {
		r.n[decode.ReasonDataBad]++
	}
}

// refRecordLen adds up the lengths of one record (RFC 7011 §7).
func refRecordLen(version uint16, fields []netflow.Field, b []byte) (int, bool) {
	at := 0
	for _, f := range fields {
		n := int(f.Length)
		if version == 10 && n == refVariable {
			if len(b) < at+1 {
				return 0, false
			}
			n = int(b[at])
			at++
			if n == 255 {
				if len(b) < at+2 {
					return 0, false
				}
				n = int(binary.BigEndian.Uint16(b[at:]))
				at += 2
			}
		}
		at += n
		if at > len(b) {
			return 0, false
		}
	}
	return at, true
}
