package libvirt

import (
	"strings"
	"testing"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/e2e/lab"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
)

// everything is what an interface of a running QEMU can have on this kernel;
// definitions can have more.
const (
	everything = protected + `
  <target dev='cust1001'/><alias name='ua-public'/><mtu size='1400'/><boot order='1'/><rom enabled='no'/><acpi index='7'/>
  <driver name='qemu' txmode='iothread' ioeventfd='on' event_idx='off' queues='2' rx_queue_size='512'>
    <host csum='off' gso='off' tso4='off'/><guest csum='off' tso6='off'/></driver>
  <coalesce><rx><frames max='7'/></rx></coalesce><tune><sndbuf>1600</sndbuf></tune>`
	onlyBridge  = `<port isolated='yes'/>`
	onlyDefined = `<bandwidth><inbound average='4000' peak='8000' burst='1024'/><outbound average='3000' peak='6000' burst='512'/></bandwidth>
  <vlan trunk='yes'><tag id='42' nativeMode='untagged'/><tag id='47'/></vlan>
  <virtualport type='802.1Qbh'><parameters profileid='customer'/></virtualport>
  <address type='pci' domain='0x0000' bus='0x00' slot='0x09' function='0x0' multifunction='off'/>`
)

// Whatever is given back, and in whatever order, the domain is what it was: all
// of its XML is compared, as it runs and as it is defined, and between the acts
// all of it but the one child and our own mark.
func TestNothingElseChanges(t *testing.T) {
	for name, c := range map[string]struct {
		extra   string
		running bool
		words   []string // which libvirt kept of it
	}{
		"running": {everything + onlyBridge, true, []string{"cust1001", "ua-public", "mtu", "boot order", "rom", "acpi", "csum", "queues", "coalesce", "isolated", "sndbuf", "clean-traffic"}},
		"defined": {everything + onlyDefined, false, []string{"bandwidth", "vlan", "virtualport", "slot='0x09'", "sndbuf"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, lab.NIC{Extra: c.extra}, lab.NIC{})
			e.needStockFilters()
			if c.running {
				e.start()
			}
			before := e.whole()
			for _, w := range c.words {
				if !strings.Contains(before, w) {
					t.Fatalf("libvirt did not take %q:\n%s", w, before)
				}
			}
			same := func(what string) {
				t.Helper()
				if diff := cmp.Diff(before, e.whole()); diff != "" {
					t.Errorf("%s: the domain changed (-before +after):\n%s", what, diff)
				}
			}
			rest := e.rest()
			sameRest := func(what string) {
				t.Helper()
				if diff := cmp.Diff(rest, e.rest()); diff != "" {
					t.Errorf("%s: more than the one child changed (-before +after):\n%s", what, diff)
				}
			}
			r := e.cut("inc-1")
			sameRest("cut")
			e.restore("inc-1", r)
			same("cut and given back")

			e.restrict(ssh, "inc-1")
			sameRest("blocked")
			e.lift(ssh.Kind, "inc-1")
			same("blocked and lifted")

			e.restrict(ssh, "inc-1")
			if !c.running {
				e.restrict(flow.Measure{Kind: flow.MeasureLimit, KbitS: 800}, "inc-1")
			}
			r = e.cut("inc-1")
			sameRest("all of it")
			e.lift(ssh.Kind, "inc-1")
			e.restore("inc-1", r)
			e.lift(flow.MeasureLimit, "inc-1")
			same("all of it given back")
		})
	}
}

// whole is the domain's whole XML, as it runs and as it is defined.
func (e *env) whole() string {
	e.t.Helper()
	var b strings.Builder
	for _, xf := range []golibvirt.DomainXMLFlags{0, golibvirt.DomainXMLInactive} {
		x, err := e.admin.DomainGetXMLDesc(e.dom, xf)
		if err != nil {
			e.t.Fatal(err)
		}
		b.WriteString(x)
	}
	return b.String()
}

// rest is whole without our marks and without the children of the NIC that
// measures change; of the filter its parameters stay.
func (e *env) rest() []string {
	e.t.Helper()
	var out []string
	for _, xf := range []golibvirt.DomainXMLFlags{0, golibvirt.DomainXMLInactive} {
		x, err := e.admin.DomainGetXMLDesc(e.dom, xf)
		if err != nil {
			e.t.Fatal(err)
		}
		for _, tag := range []string{"flowcordon:cuts", "fcrestrict:measures"} {
			x = without1(x, "<"+tag, "</"+tag+">")
		}
		d, err := parseDocument(x)
		if err != nil {
			e.t.Fatal(err)
		}
		i := d.byMAC(e.nic.MAC)[0]
		params := d.text(i.filterIn)
		for _, child := range []span{i.linkAt, i.filterAt, i.bandwidthAt} {
			x = strings.Replace(x, d.text(child), "", 1)
		}
		out = append(out, params, strings.Join(strings.Fields(x), " "))
	}
	return out
}

func without1(s, from, to string) string {
	head, rest, ok := strings.Cut(s, from)
	if !ok {
		return s
	}
	_, tail, _ := strings.Cut(rest, to)
	return head + tail
}

// Each NIC of a VDS carries its own measures, and none touches the others.
func TestSeveralNICs(t *testing.T) {
	e := newEnv(t, lab.NIC{Extra: guarded}, lab.NIC{}, lab.NIC{}).start()
	before := e.whole()
	nics := make([]*env, 3)
	for n := range nics {
		other := *e
		other.nic.MAC = e.guest.NICs[n].MAC
		nics[n] = &other
	}
	udp := flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 17, Port: 53}}}
	nics[0].restrict(ssh, "inc-1")
	nics[1].restrict(udp, "inc-2")
	r := nics[2].cut("inc-3")
	nics[0].wantForce("first", ssh, "inc-1")
	nics[1].wantForce("second", udp, "inc-2")
	nics[2].wantForce("third", ssh, "")
	nics[2].want("third", flow.LinkDown, flow.LinkDown, true, "inc-3")
	all, err := e.a.Marked(t.Context())
	if err != nil || len(all) != 3 {
		t.Errorf("Marked() = %+v, %v; want all three", all, err)
	}
	nics[0].lift(ssh.Kind, "inc-1")
	nics[1].wantForce("second, first lifted", udp, "inc-2")
	nics[2].restore("inc-3", r)
	nics[1].lift(udp.Kind, "inc-2")
	if diff := cmp.Diff(before, e.whole()); diff != "" {
		t.Errorf("the domain changed (-before +after):\n%s", diff)
	}
	e.wantNoFilters()
	if got := suspendertest.Class(e.a.Lift(t.Context(), e.nic, "shout", suspendertest.Mark("inc-1"), flow.Receipt{})); got != flow.ErrUnsupported {
		t.Errorf("Lift of an unknown kind: %q", got)
	}
}
