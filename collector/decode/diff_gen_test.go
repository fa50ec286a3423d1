package decode_test

import (
	"math"
	"slices"
)

// Times of the generated exporters: receipt, export and uptime.
const (
	genNow    = int64(1_800_000_000_000_000_000)
	genUptime = 100_000_000 // ms
)

// genElement is an element that a template may have.
type genElement struct {
	pen   uint32
	id    uint16
	width int // the natural one
}

// genKnown are the elements whose meaning the records take part of.
var genKnown = func() []genElement {
	widths := map[int][]uint16{
		1:  {4, 5, 6, 52, 53, 60, 61, 136, 176, 177, 178, 179, 192, 233, 48},
		2:  {7, 11, 32, 139, 180, 181, 182, 183, 190, 88, 58, 227, 228, 243, 312},
		4:  {8, 12, 10, 14, 225, 226, 234, 252, 253, 21, 22, 150, 151, 158, 159, 161, 162, 322, 34, 50, 304, 305, 306, 309, 310, 311, 145},
		6:  {56, 80, 81},
		8:  {1, 2, 85, 86, 23, 24, 231, 232, 298, 299, 152, 153, 154, 155, 156, 157, 160, 323, 324, 325, 302, 148, 224},
		16: {27, 28, 281, 282},
		0:  {313, 315, 104},
	}
	var out []genElement
	for w, ids := range widths {
		for _, id := range ids {
			out = append(out, genElement{0, id, w})
		}
	}
	for _, id := range []uint16{1, 2, 85, 86} {
		out = append(out, genElement{refReversePEN, id, 8})
	}
	out = append(out, genElement{refReversePEN, 6, 1})
	slices.SortFunc(out, func(a, b genElement) int { return int(a.pen) - int(b.pen) + int(a.id) - int(b.id) })
	return out
}()

// genCommon makes records that look like a router's.
var genCommon = [][]uint16{
	{8, 12, 7, 11, 4, 6, 2, 1, 22, 21, 10, 14},
	{27, 28, 7, 11, 4, 6, 2, 1, 152, 153, 10, 14, 58},
	{8, 12, 27, 28, 60, 7, 11, 4, 32, 139, 2, 1, 86, 85, 154, 155},
	{8, 12, 4, 2, 1, 23, 24, 48, 192, 88},
	{315, 312, 10, 14, 305, 306},
	{225, 226, 227, 228, 4, 2, 1, 22, 21},
	{8, 12, 7, 11, 4, 86, 85, 152, 153, 10, 136},
}

// genTotals are templates of flows with running totals, forth and back.
var genTotals = []genElement{
	{0, 8, 4}, {0, 12, 4}, {0, 4, 1}, {0, 85, 8}, {0, 86, 4}, {0, 152, 8}, {0, 153, 8}, {0, 136, 1}, {0, 10, 4},
	{refReversePEN, 86, 4}, {refReversePEN, 85, 8},
}

type genField struct {
	genElement
	length int // in the template; 0xffff: variable
}

type genTemplate struct {
	id      int
	scopes  int
	fields  []genField
	options bool
}

// generator makes the datagrams of one case.
type generator struct {
	*dice
	version int
	defs    map[[2]int]*genTemplate // by domain and id
	seq     int
	few     bool // different values, in this set
}

// plain is a template as routers have them: common elements and some more, of
// widths that suit, between them fields that nobody knows.
func (g *generator) plain() []genField {
	var out []genField
	ids := slices.Clone(genCommon[g.n(len(genCommon))])
	for range g.n(5) {
		ids = append(ids, pick[uint16](g.dice, 52, 53, 56, 58, 81, 88, 136, 139, 150, 151, 152, 153, 154, 155, 156, 157, 158, 159, 160, 176, 177,
			190, 192, 225, 226, 23, 24, 243, 252, 253, 298, 231, 302, 32, 34, 48, 5, 60, 61, 85, 86))
	}
	for _, id := range ids {
		i := slices.IndexFunc(genKnown, func(e genElement) bool { return e.pen == 0 && e.id == id })
		f := genField{genKnown[i], genKnown[i].width}
		switch {
		case f.width == 0:
			f.length = 64
		case f.width > 1 && f.width <= 8 && g.one(6):
			f.length = 1 + g.n(f.width)
		}
		out = append(out, f)
		if g.one(8) {
			u := genField{genElement{0, uint16(330 + g.n(9)), 1 + g.n(20)}, 0}
			if u.length = u.width; g.version == 10 && g.one(2) {
				u.length = 0xffff
			}
			out = append(out, u)
		}
	}
	for i := range out[:g.n(len(out))] {
		j := i + g.n(len(out)-i)
		out[i], out[j] = out[j], out[i]
	}
	return out
}

func (g *generator) fields(n int) []genField {
	if g.one(2) {
		return g.plain()
	}
	var out []genField
	if g.one(12) { // few values, so that flows meet again
		for _, e := range genTotals[:7+g.n(5)] {
			out = append(out, g.field(e))
		}
		return out
	}
	if g.one(3) {
		for _, id := range genCommon[g.n(len(genCommon))] {
			i := slices.IndexFunc(genKnown, func(e genElement) bool { return e.pen == 0 && e.id == id })
			out = append(out, g.field(genKnown[i]))
		}
	}
	for range n {
		switch g.n(10) {
		case 0: // unknown, of IANA or of somebody
			e := genElement{0, uint16(g.n(500)), 1 + g.n(8)}
			if g.version == 10 && g.one(2) {
				e.pen, e.id = pick[uint32](g.dice, 0, 9, 35632, 29305, 4294967295), uint16(g.n(32768))
				if e.pen == 0 {
					e.pen = math.MaxUint32
				}
			}
			out = append(out, g.field(e))
		default:
			out = append(out, g.field(genKnown[g.n(len(genKnown))]))
		}
	}
	if g.one(4) {
		for i := range out { // order is the exporter's choice
			j := i + g.n(len(out)-i)
			out[i], out[j] = out[j], out[i]
		}
	}
	return out
}

// field chooses a width: the natural one, fewer bytes, or one that makes no sense.
func (g *generator) field(e genElement) genField {
	if g.version == 9 && e.pen != 0 {
		e.pen = 0
	}
	f := genField{e, e.width}
	if e.width == 0 {
		f.length = pick(g.dice, 40, 64, 128)
		if g.version == 10 && !g.one(4) {
			f.length = 0xffff
		}
		return f
	}
	switch g.n(12) {
	case 0:
		f.length = 1 + g.n(e.width)
	case 1:
		f.length = 1 + g.n(20)
	case 2:
		f.length = pick(g.dice, 0, 1, 2, 3, 4, 8)
	case 3:
		if g.version == 10 {
			f.length = 0xffff
		}
	}
	return f
}

func (g *generator) template(id int) *genTemplate {
	t := &genTemplate{id: id, options: g.one(5)}
	if t.options {
		g.optionsTemplate(t)
	} else {
		t.fields = g.fields(g.n(25))
	}
	if len(t.fields) == 0 {
		t.fields = []genField{{genElement{0, 8, 4}, 4}}
	}
	return t
}

// optionsTemplate is one that states a sampler, or nothing we know.
func (g *generator) optionsTemplate(t *genTemplate) {
	scope := pick(g.dice, genElement{0, 1, 4}, genElement{0, 2, 4}, genElement{0, 5, 2}, genElement{0, 3, 1})
	if g.version == 10 {
		scope = pick(g.dice, genElement{0, 149, 4}, genElement{0, 10, 4}, genElement{0, 145, 2}, genElement{0, 302, 8}, genElement{0, 48, 1})
	}
	t.scopes = g.n(3)
	for range t.scopes {
		t.fields = append(t.fields, g.field(scope))
	}
	for range 1 + g.n(5) {
		id := pick[uint16](g.dice, 34, 50, 48, 302, 305, 306, 304, 309, 310, 311, 160, 10, 145, 84, 82)
		e := genElement{0, id, 4}
		if i := slices.IndexFunc(genKnown, func(k genElement) bool { return k.pen == 0 && k.id == id }); i >= 0 {
			e = genKnown[i]
		}
		t.fields = append(t.fields, g.field(e))
	}
}

func (g *generator) templateRecord(t *genTemplate) []byte {
	var spec []byte
	var scope int
	for i, f := range t.fields {
		one := cat(be16(int(f.id)), be16(f.length))
		if f.pen != 0 {
			pen := f.pen
			if pen == math.MaxUint32 {
				pen = 0
			}
			one = cat(be16(int(f.id)|0x8000), be16(f.length), be(uint64(pen), 4))
		}
		spec = cat(spec, one)
		if i < t.scopes {
			scope = len(spec)
		}
	}
	switch {
	case !t.options:
		return cat(be16(t.id), be16(len(t.fields)), spec)
	case g.version == 9:
		return cat(be16(t.id), be16(scope), be16(len(spec)-scope), spec)
	}
	return cat(be16(t.id), be16(len(t.fields)), be16(t.scopes), spec)
}

// templateSet puts templates of one kind into a set.
func (g *generator) templateSet(ts ...*genTemplate) []byte {
	id := 0
	if g.version == 10 {
		id = 2
	}
	if ts[0].options {
		id++
	}
	var body []byte
	for _, t := range ts {
		if t.options == ts[0].options {
			body = cat(body, g.templateRecord(t))
		}
	}
	if g.one(12) && len(body) > 0 { // cut or spoilt
		if g.one(2) {
			body = body[:g.n(len(body))]
		} else {
			body[g.n(len(body))] = g.byte()
		}
	}
	return g.set(id, cat(body, make([]byte, pick(g.dice, 0, 0, 2, 3, 4, 8))))
}

func (g *generator) set(id int, body []byte) []byte {
	n := len(body) + 4
	if g.one(60) {
		n = pick(g.dice, 0, 3, 4, n-1, n+1, n+4, 65535)
	}
	return cat(be16(id), be16(n), body)
}

func (g *generator) dataSet(t *genTemplate) []byte {
	var body []byte
	g.few = g.one(3)
	for range 1 + g.n(4)*g.n(4) {
		for i, f := range t.fields {
			v := g.value(f, i < t.scopes)
			if f.length == 0xffff && g.version == 10 {
				if len(v) < 255 && !g.one(4) {
					body = append(body, byte(len(v)))
				} else {
					body = cat(body, []byte{255}, be16(len(v)))
				}
			}
			body = append(body, v...)
		}
	}
	switch g.n(10) {
	case 0:
		body = cat(body, make([]byte, g.n(8)))
	case 1:
		body = cat(body, g.bytes(g.n(4)))
	case 2:
		body = body[:g.n(len(body)+1)]
	}
	return g.set(t.id, body)
}
