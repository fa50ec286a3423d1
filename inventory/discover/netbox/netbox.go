// Package netbox discovers who holds which address from a NetBox (v4).
//
// In come IP addresses with the VM interface that they are assigned to, its
// virtual machine and the machine's tenant, and prefixes with a tenant; out
// goes a list of discover.Entry. An address of a shared role (VIP, VRRP, anycast, …)
// gets the tag "shared". A list that cannot be read to its end is an error,
// never half a list.
//
// The Source starts no goroutine of its own. The package imports no sibling.
package netbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/inventory/discover"
)

// Source is one NetBox. It is safe for concurrent use.
type Source struct {
	cfg Config
	now func() time.Time
	api func() (*api, error) // made at the first call
}

// New returns a Source. It does no I/O: a wrong configuration shows at the
// first call (Config.Validate tells it beforehand). now may be nil.
func New(cfg Config, now func() time.Time) *Source {
	if now == nil {
		now = time.Now
	}
	if cfg.TenantID == "" {
		cfg.TenantID = "slug"
	}
	if cfg.VDS == "" {
		cfg.VDS = "name"
	}
	if len(cfg.VRFs) == 0 {
		cfg.VRFs = []string{""}
	}
	return &Source{cfg: cfg, now: now, api: sync.OnceValues(func() (*api, error) { return newAPI(cfg) })}
}

// Name is the source's name in the configuration.
func (s *Source) Name() string { return s.cfg.Name }

// Discover reads everything, or gives an error. A NetBox without any address
// that somebody holds is an error too: that is what a token without rights sees.
func (s *Source) Discover(ctx context.Context) ([]discover.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.timeout())
	defer cancel()
	out, err := s.discover(ctx)
	if err != nil {
		return nil, fmt.Errorf("discover %s: %w", s.cfg.Name, err)
	}
	return out, nil
}

func (s *Source) discover(ctx context.Context) ([]discover.Entry, error) {
	a, err := s.api()
	if err != nil {
		return nil, err
	}
	w, err := s.load(ctx, a)
	if err != nil {
		return nil, err
	}
	var out []discover.Entry
	var errs []error
	for _, ip := range w.addresses {
		e, ok, err := w.ofAddress(ip)
		if err != nil {
			errs = append(errs, err)
		} else if ok {
			out = append(out, e)
		}
	}
	for _, p := range w.prefixes {
		e, ok, err := w.ofPrefix(p)
		if err != nil {
			errs = append(errs, err)
		} else if ok {
			out = append(out, e)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs[:min(len(errs), 20)]...)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no address with a holder among %d that the token may see", len(w.addresses))
	}
	return out, nil
}

// world is all that was read, by id.
type world struct {
	cfg       Config
	seen      time.Time
	addresses []ipAddress
	prefixes  []prefix
	ifaces    map[int]vmInterface
	machines  map[int]machine
	tenants   map[int]tenant
	mails     map[int]string // of tenants
}

func (s *Source) load(ctx context.Context, a *api) (*world, error) {
	w := &world{cfg: s.cfg, seen: s.now().UTC(), mails: map[int]string{}}
	var err error
	if w.addresses, err = list[ipAddress](ctx, a, "/ipam/ip-addresses/"); err != nil {
		return nil, err
	}
	if w.ifaces, err = byID(ctx, a, "/virtualization/interfaces/", func(o vmInterface) int { return o.ID }); err != nil {
		return nil, err
	}
	if w.machines, err = byID(ctx, a, "/virtualization/virtual-machines/", func(o machine) int { return o.ID }); err != nil {
		return nil, err
	}
	if w.tenants, err = byID(ctx, a, "/tenancy/tenants/", func(o tenant) int { return o.ID }); err != nil {
		return nil, err
	}
	if s.cfg.Prefixes {
		if w.prefixes, err = list[prefix](ctx, a, "/ipam/prefixes/"); err != nil {
			return nil, err
		}
	}
	if s.cfg.Contacts {
		err = w.loadContacts(ctx, a)
	}
	return w, err
}

func byID[T any](ctx context.Context, a *api, path string, id func(T) int) (map[int]T, error) {
	all, err := list[T](ctx, a, path)
	out := make(map[int]T, len(all))
	for _, o := range all {
		out[id(o)] = o
	}
	return out, err
}

// loadContacts finds the tenants' mail addresses: of several contacts the
// primary one's, then the secondary's and so on.
func (w *world) loadContacts(ctx context.Context, a *api) error {
	contacts, err := byID(ctx, a, "/tenancy/contacts/", func(o contact) int { return o.ID })
	if err != nil {
		return err
	}
	all, err := list[assignment](ctx, a, "/tenancy/contact-assignments/")
	if err != nil {
		return err
	}
	order := []string{"primary", "secondary", "tertiary", "", "inactive"}
	rank := func(x assignment) int {
		if x.Priority == nil {
			return slices.Index(order, "")
		}
		return slices.Index(order, x.Priority.Value)
	}
	slices.SortStableFunc(all, func(x, y assignment) int { return rank(x) - rank(y) })
	for _, x := range all {
		m := contacts[x.Contact.ID].Email
		if x.ObjectType != "tenancy.tenant" || rank(x) == slices.Index(order, "inactive") || w.mails[x.ObjectID] != "" {
			continue
		}
		if p, err := mail.ParseAddress(m); err == nil && p.Address == m {
			w.mails[x.ObjectID] = m
		}
	}
	return nil
}

// sharedRoles are the roles under which more than one machine answers.
var sharedRoles = []string{"anycast", "vip", "vrrp", "hsrp", "glbp", "carp"}

func (w *world) ofAddress(ip ipAddress) (discover.Entry, bool, error) {
	if !w.inVRF(ip.VRF) || ip.Status.Value == "reserved" {
		return discover.Entry{}, false, nil
	}
	// The length is the network's; the address is what is held.
	p, err := netip.ParsePrefix(ip.Address)
	if err != nil {
		return discover.Entry{}, false, fmt.Errorf("ip-address %d: %.60q is no address", ip.ID, ip.Address)
	}
	addr := p.Addr().Unmap()
	e := discover.Entry{
		Prefixes: []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())},
		Source:   fmt.Sprintf("%s ip-address %d", w.cfg.Name, ip.ID), Seen: w.seen,
	}
	owner := ip.Tenant
	e.Tags = tags(nil, ip.Tags)
	if ip.ObjectType == "virtualization.vminterface" && ip.ObjectID != nil {
		f, ok := w.ifaces[*ip.ObjectID]
		m, ok2 := w.machines[f.VM.ID]
		if !ok || !ok2 {
			return discover.Entry{}, false, fmt.Errorf("ip-address %d is of interface %d, which is not among those that the token may see", ip.ID, *ip.ObjectID)
		}
		e.VDS = value(w.cfg.VDS, m.ID, m.Name, "", m.Fields)
		e.MAC = f.mac()
		if m.Cluster != nil {
			e.Hypervisor = w.cfg.Clusters[m.Cluster.Name]
		}
		if m.Tenant != nil { // who has the machine answers for what it sends
			owner = m.Tenant
		}
		e.Tags = tags(e.Tags, m.Tags)
	}
	if ip.Role != nil && slices.Contains(sharedRoles, ip.Role.Value) {
		e.Tags = tags(e.Tags, []ref{{Slug: "shared"}})
	}
	w.setTenant(&e, owner)
	return e, e.Tenant != "" || e.VDS != "", nil
}

func (w *world) ofPrefix(p prefix) (discover.Entry, bool, error) {
	if p.Tenant == nil || p.Status.Value == "container" || p.Status.Value == "reserved" || !w.inVRF(p.VRF) {
		return discover.Entry{}, false, nil
	}
	n, err := netip.ParsePrefix(p.Prefix)
	if err != nil || n.Bits() == 0 {
		return discover.Entry{}, false, fmt.Errorf("prefix %d: %.60q is no prefix of yours", p.ID, p.Prefix)
	}
	e := discover.Entry{
		Prefixes: []netip.Prefix{n.Masked()}, Tags: tags(nil, p.Tags),
		Source: fmt.Sprintf("%s prefix %d", w.cfg.Name, p.ID), Seen: w.seen,
	}
	w.setTenant(&e, p.Tenant)
	return e, e.Tenant != "", nil
}

func (w *world) setTenant(e *discover.Entry, r *ref) {
	if r == nil {
		return
	}
	t := w.tenants[r.ID]
	e.Tenant = value(w.cfg.TenantID, r.ID, r.Name, r.Slug, t.Fields)
	e.Contact = w.mails[r.ID]
	if l := t.Fields.text(w.cfg.LanguageField); l == "en" || l == "ru" {
		e.Language = l
	}
}

func (w *world) inVRF(v *ref) bool {
	name := ""
	if v != nil {
		name = v.Name
	}
	return slices.Contains(w.cfg.VRFs, name)
}

// value is what identifies an object.
func value(by string, id int, name, slug string, f fields) string {
	switch field, custom := strings.CutPrefix(by, "cf:"); {
	case custom:
		return f.text(field)
	case by == "slug":
		return slug
	case by == "name":
		return name
	}
	return strconv.Itoa(id)
}

func tags(have []string, more []ref) []string {
	for _, t := range more {
		if t.Slug != "" && !slices.Contains(have, t.Slug) {
			have = append(have, t.Slug)
		}
	}
	return have
}

// mac is the primary MAC or, where none is marked so, the only one.
func (f vmInterface) mac() string {
	s := ""
	if f.MAC != nil {
		s = *f.MAC
	} else if len(f.MACs) == 1 {
		s = f.MACs[0].MAC
	}
	hw, err := net.ParseMAC(s)
	if err != nil {
		return ""
	}
	return hw.String()
}
