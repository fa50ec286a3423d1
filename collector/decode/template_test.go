package decode

import (
	"bytes"
	"strings"
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

// TestRatesKeptApart: a rate that was looked up for one record holds for those
// alike only: of the same sampler, interface, template and domain, and until
// the exporter states another.
func TestRatesKeptApart(t *testing.T) {
	tpl := func(id uint16) wire { return set(2, wire{}.u16(id, 3).u16(4, 1, 10, 4, 48, 1)) }
	rates := func(key uint16, pairs ...uint32) wire { return set(key+1000, wire{}.u32(pairs...)) }
	options := func(key uint16) wire { return set(3, wire{}.u16(key+1000, 2, 1).u16(key, 4, 34, 4)) }
	data := func(id uint16, inIf uint32, sampler uint8) wire { return set(id, wire{}.u8(6).u32(inIf).u8(sampler)) }
	d := New(Config{}, Deps{})
	steps := []struct {
		domain uint32
		sets   []wire
		want   []uint32
	}{
		{1, []wire{tpl(256), tpl(257), options(48), options(10), options(145)}, nil},
		{1, []wire{rates(48, 1, 100, 2, 200), rates(10, 7, 700), rates(145, 257, 2570)}, nil},
		{1, []wire{data(256, 1, 1), data(256, 1, 2), data(256, 1, 1)}, []uint32{100, 200, 100}},
		{1, []wire{data(256, 1, 3), data(256, 7, 3), data(257, 1, 3), data(257, 7, 3), data(256, 1, 3)}, []uint32{0, 700, 2570, 700, 0}},
		{1, []wire{rates(48, 1, 101), data(256, 1, 1), data(256, 1, 2)}, []uint32{101, 200}},
		{2, []wire{tpl(256), data(256, 1, 1), data(256, 7, 3)}, []uint32{0, 0}},
		{0, []wire{options(48), rates(48, 1, 1000)}, nil},
		{2, []wire{data(256, 1, 1), data(256, 1, 2)}, []uint32{1000, 0}},
		{1, []wire{data(256, 1, 1), data(256, 9, 2)}, []uint32{101, 200}},
	}
	for i, s := range steps {
		var body wire
		for _, x := range s.sets {
			body = body.raw(x)
		}
		var got []uint32
		for _, r := range feed(d, ipfixMsg(uint32(i), s.domain, body)) {
			got = append(got, r.SamplingRate)
		}
		if diff := cmp.Diff(s.want, got); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
	if n := d.Stats().Notes[NoteSamplingChanged]; n != 1 {
		t.Errorf("%d rates changed", n)
	}
}

// TestStaleRates: a rate that the exporter states no longer is used, and named.
func TestStaleRates(t *testing.T) {
	d := New(Config{}, Deps{})
	options := wire{}.raw(set(3, wire{}.u16(257, 2, 1).u16(149, 4, 34, 4)), set(257, wire{}.u32(1, 512)))
	at := func(now int64, p []byte) {
		d.Decode(Datagram{Exporter: testExporter, Received: now, Payload: p}, func([]flow.Record) {})
	}
	stale := func() []StaleRate { return d.Stats().Exporters[testExporter.Addr()].StaleRates }
	at(testNow, ipfixMsg(0, 1, options, set(2, wire{}.u16(256, 1).u16(4, 1)), set(256, wire{}.u8(6))))
	at(testNow+int64(rateStale)-1, ipfixMsg(1, 1, set(256, wire{}.u8(6))))
	if got := stale(); got != nil {
		t.Errorf("just before: %+v", got)
	}
	at(testNow+int64(rateStale), ipfixMsg(2, 1, set(256, wire{}.u8(6))))
	want := []StaleRate{{Domain: 1, Rate: 512, LastSeen: testNow}}
	if diff := cmp.Diff(want, stale()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	h := d.Stats().Exporters[testExporter.Addr()].Health(testExporter.Addr())
	if len(h.Problems) != 1 || !strings.Contains(h.Problems[0], "1:512 no longer") {
		t.Errorf("%q", h.Problems)
	}
	var state bytes.Buffer
	if err := d.SaveState(&state); err != nil {
		t.Fatal(err)
	}
	d = New(Config{}, Deps{})
	if err := d.LoadState(&state); err != nil {
		t.Fatal(err)
	}
	at(testNow+int64(rateStale), ipfixMsg(3, 1, set(256, wire{}.u8(6))))
	if diff := cmp.Diff(want, stale()); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	at(testNow+int64(rateStale), ipfixMsg(4, 1, options))
	if got := stale(); got != nil {
		t.Errorf("stated again: %+v", got)
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
