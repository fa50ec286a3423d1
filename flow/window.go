package flow

import "net/netip"

// WindowSeconds is the length of a window. Floods are judged over 10 s, so no
// window may be longer; everything slower adds windows up.
const WindowSeconds = 10

// Direction is seen from the tenant.
type Direction uint8

// Out is traffic that the tenant sends.
const (
	Out Direction = iota + 1
	In
)

// String returns "out" or "in".
func (d Direction) String() string {
	switch d {
	case Out:
		return "out"
	case In:
		return "in"
	}
	return "unknown"
}

// MarshalText writes the name that String returns.
func (d Direction) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Role is the tenant's part in a conversation.
type Role uint8

// The roles; RoleUnknown where neither flags nor ports decide.
const (
	RoleUnknown Role = iota
	RoleClient
	RoleServer
)

// String returns "client", "server" or "unknown".
func (r Role) String() string {
	switch r {
	case RoleClient:
		return "client"
	case RoleServer:
		return "server"
	}
	return "unknown"
}

// MarshalText writes the name that String returns.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Class is what one record is evidence of. Only ClassSYN, ClassUDP from a
// client and ClassEcho are attempts; SYN-ACK, RST and ICMP errors are answers.
type Class uint8

// The classes.
const (
	ClassOther   Class = iota
	ClassSYN           // SYN without ACK, RST, FIN
	ClassSYNACK        // SYN and ACK in a packet sample or an answer-only flow record
	ClassRST           // RST
	ClassEst           // ACK without SYN and RST, or a flow record of a whole conversation
	ClassUDP           // any UDP
	ClassEcho          // ICMP echo request
	ClassICMPErr       // ICMP unreachable, time exceeded and the like
	ClassNoFlags       // a TCP record whose export has no flags
)

var classNames = [...]string{"other", "syn", "synack", "rst", "est", "udp", "echo", "icmp_err", "noflags"}

// String returns the name used in JSON and in the store.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return classNames[0]
}

// MarshalText writes the name that String returns.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Key is what every window row begins with. Rows are partial sums: several
// rows of one key may be stored, and every reader adds them up.
type Key struct {
	Start  int64      // seconds since the epoch, a multiple of WindowSeconds (event time)
	Tenant netip.Addr // v4 address, or the first address of the delegated v6 prefix
	Rate   uint32     // sampling rate 1:N that the counters were exported at; never 0
}

// Counts are records (flow records or packet samples), packets and bytes in
// both directions, unscaled.
type Counts struct {
	OutRecords, InRecords uint64
	OutPackets, InPackets uint64
	OutBytes, InBytes     uint64
}

// Add adds o to c.
func (c *Counts) Add(o Counts) {
	c.OutRecords += o.OutRecords
	c.InRecords += o.InRecords
	c.OutPackets += o.OutPackets
	c.InPackets += o.InPackets
	c.OutBytes += o.OutBytes
	c.InBytes += o.InBytes
}

// Classes counts records by class and direction. Bogon destinations and
// spoofed sources are in none of them.
type Classes struct {
	SYNOut, EstOut, SYNACKOut, RSTOut uint64
	SYNIn, EstIn, SYNACKIn, RSTIn     uint64
	RawSYN                            uint64 // of SYNOut: IP length ≤ 44 or TTL > 128
	NoFlags                           uint64 // both directions
}

// Add adds o to c.
func (c *Classes) Add(o Classes) {
	c.SYNOut += o.SYNOut
	c.EstOut += o.EstOut
	c.SYNACKOut += o.SYNACKOut
	c.RSTOut += o.RSTOut
	c.SYNIn += o.SYNIn
	c.EstIn += o.EstIn
	c.SYNACKIn += o.SYNACKIn
	c.RSTIn += o.RSTIn
	c.RawSYN += o.RawSYN
	c.NoFlags += o.NoFlags
}

// HostWindow is one tenant in one window: the totals of everything it sent and
// received, whatever the destination.
type HostWindow struct {
	Key
	Counts
	Classes
	UDPOutPackets  uint64
	ICMPOutPackets uint64
	ICMPErrOut     uint64 // records
	BogonOut       uint64 // records to destinations that no router carries
	SpoofOut       uint64 // records with this source that came in from outside
}

// ServiceWindow is one tenant, protocol, role and service port in one window.
type ServiceWindow struct {
	Key
	IPProto uint8
	Role    Role
	SvcPort uint16
	Counts
	Classes
	// Attempts counts outgoing records that try something: SYN, UDP as a
	// client, ICMP echo; bogon destinations and spoofed sources excluded.
	Attempts uint64
	// Remotes are hashes of the attempts' distinct destinations within this
	// row (v6 by /64): those whose lowest RemotesLevel bits are zero. At level
	// 0 that is all of them, and the union over the rows of a key is the exact
	// set; else, with L the greatest level among the rows, 2^L times the number
	// of distinct hashes whose lowest L bits are zero estimates it (adaptive
	// sampling, Flajolet 1990; Wegman's method).
	Remotes      []uint64
	RemotesLevel uint8
}

// PairWindow is one tenant and one remote address in one window. Only pairs
// that could matter to a rule are stored: see aggregate.PairFloor.
type PairWindow struct {
	Key
	Remote  netip.Addr
	IPProto uint8
	Counts
	Classes
	SYNPackets    uint64 // outgoing packets of SYN records
	EstOutPackets uint64
	RSTInPackets  uint64
	// Ports are the distinct remote ports of outgoing SYNs in this row, sorted.
	Ports []uint16
}

// FlowRow is a Record turned towards one internal endpoint, as stored for
// evidence. A record between two internal addresses yields two rows.
type FlowRow struct {
	Time       int64      `json:"-"` // event time: the record's End, ns
	Start      int64      `json:"-"`
	End        int64      `json:"-"`
	Exporter   netip.Addr `json:"exporter"`
	Tenant     netip.Addr `json:"tenant"` // window key
	Host       netip.Addr `json:"host"`   // the internal address itself
	Remote     netip.Addr `json:"remote"`
	HostPort   uint16     `json:"host_port"`
	RemotePort uint16     `json:"remote_port"`
	SvcPort    uint16     `json:"svc_port"`
	Dir        Direction  `json:"dir"`
	IPProto    uint8      `json:"ip_proto"`
	Role       Role       `json:"role"`
	Class      Class      `json:"class"`
	TCPFlags   uint8      `json:"tcp_flags"`
	ICMPType   uint8      `json:"icmp_type"`
	ICMPCode   uint8      `json:"icmp_code"`
	Packets    uint64     `json:"packets"`
	Bytes      uint64     `json:"bytes"`
	IPLen      uint16     `json:"ip_len"` // of the sampled packet; 0 unknown
	TTL        uint8      `json:"ttl"`
	Rate       uint32     `json:"sampling_rate"`
	InIf       uint32     `json:"in_if"`
	OutIf      uint32     `json:"out_if"`
	SrcMAC     [6]byte    `json:"-"`
	VLAN       uint16     `json:"vlan"`
	Bogon      bool       `json:"bogon"` // the remote is not routable on the Internet
	Spoofed    bool       `json:"spoofed"`
}

// Batch is what the aggregator hands to the store in one piece.
type Batch struct {
	Hosts    []HostWindow
	Services []ServiceWindow
	Pairs    []PairWindow
	Flows    []FlowRow
}

// Rows is the number of rows of all kinds.
func (b *Batch) Rows() int { return len(b.Hosts) + len(b.Services) + len(b.Pairs) + len(b.Flows) }
