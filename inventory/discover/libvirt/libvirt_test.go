package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/e2e/lab"
	adapter "github.com/flowcordon/flowcordon/respond/libvirt"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	theLab   *lab.Lab
	startLab = sync.OnceValue(func() (err error) { theLab, err = lab.Start(); return err })
)

func TestMain(m *testing.M) {
	code := m.Run()
	if theLab != nil {
		theLab.Stop()
	}
	os.Exit(code)
}

func addrs(s ...string) []netip.Prefix {
	out := []netip.Prefix{}
	for _, a := range s {
		ip := netip.MustParseAddr(a)
		out = append(out, netip.PrefixFrom(ip, ip.BitLen()))
	}
	return out
}

// A real node: one server that runs, with a filter on one of its NICs, and one
// that is off.
func TestDiscoverARealNode(t *testing.T) {
	lab.Require(t, startLab())
	node := adapter.New(adapter.Config{Name: "node1", Socket: theLab.Socket, Timeout: 3 * time.Minute}, adapter.Deps{})
	t.Cleanup(node.Close)
	admin, err := theLab.Connect()
	if err != nil {
		t.Fatal(err)
	}
	define := func(g lab.Guest, start bool) {
		t.Helper()
		d, err := theLab.Define(admin, g)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = admin.DomainDestroy(d); _ = admin.DomainUndefine(d) })
		if start {
			if _, err := admin.DomainCreateWithFlags(d, uint32(golibvirt.DomainStartPaused)); err != nil {
				t.Fatal(err)
			}
		}
	}
	filter, err := admin.NwfilterDefineXML(`<filter name='lab-addresses' chain='root'/>`)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.NwfilterUndefine(filter) }) // when the domains are gone
	define(lab.Guest{Name: "kvm1", UUID: "11111111-2222-3333-4444-00000000d001", PanelID: "1001", NICs: []lab.NIC{
		{MAC: "52:54:00:DD:01:01", Extra: `<filterref filter='lab-addresses'><parameter name='IP' value='198.51.100.11'/>
			<parameter name='IP' value='198.51.100.10'/><parameter name='IPV6' value='2001:db8::10'/><parameter name='MASK' value='255.255.255.0'/></filterref>`},
		{MAC: "52:54:00:dd:01:02"},
	}}, true)
	define(lab.Guest{Name: "kvm2", UUID: "11111111-2222-3333-4444-00000000d002", NICs: []lab.NIC{{MAC: "52:54:00:dd:02:01"}}}, false)

	d := New(Config{Hypervisor: "node1"}, Deps{Node: node})
	got, err := d.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := func(name, uuid, vds, mac string, s Source, running bool, p []netip.Prefix) Entry {
		return Entry{Prefixes: p, VDS: vds, Name: name, UUID: uuid, MAC: mac, Hypervisor: "node1", Source: s, Running: running}
	}
	const u1, u2 = "11111111-2222-3333-4444-00000000d001", "11111111-2222-3333-4444-00000000d002"
	want := []Entry{
		e("kvm1", u1, "1001", "52:54:00:dd:01:01", SourceDefinition, true, addrs()),
		e("kvm1", u1, "1001", "52:54:00:dd:01:01", SourceFilter, true, addrs("198.51.100.10", "198.51.100.11", "2001:db8::10")),
		e("kvm1", u1, "1001", "52:54:00:dd:01:02", SourceDefinition, true, addrs()),
		e("kvm2", u2, "kvm2", "52:54:00:dd:02:01", SourceDefinition, false, addrs()),
	}
	if diff := cmp.Diff(want, got.Entries, cmpopts.IgnoreFields(Entry{}, "Seen"), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if c := got.Counts[SourceLease]; c.Asked != 1 || c.Answered != 1 {
		t.Errorf("lease was asked %+v, want the one running domain", c)
	}
	if _, ok := got.Counts[SourceAgent]; ok {
		t.Error("the agent was asked although nobody allowed that")
	}
	text, err := json.Marshal(got.Entries[1])
	for _, w := range []string{`"prefixes":["198.51.100.10/32"`, `"vds":"1001"`, `"mac":"52:54:00:dd:01:01"`, `"source":"filter"`, `"hypervisor":"node1"`} {
		if err != nil || !strings.Contains(string(text), w) {
			t.Errorf("%s, %v: want %s", text, err, w)
		}
	}
}

// A node that hangs is no empty node.
func TestHungNodeIsNoListing(t *testing.T) {
	lab.Require(t, startLab())
	node := adapter.New(adapter.Config{Name: "node1", Socket: theLab.Socket}, adapter.Deps{})
	defer node.Close()
	thaw, err := theLab.Freeze()
	if err != nil {
		t.Fatal(err)
	}
	defer thaw()
	got, err := New(Config{Hypervisor: "node1", Timeout: time.Second}, Deps{Node: node}).Discover(t.Context())
	if err == nil || len(got.Entries) != 0 {
		t.Errorf("Discover() = %+v, %v; want an error and nothing", got, err)
	}
}

const sample = `<domain type='kvm' id='7'><name>kvm9</name><uuid>u-9</uuid>
<metadata><p:vds xmlns:p='urn:panel'><p:id>1009</p:id><p:client>42</p:client></p:vds></metadata>
<devices>
 <interface type='network'><mac address='52:54:00:DD:09:01'/><ip address='203.0.113.9' prefix='24'/><ip address='fe80::1'/><ip address='nonsense'/></interface>
 <interface type='bridge'><mac address='52:54:00:dd:09:02'/></interface>
 <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='STATE'/></channel>
</devices></domain>`

func TestParse(t *testing.T) {
	for state, agent := range map[string]bool{"connected": true, "disconnected": false} {
		x, err := parse(strings.ReplaceAll(sample, "STATE", state), "id")
		if err != nil {
			t.Fatal(err)
		}
		if x.Name != "kvm9" || x.UUID != "u-9" || x.vds() != "1009" || !x.running() || x.agent != agent || len(x.nics) != 2 {
			t.Errorf("%s: %+v", state, x)
		}
		if got := fmt.Sprint(x.nics[0].mac, x.nics[0].defined, x.nics[1].defined); got != "52:54:00:dd:09:01[203.0.113.9] []" {
			t.Errorf("%s: NICs %s", state, got)
		}
	}
	x, err := parse(strings.Replace(sample, "<p:client>42</p:client>", "<p:id>1010</p:id>", 1), "id")
	if err != nil || x.vds() != "kvm9" {
		t.Errorf("two ids: %q, %v; want the name, because nobody knows which", x.vds(), err)
	}
	if _, err := parse("<domain><name>x", "id"); err == nil {
		t.Error("half a document was taken")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("<domain><devices><interface><filterref><parameter name='IP' value='1.2.3.4'/></filterref></interface></devices></domain>")
	f.Fuzz(func(t *testing.T, s string) {
		x, err := parse(s, "id")
		if err != nil {
			return
		}
		for _, n := range x.nics {
			if len(prefixes(n.filter)) > maxAddresses || len(prefixes(n.defined)) > maxAddresses {
				t.Error("more than the most addresses")
			}
		}
	})
}

// What is told for a MAC is told for that one only, and only a host's addresses.
func TestHeld(t *testing.T) {
	ifs := []golibvirt.DomainInterface{
		{Name: "lo", Hwaddr: golibvirt.OptString{"00:00:00:00:00:00"}, Addrs: []golibvirt.DomainIPAddr{{Addr: "127.0.0.1"}}},
		{Name: "eth0", Hwaddr: golibvirt.OptString{"52:54:00:DD:09:01"}, Addrs: []golibvirt.DomainIPAddr{
			{Addr: "203.0.113.9", Prefix: 24}, {Addr: "::ffff:203.0.113.9"}, {Addr: "fe80::1"}, {Addr: "2001:db8::9"}, {Addr: "255.255.255.255"}, {Addr: ""},
		}},
		{Name: "tun0", Addrs: []golibvirt.DomainIPAddr{{Addr: "10.8.0.1"}}},
	}
	if got := fmt.Sprint(prefixes(held(ifs, "52:54:00:dd:09:01"))); got != "[203.0.113.9/32 2001:db8::9/128]" {
		t.Errorf("held = %s", got)
	}
	if got := held(ifs, "52:54:00:dd:09:02"); got != nil {
		t.Errorf("another NIC holds %v", got)
	}
	var many []netip.Addr
	for i := range maxAddresses + 1 {
		many = append(many, netip.AddrFrom4([4]byte{11, 0, 0, byte(i)}))
	}
	if n := len(prefixes(many)); n != maxAddresses {
		t.Errorf("%d addresses kept, want %d", n, maxAddresses)
	}
}

type failing struct{ err error }

func (f failing) Do(context.Context, func(*golibvirt.Libvirt) error) error { return f.err }

func TestConfig(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"good":    {Config{Hypervisor: "n", Sources: []Source{SourceAgent}}, ""},
		"no name": {Config{}, "hypervisor: missing"},
		"source":  {Config{Hypervisor: "n", Sources: []Source{"rumour"}}, `"rumour"`},
		"timeout": {Config{Hypervisor: "n", Timeout: -1}, "negative"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.cfg.Validate()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("Validate() = %v, want %q", err, c.want)
			}
		})
	}
	boom := errors.New("boom")
	if _, err := New(Config{Hypervisor: "n"}, Deps{Node: failing{boom}}).Discover(t.Context()); !errors.Is(err, boom) {
		t.Errorf("Discover() = %v", err)
	}
}
