package flow

import (
	"net/netip"
	"time"
)

// Range is a half-open interval of event time: From ≤ t < To.
type Range struct{ From, To time.Time }

// Seconds is the length of the range.
func (r Range) Seconds() float64 { return r.To.Sub(r.From).Seconds() }

// ServiceStat is the sum of the ServiceWindows of one tenant, protocol and
// service port with the tenant as client, over a Range.
//
// In this and the other Stats, windows of several sampling rates are brought to
// the thinnest before they are added up: Rate is that rate, and every count, the
// distinct ones too, is what would have been seen at it. With one rate the
// counts are as exported.
type ServiceStat struct {
	Tenant  netip.Addr
	IPProto uint8
	SvcPort uint16
	Counts
	Classes
	Attempts uint64
	Distinct uint64  // exact number of distinct destinations among the attempts
	Rate     float64 // sampling rate 1:N of the counts, the thinnest of the windows
}

// PairStat is the sum of the PairWindows of one tenant, remote and protocol.
type PairStat struct {
	Tenant  netip.Addr
	Remote  netip.Addr
	IPProto uint8
	Counts
	Classes
	SYNPackets, EstOutPackets, RSTInPackets uint64
	Ports                                   uint64 // distinct remote ports of outgoing SYNs
	Rate                                    float64
	// First and Last are the starts of the first and last window with
	// outgoing packets; persistence is judged by them.
	First, Last time.Time
	Windows     uint64 // distinct windows with outgoing packets
}

// HostStat is the sum of the HostWindows of one tenant.
type HostStat struct {
	Tenant netip.Addr
	Counts
	Classes
	UDPOutPackets, ICMPOutPackets, ICMPErrOut, BogonOut, SpoofOut uint64
	Rate                                                          float64
}

// SeriesPoint is one step of a tenant's time series, scaled by the sampling rate.
type SeriesPoint struct {
	Time          time.Time `json:"time"`
	EstOutPackets uint64    `json:"est_out_packets"`
	EstInPackets  uint64    `json:"est_in_packets"`
	EstOutBytes   uint64    `json:"est_out_bytes"`
	EstInBytes    uint64    `json:"est_in_bytes"`
	OutRecords    uint64    `json:"out_records"`
	InRecords     uint64    `json:"in_records"`
	SYNOut        uint64    `json:"syn_out"`
	Attempts      uint64    `json:"attempts"`
}

// TopRow is one tenant in a top list, scaled by the sampling rate.
type TopRow struct {
	Tenant        netip.Addr `json:"tenant"`
	EstOutPackets uint64     `json:"est_out_packets"`
	EstInPackets  uint64     `json:"est_in_packets"`
	EstOutBytes   uint64     `json:"est_out_bytes"`
	EstInBytes    uint64     `json:"est_in_bytes"`
	OutRecords    uint64     `json:"out_records"`
	SYNOut        uint64     `json:"syn_out"`
}

// FlowQuery selects stored flow rows of one tenant, newest last.
type FlowQuery struct {
	Tenant   netip.Addr
	Range    Range
	Dir      Direction  // 0: both
	Remote   netip.Addr // invalid: all
	IPProto  uint8      // 0: all
	SvcPort  int        // -1: all
	Class    Class      // meaningful when HasClass
	HasClass bool
	Limit    int // 0: 1000
	// Newest keeps the last Limit rows that match instead of the first; the
	// order of the answer is the same.
	Newest bool
}

// Outbound is what a tenant sent since a moment of event time.
type Outbound struct {
	Packets uint64    // unscaled
	Last    time.Time // end of the last window with outgoing packets; zero if none
	// FleetLast is the end of the last window in which any tenant sent
	// anything: silence of one means nothing while all are silent.
	FleetLast time.Time
}

// ServiceQuery selects sums of service windows of one protocol and role.
type ServiceQuery struct {
	IPProto uint8
	Role    Role     // exactly this one
	Ports   []uint16 // service ports; nil: all
	// MinOutPackets leaves out keys with fewer outgoing packets, unscaled.
	MinOutPackets uint64
}

// AttemptStat is the sum of the ServiceWindows of one tenant and protocol with
// the tenant as client over all service ports, brought to the thinnest sampling
// rate as in ServiceStat.
type AttemptStat struct {
	Tenant  netip.Addr
	IPProto uint8
	Counts
	Classes
	Attempts uint64
	Pairs    uint64 // distinct (destination, port) among the attempts: the sum of the ports' distinct destinations
	Remotes  uint64 // distinct destinations, whatever the port
	Ports    uint64 // service ports with attempts; as stored, not thinned
	// TopPort has the most distinct destinations, TopDistinct; the lowest port of equals.
	TopPort     uint16
	TopDistinct uint64
	Rate        float64
}

// PeerQuery selects the flow rows of one tenant's side of one service port.
type PeerQuery struct {
	Tenant  netip.Addr
	IPProto uint8
	Role    Role // the tenant's
	SvcPort uint16
	Range   Range
	// Traffic makes a peer a known one if it was at most Lookback and at least
	// Settled before Range: what goes on for longer than Range must not make its
	// own targets known.
	Lookback, Settled time.Duration
}

// Peers says whom a tenant sent to on one service port, from the stored flow
// rows. A remote is a v4 address or a v6 /64; bogons and spoofed rows are left
// out. Packets are unscaled.
type Peers struct {
	Remotes uint64 // distinct remotes of outgoing rows, of any class
	// Known of them had answered traffic of that protocol with the tenant, on
	// any port, as PeerQuery.Lookback and Settled say.
	Known   uint64
	Packets uint64 // outgoing
	Top     uint64 // of them, to the remote that got the most
	// Squares is the sum over the remotes of their packets squared: what tells
	// few destinations from many, whatever the sampling rate.
	Squares uint64
}

// Attachment is where packets come into the network: a router's or switch's
// interface, and the Ethernet source and VLAN where the export has them.
type Attachment struct {
	Exporter netip.Addr
	InIf     uint32
	SrcMAC   [6]byte
	VLAN     uint16
}

// SpoofStat sums up what came in by one attachment with source addresses that
// are not its own.
type SpoofStat struct {
	Attachment
	Records, Packets uint64 // unscaled
	Sources          uint64 // distinct claimed sources
	Remotes          uint64 // distinct destinations
	Rate             float64
}
