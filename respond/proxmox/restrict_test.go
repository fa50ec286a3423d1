package proxmox

import (
	"fmt"
	"strings"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/proxmox/pvetest"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
)

var ssh = flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 6, Port: 22}}}

func TestFirewallThatIsOff(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*pvetest.Sim)
		says    string
	}{
		"the cluster's": {func(s *pvetest.Sim) { s.Fw["enable"] = "0" }, "Datacenter, Firewall, Options"},
		"never set":     {func(s *pvetest.Sim) { s.Fw = map[string]string{} }, "Datacenter, Firewall, Options"},
		"the guest's":   {func(s *pvetest.Sim) { s.Guests[100].FwOptions = nil }, "enable_firewall"},
		"the NIC's": {func(s *pvetest.Sim) {
			s.Guests[100].Conf["net0"] = strings.Replace(s.Guests[100].Conf["net0"], "firewall=1,", "", 1)
		}, "net0 has firewall=0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := pvetest.Start(t)
			s.Lock()
			c.prepare(s)
			s.Unlock()
			was := raw(s, 100)
			_, err := adapter(t, s).Restrict(t.Context(), vmNIC, ssh, suspendertest.Mark("inc-1"))
			wantClass(t, "Restrict", err, flow.ErrUnsupported)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
			if diff := cmp.Diff(was, raw(s, 100)); diff != "" {
				t.Errorf("changed although refused:\n%s", diff)
			}
		})
	}
}

// A block that somebody switched off again is not in force, whatever rules stand there.
func TestBlockThatIsNotInForce(t *testing.T) {
	for name, undo := range map[string]func(*pvetest.Sim){
		"rule disabled":        func(s *pvetest.Sim) { s.Guests[100].FwRules[0]["enable"] = "0" },
		"rule for another NIC": func(s *pvetest.Sim) { s.Guests[100].FwRules[0]["iface"] = "net1" },
		"rule made to accept":  func(s *pvetest.Sim) { s.Guests[100].FwRules[0]["action"] = "ACCEPT" },
		"rule for one address": func(s *pvetest.Sim) { s.Guests[100].FwRules[0]["dest"] = "11.0.0.1" },
		"guest's firewall off": func(s *pvetest.Sim) { s.Guests[100].FwOptions["enable"] = "0" },
		"no right to look":     func(s *pvetest.Sim) { s.Privs["Sys.Audit"] = false },
		"cluster's firewall":   func(s *pvetest.Sim) { s.Fw["enable"] = "0" },
	} {
		t.Run(name, func(t *testing.T) {
			s := pvetest.Start(t)
			a, m := adapter(t, s), suspendertest.Mark("inc-1")
			if _, err := a.Restrict(t.Context(), vmNIC, ssh, m); err != nil {
				t.Fatal(err)
			}
			if st, err := a.Status(t.Context(), vmNIC); err != nil || len(st.Restrictions) != 1 {
				t.Fatalf("Status = %+v, %v, want the block", st, err)
			}
			s.Lock()
			undo(s)
			s.Unlock()
			if st, err := a.Status(t.Context(), vmNIC); err != nil || len(st.Restrictions) != 0 {
				t.Errorf("Status = %+v, %v, want no block in force", st, err)
			}
		})
	}
}

func TestEnableFirewall(t *testing.T) {
	for name, prepare := range map[string]map[string]string{
		"never set up":          nil,
		"switched off":          {"enable": "0"},
		"policies prepared":     {"enable": "0", "policy_in": "DROP", "policy_out": "REJECT", "log_level_in": "info"},
		"a MAC filter prepared": {"enable": "0", "macfilter": "1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := pvetest.Start(t)
			s.Edit(100, func(g *pvetest.Guest) {
				g.FwOptions = prepare
				g.Conf["net1"] = "e1000=BC:24:11:AA:10:02,bridge=vmbr1,firewall=1"
			})
			was := raw(s, 100)
			a, m := adapter(t, s, func(c *Config) { c.EnableFirewall = true }), suspendertest.Mark("inc-1")
			r, err := a.Restrict(t.Context(), vmNIC, ssh, m)
			if err != nil {
				t.Fatal(err)
			}
			s.Edit(100, func(g *pvetest.Guest) {
				o := g.FwOptions
				if o["enable"] != "1" || o["policy_in"] != "ACCEPT" || o["policy_out"] != "ACCEPT" || o["macfilter"] != "0" {
					t.Errorf("options = %v: the guest would be cut", o)
				}
			})
			second := vmNIC
			second.MAC = "bc:24:11:aa:10:02"
			r2, err := a.Restrict(t.Context(), second, ssh, m)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Lift(t.Context(), vmNIC, flow.MeasureBlockPort, m, r); err != nil {
				t.Fatal(err)
			}
			if st, err := a.Status(t.Context(), second); err != nil || len(st.Restrictions) != 1 {
				t.Errorf("the other NIC: %+v, %v, want its block still in force", st, err)
			}
			if err := a.Lift(t.Context(), second, flow.MeasureBlockPort, m, r2); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(was, raw(s, 100)); diff != "" {
				t.Errorf("after both lifts (-before +after):\n%s", diff)
			}
		})
	}
	t.Run("rules of somebody else's wait there", func(t *testing.T) {
		s := pvetest.Start(t)
		s.Edit(100, func(g *pvetest.Guest) { g.FwOptions, g.FwRules = nil, ownRules() })
		a := adapter(t, s, func(c *Config) { c.EnableFirewall = true })
		_, err := a.Restrict(t.Context(), vmNIC, ssh, suspendertest.Mark("inc-1"))
		wantClass(t, "Restrict", err, flow.ErrUnsupported)
	})
}

// Rules are addressed by position: one that is added in the same moment must
// not make us delete somebody else's.
func TestRuleRace(t *testing.T) {
	s := pvetest.Start(t)
	s.Edit(100, func(g *pvetest.Guest) { g.FwRules = ownRules() })
	a, m := adapter(t, s), suspendertest.Mark("inc-1")
	r, err := a.Restrict(t.Context(), vmNIC, ssh, m)
	if err != nil {
		t.Fatal(err)
	}
	before(s, func(method, _ string) *pvetest.Fault {
		if method == "DELETE" {
			s.Before = nil
			g := s.Guests[100]
			g.FwRules = append([]map[string]string{{"type": "in", "action": "DROP", "enable": "1", "comment": "new"}}, g.FwRules...)
		}
		return nil
	})
	if err := a.Lift(t.Context(), vmNIC, flow.MeasureBlockPort, m, r); err != nil {
		t.Fatal(err)
	}
	s.Edit(100, func(g *pvetest.Guest) {
		var got []string
		for _, r := range g.FwRules {
			got = append(got, r["comment"])
		}
		if diff := cmp.Diff([]string{"new", "admin", "no mail # from here"}, got); diff != "" {
			t.Errorf("rules left (-want +got):\n%s", diff)
		}
	})
}

func TestManyPorts(t *testing.T) {
	s := pvetest.Start(t)
	a, m := adapter(t, s), suspendertest.Mark("inc-1")
	me := flow.Measure{Kind: flow.MeasureBlockPort}
	for p := range uint16(40) {
		me.Ports = append(me.Ports, flow.PortRule{Proto: 6, Port: 1000 + p})
	}
	me.Ports = append(me.Ports, flow.PortRule{Proto: 17}, flow.PortRule{Proto: 17, Port: 53}, flow.PortRule{Proto: 47})
	r, err := a.Restrict(t.Context(), vmNIC, me, m)
	if err != nil {
		t.Fatal(err)
	}
	in, _ := r.After.Restricted(flow.MeasureBlockPort)
	if len(in.Measure.Ports) != 42 { // UDP/53 is in all of UDP
		t.Errorf("%d ports read back: %v, want 40 of TCP, all of UDP, GRE", len(in.Measure.Ports), in.Measure.Ports)
	}
	s.Edit(100, func(g *pvetest.Guest) {
		if len(g.FwRules) != 5 { // 15 + 15 + 10, udp, 47
			t.Errorf("%d rules, want 5", len(g.FwRules))
		}
	})
}

func TestLimit(t *testing.T) {
	m := suspendertest.Mark("inc-1")
	limit := func(kbit uint64) flow.Measure { return flow.Measure{Kind: flow.MeasureLimit, KbitS: kbit} }
	t.Run("a tighter one of the guest's stays", func(t *testing.T) {
		s := pvetest.Start(t)
		s.Edit(100, func(g *pvetest.Guest) {
			g.Conf["net0"] = strings.Replace(g.Conf["net0"], "queues=4,", "queues=4,rate=0.5,", 1)
		})
		was := raw(s, 100)
		a := adapter(t, s)
		r, err := a.Restrict(t.Context(), vmNIC, limit(16000), m)
		if err != nil {
			t.Fatal(err)
		}
		if in, _ := r.After.Restricted(flow.MeasureLimit); in.Measure.KbitS != 4194 {
			t.Errorf("in force: %d kbit/s, want the guest's own 4194", in.Measure.KbitS)
		}
		if err := a.Lift(t.Context(), vmNIC, flow.MeasureLimit, m, r); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(was, raw(s, 100)); diff != "" {
			t.Errorf("after the lift (-before +after):\n%s", diff)
		}
	})
	t.Run("one that somebody sets meanwhile stays", func(t *testing.T) {
		s := pvetest.Start(t)
		a := adapter(t, s)
		r, err := a.Restrict(t.Context(), vmNIC, limit(16000), m)
		if err != nil {
			t.Fatal(err)
		}
		s.Edit(100, func(g *pvetest.Guest) { g.Conf["net0"] = parseNet(g.Conf["net0"]).with("rate", "30").String() })
		if st, err := a.Status(t.Context(), vmNIC); err != nil || len(st.Restrictions) != 0 {
			t.Errorf("Status = %+v, %v: ours is not in force", st, err)
		}
		if err := a.Lift(t.Context(), vmNIC, flow.MeasureLimit, m, r); err != nil {
			t.Fatal(err)
		}
		if got := parseNet(conf(s, 100, "net0")).get("rate"); got != "30" {
			t.Errorf("rate = %s, want the 30 that somebody set", got)
		}
		if got := conf(s, 100, "description"); strings.Contains(got, noteStart) {
			t.Errorf("the mark is still there: %q", got)
		}
	})
}

func TestRates(t *testing.T) {
	for kbit, rate := range map[uint64]string{
		1: "0.000119", 8: "0.000954", 1000: "0.119209", 8000: "0.953674", 16000: "1.907349", 100_000: "11.920929", 10_000_000: "1192.092896",
	} {
		if got := rateOf(kbit); got != rate {
			t.Errorf("rateOf(%d) = %s, want %s", kbit, got, rate)
		}
		if got := kbitOf(rate); got != kbit {
			t.Errorf("kbitOf(%s) = %d, want %d", rate, got, kbit)
		}
	}
	for kbit := uint64(1); kbit < 1e8; kbit += kbit/7 + 1 {
		if got := kbitOf(rateOf(kbit)); got != kbit {
			t.Errorf("%d kbit/s comes back as %d", kbit, got)
		}
	}
	for _, none := range []string{"", "0", "-1", "x", "NaN", "1e300"} {
		if got := kbitOf(none); got != 0 {
			t.Errorf("kbitOf(%q) = %d, want 0", none, got)
		}
	}
}

func TestNotes(t *testing.T) {
	n := note{Kind: flow.MeasureCut, MAC: "bc:24:11:aa:10:01", Guest: 100, Mark: suspendertest.Mark("inc-1"), Undo: undo{Link: "1"}}
	for _, text := range []string{
		"", "one line\n", "two\nlines\n", "no newline at the end", "\n\nspace\n\n", "[flowcordon] of a person's: {hand}\n",
		"[flowcordon] {\"kind\":1}\n", "кириллица\n", "a: {\"mac\":\"bc:24:11:aa:10:01\"}\n",
	} {
		joined, err := joinNotes(text, []note{n})
		if err != nil {
			t.Fatal(err)
		}
		rest, notes := splitNotes(joined)
		want := text
		if want != "" && !strings.HasSuffix(want, "\n") {
			want += "\n" // as the server itself would have stored it
		}
		if rest != want {
			t.Errorf("%q comes back as %q", text, rest)
		}
		if diff := cmp.Diff([]note{n}, notes); diff != "" {
			t.Errorf("%q: notes (-want +got):\n%s", text, diff)
		}
	}
}

// Whatever stands in notes, NICs and comments: no panic, and what is not ours
// comes back as it was.
func FuzzTexts(f *testing.F) {
	n := note{Kind: flow.MeasureLimit, MAC: "bc:24:11:aa:10:01", Guest: 1, Mark: flow.Mark{Incident: "i"}}
	f.Add(n.line() + "\ntext")
	f.Add("virtio=BC:24:11:AA:10:01,bridge=vmbr0,link_down=1,,=,x")
	f.Add(ruleMark{MAC: "x", Mark: flow.Mark{Incident: "ж\U0001F600"}}.comment())
	f.Fuzz(func(t *testing.T, s string) {
		rest, notes := splitNotes(s)
		if len(notes) == 0 && rest != s {
			t.Errorf("%q comes back as %q", s, rest)
		}
		d := parseNet(s)
		if a := parseNet(d.String()); a.String() != d.String() {
			t.Errorf("netN %q is not stable: %q, %q", s, d, a)
		}
		if x := d.with("link_down", "1"); !x.down() || x.with("link_down", "").get("link_down") != "" {
			t.Errorf("%q: link_down cannot be set and taken away", s)
		}
		_, _ = rule{Comment: s, Proto: s, DPort: text(s), Type: "out", Action: "DROP", Enable: "1"}.blocks("")
		if m, ok := (rule{Comment: s}).mark(); ok && strings.ContainsAny(m.comment(), "\n\r") {
			t.Error("a comment of two lines")
		}
	})
}

func TestValidate(t *testing.T) {
	good := Config{Name: "pve", URLs: []string{"https://node1:8006"}, Token: "abuse@pve!fc=00000000-0000-0000-0000-000000000000"}
	if err := good.Validate(); err != nil {
		t.Fatalf("a good configuration: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no name":           {func(c *Config) { c.Name = "" }, "name: missing"},
		"no urls":           {func(c *Config) { c.URLs = nil }, "urls: missing"},
		"http":              {func(c *Config) { c.URLs = []string{"http://node1:8006"} }, "urls[0]"},
		"a path":            {func(c *Config) { c.URLs = append(c.URLs, "https://node2:8006/api2/json") }, "urls[1]"},
		"a password":        {func(c *Config) { c.Token = "root@pam:secret" }, "token:"},
		"no secret":         {func(c *Config) { c.Token = "abuse@pve!fc=" }, "token:"},
		"half a pin":        {func(c *Config) { c.Fingerprints = []string{"AA:BB"} }, "fingerprints[0]"},
		"a pin and a CA":    {func(c *Config) { c.Fingerprints, c.CAFile = []string{strings.Repeat("ab", 32)}, "/x" }, "write only one"},
		"no such CA":        {func(c *Config) { c.CAFile = "/nonexistent/ca.pem" }, "ca_file"},
		"negative deadline": {func(c *Config) { c.Timeout = -1 }, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			err := cfg.Validate()
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Validate = %v, want it to say %q", err, c.says)
			}
			if s := fmt.Sprint(err); strings.Contains(s, "pam:secret") {
				t.Errorf("the error tells the token: %s", s)
			}
		})
	}
}
