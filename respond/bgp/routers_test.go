package bgp

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
)

var (
	ssh   = flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 6, Port: 22}, {Proto: 17, Port: 53}, {Proto: 1}, {Proto: 58}}}
	limit = flow.Measure{Kind: flow.MeasureLimit, KbitS: 8000}
)

func (n *node) cut(t *testing.T, nic flow.NIC, m flow.Mark) flow.Receipt {
	t.Helper()
	r, err := n.Cut(t.Context(), nic, m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (n *node) restrict(t *testing.T, nic flow.NIC, me flow.Measure, m flow.Mark) flow.Receipt {
	t.Helper()
	r, err := n.Restrict(t.Context(), nic, me, m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantClass(t *testing.T, err error, class flow.ErrClass, says ...string) {
	t.Helper()
	if suspendertest.Class(err) != class {
		t.Fatalf("err = %v, want class %q", err, class)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("err = %v, want it to say %q", err, s)
		}
	}
}

// Each measure arrives at both routers as the rule it stands for, and goes.
func TestRulesAtTheRouters(t *testing.T) {
	b, f := startBird(t, "", ""), startFRR(t)
	n := run(t, config(t, b.peer(), f.peer()))
	const discard = "BGP.ext_community: (generic, 0x8006fc00, 0x0)"
	for name, c := range map[string]struct {
		nic       flow.NIC
		me        flow.Measure
		bird, frr []string
	}{
		"v4 cut": {nic4, flow.Measure{Kind: flow.MeasureCut},
			[]string{"flow4 { src 11.20.0.10/32; }", discard}, []string{"Source Address 11.20.0.10/32", "FS:rate 0.000000"}},
		"v6 cut": {nic6, flow.Measure{Kind: flow.MeasureCut},
			[]string{"flow6 { src 2608:20:0:7::/64; }", discard}, []string{"Source Address 2608:20:0:7::/64", "FS:rate 0.000000"}},
		"v4 ports": {nic4, ssh, []string{
			"flow4 { src 11.20.0.10/32; proto 6; dport 22; }", "flow4 { src 11.20.0.10/32; proto 17; dport 53; }", "flow4 { src 11.20.0.10/32; proto 1; }", discard,
		}, []string{"IP Protocol = 6 Destination Port = 22 FS:rate 0.000000", "IP Protocol = 17 Destination Port = 53", "Displayed 3 flowspec entries"}},
		"v6 ports": {nic6, ssh, []string{
			"flow6 { src 2608:20:0:7::/64; next header 6; dport 22; }", "flow6 { src 2608:20:0:7::/64; next header 58; }", discard,
		}, []string{"IP Protocol = 58 FS:rate 0.000000", "Displayed 3 flowspec entries"}},
		// 8000 kbit/s are 1,000,000 bytes/s, as an IEEE 754 number 0x49742400.
		"v4 limit": {nic4, limit,
			[]string{"flow4 { src 11.20.0.10/32; }", "(generic, 0x8006fc00, 0x49742400)"}, []string{"Source Address 11.20.0.10/32 FS:rate 1000000.000000"}},
		"v6 limit": {nic6, limit,
			[]string{"flow6 { src 2608:20:0:7::/64; }", "(generic, 0x8006fc00, 0x49742400)"}, []string{"FS:rate 1000000.000000"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := suspendertest.Mark("inc-1")
			if c.me.Kind == flow.MeasureCut {
				n.cut(t, c.nic, m)
			} else {
				n.restrict(t, c.nic, c.me, m)
			}
			has := func(text string, want []string) bool {
				for _, w := range want {
					if !strings.Contains(squeeze(text), w) {
						return false
					}
				}
				return true
			}
			eventually(t, fmt.Sprintf("BIRD has %q, its table:\n%s", c.bird, b.routes()), func() bool { return has(b.routes(), c.bird) })
			eventually(t, fmt.Sprintf("FRR has %q, its table:\n%s", c.frr, f.rules()), func() bool { return has(f.rules(), c.frr) })
			var err error
			if c.me.Kind == flow.MeasureCut {
				err = n.Restore(t.Context(), c.nic, m, flow.Receipt{})
			} else {
				err = n.Lift(t.Context(), c.nic, c.me.Kind, m, flow.Receipt{})
			}
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "BIRD has nothing of us", func() bool { return !strings.Contains(b.routes(), "flow") })
			eventually(t, "FRR has nothing of us", func() bool { return !strings.Contains(f.rules(), "Source") })
		})
	}
}

// A cut and a limit match the same packets: the cut's rate stands while it
// lasts, and the limit's afterwards. Ports blocked beside them stay throughout.
func TestCutOverLimit(t *testing.T) {
	b := startBird(t, "", "")
	n := run(t, config(t, b.peer()))
	m := suspendertest.Mark("inc-1")
	n.restrict(t, nic4, ssh, m)
	n.restrict(t, nic4, limit, m)
	has := func(what, rate string) {
		t.Helper()
		eventually(t, what, func() bool {
			_, after, _ := strings.Cut(squeeze(b.routes()), "flow4 { src 11.20.0.10/32; }")
			_, after, _ = strings.Cut(after, "ext_community: ")
			return strings.HasPrefix(after, rate) && strings.Contains(b.routes(), "proto 6; dport 22;")
		})
	}
	has("the limit", "(generic, 0x8006fc00, 0x49742400)")
	r := n.cut(t, nic4, m)
	has("the cut", "(generic, 0x8006fc00, 0x0)")
	if len(r.After.Restrictions) != 2 || !r.After.Cut() {
		t.Errorf("After = %+v, want it cut with both restrictions", r.After)
	}
	if err := n.Restore(t.Context(), nic4, m, r); err != nil {
		t.Fatal(err)
	}
	has("the limit again", "(generic, 0x8006fc00, 0x49742400)")
}

// An act that no router would hear of is refused, says who is missing, and
// leaves no mark; one that was heard shows as open until the router is back.
func TestRouterGoesAndComesBack(t *testing.T) {
	b := startBird(t, "", "")
	n := run(t, config(t, b.peer()))
	m := suspendertest.Mark("inc-1")
	n.cut(t, nic4, m)
	eventually(t, "BIRD has the cut", func() bool { return strings.Contains(b.routes(), "11.20.0.10/32") })
	b.stop()
	n.waitUp(t, 0)
	st, err := n.Status(t.Context(), nic4)
	if err != nil || st.Live != flow.LinkUp || st.Config != flow.LinkDown || st.Mark == nil {
		t.Errorf("Status = %+v, %v; want live up, since no router has it, and the mark", st, err)
	}
	_, err = n.Cut(t.Context(), nic6, m)
	wantClass(t, err, flow.ErrTransient, "0 of 1", "127.71.0.2 (AS 64512)")
	_, err = n.Cut(t.Context(), nic4, m)
	wantClass(t, err, flow.ErrTransient, "127.71.0.2")
	if all, err := n.Marked(t.Context()); err != nil || len(all) != 1 || all[0].NIC.VDS != nic4.VDS {
		t.Errorf("Marked = %+v, %v; want only the first", all, err)
	}
	b.start()
	n.waitUp(t, 1)
	eventually(t, "BIRD has the cut again", func() bool { return strings.Contains(b.routes(), "11.20.0.10/32") })
	if st, err := n.Status(t.Context(), nic4); err != nil || !st.Cut() {
		t.Errorf("Status = %+v, %v; want it cut", st, err)
	}
	// What is given back while the router is away is not announced again.
	b.stop()
	n.waitUp(t, 0)
	if err := n.Restore(t.Context(), nic4, m, flow.Receipt{}); err != nil {
		t.Fatal(err)
	}
	b.start()
	n.waitUp(t, 1)
	n.cut(t, nic6, m)
	eventually(t, "BIRD has the second cut", func() bool { return strings.Contains(b.routes(), "2608:20:0:7::/64") })
	if strings.Contains(b.routes(), "11.20.0.10") {
		t.Error("what was given back was announced again")
	}
}

func TestRulesComeBackAfterAReset(t *testing.T) {
	b, f := startBird(t, "", ""), startFRR(t)
	n := run(t, config(t, b.peer(), f.peer()))
	n.cut(t, nic4, suspendertest.Mark("inc-1"))
	n.restrict(t, nic6, ssh, suspendertest.Mark("inc-2"))
	before := settled(t, n, b, f)
	b.ask("restart", "abuse")
	f.ask("clear bgp *")
	eventually(t, "both sessions lost and back", func() bool {
		return strings.Contains(b.ask("show", "protocols", "abuse"), "Established") && strings.Contains(f.rules(), "11.20.0.10")
	})
	n.waitUp(t, 2)
	if after := settled(t, n, b, f); after != before {
		t.Errorf("rules after the reset:\n%s\nwant\n%s", after, before)
	}
}

// Two routers are needed and one is away: the act is refused, and one that was
// in force does not count any more.
func TestRequirePeers(t *testing.T) {
	b, f := startBird(t, "", ""), startFRR(t)
	cfg := config(t, b.peer(), f.peer())
	cfg.RequirePeers = 2
	n := run(t, cfg)
	m := suspendertest.Mark("inc-1")
	if r := n.cut(t, nic4, m); r.Node != "127.71.0.2 127.71.0.3" {
		t.Errorf("Receipt.Node = %q, want both routers", r.Node)
	}
	n.restrict(t, nic4, ssh, m)
	f.stop()
	n.waitUp(t, 1)
	_, err := n.Cut(t.Context(), nic6, m)
	wantClass(t, err, flow.ErrTransient, "1 of 2", "127.71.0.3 (AS 64513)")
	st, err := n.Status(t.Context(), nic4)
	if err != nil || st.Cut() || len(st.Restrictions) != 0 {
		t.Errorf("Status = %+v, %v; want neither in force", st, err)
	}
	all, err := n.Marked(t.Context())
	if err != nil || len(all) != 1 || len(all[0].Status.Restrictions) != 1 || all[0].Status.Mark == nil {
		t.Errorf("Marked = %+v, %v; want the marks all the same", all, err)
	}
}

// A restart of ours announces the marks before anybody asks for them.
func TestRestartKeepsTheMarks(t *testing.T) {
	b, f := startBird(t, "", ""), startFRR(t)
	cfg := config(t, b.peer(), f.peer())
	n := run(t, cfg)
	m := suspendertest.Mark("inc-1")
	n.cut(t, nic4, m)
	n.restrict(t, nic6, ssh, m)
	n.restrict(t, nic6, limit, m)
	before := settled(t, n, b, f)
	was, _ := n.Marked(t.Context())
	n.stop()
	eventually(t, "the routes go with the sessions", func() bool {
		return !strings.Contains(b.routes(), "flow") && !strings.Contains(f.rules(), "Source")
	})
	if _, err := n.Status(t.Context(), nic4); suspendertest.Class(err) != flow.ErrTransient {
		t.Errorf("Status after the end: %v, want transient", err)
	}
	n = run(t, cfg)
	if after := settled(t, n, b, f); after != before {
		t.Errorf("rules after the restart:\n%s\nwant\n%s", after, before)
	}
	now, err := n.Marked(t.Context())
	if diff := cmp.Diff(was, now, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || diff != "" {
		t.Errorf("marks after the restart: %v (-before +after):\n%s", err, diff)
	}
	if err := n.Restore(t.Context(), nic4, m, flow.Receipt{}); err != nil {
		t.Error(err)
	}
}

// With graceful restart the router keeps the rules while we are away, and drops
// what is not announced again once we are back.
func TestGracefulRestart(t *testing.T) {
	b := startBird(t, "graceful restart on;", "")
	cfg := config(t, b.peer())
	cfg.GracefulRestart = 2 * time.Minute
	n := run(t, cfg)
	m := suspendertest.Mark("inc-1")
	n.cut(t, nic4, m)
	n.cut(t, nic6, m)
	eventually(t, "BIRD has both", func() bool {
		return strings.Contains(b.routes(), "11.20.0.10/32") && strings.Contains(b.routes(), "2608:20:0:7::/64")
	})
	n.stop()
	eventually(t, "BIRD lost the session", func() bool { return !strings.Contains(b.ask("show", "protocols", "abuse"), "Established") })
	if got := b.routes(); !strings.Contains(got, "11.20.0.10/32") || !strings.Contains(got, "2608:20:0:7::/64") {
		t.Fatalf("the rules went with the session:\n%s\n%s", got, b.ask("show", "protocols", "all", "abuse"))
	}
	path := n.cfg.marksPath() // one of them is over when we come back
	ms, err := loadMarks(path)
	if err != nil {
		t.Fatal(err)
	}
	delete(ms, netip.MustParsePrefix("2608:20:0:7::/64"))
	if err := ms.save(path); err != nil {
		t.Fatal(err)
	}
	n = run(t, cfg)
	eventually(t, "the stale rule goes", func() bool { return !strings.Contains(b.routes(), "2608:20:0:7::/64") })
	if !strings.Contains(b.routes(), "11.20.0.10/32") {
		t.Errorf("the rule that stays went, too:\n%s", b.routes())
	}
	n.cut(t, nic6, m) // and what is new arrives, too
	eventually(t, "BIRD has the new one", func() bool { return strings.Contains(b.routes(), "2608:20:0:7::/64") })
}

// The blackhole methods announce a route to the tenant, and know no ports.
func TestBlackhole(t *testing.T) {
	b, f := startBird(t, "", ""), startFRR(t)
	cfg := config(t, b.peer(), f.peer())
	cfg.Method = MethodSRTBH
	n := run(t, cfg)
	m := suspendertest.Mark("inc-1")
	n.cut(t, nic4, m)
	n.cut(t, nic6, m)
	eventually(t, "BIRD has the routes", func() bool {
		r := squeeze(b.routes())
		return strings.Contains(r, "11.20.0.10/32 blackhole") && strings.Contains(r, "2608:20:0:7::/64 blackhole") &&
			strings.Contains(r, "BGP.next_hop: 192.0.2.1") && strings.Contains(r, "BGP.next_hop: 100::1") &&
			strings.Count(r, "BGP.community: (65535,666) (65535,65281)") == 2
	})
	eventually(t, "FRR has the route", func() bool {
		r := squeeze(f.ask("show bgp ipv4 unicast 11.20.0.10/32"))
		return strings.Contains(r, "192.0.2.1") && strings.Contains(r, "Community: blackhole no-export")
	})
	t.Run("suspender", func(t *testing.T) {
		last := byte(100)
		suspendertest.Run(t, func(*testing.T) suspendertest.Fixture {
			last++
			nic := nic4
			nic.IP = netip.AddrFrom4([4]byte{11, 20, 0, last})
			missing := nic
			missing.IP = netip.MustParseAddr("12.0.0.1")
			return suspendertest.Fixture{S: n.Adapter, NIC: nic, Missing: missing}
		})
	})
	if len(n.Measures()) != 0 {
		t.Errorf("Measures = %v, want none", n.Measures())
	}
	_, err := n.Restrict(t.Context(), nic4, ssh, m)
	wantClass(t, err, flow.ErrUnsupported, "flowspec")
	// What a router sends us goes to no other one.
	if out := f.ask("show bgp ipv4 unicast"); strings.Contains(out, "77.0.0.0") {
		t.Errorf("a route of BIRD reached FRR through us:\n%s", out)
	}
	if err := n.Restore(t.Context(), nic4, m, flow.Receipt{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "BIRD has only the v6 route", func() bool {
		return !strings.Contains(b.routes(), "11.20.0.10") && strings.Contains(b.routes(), "2608:20:0:7::/64")
	})
}

// A router that is not asked to take IPv6 is no router for an IPv6 tenant.
func TestFamilies(t *testing.T) {
	b := startBird(t, "", "")
	cfg := config(t, b.peer())
	cfg.Peers[0].Families = []string{"ipv4"}
	n := run(t, cfg)
	n.cut(t, nic4, suspendertest.Mark("inc-1"))
	_, err := n.Cut(t.Context(), nic6, suspendertest.Mark("inc-1"))
	wantClass(t, err, flow.ErrTransient, "127.71.0.2 (AS 64512): takes no IPv6 FlowSpec")
}

func TestNothingIsPassedOn(t *testing.T) {
	b, f := startBird(t, "", ""), startFRR(t)
	n := run(t, config(t, b.peer(), f.peer()))
	n.cut(t, nic4, suspendertest.Mark("inc-1"))
	eventually(t, "BIRD exports its own rule to us", func() bool {
		return strings.Contains(squeeze(b.ask("show", "route", "export", "abuse", "table", "fs4")), "dst 77.0.0.0/8")
	})
	eventually(t, "FRR has ours", func() bool { return strings.Contains(f.rules(), "11.20.0.10/32") })
	if out := f.rules(); strings.Contains(out, "77.0.0.0") {
		t.Errorf("a rule of BIRD reached FRR through us:\n%s", out)
	}
}

// A router that sends its table is closed before it fills our memory, is named
// as the cause, and is tried again.
func TestTooManyRoutes(t *testing.T) {
	var routes strings.Builder
	for i := range maxReceived + 1 {
		fmt.Fprintf(&routes, "route flow4 { dst 78.%d.%d.0/24; }; ", i>>8, i&255)
	}
	b := startBird(t, "", "")
	conf, err := os.ReadFile(b.dir + "/bird.conf")
	if err != nil {
		t.Fatal(err)
	}
	n := run(t, config(t, b.peer()))
	b.write("bird.conf", strings.Replace(string(conf), "route flow4 { dst 77.0.0.0/8; };", routes.String(), 1))
	b.ask("configure")
	n.waitUp(t, 0)
	eventually(t, "the session is closed for good", func() bool {
		_, err := n.Cut(t.Context(), nic4, suspendertest.Mark("inc-1"))
		return err != nil && strings.Contains(err.Error(), "export nothing to us")
	})
	b.write("bird.conf", string(conf))
	b.ask("configure")
	n.turn <- struct{}{}
	n.revive(t.Context())
	<-n.turn
	n.waitUp(t, 1)
}

func TestPassword(t *testing.T) {
	b := startBird(t, `password "hush hush";`, "")
	right := b.peer()
	right.Password = []byte("hush hush")
	n := runAlone(t, config(t, right), nil)
	eventually(t, "the session is up", func() bool { return n.sessions(t)[0].up })
	n.cut(t, nic4, suspendertest.Mark("inc-1"))
	n.stop()
	wrong := b.peer()
	wrong.Password = []byte("not this one")
	n = runAlone(t, config(t, wrong), nil)
	time.Sleep(3 * time.Second) // as long as the right one takes, twice
	_, err := n.Cut(t.Context(), nic4, suspendertest.Mark("inc-1"))
	wantClass(t, err, flow.ErrTransient, "127.71.0.2")
	text, _ := n.Describe(t.Context(), nic4, limit)
	for _, s := range []string{"hush", "not this one"} {
		if strings.Contains(err.Error()+text+fmt.Sprint(n.sessions(t)), s) {
			t.Errorf("the password shows: %v", err)
		}
	}
}

// A router that connects to us.
func TestListening(t *testing.T) {
	d := newDaemon(t, ours) // only its free port is of use
	bin := need(t, "bird", "bird2")
	b := &bird{newDaemon(t, birdIP)}
	conf := b.write("bird.conf", fmt.Sprintf(`router id 127.71.0.2; flow4 table fs4;
protocol device { }
protocol bgp abuse { local 127.71.0.2 port %d as 64512; neighbor 127.71.0.1 port %d as 64512; strict bind yes; connect delay time 1; connect retry time 1;
  flow4 { table fs4; import all; export none; }; }`, b.port, d.port))
	b.cmdline = []string{bin, "-f", "-c", conf, "-s", b.dir + "/ctl", "-P", b.dir + "/pid"}
	cfg := config(t, b.peer())
	cfg.Peers[0].Passive = true
	cfg.Listen, cfg.ListenPort = []netip.Addr{ours}, d.port
	n := runAlone(t, cfg, nil)
	b.start()
	n.waitUp(t, 1)
	n.cut(t, nic4, suspendertest.Mark("inc-1"))
	eventually(t, "BIRD has it", func() bool { return strings.Contains(b.routes(), "11.20.0.10/32") })
	_, err := n.Cut(t.Context(), nic6, suspendertest.Mark("inc-1"))
	wantClass(t, err, flow.ErrTransient, "takes no IPv6 FlowSpec")
}
