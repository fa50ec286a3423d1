package flow

import "net/netip"

// SourceQuery selects the stored flow rows that a finding rests on, and what
// came back for them.
type SourceQuery struct {
	Tenant  netip.Addr
	Range   Range
	IPProto uint8      // 0: all
	Remote  netip.Addr // invalid: all
	SvcPort int        // -1: all
}

// SourceStat sums up those rows by direction and by where they came in. Rows
// whose source was already found to be forged are left out.
type SourceStat struct {
	Dir Direction
	// Attachment is the exporter alone for what came in: whose port the packets
	// left by says nothing about the tenant.
	Attachment
	Records, Packets uint64 // unscaled
	Scaled           uint64 // packets, each times its row's sampling rate
	// Untimed are packets of flow records of ten packets and more that begin and
	// end at the same instant: the export does not say how long they took.
	Untimed uint64
	MinRate uint32
	MaxRate uint32
}

// SharedFlows says whether two exporters saw the same conversations, among
// those of a SourceQuery's outgoing rows of which one of them saw four packets
// or more.
type SharedFlows struct {
	Heavy uint64 // such conversations (remote, both ports)
	Both  uint64 // of them, those that both exporters saw
}

// FleetAnswers compares how the outgoing TCP connections of all tenants are
// answered now with how they were. Tenants without three openings in the base
// range are left out of the shares, as are those that the question leaves out;
// each counts 50 openings at most in the later range, and in proportion in the
// base range, so that one scanner moves little.
type FleetAnswers struct {
	Active  uint64 // tenants with traffic in the later range
	Windows uint64 // of WindowSeconds in the base range from which anything is stored
	Tenants uint64 // those that the shares are taken from
	// Opened are SYNs and SYN-ACKs seen, Answered the SYN-ACKs among them.
	BaseOpened, BaseAnswered float64
	Opened, Answered         float64
}

// RateCheck is what one tenant's handshakes say about an exporter's claimed
// sampling rate: of connections whose SYN-ACK was sampled, the SYN was sampled
// too in one of N.
type RateCheck struct {
	Exporter, Tenant netip.Addr
	Rate             uint32 // as claimed
	Answered         uint64 // connections whose SYN-ACK was sampled
	Both             uint64 // of them, those whose SYN was, too
}

// PrefixStat sums up what one tenant exchanged with the addresses of one network,
// v4 /24 or v6 /48, brought to the thinnest sampling rate as in ServiceStat.
type PrefixStat struct {
	Tenant                          netip.Addr
	Prefix                          netip.Prefix
	OutPackets, OutBytes, InPackets uint64
	Remotes                         uint64 // distinct addresses that packets went to
	Rate                            float64
}

// Exchange is what one tenant and one remote exchanged over established TCP
// connections in one step of time, in packets times their sampling rates.
type Exchange struct{ Out, In uint64 }

// Usual is how many distinct remotes a tenant sends to in one step of time.
type Usual struct {
	P99   uint64 // over the steps in which it sent at all
	Steps uint64 // their number
}
