package flow

import "net/netip"

// PeerSum is what a tenant exchanged with one remote, or on one service port, as
// its stored flow rows have it; numbers that begin with est_ are scaled by the
// sampling rate.
type PeerSum struct {
	Remote        netip.Addr `json:"remote,omitzero"`    // of a peer
	IPProto       uint8      `json:"ip_proto,omitempty"` // of a port
	SvcPort       uint16     `json:"svc_port,omitempty"` // of a port: the server's, whichever side that is
	Remotes       uint64     `json:"remotes,omitempty"`  // of a port: distinct addresses of the other side
	Records       uint64     `json:"records"`            // not scaled
	EstOutPackets uint64     `json:"est_out_packets"`
	EstInPackets  uint64     `json:"est_in_packets"`
	EstOutBytes   uint64     `json:"est_out_bytes"`
	EstInBytes    uint64     `json:"est_in_bytes"`
	// NotEstablished are records of the tenant's as a client that show no
	// established connection: attempts, UDP, pings.
	NotEstablished uint64 `json:"not_established"`
}

// PeerSums are the largest of a tenant's ports and remotes, by packets.
type PeerSums struct {
	Ports        []PeerSum
	Remotes      []PeerSum
	TotalPorts   uint64
	TotalRemotes uint64
}
