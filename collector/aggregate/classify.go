package aggregate

import "github.com/flowcordon/flowcordon/flow"

// kind is what a record is evidence of, seen from its sender.
type kind struct {
	class  flow.Class
	sender flow.Role // the sender's part
	svc    uint16    // the server's port; 0 without ports
	// set has those bits of Item.set that follow: itemAnswered (a server's side of
	// a whole conversation), itemReset, and with ClassSYN itemSYN or itemHalfSYN.
	set uint16
}

// classify reads a record into k, which is zero. The class of a packet sample
// follows from its flags; a flow record carries the OR of the flags of all its
// packets, see tcpFlow.
func (k *kind) classify(r *flow.Record) {
	switch r.IPProto {
	case flow.ProtoTCP:
		k.classifyTCP(r)
	case flow.ProtoUDP:
		k.class = flow.ClassUDP
		if hasPorts(r) {
			k.sender, k.svc = byPorts(udpServices, r.SrcPort, r.DstPort)
		}
	case flow.ProtoICMP:
		k.classifyICMP(r, 8, 0, isICMPError)
	case flow.ProtoICMPv6:
		k.classifyICMP(r, 128, 129, isICMPv6Error)
	}
}

// hasPorts: a fragment other than the first has no transport header, and what
// some exporters put into the port fields then is not one.
func hasPorts(r *flow.Record) bool {
	return r.Has&flow.HasPorts != 0 && r.Has&flow.HasFragment == 0
}

func (k *kind) classifyICMP(r *flow.Record, request, reply uint8, isError func(uint8) bool) {
	switch {
	case r.Has&flow.HasICMP == 0 || r.Has&flow.HasFragment != 0:
	case r.ICMPType == request:
		k.class, k.sender = flow.ClassEcho, flow.RoleClient
	case r.ICMPType == reply:
		k.sender = flow.RoleServer
	case isError(r.ICMPType):
		k.class = flow.ClassICMPErr
	}
}

// isICMPError: unreachable, source quench, redirect, time exceeded and
// parameter problem (RFC 792, RFC 6633 for the second).
func isICMPError(t uint8) bool { return t == 3 || t == 4 || t == 5 || t == 11 || t == 12 }

// isICMPv6Error: RFC 4443 §2.1 keeps 0 to 127 for errors, of which these four
// are defined.
func isICMPv6Error(t uint8) bool { return t >= 1 && t <= 4 }

func (k *kind) classifyTCP(r *flow.Record) {
	if r.Has&flow.HasFragment != 0 {
		return // no header, no flags: not the exporter's fault, so not NoFlags
	}
	if hasPorts(r) {
		k.sender, k.svc = byPorts(tcpServices, r.SrcPort, r.DstPort)
	}
	if r.Has&flow.HasTCPFlags == 0 || r.TCPFlags == 0 {
		k.class = flow.ClassNoFlags
		return
	}
	// One packet's flags are exact whatever the protocol they came by.
	if r.Protocol == flow.SFlow5 || r.Packets <= 1 {
		k.tcpPacket(r)
	} else {
		k.tcpFlow(r)
	}
	switch k.class {
	case flow.ClassSYN:
		k.sender, k.svc = flow.RoleClient, svcPort(r, r.DstPort)
	case flow.ClassSYNACK:
		k.sender, k.svc = flow.RoleServer, svcPort(r, r.SrcPort)
	}
}

func svcPort(r *flow.Record, p uint16) uint16 {
	if !hasPorts(r) {
		return 0
	}
	return p
}

const (
	flagsOpen = flow.SYN | flow.ACK | flow.RST | flow.FIN // those that open and end; PSH tells data; ECE, CWR and URG tell nothing here
)

// tcpPacket classes a single packet. RST is looked at first: nothing with RST
// opens a connection (RFC 9293 §3.10.7).
func (k *kind) tcpPacket(r *flow.Record) {
	switch f := r.TCPFlags & flagsOpen; {
	case f&flow.RST != 0:
		k.class = flow.ClassRST
	case f == flow.SYN:
		k.class, k.set = flow.ClassSYN, itemSYN
	case f == flow.SYN|flow.ACK:
		k.class = flow.ClassSYNACK
	case f&flow.ACK != 0 && f&flow.SYN == 0:
		k.class = flow.ClassEst
	default:
		// FIN, Xmas, SYN-FIN: probes that no stack sends. Not an attempt by
		// the rules, which know connects only.
		k.class = flow.ClassOther
	}
}

// maxSYNACKBytes is the size of the largest SYN-ACK: 40 bytes of IPv6 header
// and 60 of TCP with all its options.
const maxSYNACKBytes = 100

// tcpFlow classes a flow record of several packets, all sent by one side, by
// the OR of their flags. Each combination, and what sends it:
//
//	SYN            retried SYNs: an attempt without an answer
//	SYN RST        half-open scan or flood: the sender's kernel knows nothing of
//	               the raw SYN and resets the SYN-ACK, without ACK (RFC 9293
//	               §3.10.7.1). An attempt; half of the packets are the SYNs
//	SYN ACK        from the service side in small packets: SYN-ACKs, repeated
//	               because nobody answers (a flooded server). Otherwise a
//	               conversation not yet at its first data
//	SYN ACK (PSH|FIN|RST)…  a whole conversation, from either side: connect
//	               scans and TCP checks that end in RST did connect too
//	ACK, no SYN    a later piece of a conversation
//	RST (ACK)      answers to packets for nobody
//	RST ACK (PSH|FIN)  a later piece of a conversation, reset at its end
//	others         as with single packets
//
// Who is the client of a conversation is not in its flags: both sides send SYN
// and ACK. The ports decide (byPorts).
func (k *kind) tcpFlow(r *flow.Record) {
	f := r.TCPFlags & flagsOpen
	data := r.TCPFlags&(flow.PSH|flow.FIN) != 0
	switch {
	case f == flow.SYN:
		k.class, k.set = flow.ClassSYN, itemSYN
	case f == flow.SYN|flow.RST && !data:
		k.class, k.set = flow.ClassSYN, itemHalfSYN|itemReset
	case f&(flow.SYN|flow.ACK) == flow.SYN|flow.ACK:
		if f == flow.SYN|flow.ACK && !data && k.sender == flow.RoleServer && r.Bytes/r.Packets <= maxSYNACKBytes {
			k.class = flow.ClassSYNACK
			return
		}
		k.class = flow.ClassEst
		if k.sender == flow.RoleServer {
			k.set = itemAnswered
		}
	case f&flow.RST != 0:
		k.class = flow.ClassRST
		if f&flow.ACK != 0 && data {
			k.class, k.set = flow.ClassEst, itemReset
		}
	case f&flow.ACK != 0:
		k.class = flow.ClassEst
	default:
		k.class = flow.ClassOther
	}
}

// isAttempt: only these try something. SYN-ACK, RST, ICMP errors and what a
// service sends are answers, however many there are.
func (k *kind) isAttempt() bool {
	switch k.class {
	case flow.ClassSYN, flow.ClassEcho:
		return true
	case flow.ClassUDP:
		return k.sender == flow.RoleClient
	}
	return false
}

// The shape of SYNs that no kernel's connect() sends: without options or with
// one MSS (masscan: 44 bytes), or with a start TTL of 255. IPv6 has 20 bytes
// more of header.
const (
	rawSYNBytes4 = 44
	rawSYNBytes6 = 64
	rawSYNTTL    = 128
)

// isRawSYN judges a ClassSYN record. Flow records carry no packet length: the
// mean stands for it, since the SYNs of one flow are alike.
func isRawSYN(r *flow.Record) bool {
	length := uint64(r.IPLen)
	if length == 0 && r.Packets > 0 {
		length = r.Bytes / r.Packets
	}
	limit := uint64(rawSYNBytes4)
	if r.Src.Is6() {
		limit = rawSYNBytes6
	}
	return length > 0 && length <= limit || r.Has&flow.HasTTL != 0 && r.TTL > rawSYNTTL
}
