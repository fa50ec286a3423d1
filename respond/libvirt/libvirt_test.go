package libvirt

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/e2e/lab"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
)

// One real libvirtd serves all tests of the package. Each test brings its own
// domains with its own MACs.
var (
	theLab    *lab.Lab
	startLab  = sync.OnceValue(func() (err error) { theLab, err = lab.Start(); return err })
	domainSeq int // numbers names, UUIDs and MACs
)

func TestMain(m *testing.M) {
	code := m.Run()
	if theLab != nil {
		theLab.Stop()
	}
	os.Exit(code)
}

// patience is a hang guard: a filter takes libvirt dozens of calls of ebtables,
// which a busy machine draws out.
const patience = 3 * time.Minute

// env is one domain in the lab with an adapter for its node.
type env struct {
	*lab.Lab
	t     testing.TB
	a     *Adapter
	admin *golibvirt.Libvirt // the panel's or an admin's connection
	guest lab.Guest
	dom   golibvirt.Domain
	nic   flow.NIC
}

// newEnv defines a domain with the NICs, whose MACs it fills in.
func newEnv(t testing.TB, nics ...lab.NIC) *env {
	t.Helper()
	lab.Require(t, startLab())
	domainSeq++
	e := &env{Lab: theLab, t: t, a: New(Config{Name: "node1", Socket: theLab.Socket, Timeout: patience}, Deps{})}
	t.Cleanup(e.a.Close)
	var err error
	if e.admin, err = theLab.Connect(); err != nil {
		t.Fatal(err)
	}
	if len(nics) == 0 {
		nics = []lab.NIC{{}}
	}
	for i := range nics {
		if nics[i].MAC == "" {
			nics[i].MAC = fmt.Sprintf("52:54:00:%02x:%02x:%02x", 0xa0+domainSeq>>8, domainSeq&0xff, i+1)
		}
	}
	e.guest = lab.Guest{
		Name: fmt.Sprintf("kvm%d", 1000+domainSeq), UUID: fmt.Sprintf("11111111-2222-3333-4444-00000000%04x", 0x1000+domainSeq),
		PanelID: fmt.Sprintf("vds-%d", 1000+domainSeq), NICs: nics,
	}
	if _, err := e.admin.NwfilterDefineXML(guard); err != nil {
		t.Fatal(err)
	}
	if e.dom, err = theLab.Define(e.admin, e.guest); err != nil {
		t.Fatal(err)
	}
	e.nic = flow.NIC{VDS: e.guest.PanelID, Hypervisor: "node1", MAC: nics[0].MAC, IP: netip.MustParseAddr("198.51.100.10")}
	t.Cleanup(func() {
		_ = e.admin.DomainDestroy(e.dom) // it may be off already
		_ = e.admin.DomainUndefine(e.dom)
		_ = e.admin.Disconnect()
	})
	return e
}

// start switches the domain on; paused, because nothing is to run in it.
func (e *env) start() *env {
	e.t.Helper()
	if _, err := e.admin.DomainCreateWithFlags(e.dom, uint32(golibvirt.DomainStartPaused)); err != nil {
		e.t.Fatal(err)
	}
	return e
}

func (e *env) off() {
	e.t.Helper()
	if err := e.admin.DomainDestroy(e.dom); err != nil {
		e.t.Fatal(err)
	}
}

// ifaceXML is the NIC's element, live or as defined, without its link.
func (e *env) iface(xf golibvirt.DomainXMLFlags) (text string, l link) {
	e.t.Helper()
	x, err := e.admin.DomainGetXMLDesc(e.dom, xf)
	if err != nil {
		e.t.Fatal(err)
	}
	d, err := parseDocument(x)
	if err != nil {
		e.t.Fatal(err)
	}
	i := d.byMAC(e.nic.MAC)
	if len(i) != 1 {
		e.t.Fatalf("%d interfaces with MAC %s", len(i), e.nic.MAC)
	}
	return strings.Join(strings.Fields(d.withLink(i[0], linkAbsent)), " "), i[0].link
}

// adminLink sets the link as an admin would, past the adapter.
func (e *env) adminLink(l link, flags golibvirt.DomainModificationImpact) {
	e.t.Helper()
	xf := golibvirt.DomainXMLFlags(0)
	if flags == golibvirt.DomainAffectConfig {
		xf = golibvirt.DomainXMLInactive
	}
	x, err := e.admin.DomainGetXMLDesc(e.dom, xf)
	if err != nil {
		e.t.Fatal(err)
	}
	d, err := parseDocument(x)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.admin.DomainUpdateDeviceFlags(e.dom, d.withLink(d.byMAC(e.nic.MAC)[0], l),
		golibvirt.DomainDeviceModifyFlags(flags)); err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) cut(incident string) flow.Receipt {
	e.t.Helper()
	r, err := e.a.Cut(e.t.Context(), e.nic, suspendertest.Mark(incident))
	if err != nil {
		e.t.Fatalf("Cut: %v", err)
	}
	return r
}

func (e *env) restore(incident string, r flow.Receipt) {
	e.t.Helper()
	if err := e.a.Restore(e.t.Context(), e.nic, suspendertest.Mark(incident), r); err != nil {
		e.t.Fatalf("Restore: %v", err)
	}
}

// want compares the NIC's state; mark is the incident, empty for none.
func (e *env) want(what string, live, config flow.LinkState, running bool, mark string) {
	e.t.Helper()
	st, err := e.a.Status(e.t.Context(), e.nic)
	if err != nil {
		e.t.Fatalf("%s: Status: %v", what, err)
	}
	got := ""
	if st.Mark != nil {
		got = st.Mark.Incident
	}
	if st.Live != live || st.Config != config || st.Running != running || got != mark {
		e.t.Errorf("%s: live %s, config %s, running %t, mark %q; want %s, %s, %t, %q",
			what, st.Live, st.Config, st.Running, got, live, config, running, mark)
	}
}

func (e *env) wantErr(what string, err error, class flow.ErrClass, words ...string) {
	e.t.Helper()
	if got := suspendertest.Class(err); got != class {
		e.t.Errorf("%s: class %q (%v), want %q", what, got, err, class)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			e.t.Errorf("%s: %q does not say %q", what, err, w)
		}
	}
}

func TestConformance(t *testing.T) {
	for name, prepare := range map[string]func(*env) *env{"running": (*env).start, "off": func(e *env) *env { return e }} {
		t.Run(name, func(t *testing.T) {
			suspendertest.Run(t, func(t *testing.T) suspendertest.Fixture {
				e := prepare(newEnv(t, lab.NIC{}, lab.NIC{}))
				missing := e.nic
				missing.VDS, missing.MAC = "vds-gone", "52:54:00:ff:ff:ff"
				return suspendertest.Fixture{S: e.a, NIC: e.nic, Missing: missing, Raw: e.raw}
			})
		})
	}
}

// The measures on NICs with and without a filter of their own. This kernel may
// not police, so the limit is tried where nothing runs.
func TestRestrictorConformance(t *testing.T) {
	for name, c := range map[string]struct {
		extra string
		start bool
		kinds []flow.MeasureKind
	}{
		"off, bare":        {"", false, nil},
		"off, all of it":   {rich, false, nil},
		"running, guarded": {guarded, true, []flow.MeasureKind{flow.MeasureBlockPort}},
	} {
		t.Run(name, func(t *testing.T) {
			suspendertest.RunRestrictor(t, func(t *testing.T) suspendertest.Fixture {
				return restrictFixture(t, c.extra, c.start, c.kinds)
			})
		})
	}
}

const (
	protected = `<filterref filter='clean-traffic'><parameter name='CTRL_IP_LEARNING' value='none'/><parameter name='IP' value='198.51.100.10'/><parameter name='IP' value='198.51.100.11'/></filterref>`
	// guarded has a filter of one rule: clean-traffic takes libvirt dozens of
	// calls of ebtables each time.
	guarded = `<filterref filter='lab-guard'><parameter name='IP' value='198.51.100.10'/><parameter name='IP' value='198.51.100.11'/></filterref>`
	guard   = `<filter name='lab-guard' chain='root'><uuid>7f0e6a2c-5b7d-4c3e-9a81-0d2b4c6e8f77</uuid>
		<rule action='accept' direction='out' priority='200'><ip srcipaddr='$IP'/></rule></filter>`
	rich = protected + `<bandwidth><inbound average='4000' peak='8000' burst='1024'/><outbound average='3000' burst='512'/></bandwidth>`
)

func restrictFixture(t *testing.T, extra string, start bool, kinds []flow.MeasureKind) suspendertest.Fixture {
	e := newEnv(t, lab.NIC{Extra: extra}, lab.NIC{})
	if strings.Contains(extra, protected) {
		e.needStockFilters()
	}
	if start {
		e.start()
	}
	missing := e.nic
	missing.VDS, missing.MAC = "vds-gone", "52:54:00:ff:ff:ff"
	t.Cleanup(func() { e.wantNoFilters() })
	return suspendertest.Fixture{S: e.a, NIC: e.nic, Missing: missing, Raw: e.raw, Kinds: kinds}
}

// raw is all that libvirt says of the NICs, live and as defined.
func (e *env) raw(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, xf := range []golibvirt.DomainXMLFlags{0, golibvirt.DomainXMLInactive} {
		x, err := e.admin.DomainGetXMLDesc(e.dom, xf)
		if err != nil {
			t.Fatal(err)
		}
		d, err := parseDocument(x)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range d.ifaces {
			b.WriteString(d.text(i.span) + "\n")
		}
	}
	return b.String()
}

func (e *env) needStockFilters() {
	e.t.Helper()
	if _, err := e.admin.NwfilterLookupByName("clean-traffic"); err != nil {
		lab.Require(e.t, &lab.MissingError{What: []string{"no filter clean-traffic (apt-get install libvirt-daemon-config-nwfilter)"}})
	}
}

// wantNoFilters checks that no filter of ours is left on the node.
func (e *env) wantNoFilters() {
	e.t.Helper()
	all, _, err := e.admin.ConnectListAllNwfilters(1, 0)
	if err != nil {
		e.t.Error(err)
	}
	for _, f := range all {
		if isOurs(f.Name) {
			e.t.Errorf("the filter %s is left over", f.Name)
		}
	}
}
