package vsphere

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/vmware/govmomi/vim25/types"
)

func TestPick(t *testing.T) {
	vm := func(id, name string, ids []string, macs ...string) listed {
		return listed{ref: types.ManagedObjectReference{Type: "VirtualMachine", Value: id}, name: name, ids: append(ids, strings.ToLower(name), id), macs: macs}
	}
	all := []listed{
		vm("vm-1", "vds-1", []string{"50220000-0000-0000-0000-000000000001"}, "00:50:56:00:00:01", "00:50:56:00:00:11"),
		vm("vm-2", "vds-2", nil, "00:50:56:00:00:02"),
		vm("vm-3", "vds-2", nil, "00:50:56:00:00:03"), // the same name in another folder
		vm("vm-4", "clone", nil, "00:50:56:00:00:05"),
		vm("vm-5", "Other", nil, "00:50:56:00:00:05"), // the same MAC twice
		vm("vm-6", "bare", nil),
	}
	ip := netip.MustParseAddr("22.1.0.7")
	for name, c := range map[string]struct {
		vds, mac string
		want     string
		class    flow.ErrClass
	}{
		"name and MAC":                      {"vds-1", "00:50:56:00:00:11", "vm-1", ""},
		"UUID and MAC":                      {"50220000-0000-0000-0000-000000000001", "00:50:56:00:00:01", "vm-1", ""},
		"id and MAC":                        {"vm-1", "00-50-56-00-00-01", "vm-1", ""},
		"a panel's id and MAC":              {"42", "00:50:56:00:00:01", "vm-1", ""},
		"MAC alone":                         {"", "00:50:56:00:00:02", "vm-2", ""},
		"a name twice, told apart by MAC":   {"vds-2", "00:50:56:00:00:03", "vm-3", ""},
		"a MAC twice, told apart by name":   {"other", "00:50:56:00:00:05", "vm-5", ""},
		"a MAC twice and no name":           {"42", "00:50:56:00:00:05", "", flow.ErrConflict},
		"the MAC is somebody else's":        {"vds-1", "00:50:56:00:00:02", "", flow.ErrConflict},
		"the machine has no such NIC":       {"vds-1", "00:50:56:00:00:99", "", flow.ErrNotFound},
		"neither there":                     {"42", "00:50:56:00:00:99", "", flow.ErrNotFound},
		"no MAC at all":                     {"vds-1", "zz", "", flow.ErrNotFound},
		"an InfiniBand address":             {"vds-1", "00:00:00:00:fe:80:00:00:00:00:00:00:02:00:5e:10:00:00:00:01", "", flow.ErrNotFound},
		"its only NIC, no MAC written":      {"clone", "", "vm-4", ""},
		"no MAC written, two NICs":          {"vds-1", "", "", flow.ErrNotFound},
		"no MAC written, no NIC":            {"bare", "", "", flow.ErrNotFound},
		"no MAC written, the name twice":    {"vds-2", "", "", flow.ErrConflict},
		"no MAC written, nobody so named":   {"42", "", "", flow.ErrNotFound},
		"nothing but an address is written": {"", "", "", flow.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			e, _, err := pick(all, flow.NIC{VDS: c.vds, MAC: c.mac, IP: ip})
			if got := suspendertest.Class(err); got != c.class || e.ref.Value != c.want {
				t.Errorf("pick = %q, %v (class %q), want %q, class %q", e.ref.Value, err, got, c.want, c.class)
			}
		})
	}
}

// A machine registered anew has another id: the list of a moment ago is not
// the last word.
func TestRegisteredAnew(t *testing.T) {
	v := newVCenter(t)
	vm := v.vm(0)
	a, nic := v.adapter(), v.nic(vm)
	mustStatus(t, a, nic)
	a.machines.mu.Lock()
	for i := range a.machines.all {
		if a.machines.all[i].ref == vm.Self {
			a.machines.all[i].ref.Value = "vm-of-before"
		}
	}
	a.machines.mu.Unlock()
	r := mustCut(t, a, nic, suspendertest.Mark("inc-1"))
	mustRestore(t, a, nic, suspendertest.Mark("inc-1"), r)
}

func FuzzMark(f *testing.F) {
	f.Add("incident=inc-1&key=k&by=b&reason=r&at=2026-11-22T07:00:00Z&connected=true&start=true&guest=false&running=true&ip=22.1.0.7")
	f.Add("incident=%zz")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseMark(s)
		if err != nil {
			return
		}
		m.Reason = shorten(m.Reason)
		again, err := parseMark(m.text())
		if err != nil || !again.At.Equal(m.At) || again.was != m.was || again.Incident != m.Incident || again.Reason != m.Reason {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
	})
}

// A hundred NICs that are gone for good are looked for each minute: the vCenter
// must not list all its machines for each.
func TestMissesShareAList(t *testing.T) {
	v := newVCenter(t)
	a := v.adapter()
	a.machines.at = time.Now() // as if listed a moment ago, with nothing in it
	for range 20 {
		_, err := a.Status(t.Context(), flow.NIC{VDS: "gone", MAC: "00:50:56:00:00:99"})
		wantClass(t, "Status", err, flow.ErrNotFound)
		a.machines.mu.Lock()
		if a.machines.at.Before(time.Now().Add(-maxAgeAct / 2)) {
			a.machines.at = time.Now() // a slow machine is no reason to list
		}
		a.machines.mu.Unlock()
	}
	if n := v.called("RetrievePropertiesEx"); n != 0 {
		t.Errorf("%d reads for 20 misses within seconds, want none", n)
	}
	a.machines.at = time.Now().Add(-maxAgeAct - time.Second)
	nic := v.nic(v.vm(0))
	if mustStatus(t, a, nic); a.machines.at.Before(time.Now().Add(-maxAgeAct)) {
		t.Error("a miss in an old list did not list anew")
	}
}

// Listing again reads the devices of those alone that were reconfigured.
func TestListingAgain(t *testing.T) {
	v := newVCenter(t)
	a := v.adapter()
	s, _, err := a.link.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	reads := func() int {
		t.Helper()
		before := v.called("RetrievePropertiesEx")
		all, fresh, err := a.machines.get(t.Context(), s, 0)
		if err != nil || !fresh || len(all) != 4 {
			t.Fatalf("%d machines, fresh %v, %v", len(all), fresh, err)
		}
		for _, e := range all {
			if len(e.macs) != 1 {
				t.Errorf("%s has the MACs %v, want one", e.name, e.macs)
			}
		}
		return v.called("RetrievePropertiesEx") - before
	}
	if n := reads(); n != 2 {
		t.Errorf("%d reads for the first list, want names and devices", n)
	}
	if n := reads(); n != 1 {
		t.Errorf("%d reads for the second list, want the names alone", n)
	}
	v.reconfigure(v.vm(2), func(c *types.VirtualEthernetCard) { c.MacAddress = "00:50:56:00:00:77" })
	if n := reads(); n != 2 {
		t.Errorf("%d reads after a reconfiguration, want names and the one's devices", n)
	}
	e, _, err := pick(a.machines.all, flow.NIC{MAC: "00:50:56:00:00:77"})
	if err != nil || e.ref != v.vm(2).Self {
		t.Errorf("the new MAC: %v, %v", e, err)
	}
}
