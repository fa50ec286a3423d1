package decode

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

// feedAt decodes payloads that came at one time and returns their records.
func feedAt(d *Decoder, at int64, payloads ...[]byte) []flow.Record {
	var out []flow.Record
	for _, p := range payloads {
		d.Decode(Datagram{Exporter: testExporter, Received: at, Payload: p, Kind: KindSFlow}, func(rs []flow.Record) { out = append(out, rs...) })
	}
	return out
}

func exporterStats(t *testing.T, d *Decoder) ExporterStats {
	t.Helper()
	e, ok := d.Stats().Exporters[testExporter.Addr()]
	if !ok {
		t.Fatal("the exporter is not known")
	}
	return e
}

// TestSFlowAllocations: nothing is allocated per sample, whatever is in it.
func TestSFlowAllocations(t *testing.T) {
	parsed := wire{}.u32(3, 32).u32(44, 6).ip("192.0.2.1", "198.51.100.1").u32(40000, 22, 2, 0)
	expanded := wire{}.u32(1, 0, 3, 1000, 5000, 0, 0, 1, 0, 2, 1).raw(rawRecord(1, benchIPv6))
	msg := sflowMsg(1, flowSampleRaw(1000, 1, benchTCP), flowSampleRaw(1000, 1, benchVXLAN), flowSampleOf(1000, parsed),
		wire{}.u32(3, uint32(len(expanded))).raw(expanded), wire{}.u32(2, 12, 1, 3, 0), wire{}.u32(5, 32, 1, 0, 3, 0, 1, 2, 3, 0), wire{}.u32(4413<<12|1, 4, 0))
	d := New(Config{Inner: true}, Deps{})
	records := 0
	emit := func(rs []flow.Record) { records += len(rs) }
	dg := Datagram{Exporter: testExporter, Received: testNow, Payload: msg, Kind: KindSFlow}
	if n := testing.AllocsPerRun(1000, func() { d.Decode(dg, emit) }); n != 0 {
		t.Errorf("%g allocations for a datagram", n)
	}
	if records != 1001*4 {
		t.Errorf("%d records", records)
	}
}

// TestSFlowInner: what the configuration switches, and what it leaves.
func TestSFlowInner(t *testing.T) {
	in := ip4(innerSrc, innerDst, 6, synTo(443))
	header := frame(0x8100, wire{}.u16(7, 0x0800).raw(ip4(outerSrc, outerDst, 17, vxlan(8, frame(0x0800, in)))))
	late := slices.Clone(header) // segmented late: the inner length is 0
	late[len(late)-len(in)+2], late[len(late)-len(in)+3] = 0, 0
	common := func(src, dst string, sport, dport uint16, proto uint8, n uint64) flow.Record {
		return flow.Record{
			Exporter: ad("192.0.2.9"), Protocol: flow.SFlow5, Domain: 7, Received: testNow, Start: testNow, End: testNow,
			Src: ad(src), Dst: ad(dst), SrcPort: sport, DstPort: dport, IPProto: proto, TTL: 61, Packets: 1, Bytes: n, IPLen: uint16(n),
			SamplingRate: 1000, SamplingSource: flow.SamplingRecord, InIf: 1, OutIf: 2, SrcMAC: [6]byte{2, 0, 0, 0, 0, 2}, VLAN: 7,
			Has: flow.HasInIf | flow.HasOutIf | flow.HasSrcMAC | flow.HasVLAN | flow.HasIPProto | flow.HasTTL | flow.HasIPLen | flow.HasPorts,
		}
	}
	inner := with(common(innerSrc, innerDst, 40000, 443, 6, 40), func(r *flow.Record) { r.TCPFlags = flow.SYN; r.Has |= flow.HasTCPFlags })
	for _, c := range []struct {
		name   string
		inner  bool
		header []byte
		want   flow.Record
	}{
		{"outer", false, header, common(outerSrc, outerDst, 50000, 4789, 17, uint64(20+8+8+14+40))},
		{"inner", true, header, inner},
		// The frame's length in flowSampleRaw is the header's and 4 of FCS, which
		// are stripped.
		{"inner, its length not known", true, late, with(inner, func(r *flow.Record) { r.IPLen, r.Has = 0, r.Has&^flow.HasIPLen })},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := feed(New(Config{Inner: c.inner}, Deps{}), sflowMsg(1, flowSampleRaw(1000, headerEthernet, c.header)))
			if diff := cmp.Diff([]flow.Record{c.want}, got, cmpAddr); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestSFlowRecords: which of several flow records counts, in any order.
func TestSFlowRecords(t *testing.T) {
	raw := rawRecord(headerIPv4, plain4)
	parsed := wire{}.u32(3, 32).u32(1000, 17).ip("203.0.113.1", "203.0.113.2").u32(1, 2, 0, 0)
	router := wire{}.u32(1002, 16, 1).ip("192.0.2.254").u32(24, 24)
	vlan7 := wire{}.u32(1001, 16, 7, 0, 8, 0)
	vendor := wire{}.u32(4413<<12|5, 4, 9)
	mac6 := wire{}.u32(2, 20).u32(64).u8(2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1).u32(0x0800)
	arp := rawRecord(headerEthernet, frame(0x0806, make([]byte, 46)))
	fddi := wire{}.u32(1, 20, 4, 100, 0, 4, 0)
	for _, c := range []struct {
		name    string
		records [][]byte
		src     string
		vlan    uint16
		mac     byte
		bad     uint64
	}{
		{name: "header before what the agent parsed", records: [][]byte{raw, parsed}, src: outerSrc},
		{name: "header behind it", records: [][]byte{parsed, raw}, src: outerSrc},
		{name: "a header without IP does not hide it", records: [][]byte{arp, parsed}, src: "203.0.113.1", mac: 2},
		{name: "nor does one of another kind", records: [][]byte{fddi, parsed}, src: "203.0.113.1"},
		{name: "switch, router and vendors' records around it", records: [][]byte{router, vlan7, vendor, raw}, src: outerSrc, vlan: 7},
		{name: "a MAC of six bytes", records: [][]byte{mac6, raw}, src: outerSrc, mac: 2},
		{name: "a tag in the header before the switch's VLAN", records: [][]byte{vlan7, rawRecord(headerEthernet, frame(0x8100, wire{}.u16(9, 0x0800).raw(plain4)))}, src: outerSrc, vlan: 9, mac: 2},
		{name: "cut records", records: [][]byte{wire{}.u32(1, 8, 11, 60), wire{}.u32(3, 28).raw(make([]byte, 28)), wire{}.u32(4, 52).raw(make([]byte, 52)),
			wire{}.u32(2, 16).raw(make([]byte, 16)), wire{}.u32(1001, 12, 7, 0, 8), raw}, src: outerSrc, bad: 5},
		{name: "a header longer than its record is read as far as it goes", records: [][]byte{wire{}.u32(1, 16+40, 11, 64, 0, 1000).raw(plain4)}, src: outerSrc, bad: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := New(Config{}, Deps{})
			got := feed(d, sflowMsg(1, flowSampleOf(100, c.records...)))
			if len(got) != 1 || got[0].Src.String() != c.src || got[0].VLAN != c.vlan || got[0].SrcMAC[5] != c.mac {
				t.Errorf("%+v", got)
			}
			if n := d.Stats().Notes[NoteFlowRecordBad]; n != c.bad {
				t.Errorf("%d bad records, want %d", n, c.bad)
			}
		})
	}
}

// TestSFlowCut cuts a datagram at every byte: no record tells what the whole
// one does not, and nothing is lost without a count.
func TestSFlowCut(t *testing.T) {
	body := wire{}.u32(1, 0, 3, 1000, 5000, 0, 0, 1, 0, 2, 2).raw(rawRecord(1, ethTCP)).u32(1001, 16, 7, 0, 8, 0)
	whole := sflowMsg(1, flowSampleRaw(1000, 1, benchVLAN), wire{}.u32(3, uint32(len(body))).raw(body), wire{}.u32(5, 32, 1, 0, 3, 0, 1, 2, 3, 0))
	want := feed(New(Config{}, Deps{}), whole)
	if len(want) != 2 {
		t.Fatalf("%d records", len(want))
	}
	for n := range len(whole) {
		d := New(Config{}, Deps{})
		got := feed(d, slices.Clone(whole[:n:n]))
		if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			t.Fatalf("cut at %d: %+v", n, got)
		}
		checkInvariant(t, d)
		if s := d.Stats(); s.Decoded == 1 && s.SetsDropped[ReasonSampleLength] != 1 || s.Decoded == 0 && len(s.Dropped) != 1 {
			t.Fatalf("cut at %d: %+v", n, s)
		}
	}
}

// TestSFlowDiscarded: packets that the switch dropped went nowhere.
func TestSFlowDiscarded(t *testing.T) {
	body := wire{}.u32(1, 0, 3, 0, 1, 2, 256, 1).raw(rawRecord(1, ethTCP))
	d := New(Config{}, Deps{})
	got := feed(d, sflowMsg(1, wire{}.u32(5, uint32(len(body))).raw(body), flowSampleRaw(1000, 1, ethTCP), wire{}.u32(5, 8, 1, 0)))
	s := d.Stats()
	if len(got) != 1 || s.Records != 1 || s.Notes[NoteDiscardedSample] != 1 || s.SetsDropped[ReasonSampleBad] != 1 {
		t.Errorf("%d records, %+v", len(got), s)
	}
}

// agent makes datagrams of one data source of an sFlow agent that samples one
// packet in every n and says that it is one in stated.
type agent struct {
	rng                     *rand.Rand
	every                   float64
	stated                  uint32
	source, seq, pool, lost uint32
	datagrams               uint32
}

func (a *agent) next() []byte {
	a.seq++
	a.pool += uint32(a.rng.ExpFloat64()*a.every) + 1
	a.datagrams++
	body := wire{}.u32(a.seq, a.source, a.stated, a.pool, a.lost, 1, 2, 1).raw(rawRecord(headerIPv4, plain4))
	return sflowMsg(a.datagrams, wire{}.u32(1, uint32(len(body))).raw(body))
}

// TestSamplingDeviation: what an agent states is held against its own pool.
func TestSamplingDeviation(t *testing.T) {
	for _, c := range []struct {
		name   string
		every  float64
		stated uint32
		n      int
		lose   func(i int) bool
		change func(a *agent, i int)
		want   bool
		rate   [2]uint32 // bounds of what is reported
	}{
		{name: "as stated", every: 1000, stated: 1000, n: 5000},
		{name: "a little off", every: 1800, stated: 1000, n: 5000},
		{name: "thinned", every: 4000, stated: 1000, n: 5000, want: true, rate: [2]uint32{3600, 4400}},
		{name: "thicker than stated", every: 100, stated: 1000, n: 5000, want: true, rate: [2]uint32{90, 110}},
		{name: "too few samples to say", every: 4000, stated: 1000, n: deviationSamples},
		{name: "just enough", every: 4000, stated: 1000, n: deviationSamples + 1, want: true, rate: [2]uint32{3000, 5000}},
		{name: "half of the datagrams lost says nothing of the agent", every: 1000, stated: 1000, n: 5000, lose: func(i int) bool { return i%2 == 0 }},
		{name: "thinned, half of the datagrams lost", every: 4000, stated: 1000, n: 5000, lose: func(i int) bool { return i%2 == 0 }, want: true, rate: [2]uint32{3600, 4400}},
		{name: "a pool that stands still states nothing", every: 1, stated: 1000, n: 2000, change: func(a *agent, _ int) { a.pool = 77 }},
		{name: "a restart is no growth", every: 1000, stated: 1000, n: 3000, change: func(a *agent, i int) {
			if i == 1500 {
				a.pool, a.seq = 5, 0
			}
		}},
		{name: "the pool wraps", every: 900_000, stated: 900_000, n: 8000},
		{name: "mended: the latest samples count", every: 4000, stated: 1000, n: 40_000, change: func(a *agent, i int) {
			if i > 5000 {
				a.every = 1000
			}
		}},
		{name: "a new rate starts the count anew", every: 4000, stated: 1000, n: 5000, change: func(a *agent, i int) {
			if i > 4000 {
				a.stated = 4000
			}
		}},
		{name: "no rate stated", every: 4000, stated: 0, n: 3000},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := New(Config{}, Deps{})
			a := &agent{rng: rand.New(rand.NewPCG(1, 2)), every: c.every, stated: c.stated, source: 3}
			for i := range c.n {
				if c.change != nil {
					c.change(a, i)
				}
				if p := a.next(); c.lose == nil || !c.lose(i) {
					feedAt(d, testNow+int64(i)*1e7, p)
				}
			}
			e := exporterStats(t, d)
			got := e.Deviations
			if c.want != (len(got) == 1) || len(got) > 1 {
				t.Fatalf("%+v", got)
			}
			all := strings.Join(e.Health(testExporter.Addr()).Problems, "\n")
			denser := e.Health(testExporter.Addr()).Denser
			if want := c.want && c.rate[1] < c.stated; want != (denser > 1) || want && (denser < float64(c.stated)/float64(c.rate[1])/1.1 || denser > float64(c.stated)/float64(c.rate[0])*1.1) {
				t.Errorf("denser by %g", denser)
			}
			if !c.want {
				if strings.Contains(all, "sFlow source") {
					t.Error(all)
				}
				return
			}
			if r := got[0].Rate(); r < c.rate[0] || r > c.rate[1] || got[0].Stated != c.stated || got[0].Source != 3 || got[0].Domain != 7 {
				t.Errorf("%+v, 1:%d", got[0], r)
			}
			if !strings.Contains(all, "ifIndex 3, sub-agent 7 states 1:1000 but took") {
				t.Error(all)
			}
			if old := e.LastSeen + int64(deviationAge) + 1; len(d.exporters.m[testExporter.Addr()].val.domains.m[domainKey{id: 7, agent: ad("192.0.2.1")}].val.sources.deviations(7, old)) != 0 {
				t.Error("a source that fell silent is spoken of")
			}
		})
	}
}

// TestSamplesDropped: what an agent says that it left out.
func TestSamplesDropped(t *testing.T) {
	d := New(Config{}, Deps{})
	a := &agent{rng: rand.New(rand.NewPCG(1, 2)), every: 1000, stated: 1000, source: 3, lost: 5_000_000}
	for i := range 10 {
		if i >= 8 {
			a.lost += 20
		}
		feedAt(d, testNow, a.next())
	}
	line := func() bool {
		return slices.ContainsFunc(exporterStats(t, d).Health(testExporter.Addr()).Problems, func(s string) bool {
			return strings.HasPrefix(s, "its sFlow agent left out 40 samples")
		})
	}
	if n := exporterStats(t, d).SamplesDropped; n != 40 || !line() {
		t.Errorf("%d dropped, line: %v; what was before the first sample is not ours", n, line())
	}
	a.lost = 3 // restarted
	feedAt(d, testNow+int64(dropsShown)-1, a.next())
	if n := exporterStats(t, d).SamplesDropped; n != 40 || !line() {
		t.Errorf("after a restart: %d dropped, line: %v", n, line())
	}
	feedAt(d, testNow+int64(dropsShown), a.next())
	if line() {
		t.Error("the line stays though nothing was dropped any more")
	}
}

// TestSourcesBounded: as many data sources as a hostile agent likes.
func TestSourcesBounded(t *testing.T) {
	d := New(Config{}, Deps{})
	var seq uint32
	for source := range uint32(3 * maxSources) {
		for range 2 { // both of one source find the same place
			seq++
			body := wire{}.u32(seq, source*7919, 1000, seq*1000, 0, 1, 2, 0)
			feedAt(d, testNow, sflowMsg(seq, wire{}.u32(1, uint32(len(body))).raw(body)))
		}
	}
	e := d.exporters.m[testExporter.Addr()].val
	dom := e.domains.m[domainKey{id: 7, agent: ad("192.0.2.1")}].val
	if dom.sources.used != maxSources || len(dom.sources.table) != 2*maxSources || e.cost != dom.cost() || d.cost != e.cost {
		t.Errorf("%d sources in %d places, cost %d of the domain, %d of the exporter, %d of all", dom.sources.used, len(dom.sources.table), dom.cost(), e.cost, d.cost)
	}
	for i := range dom.sources.table {
		if s := &dom.sources.table[i]; s.last != 0 && s.samples != 1 {
			t.Fatalf("source %d has %d samples", s.id, s.samples)
		}
	}
	// Many domains too: what they cost beside their tables is bounded by their
	// number.
	for sub := range uint32(maxDomains) {
		for source := range uint32(maxSources) {
			body := wire{}.u32(1, source, 1000, 1000, 0, 1, 2, 0)
			feedAt(d, testNow, wire{}.u32(5, 1).ip("192.0.2.1").u32(1000+sub, source, 1000, 1).u32(1, uint32(len(body))).raw(body))
		}
	}
	if most := maxExporterState + maxDomains*domainCost; e.cost > most {
		t.Errorf("an exporter costs %d, allowed are %d", e.cost, most)
	}
}

// TestSFlowSequence: sub-agents are told apart, loss is counted in datagrams.
func TestSFlowSequence(t *testing.T) {
	d := New(Config{}, Deps{})
	msg := func(sub, seq uint32) []byte {
		return wire{}.u32(5, 1).ip("192.0.2.1").u32(sub, seq, uint32(time.Hour/1e6), 0)
	}
	feedAt(d, testNow, msg(1, 10), msg(2, 500), msg(1, 11), msg(2, 501), msg(1, 14), msg(2, 502))
	if e := exporterStats(t, d); e.Lost != 2 {
		t.Errorf("lost %d, want 2", e.Lost)
	}
}
