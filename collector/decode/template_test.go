package decode

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

// TestFormerTemplate: data that was sent before a template got new contents, and
// came after it, is read by the old ones.
func TestFormerTemplate(t *testing.T) {
	narrow := set(0, wire{}.u16(256, 2).u16(4, 1, 2, 4))
	wide := set(0, wire{}.u16(256, 3).u16(4, 1, 2, 8, 1, 8))
	old := set(256, wire{}.u8(6).u32(7).u8(17).u32(8))
	now := set(256, wire{}.u8(6).u64(9).u64(900))
	d := New(Config{}, Deps{})
	packets := func(p []byte) (out []uint64) {
		for _, r := range feed(d, p) {
			out = append(out, r.Packets)
		}
		return out
	}
	steps := []struct {
		name    string
		payload []byte
		want    []uint64
	}{
		{"as it was", v9(10, 1, narrow, old), []uint64{7, 8}},
		{"redefined after data of the old in the same datagram", v9(13, 1, old, wide, now), []uint64{7, 8, 9}},
		{"overtaken by it", v9(12, 1, old), []uint64{7, 8}},
		{"after it", v9(14, 1, now), []uint64{9}},
		{"long after it", v9(13+reorderUnits+1, 1, now), []uint64{9}},
		{"too late to be believed", v9(11, 1, now), []uint64{9}},
	}
	for _, s := range steps {
		if diff := cmp.Diff(s.want, packets(s.payload)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.name, diff)
		}
	}
	e, _ := d.exporters.get(testExporter.Addr())
	tpl, _ := e.templates.get(templateKey{9, 1, 256})
	dom, _ := e.domains.get(domainKey{version: 9, id: 1})
	if tpl.former != nil || e.cost != tpl.cost()+dom.cost() {
		t.Errorf("the old one is kept: %+v, cost %d", tpl.former, e.cost)
	}
}

// TestOptionsInTheSameDatagram: a rate holds for the data behind it, and not for
// the data before it.
func TestOptionsInTheSameDatagram(t *testing.T) {
	options := wire{}.raw(set(3, wire{}.u16(257, 2, 1).u16(149, 4, 34, 4)), set(257, wire{}.u32(1, 512)))
	data := set(256, wire{}.u8(6))
	got := feed(New(Config{}, Deps{}), ipfixMsg(0, 1, set(2, wire{}.u16(256, 1).u16(4, 1)), data, options, data))
	if len(got) != 2 || got[0].SamplingRate != 0 || got[1].SamplingRate != 512 || got[1].SamplingSource != flow.SamplingOptions {
		t.Errorf("%+v", got)
	}
}

// TestTranslated: ends behind a NAT stand in for those before it, and do not
// take their place.
func TestTranslated(t *testing.T) {
	itemplate := func(fields ...uint16) wire { return set(2, wire{}.u16(256, uint16(len(fields)/2)).u16(fields...)) }
	tests := []struct {
		name     string
		template wire
		data     wire
		src, dst string
		sp, dp   uint16
	}{
		{
			"both: the ends before translation",
			itemplate(8, 4, 225, 4, 12, 4, 226, 4, 7, 2, 227, 2, 11, 2, 228, 2, 4, 1),
			wire{}.ip("10.0.0.1", "192.0.2.1", "198.51.100.1", "198.51.100.2").u16(1, 2, 3, 4).u8(6), "10.0.0.1", "198.51.100.1", 1, 3,
		},
		{
			"the source behind only",
			itemplate(225, 4, 12, 4, 227, 2, 11, 2, 4, 1),
			wire{}.ip("192.0.2.1", "198.51.100.1").u16(2, 3).u8(6), "192.0.2.1", "198.51.100.1", 2, 3,
		},
		{
			"the destination behind only, IPv6",
			itemplate(27, 16, 282, 16, 7, 2, 228, 2, 4, 1),
			wire{}.ip("2001:db8::1", "2001:db8::2").u16(1, 4).u8(6), "2001:db8::1", "2001:db8::2", 1, 4,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := feed(New(Config{}, Deps{}), ipfixMsg(0, 1, tt.template, set(256, tt.data)))
			if len(got) != 1 || got[0].Src != ad(tt.src) || got[0].Dst != ad(tt.dst) || got[0].SrcPort != tt.sp || got[0].DstPort != tt.dp {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestInlineMonitoring: Juniper's and IOS XR's packet export: the frame's start,
// its length and where it came in.
func TestInlineMonitoring(t *testing.T) {
	tpl := set(2, wire{}.u16(256, 5).u16(10, 4, 14, 4, 61, 1, 312, 2, 315, 0xffff))
	late := append(wire{}, ethTCP...)
	copy(late[20:], []byte{0, 0}) // the IP length, as a host that segments late leaves it
	rec := func(frame wire) wire {
		return wire{}.u32(5, 6).u8(0).u16(1518).u8(uint8(len(frame))).raw(frame)
	}
	got := feed(New(Config{}, Deps{}), ipfixMsg(0, 1, tpl, set(256, wire{}.raw(rec(ethTCP), rec(late)))))
	if len(got) != 2 || got[0].Bytes != 44 || got[0].Packets != 1 || got[0].InIf != 5 || got[0].Src != ad("192.0.2.1") {
		t.Fatalf("%+v", got)
	}
	if got[1].Bytes != 1518-18 || got[1].Has&flow.HasIPLen != 0 {
		t.Errorf("without an IP length: %+v", got[1])
	}
}
