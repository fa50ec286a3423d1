package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func TestSource(t *testing.T) {
	cfg := Config{OwnPrefixes: append([]netip.Prefix{netip.MustParsePrefix("11.21.0.0/25")}, testOwn...)}.withDefaults()
	wide := cfg
	wide.V6Length = 48
	for name, c := range map[string]struct {
		cfg   Config
		ip    string
		want  string
		class flow.ErrClass
	}{
		"v4":                        {cfg, "11.20.255.255", "11.20.255.255/32", ""},
		"v4 in v6's clothes":        {cfg, "::ffff:11.20.0.10", "11.20.0.10/32", ""},
		"the last one of ours":      {cfg, "11.21.0.127", "11.21.0.127/32", ""},
		"one past the last":         {cfg, "11.21.0.128", "11.21.0.128/32", flow.ErrNotFound},
		"v6 is a /64":               {cfg, "2608:20:0:7::25", "2608:20:0:7::/64", ""},
		"v6 is what is configured":  {wide, "2608:20:0:7::25", "2608:20::/48", ""},
		"v6 of somebody":            {cfg, "2608:21::1", "2608:21::/64", flow.ErrNotFound},
		"v6 with a zone":            {cfg, "2608:20::1%eth0", "2608:20::/64", ""},
		"the default route's relic": {cfg, "0.0.0.0", "0.0.0.0/32", flow.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := c.cfg.sourceOf(netip.MustParseAddr(c.ip))
			if p.String() != c.want || suspendertest.Class(err) != c.class {
				t.Errorf("sourceOf(%s) = %s, %v; want %s, class %q", c.ip, p, err, c.want, c.class)
			}
		})
	}
	if _, err := cfg.sourceOf(netip.Addr{}); suspendertest.Class(err) != flow.ErrNotFound {
		t.Errorf("no address: %v, want not_found", err)
	}
	for _, p := range []string{"11.20.0.10/31", "11.20.0.0/16", "2608:20:0:7::/63", "2608:20:0:7::25/64", "0.0.0.0/0", "::/0"} {
		if err := cfg.guard(netip.MustParsePrefix(p)); suspendertest.Class(err) != flow.ErrDenied {
			t.Errorf("guard(%s) = %v, want denied", p, err)
		}
	}
}

func TestRules(t *testing.T) {
	src := netip.MustParsePrefix("11.20.0.10/32")
	ports := func(p ...flow.PortRule) flow.Measure {
		return flow.Measure{Kind: flow.MeasureBlockPort, Ports: p}
	}
	for name, c := range map[string]struct {
		me    flow.Measure
		want  rules
		class flow.ErrClass
	}{
		"cut":                  {flow.Measure{Kind: flow.MeasureCut}, rules{{source: src}: 0}, ""},
		"1 kbit/s is 125 B/s":  {flow.Measure{Kind: flow.MeasureLimit, KbitS: 1}, rules{{source: src}: 125}, ""},
		"100 Gbit/s":           {flow.Measure{Kind: flow.MeasureLimit, KbitS: 100_000_000}, rules{{source: src}: 12.5e9}, ""},
		"no limit":             {flow.Measure{Kind: flow.MeasureLimit}, nil, flow.ErrDenied},
		"every port of TCP":    {ports(flow.PortRule{Proto: 6}), rules{{source: src, proto: 6}: 0}, ""},
		"GRE":                  {ports(flow.PortRule{Proto: 47}), rules{{source: src, proto: 47}: 0}, ""},
		"SCTP port":            {ports(flow.PortRule{Proto: 132, Port: 5060}), rules{{source: src, proto: 132, port: 5060}: 0}, ""},
		"twice the same":       {ports(flow.PortRule{Proto: 6, Port: 22}, flow.PortRule{Proto: 6, Port: 22}), rules{{source: src, proto: 6, port: 22}: 0}, ""},
		"no ports":             {ports(), nil, flow.ErrDenied},
		"a port without proto": {ports(flow.PortRule{Port: 22}), nil, flow.ErrDenied},
		"a port of ICMP":       {ports(flow.PortRule{Proto: 1, Port: 8}), nil, flow.ErrDenied},
		"only ICMPv6 of a v4":  {ports(flow.PortRule{Proto: 58}), nil, flow.ErrUnsupported},
		"unknown":              {flow.Measure{Kind: "shout"}, nil, flow.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Config{}.withDefaults().rulesOf(src, c.me)
			if suspendertest.Class(err) != c.class {
				t.Fatalf("err = %v, want class %q", err, c.class)
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("rules = %v, want %v", got, c.want)
			}
		})
	}
}

// The tables of routers are small: one too many is refused, and says what to do.
func TestMaxRules(t *testing.T) {
	b := startBird(t, "", "")
	cfg := config(t, b.peer())
	cfg.MaxRules = 3
	reg := prometheus.NewRegistry()
	n := runAlone(t, cfg, &Deps{Registerer: reg})
	n.waitUp(t, 1)
	m := suspendertest.Mark("inc-1")
	two := flow.Measure{Kind: flow.MeasureBlockPort, Ports: ssh.Ports[:2]}
	n.restrict(t, nic4, two, m)
	_, err := n.Restrict(t.Context(), nic6, two, m)
	wantClass(t, err, flow.ErrDenied, "4 rules", "max_rules is 3")
	n.cut(t, nic6, m)             // exactly three
	n.restrict(t, nic6, limit, m) // the cut's own route: none more
	n.restrict(t, nic4, two, m)
	_, err = n.Cut(t.Context(), nic4, m)
	wantClass(t, err, flow.ErrDenied, "max_rules")
	if st, err := n.Status(t.Context(), nic4); err != nil || st.Mark != nil || len(st.Restrictions) != 1 {
		t.Errorf("Status after the refusal: %+v, %v", st, err)
	}
	for name, want := range map[string]float64{"flowcordon_bgp_rules": 3, "flowcordon_bgp_rules_limit": 3, "flowcordon_bgp_peer_up": 1} {
		if got := gauge(t, reg, name); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
}

func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name && len(f.Metric) == 1 {
			return f.Metric[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no single series %s", name)
	return 0
}

// Marks that the configuration does not allow any more are not announced, are
// counted, and can still be given back.
func TestMarksOfAnotherConfiguration(t *testing.T) {
	b := startBird(t, "", "")
	cfg := config(t, b.peer())
	n := run(t, cfg)
	m := suspendertest.Mark("inc-1")
	n.cut(t, nic4, m)
	n.cut(t, nic6, m)
	n.stop()
	cfg.OwnPrefixes = testOwn[1:]
	reg := prometheus.NewRegistry()
	n = runAlone(t, cfg, &Deps{Registerer: reg})
	n.waitUp(t, 1)
	eventually(t, "BIRD has the one that may be", func() bool { return strings.Contains(b.routes(), "2608:20:0:7::/64") })
	if strings.Contains(b.routes(), "11.20.0.10") {
		t.Error("a prefix that is not ours was announced")
	}
	if got := gauge(t, reg, "flowcordon_bgp_marks_not_announced"); got != 1 {
		t.Errorf("%v marks counted as not announced, want 1", got)
	}
	if all, err := n.Marked(t.Context()); err != nil || len(all) != 2 || all[0].Status.Cut() || !all[1].Status.Cut() {
		t.Errorf("Marked = %+v, %v; want the first not in force", all, err)
	}
	if err := n.Restore(t.Context(), nic4, m, flow.Receipt{}); err != nil {
		t.Errorf("Restore: %v", err)
	}
	if all, err := n.Marked(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("Marked after Restore = %+v, %v", all, err)
	}
}

// A tenant's prefix of another length than is configured now is still found,
// kept and given back.
func TestV6LengthChanges(t *testing.T) {
	b := startBird(t, "", "")
	cfg := config(t, b.peer())
	n := run(t, cfg)
	m := suspendertest.Mark("inc-1")
	n.cut(t, nic6, m)
	n.stop()
	for _, bits := range []int{56, 80} { // wider and narrower than the mark's 64
		cfg.V6Length = bits
		n = run(t, cfg)
		st, err := n.Status(t.Context(), nic6)
		if err != nil || st.Mark == nil || st.Cut() != (bits <= 64) {
			t.Errorf("/%d: Status = %+v, %v; want the mark, in force unless it is wider than a tenant", bits, st, err)
		}
		if _, err := n.Cut(t.Context(), nic6, suspendertest.Mark("inc-2")); suspendertest.Class(err) == "" {
			t.Errorf("/%d: cut for another incident", bits)
		}
		if bits == 80 {
			_, err := n.Cut(t.Context(), nic6, m)
			wantClass(t, err, flow.ErrDenied, "wider than one tenant")
			if err := n.Restore(t.Context(), nic6, m, flow.Receipt{}); err != nil {
				t.Error(err)
			}
			if all, err := n.Marked(t.Context()); err != nil || len(all) != 0 {
				t.Errorf("after Restore: %+v, %v", all, err)
			}
		}
		n.stop()
	}
}

// alone is a speaker whose only router does not exist.
func alone(t *testing.T) Config {
	return config(t, Peer{Address: netip.MustParseAddr("127.71.0.9"), Port: 9, AS: 64512, Local: ours})
}

func TestMarksFile(t *testing.T) {
	cfg := alone(t)
	path := cfg.marksPath()
	for name, c := range map[string]struct{ text, want string }{
		"damaged":        {`{"version":1,"sour`, "move it away"},
		"of the future":  {`{"version":2,"sources":[]}`, "version 2"},
		"another's file": {`{"rules":[]}`, "move it away"},
		"empty":          {"", "move it away"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := New(cfg, Deps{}).Run(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("Run = %v, want %q and the file's name", err, c.want)
			}
			if text, _ := os.ReadFile(path); string(text) != c.text {
				t.Errorf("the file was changed to %q", text)
			}
		})
	}
	m := marks{}
	for _, nic := range []flow.NIC{nic4, nic6} {
		p, _ := cfg.withDefaults().sourceOf(nic.IP)
		m[p] = held{Source: p, NIC: nic}.with(flow.Restriction{Measure: ssh, Mark: suspendertest.Mark("inc-1")})
	}
	if err := m.save(path); err != nil {
		t.Fatal(err)
	}
	got, err := loadMarks(path)
	if diff := cmp.Diff(m, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); err != nil || diff != "" {
		t.Errorf("read back: %v (-want +got):\n%s", err, diff)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("file: %v, %v; want mode 0600", fi.Mode(), err)
	}
}

// A mark that cannot be written must not be announced: nobody could find it
// after a restart.
func TestDiskFails(t *testing.T) {
	b := startBird(t, "", "")
	cfg := config(t, b.peer())
	cfg.Dir = filepath.Join(t.TempDir(), "marks")
	bad := cfg
	bad.Dir = filepath.Join(cfg.Dir, "in", "nothing")
	if err := New(bad, Deps{}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "dir:") {
		t.Errorf("Run without a folder = %v, want that it says so", err)
	}
	n := run(t, cfg) // which makes the last one
	m := suspendertest.Mark("inc-1")
	n.cut(t, nic4, m)
	if err := os.Rename(cfg.Dir, cfg.Dir+".away"); err != nil {
		t.Fatal(err)
	}
	_, err := n.Cut(t.Context(), nic6, m)
	wantClass(t, err, flow.ErrTransient, "write the marks")
	wantClass(t, n.Restore(t.Context(), nic4, m, flow.Receipt{}), flow.ErrTransient, "write the marks")
	if err := os.Rename(cfg.Dir+".away", cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if st, err := n.Status(t.Context(), nic4); err != nil || !st.Cut() {
		t.Errorf("first: %+v, %v; want it cut as before", st, err)
	}
	if st, err := n.Status(t.Context(), nic6); err != nil || st.Cut() || st.Mark != nil {
		t.Errorf("second: %+v, %v; want it untouched", st, err)
	}
}

// An operation that hangs is freed by its deadline, and the next one, too.
func TestHangingOperation(t *testing.T) {
	cfg := alone(t)
	cfg.Timeout = 200 * time.Millisecond
	n := runAlone(t, cfg, nil)
	n.turn <- struct{}{} // as an fsync that does not return
	for range 2 {
		_, err := n.Cut(t.Context(), nic4, suspendertest.Mark("inc-1"))
		wantClass(t, err, flow.ErrTransient, "deadline")
	}
	<-n.turn
	eventually(t, "it works again", func() bool { _, err := n.Status(t.Context(), nic4); return err == nil })
}

func TestNotRunning(t *testing.T) {
	n := New(alone(t), Deps{})
	_, err := n.Cut(t.Context(), nic4, suspendertest.Mark("inc-1"))
	wantClass(t, err, flow.ErrTransient, "not running")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Run(ctx); err != nil {
		t.Errorf("Run with an ended context: %v", err)
	}
}

func TestDescribe(t *testing.T) {
	cfg := alone(t)
	cfg.Peers[0].Password = []byte("hush")
	for name, c := range map[string]struct {
		method Method
		nic    flow.NIC
		me     flow.Measure
		want   string
	}{
		"cut": {MethodFlowSpec, nic4, flow.Measure{Kind: flow.MeasureCut},
			"BGP from AS 64512 to 127.71.0.9 (AS 64512): announce IPv4 FlowSpec: match source 11.20.0.10/32 then discard (traffic-rate 0)"},
		"port": {MethodFlowSpec, nic6, flow.Measure{Kind: flow.MeasureBlockPort, Ports: ssh.Ports[:1]},
			"BGP from AS 64512 to 127.71.0.9 (AS 64512): announce IPv6 FlowSpec: match source 2608:20:0:7::/64, protocol tcp, destination-port 22 then discard (traffic-rate 0)"},
		"limit": {MethodFlowSpec, nic4, limit,
			"BGP from AS 64512 to 127.71.0.9 (AS 64512): announce IPv4 FlowSpec: match source 11.20.0.10/32 then traffic-rate 1000000 bytes/s (8000 kbit/s)"},
		"rtbh": {MethodRTBH, nic4, flow.Measure{Kind: flow.MeasureCut},
			"BGP from AS 64512 to 127.71.0.9 (AS 64512): announce IPv4 unicast: route 11.20.0.10/32 next hop 192.0.2.1, communities 65535:666 no-export (drops what is sent to it, not what it sends)"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Method = c.method
			got, err := New(cfg, Deps{}).Describe(t.Context(), c.nic, c.me)
			if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"good":                  {func(*Config) {}, ""},
		"no name":               {func(c *Config) { c.Name = "" }, "name:"},
		"a path as name":        {func(c *Config) { c.Name = "../x" }, "name:"},
		"no dir":                {func(c *Config) { c.Dir = "" }, "dir:"},
		"no AS":                 {func(c *Config) { c.AS = 0 }, "as:"},
		"v6 router id":          {func(c *Config) { c.RouterID = netip.IPv6Loopback() }, "router_id:"},
		"no peers":              {func(c *Config) { c.Peers = nil }, "peers: missing"},
		"peer twice":            {func(c *Config) { c.Peers = append(c.Peers, c.Peers[0]) }, "peers[1].address"},
		"peer without AS":       {func(c *Config) { c.Peers[0].AS = 0 }, "peers[0].as"},
		"families mixed":        {func(c *Config) { c.Peers[0].Local = netip.IPv6Loopback() }, "different families"},
		"passive, deaf":         {func(c *Config) { c.Peers[0].Passive = true }, "peers[0].passive"},
		"iBGP multihop":         {func(c *Config) { c.Peers[0].Multihop = 2 }, "peers[0].multihop"},
		"families":              {func(c *Config) { c.Peers[0].Families = []string{"ipv4", "ipx"} }, "families[1]"},
		"ttl and multihop":      {func(c *Config) { c.Peers[0].AS, c.Peers[0].Multihop, c.Peers[0].TTLSecurity = 1, 2, true }, "ttl_security"},
		"long password":         {func(c *Config) { c.Peers[0].Password = make([]byte, 81) }, "80 bytes"},
		"no listen":             {func(c *Config) { c.ListenPort = 179 }, "listen: missing"},
		"method":                {func(c *Config) { c.Method = "magic" }, "method:"},
		"v6 length 31":          {func(c *Config) { c.V6Length = 31 }, "v6_length"},
		"v6 length 129":         {func(c *Config) { c.V6Length = 129 }, "v6_length"},
		"no prefixes":           {func(c *Config) { c.OwnPrefixes = nil }, "own_prefixes: missing"},
		"the whole net":         {func(c *Config) { c.OwnPrefixes = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} }, "wider"},
		"host bits":             {func(c *Config) { c.OwnPrefixes = []netip.Prefix{netip.MustParsePrefix("11.20.0.1/16")} }, "write 11.20.0.0/16"},
		"longer than v6_length": {func(c *Config) { c.OwnPrefixes = []netip.Prefix{netip.MustParsePrefix("2608:20::/80")} }, "longer than v6_length"},
		"require 2 of 1":        {func(c *Config) { c.RequirePeers = 2 }, "require_peers"},
		"community":             {func(c *Config) { c.Communities = []string{"65536:1"} }, "communities[0]"},
		"next hop":              {func(c *Config) { c.NextHop4 = netip.IPv6Loopback() }, "next_hop_v4"},
		"negative":              {func(c *Config) { c.Timeout = -1 }, "timeout"},
		"hold time":             {func(c *Config) { c.HoldTime = time.Second }, "hold_time"},
		"graceful":              {func(c *Config) { c.GracefulRestart = 4096 * time.Second }, "graceful_restart"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := alone(t)
			c.change(&cfg)
			err := cfg.Validate()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("Validate() = %v, want %q", err, c.want)
			}
			if c.want != "" {
				if err := New(cfg, Deps{}).Run(t.Context()); err == nil {
					t.Error("Run took it")
				}
			}
		})
	}
}
