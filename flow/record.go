package flow

import "net/netip"

// Protocol is the export protocol that a record arrived in.
type Protocol uint8

// The export protocols. The zero value is none of them.
const (
	NetFlow5 Protocol = iota + 1
	NetFlow9
	IPFIX
	SFlow5
)

var protocolNames = [...]string{"unknown", "netflow5", "netflow9", "ipfix", "sflow5"}

// String returns the name used in JSON, configuration and metrics.
func (p Protocol) String() string {
	if int(p) < len(protocolNames) {
		return protocolNames[p]
	}
	return protocolNames[0]
}

// MarshalText writes the name that String returns.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// SamplingSource says where a record's sampling rate was learnt. A rate that is
// not known is never taken for 1.
type SamplingSource uint8

// The places a rate can come from; SamplingUnknown means that there is none.
const (
	SamplingUnknown  SamplingSource = iota
	SamplingOverride                // configuration: exporters.sampling[].override
	SamplingRecord                  // a field of the data record or of the sFlow sample
	SamplingOptions                 // options data of the exporter, domain and sampler
	SamplingHeader                  // the NetFlow v5 header
	SamplingDefault                 // configuration: exporters.sampling[].default
)

var samplingNames = [...]string{"unknown", "override", "record", "options", "header", "default"}

// String returns the name used in JSON.
func (s SamplingSource) String() string {
	if int(s) < len(samplingNames) {
		return samplingNames[s]
	}
	return samplingNames[0]
}

// MarshalText writes the name that String returns.
func (s SamplingSource) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Has tells which optional parts of a Record the export carried, so that an
// exported zero and an absent field stay apart.
type Has uint16

// One bit for each optional part.
const (
	HasPorts Has = 1 << iota
	HasTCPFlags
	HasICMP
	HasIPLen
	HasTTL
	HasInIf
	HasOutIf
	HasSrcMAC
	HasVLAN
	HasTimes    // Start and End come from the record, not from the datagram
	HasFragment // a non-first fragment: ports are not known
	HasIPProto
)

// Record is one flow record or one packet sample, decoded and in our own terms.
// It holds values only and may be copied and kept.
type Record struct {
	Exporter netip.Addr // source address of the datagram
	Protocol Protocol
	Domain   uint32 // observation domain, source id, engine type and id, or sFlow sub-agent

	Received int64 // when the datagram came, ns since the epoch
	Start    int64 // first packet; equals Received where the export has no times
	End      int64 // last packet; never before Start

	Src, Dst         netip.Addr // v4 never mapped
	SrcPort, DstPort uint16
	IPProto          uint8
	TCPFlags         uint8 // low eight bits: CWR ECE URG ACK PSH RST SYN FIN
	ICMPType         uint8
	ICMPCode         uint8

	Packets uint64 // as exported; an sFlow sample is one packet
	Bytes   uint64 // IP bytes as exported
	IPLen   uint16 // IP total length of the sampled packet; 0 with flow records
	TTL     uint8

	SamplingRate   uint32 // 1:N; 0 when unknown
	SamplingSource SamplingSource

	InIf, OutIf uint32
	SrcMAC      [6]byte
	VLAN        uint16
	Has         Has
}

// TCP flags as in RFC 9293 §3.1.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// IP protocol numbers that the code names (IANA protocol numbers).
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)
