package detect

import (
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// The gates: what holds a verdict that the statistics support at notify. The
// names are part of the JSON and stay.
const (
	GateP2PPort      = "p2p_port"                // the port belongs to a peer-to-peer network
	GatePortShare    = "port_concentration"      // the tenant is as busy on other ports, as peer-to-peer is
	GateNoFlags      = "no_flags"                // the export lacks TCP flags for a part of the tenant's records
	GateNoIncoming   = "incoming_missing"        // the export lacks what the tenant receives
	GateHostMissing  = "host_totals_missing"     // no totals of the tenant were stored for the range
	GatePersistence  = "persistence"             // seen in one stretch of time only
	GateEvidence     = "evidence"                // too few samples to show to anybody
	GateKnownPeers   = "known_peers"             // many of the destinations are old acquaintances
	GatePeersUnknown = "known_peers_unavailable" // the store could not tell
	GateRefused      = "refused"                 // the remote refuses: a reconnect loop
	GateSharedPort   = "shared_port"             // ordinary servers on this port do the same
	GateRoleTag      = "role_tag"                // the tenant's role makes such traffic, see tags.go
	GateStreams      = "streams"                 // each destination gets many packets: streams, no probes
	GatePolicy       = "policy"                  // an override of the tenant's lets the rule do no more

	// Of the guards: who saw it, from whose port, and what the fleet shows.
	GateExporterRate   = "exporter_rate"       // an exporter's sampling rate is unknown, not the expected one, or changed lately
	GateRateWrong      = "rate_implausible"    // handshakes show that an exporter samples more densely than it says
	GateExporterLoss   = "exporter_loss"       // too much of its export is missing by sequence number, or dropped by the agent
	GateExporterClock  = "exporter_clock"      // its clock is off
	GateExporterSilent = "exporter_silent"     // an exporter has stopped: answers may be missing
	GateNoTimes        = "no_times"            // counts of many packets without the time they took
	GateDuplicate      = "duplicate_export"    // several exporters may have seen the same packets
	GateSource         = "source"              // the packets came from another tenant's port
	GateSourceUnknown  = "source_unknown"      // nobody knows whose port they came from, and it is required
	GateSourcesUnknown = "sources_unavailable" // the store could not tell who saw it
	GateGuardsUnknown  = "guards_unavailable"  // what the guards remembered before a restart cannot be read
	GateFleet          = "fleet"               // many tenants at once: a fault of the network or of the export
)

// GateConfig holds the thresholds of the gates that all rules share
// (detection.md §5.2).
type GateConfig struct {
	MinSamples   uint64  `yaml:"min_samples" json:"min_samples"`       // records or packets that back a suspension
	NoFlagsShare float64 `yaml:"no_flags_share" json:"no_flags_share"` // of the tenant's TCP records
	KnownPeers   float64 `yaml:"known_peers" json:"known_peers"`       // share of the destinations
	// KnownPeerDays is how far back a peer counts as known.
	KnownPeerDays int `yaml:"known_peer_days" json:"known_peer_days"`
}

func defaultGates() GateConfig {
	return GateConfig{MinSamples: 20, NoFlagsShare: 0.05, KnownPeers: 0.3, KnownPeerDays: 30}
}

// hold lowers a suspension to notify and names the gate. A finding that was
// held before gets the further gate's name; one that never reached suspend is
// left alone.
func hold(f *flow.Finding, gate string) {
	if f.Tier > flow.TierNotify {
		f.Tier = flow.TierNotify
	} else if len(f.Gates) == 0 {
		return
	}
	f.Gates = append(f.Gates, gate)
}

// noFlagsShare is the share of a tenant's TCP records whose export had no flags.
func noFlagsShare(h *flow.HostStat) float64 {
	all := h.SYNOut + h.EstOut + h.SYNACKOut + h.RSTOut + h.SYNIn + h.EstIn + h.SYNACKIn + h.RSTIn + h.NoFlags
	if all == 0 {
		return 0
	}
	return float64(h.NoFlags) / float64(all)
}

// ownShare is the part of a tenant's totals that is the finding's own traffic.
type ownShare struct{ estOut, in uint64 }

// hostGates applies what needs the tenant's totals over the finding's range;
// nil: none are stored. own is left out where the totals are asked whether the
// export shows what comes in: a flood of ACKs must not hold itself.
func (t *Thresholds) hostGates(f *flow.Finding, h *flow.HostStat, own ownShare) {
	if h == nil {
		hold(f, GateHostMissing)
		return
	}
	if f.IPProto == flow.ProtoTCP && noFlagsShare(h) > t.Gates.NoFlagsShare {
		hold(f, GateNoFlags)
	}
	if incomingMissing(h.EstOut-min(h.EstOut, own.estOut), h.InRecords-min(h.InRecords, own.in)) {
		hold(f, GateNoIncoming)
	}
	if f.Rule == flow.RuleNetscan && !t.Netscan.concentrated(f, float64(h.SYNOut)*effectiveRate(h.Rate)/effectiveRate(f.SamplingRate)) {
		hold(f, GatePortShare)
	}
}

// inPerEst is the least that comes back for packets of established TCP
// connections: an ACK for every second segment (RFC 5681 §4.2), and one for a
// whole 64 KiB where the receiver coalesces segments.
const inPerEst = 0.02

// oneWayProof is notify's exponent: 8e-7 for a tenant that does receive.
const oneWayProof = 14

// incomingMissing reports whether the export shows a tenant's established
// connections but not what it receives (sampling in one direction only). All
// answers are missing then, and everybody looks like a scanner or a flooder.
func incomingMissing(estOut, in uint64) bool {
	return shortfall(float64(in), float64(estOut), inPerEst) >= oneWayProof
}

// fleet is what the larger TCP pairs of each tenant show together.
type fleet map[netip.Addr]fleetSum

type fleetSum struct{ estOut, in uint64 }

func (f fleet) see(stats []flow.PairStat) {
	for i := range stats {
		if p := &stats[i]; p.EstOutPackets > 0 {
			s := f[p.Tenant]
			s.estOut += p.EstOutPackets
			s.in += p.InPackets
			f[p.Tenant] = s
		}
	}
}

// deafTenant reports it of one tenant, in packets.
func (f fleet) deafTenant(a netip.Addr) bool {
	s := f[a]
	return incomingMissing(s.estOut, s.in)
}

// deafCap is how much one tenant's packets count when all are judged, so that
// one that sends ACKs into the void does not hold everybody's verdicts: it takes
// three to prove anything.
const deafCap = 300

// deaf reports whether the exports lack the incoming direction.
func (f fleet) deaf() bool {
	var out, in float64
	for _, s := range f {
		part := min(1, deafCap/float64(s.estOut))
		out += part * float64(s.estOut)
		in += part * float64(s.in)
	}
	return shortfall(in, out, inPerEst) >= oneWayProof
}
