package detect

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/flow"
)

// rowsOf puts a scan's rows into the model: perWindow SYNs to new destinations in each
// of the windows that begin at the seconds given after epoch.
func rowsOf(m *memWindows, tenant netip.Addr, port uint16, rate uint32, perWindow int, starts ...int64) {
	for _, s := range starts {
		n := uint64(perWindow)
		k := flow.Key{Start: epoch.Unix() + s, Tenant: tenant, Rate: rate}
		c := flow.Counts{OutRecords: n, OutPackets: n, OutBytes: 44 * n}
		cl := flow.Classes{SYNOut: n, RawSYN: n}
		w := flow.ServiceWindow{Key: k, IPProto: flow.ProtoTCP, Role: flow.RoleClient, SvcPort: port, Counts: c, Classes: cl, Attempts: n}
		for i := range perWindow {
			w.Remotes = append(w.Remotes, uint64(s)<<32|uint64(i))
		}
		m.add(&flow.Batch{Services: []flow.ServiceWindow{w}, Hosts: []flow.HostWindow{{Key: k, Counts: c, Classes: cl}}})
	}
}

func tickAt(t *testing.T, d *Detector, s int64) []flow.Finding {
	t.Helper()
	f, err := d.Tick(context.Background(), epoch.Add(time.Duration(s)*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestTickStampsTheFinding(t *testing.T) {
	m := newMemWindows()
	rowsOf(m, tenant4, 22, 1, 500, 0, 10, 20)
	d := New(Config{}, Deps{Windows: m})
	got := tickAt(t, d, 30)
	want := []flow.Finding{{Time: epoch.Add(30 * time.Second), Tenant: tenant4, Rule: flow.RuleNetscan, Tier: flow.TierSuspend,
		IPProto: flow.ProtoTCP, Port: 22, WindowS: 60, Samples: 1500, Distinct: 1500, SamplingRate: 1,
		Score: excess(1500, 30), Threshold: 30, EstRate: 25,
		Reason: "contacted 1,500 different addresses on TCP port 22 in 60 s; none answered",
		From:   epoch.Add(-30 * time.Second), To: epoch.Add(30 * time.Second), RuleVersion: 1, ConfigHash: d.hashes[flow.RuleNetscan]}}
	want[0].Score = min(want[0].Score, 1.2*1500) // Λa is the weaker evidence; Λc is 3000
	if s := min(excess(1500, 30), 2.0*1500); s > want[0].Score {
		want[0].Score = s
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("finding (-want +got):\n%s", diff)
	}
	if again := tickAt(t, d, 30); !cmp.Equal(got, again, cmpopts.EquateComparable(netip.Addr{})) {
		t.Error("the same windows gave other findings")
	}
}

func TestPersistence(t *testing.T) {
	for _, c := range []struct {
		name   string
		starts []int64
		want   flow.Tier
		gates  []string
	}{
		{"one window", []int64{20}, flow.TierNotify, []string{GatePersistence}},
		{"two windows", []int64{10, 20}, flow.TierSuspend, nil},
		{"two windows apart", []int64{0, 20}, flow.TierSuspend, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemWindows()
			rowsOf(m, tenant4, 22, 1, 500, c.starts...)
			f := tickAt(t, New(Config{}, Deps{Windows: m}), 30)
			if len(f) != 1 || f[0].Tier != c.want || !slices.Equal(f[0].Gates, c.gates) {
				t.Errorf("%+v", f)
			}
		})
	}
	t.Run("the same destinations again", func(t *testing.T) {
		m := newMemWindows()
		rowsOf(m, tenant4, 22, 1, 500, 10)
		for _, w := range m.services[epoch.Unix()+10] {
			w.Start += 10
			m.services[w.Start] = append(m.services[w.Start], w)
		}
		f := tickAt(t, New(Config{}, Deps{Windows: m}), 30)
		if len(f) != 1 || f[0].Tier != flow.TierNotify || !slices.Equal(f[0].Gates, []string{GatePersistence}) {
			t.Errorf("%+v", f)
		}
	})
}

func floodRows(m *memWindows, proto uint8, perWindow uint64, starts ...int64) {
	for _, s := range starts {
		k := flow.Key{Start: epoch.Unix() + s, Tenant: tenant4, Rate: 1}
		c := flow.Counts{OutRecords: perWindow, OutPackets: perWindow, OutBytes: 100 * perWindow}
		w := flow.PairWindow{Key: k, Remote: remote, IPProto: proto, Counts: c}
		if proto == flow.ProtoTCP {
			w.SYNPackets, w.Classes = perWindow, flow.Classes{SYNOut: perWindow}
		}
		m.add(&flow.Batch{Pairs: []flow.PairWindow{w}, Hosts: []flow.HostWindow{{Key: k, Counts: c, Classes: w.Classes}}})
	}
}

// A flood of 20 s is left with nothing when its two strongest windows are taken
// away; the third window makes it one that goes on.
func TestFloodPersistence(t *testing.T) {
	for _, c := range []struct {
		name   string
		proto  uint8
		rule   flow.Rule
		per    uint64
		starts []int64
		want   flow.Tier
	}{
		{"SYN, 20 s", flow.ProtoTCP, flow.RuleSYNFlood, 200_000, []int64{0, 10}, flow.TierNotify},
		{"SYN, 30 s", flow.ProtoTCP, flow.RuleSYNFlood, 200_000, []int64{0, 10, 20}, flow.TierSuspend},
		{"UDP, 20 s", flow.ProtoUDP, flow.RuleUDPFlood, 1_000_000, []int64{0, 10}, flow.TierNotify},
		{"UDP, 30 s", flow.ProtoUDP, flow.RuleUDPFlood, 1_000_000, []int64{0, 10, 20}, flow.TierNotify},
		{"UDP, 100 s in windows only", flow.ProtoUDP, flow.RuleUDPFlood, 1_000_000, []int64{0, 10, 20, 30, 40, 50, 60, 70, 80, 90}, flow.TierNotify},
		{"UDP, 110 s", flow.ProtoUDP, flow.RuleUDPFlood, 1_000_000, []int64{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100}, flow.TierSuspend},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemWindows()
			floodRows(m, c.proto, c.per, c.starts...)
			f := tickAt(t, New(Config{}, Deps{Windows: m}), c.starts[len(c.starts)-1]+10)
			if len(f) != 1 || f[0].Rule != c.rule || f[0].Tier != c.want || f[0].Remote != remote {
				t.Fatalf("%+v", f)
			}
			if held := slices.Contains(f[0].Gates, GatePersistence); held != (c.want == flow.TierNotify) {
				t.Errorf("gates %v", f[0].Gates)
			}
		})
	}
}

func TestKnownPeers(t *testing.T) {
	for _, c := range []struct {
		name  string
		share float64
		err   error
		want  flow.Tier
		gates []string
	}{
		{"just below 0.3", 0.2999, nil, flow.TierSuspend, nil},
		{"0.3", 0.3, nil, flow.TierNotify, []string{GateKnownPeers}},
		{"the store cannot tell", 0, errors.New("timeout"), flow.TierNotify, []string{GatePeersUnknown}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemWindows()
			m.known, m.knownErr = c.share, c.err
			rowsOf(m, tenant4, 22, 1, 500, 0, 10, 20)
			f := tickAt(t, New(Config{}, Deps{Windows: m}), 30)
			if len(f) != 1 || f[0].Tier != c.want || !slices.Equal(f[0].Gates, c.gates) {
				t.Errorf("%+v", f)
			}
		})
	}
	t.Run("not asked for what is no candidate", func(t *testing.T) {
		m := newMemWindows()
		rowsOf(m, tenant4, 22, 1, 500, 20)
		tickAt(t, New(Config{}, Deps{Windows: m}), 30)
		if m.asked != 0 {
			t.Errorf("asked %d times", m.asked)
		}
	})
}

// 18 raw SYNs at 1:1000 in each of two windows are a scan by statistics; with
// the least number of samples set higher they are not shown to anybody yet.
func TestEvidenceGate(t *testing.T) {
	cfg := Defaults()
	for _, c := range []struct {
		least uint64
		want  flow.Tier
	}{{36, flow.TierSuspend}, {37, flow.TierNotify}} {
		m := newMemWindows()
		rowsOf(m, tenant4, 22, 1000, 18, 0, 10)
		cfg.Thresholds.Gates.MinSamples = c.least
		f := tickAt(t, New(cfg, Deps{Windows: m}), 20)
		if len(f) != 1 || f[0].Tier != c.want {
			t.Errorf("least %d: %+v", c.least, f)
		}
	}
}

func TestOrderAndStrongest(t *testing.T) {
	m := newMemWindows()
	other := tenant4.Next()
	for _, p := range []uint16{2323, 22} {
		rowsOf(m, other, p, 1, 500, 0, 10, 20)
	}
	rowsOf(m, tenant4, 23, 1, 500, 0, 10, 20)
	floodRows(m, flow.ProtoUDP, 1_000_000, 0, 10, 20)
	d := New(Config{}, Deps{Windows: m})
	want := []string{"198.18.7.9 netscan 23", "198.18.7.9 udp_flood 0", "198.18.7.10 netscan 22", "198.18.7.10 netscan 2323"}
	for range 5 {
		var got []string
		for _, f := range tickAt(t, d, 60) { // all lengths are due
			got = append(got, strings.Join([]string{f.Tenant.String(), string(f.Rule), count(uint64(f.Port))}, " "))
		}
		for i := range got {
			got[i] = strings.ReplaceAll(got[i], ",", "")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	}
}

func TestModeOffSkipsTheRule(t *testing.T) {
	m := newMemWindows()
	rowsOf(m, tenant4, 22, 1, 500, 0, 10, 20)
	cfg := Defaults()
	for _, r := range rules {
		cfg.Rules[r] = RuleConfig{Mode: flow.ModeOff}
	}
	if f := tickAt(t, New(cfg, Deps{Windows: m}), 30); len(f) != 0 || m.queries != 0 {
		t.Errorf("%d findings from %d queries", len(f), m.queries)
	}
	cfg.Rules[flow.RuleNetscan] = RuleConfig{Mode: flow.ModeObserve}
	if f := tickAt(t, New(cfg, Deps{Windows: m}), 30); len(f) != 1 {
		t.Errorf("%+v", f)
	}
}

func TestTickReturnsTheStoresError(t *testing.T) {
	m := newMemWindows()
	m.err = errors.New("connection refused")
	_, err := New(Config{}, Deps{Windows: m}).Tick(context.Background(), epoch)
	if !errors.Is(err, m.err) || !strings.Contains(err.Error(), "netscan") {
		t.Errorf("%v", err)
	}
}

func TestSpan(t *testing.T) {
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	for _, c := range []struct{ ts, length, from, to int }{
		{100, 60, 40, 100}, {105, 60, 40, 110}, {109, 10, 90, 110}, {110, 10, 100, 110},
	} {
		want := flow.Range{From: at(c.from), To: at(c.to)}
		if got := span(at(c.ts), time.Duration(c.length)*time.Second); got != want {
			t.Errorf("ts %d, length %d: %v to %v", c.ts, c.length, got.From, got.To)
		}
	}
}

func TestDue(t *testing.T) {
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	for _, c := range []struct {
		length, prev, ts int
		want             bool
	}{
		{60, 0, 5, true}, {300, 0, 5, false}, {300, 5, 10, true}, {1800, 50, 55, false}, {1800, 55, 60, true},
		{1800, 50, 65, true}, {1800, 60, 65, false}, // the slot of 60 was missed, or was the last
	} {
		if got := due(time.Duration(c.length)*time.Second, at(c.prev), at(c.ts)); got != c.want {
			t.Errorf("length %d at %d after %d: %t", c.length, c.ts, c.prev, got)
		}
	}
}

func TestValidate(t *testing.T) {
	if err := Defaults().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("nothing set: %v", err)
	}
	for _, c := range []struct {
		name string
		edit func(*Config)
		want []string
	}{
		{"interval", func(c *Config) { c.Interval = 7 * time.Second }, []string{"interval", "divides a minute"}},
		{"unknown mode", func(c *Config) { c.Rules[flow.RuleNetscan] = RuleConfig{Mode: "kill"} }, []string{"rules.netscan.mode", `"kill"`, "enforce"}},
		{"rule without code", func(c *Config) { c.Rules["wormhole"] = RuleConfig{Mode: flow.ModeObserve} }, []string{"rules.wormhole", "no detector"}},
		{"no windows", func(c *Config) { c.Thresholds.Netscan.WindowsS = []int{} }, []string{"netscan.windows_s", "empty"}},
		{"odd window", func(c *Config) { c.Thresholds.UDPFlood.WindowsS = []int{65} }, []string{"udp_flood.windows_s", "65", "multiples of 10"}},
		{"scores crossed", func(c *Config) { c.Thresholds.SYNFlood.SuspendScore = 3 }, []string{"syn_flood.suspend_score", "at least notify_score"}},
		{"rate of zero", func(c *Config) { c.Thresholds.Portscan.Rate = 0 }, []string{"portscan.rate", "above 0"}},
		{"share above one", func(c *Config) { c.Thresholds.Gates.KnownPeers = 1.1 }, []string{"gates.known_peers", "at most 1"}},
		{"returns crossed", func(c *Config) { c.Thresholds.UDPFlood.SuspendReturn = 0.5 }, []string{"udp_flood.suspend_return", "notify_return"}},
		{"pairs crossed", func(c *Config) { c.Thresholds.Blockscan.SuspendPairs = 3 }, []string{"blockscan.suspend_pairs", "at least what notify needs"}},
		{"traceroute's ports crossed", func(c *Config) { c.Thresholds.UDPSweep.SkipTo = 1 }, []string{"udp_sweep.skip_to", "skip_from"}},
		{"rates crossed", func(c *Config) { c.Thresholds.ICMPSweep.SuspendRate = 0.5 }, []string{"icmp_sweep.suspend_rate", "notify_rate"}},
		{"return of zero", func(c *Config) { c.Thresholds.PacketFlood.Return = 0 }, []string{"packet_flood.return", "at most 1"}},
		{"ping rate", func(c *Config) { c.Thresholds.ICMPFlood.Rate = -1 }, []string{"icmp_flood.rate", "above 0"}},
		{"ratios crossed", func(c *Config) { c.Thresholds.Reflector.BlockRatio = 2 }, []string{"reflector.block_ratio", "notify_ratio"}},
		{"service without a rate", func(c *Config) { c.Thresholds.Reflector.Services[1].Rate = 0 }, []string{"reflector.services[1].rate"}},
		{"packets of a mail", func(c *Config) { c.Thresholds.Spam.Packets = 0 }, []string{"spam.packets", "as 20"}},
		{"band crossed", func(c *Config) { c.Thresholds.Bruteforce.MaxBytes = 1 }, []string{"bruteforce.max_bytes", "min_bytes"}},
		{"not a prefix", func(c *Config) { c.Thresholds.BlockedPort.Closed[0].OpenFor = []netip.Prefix{{}} }, []string{"blocked_port.closed[0].open_for[0]", "like"}},
		{"records crossed", func(c *Config) { c.Thresholds.Spoofed.BlockRecords = 1 }, []string{"spoofed_source.block_records"}},
		{"two mistakes", func(c *Config) { c.Interval = time.Hour; c.Thresholds.Netscan.PortRate = -1 }, []string{"interval", "netscan.port_rate"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Defaults()
			c.edit(&cfg)
			err := cfg.Validate()
			if err == nil {
				t.Fatal("passes")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}

func TestConfigHash(t *testing.T) {
	a, b := Defaults(), Defaults()
	if x, y := a.Thresholds.hash(flow.RuleNetscan), b.Thresholds.hash(flow.RuleNetscan); x != y || len(x) != 12 {
		t.Errorf("%s and %s", x, y)
	}
	b.Rules[flow.RuleNetscan] = RuleConfig{Mode: flow.ModeEnforce}
	if a.Thresholds.hash(flow.RuleNetscan) != b.Thresholds.hash(flow.RuleNetscan) {
		t.Error("the mode changes the hash")
	}
	b.Thresholds.Netscan.SuspendScore++
	if a.Thresholds.hash(flow.RuleNetscan) == b.Thresholds.hash(flow.RuleNetscan) {
		t.Error("a threshold does not change the hash")
	}
	if a.Thresholds.hash(flow.RuleUDPFlood) != b.Thresholds.hash(flow.RuleUDPFlood) {
		t.Error("another rule's threshold changes the hash")
	}
}
