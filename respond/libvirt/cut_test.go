package libvirt

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/e2e/lab"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
)

const antiSpoof = `<filter name='lab-no-spoof' chain='mac'>
  <rule action='return' direction='out' priority='350'><mac match='yes' srcmacaddr='$MAC'/></rule>
  <rule action='drop' direction='out' priority='500'><mac/></rule>
</filter>`

// A hand-written interface element would drop the anti-spoofing filter and
// libvirt would not complain.
func TestCutKeepsTheRestOfTheInterface(t *testing.T) {
	e := newEnv(t, lab.NIC{Extra: `<mtu size='1400'/><filterref filter='lab-no-spoof'><parameter name='IP' value='198.51.100.10'/></filterref><alias name='ua-pub'/>`})
	if _, err := e.admin.NwfilterDefineXML(antiSpoof); err != nil {
		t.Fatal(err)
	}
	e.start()
	live, _ := e.iface(0)
	config, _ := e.iface(golibvirt.DomainXMLInactive)
	if !strings.Contains(live, "lab-no-spoof") || !strings.Contains(config, "lab-no-spoof") {
		t.Fatalf("the filter is not there to begin with:\n%s\n%s", live, config)
	}
	check := func(what string, want link) {
		t.Helper()
		l, ll := e.iface(0)
		c, cl := e.iface(golibvirt.DomainXMLInactive)
		if diff := cmp.Diff([]string{live, config}, []string{l, c}); diff != "" {
			t.Errorf("%s: the interface changed (-before +after):\n%s", what, diff)
		}
		if ll != want || cl != want {
			t.Errorf("%s: link live %s, config %s, want %s", what, ll, cl, want)
		}
	}
	r := e.cut("inc-1")
	check("cut", linkDown)
	e.restore("inc-1", r)
	check("restored", linkAbsent)
}

func TestAdminDownStaysDown(t *testing.T) {
	for name, flags := range map[string]golibvirt.DomainModificationImpact{
		"live": golibvirt.DomainAffectLive, "definition": golibvirt.DomainAffectConfig,
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t).start()
			e.adminLink(linkDown, flags)
			live, config := flow.LinkDown, flow.LinkUp
			if flags == golibvirt.DomainAffectConfig {
				live, config = config, live
			}
			e.want("admin", live, config, true, "")
			r := e.cut("inc-1")
			if r.Before.Live != live || r.Before.Config != config {
				t.Errorf("Receipt.Before = %+v, want live %s, config %s", r.Before, live, config)
			}
			e.want("cut", flow.LinkDown, flow.LinkDown, true, "inc-1")
			e.restore("inc-1", r)
			e.want("restored", live, config, true, "")
		})
	}
}

func TestCutOutlivesPowerCycle(t *testing.T) {
	e := newEnv(t).start()
	r := e.cut("inc-1")
	e.off()
	e.want("off", flow.LinkUnknown, flow.LinkDown, false, "inc-1")
	e.start()
	e.want("on again", flow.LinkDown, flow.LinkDown, true, "inc-1")
	e.restore("inc-1", r)
	e.want("restored", flow.LinkUp, flow.LinkUp, true, "")
}

func TestStoppedThenStarted(t *testing.T) {
	e := newEnv(t)
	e.want("off", flow.LinkUnknown, flow.LinkUp, false, "")
	r := e.cut("inc-1")
	if r.Before.Running || r.Before.Config != flow.LinkUp {
		t.Errorf("Receipt.Before = %+v", r.Before)
	}
	e.start()
	e.want("on", flow.LinkDown, flow.LinkDown, true, "inc-1")
	e.restore("inc-1", r)
	e.want("restored", flow.LinkUp, flow.LinkUp, true, "")
}

// A panel that defines the domain anew from its own template takes mark and
// link out of the definition; a repeat puts both back and keeps the first state.
func TestPanelDefinesAnew(t *testing.T) {
	e := newEnv(t).start()
	r := e.cut("inc-1")
	if _, err := e.Define(e.admin, e.guest); err != nil {
		t.Fatal(err)
	}
	e.want("defined anew", flow.LinkDown, flow.LinkUp, true, "inc-1")
	again := e.cut("inc-1")
	if diff := cmp.Diff(r.Before, again.Before); diff != "" {
		t.Errorf("Receipt.Before (-first +repeat):\n%s", diff)
	}
	e.off()
	e.want("off", flow.LinkUnknown, flow.LinkDown, false, "inc-1")
	e.restore("inc-1", again)
	e.want("restored", flow.LinkUnknown, flow.LinkUp, false, "")
}

func TestUnmarkedDownIsNotOurs(t *testing.T) {
	e := newEnv(t).start()
	r := e.cut("inc-1")
	e.restore("inc-1", r)
	e.adminLink(linkDown, golibvirt.DomainAffectLive)
	err := e.a.Restore(t.Context(), e.nic, suspendertest.Mark("inc-1"), r)
	e.wantErr("restore", err, flow.ErrConflict, "no mark of ours")
	e.want("after", flow.LinkDown, flow.LinkUp, true, "")
}

// Each NIC carries its own mark, and the rest of the metadata stays.
func TestTwoNICs(t *testing.T) {
	e := newEnv(t, lab.NIC{}, lab.NIC{}).start()
	other := *e
	other.nic.MAC = e.guest.NICs[1].MAC
	r1 := e.cut("inc-1")
	other.want("the other NIC", flow.LinkUp, flow.LinkUp, true, "")
	r2 := other.cut("inc-2")
	e.restore("inc-1", r1)
	e.want("first", flow.LinkUp, flow.LinkUp, true, "")
	other.want("second", flow.LinkDown, flow.LinkDown, true, "inc-2")
	other.restore("inc-2", r2)
	other.want("second", flow.LinkUp, flow.LinkUp, true, "")
	for _, xf := range []golibvirt.DomainXMLFlags{0, golibvirt.DomainXMLInactive} {
		x, err := e.admin.DomainGetXMLDesc(e.dom, xf)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(x, metadataURI) || !strings.Contains(x, "<vds:id>"+e.guest.PanelID+"</vds:id>") {
			t.Errorf("metadata after all restores:\n%s", x)
		}
	}
}

func TestTransientDomain(t *testing.T) {
	e := newEnv(t)
	if err := e.admin.DomainUndefine(e.dom); err != nil {
		t.Fatal(err)
	}
	var err error
	if e.dom, err = e.admin.DomainCreateXML(e.XML(e.guest), golibvirt.DomainStartPaused); err != nil {
		t.Fatal(err)
	}
	r := e.cut("inc-1")
	e.want("cut", flow.LinkDown, flow.LinkDown, true, "inc-1")
	e.restore("inc-1", r)
	e.want("restored", flow.LinkUp, flow.LinkUp, true, "")
}

func TestNICModels(t *testing.T) {
	e := newEnv(t, lab.NIC{Model: "e1000"}, lab.NIC{Model: "rtl8139"}).start()
	for _, n := range e.guest.NICs {
		e.nic.MAC = n.MAC
		r := e.cut("inc-" + n.Model)
		e.restore("inc-"+n.Model, r)
		e.want(n.Model, flow.LinkUp, flow.LinkUp, true, "")
	}
}

// libvirt cannot set the link of a passed-through device; that must be known
// before anything is changed.
func TestPassedThroughNIC(t *testing.T) {
	e := newEnv(t)
	mac := "52:54:00:aa:ee:01"
	if err := e.admin.DomainAttachDeviceFlags(e.dom, `<interface type='hostdev'><mac address='`+mac+`'/>
		<source><address type='pci' domain='0x0000' bus='0x05' slot='0x10' function='0x0'/></source></interface>`,
		uint32(golibvirt.DomainAffectConfig)); err != nil {
		t.Fatal(err)
	}
	e.nic.MAC = mac
	_, err := e.a.Cut(t.Context(), e.nic, suspendertest.Mark("inc-1"))
	e.wantErr("cut", err, flow.ErrUnsupported, "passed-through")
	_, err = e.a.Describe(t.Context(), e.nic, flow.Measure{Kind: flow.MeasureCut})
	e.wantErr("describe", err, flow.ErrUnsupported, "passed-through")
	e.want("after", flow.LinkUnknown, flow.LinkUp, false, "")
}

// Cuts of several NICs of one domain at once must not lose each other's marks.
func TestConcurrentCuts(t *testing.T) {
	e := newEnv(t, lab.NIC{}, lab.NIC{}, lab.NIC{}).start()
	var wg sync.WaitGroup
	for n, guest := range e.guest.NICs {
		wg.Go(func() {
			nic := e.nic
			nic.MAC = guest.MAC
			if _, err := e.a.Cut(t.Context(), nic, suspendertest.Mark(fmt.Sprint("inc-", n))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for n, guest := range e.guest.NICs {
		e.nic.MAC = guest.MAC
		e.want(guest.MAC, flow.LinkDown, flow.LinkDown, true, fmt.Sprint("inc-", n))
	}
}
