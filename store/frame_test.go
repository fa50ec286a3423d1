package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

// extremes has every field of every kind at its limits.
func extremes() *flow.Batch {
	v6 := netip.MustParseAddr("2001:db8::ffff:1")
	v4 := netip.MustParseAddr("198.18.0.1")
	max := ^uint64(0)
	k := flow.Key{Start: 1<<32 - 1, Tenant: v6, Rate: ^uint32(0)}
	c := flow.Counts{OutRecords: max, InRecords: 1, OutPackets: 127, InPackets: 128, OutBytes: 1 << 63, InBytes: 0}
	cl := flow.Classes{SYNOut: 1, EstOut: 2, SYNACKOut: 3, RSTOut: 4, SYNIn: 5, EstIn: 6, SYNACKIn: 7, RSTIn: 8, RawSYN: 9, NoFlags: max}
	return &flow.Batch{
		Hosts: []flow.HostWindow{{}, {Key: k, Counts: c, Classes: cl, UDPOutPackets: max, ICMPOutPackets: 1, ICMPErrOut: 2, BogonOut: 3, SpoofOut: 4}},
		Services: []flow.ServiceWindow{
			{Key: k, IPProto: 255, Role: flow.RoleServer, SvcPort: 65535, Counts: c, Classes: cl, Attempts: max, Remotes: []uint64{0, 1, max}, RemotesLevel: 63},
			{Key: flow.Key{Tenant: v4}},
		},
		Pairs: []flow.PairWindow{
			{Key: k, Remote: v4, IPProto: 6, Counts: c, Classes: cl, SYNPackets: max, EstOutPackets: 1, RSTInPackets: 2, Ports: []uint16{0, 65535}},
			{Ports: []uint16{80}},
		},
		Flows: []flow.FlowRow{{}, {
			Time: 1 << 61, Start: 5, End: 7, Exporter: v4, Tenant: v6, Host: v6, Remote: v4, HostPort: 65535, RemotePort: 1, SvcPort: 2,
			Dir: flow.In, IPProto: 58, Role: flow.RoleClient, Class: flow.ClassNoFlags, TCPFlags: 255, ICMPType: 254, ICMPCode: 253,
			Packets: max, Bytes: max, IPLen: 65535, TTL: 255, Rate: ^uint32(0), InIf: ^uint32(0), OutIf: 1,
			SrcMAC: [6]byte{0xff, 1, 2, 3, 4, 0xfe}, VLAN: 4095, Bogon: true, Spoofed: true,
		}},
	}
}

// many repeats b's rows up to n of each kind.
func many(b *flow.Batch, n int) *flow.Batch {
	return &flow.Batch{
		Hosts: slices.Repeat(b.Hosts, n/2), Services: slices.Repeat(b.Services, n/2),
		Pairs: slices.Repeat(b.Pairs, n/2), Flows: slices.Repeat(b.Flows, n/2),
	}
}

const testBatch = 0x0123456789abcdef

// encoded are b's frames as they lie in a file.
func encoded(t testing.TB, b *flow.Batch, compress bool) []byte {
	t.Helper()
	var pool buffers
	defer pool.drop()
	buf, err := new(encoder).encode(b, &pool, compress)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.put(buf)
	sealFrames(buf, testBatch)
	return slices.Clone(buf)
}

// decode reads frames and their columns, which live as long as the test.
func decode(t testing.TB, buf []byte) ([]frame, error) {
	t.Helper()
	l, _, err := decodeCounting(t, buf)
	return l, err
}

// decodeCounting says too how much memory was lent.
func decodeCounting(t testing.TB, buf []byte) (frames []frame, lent int, err error) {
	t.Helper()
	file := bytes.NewReader(buf)
	r := &batchReader{buffers: new(buffers), src: file}
	t.Cleanup(func() {
		r.close()
		r.buffers.drop()
	})
	if _, err := eachFrame(file, int64(len(buf)), testBatch, func(f *frame) error {
		r.frames = append(r.frames, *f)
		return f.verify(file)
	}); err != nil {
		return nil, 0, err
	}
	for i := range r.frames {
		if r.frames[i].shed {
			continue
		}
		if err := r.load(&r.frames[i]); err != nil {
			return nil, 0, err
		}
	}
	for _, b := range r.lent {
		lent += cap(b)
	}
	return r.frames, lent, nil
}

// fieldAt is the field that lies at an offset of a row.
func fieldAt(v reflect.Value, offset uintptr) reflect.Value {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous && offset >= f.Offset && offset < f.Offset+f.Type.Size() {
			return fieldAt(v.Field(i), offset-f.Offset)
		}
		if f.Offset == offset {
			return v.Field(i)
		}
	}
	panic("no field there")
}

// rowsFrom turns columns into rows the slow way.
func rowsFrom[T any](t *table, frames []frame) []T {
	le := binary.LittleEndian
	var all []T
	for _, f := range frames {
		if f.table != t {
			continue
		}
		l := make([]T, f.rows)
		for k, c := range t.cols {
			b := f.column(k)
			ends := func(i int) (from, to uint64) {
				if i > 0 {
					from = le.Uint64(b[8*(i-1):])
				}
				return from, le.Uint64(b[8*i:])
			}
			for i := range l {
				v := fieldAt(reflect.ValueOf(&l[i]).Elem(), c.offset)
				switch p := v.Addr().Interface().(type) {
				case *netip.Addr:
					*p = netip.AddrFrom16([16]byte(b[16*i:])).Unmap()
				case *[6]byte:
					m := binary.BigEndian.AppendUint64(nil, le.Uint64(b[8*i:]))
					copy(p[:], m[2:])
				case *bool:
					*p = b[i] == 1
				case *[]uint64:
					for from, to := ends(i); from < to; from++ {
						*p = append(*p, le.Uint64(b[8*f.rows:][8*from:]))
					}
				case *[]uint16:
					for from, to := ends(i); from < to; from++ {
						*p = append(*p, le.Uint16(b[8*f.rows:][2*from:]))
					}
				default:
					var w [8]byte
					copy(w[:], b[i*c.width:][:c.width])
					if v.CanInt() {
						v.SetInt(int64(le.Uint64(w[:])))
					} else {
						v.SetUint(le.Uint64(w[:]))
					}
				}
			}
		}
		all = append(all, l...)
	}
	return all
}

func batchFrom(frames []frame) *flow.Batch {
	return &flow.Batch{
		Hosts: rowsFrom[flow.HostWindow](&hostTable, frames), Services: rowsFrom[flow.ServiceWindow](&serviceTable, frames),
		Pairs: rowsFrom[flow.PairWindow](&pairTable, frames), Flows: rowsFrom[flow.FlowRow](&flowTable, frames),
	}
}

// sameAddr takes the invalid address for ::, which is what ClickHouse has.
var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return mapped(a).Unmap() == mapped(b).Unmap() })

func TestFramesHoldEveryField(t *testing.T) {
	for _, n := range []int{2, 62, 64, 66, 3 * blockRows} {
		for _, compress := range []bool{false, true} {
			want := many(extremes(), n)
			buf := encoded(t, want, compress)
			frames, err := decode(t, buf)
			if err != nil {
				t.Fatal(err)
			}
			got := batchFrom(frames)
			if d := cmp.Diff(want, got, sameAddr); d != "" {
				t.Errorf("%d rows, compress %v: -want +got\n%s", n, compress, d)
			}
			if compress != frames[0].lz4 && n > 2 {
				t.Errorf("%d rows: lz4 %v, want %v", n, frames[0].lz4, compress)
			}
		}
	}
}

func TestManyRowsAreSplit(t *testing.T) {
	hosts := slices.Repeat(extremes().Hosts, maxFrameRows/2+1)
	frames, err := decode(t, encoded(t, &flow.Batch{Hosts: hosts}, false))
	if err != nil {
		t.Fatal(err)
	}
	if len(frames) != 2 || frames[0].rows != maxFrameRows || frames[1].rows != 2 || !frames[0].more || frames[1].more {
		t.Fatalf("%d frames, want one of %d rows and one of 2, of one Write", len(frames), maxFrameRows)
	}
	if d := cmp.Diff(extremes().Hosts, rowsFrom[flow.HostWindow](&hostTable, frames[1:]), sameAddr); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestFrameTimes(t *testing.T) {
	const day = 86400
	b := &flow.Batch{}
	for i := range 40 { // more partitions than are looked for one by one
		for _, s := range []int64{0, day - 1} {
			b.Hosts = append(b.Hosts, flow.HostWindow{Key: flow.Key{Start: int64(i%37)*day + s}})
		}
	}
	b.Hosts = append(b.Hosts, flow.HostWindow{Key: flow.Key{Start: -5}}, flow.HostWindow{Key: flow.Key{Start: 1 << 40}})
	frames, err := decode(t, encoded(t, b, false))
	if err != nil {
		t.Fatal(err)
	}
	f := frames[0]
	if f.first != 0 || f.last != 1<<32-1 || len(f.slots) != 38 {
		t.Errorf("first %d, last %d, %d partitions; want 0, %d, 38", f.first, f.last, len(f.slots), uint32(1<<32-1))
	}
	for _, s := range f.slots {
		want := uint32(2)
		switch {
		case s.slot == 0:
			want = 5 // with the one before the epoch
		case s.slot < 3:
			want = 4
		case s.slot > 36:
			want = 1
		}
		if s.rows != want {
			t.Errorf("partition %d has %d rows, want %d", s.slot, s.rows, want)
		}
	}
	picked := f.pick(map[uint32]bool{1: true, 36: true}, func(n int) []byte { return make([]byte, n) })
	var got []int64
	for _, h := range rowsFrom[flow.HostWindow](&hostTable, []frame{picked}) {
		got = append(got, h.Start)
	}
	if d := cmp.Diff([]int64{day, 2*day - 1, 36 * day, 37*day - 1, 38 * day, 39*day - 1}[:4], []int64{got[0], got[1], got[2], got[3]}); d != "" || len(got) != 6 {
		t.Errorf("picked %v: -want +got\n%s", got, d)
	}
}

func TestPickArrays(t *testing.T) {
	b := extremes()
	b.Services = slices.Repeat(b.Services, 3)
	for i := range b.Services {
		b.Services[i].Start = int64(i) * 86400
		b.Services[i].SvcPort = uint16(i)
	}
	b.Services[3].Remotes = []uint64{7, 8}
	frames, err := decode(t, encoded(t, &flow.Batch{Services: b.Services}, false))
	if err != nil {
		t.Fatal(err)
	}
	got := rowsFrom[flow.ServiceWindow](&serviceTable, []frame{frames[0].pick(map[uint32]bool{1: true, 3: true, 4: true}, func(n int) []byte { return make([]byte, n) })})
	if d := cmp.Diff([]flow.ServiceWindow{b.Services[1], b.Services[3], b.Services[4]}, got, sameAddr); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestFrameDamage(t *testing.T) {
	for _, compress := range []bool{false, true} {
		buf := encoded(t, many(extremes(), 4), compress)
		for n := range buf { // cut anywhere
			if _, err := decode(t, buf[:n]); n > 0 && !errors.Is(err, errTorn) {
				t.Fatalf("cut to %d of %d bytes: got %v, want %v", n, len(buf), err, errTorn)
			}
		}
		for i := range buf { // one bit anywhere
			c := slices.Clone(buf)
			c[i] ^= 0x10
			if _, err := decode(t, c); !errors.Is(err, errCorrupt) && !errors.Is(err, errTorn) {
				t.Fatalf("byte %d changed: got %v, want an error", i, err)
			}
		}
	}
}

// resealed writes the checksums anew over a frame that encode would not make.
func resealed(buf []byte) []byte {
	le := binary.LittleEndian
	if len(buf) < frameFixed {
		return buf
	}
	size, stored := int(le.Uint32(buf[offHeader:])), int(le.Uint32(buf[offStored:]))
	if size < frameFixed+4 || size+stored > len(buf) {
		return buf
	}
	le.PutUint32(buf[offChecksum:], crc32.Checksum(buf[size:size+stored], crcTable))
	le.PutUint64(buf[offBatch:], testBatch)
	state := buf[offState]
	buf[offState] = 0
	le.PutUint32(buf[size-4:], crc32.Checksum(buf[:size-4], crcTable))
	buf[offState] = state
	return buf
}

func TestFrameIsChecked(t *testing.T) {
	le := binary.LittleEndian
	for name, change := range map[string]func([]byte){
		"unknown table":            func(b []byte) { b[4] = 99 },
		"table of other columns":   func(b []byte) { b[4] = hostTable.id },
		"state of neither kind":    func(b []byte) { b[offState] = 1 },
		"no rows":                  func(b []byte) { le.PutUint32(b[offRows:], 0) },
		"rows without end":         func(b []byte) { le.PutUint32(b[offRows:], 1<<31) },
		"a row more":               func(b []byte) { le.PutUint32(b[offRows:], 3) },
		"raw length without end":   func(b []byte) { le.PutUint32(b[offRaw:], 1<<31) },
		"LZ4 that is none":         func(b []byte) { le.PutUint16(b[offFlags:], flagLZ4) },
		"partition of a row more":  func(b []byte) { le.PutUint32(b[frameFixed+4*len(serviceTable.cols)+4:], 2) },
		"array that ends too late": func(b []byte) { le.PutUint64(b[len(b)-40:], 1000) },
		"array that ends early":    func(b []byte) { le.PutUint64(b[len(b)-32:], 2) },
	} {
		t.Run(name, func(t *testing.T) {
			buf := encoded(t, &flow.Batch{Services: extremes().Services}, false)
			change(buf)
			if _, err := decode(t, resealed(buf)); !errors.Is(err, errCorrupt) {
				t.Errorf("got %v, want %v", err, errCorrupt)
			}
		})
	}
}

// FuzzFrames: no file panics or makes the reader allocate out of proportion.
func FuzzFrames(f *testing.F) {
	f.Add(encoded(f, extremes(), false))
	f.Add(encoded(f, many(extremes(), 40), true))
	f.Add(encoded(f, &flow.Batch{Pairs: extremes().Pairs}, false))
	f.Fuzz(func(t *testing.T, p []byte) {
		p = resealed(slices.Clone(p))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		frames, lent, err := decodeCounting(t, p)
		runtime.ReadMemStats(&after)
		// LZ4 can stand for 255 times as much; capacities are powers of two
		// from 4 KB on, and a frame takes 200 bytes at least.
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<17+uint64(len(p))*2*256 || lent > 1<<16+len(p)*2*256 {
			t.Errorf("%d bytes made the reader allocate %d and lend %d", len(p), grown, lent)
		}
		if err != nil {
			return
		}
		for i := range frames {
			if !frames[i].shed {
				newBlock(frames[i].table, frames[i:i+1], 1, func(n int) []byte { return make([]byte, n) })
			}
		}
		if len(p) > 0 {
			encoded(t, batchFrom(slices.DeleteFunc(frames, func(f frame) bool { return f.shed })), false)
		}
	})
}
