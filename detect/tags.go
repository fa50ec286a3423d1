package detect

import (
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// The role tags that the inventory gives to tenants and that rules know
// (detection.md §5.2 G4). Others mean nothing here.
const (
	TagResolver   = "resolver"   // recursive name server
	TagMail       = "mail"       // mail server
	TagMonitoring = "monitoring" // polls and pings many hosts
	TagVPN        = "vpn"        // exit for others' traffic, Tor included
	TagCDN        = "cdn"        // delivers and tunnels for many
	TagScanner    = "scanner"    // scans with a permit
)

// scans are the rules of many destinations or ports.
var scans = []flow.Rule{flow.RuleNetscan, flow.RulePortscan, flow.RuleBlockscan, flow.RuleUDPSweep, flow.RuleICMPSweep}

// tagCaps are the rules that a tag holds at notify: those whose picture the
// role makes by itself. Floods are held for none but those whose role is to
// send what others made.
var tagCaps = map[string][]flow.Rule{
	TagResolver:   {flow.RuleUDPSweep, flow.RuleReflector},
	TagMail:       {flow.RuleNetscan},
	TagMonitoring: {flow.RuleNetscan, flow.RuleBlockscan, flow.RuleUDPSweep, flow.RuleICMPSweep, flow.RuleICMPFlood},
	TagVPN:        append(slices.Clone(scans), flow.RuleSYNFlood, flow.RuleUDPFlood, flow.RuleICMPFlood, flow.RulePacketFlood),
	TagCDN:        {flow.RuleUDPFlood, flow.RulePacketFlood, flow.RuleReflector},
	TagScanner:    scans,
}

// tagHolds reports whether one of the tags holds the rule at notify.
func tagHolds(tags []string, r flow.Rule) bool {
	for _, t := range tags {
		if slices.Contains(tagCaps[t], r) {
			return true
		}
	}
	return false
}
