package flow

import "slices"

// MeasureKind is what is done to the traffic that a tenant sends, milder first.
type MeasureKind string

// The measures. What a tenant receives stays, save with MeasureCut.
const (
	MeasureBlockPort MeasureKind = "block_port" // drop what it sends to some ports
	MeasureLimit     MeasureKind = "rate_limit" // bound what it sends
	MeasureCut       MeasureKind = "cut"        // the NIC's link is down
)

// Rank orders measures by what they take from the tenant: 0 for none of them.
func (k MeasureKind) Rank() int {
	return 1 + slices.Index([]MeasureKind{MeasureBlockPort, MeasureLimit, MeasureCut}, k)
}

// PortRule is traffic of a tenant by protocol and destination port. Port 0
// means every port; protocols without ports (ICMP, GRE) have only that.
type PortRule struct {
	Proto uint8  `json:"proto"` // IANA protocol number
	Port  uint16 `json:"port,omitempty"`
}

// Measure is one step of the ladder, as it is asked of an adapter.
type Measure struct {
	Kind  MeasureKind `json:"kind"`
	Ports []PortRule  `json:"ports,omitempty"`  // of MeasureBlockPort; not empty there
	KbitS uint64      `json:"kbit_s,omitempty"` // of MeasureLimit: kbit/s that the tenant may send; not 0 there
}

// Same reports whether two measures are the same; the order of ports is free.
func (m Measure) Same(o Measure) bool {
	holds := func(in, all []PortRule) bool {
		return !slices.ContainsFunc(all, func(p PortRule) bool { return !slices.Contains(in, p) })
	}
	return m.Kind == o.Kind && m.KbitS == o.KbitS && holds(m.Ports, o.Ports) && holds(o.Ports, m.Ports)
}

// Restriction is a measure milder than the cut that a NIC carries, read back
// from where it is in force, with our mark.
type Restriction struct {
	Measure Measure `json:"measure"`
	Mark    Mark    `json:"mark"`
}

// Restricted reports whether the NIC carries a measure of this kind.
func (s NICStatus) Restricted(k MeasureKind) (Restriction, bool) {
	for _, r := range s.Restrictions {
		if r.Measure.Kind == k {
			return r, true
		}
	}
	return Restriction{}, false
}

// MarkOf is the mark of a measure of this kind, the cut included, that the NIC
// carries, or nil.
func (s NICStatus) MarkOf(k MeasureKind) *Mark {
	if k == MeasureCut {
		return s.Mark
	}
	if r, ok := s.Restricted(k); ok {
		return &r.Mark
	}
	return nil
}

// MarkedNIC is a NIC that carries a mark of ours, as an adapter lists them.
type MarkedNIC struct {
	NIC    NIC       `json:"nic"`
	Status NICStatus `json:"status"`
}
