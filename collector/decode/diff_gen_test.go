package decode_test

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"

	"github.com/flowcordon/flowcordon/collector/decode"
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
	{0, 8, 4}, {0, 12, 4}, {0, 4, 1}, {0, 85, 8}, {0, 86, 4}, {0, 152, 8}, {0, 153, 8}, {0, 136, 1},
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

func (g *generator) fields(n int) []genField {
	var out []genField
	if g.one(12) { // few values, so that flows meet again
		for _, e := range genTotals[:7+g.n(4)] {
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

// domain is 0, or one of two.
func (g *generator) domain() int { return g.n(3) }

// datagram puts sets into a message.
func (g *generator) datagram(domain int, sets ...[]byte) []byte {
	g.seq++
	seq := g.seq
	if g.one(6) { // late, or from a long way off
		seq += pick(g.dice, -1, -2, -3, -1999, -2000, -2001, 2000, 2001, 1<<31)
	}
	body := cat(sets...)
	sec := int(genNow/1e9) + g.n(3) - 1
	if g.version == 9 {
		return cat(be16(9), be16(len(sets)), be32(genUptime+g.n(5000)), be32(sec), be32(seq), be32(domain), body)
	}
	n := 16 + len(body)
	if g.one(40) {
		n = pick(g.dice, 0, 15, n-1, n-4, n+1)
	}
	return cat(be16(10), be16(n), be32(sec), be32(seq), be32(domain), body)
}

var genExporters = []netip.AddrPort{
	netip.MustParseAddrPort("192.0.2.9:40000"),
	netip.MustParseAddrPort("[2001:db8::9]:40000"),
	netip.MustParseAddrPort("[::ffff:192.0.2.9]:999"), // the first one again
}

func genConfig(d *dice) decode.Config {
	cfg := decode.Config{TrustClock: d.one(2), Inner: d.one(2)}
	for range d.n(4) - 1 {
		cfg.Sampling = append(cfg.Sampling, decode.SamplingRule{
			Exporter: pick(d, netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.0.2.9/32"), netip.MustParsePrefix("2001:db8::/32")),
			Default:  uint32(d.n(3) * 100), Override: uint32(d.n(6) / 5 * 7),
		})
	}
	return cfg
}

// value is a field's contents: what the element may mean, or anything.
func (g *generator) value(f genField, scope bool) []byte {
	n := f.length
	if n == 0xffff {
		n = f.width
		if f.width == 0 {
			p := genPacket(g.dice, f.id != 313)
			return p
		}
		switch g.n(8) {
		case 0:
			n = g.n(10)
		case 1:
			n = g.n(300)
		}
	}
	if f.width == 0 {
		return padded(genPacket(g.dice, f.id != 313), n)
	}
	switch g.n(12) {
	case 0:
		return make([]byte, n)
	case 1:
		return slices.Repeat([]byte{0xff}, n)
	case 2:
		return be(uint64(g.n(256)), max(n, 1))[:n]
	case 3, 4:
		return g.bytes(n)
	}
	return g.sensible(f, n, scope)
}

func (g *generator) sensible(f genField, n int, scope bool) []byte {
	v := uint64(g.n(65536))
	nowSec := uint64(genNow / 1e9)
	switch f.id {
	case 85, 86:
		v = uint64(g.n(4)) << g.n(12)
	case 136, 233, 61, 5:
		v = uint64(g.n(4)) | uint64(g.n(2))<<7
	case 312:
		v = uint64(g.n(1600))
	case 4:
		v = pick[uint64](g.dice, 6, 6, 17, 17, 1, 58, 132, 47, 50)
	case 88, 32, 139:
		v = uint64(g.n(2) * g.n(65536))
	case 60:
		v = pick[uint64](g.dice, 4, 6)
	case 21, 22:
		v = genUptime - v
		if g.one(4) {
			v = pick[uint64](g.dice, 1<<32-v, genUptime+v, 0)
		}
	case 150, 151, 322:
		v = nowSec - v%1000 + pick[uint64](g.dice, 0, 0, 0, 299, 302)
	case 152, 153, 323:
		v = nowSec*1000 - v
		if g.few && f.id == 152 {
			v = nowSec*1000 - 60000*uint64(g.n(2))
		}
	case 154, 155, 156, 157, 324, 325:
		v = (nowSec+2_208_988_800-v%100)<<32 | uint64(g.n(65536))<<16
		if g.one(2) {
			v &= math.MaxUint32<<32 | 0xf0000000
		}
	case 160:
		v = nowSec*1000 - genUptime
	case 158, 159:
		v *= 1000
	case 34, 50, 305, 306, 309, 304:
		v = uint64(g.n(2) + g.n(2)*g.n(3000))
	case 310:
		v = uint64(g.n(3000))
	case 311:
		p := 1 / float64(1+g.n(2000))
		switch n {
		case 4:
			return binary.BigEndian.AppendUint32(nil, math.Float32bits(float32(p)))
		case 8:
			return binary.BigEndian.AppendUint64(nil, math.Float64bits(p))
		}
	case 48, 302, 10, 14, 252, 253:
		v = uint64(g.n(4))
	case 145:
		v = uint64(256 + g.n(4))
	case 8, 12, 27, 28, 56, 81, 225, 226, 281, 282:
		if g.few {
			return be(uint64(g.n(2)), n)
		}
		return g.bytes(n)
	}
	if scope {
		v = pick[uint64](g.dice, 1, 2, 3, 256, 257)
	}
	return be(v, max(n, 1))[:n]
}
