package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/e2e/lab"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory"
	"github.com/flowcordon/flowcordon/respond/proxmox/pvetest"
)

// fixture writes a file of the test's and gives its path.
func fixture(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// netBox answers what NetBox does of one address and its VM.
func netBox(t *testing.T) string {
	lists := map[string]string{
		"/api/ipam/ip-addresses/": `[{"id":1,"address":"11.7.0.10/24","vrf":null,"tenant":null,"status":{"value":"active"},"role":null,
			"assigned_object_type":"virtualization.vminterface","assigned_object_id":11,"tags":[],"custom_fields":{}},
			{"id":2,"address":"11.8.0.20/24","vrf":null,"tenant":null,"status":{"value":"active"},"role":null,
			"assigned_object_type":"virtualization.vminterface","assigned_object_id":11,"tags":[],"custom_fields":{}}]`,
		"/api/virtualization/interfaces/":       `[{"id":11,"name":"eth0","virtual_machine":{"id":1,"name":"web"},"mac_address":null,"mac_addresses":[]}]`,
		"/api/virtualization/virtual-machines/": `[{"id":1,"name":"web","status":{"value":"active"},"cluster":{"id":1,"name":"msk"},"tenant":{"id":7,"name":"ACME","slug":"acme"},"tags":[{"slug":"vip"}],"custom_fields":{"vmid":"100"}}]`,
		"/api/tenancy/tenants/":                 `[{"id":7,"name":"ACME","slug":"acme","custom_fields":{}}]`,
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all, ok := lists[r.URL.Path]
		if !ok || r.Header.Get("Authorization") != "Token sesame" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = fmt.Fprintf(w, `{"count":%d,"next":null,"previous":null,"results":%s}`, strings.Count(all, `"id":`), all)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// vCenter is a simulator in which the first machine's guest names an address.
func vCenter(t *testing.T, says string) (at, thumbprint, vds string) {
	model := simulator.VPX()
	if err := model.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(model.Remove)
	model.Service.TLS = new(tls.Config)
	model.Service.Listen = &url.URL{User: url.UserPassword("u", "p")}
	s := model.Service.NewServer()
	t.Cleanup(s.Close)
	for n, e := range model.Map().All("VirtualMachine") {
		vm := e.(*simulator.VirtualMachine)
		vm.Guest.Net = nil
		if n > 0 {
			continue
		}
		vds = vm.Name
		for _, d := range vm.Config.Hardware.Device {
			if c, ok := d.(types.BaseVirtualEthernetCard); ok {
				card := c.GetVirtualEthernetCard()
				vm.Guest.Net = []types.GuestNicInfo{{MacAddress: card.MacAddress, IpAddress: []string{says}, DeviceConfigId: card.Key}}
			}
		}
	}
	sum := sha256.Sum256(s.Certificate().Raw)
	return "https://" + s.URL.Host, hex.EncodeToString(sum[:]), vds
}

const inventoryHead = `listen: [{protocol: netflow, address: "127.0.0.1:0"}]
exporters: {allow: [127.0.0.1]}
networks: {internal: [11.0.0.0/8, "2608::/32"]}
`

// Every kind of source that needs no hypervisor of its own, merged: what agrees
// completes each other, what contradicts is nobody's, and a guest's word alone is
// not acted on.
func TestInventorySources(t *testing.T) {
	pve := pvetest.Start(t)
	vc, thumbprint, vm := vCenter(t, "11.9.0.1")
	panel := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Key") != "open" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = fmt.Fprint(w, `{"servers":[{"ip":"11.7.0.10","id":100,"mail":"owner@acme.example"}]}`)
	}))
	t.Cleanup(panel.Close)
	text := inventoryHead + fmt.Sprintf(`data_dir: %q
respond:
  suspenders:
    - {name: pve1, type: proxmox, urls: [%q], token_file: %q, fingerprints: [%q]}
    - {name: vc1, type: vsphere, url: %q, username: u, password_file: %q, thumbprint: %q}
inventory:
  sources:
    - {name: typed, type: file, path: %q, every: 1h}
    - {name: cluster, type: proxmox, suspender: pve1}
    - {name: dc, type: vsphere, suspender: vc1, tools: true}
    - {name: ipam, type: netbox, url: %q, token_file: %q, vds: "cf:vmid", clusters: {msk: pve1}}
    - {name: panel, type: http, url: %q, secret_headers: {X-Key: %q}, map: ".servers[] | {ip: .ip, vds: .id, contact: .mail}"}
`, t.TempDir(), pve.URL(), fixture(t, "token", pvetest.Token), pve.Fingerprint(), vc, fixture(t, "password", "p"), thumbprint,
		fixture(t, "typed.yaml", "- {prefix: 11.6.0.0/29, tenant: c-5, vds: v5, hypervisor: pve1, macs: ['52:54:00:aa:00:01', '52:54:00:aa:00:02']}\n"),
		netBox(t), fixture(t, "netbox", "sesame"), panel.URL, fixture(t, "key", "open"))
	path := fixture(t, "flowcordon.yaml", text)

	var out, errs bytes.Buffer
	if code := runInventory(t.Context(), []string{"--config", path, "--read", "--json"}, &out, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	var got struct {
		Sources []inventory.SourceHealth `json:"sources"`
		Held    []inventory.Held         `json:"held"`
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for _, s := range got.Sources {
		if s.Stale || s.Entries == 0 {
			t.Errorf("source %+v", s)
		}
	}
	held := map[string]string{}
	for _, h := range got.Held {
		held[h.Prefix.String()] = strings.Join([]string{h.Tenant, h.VDS, h.Hypervisor, strings.Join(h.NICs, "+"), h.Contact, string(h.Doubt), strings.Join(h.Sources, "+")}, " ")
	}
	want := map[string]string{
		"11.6.0.0/29":    "c-5 v5 pve1 52:54:00:aa:00:01+52:54:00:aa:00:02   typed",
		"11.7.0.10/32":   "acme 100 pve1 bc:24:11:aa:10:01 owner@acme.example  cluster+ipam+panel",
		"2608:7::10/128": " 100 pve1 bc:24:11:aa:10:01   cluster",
		"11.8.0.20/32":   "     disputed cluster+ipam", // the cluster says 200, NetBox says 100
		"11.9.0.1/32":    " " + vm + "    forgeable dc",
	}
	if diff := cmp.Diff(want, held); diff != "" {
		t.Errorf("who holds what (-want +got):\n%s", diff)
	}

	out.Reset()
	if code := runInventory(t.Context(), []string{"--config", path, "--read", "11.8.0.20"}, &out, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	if text := out.String(); !strings.Contains(text, "DISPUTED, never acted on: cluster guest 200") || strings.Contains(text, "11.7.0.10") {
		t.Errorf("for people:\n%s", text)
	}
	if all := out.String() + errs.String(); strings.Contains(all, "sesame") || strings.Contains(all, pvetest.Token) {
		t.Error("a secret is shown")
	}

	// A source that cannot be read is told, and the rest stands.
	panel.Close()
	errs.Reset()
	if code := runInventory(t.Context(), []string{"--config", path, "--read"}, &out, &errs); code != 1 || !strings.Contains(errs.String(), "source panel") {
		t.Errorf("exit %d, %s", code, errs.String())
	}

	// check-config asks nobody; it says that nothing was ever read.
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	warning, err := checkReferences(path, cfg)
	if err != nil || strings.Count(warning, "was never read") != 5 {
		t.Errorf("check-config: %q, %v", warning, err)
	}
}

// A real node: what its filters say is acted on, what was only seen in packets
// is not unless the operator vouches for it, and the service keeps it.
func TestInventoryFromANode(t *testing.T) {
	node, err := lab.Start()
	lab.Require(t, err)
	t.Cleanup(node.Stop)
	admin, err := node.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Disconnect() })
	if _, err := admin.NwfilterDefineXML(`<filter name='lab-addresses' chain='root'/>`); err != nil {
		t.Fatal(err)
	}
	for n, ip := range []string{"11.5.0.1", "11.5.0.2"} {
		_, err := node.Define(admin, lab.Guest{
			Name: fmt.Sprintf("kvm%d", n), UUID: fmt.Sprintf("11111111-2222-3333-4444-00000000e00%d", n), PanelID: fmt.Sprintf("v%d", n),
			NICs: []lab.NIC{
				{MAC: fmt.Sprintf("52:54:00:ee:0%d:01", n), Extra: `<filterref filter='lab-addresses'><parameter name='IP' value='` + ip + `'/></filterref>`},
				{MAC: fmt.Sprintf("52:54:00:ee:0%d:02", n)},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	text := inventoryHead + fmt.Sprintf(`data_dir: %q
respond: {suspenders: [{name: node1, type: libvirt, socket: %q}]}
inventory: {sources: [{name: n1, type: libvirt, suspender: node1, max_age: 2h}]}
`, t.TempDir(), node.Socket)
	cfg, err := config.Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	inv, err := openInventory(cfg, inventory.Deps{}, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := inv.ReadSource(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	want := flow.Holder{Prefix: netip.MustParsePrefix("11.5.0.2/32"), VDS: "v1", Hypervisor: "node1", NICs: []string{"52:54:00:ee:01:01"}}
	for _, what := range []string{"read", "kept"} {
		got, _ := inv.Holder(netip.MustParseAddr("11.5.0.2"), time.Now())
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		if inv, err = openInventory(cfg, inventory.Deps{}, true); err != nil { // a restart
			t.Fatal(err)
		}
	}
	if n := inv.Servers(); n != 2 {
		t.Errorf("%d servers, want 2", n)
	}
}
