package detect

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// Port is one way by which a tenant's packets come into the network, as the
// inventory has it: by the MAC of its NIC, or by the port of a switch. Either MAC
// is set, or Exporter and Interface are.
type Port struct {
	Tenant netip.Addr // an address of who owns it; a v6 tenant's first address
	MAC    [6]byte    // of the VDS's NIC
	// Exporter, Interface and VLAN name a port of a switch or a sub-interface
	// behind which only this tenant is. VLAN 0 is any.
	Exporter  netip.Addr
	Interface uint32
	VLAN      uint16
}

// PortTable answers Deps.PortOwner from the inventory. It does not change and
// may be read by any number of goroutines.
//
// What it needs of the export: the Ethernet source (sFlow's raw header, or
// sourceMacAddress, element 56) as the hypervisor's or first switch sees it; or,
// without it, an exporter whose input interface or VLAN (elements 10 and 58) is
// one tenant's. A border router's rows have the MAC of the router before it,
// which is nobody's: for them it says nothing, and guards that must know hold.
type PortTable struct {
	byMAC  map[[6]byte]netip.Addr
	byPort map[flow.Attachment]netip.Addr // without MAC
}

// NewPortTable checks the ports. A MAC or a port of two tenants is an error:
// same says whether two addresses are of one server, whose first one then stands.
func NewPortTable(ports []Port, same func(a, b netip.Addr) bool) (*PortTable, error) {
	t := &PortTable{byMAC: map[[6]byte]netip.Addr{}, byPort: map[flow.Attachment]netip.Addr{}}
	var errs []error
	for i := range ports {
		p := &ports[i]
		var old netip.Addr
		var what string
		switch noMAC := p.MAC == [6]byte{}; {
		case !p.Tenant.IsValid():
			errs = append(errs, fmt.Errorf("port %d has no tenant: write an address of its owner", i))
			continue
		case !noMAC && p.MAC[0]&1 != 0:
			errs = append(errs, fmt.Errorf("MAC %s of %s is a group address: write that of the NIC", net.HardwareAddr(p.MAC[:]), p.Tenant))
			continue
		case !noMAC:
			old, what = t.byMAC[p.MAC], "MAC "+net.HardwareAddr(p.MAC[:]).String()
			if !old.IsValid() {
				t.byMAC[p.MAC] = p.Tenant
			}
		case !p.Exporter.IsValid():
			errs = append(errs, fmt.Errorf("port %d of %s has neither a MAC nor an exporter: write one of them", i, p.Tenant))
			continue
		default:
			k := flow.Attachment{Exporter: p.Exporter, InIf: p.Interface, VLAN: p.VLAN}
			old, what = t.byPort[k], fmt.Sprintf("interface %d, VLAN %d of %s", p.Interface, p.VLAN, p.Exporter)
			if !old.IsValid() {
				t.byPort[k] = p.Tenant
			}
		}
		if old.IsValid() && old != p.Tenant && (same == nil || !same(old, p.Tenant)) {
			errs = append(errs, fmt.Errorf("%s is given to %s and to %s: it can be of one server only", what, old, p.Tenant))
		}
	}
	return t, errors.Join(errs...)
}

// Owner returns an address of the tenant whose port an attachment is, the MAC
// before the port. False: it is nobody's, as a router's MAC is, or was not
// exported.
func (t *PortTable) Owner(a flow.Attachment) (netip.Addr, bool) {
	if o, ok := t.byMAC[a.SrcMAC]; ok {
		return o, true
	}
	a.SrcMAC = [6]byte{}
	if o, ok := t.byPort[a]; ok {
		return o, true
	}
	a.VLAN = 0
	o, ok := t.byPort[a]
	return o, ok
}
