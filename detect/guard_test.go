package detect

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

func TestExporterGates(t *testing.T) {
	ts := epoch.Add(time.Hour)
	at := func(min int) time.Time { return epoch.Add(time.Duration(min) * time.Minute) }
	off := func(s float64) *float64 { return &s }
	cfg := defaultGuards()
	cfg.Rates = []ExpectedRates{{Exporter: netip.MustParsePrefix("192.0.2.0/24"), Rates: []uint32{1000, 2000}}}
	for _, c := range []struct {
		name  string
		h     flow.ExporterHealth
		grown healthCounts
		want  []string
	}{
		{"well", flow.ExporterHealth{Samplers: []flow.SamplerHealth{{Rate: 1000, Records: 9, FirstSeen: at(0), LastSeen: ts}}, ClockOffsetS: off(-9.9)}, healthCounts{1000, 10000, 50, 0}, nil},
		{"a rate that is not known", flow.ExporterHealth{Samplers: []flow.SamplerHealth{{Rate: 0, Records: 1, LastSeen: ts}}}, healthCounts{}, []string{GateExporterRate}},
		{"one that is over", flow.ExporterHealth{Samplers: []flow.SamplerHealth{{Rate: 0, Records: 1, LastSeen: at(49)}}}, healthCounts{}, nil},
		{"another than expected", flow.ExporterHealth{Samplers: []flow.SamplerHealth{{Rate: 100, Records: 1, LastSeen: ts}}}, healthCounts{}, []string{GateExporterRate}},
		{"another exporter is free", flow.ExporterHealth{Exporter: exporterB.Next(), Samplers: []flow.SamplerHealth{{Rate: 2000, Records: 1, LastSeen: ts}}}, healthCounts{}, nil},
		{"two interfaces with rates of their own", flow.ExporterHealth{Samplers: []flow.SamplerHealth{{Rate: 1000, Records: 9, FirstSeen: at(0), LastSeen: ts}, {Rate: 2000, Records: 9, FirstSeen: at(50), LastSeen: ts}}}, healthCounts{}, nil},
		{"unknown until it was announced", flow.ExporterHealth{Samplers: []flow.SamplerHealth{{Rate: 0, Records: 9, FirstSeen: at(0), LastSeen: at(20)}, {Rate: 1000, Records: 9, FirstSeen: at(20), LastSeen: ts}}}, healthCounts{}, nil},
		{"unknown, and goes on beside one that is known", flow.ExporterHealth{Samplers: []flow.SamplerHealth{{Rate: 0, Records: 9, FirstSeen: at(0), LastSeen: ts}, {Rate: 1000, Records: 9, FirstSeen: at(20), LastSeen: ts}}}, healthCounts{}, []string{GateExporterRate}},
		{"unknown in another domain", flow.ExporterHealth{Samplers: []flow.SamplerHealth{{Domain: 1, Rate: 0, Records: 9, FirstSeen: at(0), LastSeen: ts}, {Rate: 1000, Records: 9, FirstSeen: at(20), LastSeen: ts}}}, healthCounts{}, []string{GateExporterRate}},
		{"a rate took another's place", flow.ExporterHealth{Samplers: []flow.SamplerHealth{{Rate: 1000, Records: 9, FirstSeen: at(0), LastSeen: at(50)}, {Rate: 2000, Records: 9, FirstSeen: at(50), LastSeen: ts}}}, healthCounts{}, []string{GateExporterRate}},
		{"half an hour ago", flow.ExporterHealth{Samplers: []flow.SamplerHealth{{Rate: 1000, Records: 9, FirstSeen: at(0), LastSeen: at(29)}, {Rate: 2000, Records: 9, FirstSeen: at(29), LastSeen: ts}}}, healthCounts{}, nil},
		{"loss just above the limit, by datagrams", flow.ExporterHealth{Protocols: []string{"netflow9"}}, healthCounts{949, 20000, 51, 0}, []string{GateExporterLoss}},
		{"just below", flow.ExporterHealth{Protocols: []string{"sflow5"}}, healthCounts{951, 20000, 49, 0}, nil},
		{"by records", flow.ExporterHealth{Protocols: []string{"ipfix"}}, healthCounts{949, 20000, 51, 0}, nil},
		{"an agent that drops", flow.ExporterHealth{Protocols: []string{"sflow5"}}, healthCounts{1000, 1000, 0, 100}, []string{GateExporterLoss}},
		{"an agent that counts three times as many samples as it states, and a little", flow.ExporterHealth{Protocols: []string{"sflow5"}, Denser: 3.1}, healthCounts{}, []string{GateRateWrong}},
		{"just not", flow.ExporterHealth{Protocols: []string{"sflow5"}, Denser: 3}, healthCounts{}, nil},
		{"a clock behind", flow.ExporterHealth{ClockOffsetS: off(-11)}, healthCounts{}, []string{GateExporterClock}},
		{"a clock ahead", flow.ExporterHealth{ClockOffsetS: off(10.5)}, healthCounts{}, []string{GateExporterClock}},
	} {
		if !c.h.Exporter.IsValid() {
			c.h.Exporter = exporter
		} else {
			c.h.Exporter = netip.MustParseAddr("203.0.113.9")
		}
		if c.h.Exporter == exporter && !cfg.Rates[0].Exporter.Contains(exporter) {
			t.Fatal("the test's exporter is not in the prefix")
		}
		if got := exporterGates(&cfg, &c.h, c.grown, ts); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestHealthLogCountsWhatGrew(t *testing.T) {
	h := flow.ExporterHealth{Exporter: exporter, Datagrams: 100, Records: 1000, Lost: 90}
	of := healthFunc(func() []flow.ExporterHealth { return []flow.ExporterHealth{h} })
	var l healthLog
	if got := l.since(&h); got.lost != 90 {
		t.Errorf("without a snapshot %+v, want all", got)
	}
	for i := range 15 { // 20 s apart: one in three is kept
		l.observe(epoch.Add(time.Duration(i)*20*time.Second), of)
		h.Datagrams, h.Records, h.Lost = h.Datagrams+10, h.Records+100, h.Lost+1
	}
	if got := l.since(&h); len(l.snaps) != 5 || got != (healthCounts{150, 1500, 15, 0}) {
		t.Errorf("%d snapshots, grown by %+v", len(l.snaps), got)
	}
	for i := range 40 {
		l.observe(epoch.Add(time.Duration(10+i)*time.Minute), of)
	}
	if len(l.snaps) != healthKept {
		t.Errorf("%d snapshots are kept, want %d", len(l.snaps), healthKept)
	}
	h.Datagrams = 1 // the collector began anew
	if got := l.since(&h); got.datagrams != 1 {
		t.Errorf("after a restart %+v, want all since", got)
	}
}

func TestSilentExporter(t *testing.T) {
	first := epoch
	for _, c := range []struct {
		name      string
		datagrams uint64
		sent      time.Duration // from first to last
		quiet     time.Duration
		want      bool
	}{
		{"sends each second", 600, 10 * time.Minute, 30 * time.Second, false},
		{"stopped a minute ago", 600, 10 * time.Minute, 61 * time.Second, true},
		{"sends each minute", 60, time.Hour, 5 * time.Minute, false},
		{"used to, and stopped", 60, time.Hour, 21 * time.Minute, true},
		{"gone for good", 600, 10 * time.Minute, 31 * time.Minute, false},
		{"one datagram ever", 1, 0, 10 * time.Minute, false},
	} {
		h := flow.ExporterHealth{Datagrams: c.datagrams, FirstSeen: first, LastSeen: first.Add(c.sent)}
		if got := silent(&h, first.Add(c.sent+c.quiet)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// scanFrom puts a scan and its rows into the model, as seen by these attachments.
func scanFrom(m *memWindows, by ...flow.Attachment) {
	rowsOf(m, tenant4, 22, 1, 500, 0, 10, 20)
	var rows []flow.FlowRow
	for i := range 1500 {
		a := by[i%len(by)]
		at := epoch.Add(time.Duration(i) * 20 * time.Millisecond).UnixNano()
		rows = append(rows, flow.FlowRow{Time: at, Start: at, End: at, Exporter: a.Exporter, InIf: a.InIf, SrcMAC: a.SrcMAC, VLAN: a.VLAN, Tenant: tenant4, Host: tenant4,
			Remote: netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), SvcPort: 22, RemotePort: 22, Dir: flow.Out, IPProto: flow.ProtoTCP, Class: flow.ClassSYN, Packets: 1, Rate: 1})
	}
	m.add(&flow.Batch{Flows: rows})
}

func TestOwnPort(t *testing.T) {
	own, others := flow.Attachment{Exporter: exporter, SrcMAC: [6]byte{2, 1}}, flow.Attachment{Exporter: exporter, SrcMAC: [6]byte{2, 2}}
	router := flow.Attachment{Exporter: exporter, SrcMAC: [6]byte{2, 9}}
	tenant, neighbour := tenant4, tenant4.Next()
	second := neighbour.Next() // another address of the tenant's server
	same := func(a, b netip.Addr) bool { return a == tenant && b == second || a == second && b == tenant }
	table, err := NewPortTable([]Port{{Tenant: second, MAC: own.SrcMAC}, {Tenant: neighbour, MAC: others.SrcMAC}}, same)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		by    []flow.Attachment
		cfg   func(*GuardConfig)
		tier  flow.Tier
		gates []string
		blame bool // of the neighbour
	}{
		{"from its own port", []flow.Attachment{own}, nil, flow.TierSuspend, nil, false},
		{"from a neighbour's", []flow.Attachment{others}, nil, flow.TierNotify, []string{GateSource}, true},
		{"a tenth from a neighbour's", []flow.Attachment{own, own, own, own, own, own, own, own, own, others}, nil, flow.TierNotify, []string{GateSource}, true},
		{"behind a router", []flow.Attachment{router}, nil, flow.TierSuspend, nil, false},
		{"behind a router, where it must be known", []flow.Attachment{router}, func(c *GuardConfig) { c.RequireSource = true }, flow.TierNotify, []string{GateSourceUnknown}, false},
		{"known in part", []flow.Attachment{router, own}, func(c *GuardConfig) { c.RequireSource = true }, flow.TierSuspend, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemWindows()
			scanFrom(m, c.by...)
			cfg := Defaults()
			if c.cfg != nil {
				c.cfg(&cfg.Thresholds.Guards)
			}
			fs := tickAt(t, New(cfg, Deps{Windows: m, PortOwner: table.Owner, SameHolder: same}), 30)
			i := slices.IndexFunc(fs, func(f flow.Finding) bool { return f.Rule == flow.RuleNetscan })
			if i < 0 || fs[i].Tenant != tenant || fs[i].Tier != c.tier || !slices.Equal(fs[i].Gates, c.gates) {
				t.Fatalf("%+v", fs)
			}
			j := slices.IndexFunc(fs, func(f flow.Finding) bool { return f.Rule == flow.RuleSpoofed })
			if (j >= 0) != c.blame || c.blame && (fs[j].Tenant != neighbour || fs[j].Tier != flow.TierBlockPort || fs[j].ConfigHash == "") {
				t.Errorf("blamed: %+v", fs)
			}
		})
	}
}

func TestPortTable(t *testing.T) {
	a, b := tenant4, tenant4.Next()
	mac := [6]byte{2, 1}
	table, err := NewPortTable([]Port{{Tenant: a, MAC: mac}, {Tenant: b, Exporter: exporter, Interface: 7}, {Tenant: a, Exporter: exporter, Interface: 7, VLAN: 5}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   flow.Attachment
		want netip.Addr
	}{
		{flow.Attachment{Exporter: exporterB, InIf: 1, SrcMAC: mac}, a},
		{flow.Attachment{Exporter: exporter, InIf: 7, SrcMAC: [6]byte{2, 2}}, b},
		{flow.Attachment{Exporter: exporter, InIf: 7, VLAN: 5}, a},
		{flow.Attachment{Exporter: exporter, InIf: 7, VLAN: 6}, b},
		{flow.Attachment{Exporter: exporterB, InIf: 7}, netip.Addr{}},
		{flow.Attachment{}, netip.Addr{}},
	} {
		if got, ok := table.Owner(c.at); got != c.want || ok != c.want.IsValid() {
			t.Errorf("%+v: %v %v, want %v", c.at, got, ok, c.want)
		}
	}
	_, err = NewPortTable([]Port{{Tenant: a, MAC: mac}, {Tenant: b, MAC: mac}, {MAC: mac}, {Tenant: a}, {Tenant: a, MAC: [6]byte{1}}, {Tenant: a, Exporter: exporter, Interface: 1}, {Tenant: b, Exporter: exporter, Interface: 1}}, nil)
	for _, want := range []string{"MAC 02:01:00:00:00:00 is given to", "port 2 has no tenant", "neither a MAC nor an exporter", "group address", "interface 1, VLAN 0 of"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told: %v", want, err)
		}
	}
}

// What the guards cannot ask holds a verdict, and does not end the tick.
func TestGuardsWithoutAnswers(t *testing.T) {
	at := flow.Attachment{Exporter: exporter}
	m := newMemWindows()
	scanFrom(m, at)
	m.guardErr = errors.New("timeout")
	d := New(Config{}, Deps{Windows: m})
	fs := tickAt(t, d, 30)
	if len(fs) != 1 || fs[0].Tier != flow.TierNotify || !slices.Equal(fs[0].Gates, []string{GateSourcesUnknown}) {
		t.Errorf("%+v", fs)
	}
	if value(t, d.m.errors.WithLabelValues(stepSources)) == 0 || value(t, d.m.errors.WithLabelValues(stepFleet)) == 0 {
		t.Error("not counted")
	}
	m.guardErr = nil
	if fs := tickAt(t, d, 35); len(fs) != 1 || fs[0].Tier != flow.TierSuspend {
		t.Errorf("after the store answers again: %+v", fs)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := New(Config{}, Deps{Windows: cancelled{m}}).Tick(ctx, epoch.Add(30*time.Second)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

type cancelled struct{ *memWindows }

func (c cancelled) Sources(ctx context.Context, _ flow.SourceQuery) ([]flow.SourceStat, error) {
	return nil, ctx.Err()
}

// Without stored rows nobody knows which exporter saw it: all must be well.
func TestGuardsWithoutRows(t *testing.T) {
	for _, c := range []struct {
		name string
		h    flow.ExporterHealth
		want []string
	}{
		{"well", flow.ExporterHealth{Exporter: exporterB}, nil},
		{"one is not", flow.ExporterHealth{Exporter: exporterB, Samplers: []flow.SamplerHealth{{Records: 1, LastSeen: epoch}}}, []string{GateExporterRate}},
		{"one is silent", flow.ExporterHealth{Exporter: exporterB, Datagrams: 1000, FirstSeen: epoch.Add(-time.Hour), LastSeen: epoch.Add(-10 * time.Minute)}, []string{GateExporterSilent}},
	} {
		m := newMemWindows()
		rowsOf(m, tenant4, 22, 1, 500, 0, 10, 20)
		fs := tickAt(t, New(Config{}, Deps{Windows: m, Health: healthFunc(func() []flow.ExporterHealth { return []flow.ExporterHealth{c.h} })}), 30)
		if len(fs) != 1 || !slices.Equal(fs[0].Gates, c.want) {
			t.Errorf("%s: %+v", c.name, fs)
		}
	}
}

// Many that begin at once are a fault; the same that begin one after the other
// are not.
func TestFleetFreeze(t *testing.T) {
	for _, c := range []struct {
		name    string
		tenants int
		apart   time.Duration
		frozen  bool
	}{
		{"four at once", 4, 0, false},
		{"five at once", 5, 0, true},
		{"twenty within five minutes", 20, 15 * time.Second, true},
		{"twenty in half an hour and more", 20, 100 * time.Second, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemWindows()
			d := New(onlyNetscan(), Deps{Windows: m})
			most, held := flow.TierNone, false
			for e := 30; e < 30+int(c.apart/time.Second)*c.tenants+60; e += 5 {
				if e%10 == 0 {
					for i := range c.tenants {
						if time.Duration(e-30)*time.Second >= time.Duration(i)*c.apart {
							rowsOf(m, address(i), 22, 1, 60, int64(e-10))
						}
					}
				}
				for _, f := range tickAt(t, d, int64(e)) {
					most = max(most, f.Tier)
					held = held || slices.Contains(f.Gates, GateFleet)
				}
			}
			// The first of many are judged before the others have begun.
			if held != c.frozen || c.apart == 0 && (most > flow.TierNotify) == c.frozen {
				t.Errorf("held %v, highest tier %s", held, most)
			}
		})
	}
}

func TestAnswerLog(t *testing.T) {
	cfg := defaultGuards()
	of := func(base, now float64) flow.FleetAnswers { // of 1,000 openings a minute
		return flow.FleetAnswers{Active: 100, Windows: 60, Tenants: 50, BaseOpened: 10_000, BaseAnswered: 10_000 * base, Opened: 1000, Answered: 1000 * now}
	}
	var l answerLog
	at := func(min int, s flow.FleetAnswers) {
		l.see(&cfg, s, span(epoch, answersNow), epoch.Add(time.Duration(min)*time.Minute))
	}
	at(0, of(0.8, 0.75))
	if l.fallen() {
		t.Error("a little less is no fall")
	}
	at(1, of(0.8, 0.3))
	if !l.fallen() {
		t.Error("0.8 to 0.3 is a fall")
	}
	for m := 2; m < 60; m++ { // the base is spoiled, the outage lasts
		if at(m, of(0.3, 0.3)); !l.fallen() {
			t.Fatalf("forgotten after %d minutes", m)
		}
	}
	at(60, of(0.3, 0.7))
	if l.fallen() {
		t.Error("answered again, and still fallen")
	}
	at(61, of(0.7, 0.1))
	at(61+6*60, of(0.1, 0.1))
	if l.fallen() {
		t.Error("after six hours it is the normal state")
	}
	few := flow.FleetAnswers{Windows: 60, Tenants: 4, BaseOpened: 1000, BaseAnswered: 900, Opened: 100}
	if l = (answerLog{}); true {
		l.see(&cfg, few, span(epoch, answersNow), epoch)
	}
	if l.fallen() {
		t.Error("four tenants are no fleet")
	}
	s := of(0.8, 0.8)
	s.Opened, s.Answered = 6000, 4800
	if l.see(&cfg, s, span(epoch, answersNow), epoch); !l.surge(epoch.Add(9*time.Minute)) || l.surge(epoch.Add(10*time.Minute)) {
		t.Error("six times as many connections are a surge, for ten minutes")
	}
	// A service that was just started has little to compare with.
	s.Windows, s.BaseOpened, s.BaseAnswered = 11, 900, 700
	if l = (answerLog{}); true {
		l.see(&cfg, s, span(epoch, answersNow), epoch)
	}
	if l.surge(epoch) || l.fallen() {
		t.Error("judged against a base of two minutes")
	}
	// What is stored counts for the time that it is of.
	s.Windows, s.BaseOpened, s.BaseAnswered = 18, 18_000, 14_400
	if l.see(&cfg, s, span(epoch, answersNow), epoch); l.surge(epoch) {
		t.Error("as many as in the three minutes before are no surge")
	}
}

func TestExpectedOf(t *testing.T) {
	for _, mu := range []float64{0.01, 1, 30, 1e6} {
		n := 2*mu + 20
		if got := expectedOf(n, excess(n, mu)); got < mu*0.999 || got > mu*1.001 {
			t.Errorf("of %g over %g: %g", n, mu, got)
		}
	}
}

// Of one exporter, fewer are a fault than of the whole fleet.
func TestFreezeByExporter(t *testing.T) {
	cfg := defaultGuards()
	g := newGuardMemory()
	d := New(Config{}, Deps{Windows: newMemWindows()})
	d.guards = g
	ts := epoch.Add(time.Hour)
	h := []flow.ExporterHealth{{Exporter: exporter, Records: 10_000}, {Exporter: exporterB, Records: 990_000}}
	g.answers.stats.Active = 10_000 // 0.5 %: 50; of the first exporter's hundredth the least, five
	var fs []flow.Finding
	for i := range 6 {
		fs = append(fs, flow.Finding{Tenant: address(i), Rule: flow.RuleNetscan, Tier: flow.TierSuspend})
	}
	g.note(&cfg, fs, ts)
	judge := func() []flow.Finding {
		state := &tickState{d: d, ts: ts, exporters: h}
		out := slices.Clone(fs)
		state.fleetGate(out)
		return out
	}
	for _, f := range judge() {
		if f.Tier != flow.TierSuspend {
			t.Errorf("six of 10,000 are frozen: %v", f.Gates)
		}
	}
	for i := range fs {
		g.entries[flow.RuleNetscan][address(i)].exporter = exporterB
	}
	for _, f := range judge() {
		if f.Tier != flow.TierSuspend {
			t.Errorf("six behind the large exporter are frozen: %v", f.Gates)
		}
	}
	for i := range 5 {
		g.entries[flow.RuleNetscan][address(i)].exporter = exporter
	}
	out := judge()
	for _, f := range out[:5] {
		if f.Tier != flow.TierNotify || !slices.Equal(f.Gates, []string{GateFleet}) {
			t.Errorf("five behind the small one are not frozen: %+v", f)
		}
	}
	if out[5].Tier != flow.TierSuspend {
		t.Errorf("the one behind the other is frozen too: %+v", out[5])
	}
}

// The rate of one interface that changed within the range, known from the rows
// alone, holds; two that are known to be in use do not.
func TestRatesMixed(t *testing.T) {
	for _, c := range []struct {
		name  string
		rates []ExpectedRates
		gates []string
	}{
		{"unexpected", nil, []string{GateExporterRate}},
		{"one of them is expected", []ExpectedRates{{netip.PrefixFrom(exporter, exporter.BitLen()), []uint32{1}}}, []string{GateExporterRate}},
		{"both are", []ExpectedRates{{netip.PrefixFrom(exporter, exporter.BitLen()), []uint32{1, 10}}}, nil},
	} {
		m := newMemWindows()
		scanFrom(m, flow.Attachment{Exporter: exporter, InIf: 3})
		for i := range m.seen[:700] {
			m.seen[i].rate = 10
		}
		cfg := Defaults()
		cfg.Thresholds.Guards.Rates = c.rates
		fs := tickAt(t, New(cfg, Deps{Windows: m}), 30)
		if len(fs) != 1 || !slices.Equal(fs[0].Gates, c.gates) {
			t.Errorf("%s: %+v", c.name, fs)
		}
	}
}

func TestGuilty(t *testing.T) {
	for _, c := range []struct {
		f    flow.Finding
		want bool
	}{
		{flow.Finding{Tier: flow.TierNotify}, false},
		{flow.Finding{Tier: flow.TierSuspend}, true},
		{flow.Finding{Tier: flow.TierNotify, Gates: []string{GatePersistence}}, true},
		{flow.Finding{Tier: flow.TierNotify, Gates: []string{GateP2PPort}}, false},
		{flow.Finding{Tier: flow.TierNotify, Gates: []string{GatePersistence, GateRoleTag}}, false},
	} {
		if got := guilty(&c.f); got != c.want {
			t.Errorf("%+v: %v", c.f, got)
		}
	}
}
