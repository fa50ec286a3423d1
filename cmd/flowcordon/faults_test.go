package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/cmd/flowgen/scenario"
	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/detect"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond"
)

// faultStart is when the first run with faults begins.
var faultStart = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)

// faulty is an exporter and the tenants behind it.
type faulty struct {
	n, claims uint32 // 1:n that it samples at, and that it announces; 0: n
	netflow   bool
	ahead     time.Duration           // its clock
	until     time.Duration           // it is silent from then on; 0: never
	change    func(*flow.Record) bool // what is wrong with a record; false: it is not exported
	twice     bool                    // a second router exports the same
	tenants   []faultyTenant
}

// faultyTenant says what tenants send, and what must be said of them: the tier
// of an attacker, or the gate that holds what looks like an attack.
type faultyTenant struct {
	name    string
	count   int // 0: one
	sources string
	tier    flow.Tier
	gate    string
}

// Traffic in the words of a scenario.
const (
	usual     = "tcp rate=6 port=443 ok=0.95"
	masscan   = "tcp rate=100 port=6379 dst=any half=0.01 rst=0.1 len=44 ttl=255"
	crawls    = "tcp rate=200 port=443 ok=0.9"
	answerers = "tcp rate=200 port=443 ok=0.9 out=2"
)

func outgoing(r *flow.Record) bool { return scenarioTenant(r.Src) }

func scenarioTenant(a netip.Addr) bool {
	return netip.MustParsePrefix("198.18.0.0/15").Contains(a)
}

// chain is one run through everything between a router's encoder and the
// controller, on a clock of its own: an encoder and UDP's payloads, the decoder,
// aggregation, ClickHouse, the detector, incidents.
type chain struct {
	r     *replay
	start time.Time
	next  byte // of a tenant's third octet
	all   []*chainExporter
	held  map[netip.Addr]faultyTenant
}

type chainExporter struct {
	f       faulty
	wires   []*scenario.Wire
	tenants []chainTenant
}

type chainTenant struct {
	addr    netip.Addr
	gen     *scenario.Generator
	sources []scenario.Source
}

// add makes an exporter with its tenants.
func (c *chain) add(t *testing.T, f faulty, length time.Duration) {
	t.Helper()
	x := &chainExporter{f: f}
	routers := 1
	if f.twice {
		routers = 2
	}
	for range routers {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(10*len(c.all) + len(x.wires))}), 50000)
		claims := f.claims
		if claims == 0 {
			claims = f.n
		}
		w, err := scenario.NewWire(claims, f.netflow, c.start.Add(-24*time.Hour), func(payload []byte, received int64) {
			at := received - int64(f.ahead)
			c.r.dec.Decode(decode.Datagram{Exporter: from, Received: at, Payload: bytes.Clone(payload)}, c.r.agg.AddRun)
		})
		if err != nil {
			t.Fatal(err)
		}
		x.wires = append(x.wires, w)
	}
	for _, ft := range f.tenants {
		c.next++
		for i := range max(ft.count, 1) {
			ct := chainTenant{addr: netip.AddrFrom4([4]byte{198, 19, c.next, byte(1 + i)}), gen: scenario.NewGenerator(uint64(c.next)*1000+uint64(i), f.n, f.netflow)}
			var err error
			if ct.sources, err = scenario.Sources(ft.sources, length); err != nil {
				t.Fatal(err)
			}
			x.tenants = append(x.tenants, ct)
			c.held[ct.addr] = ft
		}
	}
	c.all = append(c.all, x)
}

// send has the exporter send what was made until at.
func (x *chainExporter) send(start time.Time, e time.Duration) error {
	at := start.Add(e + scenario.Step)
	var rs []flow.Record
	for i := range x.tenants {
		ct := &x.tenants[i]
		for j := range ct.sources {
			ct.gen.Run(&ct.sources[j], start, e)
		}
		for _, r := range ct.gen.Take(at) {
			for _, end := range []*netip.Addr{&r.Src, &r.Dst} {
				if *end == scenario.Tenant4 {
					*end = ct.addr
				}
			}
			if x.f.change != nil && !x.f.change(&r) {
				continue
			}
			r.Received, r.Start, r.End = r.Received+int64(x.f.ahead), r.Start+int64(x.f.ahead), r.End+int64(x.f.ahead)
			rs = append(rs, r)
		}
	}
	if x.f.until > 0 && e >= x.f.until {
		return nil
	}
	slices.SortStableFunc(rs, func(a, b flow.Record) int { return int(a.Received - b.Received) })
	for _, w := range x.wires {
		if err := w.Send(rs, at.Add(x.f.ahead).UnixNano()); err != nil {
			return err
		}
	}
	return nil
}

// play runs the chain, then holds what was said of each tenant, by the findings
// that replay prints and by the incidents that the API serves.
func (c *chain) play(ctx context.Context, t *testing.T, length time.Duration, extra func(at time.Time) error) {
	t.Helper()
	var out bytes.Buffer
	c.r.out, c.r.json = &out, json.NewEncoder(&out)
	for e := time.Duration(0); e < length; e += scenario.Step {
		c.r.last = c.start.Add(e + scenario.Step)
		for _, x := range c.all {
			if err := x.send(c.start, e); err != nil {
				t.Fatal(err)
			}
		}
		if err := extra(c.r.last); err != nil {
			t.Fatal(err)
		}
		if c.r.last.Truncate(c.r.interval).Equal(c.r.last) {
			if err := c.r.tick(ctx, c.r.last); err != nil {
				t.Fatal(err)
			}
		}
	}
	tiers, gates := map[netip.Addr]flow.Tier{}, map[netip.Addr][]string{}
	for line := range strings.Lines(out.String()) {
		var f flow.Finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		if _, known := c.held[f.Tenant]; !known {
			t.Errorf("a finding against %s: %s", f.Tenant, line)
		}
		tiers[f.Tenant] = max(tiers[f.Tenant], f.Tier)
		gates[f.Tenant] = append(gates[f.Tenant], f.Gates...)
	}
	for addr, ft := range c.held {
		switch {
		case ft.tier > flow.TierNotify && tiers[addr] != ft.tier:
			t.Errorf("%s: %s by gates %v, want %s", ft.name, tiers[addr], compact(gates[addr]), ft.tier)
		case ft.tier <= flow.TierNotify && tiers[addr] > flow.TierNotify:
			t.Errorf("%s: %s, want no verdict; gates at other times: %v", ft.name, tiers[addr], compact(gates[addr]))
		case ft.gate != "" && !slices.Contains(gates[addr], ft.gate):
			t.Errorf("%s: tier %s, gates %v, want %s", ft.name, tiers[addr], compact(gates[addr]), ft.gate)
		case ft.gate != "" && !slices.ContainsFunc(c.r.control.Incidents(respond.Filter{}), func(i flow.Incident) bool {
			return i.Tenant == addr && slices.ContainsFunc(i.Findings, func(f flow.Finding) bool { return len(f.Gates) > 0 })
		}):
			t.Errorf("%s: no incident tells of the gate", ft.name)
		}
	}
}

func compact(gates []string) []string {
	slices.Sort(gates)
	return slices.Compact(gates)
}

// TestFaultsOfExports: what is wrong with exports and networks cuts nobody off,
// the finding names the gate, and who attacks while all is well is found, beside
// them in the same run.
func TestFaultsOfExports(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{Mode: flow.ModeEnforce, Interval: "20s"})
	s.edit(t, "thresholds: {guards: {fleet_min: 1000}}", "thresholds: {}")
	cfg, err := loadSite(s)
	if err != nil {
		t.Fatal(err)
	}
	r, err := newReplay(cfg, true, os.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(r.dir) })
	err = r.withStore(t.Context(), func(ctx context.Context) error {
		for i, run := range []struct {
			name string
			f    func(context.Context, *testing.T, *chain)
		}{{"exporters", faultsOfExporters}, {"floods", faultsOfFloods}, {"a silent exporter", faultSilent}, {"an outage upstream", faultOutage}} {
			t.Run(run.name, func(t *testing.T) {
				r.judge()
				if err := r.control.Load(ctx); err != nil {
					t.Fatal(err)
				}
				run.f(ctx, t, &chain{r: r, start: faultStart.Add(time.Duration(i) * 3 * time.Hour), next: byte(40 * i), held: map[netip.Addr]faultyTenant{}})
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// faultsOfFloods: what counts packets too often, and beside it a flood.
func faultsOfFloods(ctx context.Context, t *testing.T, c *chain) {
	const length = 6 * time.Minute
	for _, f := range []faulty{
		{n: 100, tenants: []faultyTenant{{name: "ordinary, sampled", count: 20, sources: usual},
			{name: "flooder", sources: "stream rate=25000 size=1200 dst=1 port=80 own=5004 from=2m", tier: flow.TierSuspend}}},
		{n: 20, claims: 200, tenants: []faultyTenant{{name: "ordinary, of a wrong rate", count: 100, sources: "tcp rate=1 port=443 ok=0.95"},
			{name: "honest stream of a wrong rate", sources: "stream rate=5000 size=1200 dst=1 port=5004 own=5004 from=3m", gate: detect.GateRateWrong}}},
		{n: 1, netflow: true, twice: true, tenants: []faultyTenant{{name: "honest stream seen twice", sources: "stream rate=10000 size=1200 dst=1 port=5004 own=5004", gate: detect.GateDuplicate}}},
	} {
		c.add(t, f, length)
	}
	c.play(ctx, t, length, none)
}

// faultsOfExporters: five routers, of which three are wrong each in its own way.
func faultsOfExporters(ctx context.Context, t *testing.T, c *chain) {
	const length = 5 * time.Minute
	for _, f := range []faulty{
		{n: 1, netflow: true, tenants: []faultyTenant{{name: "ordinary", count: 20, sources: "tcp rate=1 port=443 ok=0.95"}, {name: "scanner", sources: masscan + " from=2m", tier: flow.TierSuspend}}},
		{n: 100, tenants: []faultyTenant{{name: "ordinary, sampled", count: 20, sources: usual}}},
		{n: 100, change: outgoing, tenants: []faultyTenant{{name: "ordinary, one way", count: 3, sources: usual}, {name: "crawler, one way", sources: crawls, gate: detect.GateNoIncoming}}},
		{n: 100, change: func(r *flow.Record) bool {
			if !outgoing(r) {
				r.TCPFlags, r.Has = 0, r.Has&^flow.HasTCPFlags
			}
			return true
		}, tenants: []faultyTenant{{name: "crawler without flags", sources: answerers, gate: detect.GateNoFlags}}},
		{n: 1, netflow: true, ahead: 30 * time.Second, tenants: []faultyTenant{{name: "scanner of a wrong clock", sources: masscan + " from=2m", gate: detect.GateExporterClock}}},
	} {
		c.add(t, f, length)
	}
	// Half an hour of 14,000/s that is exported at once: spread over its time it
	// is below what is allowed, and nothing has to be held.
	long := netip.MustParseAddr("198.19.200.1")
	c.held[long] = faultyTenant{name: "a flow of 30 minutes, exported at once"}
	from := netip.MustParseAddrPort("192.0.2.200:50000")
	enc, err := export.New(export.Config{Protocol: flow.NetFlow9, SamplingRate: 1, Boot: c.start.Add(-24 * time.Hour)}, func(b []byte, _ int) error {
		c.r.dec.Decode(decode.Datagram{Exporter: from, Received: c.r.last.UnixNano() - 1, Payload: bytes.Clone(b)}, c.r.agg.AddRun)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c.play(ctx, t, length, func(at time.Time) error {
		f := export.Flow{Src: long, Dst: netip.MustParseAddr("26.1.2.3"), SrcPort: 5004, DstPort: 5004, IPProto: flow.ProtoUDP, Packets: 1, Bytes: 1200, InIf: 2, OutIf: 1}
		f.Start, f.End = at.Add(-time.Second).UnixNano(), at.Add(-time.Second).UnixNano()
		if at.Equal(c.start.Add(3 * time.Minute)) {
			f.Start, f.Packets, f.Bytes = at.Add(-30*time.Minute).UnixNano(), 14_000*1800, 14_000*1800*1200
		}
		if err := enc.Add(&f, at.UnixNano()); err != nil {
			return err
		}
		return enc.Flush(at.UnixNano())
	})
}

func none(time.Time) error { return nil }

// faultSilent: answers may have gone by the router that fell silent.
func faultSilent(ctx context.Context, t *testing.T, c *chain) {
	const length = 6 * time.Minute
	c.add(t, faulty{n: 100, until: 2 * time.Minute, tenants: []faultyTenant{{name: "ordinary", count: 20, sources: usual}}}, length)
	c.add(t, faulty{n: 1, netflow: true, tenants: []faultyTenant{{name: "ordinary", count: 10, sources: "tcp rate=1 port=443 ok=0.95"},
		{name: "scanner while another is silent", sources: masscan + " from=4m", gate: detect.GateExporterSilent}}}, length)
	c.play(ctx, t, length, none)
}

// faultOutage: all that tenants call falls silent at once.
func faultOutage(ctx context.Context, t *testing.T, c *chain) {
	const length = 10 * time.Minute
	c.add(t, faulty{n: 100, tenants: []faultyTenant{
		{name: "ordinary in an outage", count: 60, sources: "tcp rate=2 port=443 ok=0.95 to=5m\ntcp rate=2 port=443 ok=0 syn=4 from=5m"},
		{name: "crawler in an outage", count: 3, sources: "tcp rate=200 port=443 ok=0.9 to=5m\ntcp rate=200 port=443 ok=0 syn=1 from=5m", gate: detect.GateFleet}}}, length)
	c.play(ctx, t, length, none)
}
