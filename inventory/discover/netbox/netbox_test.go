package netbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/inventory/discover"
)

const token = "0123456789abcdef0123456789abcdef01234567"

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

type obj = map[string]any

// box answers as NetBox 4.2 does: its serializers' fields (netbox/*/api/
// serializers_), objects in objects in the brief form alone, at most max
// objects a page, and a "next" with the host name that the proxy has.
type box struct {
	lists map[string][]obj
	max   int
	auth  string
	calls int
	after func(b *box) // after each call
}

func brief(id int, name string, more ...string) obj {
	o := obj{"id": id, "url": "http://x/" + strconv.Itoa(id) + "/", "display": name, "name": name, "description": ""}
	for i := 0; i+1 < len(more); i += 2 {
		o[more[i]] = more[i+1]
	}
	return o
}

func choose(v string) obj { return obj{"value": v, "label": strings.ToUpper(v)} }

func ip(id int, address string, set obj) obj {
	o := obj{
		"id": id, "family": obj{"value": 4, "label": "IPv4"}, "address": address, "vrf": nil, "tenant": nil, "status": choose("active"), "role": nil,
		"assigned_object_type": nil, "assigned_object_id": nil, "assigned_object": nil, "nat_inside": nil, "nat_outside": []any{},
		"dns_name": "", "tags": []any{}, "custom_fields": obj{}, "created": "2026-01-01T00:00:00Z",
	}
	for k, v := range set {
		o[k] = v
	}
	return o
}

func onVM(iface int, set obj) obj {
	o := obj{
		"assigned_object_type": "virtualization.vminterface", "assigned_object_id": iface,
		"assigned_object": obj{"id": iface, "name": "eth0", "virtual_machine": brief(1, "vds-1001")},
	}
	for k, v := range set {
		o[k] = v
	}
	return o
}

func newBox() *box {
	acme, beta := brief(7, "ACME Ltd", "slug", "acme"), brief(8, "Beta", "slug", "beta")
	return &box{max: 2, auth: "Token " + token, lists: map[string][]obj{
		"/api/ipam/ip-addresses/": {
			ip(1, "11.7.0.10/24", onVM(11, obj{"tags": []any{brief(1, "VIP customer", "slug", "vip-customer", "color", "ff0000")}})),
			ip(2, "2608:7::10/64", onVM(11, nil)),
			ip(3, "11.7.0.20/24", onVM(12, obj{"tenant": beta, "role": choose("vrrp")})),
			ip(4, "11.7.0.30/24", obj{"tenant": beta}),
			ip(5, "11.7.0.40/24", nil), // nobody's
			ip(6, "11.7.0.50/24", onVM(12, obj{"status": choose("reserved")})),
			ip(7, "11.7.0.10/24", onVM(12, obj{"vrf": brief(3, "lab", "rd", "65000:3")})),
			ip(8, "11.7.0.60/24", obj{"tenant": beta, "assigned_object_type": "dcim.interface", "assigned_object_id": 11, "assigned_object": obj{"id": 11, "device": brief(5, "srv5")}}),
		},
		"/api/virtualization/interfaces/": {
			{"id": 11, "name": "eth0", "virtual_machine": brief(1, "vds-1001"), "mac_address": "BC:24:11:AA:10:01", "mac_addresses": []any{}},
			{"id": 12, "name": "eth0", "virtual_machine": brief(2, "vds-1002"), "mac_address": nil, "mac_addresses": []any{obj{"id": 1, "mac_address": "BC:24:11:AA:10:02"}}},
		},
		"/api/virtualization/virtual-machines/": {
			{"id": 1, "name": "vds-1001", "status": choose("active"), "cluster": brief(1, "pve-msk"), "tenant": acme, "tags": []any{brief(2, "new", "slug", "new")}, "custom_fields": obj{"vmid": 100, "panel": nil}},
			{"id": 2, "name": "vds-1002", "status": choose("active"), "cluster": brief(2, "other"), "tenant": nil, "tags": []any{}, "custom_fields": obj{"vmid": 101}},
		},
		"/api/tenancy/tenants/": {
			{"id": 7, "name": "ACME Ltd", "slug": "acme", "custom_fields": obj{"lang": "ru", "billing": "c-42"}},
			{"id": 8, "name": "Beta", "slug": "beta", "custom_fields": obj{"lang": "fr", "billing": nil}},
		},
		"/api/ipam/prefixes/": {
			{"id": 1, "prefix": "2608:7:1::/64", "tenant": acme, "vrf": nil, "status": choose("active"), "tags": []any{}},
			{"id": 2, "prefix": "11.0.0.0/8", "tenant": acme, "vrf": nil, "status": choose("container"), "tags": []any{}},
			{"id": 3, "prefix": "11.7.0.0/24", "tenant": nil, "vrf": nil, "status": choose("active"), "tags": []any{}},
		},
		"/api/tenancy/contacts/": {{"id": 1, "email": "second@acme.example"}, {"id": 2, "email": "first@acme.example"}, {"id": 3, "email": ""}, {"id": 4, "email": "gone@acme.example"}},
		"/api/tenancy/contact-assignments/": {
			{"id": 1, "object_type": "tenancy.tenant", "object_id": 7, "contact": brief(4, "D"), "priority": choose("inactive")},
			{"id": 2, "object_type": "tenancy.tenant", "object_id": 7, "contact": brief(1, "A"), "priority": choose("secondary")},
			{"id": 3, "object_type": "tenancy.tenant", "object_id": 7, "contact": brief(2, "B"), "priority": choose("primary")},
			{"id": 4, "object_type": "tenancy.tenant", "object_id": 8, "contact": brief(3, "C"), "priority": nil},
			{"id": 5, "object_type": "dcim.site", "object_id": 8, "contact": brief(1, "A"), "priority": choose("primary")},
		},
	}}
}

func (b *box) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.calls++
	if b.after != nil {
		defer b.after(b)
	}
	w.Header().Set("Content-Type", "application/json")
	if r.Header.Get("Authorization") != b.auth {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprint(w, `{"detail":"Invalid token"}`)
		return
	}
	all, ok := b.lists[r.URL.Path]
	if !ok || r.Method != http.MethodGet {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	limit, _ := strconv.Atoi(r.FormValue("limit"))
	offset, _ := strconv.Atoi(r.FormValue("offset"))
	limit = min(limit, b.max)
	page := all[min(offset, len(all)):min(offset+limit, len(all))]
	var next any
	if offset+limit < len(all) {
		next = "http://internal:8001" + r.URL.Path + "?limit=" + strconv.Itoa(limit) + "&offset=" + strconv.Itoa(offset+limit)
	}
	if page == nil {
		page = []obj{}
	}
	_ = json.NewEncoder(w).Encode(obj{"count": len(all), "next": next, "previous": nil, "results": page})
}

func source(t *testing.T, b http.Handler, change ...func(*Config)) *Source {
	t.Helper()
	srv := httptest.NewServer(b)
	t.Cleanup(srv.Close)
	cfg := Config{Name: "ipam", URL: srv.URL, Token: token, Clusters: map[string]string{"pve-msk": "pve"}, Timeout: 30 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	return New(cfg, func() time.Time { return noon })
}

func one(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }

func TestDiscover(t *testing.T) {
	b := newBox()
	got, err := source(t, b, func(c *Config) { c.Contacts, c.Prefixes, c.LanguageField = true, true, "lang" }).Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	acme := discover.Entry{Tenant: "acme", Contact: "first@acme.example", Language: "ru", Seen: noon}
	vm := acme
	vm.VDS, vm.Hypervisor, vm.MAC = "vds-1001", "pve", "bc:24:11:aa:10:01"
	a, v6, p := vm, vm, acme
	a.Prefixes, a.Tags, a.Source = one("11.7.0.10/32"), []string{"vip-customer", "new"}, "ipam ip-address 1"
	v6.Prefixes, v6.Tags, v6.Source = one("2608:7::10/128"), []string{"new"}, "ipam ip-address 2"
	p.Prefixes, p.Source = one("2608:7:1::/64"), "ipam prefix 1"
	want := []discover.Entry{
		a, v6,
		{Prefixes: one("11.7.0.20/32"), Tenant: "beta", VDS: "vds-1002", MAC: "bc:24:11:aa:10:02", Tags: []string{"shared"}, Source: "ipam ip-address 3", Seen: noon},
		{Prefixes: one("11.7.0.30/32"), Tenant: "beta", Source: "ipam ip-address 4", Seen: noon},
		{Prefixes: one("11.7.0.60/32"), Tenant: "beta", Source: "ipam ip-address 8", Seen: noon},
		p,
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if b.calls != 4+1+1+1+2+2+3 {
		t.Errorf("%d calls, want each page of 2 once", b.calls)
	}
}

func TestOtherIdentities(t *testing.T) {
	got, err := source(t, newBox(), func(c *Config) { c.TenantID, c.VDS, c.VRFs = "cf:billing", "cf:vmid", []string{"", "lab"} }).Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Tenant != "c-42" || got[0].VDS != "100" {
		t.Errorf("%+v, want tenant c-42, vds 100", got[0])
	}
	n := 0
	for _, e := range got {
		if e.Prefixes[0] == netip.MustParsePrefix("11.7.0.10/32") {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d entries for 11.7.0.10, want that of the VRF lab too", n)
	}
}

func TestNewTokens(t *testing.T) {
	b := newBox()
	b.auth = "Bearer nbt_KEY.SECRET"
	if _, err := source(t, b, func(c *Config) { c.Token = "nbt_KEY.SECRET" }).Discover(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNeverHalfAList(t *testing.T) {
	for name, c := range map[string]struct {
		box    func(*box)
		change func(*Config)
		h      http.HandlerFunc
		says   string
	}{
		"a wrong token": {change: func(c *Config) { c.Token = "wrong" }, says: "403 Forbidden: Invalid token"},
		"an interface missing": {box: func(b *box) {
			b.lists["/api/virtualization/interfaces/"] = b.lists["/api/virtualization/interfaces/"][:1]
		}, says: "interface 12"},
		"a machine missing":     {box: func(b *box) { b.lists["/api/virtualization/virtual-machines/"] = nil }, says: "ip-address 1"},
		"no rights":             {box: func(b *box) { b.lists["/api/ipam/ip-addresses/"] = nil }, says: "among 0"},
		"an address":            {box: func(b *box) { b.lists["/api/ipam/ip-addresses/"][0]["address"] = "x" }, says: `"x" is no address`},
		"deleted between pages": {box: func(b *box) { b.after = shrink }, says: "ip-address"},
		"no such list":          {box: func(b *box) { delete(b.lists, "/api/tenancy/tenants/") }, says: "404"},
		"no NetBox":             {h: func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `{}`) }, says: "is this NetBox?"},
		"no JSON":               {h: func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `<html>`) }, says: "not what the API documents"},
		"pages without end": {h: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, `{"count":5,"next":"http://x/","results":[]}`)
		}, says: "empty page"},
		"a redirect": {h: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere.example/", http.StatusFound)
		}, says: "302"},
		"a hang": {h: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, change: func(c *Config) { c.Timeout = 200 * time.Millisecond }, says: "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox()
			if c.box != nil {
				c.box(b)
			}
			h := http.Handler(b)
			if c.h != nil {
				h = c.h
			}
			var change []func(*Config)
			if c.change != nil {
				change = append(change, c.change)
			}
			got, err := source(t, h, change...).Discover(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.says) || got != nil {
				t.Errorf("Discover = %+v, %v, want nothing and %q", got, err, c.says)
			}
			if err != nil && strings.Contains(err.Error(), token) {
				t.Errorf("the error tells the token: %v", err)
			}
		})
	}
}

// shrink deletes an interface after the first page of addresses was read.
func shrink(b *box) {
	b.lists["/api/virtualization/interfaces/"] = b.lists["/api/virtualization/interfaces/"][:1]
	b.after = nil
}

func TestValidate(t *testing.T) {
	good := Config{Name: "ipam", URL: "https://nb.example", Token: "t"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no name":          {func(c *Config) { c.Name = "" }, "name: "},
		"no url":           {func(c *Config) { c.URL = "nb.example" }, "url: "},
		"the API's url":    {func(c *Config) { c.URL += "/api/" }, "without /api"},
		"no token":         {func(c *Config) { c.Token = "" }, "token: "},
		"tenant by colour": {func(c *Config) { c.TenantID = "colour" }, "tenant_id: "},
		"a VM's slug":      {func(c *Config) { c.VDS = "slug" }, "vds: "},
		"no field":         {func(c *Config) { c.VDS = "cf:" }, "vds: "},
		"no such CA":       {func(c *Config) { c.CAFile = "/nonexistent" }, "ca_file: "},
		"negative timeout": {func(c *Config) { c.Timeout = -1 }, "timeout: "},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Validate = %v, want %q", err, c.says)
			}
		})
	}
}
