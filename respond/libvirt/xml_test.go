package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/internal/meter"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

const sample = `<domain type='kvm' id='3' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>kvm1</name>
  <uuid>11111111-2222-3333-4444-000000001001</uuid>
  <metadata>
    <vds:vds xmlns:vds='urn:example:vds:1'><vds:id>1001</vds:id><vds:client>42</vds:client></vds:vds>
    <flowcordon:cuts xmlns:flowcordon="urn:flowcordon:cut:1"><nic mac="52:54:00:AA:10:02" incident="inc-9" key="k" by="flowcordon" reason="a &lt;b&gt; &quot;c&quot;" at="2026-11-22T07:00:00Z" live="default" config="down" running="true"/></flowcordon:cuts>
  </metadata>
  <devices>
    <!-- <interface type='bridge'><mac address='52:54:00:aa:10:09'/></interface> -->
    <interface type='bridge'>
      <mac address='52:54:00:AA:10:01'/>
      <source   bridge="vmbr0"/>
      <bandwidth><inbound average='1000'/></bandwidth>
      <link state='up'/>
      <filterref filter='clean-traffic'><parameter name='IP' value='198.51.100.10'/><parameter name='IPV6' value='2001:db8::1'/><parameter name='MASK' value='203.0.113.1'/></filterref>
    </interface>
    <interface type='network'><mac address='52:54:00:aa:10:02'/><ip address='198.51.100.11' prefix='24'/></interface>
    <interface type='bridge'><mac address='52:54:00:aa:10:03'/><link state="down"></link><target dev='vnet2'/></interface>
    <hostdev><interface type='fake'><mac address='52:54:00:aa:10:07'/></interface></hostdev>
  </devices>
</domain>`

func TestParseDocument(t *testing.T) {
	d, err := parseDocument(sample)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range d.ifaces {
		got = append(got, fmt.Sprint(i.kind, " ", i.mac, " ", i.link, " ", i.dev, " ", i.ips))
	}
	want := []string{
		"bridge 52:54:00:aa:10:01 up  [198.51.100.10 2001:db8::1]",
		"network 52:54:00:aa:10:02 default  [198.51.100.11]",
		"bridge 52:54:00:aa:10:03 down vnet2 []",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
	for vds, want := range map[string]bool{
		"kvm1": true, "1001": true, "11111111-2222-3333-4444-000000001001": true, "42": false, "": false, "kvm": false,
	} {
		if d.is(vds, "id") != want {
			t.Errorf("is(%q) = %t", vds, !want)
		}
	}
	wantCut := cut{
		Mark: flow.Mark{Incident: "inc-9", Key: "k", By: "flowcordon", Reason: `a <b> "c"`, At: time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)},
		mac:  "52:54:00:aa:10:02", live: linkAbsent, config: linkDown, running: true,
	}
	if len(d.cuts) != 1 || !d.cuts[0].equal(wantCut) {
		t.Errorf("cuts = %+v, want %+v", d.cuts, wantCut)
	}
}

// Everything but the link goes back byte for byte.
func TestWithLink(t *testing.T) {
	d, err := parseDocument(sample)
	if err != nil {
		t.Fatal(err)
	}
	for n, old := range []string{`<link state='up'/>`, ``, `<link state="down"></link>`} {
		i := d.ifaces[n]
		was := sample[i.start:i.end]
		for _, l := range []link{linkUp, linkDown, linkAbsent} {
			el := `<link state='` + string(l) + `'/>`
			if l == linkAbsent {
				el = ""
			}
			want := strings.Replace(was, old, el, 1)
			if old == "" {
				want = strings.Replace(was, "</interface>", el+"</interface>", 1)
			}
			if diff := cmp.Diff(want, d.withLink(i, l)); diff != "" {
				t.Errorf("interface %d, link %s (-want +got):\n%s", n, l, diff)
			}
		}
	}
}

// Whatever text a mark carries comes back, but for what XML cannot hold.
func TestMarkRoundTrip(t *testing.T) {
	want := []cut{
		{Mark: flow.Mark{Incident: `a"b'c`, Key: "<&>", By: "é日本\n", Reason: "tab\there", At: time.Unix(1, 5).UTC()}, mac: "52:54:00:00:00:01", live: linkUp, config: linkAbsent, running: true},
		{Mark: flow.Mark{Incident: "x"}, mac: "52:54:00:00:00:02", live: linkNone, config: linkDown},
	}
	inner := strings.NewReplacer("<cuts>", `<f:cuts xmlns:f="urn:flowcordon:cut:1">`, "</cuts>", "</f:cuts>").Replace(cutsXML(want))
	d, err := parseDocument("<domain><metadata>" + inner + "</metadata></domain>")
	if err != nil {
		t.Fatal(err)
	}
	if len(d.cuts) != 2 || !d.cuts[0].equal(want[0]) || !d.cuts[1].equal(want[1]) {
		t.Errorf("read back %+v, want %+v", d.cuts, want)
	}
	if s := shorten(strings.Repeat("é", 400)); len(s) > maxReason+3 || strings.Contains(s, "\ufffd") {
		t.Errorf("shortened to %d bytes: %q", len(s), s)
	}
}

func TestRestrictionRoundTrip(t *testing.T) {
	was := "<filterref filter='a&amp;b'>\n  <parameter name=\"IP\" value='198.51.100.10'/>\n</filterref>"
	want := []restriction{
		{Mark: flow.Mark{Incident: "i", Key: "k", By: "b", Reason: `<"'&>`, At: time.Unix(1, 5).UTC()}, mac: "52:54:00:00:00:01", was: was,
			measure: flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 6, Port: 65535}, {Proto: 255}}}},
		{Mark: flow.Mark{Incident: "i"}, mac: "52:54:00:00:00:01", measure: flow.Measure{Kind: flow.MeasureLimit, KbitS: 1 << 40}},
	}
	inner := strings.NewReplacer("<measures>", `<f:measures xmlns:f="`+restrictURI+`">`, "</measures>", "</f:measures>").Replace(restrictionsXML(want))
	d, err := parseDocument("<domain><metadata>" + inner + "</metadata></domain>")
	if err != nil {
		t.Fatal(err)
	}
	if len(d.milder) != 2 || !d.milder[0].equal(want[0]) || !d.milder[1].equal(want[1]) || len(d.cuts) != 0 {
		t.Errorf("read back %+v, want %+v", d.milder, want)
	}
	for _, s := range []string{"6", "6/", "/22", "256/22", "6/65536", "-1/1", ""} {
		if p, ok := parsePort(s); ok {
			t.Errorf("parsePort(%q) = %+v", s, p)
		}
	}
}

// A filter blocks only what it drops for both families, and what narrows a rule
// or lets it pass counts for nothing.
func TestFilterBlocks(t *testing.T) {
	ports := []flow.PortRule{{Proto: 6, Port: 22}, {Proto: 17}, {Proto: 47}, {Proto: 1}, {Proto: 58}}
	text := filterXML("flowcordon-x", "clean & co", ports)
	r, err := parseFilter(text)
	if err != nil || r.former != "clean & co" {
		t.Fatalf("former %q, %v", r.former, err)
	}
	for _, p := range ports {
		if !r.blocks(p) {
			t.Errorf("%+v is not blocked by\n%s", p, text)
		}
	}
	for _, p := range []flow.PortRule{{Proto: 6}, {Proto: 6, Port: 23}, {Proto: 17, Port: 53}, {Proto: 50}} {
		if r.blocks(p) {
			t.Errorf("%+v is blocked by\n%s", p, text)
		}
	}
	ssh := flow.PortRule{Proto: 6, Port: 22}
	for name, change := range map[string][2]string{
		"only IPv4":         {"<ipv6 protocol='6' dstportstart='22'/>", ""},
		"only one source":   {"<ip protocol='6' dstportstart='22'", "<ip srcipaddr='1.2.3.4' protocol='6' dstportstart='22'"},
		"accepted":          {"action='drop'", "action='accept'"},
		"what it receives":  {"direction='out'", "direction='in'"},
		"another port":      {"dstportstart='22'", "dstportstart='23'"},
		"only from a port":  {"dstportstart='22'", "dstportstart='22' srcportstart='1'"},
		"protocol by name?": {"<ip protocol='6'", "<ip protocol='tpc'"},
	} {
		got, err := parseFilter(strings.ReplaceAll(text, change[0], change[1]))
		if err != nil || got.blocks(ssh) {
			t.Errorf("%s: still counts as blocked, %v", name, err)
		}
	}
}

func FuzzParseDocument(f *testing.F) {
	f.Add(sample)
	f.Add("<domain><devices><interface><mac address='x'/><link/></interface></devices></domain>")
	f.Add("<domain><devices><interface/></devices></domain>")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDocument(s)
		if err != nil {
			return
		}
		for _, i := range d.ifaces {
			if i.start < 0 || i.end > len(s) || i.start > i.inner || i.inner > i.end {
				t.Fatalf("places %+v in %d bytes", i, len(s))
			}
			_ = d.withLink(i, linkDown)
			_ = d.with(i, i.filterAt, withFilter(d, &i, "x")) + d.with(i, i.bandwidthAt, withOutbound(d, &i, 1))
		}
	})
}

func TestClasses(t *testing.T) {
	le := func(n golibvirt.ErrorNumber) error { return golibvirt.Error{Code: uint32(n), Message: "m"} }
	for name, c := range map[string]struct {
		err  error
		want flow.ErrClass
	}{
		"domain gone":       {le(golibvirt.ErrNoDomain), flow.ErrNotFound},
		"no device":         {le(golibvirt.ErrDeviceMissing), flow.ErrNotFound},
		"state change lock": {fmt.Errorf("x: %w", le(golibvirt.ErrOperationTimeout)), flow.ErrLocked},
		"busy":              {le(golibvirt.ErrResourceBusy), flow.ErrLocked},
		"not running":       {le(golibvirt.ErrOperationInvalid), flow.ErrConflict},
		"access":            {le(golibvirt.ErrAccessDenied), flow.ErrDenied},
		"auth":              {le(golibvirt.ErrAuthFailed), flow.ErrDenied},
		"unsupported":       {le(golibvirt.ErrOperationUnsupported), flow.ErrUnsupported},
		"old daemon":        {golibvirt.ErrUnsupported, flow.ErrUnsupported},
		"internal":          {le(golibvirt.ErrInternalError), flow.ErrTransient},
		"unheard of":        {le(9999), flow.ErrTransient},
		"interrupted":       {golibvirt.ErrInterrupted, flow.ErrTransient},
		"deadline":          {fmt.Errorf("%w (%w)", errDeadline, fs.ErrPermission), flow.ErrTransient},
		"given up":          {context.Canceled, flow.ErrTransient},
		"socket rights":     {fmt.Errorf("dial: %w", fs.ErrPermission), flow.ErrDenied},
		"judged":            {fail(flow.ErrLocked, "x"), flow.ErrLocked},
	} {
		t.Run(name, func(t *testing.T) {
			err := classify("what", c.err)
			var ae *flow.ActError
			if !errors.As(err, &ae) || ae.Class != c.want {
				t.Errorf("classify(%v) = %v, want %s", c.err, err, c.want)
			}
			if n := strings.Count(err.Error(), string(c.want)+":"); n != 1 {
				t.Errorf("%q names the class %d times", err, n)
			}
		})
	}
}

// A reload makes adapters anew on the same registry.
func TestMetricsSurviveReload(t *testing.T) {
	reg := prometheus.NewRegistry()
	for range 2 {
		meter.New(reg, "libvirt", "Operations on a libvirt node", "node1").Observe("cut", "ok", time.Millisecond)
	}
	meter.New(reg, "libvirt", "Operations on a libvirt node", "node2").Observe("cut", "locked", time.Millisecond)
	got, err := reg.Gather()
	if err != nil || len(got) != 1 || len(got[0].Metric) != 2 {
		t.Fatalf("gathered %v, %v", got, err)
	}
	if n := got[0].Metric[0].GetHistogram().GetSampleCount(); n != 2 {
		t.Errorf("node1 counted %d operations, want 2", n)
	}
}
