package notice

import (
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Example is a notice of the given kind with every field that templates may
// use set. Templates are tried on it when they are loaded, and a mail set-up
// can be tried with it.
func Example(kind string) flow.Notice {
	at := time.Date(2026, 11, 22, 6, 53, 16, 0, time.UTC)
	ip := netip.MustParseAddr("198.18.0.7")
	nic := flow.NIC{VDS: "vds-1042", Hypervisor: "node7", MAC: "52:54:00:12:34:56", IP: ip}
	inc := flow.Incident{
		ID: "FC-ABCDEFGHIJ", Tenant: ip, State: stateOf(kind), Reason: "example", Tier: flow.TierSuspend, Prior: 1,
		Holder: flow.Holder{
			Prefix: netip.PrefixFrom(ip, 32), Tenant: "c-77", VDS: nic.VDS, Hypervisor: nic.Hypervisor, NICs: []string{nic.MAC},
			Contact: "owner@example.org", Language: "en",
		},
		Rules: []flow.Rule{flow.RuleNetscan, flow.RuleUDPFlood}, Opened: at, Updated: at,
		Findings: []flow.Finding{{
			Time: at, Tenant: ip, Rule: flow.RuleNetscan, Tier: flow.TierSuspend, IPProto: flow.ProtoTCP, Port: 22, WindowS: 60,
			Samples: 1204, Distinct: 1150, SamplingRate: 1000, Score: 412.5, Threshold: 30, EstRate: 19166,
			Reason: "1150 destinations on TCP port 22 in 60 s, none answered", From: at.Add(-70 * time.Second), To: at.Add(-10 * time.Second),
			RuleVersion: 1, ConfigHash: "c0ffee",
		}, {
			Time: at, Tenant: ip, Rule: flow.RuleUDPFlood, Tier: flow.TierSuspend, IPProto: flow.ProtoUDP,
			Remote: netip.MustParseAddr("203.0.113.5"), WindowS: 10, Samples: 4000, SamplingRate: 1000, Score: 90, Threshold: 30,
			EstRate: 400000, Reason: "400000 packets/s to 203.0.113.5 for 60 s, 12 answered", From: at.Add(-70 * time.Second),
			To: at.Add(-10 * time.Second), RuleVersion: 1, ConfigHash: "c0ffee",
		}},
		Action: &flow.Action{
			Key: "FC-ABCDEFGHIJ-suspend-1", Kind: "suspend", Adapter: "node7", NICs: []flow.NIC{nic}, Intent: at, Called: at,
			Done: at.Add(400 * time.Millisecond), Attempts: 1,
		},
	}
	switch kind {
	case "held":
		inc.Action, inc.Reason = nil, "many customers share the address"
	case "notified":
		inc.Action, inc.Tier = nil, flow.TierNotify
	case "failed":
		inc.Action.Done, inc.Action.Attempts, inc.Action.Error = time.Time{}, 10, "locked: the guest is being migrated"
		inc.Reason = "the network could not be cut: locked: the guest is being migrated"
	case "unverified":
		inc.Reason = "the hypervisor reads back as cut but outgoing packets are still seen: 812 sampled packets since 2026-11-22 06:53:30 UTC"
	case "released":
		inc.Statement = "An outdated WordPress plugin was broken into.\nI reinstalled the server and turned on automatic updates."
		inc.Restore = &flow.Action{Key: "FC-ABCDEFGHIJ-restore-2", Kind: "restore", Adapter: "node7", NICs: []flow.NIC{nic}, Intent: at.Add(time.Hour), Done: at.Add(time.Hour)}
	}
	return flow.Notice{
		Key: inc.ID + "/" + kind + "/5", Incident: inc, Kind: kind, At: at,
		Evidence: flow.Evidence{
			Incident: inc.ID, Tenant: ip, Frozen: at, From: at.Add(-70 * time.Second), To: at, Rows: 2,
			Logs: []flow.EvidenceLog{{Form: "summary", Name: inc.ID + "-summary.txt", Text: "summary\n"}, {Form: "packets", Name: inc.ID + "-packets.txt", Text: "packets\n"}},
		},
	}
}

func stateOf(kind string) flow.State { return flow.State(kind) }
