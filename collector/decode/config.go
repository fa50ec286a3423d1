package decode

import (
	"net/netip"
	"slices"

	"go.uber.org/zap"
)

// Config is what a Decoder needs to know. The zero value accepts everyone and
// knows no sampling rate.
type Config struct {
	// Allow says whether datagrams of a source address are taken; nil: all.
	Allow func(netip.Addr) bool
	// Sampling has the rates that exporters do not state themselves. The
	// longest prefix that holds the exporter's address wins.
	Sampling []SamplingRule
	// HoldBack bounds the bytes of data sets that are kept while their
	// template is missing. 0: defaultHoldBack; negative: none are kept.
	HoldBack int
	// TrustClock takes the exporters' times as they are, even where they lie
	// ahead of Received: for reading captures, whose own clock may be the wrong
	// one. Live collection leaves it off, see maxFuture.
	TrustClock bool
	// Inner takes addresses, ports, protocol, flags, TTL and length from the
	// innermost IP packet of a sampled header, through GRE, IP-in-IP, VXLAN and
	// Geneve, rather than from the outermost. MAC and VLAN are the frame's.
	Inner bool
}

// SamplingRule is the configured sampling rate (1:N) of the exporters within a
// prefix. Override wins over what the exporter says, Default stands in where it
// says nothing; 0 is none. The configured number is taken as it is.
type SamplingRule struct {
	Exporter          netip.Prefix
	Default, Override uint32
}

// Deps are the Decoder's collaborators. All may be nil.
type Deps struct {
	Log *zap.Logger
}

// Kind says which protocols are expected on the port a datagram came in by.
type Kind uint8

// The kinds. KindNetFlow takes v5, v9 and IPFIX mixed; KindAny goes by the
// version number and is meant for captures.
const (
	KindAny Kind = iota
	KindNetFlow
	KindSFlow
)

// Datagram is one UDP payload. The Decoder keeps no reference to Payload.
type Datagram struct {
	Exporter netip.AddrPort // source; the port takes no part in any key
	Received int64          // ns since the epoch
	Payload  []byte
	Kind     Kind
}

// ruleFor returns the rule with the longest prefix that holds addr.
func ruleFor(rules []SamplingRule, addr netip.Addr) SamplingRule {
	var best SamplingRule
	bits := -1
	for _, r := range rules {
		if r.Exporter.Bits() > bits && r.Exporter.Contains(addr) {
			best, bits = r, r.Exporter.Bits()
		}
	}
	return best
}

func cloneRules(rules []SamplingRule) []SamplingRule { return slices.Clone(rules) }
