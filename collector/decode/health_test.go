package decode

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// TestRateChange: what is a change of a sampling rate, and what is not.
func TestRateChange(t *testing.T) {
	const minute = int64(time.Minute)
	type use struct {
		minute int64
		rate   uint32
		source flow.SamplingSource
	}
	every := func(from, to int64, rate uint32) (out []use) {
		for m := from; m < to; m++ {
			out = append(out, use{m, rate, flow.SamplingOptions})
		}
		return out
	}
	for _, c := range []struct {
		name string
		uses []use
		want string // from, to, minute
	}{
		{name: "one rate", uses: every(0, 60, 1000)},
		{name: "changed", uses: slices.Concat(every(0, 10, 1000), every(10, 13, 2000)), want: "1000 2000 10"},
		{name: "changed, but the old one may come again yet", uses: slices.Concat(every(0, 10, 1000), every(10, 11, 2000))},
		{name: "two samplers side by side", uses: slices.Concat(every(0, 30, 1000), every(0, 30, 2000), every(0, 30, 1000))},
		{name: "a second sampler that begins later", uses: slices.Concat(every(0, 10, 1000), every(5, 40, 2000), every(10, 40, 1000))},
		{name: "one that ended long before another began", uses: slices.Concat(every(0, 10, 1000), every(20, 40, 2000))},
		{name: "twice: the latest", uses: slices.Concat(every(0, 10, 1000), every(10, 20, 2000), every(20, 30, 500)), want: "2000 500 20"},
		{name: "first known", uses: slices.Concat([]use{{0, 0, flow.SamplingUnknown}}, every(1, 30, 1000))},
		{name: "by configuration", uses: slices.Concat(every(0, 10, 1000), []use{{10, 50, flow.SamplingOverride}, {15, 50, flow.SamplingOverride}})},
		{name: "the same rate from another place", uses: slices.Concat(every(0, 10, 1000), []use{{10, 1000, flow.SamplingRecord}, {15, 1000, flow.SamplingRecord}})},
	} {
		t.Run(c.name, func(t *testing.T) {
			var rs rates
			slices.SortStableFunc(c.uses, func(a, b use) int { return int(a.minute - b.minute) })
			for _, u := range c.uses {
				rs.note(u.rate, u.source, 3, testNow+u.minute*minute)
			}
			got := ""
			if from, to, ok := rs.change(); ok {
				got = fmt.Sprint(from.rate, to.rate, (to.first-testNow)/minute)
			}
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestRatesBounded: the rate least recently seen gives way, and counts are
// right.
func TestRatesBounded(t *testing.T) {
	var rs rates
	for i := range uint32(maxRatesInUse + 5) {
		rs.note(i+1, flow.SamplingRecord, 2, int64(i))
		rs.note(i+1, flow.SamplingRecord, 1, int64(i))
	}
	if len(rs.uses) != maxRatesInUse {
		t.Fatalf("%d rates", len(rs.uses))
	}
	for _, u := range rs.uses {
		if u.rate <= 5 || u.records != 3 {
			t.Errorf("%+v", u)
		}
	}
}

// TestHealthOfSampling goes from datagrams to lines.
func TestHealthOfSampling(t *testing.T) {
	d := New(Config{}, Deps{})
	v5at := func(min int64, seq uint32, rate uint16) {
		d.Decode(Datagram{Exporter: testExporter, Received: testNow + min*int64(time.Minute), Payload: v5msg(seq, rate, v5rec("192.0.2.1", "198.51.100.1", 1, 2, 6, 2, 1, 40))}, func([]flow.Record) {})
	}
	problems := func() string {
		return strings.Join(exporterStats(t, d).Health(testExporter.Addr()).Problems, "\n")
	}
	v5at(0, 0, 0)
	if all := problems(); !strings.Contains(all, "{exporter: 192.0.2.9, default: N} with N of the router's 1:N") || strings.Contains(all, "default: 1}") {
		t.Error(all)
	}
	v5at(1, 1, 100)
	v5at(2, 2, 200)
	v5at(5, 3, 200)
	want := fmt.Sprintf("domain 258 changed its sampling rate at %s from 1:100 to 1:200", time.Unix(0, testNow+2*int64(time.Minute)).UTC().Format("15:04 UTC"))
	if all := problems(); !strings.Contains(all, want) {
		t.Errorf("%s\nwant %s", all, want)
	}
	v5at(61, 4, 200)
	if all := problems(); !strings.Contains(all, want) {
		t.Error("the line is gone before its hour")
	}
	v5at(62, 5, 200)
	if all := problems(); strings.Contains(all, want) {
		t.Error("the line stays for ever")
	}
	h := exporterStats(t, d).Health(testExporter.Addr())
	if len(h.Samplers) != 3 || !h.Samplers[2].LastSeen.Equal(time.Unix(0, testNow+62*int64(time.Minute))) || !h.Samplers[2].FirstSeen.Equal(time.Unix(0, testNow+2*int64(time.Minute))) {
		t.Errorf("%+v", h.Samplers)
	}
}

// TestTemplates: what is listed, in order, bounded, with its age.
func TestTemplates(t *testing.T) {
	d := New(Config{}, Deps{})
	at := func(s int64, p []byte) {
		d.Decode(Datagram{Exporter: testExporter, Received: testNow + s*1e9, Payload: p}, func([]flow.Record) {})
	}
	at(0, v9(0, 2, set(0, tplBasic)))
	at(1, ipfixMsg(0, 1, set(3, wire{}.u16(258, 3, 1).u16(302, 4, 305, 4, 306, 4))))
	at(60, v9(1, 2, set(0, tplBasic)))
	got := d.Templates(testExporter.Addr())
	now := time.Unix(0, testNow).UTC()
	want := []flow.TemplateHealth{
		{Protocol: "netflow9", Domain: 2, ID: 256, Fields: 10, Learned: now, Refreshed: now.Add(time.Minute)},
		{Protocol: "ipfix", Domain: 1, ID: 258, Options: true, Fields: 3, Learned: now.Add(time.Second), Refreshed: now.Add(time.Second)},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	at(120, v9(2, 2, set(0, wire{}.u16(256, 1, 4, 1))))
	if l := d.Templates(testExporter.Addr())[0]; l.Fields != 1 || !l.Learned.Equal(now.Add(2*time.Minute)) {
		t.Errorf("a template of new contents is %+v", l)
	}
	if d.Templates(ad("203.0.113.7")) != nil {
		t.Error("templates of an exporter that is not known")
	}
	for i := range uint16(maxTemplateList + 10) {
		at(130, v9(3+uint32(i), 3, set(0, wire{}.u16(300+i, 1, 4, 1))))
	}
	if e := exporterStats(t, d); len(d.Templates(testExporter.Addr())) != maxTemplateList || e.TemplatesKnown != maxTemplateList+12 {
		t.Errorf("%d listed of %d", len(d.Templates(testExporter.Addr())), e.TemplatesKnown)
	}
	// From a state file, no age is known.
	var b strings.Builder
	if err := d.SaveState(&b); err != nil {
		t.Fatal(err)
	}
	e := New(Config{}, Deps{})
	if err := e.LoadState(strings.NewReader(b.String())); err != nil {
		t.Fatal(err)
	}
	if l := e.Templates(testExporter.Addr())[0]; l.ID != 256 || !l.Learned.IsZero() || !l.Refreshed.IsZero() {
		t.Errorf("%+v", l)
	}
}
