package flow

import (
	"net/netip"
	"time"
)

// Exemption lets findings be recorded but not acted on. Every field that is set
// must match; Tenant or Holder must be set. Name is what events, findings and
// hits call it by, and is unique.
type Exemption struct {
	Name     string       `json:"id"`
	Tenant   netip.Prefix `json:"tenant,omitzero"`    // of the tenant's address
	Holder   string       `json:"customer,omitempty"` // customer id
	Remote   netip.Prefix `json:"remote,omitzero"`    // of the finding's remote, which scans of many do not have
	RemoteAS uint32       `json:"remote_as,omitempty"`
	Port     uint16       `json:"port,omitempty"`
	IPProto  uint8        `json:"ip_proto,omitempty"`
	Rule     Rule         `json:"rule,omitempty"`
	Owner    string       `json:"owner"` // who answers for it
	Reason   string       `json:"reason"`
	Expires  time.Time    `json:"expires,omitzero"` // the first moment at which it does not count; zero: never
}

// Expired reports whether the exemption has ended by ts.
func (e Exemption) Expired(ts time.Time) bool { return !e.Expires.IsZero() && !ts.Before(e.Expires) }

// Covers reports whether the exemption covers a finding of holder h at ts. asOf
// tells the AS of an address; nil: none is known, and what asks for one does not
// match.
func (e Exemption) Covers(f Finding, h Holder, ts time.Time, asOf func(netip.Addr) (uint32, bool)) bool {
	switch {
	case !e.Tenant.IsValid() && e.Holder == "",
		e.Expired(ts),
		e.Tenant.IsValid() && !e.Tenant.Contains(f.Tenant),
		e.Holder != "" && e.Holder != h.Tenant,
		e.Remote.IsValid() && (!f.Remote.IsValid() || !e.Remote.Contains(f.Remote)),
		e.Port != 0 && e.Port != f.Port,
		e.IPProto != 0 && e.IPProto != f.IPProto,
		e.Rule != "" && e.Rule != f.Rule:
		return false
	}
	if e.RemoteAS == 0 {
		return true
	}
	if asOf == nil || !f.Remote.IsValid() {
		return false
	}
	as, ok := asOf(f.Remote)
	return ok && as == e.RemoteAS
}
