package decode_test

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"

	"github.com/flowcordon/flowcordon/collector/decode"
)

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
