package detect

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/scenario"
	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/flow"
)

var exporterB = netip.MustParseAddr("192.0.2.2")

// world is several tenants behind one network, whose export may be faulty.
type world struct {
	n       uint32 // 1:n that is really sampled
	netflow bool
	length  time.Duration
	tenants []worldTenant
	fault   func(r flow.Record, at time.Duration) []flow.Record // what is exported instead of a record; nil: itself
	health  func(ts time.Time) []flow.ExporterHealth            // nil: nothing is known
	cfg     func(*Config)
}

// worldTenant is count tenants with the same sources, in the words of a scenario.
type worldTenant struct {
	count   int
	sources string // one a line
}

type healthFunc func() []flow.ExporterHealth

func (f healthFunc) Exporters() []flow.ExporterHealth { return f() }

// address is the i-th tenant's.
func address(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, byte(1 + i/250), byte(1 + i%250)})
}

// run returns the findings of every tick, the tenants that were above notify,
// and the gates that held somebody.
func (w *world) run(t *testing.T) (above map[netip.Addr]flow.Tier, gates map[string]bool) {
	t.Helper()
	type one struct {
		g       *scenario.Generator
		sources []scenario.Source
	}
	var all []one
	for _, wt := range w.tenants {
		for range wt.count {
			o := one{g: scenario.NewGenerator(uint64(100+len(all)), w.n, w.netflow)}
			var err error
			if o.sources, err = scenario.Sources(wt.sources, w.length); err != nil {
				t.Fatal(err)
			}
			all = append(all, o)
		}
	}
	var b flow.Batch
	agg := aggregate.NewLocal(aggregate.Config{Internal: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")}, FlowPolicy: aggregate.FlowAll}, collect(&b))
	mem := newMemWindows()
	now := epoch
	deps := Deps{Windows: mem}
	if w.health != nil {
		deps.Health = healthFunc(func() []flow.ExporterHealth { return w.health(now) })
	}
	cfg := Defaults()
	if w.cfg != nil {
		w.cfg(&cfg)
	}
	d := New(cfg, deps)
	above, gates = map[netip.Addr]flow.Tier{}, map[string]bool{}
	for e := time.Duration(0); e < w.length; e += step {
		now = epoch.Add(e + step)
		for i := range all {
			for j := range all[i].sources {
				all[i].g.Run(&all[i].sources[j], epoch, e)
			}
			for _, r := range all[i].g.Take(now) {
				if r.Src == tenant4 {
					r.Src = address(i)
				} else if r.Dst == tenant4 {
					r.Dst = address(i)
				}
				out := []flow.Record{r}
				if w.fault != nil {
					out = w.fault(r, e)
				}
				for j := range out {
					agg.Add(&out[j])
				}
			}
		}
		agg.Flush(now.UnixNano(), false)
		mem.add(&b)
		b = flow.Batch{}
		found, err := d.Tick(context.Background(), now)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f.Tier > flow.TierNotify {
				above[f.Tenant] = max(above[f.Tenant], f.Tier)
			}
			for _, g := range f.Gates {
				gates[g] = true
			}
		}
	}
	return above, gates
}

const (
	ordinary = "tcp rate=6 port=443 ok=0.95"
	crawler  = "tcp rate=200 port=443 ok=0.9"
)

func claims(n uint32) func(flow.Record, time.Duration) []flow.Record {
	return func(r flow.Record, _ time.Duration) []flow.Record {
		r.SamplingRate = n
		return []flow.Record{r}
	}
}

func outgoing(r flow.Record) bool {
	return r.Src.Is4() && r.Src.As4()[0] == 198 && r.Src.As4()[1] == 18
}

// The six faults that must not cut anybody off, each with its gate, and beside
// each what must be found when the fault is not there: a gate that holds always
// would pass the first half.
func TestFaultyExportsAndNetworks(t *testing.T) {
	const pushFrom = 12 * time.Minute
	pushers := []worldTenant{{120, ordinary}, {1, "stream rate=5000 size=1200 port=5004 own=5004 from=12m"}}
	flooded := []worldTenant{{40, ordinary}, {1, "stream rate=60000 size=1200 port=5004 own=5004 from=12m"}}
	// Twelve honest streams of 1,000/s to one host, each exported each 10 minutes.
	var streams []string
	for i := range 12 {
		streams = append(streams, "stream rate=1000 size=1200 active=5m port=5004 own="+string(rune('1'+i%9))+"00"+string(rune('0'+i/9))+" from="+(time.Duration(i)*5*time.Second).String())
	}
	slow := []worldTenant{{10, ordinary}, {1, strings.Join(streams, "\n")}}
	out := []worldTenant{{60, "tcp rate=2 port=443 ok=0.95 to=13m\ntcp rate=2 port=443 ok=0 syn=4 from=13m"},
		{3, "tcp rate=200 port=443 ok=0.9 to=13m\ntcp rate=200 port=443 ok=0 syn=1 from=13m"}}
	alone := []worldTenant{{60, "tcp rate=2 port=443 ok=0.95"}, {1, "tcp rate=200 port=443 ok=0.9 to=13m\ntcp rate=200 port=443 ok=0 syn=1 len=40 from=13m"}}

	for _, c := range []struct {
		name  string
		w     world
		gate  string // "" : the tenants after the ordinary ones must be suspended
		guilt int    // index of that tenant
	}{
		{"a rate claimed ten times too high, from the start", world{n: 100, length: 16 * time.Minute, tenants: pushers, fault: claims(1000)}, GateRateWrong, 0},
		{"the same with the right rate: a flood is one", world{n: 100, length: 14 * time.Minute, tenants: flooded}, "", 40},
		{"sampling becomes ten times denser than claimed", world{n: 100, length: 26 * time.Minute, tenants: pushers,
			fault: func(r flow.Record, at time.Duration) []flow.Record {
				r.SamplingRate = 1000
				if at < pushFrom && r.Received%10 != 0 { // nine tenths are left out until then
					return nil
				}
				return []flow.Record{r}
			}}, GateFleet, 0},
		{"an exporter changes the rate that it announces", world{n: 100, length: 15 * time.Minute, tenants: pushers, fault: claims(1000),
			cfg: func(c *Config) { c.Thresholds.Guards.RateSlack = 1e5 }, // so that nothing but the announcement tells
			health: func(ts time.Time) []flow.ExporterHealth {
				return []flow.ExporterHealth{{Exporter: exporter, Protocols: []string{"sflow5"}, FirstSeen: epoch, LastSeen: ts, Datagrams: 1000, Records: 10000, Samplers: []flow.SamplerHealth{
					{Rate: 100, Records: 100, FirstSeen: epoch, LastSeen: epoch.Add(11 * time.Minute)},
					{Rate: 1000, Records: 100, FirstSeen: epoch.Add(11 * time.Minute), LastSeen: ts}}}}
			}}, GateExporterRate, 0},
		{"only what tenants send is exported", world{n: 256, length: 10 * time.Minute, tenants: []worldTenant{{20, ordinary}, {2, crawler}},
			fault: func(r flow.Record, _ time.Duration) []flow.Record {
				if !outgoing(r) {
					return nil
				}
				return []flow.Record{r}
			}}, GateNoIncoming, 0},
		{"what comes in is exported without flags", world{n: 256, length: 10 * time.Minute, tenants: []worldTenant{{20, ordinary}, {2, "tcp rate=200 port=443 ok=0.9 out=2"}},
			fault: func(r flow.Record, _ time.Duration) []flow.Record {
				if !outgoing(r) {
					r.Has &^= flow.HasTCPFlags
					r.TCPFlags = 0
				}
				return []flow.Record{r}
			}}, GateNoFlags, 0},
		{"two routers export each packet", world{n: 1, netflow: true, length: 6 * time.Minute, tenants: []worldTenant{{1, "stream rate=10000 size=1200 dst=1 port=5004 own=5004"}},
			fault: func(r flow.Record, _ time.Duration) []flow.Record {
				s := r
				s.Exporter = exporterB
				return []flow.Record{r, s}
			}}, GateDuplicate, 0},
		{"two routers sample the same packets", world{n: 100, length: 6 * time.Minute, tenants: []worldTenant{{1, "stream rate=20000 size=1200 dst=1 port=5004 own=5004"}},
			fault: func(r flow.Record, _ time.Duration) []flow.Record { // what was made for one is seen by either: 10,000/s each
				if r.Received%2 == 0 {
					r.Exporter = exporterB
				}
				return []flow.Record{r}
			}}, GateDuplicate, 0},
		{"two routers carry a flood between them", world{n: 1, netflow: true, length: 6 * time.Minute,
			tenants: []worldTenant{{1, "stream rate=12000 size=1200 dst=1 port=5004 own=5004\nstream rate=12000 size=1200 dst=1 port=5004 own=5005\n" +
				"stream rate=10 size=1200 dst=1 port=5004 own=5006\nstream rate=10 size=1200 dst=1 port=5004 own=5007\nstream rate=10 size=1200 dst=1 port=5004 own=5008"}},
			fault: func(r flow.Record, _ time.Duration) []flow.Record {
				if r.SrcPort%2 == 0 {
					r.Exporter = exporterB
				}
				return []flow.Record{r}
			}}, "", 0},
		{"long flows are exported at once, without times", world{n: 1, netflow: true, length: 12 * time.Minute, tenants: slow,
			fault: func(r flow.Record, _ time.Duration) []flow.Record {
				r.Start, r.End = r.Received, r.Received
				r.Has &^= flow.HasTimes
				return []flow.Record{r}
			}}, GateNoTimes, 0},
		{"an outage upstream makes scanners of crawlers", world{n: 100, length: 20 * time.Minute, tenants: out}, GateFleet, 0},
		{"an outage seen at 1:1 by flow records", world{n: 1, netflow: true, length: 18 * time.Minute, tenants: []worldTenant{{30, "tcp rate=0.2 port=443 ok=0.95 to=13m\ntcp rate=0.2 port=443 ok=0 syn=4 from=13m"},
			{2, "tcp rate=15 port=443 ok=0.9 to=13m\ntcp rate=15 port=443 ok=0 syn=1 from=13m"}}}, GateFleet, 0},
		{"an outage seen at 1:1000", world{n: 1000, length: 30 * time.Minute, tenants: []worldTenant{{60, "tcp rate=20 port=443 ok=0.95 to=13m\ntcp rate=20 port=443 ok=0 syn=4 from=13m"},
			{3, "tcp rate=400 port=443 ok=0.9 to=13m\ntcp rate=400 port=443 ok=0 syn=1 from=13m"}}}, GateFleet, 0},
		{"one of them is a scanner while the others are answered", world{n: 100, length: 20 * time.Minute, tenants: alone}, "", 60},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			above, gates := c.w.run(t)
			if c.gate == "" {
				if above[address(c.guilt)] != flow.TierSuspend || len(above) != 1 {
					t.Errorf("above notify: %v, want %s only; gates %v", above, address(c.guilt), gates)
				}
				return
			}
			if len(above) != 0 || !gates[c.gate] {
				t.Errorf("above notify: %v; gates %v, want %s", above, gates, c.gate)
			}
		})
	}
}
