package inventory

import (
	"maps"
	"net/netip"
	"slices"
)

// Hypervisors are the names that the entries of the file in force refer to,
// sorted, each once: what must be callable before a rule may act.
func (i *Inventory) Hypervisors() []string {
	names := map[string]bool{}
	for _, entries := range i.current.Load().table.byPrefix.All() {
		for _, e := range entries {
			if e.h.Hypervisor != "" {
				names[e.h.Hypervisor] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Finer are the IPv6 prefixes of the file in force that are longer than bits,
// sorted. What is delegated to one tenant is judged as one: with finer entries
// whoever holds its first address would answer for all of it.
func (i *Inventory) Finer(bits int) []netip.Prefix {
	var out []netip.Prefix
	for p := range i.current.Load().table.byPrefix.All() {
		if p.Addr().Is6() && p.Bits() > bits {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}
