package flow

import (
	"net/netip"
	"time"
)

// Held is a prefix of ours in a time, in which somebody held it.
type Held struct {
	Prefix   netip.Prefix // of tenants' window keys
	From, To time.Time    // From ≤ t < To; zero: unbounded
}

// FlowSearch selects stored flow rows of any tenants.
type FlowSearch struct {
	Range   Range
	Of      []Held       // any of them; nil: all tenants
	Remote  netip.Prefix // invalid: all
	Ports   []uint16     // service ports, the server's side; nil: all
	IPProto uint8        // 0: all
	Dir     Direction    // 0: both
	Class   Class        // meaningful when HasClass
	Flags   uint8        // TCP flags that must all be there
	Newest  bool         // newest first, else oldest first
	Skip    int          // rows that were given already of those that match
	Limit   int          // 0: 1000

	HasClass bool
}

// RemotePeer is one of our tenants that a remote was seen with.
type RemotePeer struct {
	Tenant  netip.Addr
	Records uint64
	Last    time.Time
}
