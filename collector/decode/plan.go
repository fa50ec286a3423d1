package decode

import "encoding/binary"

// A plan is what a template is compiled into, once, when it is learnt: where in
// a record the elements stand that we read. There are two ways to read by it,
// and both give the same flow.Record:
//
//   - every template has ops, which fill in fields, from which build makes the
//     record by all the rules there are (plan.read);
//   - a template that holds nothing but common elements in their usual widths
//     has slots too, from which fill writes the record at once (plan_quick.go).
//     Where a value is not of the plain kind, fill declines and that one record
//     is read by the ops.
type plan struct {
	ops []op // in the template's order

	// Of variable-length templates: the fixed bytes before each field whose
	// length stands in the data, and those after the last one.
	gaps []uint16
	tail uint16

	quick quick
}

// op is one element of a template that we read.
type op struct {
	id    uint16
	width uint16 // bytes; variableLength: stands in the data
	off   uint16 // from the record's start, with variable-length fields as empty
	after uint16 // how many variable-length fields come before it
	kind  opKind
}

// opKind is the number space that an op's id belongs to.
type opKind uint8

const (
	opIANA    opKind = iota // IANA's information elements, and the v9 field types
	opReverse               // the reverse of one (RFC 5103 §6.1)
	opScope9                // v9 scope types (RFC 3954 §6.1)
)

// penReverse is the enterprise number of reverse information elements.
const penReverse = 29305

// lead is how many bytes must stand before the first record of what a plan
// reads: a number of any width is taken as the end of eight bytes. In a datagram
// they are there (message header and set header have 20 at least), and a set
// that is held back is kept with them.
const lead = 8

// compile fills in the plan of t, whose fields are checked already.
func (p *plan) compile(t *template) {
	reads := 0
	for i, f := range t.fields {
		if _, ok := kindOf(t, i, f); ok {
			reads++
		}
	}
	p.ops = make([]op, 0, reads)
	off, gap, vars := 0, 0, 0
	for i, f := range t.fields {
		if kind, ok := kindOf(t, i, f); ok {
			p.ops = append(p.ops, op{id: f.id, width: f.length, off: uint16(off), after: uint16(vars), kind: kind})
		}
		if f.length == variableLength && t.key.version == 10 {
			p.gaps = append(p.gaps, uint16(gap))
			vars, gap = vars+1, 0
			continue
		}
		off += int(f.length)
		gap += int(f.length)
	}
	p.tail = uint16(gap)
	if !t.options {
		p.quick.compile(p)
	}
}

// kindOf says how the i-th field of t is read; not ok: it is skipped.
func kindOf(t *template, i int, f element) (opKind, bool) {
	switch {
	case i < t.scopes && t.key.version == 9:
		return opScope9, f.id == 2 || f.id == 5
	case f.enterprise && f.pen == penReverse:
		return opReverse, readsReverse(f.id)
	case f.enterprise:
		return 0, false
	}
	return opIANA, reads(f.id)
}

// walk is where the variable-length fields of one record lie.
type walk struct {
	// shift[i] is what the first i of them add to the offsets behind them,
	// their bytes of length included; length[i] is the i-th one's own.
	shift  [maxTemplateFields + 1]uint16
	length [maxTemplateFields]uint16
}

// measure walks the record at the start of b and returns its size; not ok: it
// runs over the end of b.
func (p *plan) measure(b []byte, w *walk) (size int, ok bool) {
	off, fixed := 0, 0
	for i, gap := range p.gaps {
		off += int(gap)
		fixed += int(gap)
		if off >= len(b) {
			return 0, false
		}
		n := int(b[off])
		off++
		if n == 255 { // RFC 7011 §7
			if off+2 > len(b) {
				return 0, false
			}
			n = int(binary.BigEndian.Uint16(b[off:]))
			off += 2
		}
		off += n
		if off > len(b) {
			return 0, false
		}
		w.shift[i+1] = uint16(off - fixed)
		w.length[i] = uint16(n)
	}
	off += int(p.tail)
	return off, off <= len(b)
}

// read fills f with the values of one record; rec has lead bytes before it. w
// is of this record where the template has variable-length fields.
func (p *plan) read(rec []byte, w *walk, f *fields) {
	*f = fields{}
	for i := range p.ops {
		o := &p.ops[i]
		at, n := lead+int(o.off)+int(w.shift[o.after]), int(o.width)
		if n == variableLength {
			n = int(w.length[o.after])
			at = lead + int(o.off) + int(w.shift[o.after+1]) - n
		}
		b := rec[at : at+n]
		switch o.kind {
		case opIANA:
			f.set(o.id, b)
		case opReverse:
			f.setReverse(o.id, b)
		case opScope9:
			f.setScope9(o.id, b)
		}
	}
}

// setScope9 takes a scope field of NetFlow v9, whose types are not information
// elements (RFC 3954 §6.1): 1 system, 2 interface, 3 line card, 4 cache, 5
// template.
func (f *fields) setScope9(typ uint16, b []byte) {
	switch typ {
	case 2:
		f.u32(fInIf, &f.inIf, b)
	case 5:
		f.u64(fTemplateRef, &f.templateRef, b)
	}
}
