package proxmox

import (
	"context"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/proxmox/pvetest"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
)

var (
	vmNIC = flow.NIC{VDS: "vds-1001", Hypervisor: "pve", MAC: "bc:24:11:aa:10:01", IP: netip.MustParseAddr("11.7.0.10")}
	ctNIC = flow.NIC{VDS: "200", Hypervisor: "pve", MAC: "bc:24:11:bb:20:01", IP: netip.MustParseAddr("11.8.0.20")}
)

func adapter(t testing.TB, s *pvetest.Sim, change ...func(*Config)) *Adapter {
	t.Helper()
	cfg := Config{
		Name: "pve", URLs: []string{s.URL()}, Token: pvetest.Token, Fingerprints: []string{s.Fingerprint()}, Timeout: 30 * time.Second,
	}
	for _, f := range change {
		f(&cfg)
	}
	a := New(cfg, Deps{})
	t.Cleanup(func() {
		if h, err := a.api.http(); err == nil {
			h.CloseIdleConnections()
		}
	})
	return a
}

func raw(s *pvetest.Sim, id int) string {
	s.Lock()
	defer s.Unlock()
	return s.Guests[id].Raw()
}

func fixture(nic flow.NIC, id int, prepare func(*pvetest.Sim)) func(t *testing.T) suspendertest.Fixture {
	return func(t *testing.T) suspendertest.Fixture {
		s := pvetest.Start(t)
		if prepare != nil {
			s.Lock()
			prepare(s)
			s.Unlock()
		}
		missing := nic
		missing.VDS, missing.MAC = "vds-none", "bc:24:11:ff:ff:ff"
		return suspendertest.Fixture{
			S: adapter(t, s), NIC: nic, Missing: missing,
			Raw:     func(*testing.T) string { return raw(s, id) },
			Secrets: []string{pvetest.Secret, pvetest.Token},
		}
	}
}

func TestConformance(t *testing.T) {
	type fresh = func(t *testing.T) suspendertest.Fixture
	guest := func(change func(g *pvetest.Guest)) func(*pvetest.Sim) {
		return func(s *pvetest.Sim) { change(s.Guests[100]) }
	}
	for name, c := range map[string]struct {
		f   fresh
		all bool // every suite; else that of the cut alone
	}{
		"a running VM":          {fixture(vmNIC, 100, nil), true},
		"a running CT":          {fixture(ctNIC, 200, nil), true},
		"a rate and rules":      {fixture(vmNIC, 100, guest(withRate)), true},
		"a CT with rules":       {fixture(ctNIC, 200, func(s *pvetest.Sim) { s.Guests[200].FwRules = ownRules() }), true},
		"a stopped VM":          {fixture(vmNIC, 100, guest(func(g *pvetest.Guest) { g.Running = false })), false},
		"without any notes":     {fixture(vmNIC, 100, guest(func(g *pvetest.Guest) { delete(g.Conf, "description") })), false},
		"no NIC hotplug":        {fixture(vmNIC, 100, guest(func(g *pvetest.Guest) { g.HotplugNet = false })), false},
		"tasks that go on":      {fixture(vmNIC, 100, func(s *pvetest.Sim) { s.SlowTasks = 2 }), false},
		"an older version":      {fixture(vmNIC, 100, func(s *pvetest.Sim) { s.OldErrors = true }), false},
		"two NICs of one model": {fixture(vmNIC, 100, guest(func(g *pvetest.Guest) { g.Conf["net10"] = "virtio=BC:24:11:AA:10:10,bridge=vmbr0" })), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("suspender", func(t *testing.T) { suspendertest.Run(t, c.f) })
			if !c.all {
				return
			}
			t.Run("restrictor", func(t *testing.T) { suspendertest.RunRestrictor(t, c.f) })
			t.Run("lister", func(t *testing.T) { suspendertest.RunLister(t, c.f) })
			t.Run("describer", func(t *testing.T) { suspendertest.RunDescriber(t, c.f) })
		})
	}
}

func withRate(g *pvetest.Guest) {
	g.Conf["net0"] = strings.Replace(g.Conf["net0"], "queues=4,", "queues=4,rate=50,", 1)
	g.FwRules = ownRules()
}

func ownRules() []map[string]string {
	return []map[string]string{
		{"type": "in", "action": "ACCEPT", "enable": "1", "proto": "tcp", "dport": "22", "comment": "admin"},
		{"type": "out", "action": "DROP", "enable": "1", "proto": "tcp", "dport": "25", "comment": "no mail # from here"},
	}
}

// The check of the simulator's own requests against the API's schema runs in
// every test where the schema is at hand; this says when it is not.
func TestOracle(t *testing.T) {
	if pvetest.OracleFile() == "" {
		t.Skip("no apidoc.js: set FLOWCORDON_PVE_APIDOC to that of a Proxmox VE node " +
			"(/usr/share/pve-docs/api-viewer/apidoc.js); the table in pvetest/schema.go alone was checked against")
	}
	if s := pvetest.Start(t); len(s.Methods) < 300 {
		t.Errorf("%s has %d methods, want some 600", pvetest.OracleFile(), len(s.Methods))
	}
}

func mustCut(t *testing.T, a *Adapter, nic flow.NIC, m flow.Mark) flow.Receipt {
	t.Helper()
	r, err := a.Cut(t.Context(), nic, m)
	if err != nil {
		t.Fatalf("Cut: %v", err)
	}
	return r
}

func wantClass(t *testing.T, what string, err error, want flow.ErrClass) {
	t.Helper()
	if got := suspendertest.Class(err); got != want {
		t.Errorf("%s: class %q (%v), want %q", what, got, err, want)
	}
}

func conf(s *pvetest.Sim, id int, key string) string {
	s.Lock()
	defer s.Unlock()
	return s.Guests[id].Conf[key]
}

func TestWhatIsWritten(t *testing.T) {
	s := pvetest.Start(t)
	a, m := adapter(t, s), suspendertest.Mark("inc-1")
	r := mustCut(t, a, vmNIC, m)
	if got, want := conf(s, 100, "net0"), "virtio=BC:24:11:AA:10:01,bridge=vmbr0,firewall=1,link_down=1,queues=4,tag=101,trunks=200;300-310"; got != want {
		t.Errorf("net0 = %s, want %s", got, want)
	}
	if got, want := conf(s, 100, "net1"), "e1000=BC:24:11:AA:10:02,bridge=vmbr1"; got != want {
		t.Errorf("net1 = %s, want it left alone", got)
	}
	text := conf(s, 100, "description")
	if !strings.HasPrefix(text, "Customer c-42\nno backups, *please*\n[flowcordon] the network is cut for incident inc-1") {
		t.Errorf("the notes are %q, want the user's text and our line behind it", text)
	}
	// The controller comes each minute: nothing is written where all is as wanted.
	s.Lock()
	s.Calls = nil
	s.Unlock()
	mustCut(t, a, vmNIC, m)
	if len(s.Calls) != 0 {
		t.Errorf("a repeat wrote %q", s.Calls)
	}
	if err := a.Restore(t.Context(), vmNIC, m, r); err != nil {
		t.Fatal(err)
	}
	if got, want := conf(s, 100, "description"), "Customer c-42\nno backups, *please*\n"; got != want {
		t.Errorf("the notes are %q after the restore, want %q", got, want)
	}
}

func TestAdminDownStaysDown(t *testing.T) {
	s := pvetest.Start(t)
	s.Guests[100].Conf["net0"] = "virtio=BC:24:11:AA:10:01,bridge=vmbr0,link_down=1"
	before := raw(s, 100)
	a, m := adapter(t, s), suspendertest.Mark("inc-1")
	r := mustCut(t, a, vmNIC, m)
	if err := a.Restore(t.Context(), vmNIC, m, r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, raw(s, 100)); diff != "" {
		t.Errorf("after the restore (-before +after):\n%s", diff)
	}
}

// A change of the MAC that waits for the next start must not save the NIC from
// the cut, and the cut must not lose it.
func TestPendingChange(t *testing.T) {
	for name, prepare := range map[string]func(*pvetest.Guest){
		"another MAC": func(g *pvetest.Guest) {
			g.Pending = map[string]string{"net0": "virtio=BC:24:11:AA:99:99,bridge=vmbr0,firewall=1,queues=4,tag=101,trunks=200;300-310"}
		},
		"another number of queues": func(g *pvetest.Guest) {
			g.Pending = map[string]string{"net0": "virtio=BC:24:11:AA:10:01,bridge=vmbr0,firewall=1,queues=8,tag=101,trunks=200;300-310"}
		},
		"its removal": func(g *pvetest.Guest) {
			g.Delete = map[string]bool{"net0": true}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := pvetest.Start(t)
			s.Edit(100, func(g *pvetest.Guest) {
				g.HotplugNet, g.Pending, g.Delete = false, map[string]string{}, map[string]bool{}
				prepare(g)
			})
			before := raw(s, 100)
			a, m := adapter(t, s), suspendertest.Mark("inc-1")
			r := mustCut(t, a, vmNIC, m)
			s.Edit(100, func(g *pvetest.Guest) {
				if !strings.Contains(g.Conf["net0"], "link_down=1") {
					t.Errorf("in effect: %s, want it down", g.Conf["net0"])
				}
				if p, ok := g.Pending["net0"]; !g.Delete["net0"] && (!ok || !strings.Contains(p, "link_down=1")) {
					t.Errorf("at the next start: %q, want the change kept, and down", p)
				}
			})
			if st, err := a.Status(t.Context(), vmNIC); err != nil || !st.Cut() {
				t.Errorf("Status = %+v, %v, want it cut", st, err)
			}
			if err := a.Restore(t.Context(), vmNIC, m, r); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, raw(s, 100)); diff != "" {
				t.Errorf("after the restore (-before +after):\n%s", diff)
			}
		})
	}
}

// The same, broken off between the two writes, or disturbed there by somebody
// else's change.
func TestPendingChangeBrokenOff(t *testing.T) {
	m := suspendertest.Mark("inc-1")
	for name, prepare := range map[string]func(*pvetest.Guest){
		"another MAC": func(g *pvetest.Guest) {
			g.Pending = map[string]string{"net0": strings.Replace(g.Conf["net0"], "BC:24:11:AA:10:01", "BC:24:11:AA:99:99", 1)}
		},
		"its removal": func(g *pvetest.Guest) { g.Delete = map[string]bool{"net0": true} },
	} {
		for how, fault := range map[string]func(s *pvetest.Sim) *pvetest.Fault{
			"fails":           func(*pvetest.Sim) *pvetest.Fault { return &pvetest.Fault{Code: 500, Text: "got timeout"} },
			"fails afterward": func(*pvetest.Sim) *pvetest.Fault { return &pvetest.Fault{After: true, Code: 500, Text: "got timeout"} },
			"meets another": func(s *pvetest.Sim) *pvetest.Fault {
				s.Guests[100].Conf["memory"] = "4096"
				return nil
			},
		} {
			t.Run(name+", the second write "+how, func(t *testing.T) {
				s := pvetest.Start(t)
				s.Edit(100, func(g *pvetest.Guest) {
					g.HotplugNet, g.Pending, g.Delete = false, map[string]string{}, map[string]bool{}
					delete(g.Conf, "description")
					if how == "meets another" {
						g.Conf["memory"] = "4096 " // so that only the digest differs in the end
					}
					prepare(g)
				})
				was := strings.ReplaceAll(raw(s, 100), "4096 ", "4096")
				a := adapter(t, s)
				again := func(what string, op func() error) {
					writes := 0
					before(s, func(method, path string) *pvetest.Fault {
						if isConfigWrite(method, path) {
							if writes++; writes == 2 {
								return fault(s)
							}
						}
						return nil
					})
					err := op()
					if err != nil {
						before(s, nil)
						err = op()
					}
					if err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					before(s, nil)
				}
				var r flow.Receipt
				again("Cut", func() (err error) { r, err = a.Cut(t.Context(), vmNIC, m); return err })
				s.Edit(100, func(g *pvetest.Guest) {
					if p := g.Pending["net0"]; !g.Delete["net0"] && !strings.Contains(p, "AA:99:99") {
						t.Errorf("the change that waited is lost: %q", p)
					}
					if strings.Contains(g.Conf["description"], `"held"`) {
						t.Errorf("still held: %s", g.Conf["description"])
					}
				})
				if st, err := a.Status(t.Context(), vmNIC); err != nil || !st.Cut() {
					t.Errorf("Status = %+v, %v, want it cut", st, err)
				}
				s.Edit(100, func(g *pvetest.Guest) {
					if how == "meets another" {
						g.Conf["memory"] = "4096 "
					}
				})
				again("Restore", func() error { return a.Restore(t.Context(), vmNIC, m, r) })
				if diff := cmp.Diff(was, raw(s, 100)); diff != "" {
					t.Errorf("after the restore (-before +after):\n%s", diff)
				}
			})
		}
	}
}

// An inventory that knows the MAC of the next start already finds the NIC, and
// both sides are cut.
func TestPendingMAC(t *testing.T) {
	s := pvetest.Start(t)
	s.Edit(100, func(g *pvetest.Guest) {
		g.HotplugNet = false
		g.Pending = map[string]string{"net0": strings.Replace(g.Conf["net0"], "BC:24:11:AA:10:01", "BC:24:11:AA:99:99", 1)}
	})
	before := raw(s, 100)
	a, m := adapter(t, s), suspendertest.Mark("inc-1")
	next := vmNIC
	next.MAC = "bc:24:11:aa:99:99"
	r := mustCut(t, a, next, m)
	if st, err := a.Status(t.Context(), next); err != nil || !st.Cut() || st.Mark == nil {
		t.Errorf("Status = %+v, %v, want it cut", st, err)
	}
	if all, err := a.Marked(t.Context()); err != nil || len(all) != 1 || all[0].NIC.MAC != next.MAC {
		t.Errorf("Marked = %+v, %v", all, err)
	}
	if err := a.Restore(t.Context(), next, m, r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, raw(s, 100)); diff != "" {
		t.Errorf("after the restore (-before +after):\n%s", diff)
	}
}

// A snapshot from before the cut brings link and notes back with it: that
// shows as neither cut nor marked, and the next cut begins anew.
func TestRolledBack(t *testing.T) {
	s := pvetest.Start(t)
	before := raw(s, 100)
	s.Lock()
	snapshot := maps.Clone(s.Guests[100].Conf)
	s.Unlock()
	a, m := adapter(t, s), suspendertest.Mark("inc-1")
	mustCut(t, a, vmNIC, m)
	s.Edit(100, func(g *pvetest.Guest) { g.Conf = snapshot })
	if st, err := a.Status(t.Context(), vmNIC); err != nil || st.Cut() || st.Mark != nil {
		t.Errorf("Status = %+v, %v, want it up and unmarked", st, err)
	}
	r := mustCut(t, a, vmNIC, m)
	if err := a.Restore(t.Context(), vmNIC, m, r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, raw(s, 100)); diff != "" {
		t.Errorf("after the restore (-before +after):\n%s", diff)
	}
}

// What others change while the NIC is cut stays when it is given back.
func TestChangedMeanwhile(t *testing.T) {
	s := pvetest.Start(t)
	a, m := adapter(t, s), suspendertest.Mark("inc-1")
	r := mustCut(t, a, vmNIC, m)
	s.Edit(100, func(g *pvetest.Guest) {
		g.Conf["net0"] = strings.Replace(g.Conf["net0"], "tag=101", "tag=102", 1)
		g.Conf["description"] = "moved to VLAN 102\n" + g.Conf["description"]
	})
	if err := a.Restore(t.Context(), vmNIC, m, r); err != nil {
		t.Fatal(err)
	}
	if got, want := conf(s, 100, "net0"), "virtio=BC:24:11:AA:10:01,bridge=vmbr0,firewall=1,queues=4,tag=102,trunks=200;300-310"; got != want {
		t.Errorf("net0 = %s, want %s", got, want)
	}
	if got, want := conf(s, 100, "description"), "moved to VLAN 102\nCustomer c-42\nno backups, *please*\n"; got != want {
		t.Errorf("notes = %q, want %q", got, want)
	}
}

// A panel that writes the notes anew takes the mark away. The next cut marks
// again; that it then finds the link down must not make it stay so.
func TestMarkLost(t *testing.T) {
	s := pvetest.Start(t)
	before := raw(s, 100)
	a, m := adapter(t, s), suspendertest.Mark("inc-1")
	first := mustCut(t, a, vmNIC, m)
	s.Edit(100, func(g *pvetest.Guest) { g.Conf["description"] = "Customer c-42\nno backups, *please*\n" })
	wantClass(t, "Restore without a mark", a.Restore(t.Context(), vmNIC, m, first), flow.ErrConflict)
	mustCut(t, a, vmNIC, m)
	if err := a.Restore(t.Context(), vmNIC, m, first); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, raw(s, 100)); diff != "" {
		t.Errorf("after the restore (-before +after):\n%s", diff)
	}
}

// A clone carries the notes of the guest that it was made of, and no cut.
func TestCloneIsNotMarked(t *testing.T) {
	s := pvetest.Start(t)
	a := adapter(t, s)
	mustCut(t, a, vmNIC, suspendertest.Mark("inc-1"))
	s.Edit(100, func(g *pvetest.Guest) {
		s.Guests[101] = &pvetest.Guest{Type: "qemu", Node: "pve1", Running: true, Conf: map[string]string{
			"name": "vds-1002", "net0": "virtio=BC:24:11:AA:10:01,bridge=vmbr0", "description": g.Conf["description"],
		}}
	})
	st, err := a.Status(t.Context(), flow.NIC{VDS: "101", MAC: vmNIC.MAC})
	if err != nil || st.Mark != nil || st.Cut() {
		t.Errorf("the clone: %+v, %v, want it up and unmarked", st, err)
	}
	all, err := a.Marked(t.Context())
	if err != nil || len(all) != 1 || all[0].NIC.VDS != "100" {
		t.Errorf("Marked = %+v, %v, want guest 100 alone", all, err)
	}
}

func TestFullNotes(t *testing.T) {
	s := pvetest.Start(t)
	a := adapter(t, s)
	s.Edit(100, func(g *pvetest.Guest) { g.Conf["description"] = strings.Repeat("ж", 7500) + "\n" })
	m := suspendertest.Mark("inc-1")
	m.Reason = strings.Repeat("очень ", 200)
	r := mustCut(t, a, vmNIC, m)
	if err := a.Restore(t.Context(), vmNIC, m, r); err != nil {
		t.Fatal(err)
	}
	s.Edit(100, func(g *pvetest.Guest) { g.Conf["description"] = strings.Repeat("ж", 8190) + "\n" })
	_, err := a.Cut(t.Context(), vmNIC, m)
	wantClass(t, "Cut with full notes", err, flow.ErrUnsupported)
}

func TestFind(t *testing.T) {
	s := pvetest.Start(t)
	a := adapter(t, s)
	s.Edit(100, func(g *pvetest.Guest) {
		s.Guests[300] = &pvetest.Guest{Type: "qemu", Node: "pve2", Conf: map[string]string{"name": "vds-1001", "net0": "virtio=BC:24:11:CC:00:01,bridge=vmbr0"}}
	})
	for name, c := range map[string]struct {
		nic  flow.NIC
		want flow.ErrClass
	}{
		"by VMID":                        {flow.NIC{VDS: "100", MAC: "BC-24-11-AA-10-01"}, ""},
		"by name, told apart by the MAC": {flow.NIC{VDS: "vds-1001", MAC: "bc:24:11:cc:00:01"}, ""},
		"the only NIC":                   {flow.NIC{VDS: "200"}, ""},
		"by cloud-init's address":        {flow.NIC{VDS: "100", IP: netip.MustParseAddr("11.7.0.10")}, ""},
		"by its IPv6 address":            {flow.NIC{VDS: "100", IP: netip.MustParseAddr("2608:7::10")}, ""},
		"a neighbour's address":          {flow.NIC{VDS: "100", IP: netip.MustParseAddr("11.7.0.11")}, flow.ErrNotFound},
		"rebuilt with another MAC":       {flow.NIC{VDS: "100", MAC: "bc:24:11:00:00:01"}, flow.ErrNotFound},
		"another guest's MAC":            {flow.NIC{VDS: "200", MAC: vmNIC.MAC}, flow.ErrNotFound},
		"no such guest":                  {flow.NIC{VDS: "999", MAC: vmNIC.MAC}, flow.ErrNotFound},
		"no vds":                         {flow.NIC{MAC: vmNIC.MAC}, flow.ErrNotFound},
		"a MAC that is none":             {flow.NIC{VDS: "100", MAC: "10.0.0.1"}, flow.ErrNotFound},
		"two of that name, no MAC":       {flow.NIC{VDS: "vds-1001", IP: vmNIC.IP}, flow.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Status(context.Background(), c.nic)
			wantClass(t, "Status", err, c.want)
		})
	}
}
