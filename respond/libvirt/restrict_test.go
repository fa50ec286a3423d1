package libvirt

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/e2e/lab"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
)

var ssh = flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 6, Port: 22}, {Proto: 58}}}

func (e *env) restrict(me flow.Measure, incident string) flow.Receipt {
	e.t.Helper()
	r, err := e.a.Restrict(e.t.Context(), e.nic, me, suspendertest.Mark(incident))
	if err != nil {
		e.t.Fatalf("Restrict: %v", err)
	}
	return r
}

func (e *env) lift(kind flow.MeasureKind, incident string) {
	e.t.Helper()
	if err := e.a.Lift(e.t.Context(), e.nic, kind, suspendertest.Mark(incident), flow.Receipt{}); err != nil {
		e.t.Fatalf("Lift: %v", err)
	}
}

// wantForce compares what of the measure is in force; incident empty: no mark.
func (e *env) wantForce(what string, want flow.Measure, incident string) {
	e.t.Helper()
	st, err := e.a.Status(e.t.Context(), e.nic)
	if err != nil {
		e.t.Fatalf("%s: Status: %v", what, err)
	}
	got, ok := st.Restricted(want.Kind)
	if got.Mark.Incident != incident || ok != (incident != "") {
		e.t.Errorf("%s: marked %t for %q, want %q", what, ok, got.Mark.Incident, incident)
	}
	if !ok {
		return
	}
	if diff := cmp.Diff(want, got.Measure); diff != "" {
		e.t.Errorf("%s: in force (-want +got):\n%s", what, diff)
	}
}

func (e *env) ebtables() string {
	e.t.Helper()
	out, err := exec.Command("ip", "netns", "exec", e.Node, "ebtables", "-t", "nat", "-L").CombinedOutput()
	if err != nil {
		e.t.Fatalf("ebtables: %v: %s", err, out)
	}
	return string(out)
}

// The drops stand before everything that the NIC's own filter would accept, and
// that filter is in force as before.
func TestBlockStandsBeforeTheFilter(t *testing.T) {
	e := newEnv(t, lab.NIC{Extra: protected})
	e.needStockFilters()
	e.start()
	without := e.ebtables()
	if !strings.Contains(without, "198.51.100.11") {
		t.Fatalf("clean-traffic is not there to begin with:\n%s", without)
	}
	e.restrict(ssh, "inc-1")
	with := e.ebtables()
	drop, first := strings.Index(with, "-p IPv4 --ip-proto tcp --ip-dport 22 -j DROP"), strings.Index(with, "-j I-vnet")
	if drop < 0 || drop > first || !strings.Contains(with, "-p IPv6 --ip6-proto tcp --ip6-dport 22 -j DROP") {
		t.Errorf("the drops do not come first:\n%s", with)
	}
	var rest []string
	for l := range strings.Lines(with) {
		if !strings.Contains(l, "--ip-dport 22 ") && !strings.Contains(l, "--ip6-dport 22 ") && !strings.Contains(l, "--ip6-icmp-type") {
			rest = append(rest, noCount(l))
		}
	}
	var before []string
	for l := range strings.Lines(without) {
		before = append(before, noCount(l))
	}
	slices.Sort(rest)
	slices.Sort(before)
	if diff := cmp.Diff(before, rest); diff != "" {
		t.Errorf("the NIC's own filter changed (-before +after):\n%s", diff)
	}
	e.lift(ssh.Kind, "inc-1")
	if diff := cmp.Diff(without, e.ebtables()); diff != "" {
		t.Errorf("after the lift (-before +after):\n%s", diff)
	}
}

// noCount is a line of ebtables without the number of a chain's rules.
func noCount(l string) string {
	name, rest, ok := strings.Cut(l, ", entries: ")
	if !ok {
		return l
	}
	_, policy, _ := strings.Cut(rest, ",")
	return name + policy
}

func TestBlockOutlivesPowerCycle(t *testing.T) {
	e := newEnv(t, lab.NIC{Extra: guarded}).start()
	raw := e.definition()
	e.restrict(ssh, "inc-1")
	e.off()
	e.wantForce("off", ssh, "inc-1")
	e.start()
	e.wantForce("on again", ssh, "inc-1")
	e.lift(ssh.Kind, "inc-1")
	e.wantForce("lifted", ssh, "")
	if diff := cmp.Diff(raw, e.definition()); diff != "" {
		t.Errorf("definition (-before +after):\n%s", diff)
	}
	if live, _ := e.iface(0); !strings.Contains(live, "<filterref filter='lab-guard'>") {
		t.Errorf("the running NIC has lost its filter: %s", live)
	}
	e.wantNoFilters()
}

// definition is the domain's whole definition.
func (e *env) definition() string {
	e.t.Helper()
	x, err := e.admin.DomainGetXMLDesc(e.dom, golibvirt.DomainXMLInactive)
	if err != nil {
		e.t.Fatal(err)
	}
	return x
}

// A panel that writes the definition anew takes the block out of it. That shows,
// a repeat mends it, and a lift leaves what the panel wrote.
func TestPanelDefinesAnewUnderABlock(t *testing.T) {
	e := newEnv(t).start()
	e.restrict(ssh, "inc-1")
	e.guest.NICs[0].Extra = `<filterref filter='no-mac-spoofing'/>`
	e.needStockFilters()
	if _, err := e.Define(e.admin, e.guest); err != nil {
		t.Fatal(err)
	}
	fresh := e.definition()
	e.wantForce("defined anew", flow.Measure{Kind: ssh.Kind}, "inc-1")
	e.restrict(ssh, "inc-1")
	e.wantForce("repeated", ssh, "inc-1")
	if _, l := e.iface(golibvirt.DomainXMLInactive); l != linkAbsent || !strings.Contains(e.definition(), filterPrefix) {
		t.Errorf("the definition is not blocked:\n%s", e.definition())
	}
	e.lift(ssh.Kind, "inc-1")
	if diff := cmp.Diff(fresh, e.definition()); diff != "" {
		t.Errorf("definition (-the panel's +after):\n%s", diff)
	}
	if live, _ := e.iface(0); strings.Contains(live, "filterref") {
		t.Errorf("the running NIC had no filter before: %s", live)
	}
	e.wantNoFilters()
}

// An admin who takes the mark away leaves a block that only its filter tells of.
func TestBlockWithoutItsMark(t *testing.T) {
	e := newEnv(t, lab.NIC{Extra: protected})
	e.needStockFilters()
	raw := e.raw(t)
	e.restrict(ssh, "inc-1")
	if err := e.admin.DomainSetMetadata(e.dom, int32(golibvirt.DomainMetadataElement), nil, golibvirt.OptString{restrictPrefix},
		golibvirt.OptString{restrictURI}, golibvirt.DomainAffectConfig); err != nil {
		t.Fatal(err)
	}
	e.wantForce("mark lost", ssh, "")
	e.restrict(ssh, "inc-1")
	e.wantForce("repeated", ssh, "inc-1")
	e.lift(ssh.Kind, "inc-1")
	if diff := cmp.Diff(raw, e.raw(t)); diff != "" {
		t.Errorf("NIC (-before +after):\n%s", diff)
	}
}

// A filter that somebody emptied blocks nothing, and Status says so.
func TestBlockIsReadBackFromTheFilter(t *testing.T) {
	e := newEnv(t).start()
	e.restrict(ssh, "inc-1")
	d, err := parseDocument(e.definition())
	if err != nil {
		t.Fatal(err)
	}
	name := d.ifaces[0].filter
	if _, err := e.admin.NwfilterDefineXML(filterXML(name, "", ssh.Ports[:1])); err != nil {
		t.Fatal(err)
	}
	e.wantForce("ICMPv6 taken out", flow.Measure{Kind: ssh.Kind, Ports: ssh.Ports[:1]}, "inc-1")
	e.restrict(ssh, "inc-1")
	e.wantForce("repeated", ssh, "inc-1")
	e.lift(ssh.Kind, "inc-1")
}

// A state that was saved during a block refers to the filter; without it the
// machine could never be started again.
func TestSavedStateKeepsItsFilter(t *testing.T) {
	e := newEnv(t).start()
	e.restrict(ssh, "inc-1")
	if err := e.admin.DomainManagedSave(e.dom, 0); err != nil {
		t.Fatal(err)
	}
	e.lift(ssh.Kind, "inc-1")
	if err := e.admin.DomainCreate(e.dom); err != nil {
		t.Fatalf("start from the saved state: %v", err)
	}
	if rules := e.ebtables(); strings.Contains(rules, "--ip-dport 22") {
		t.Errorf("the restored machine is blocked:\n%s", rules)
	}
	// The saved machine brought its mark back; it is found and lifted as an orphan.
	all, err := e.a.Marked(t.Context())
	if err != nil || len(all) != 1 || all[0].NIC.MAC != e.nic.MAC {
		t.Fatalf("Marked() = %+v, %v", all, err)
	}
	e.lift(ssh.Kind, "inc-1")
	e.wantForce("lifted", ssh, "")
	e.wantNoFilters()
}

// What a crash between the filter and the mark left behind is swept.
func TestStaleFilterIsSwept(t *testing.T) {
	e := newEnv(t)
	if _, err := e.admin.NwfilterDefineXML(filterXML(filterName("inc-9", e.nic.MAC, ""), "", ssh.Ports)); err != nil {
		t.Fatal(err)
	}
	if _, err := e.a.Marked(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.wantNoFilters()
}

func TestLimitNeverLoosens(t *testing.T) {
	e := newEnv(t, lab.NIC{Extra: `<bandwidth><inbound average='4000'/><outbound average='500' peak='900' burst='512'/></bandwidth>`})
	raw := e.raw(t)
	loose := flow.Measure{Kind: flow.MeasureLimit, KbitS: 80_000}
	e.restrict(loose, "inc-1")
	e.wantForce("the tariff is stricter", loose, "inc-1")
	if diff := cmp.Diff(raw, e.raw(t)); diff != "" {
		t.Errorf("NIC (-before +after):\n%s", diff)
	}
	strict := flow.Measure{Kind: flow.MeasureLimit, KbitS: 800}
	e.restrict(strict, "inc-1")
	if c, _ := e.iface(golibvirt.DomainXMLInactive); !strings.Contains(c, "<outbound average='100'/>") || !strings.Contains(c, "<inbound average='4000'/>") {
		t.Errorf("not 100 kB/s outbound with inbound as it was: %s", c)
	}
	e.restrict(loose, "inc-1")
	if diff := cmp.Diff(raw, e.raw(t)); diff != "" {
		t.Errorf("NIC after the looser one (-before +after):\n%s", diff)
	}
	e.restrict(strict, "inc-1")
	e.lift(flow.MeasureLimit, "inc-1")
	if diff := cmp.Diff(raw, e.raw(t)); diff != "" {
		t.Errorf("NIC lifted (-before +after):\n%s", diff)
	}
}

// A kernel that cannot police says so, and nothing is left behind; one that can
// does it.
func TestLimitOnARunningMachine(t *testing.T) {
	e := newEnv(t).start()
	raw, limit := e.raw(t), flow.Measure{Kind: flow.MeasureLimit, KbitS: 8000}
	_, err := e.a.Restrict(t.Context(), e.nic, limit, suspendertest.Mark("inc-1"))
	if err != nil {
		e.wantErr("limit", err, flow.ErrUnsupported, "act_police", "tc ")
	} else {
		e.wantForce("limit", limit, "inc-1")
		e.lift(limit.Kind, "inc-1")
	}
	e.wantForce("after", limit, "")
	if diff := cmp.Diff(raw, e.raw(t)); diff != "" {
		t.Errorf("NIC (-before +after):\n%s", diff)
	}
}

func TestMeasuresRefused(t *testing.T) {
	e := newEnv(t)
	attach := func(mac, xml string) {
		t.Helper()
		if err := e.admin.DomainAttachDeviceFlags(e.dom, xml, uint32(golibvirt.DomainAffectConfig)); err != nil {
			t.Fatal(err)
		}
		e.nic.MAC = mac
		_, err := e.a.Restrict(t.Context(), e.nic, ssh, suspendertest.Mark("inc-1"))
		e.wantErr(mac, err, flow.ErrUnsupported, e.guest.Name)
		e.wantForce(mac, ssh, "")
	}
	attach("52:54:00:aa:ee:11", `<interface type='hostdev'><mac address='52:54:00:aa:ee:11'/>
		<source><address type='pci' domain='0x0000' bus='0x05' slot='0x11' function='0x0'/></source></interface>`)
	attach("52:54:00:aa:ee:12", `<interface type='bridge'><mac address='52:54:00:aa:ee:12'/><source bridge='ovs0'/><virtualport type='openvswitch'/></interface>`)
	attach("52:54:00:aa:ee:13", `<interface type='direct'><mac address='52:54:00:aa:ee:13'/><source dev='upl0' mode='bridge'/></interface>`)
	e.wantNoFilters()
}

func TestCheckPorts(t *testing.T) {
	for name, c := range map[string]struct {
		ports []flow.PortRule
		want  flow.ErrClass
	}{
		"tcp, udp, sctp":  {[]flow.PortRule{{Proto: 6, Port: 22}, {Proto: 17}, {Proto: 132, Port: 1}}, ""},
		"gre":             {[]flow.PortRule{{Proto: 47}}, ""},
		"none":            {nil, flow.ErrDenied},
		"gre with a port": {[]flow.PortRule{{Proto: 47, Port: 1}}, flow.ErrUnsupported},
		"no protocol":     {[]flow.PortRule{{Port: 22}}, flow.ErrUnsupported},
		"the most":        {slices.Repeat([]flow.PortRule{{Proto: 6, Port: 22}}, maxPortRules), ""},
		"one more":        {slices.Repeat([]flow.PortRule{{Proto: 6, Port: 22}}, maxPortRules+1), flow.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			if got := suspendertest.Class(checkPorts(c.ports)); got != c.want {
				t.Errorf("class %q, want %q", got, c.want)
			}
		})
	}
}

// The filter is the node's own by then: it outlives the daemon.
func TestBlockOutlivesDaemonRestart(t *testing.T) {
	e := newEnv(t, lab.NIC{Extra: guarded}).start()
	before := e.raw(t)
	e.restrict(ssh, "inc-1")
	if err := e.RestartDaemon(); err != nil {
		t.Fatal(err)
	}
	var err error
	if e.admin, err = e.Connect(); err != nil {
		t.Fatal(err)
	}
	e.wantForce("after the restart", ssh, "inc-1")
	if rules := e.ebtables(); !strings.Contains(rules, "--ip-dport 22 -j DROP") {
		t.Errorf("the rules are gone:\n%s", rules)
	}
	e.lift(ssh.Kind, "inc-1")
	if diff := cmp.Diff(before, e.raw(t)); diff != "" {
		t.Errorf("NIC (-before +after):\n%s", diff)
	}
	e.wantNoFilters()
}
