package flow

import (
	"net/netip"
	"time"
)

// Rule names a detection rule.
type Rule string

// The rules. Those without code in this release are names only, kept because
// users' scripts rely on them.
const (
	RuleNetscan     Rule = "netscan"
	RulePortscan    Rule = "portscan"
	RuleBlockscan   Rule = "blockscan"
	RuleUDPSweep    Rule = "udp_sweep"
	RuleICMPSweep   Rule = "icmp_sweep"
	RuleSYNFlood    Rule = "syn_flood"
	RuleUDPFlood    Rule = "udp_flood"
	RuleICMPFlood   Rule = "icmp_flood"
	RulePacketFlood Rule = "packet_flood"
	RuleReflector   Rule = "reflector"
	RuleSpam        Rule = "spam"
	RuleBruteforce  Rule = "bruteforce"
	RuleBlockedPort Rule = "blocked_port"
	RuleSpoofed     Rule = "spoofed_source"
)

// Tier is what the statistics support after the gates, rising.
type Tier uint8

// The tiers.
const (
	TierNone Tier = iota
	TierLog
	TierNotify
	TierBlockPort
	TierSuspend
)

var tierNames = [...]string{"none", "log", "notify", "block_port", "suspend"}

// String returns the name used in JSON.
func (t Tier) String() string {
	if int(t) < len(tierNames) {
		return tierNames[t]
	}
	return tierNames[0]
}

// MarshalText writes the name that String returns.
func (t Tier) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads the name that String returns; any other is TierNone.
func (t *Tier) UnmarshalText(b []byte) error {
	for i, n := range tierNames {
		if n == string(b) {
			*t = Tier(i)
			return nil
		}
	}
	*t = TierNone
	return nil
}

// Mode is what may be done about a rule's findings.
type Mode string

// The modes: off computes nothing, observe records, notify writes to staff and
// customer, approve waits for a human before the act, enforce acts.
const (
	ModeOff     Mode = "off"
	ModeObserve Mode = "observe"
	ModeNotify  Mode = "notify"
	ModeApprove Mode = "approve"
	ModeEnforce Mode = "enforce"
)

// Finding is one rule's verdict on one tenant over one span of windows.
type Finding struct {
	Time         time.Time  `json:"time"` // slot of the schedule, event time
	Tenant       netip.Addr `json:"tenant"`
	Rule         Rule       `json:"rule"`
	Tier         Tier       `json:"tier"`
	IPProto      uint8      `json:"ip_proto"`
	Port         uint16     `json:"port,omitempty"`
	Remote       netip.Addr `json:"remote,omitzero"`
	WindowS      uint32     `json:"window_s"`
	Samples      uint64     `json:"samples"`       // raw records or packets that count as evidence
	Distinct     uint64     `json:"distinct"`      // distinct destinations or ports, unscaled
	SamplingRate float64    `json:"sampling_rate"` // effective 1:N
	Score        float64    `json:"score"`
	Threshold    float64    `json:"threshold"`
	// EstRate is what was measured in real units per second (destinations/s
	// for scans as a lower bound, packets/s for floods).
	EstRate     float64   `json:"est_rate"`
	Reason      string    `json:"reason"`           // one sentence, for people
	Gates       []string  `json:"gates,omitempty"`  // those that held the tier back
	Exempt      string    `json:"exempt,omitempty"` // the exemption that keeps it from being acted on
	From        time.Time `json:"from"`             // first window counted
	To          time.Time `json:"to"`               // end of the last
	RuleVersion int       `json:"rule_version"`
	ConfigHash  string    `json:"config_hash"`
}
