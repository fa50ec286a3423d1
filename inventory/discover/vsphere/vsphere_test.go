package vsphere

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/flowcordon/flowcordon/inventory/discover"
)

var now = time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)

type vsim struct {
	model *simulator.Model
	vms   []*simulator.VirtualMachine
	cfg   Config
}

func newVCenter(t *testing.T) *vsim {
	t.Helper()
	v := &vsim{model: simulator.VPX()}
	if err := v.model.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.model.Remove)
	v.model.Service.TLS = new(tls.Config)
	v.model.Service.Listen = &url.URL{User: url.UserPassword("u", "p")}
	s := v.model.Service.NewServer()
	t.Cleanup(s.Close)
	sum := sha256.Sum256(s.Certificate().Raw)
	v.cfg = Config{
		Name: "dc1", Hypervisor: "vc1", URL: "https://" + s.URL.Host, Username: "u", Password: "p", Thumbprint: hex.EncodeToString(sum[:]),
		Timeout: time.Minute, Tools: true, Networks: []netip.Prefix{netip.MustParsePrefix("22.1.0.0/16"), netip.MustParsePrefix("2608::/32")},
	}
	for _, e := range v.model.Map().All("VirtualMachine") {
		v.vms = append(v.vms, e.(*simulator.VirtualMachine))
	}
	slices.SortFunc(v.vms, func(a, b *simulator.VirtualMachine) int { return strings.Compare(a.Name, b.Name) })
	for _, vm := range v.vms {
		vm.Guest.Net = nil
	}
	return v
}

func card(vm *simulator.VirtualMachine) *types.VirtualEthernetCard {
	for _, d := range vm.Config.Hardware.Device {
		if c, ok := d.(types.BaseVirtualEthernetCard); ok {
			return c.GetVirtualEthernetCard()
		}
	}
	panic("no NIC")
}

// says lets the guest say it has these addresses on its NIC.
func says(vm *simulator.VirtualMachine, addrs ...string) {
	vm.Guest.Net = append(vm.Guest.Net, types.GuestNicInfo{
		MacAddress: strings.ToUpper(card(vm).MacAddress), IpAddress: addrs, DeviceConfigId: card(vm).Key,
	})
}

// attribute gives the machine a custom attribute.
func (v *vsim) attribute(vm *simulator.VirtualMachine, key int32, name, value string) {
	fm := v.model.Map().CustomFieldsManager()
	if !slices.ContainsFunc(fm.Field, func(f types.CustomFieldDef) bool { return f.Key == key }) {
		fm.Field = append(fm.Field, types.CustomFieldDef{Key: key, Name: name, ManagedObjectType: "VirtualMachine"})
	}
	vm.CustomValue = append(vm.CustomValue, &types.CustomFieldStringValue{CustomFieldValue: types.CustomFieldValue{Key: key}, Value: value})
}

func (v *vsim) discover(t *testing.T) ([]discover.Entry, error) {
	t.Helper()
	return New(v.cfg, func() time.Time { return now }).Discover(t.Context())
}

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func (v *vsim) entry(vm *simulator.VirtualMachine, tenant string, ps ...string) discover.Entry {
	return discover.Entry{
		Prefixes: prefixes(ps...), Tenant: tenant, VDS: vm.Name, Hypervisor: "vc1", MAC: strings.ToLower(card(vm).MacAddress),
		Source: "dc1 " + vm.Self.Value + " device 4000", Seen: now,
	}
}

// claim is the entry of what the machine's guest says.
func (v *vsim) claim(vm *simulator.VirtualMachine, tenant string, ps ...string) discover.Entry {
	e := v.entry(vm, tenant, ps...)
	e.Source, e.Forgeable = e.Source+" tools", true
	return e
}

var compare = cmp.Options{cmpopts.EquateComparable(netip.Prefix{})}

func TestTools(t *testing.T) {
	v := newVCenter(t)
	a, b, c, d := v.vms[0], v.vms[1], v.vms[2], v.vms[3]
	says(a, "22.1.0.7", "fe80::1", "2608:0:2:3::7", "2608:0:2:3::8", "127.0.0.1", "10.0.0.5", "nonsense", "22.1.0.7")
	says(b, "22.1.0.8", "22.1.0.9") // 22.1.0.9 is disputed
	says(c, "22.1.0.9")
	// The guest made itself a NIC that the machine does not have.
	d.Guest.Net = []types.GuestNicInfo{{MacAddress: "00:50:56:66:66:66", IpAddress: []string{"22.1.0.66"}, DeviceConfigId: -1}}
	v.cfg.V6Bits = 64
	got, err := v.discover(t)
	if err != nil {
		t.Fatal(err)
	}
	want := []discover.Entry{v.claim(a, "", "22.1.0.7/32", "2608:0:2:3::/64"), v.claim(b, "", "22.1.0.8/32")}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	text, err := json.Marshal(got[1])
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"prefixes":["22.1.0.8/32"],"vds":"` + b.Name + `","hypervisor":"vc1","mac":"` + strings.ToLower(card(b).MacAddress) +
		`","source":"dc1 ` + b.Self.Value + ` device 4000 tools","seen":"2026-11-22T07:00:00Z","forgeable":true}`; string(text) != want {
		t.Errorf("JSON %s, want %s", text, want)
	}
}

// What the panel wrote outweighs what guests say.
func TestAttributes(t *testing.T) {
	v := newVCenter(t)
	a, b := v.vms[0], v.vms[1]
	v.cfg.AddressAttribute, v.cfg.TenantAttribute = "IP", "Customer"
	v.attribute(a, 101, "IP", "22.1.0.7, 2608:0:2::/48 11.0.0.1")
	v.attribute(a, 102, "Customer", " c-42 ")
	says(a, "22.1.0.7", "22.1.0.70")
	says(b, "22.1.0.7", "2608:0:2:ffff::1", "22.1.0.8")
	got, err := v.discover(t)
	if err != nil {
		t.Fatal(err)
	}
	want := []discover.Entry{
		v.entry(a, "c-42", "22.1.0.7/32", "2608:0:2::/48", "11.0.0.1/32"),
		v.claim(a, "c-42", "22.1.0.70/32"),
		v.claim(b, "", "22.1.0.8/32"),
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	v.cfg.Tools = false
	if got, err = v.discover(t); err != nil || len(got) != 1 || len(got[0].Prefixes) != 3 {
		t.Errorf("without the tools: %+v, %v", got, err)
	}
	v.attribute(b, 101, "IP", "00:50:56:00:00:99=22.1.0.9")
	if _, err = v.discover(t); err == nil || !strings.Contains(err.Error(), "no NIC") {
		t.Errorf("a MAC that the machine does not have: %v", err)
	}
	b.CustomValue[0].(*types.CustomFieldStringValue).Value = "22.1.0.300"
	if _, err = v.discover(t); err == nil || !strings.Contains(err.Error(), "22.1.0.300") {
		t.Errorf("no address: %v", err)
	}
	v.cfg.TenantAttribute = "Client"
	if _, err = v.discover(t); err == nil || !strings.Contains(err.Error(), "tenant_attribute") {
		t.Errorf("no such attribute: %v", err)
	}
}

func TestOddMachines(t *testing.T) {
	v := newVCenter(t)
	a, b, c, d := v.vms[0], v.vms[1], v.vms[2], v.vms[3]
	for i, vm := range v.vms {
		says(vm, netip.AddrFrom4([4]byte{22, 1, 1, byte(i)}).String())
	}
	a.Config.Template = true
	b.Name, c.Name = "twin", "twin"
	d.Config = nil // its files are out of reach
	got, err := v.discover(t)
	if err != nil {
		t.Fatal(err)
	}
	var vds []string
	for _, e := range got {
		vds = append(vds, e.VDS)
	}
	slices.Sort(vds)
	want := []string{b.Config.InstanceUuid, c.Config.InstanceUuid}
	slices.Sort(want)
	if diff := cmp.Diff(want, vds); diff != "" {
		t.Errorf("VDS ids (-want +got):\n%s", diff)
	}
}

func TestNothingFoundIsAnError(t *testing.T) {
	v := newVCenter(t)
	if got, err := v.discover(t); err == nil {
		t.Errorf("Discover = %v, want an error", got)
	}
}

func TestRefused(t *testing.T) {
	v := newVCenter(t)
	says(v.vms[0], "22.1.0.7")
	for name, change := range map[string]func(*Config){
		"wrong password":   func(c *Config) { c.Password = "geheim" },
		"wrong thumbprint": func(c *Config) { c.Thumbprint = strings.Repeat("0", 64) },
		"no trust":         func(c *Config) { c.Thumbprint = "" },
		"clear HTTP":       func(c *Config) { c.URL = strings.Replace(c.URL, "https", "http", 1) },
		"nothing to read":  func(c *Config) { c.Tools = false },
	} {
		good := v.cfg
		change(&v.cfg)
		got, err := v.discover(t)
		if err == nil || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v, %v, want an error without a secret", name, got, err)
		}
		v.cfg = good
	}
	// Every login was logged out of again.
	if _, err := v.discover(t); err != nil {
		t.Fatal(err)
	}
	ses, err := v.cfg.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer ses.Bye()
	var sm mo.SessionManager
	err = property.DefaultCollector(ses.Client).RetrieveOne(t.Context(), *ses.Client.ServiceContent.SessionManager, []string{"sessionList"}, &sm)
	if err != nil || len(sm.SessionList) != 1 {
		t.Errorf("%d sessions, %v, want our own alone", len(sm.SessionList), err)
	}
}

func TestHang(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if c, err := ln.Accept(); err == nil {
			_, _ = io.Copy(io.Discard, c) // until the client closes
		}
	}()
	cfg := Config{
		Name: "dc1", Hypervisor: "vc1", URL: "https://" + ln.Addr().String(), Username: "u", Password: "p",
		AddressAttribute: "IP", Timeout: 3 * time.Second,
	}
	_, err = New(cfg, nil).Discover(context.Background())
	if err == nil {
		t.Error("no error from a server that says nothing")
	}
	select {
	case <-gone:
	case <-time.After(time.Minute):
		t.Error("the connection is still open after the deadline")
	}
}

func TestValidate(t *testing.T) {
	err := Config{Tools: true, V6Bits: 129, Timeout: -1, Thumbprint: "zz", CAFile: "x"}.Validate()
	for _, want := range []string{"name:", "hypervisor:", "url:", "username:", "password_file:", "networks:", "v6_bits:", "timeout:", "thumbprint:", "ca_file"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v, lacks %q", err, want)
		}
	}
}

func TestSet(t *testing.T) {
	two := func() *machine { return &machine{nics: []nic{{mac: "00:50:56:00:00:01"}, {mac: "00:50:56:00:00:02"}}} }
	m := two()
	if err := m.set("00:50:56:00:00:02=22.1.0.7;00-50-56-00-00-01=22.2.0.0/24"); err != nil {
		t.Fatal(err)
	}
	if got, want := m.nics[1].set, prefixes("22.1.0.7/32"); !slices.Equal(got, want) {
		t.Errorf("second NIC: %v, want %v", got, want)
	}
	for _, bad := range []string{"22.1.0.7", "x=22.1.0.7", "00:50:56:00:00:01=22.1.0.7/24", "00:50:56:00:00:01=0.0.0.0/0", "00:50:56:00:00:01=fe80::1%eth0"} {
		if err := two().set(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
