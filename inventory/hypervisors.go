package inventory

import (
	"maps"
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
