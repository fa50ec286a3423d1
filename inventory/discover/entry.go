// Package discover is what all discoveries of an inventory have in common: the
// Entry that each of them gives. It imports the standard library only.
package discover

import (
	"net/netip"
	"time"
)

// Entry is what was found of one NIC, or of addresses of one tenant.
type Entry struct {
	Prefixes   []netip.Prefix `json:"prefixes"`             // masked; an address is its /32 or /128; none: of the NIC none is known
	Tenant     string         `json:"tenant,omitempty"`     // customer id
	VDS        string         `json:"vds,omitempty"`        // as the hypervisor's adapter resolves it
	Hypervisor string         `json:"hypervisor,omitempty"` // name of an adapter in the configuration
	MAC        string         `json:"mac,omitempty"`        // lower case with colons
	Contact    string         `json:"contact,omitempty"`    // mail address
	Language   string         `json:"language,omitempty"`   // en or ru
	Tags       []string       `json:"tags,omitempty"`
	ValidFrom  time.Time      `json:"valid_from,omitzero"` // zero: always
	ValidTo    time.Time      `json:"valid_to,omitzero"`   // exclusive; zero: still
	Source     string         `json:"source"`              // which source, and where in it
	Seen       time.Time      `json:"seen"`                // when it was read, UTC
	// Forgeable says that the tenant itself may have made it up: its guest's
	// agent, or a packet of its own, is all that it is known by.
	Forgeable bool `json:"forgeable,omitempty"`
	// Standby says that the server is defined there and does not run there. One
	// that was migrated stays so where it was.
	Standby bool `json:"standby,omitempty"`
}
