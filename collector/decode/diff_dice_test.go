package decode_test

import (
	"encoding/binary"
	"math/rand/v2"
)

// dice are the choices of a generator: a fuzzer's bytes, or as many random ones
// as it likes. When the fuzzer's bytes are used up each choice is the first.
type dice struct {
	b    []byte
	rng  *rand.Rand
	over bool
}

func newDice(seed uint64) *dice { return &dice{rng: rand.New(rand.NewPCG(seed, 7))} }

// n is one of 0 … k-1.
func (d *dice) n(k int) int {
	if d.rng != nil {
		return d.rng.IntN(k)
	}
	x := int(d.byte())
	if k > 256 {
		x = x<<8 | int(d.byte())
	}
	return x % k
}

func (d *dice) byte() byte {
	if d.rng != nil {
		return byte(d.rng.Uint32())
	}
	if len(d.b) == 0 {
		d.over = true
		return 0
	}
	x := d.b[0]
	d.b = d.b[1:]
	return x
}

// one in k times.
func (d *dice) one(k int) bool { return d.n(k) == k-1 }

func (d *dice) bytes(n int) []byte {
	out := make([]byte, n)
	if d.rng != nil && n >= 8 {
		for i := 0; i < n; i += 8 {
			var w [8]byte
			binary.LittleEndian.PutUint64(w[:], d.rng.Uint64())
			copy(out[i:], w[:])
		}
		return out
	}
	for i := range out {
		out[i] = d.byte()
	}
	return out
}

// be is v in n bytes.
func be(v uint64, n int) []byte {
	if n > 8 {
		return append(make([]byte, n-8), be(v, 8)...)
	}
	return binary.BigEndian.AppendUint64(nil, v)[8-n:]
}

func be16(v int) []byte { return be(uint64(v), 2) }
func be32(v int) []byte { return be(uint64(v), 4) }

// cat joins.
func cat(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func pick[T any](d *dice, from ...T) T { return from[d.n(len(from))] }
