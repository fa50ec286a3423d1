package libvirt

import (
	"net/netip"
	"os/exec"
	"testing"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/e2e/lab"
	"github.com/flowcordon/flowcordon/flow"
)

func TestFind(t *testing.T) {
	e := newEnv(t).start()
	for name, vds := range map[string]string{
		"UUID": e.guest.UUID, "UUID in capitals": "11111111222233334444" + e.guest.UUID[24:], "name": e.guest.Name,
		"panel's id": e.guest.PanelID, "by MAC alone": "", "unknown id, MAC decides": "customer-77",
	} {
		t.Run(name, func(t *testing.T) {
			nic := e.nic
			nic.VDS = vds
			if _, err := e.a.Status(t.Context(), nic); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFindRefuses(t *testing.T) {
	e, other := newEnv(t, lab.NIC{}, lab.NIC{}), newEnv(t)
	try := func(what string, nic flow.NIC, class flow.ErrClass, words ...string) {
		t.Helper()
		_, err := e.a.Status(t.Context(), nic)
		e.wantErr(what, err, class, words...)
	}
	nic := e.nic
	nic.MAC = "52:54:00:00:00:99"
	try("no such MAC", nic, flow.ErrNotFound, e.guest.Name, "its NICs are", e.guest.NICs[1].MAC)
	nic.VDS = "vds-gone"
	try("neither VDS nor MAC", nic, flow.ErrNotFound, "migrated or deleted")
	nic = e.nic
	nic.MAC = other.nic.MAC
	try("another's MAC", nic, flow.ErrConflict, other.guest.Name, "inventory")
	nic.MAC = "not a mac"
	try("no MAC at all", nic, flow.ErrNotFound, "not a mac")
	nic = e.nic
	nic.MAC = ""
	try("two NICs, no MAC", nic, flow.ErrNotFound, "macs:", e.nic.MAC)
	nic.VDS = ""
	try("an address alone", nic, flow.ErrNotFound, "macs:")
	if _, err := e.a.Cut(t.Context(), e.nic, flow.Mark{}); err == nil {
		t.Error("a mark without incident was taken")
	}
}

func TestSameMACInTwoDomains(t *testing.T) {
	e := newEnv(t)
	clone := newEnv(t, lab.NIC{MAC: e.nic.MAC})
	_, err := e.a.Status(t.Context(), flow.NIC{MAC: e.nic.MAC})
	e.wantErr("MAC alone", err, flow.ErrConflict, "ambiguous", e.guest.Name, clone.guest.Name)
	// The VDS says which of them.
	e.want("named", flow.LinkUnknown, flow.LinkUp, false, "")
	r := e.cut("inc-1")
	clone.want("the clone", flow.LinkUnknown, flow.LinkUp, false, "")
	e.restore("inc-1", r)
}

func TestFindByIP(t *testing.T) {
	ip := netip.MustParseAddr("198.51.100.77")
	t.Run("the only NIC of the VDS", func(t *testing.T) {
		e := newEnv(t)
		e.nic.MAC = ""
		if r := e.cut("inc-1"); r.NIC.MAC != e.guest.NICs[0].MAC {
			t.Errorf("cut %q", r.NIC.MAC)
		}
	})
	t.Run("filter parameter", func(t *testing.T) {
		e := newEnv(t, lab.NIC{}, lab.NIC{Extra: `<filterref filter='lab-no-spoof'><parameter name='IP' value='198.51.100.77'/></filterref>`})
		for _, vds := range []string{e.guest.PanelID, e.guest.Name, ""} {
			r, err := e.a.Cut(t.Context(), flow.NIC{VDS: vds, IP: ip}, flow.Mark{Incident: "inc-1"})
			if err != nil || r.NIC.MAC != e.guest.NICs[1].MAC {
				t.Errorf("vds %q: cut %q, %v", vds, r.NIC.MAC, err)
			}
		}
		twin := newEnv(t, lab.NIC{Extra: `<filterref filter='lab-no-spoof'><parameter name='IP' value='198.51.100.77'/></filterref>`})
		_, err := e.a.Status(t.Context(), flow.NIC{IP: ip})
		e.wantErr("two domains", err, flow.ErrConflict, "ambiguous", e.guest.Name, twin.guest.Name)
	})
	t.Run("the node's ARP table", func(t *testing.T) {
		e := newEnv(t, lab.NIC{}, lab.NIC{}).start()
		want := e.guest.NICs[1].MAC
		out, err := exec.Command("ip", "-n", e.Node, "neigh", "replace", ip.String(), "lladdr", want, "dev", lab.Bridge, "nud", "reachable").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if _, err := e.admin.DomainInterfaceAddresses(e.dom, uint32(golibvirt.DomainInterfaceAddressesSrcArp), 0); err != nil {
			// libvirt 9.0 takes the end of a newer kernel's dump for a broken message.
			t.Skipf("this libvirtd cannot read this kernel's ARP table: %v", err)
		}
		r, err := e.a.Cut(t.Context(), flow.NIC{IP: ip}, flow.Mark{Incident: "inc-1"})
		if err != nil || r.NIC.MAC != want {
			t.Errorf("cut %q, %v; want %q", r.NIC.MAC, err, want)
		}
	})
}
