package store

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

// extremes has every field of every kind at its limits.
func extremes() *flow.Batch {
	v6 := netip.MustParseAddr("2001:db8::ffff:1")
	v4 := netip.MustParseAddr("198.18.0.1")
	max := ^uint64(0)
	k := flow.Key{Start: -1, Tenant: v6, Rate: ^uint32(0)}
	c := flow.Counts{OutRecords: max, InRecords: 1, OutPackets: 127, InPackets: 128, OutBytes: 1 << 63, InBytes: 0}
	cl := flow.Classes{SYNOut: 1, EstOut: 2, SYNACKOut: 3, RSTOut: 4, SYNIn: 5, EstIn: 6, SYNACKIn: 7, RSTIn: 8, RawSYN: 9, NoFlags: max}
	return &flow.Batch{
		Hosts: []flow.HostWindow{{}, {Key: k, Counts: c, Classes: cl, UDPOutPackets: max, ICMPOutPackets: 1, ICMPErrOut: 2, BogonOut: 3, SpoofOut: 4}},
		Services: []flow.ServiceWindow{
			{Key: k, IPProto: 255, Role: flow.RoleServer, SvcPort: 65535, Counts: c, Classes: cl, Attempts: max, Remotes: []uint64{0, 1, max}},
			{Key: flow.Key{Tenant: v4}},
		},
		Pairs: []flow.PairWindow{
			{Key: k, Remote: v4, IPProto: 6, Counts: c, Classes: cl, SYNPackets: max, EstOutPackets: 1, RSTInPackets: 2, Ports: []uint16{0, 65535}},
			{Ports: []uint16{80}},
		},
		Flows: []flow.FlowRow{{}, {
			Time: 1 << 62, Start: -5, End: 7, Exporter: v4, Tenant: v6, Host: v6, Remote: v4, HostPort: 65535, RemotePort: 1, SvcPort: 2,
			Dir: flow.In, IPProto: 58, Role: flow.RoleClient, Class: flow.ClassNoFlags, TCPFlags: 255, ICMPType: 254, ICMPCode: 253,
			Packets: max, Bytes: max, IPLen: 65535, TTL: 255, Rate: ^uint32(0), InIf: ^uint32(0), OutIf: 1,
			SrcMAC: [6]byte{0xff, 1, 2, 3, 4, 0xfe}, VLAN: 4095, Bogon: true, Spoofed: true,
		}},
	}
}

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestCodecRoundTrip(t *testing.T) {
	want := extremes()
	buf := appendFrame(nil, want)
	buf = appendFrame(buf, &flow.Batch{})
	buf = appendFrame(buf, want)
	var got flow.Batch
	if err := decodeFrames(buf, &got); err != nil {
		t.Fatal(err)
	}
	twice := flow.Batch{
		Hosts: append(want.Hosts, want.Hosts...), Services: append(want.Services, want.Services...),
		Pairs: append(want.Pairs, want.Pairs...), Flows: append(want.Flows, want.Flows...),
	}
	if d := cmp.Diff(twice, got, sameAddr); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestCodecDamage(t *testing.T) {
	buf := appendFrame(nil, extremes())
	for n := range buf { // cut anywhere
		var b flow.Batch
		if err := decodeFrames(buf[:n], &b); n > 0 && !errors.Is(err, errTorn) {
			t.Fatalf("cut to %d of %d bytes: got %v, want %v", n, len(buf), err, errTorn)
		}
	}
	for i := range buf { // one bit anywhere
		c := append([]byte(nil), buf...)
		c[i] ^= 0x10
		var b flow.Batch
		if err := decodeFrames(c, &b); !errors.Is(err, errCorrupt) && !errors.Is(err, errTorn) {
			t.Fatalf("byte %d changed: got %v, want an error", i, err)
		}
	}
}

// frame wraps a payload that the encoder would not make, with a good checksum.
func frame(p []byte) []byte {
	b := []byte(frameMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(p, crcTable))
	return append(b, p...)
}

func TestCodecCountsAreChecked(t *testing.T) {
	for name, p := range map[string][]byte{
		"rows without end":  binary.AppendUvarint([]byte{hostTable.id}, 1<<40),
		"rows, no columns":  {serviceTable.id, 100},
		"unknown table":     {99, 1, 2, 3},
		"number too long":   {hostTable.id, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"nothing after id":  {flowTable.id},
		"address of length": append([]byte{hostTable.id, 1, 0, 0, 0, 0, 0, 0, 0, 0, 7}, make([]byte, 64)...),
	} {
		t.Run(name, func(t *testing.T) {
			var b flow.Batch
			if err := decodeFrames(frame(p), &b); !errors.Is(err, errCorrupt) {
				t.Errorf("got %v, want %v", err, errCorrupt)
			}
		})
	}
}

// FuzzDecode: no input panics or makes the decoder allocate out of proportion.
func FuzzDecode(f *testing.F) {
	f.Add(appendFrame(nil, extremes())[frameHeader:])
	f.Add(appendFrame(nil, &flow.Batch{Pairs: extremes().Pairs})[frameHeader:])
	f.Add([]byte{flowTable.id, 3})
	f.Fuzz(func(t *testing.T, p []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var b flow.Batch
		err := decodeFrames(frame(p), &b)
		runtime.ReadMemStats(&after)
		// The largest row is 256 bytes in memory and takes a byte a column.
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<16+uint64(len(p))*64 {
			t.Errorf("%d bytes made the decoder allocate %d", len(p), grown)
		}
		if err != nil {
			return
		}
		var again flow.Batch
		if err := decodeFrames(appendFrame(nil, &b), &again); err != nil {
			t.Errorf("what was decoded does not encode: %v", err)
		}
	})
}
