// Package vsphere discovers which NIC of which virtual machine of a vCenter
// holds which addresses.
//
// In comes the vCenter's API; out goes a list of discover.Entry, one for each NIC that
// has addresses: those that a custom attribute of the machine names, written by
// the panel or an admin, and, if asked for, those that VMware Tools tell from
// within the guest. A list that could not be read whole is an error.
//
// The Source starts no goroutine. The package imports no sibling.
package vsphere

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/flowcordon/flowcordon/internal/vcenter"
	"github.com/flowcordon/flowcordon/inventory/discover"
)

// maxClaims bounds what a guest may say of one NIC: it may list as many
// addresses as it likes. A VDS with more has a prefix of its own.
const maxClaims = 64

// Source is one vCenter. It is safe for concurrent use.
type Source struct {
	cfg Config
	now func() time.Time
}

// New returns a Source. It does no I/O: a wrong configuration shows at the
// first call (Config.Validate tells it beforehand). now may be nil.
func New(cfg Config, now func() time.Time) *Source {
	if now == nil {
		now = time.Now
	}
	return &Source{cfg: cfg, now: now}
}

// Name is the source's name in the configuration.
func (s *Source) Name() string { return s.cfg.Name }

// machine is what is read of a virtual machine.
type machine struct {
	id, name, uuid string
	tenant         string
	nics           []nic
}

// nic is one NIC with what was found of it.
type nic struct {
	mac    string
	key    int32 // of the device
	set    []netip.Prefix
	claims []netip.Addr // by the guest itself
}

// Discover reads all machines, or gives an error. A vCenter without any address
// is an error too: that is what an account without rights sees.
func (s *Source) Discover(ctx context.Context) ([]discover.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.timeout())
	defer cancel()
	all, err := s.read(ctx)
	if err == nil {
		if out := s.entries(all); slices.ContainsFunc(out, func(e discover.Entry) bool { return len(e.Prefixes) > 0 }) {
			return out, nil
		}
		err = fmt.Errorf("no machine with an address among %d that the account may read", len(all))
	}
	return nil, fmt.Errorf("discover %s: %w", s.cfg.Name, err)
}

func (s *Source) read(ctx context.Context) ([]machine, error) {
	ses, err := s.cfg.open(ctx)
	if err != nil {
		return nil, err
	}
	defer ses.Bye()
	addresses, tenant, err := s.attributes(ctx, ses)
	if err != nil {
		return nil, err
	}
	props := []string{"name", "config.template", "config.instanceUuid", "config.hardware.device", "customValue"}
	if s.cfg.Tools {
		props = append(props, "guest.net")
	}
	var vms []mo.VirtualMachine
	if err := ses.VMs.Retrieve(ctx, []string{"VirtualMachine"}, props, &vms); err != nil {
		return nil, fmt.Errorf("read the virtual machines: %w", bare(err))
	}
	var out []machine
	for _, vm := range vms {
		if vm.Config == nil || vm.Config.Template {
			continue // an orphan that sends nothing, or no server at all
		}
		m := machine{id: vm.Self.Value, name: vm.Name, uuid: vm.Config.InstanceUuid, nics: nicsOf(vm)}
		for _, v := range vm.CustomValue {
			cv, ok := v.(*types.CustomFieldStringValue)
			if !ok || cv.Key == 0 {
				continue
			}
			switch cv.Key {
			case addresses:
				if err := m.set(cv.Value); err != nil {
					return nil, fmt.Errorf("%s (%s): attribute %s: %w", m.name, m.id, s.cfg.AddressAttribute, err)
				}
			case tenant:
				m.tenant = strings.TrimSpace(cv.Value)
			}
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b machine) int { return strings.Compare(a.name+"\x00"+a.id, b.name+"\x00"+b.id) })
	return out, nil
}

// attributes are the keys of the custom attributes; 0 for one not asked for.
func (s *Source) attributes(ctx context.Context, ses *vcenter.Session) (addresses, tenant int32, err error) {
	if s.cfg.AddressAttribute == "" && s.cfg.TenantAttribute == "" {
		return 0, 0, nil
	}
	ref := ses.Client.ServiceContent.CustomFieldsManager
	if ref == nil {
		return 0, 0, errors.New("address_attribute, tenant_attribute: a lone ESXi host has no custom attributes")
	}
	var fm mo.CustomFieldsManager
	if err := property.DefaultCollector(ses.Client).RetrieveOne(ctx, *ref, []string{"field"}, &fm); err != nil {
		return 0, 0, fmt.Errorf("read the custom attributes: %w", bare(err))
	}
	find := func(option, name string) (int32, error) {
		if name == "" {
			return 0, nil
		}
		for _, f := range fm.Field {
			if f.Name == name && (f.ManagedObjectType == "" || f.ManagedObjectType == "VirtualMachine") {
				return f.Key, nil
			}
		}
		return 0, fmt.Errorf("%s: the vCenter has no custom attribute %q for virtual machines", option, name)
	}
	var errs [2]error
	addresses, errs[0] = find("address_attribute", s.cfg.AddressAttribute)
	tenant, errs[1] = find("tenant_attribute", s.cfg.TenantAttribute)
	return addresses, tenant, errors.Join(errs[:]...)
}

func nicsOf(vm mo.VirtualMachine) []nic {
	var out []nic
	for _, d := range vm.Config.Hardware.Device {
		c, ok := d.(types.BaseVirtualEthernetCard)
		if !ok || c.GetVirtualEthernetCard().MacAddress == "" {
			continue
		}
		card := c.GetVirtualEthernetCard()
		n := nic{mac: strings.ToLower(card.MacAddress), key: card.Key}
		if vm.Guest != nil {
			n.claims = claims(vm.Guest.Net, n)
		}
		out = append(out, n)
	}
	return out
}

// claims are the addresses that the guest says of this NIC. The device's key
// comes from the host; a guest that gives its NIC another MAC is not believed.
func claims(nets []types.GuestNicInfo, n nic) []netip.Addr {
	var out []netip.Addr
	for _, g := range nets {
		if !strings.EqualFold(g.MacAddress, n.mac) || g.DeviceConfigId > 0 && g.DeviceConfigId != n.key {
			continue
		}
		for _, text := range g.IpAddress {
			ip, err := netip.ParseAddr(text)
			if err != nil || ip.Zone() != "" || !ip.Unmap().IsGlobalUnicast() || len(out) == maxClaims {
				continue
			}
			if ip = ip.Unmap(); !slices.Contains(out, ip) {
				out = append(out, ip)
			}
		}
	}
	return out
}

// set takes the addresses that the attribute names.
func (m *machine) set(text string) error {
	for _, w := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\n' || r == '\t' }) {
		at := 0
		addr := w
		if mac, rest, ok := strings.Cut(w, "="); ok {
			hw, err := net.ParseMAC(mac)
			if err != nil {
				return fmt.Errorf("%q is no MAC; write 00:50:56:12:34:56=198.18.0.7", mac)
			}
			if at = slices.IndexFunc(m.nics, func(n nic) bool { return n.mac == hw.String() }); at < 0 {
				return fmt.Errorf("the machine has no NIC %s", mac)
			}
			addr = rest
		} else if len(m.nics) != 1 {
			return fmt.Errorf("%q names no NIC, and the machine has %d; write MAC=address", w, len(m.nics))
		}
		p, err := parsePrefix(addr)
		if err != nil {
			return err
		}
		if !slices.Contains(m.nics[at].set, p) {
			m.nics[at].set = append(m.nics[at].set, p)
		}
	}
	return nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p != p.Masked() || p.Bits() == 0 || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a prefix; write 198.18.0.7 or 2001:db8:0:1::/64", s)
	}
	return p, nil
}

// entries gives each NIC what the attribute says. What its guest claims is an
// entry of its own, forgeable, and only where nobody contradicts it.
func (s *Source) entries(all []machine) []discover.Entry {
	named := map[string]int{}
	var set []netip.Prefix
	claimed := map[netip.Prefix]map[string]bool{} // by which machines
	for _, m := range all {
		named[m.name]++
		for _, n := range m.nics {
			set = append(set, n.set...)
			for _, ip := range n.claims {
				p := s.prefix(ip)
				if claimed[p] == nil {
					claimed[p] = map[string]bool{}
				}
				claimed[p][m.id] = true
			}
		}
	}
	disputed := overlap(set)
	seen := s.now().UTC()
	var out []discover.Entry
	for _, m := range all {
		vds := m.name
		if named[m.name] > 1 && m.uuid != "" { // names are unique in a folder alone
			vds = m.uuid
		}
		for _, n := range m.nics {
			e := discover.Entry{
				Prefixes: n.set, Tenant: m.tenant, VDS: vds, Hypervisor: s.cfg.Hypervisor, MAC: n.mac, Seen: seen,
				Source: fmt.Sprintf("%s %s device %d", s.cfg.Name, m.id, n.key),
			}
			if len(e.Prefixes) > 0 || s.cfg.Bare {
				out = append(out, e)
			}
			e.Prefixes, e.Source, e.Forgeable = nil, e.Source+" tools", true
			for _, ip := range n.claims {
				p := s.prefix(ip)
				in := slices.ContainsFunc(s.cfg.Networks, func(w netip.Prefix) bool { return w.Contains(ip) })
				if in && len(claimed[p]) == 1 && !disputed(p) && !slices.Contains(e.Prefixes, p) {
					e.Prefixes = append(e.Prefixes, p)
				}
			}
			if len(e.Prefixes) > 0 {
				out = append(out, e)
			}
		}
	}
	return out
}

func (s *Source) prefix(ip netip.Addr) netip.Prefix {
	bits := ip.BitLen()
	if ip.Is6() && s.cfg.V6Bits != 0 {
		bits = s.cfg.V6Bits
	}
	return netip.PrefixFrom(ip, bits).Masked()
}

// overlap tells whether a prefix has an address in common with one of set.
func overlap(set []netip.Prefix) func(netip.Prefix) bool {
	exact := map[netip.Prefix]bool{}
	lengths := map[int]bool{}
	for _, p := range set {
		// Every shorter prefix of it, so that one lookup finds what lies within.
		for b := p.Bits(); b >= 0; b-- {
			exact[netip.PrefixFrom(p.Addr(), b).Masked()] = exact[netip.PrefixFrom(p.Addr(), b).Masked()] || b == p.Bits()
		}
		lengths[p.Bits()] = true
	}
	return func(p netip.Prefix) bool {
		if _, within := exact[p]; within {
			return true
		}
		for b := range lengths {
			if b < p.Bits() && exact[netip.PrefixFrom(p.Addr(), b).Masked()] {
				return true
			}
		}
		return false
	}
}
