package flow

import (
	"net/netip"
	"time"
)

// Holder is who held an address at a moment.
type Holder struct {
	Prefix     netip.Prefix `json:"prefix,omitzero"`  // the entry that matched
	Tenant     string       `json:"tenant,omitempty"` // customer id
	VDS        string       `json:"vds,omitempty"`
	Hypervisor string       `json:"hypervisor,omitempty"` // name of an adapter in the configuration
	NICs       []string     `json:"nics,omitempty"`       // MACs, lower case with colons; the one that owns the prefix
	Contact    string       `json:"contact,omitempty"`    // mail address
	Language   string       `json:"language,omitempty"`   // en or ru
	Tags       []string     `json:"tags,omitempty"`
	From       time.Time    `json:"from,omitzero"` // validity; zero: always
	To         time.Time    `json:"to,omitzero"`   // exclusive; zero: still
	// Doubt says that the inventory is not sure enough for anything to be done;
	// DoubtWhy says why, for people.
	Doubt    Doubt  `json:"doubt,omitempty"`
	DoubtWhy string `json:"doubt_why,omitempty"`
}

// Doubt is why an answer of the inventory is not enough to act on.
type Doubt string

// The doubts.
const (
	DoubtDisputed  Doubt = "disputed"  // two sources name different servers or customers: none is named
	DoubtForgeable Doubt = "forgeable" // only what the tenant itself can have made up says so
	DoubtStale     Doubt = "stale"     // what it is known by was not read for too long
)

// Tagged reports whether the holder carries tag.
func (h Holder) Tagged(tag string) bool {
	for _, t := range h.Tags {
		if t == tag {
			return true
		}
	}
	return false
}

// NIC names a network interface of a VDS at its hypervisor.
type NIC struct {
	VDS        string     `json:"vds"`
	Hypervisor string     `json:"hypervisor"`
	MAC        string     `json:"mac"`
	IP         netip.Addr `json:"ip"`
}
