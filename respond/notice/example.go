package notice

import (
	"fmt"
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
	key := inc.ID
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
	case "restricted", "lifted":
		inc.State, inc.Tier = flow.StateSuspended, flow.TierBlockPort
		inc.Action.Measure = flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: flow.ProtoTCP, Port: 22}, {Proto: flow.ProtoICMP}}}
		inc.Action.HoldS = 3600
	case "released":
		inc.Statement = exampleStatement
		inc.Restore = &flow.Action{Key: "FC-ABCDEFGHIJ-restore-2", Kind: "restore", Adapter: "node7", NICs: []flow.NIC{nic}, Intent: at.Add(time.Hour), Done: at.Add(time.Hour)}
	case "statement":
		inc.State, inc.Statement = flow.StateVerified, exampleStatement
	case "reminder", "probation_ended":
		inc.State = flow.StateVerified
	case "refuse":
		inc.State, inc.Prior, inc.Refuse = flow.StateVerified, 4, true
		inc.Reason = "cut again after too many offences: a human decides whether the customer is served further"
	case "escalated":
		inc.State, inc.Reason = flow.StateVerified, "the customer has not answered in time"
	case "orphan":
		inc = flow.Incident{ID: inc.ID, Reason: "cut on 52:54:00:12:34:56 of vds-1042 at node7", Updated: at, Holder: flow.Holder{VDS: nic.VDS, Hypervisor: nic.Hypervisor, NICs: []string{nic.MAC}}}
	case "frozen":
		// No single incident: many at once.
		inc = flow.Incident{Rules: []flow.Rule{flow.RuleNetscan}, Reason: "212 servers tripped netscan within 5 minutes, at most 20 do on an ordinary day", Updated: at}
	}
	return flow.Notice{
		Key: key + "/" + kind + "/5", Incident: inc, Kind: kind, At: at,
		Evidence: flow.Evidence{
			Incident: key, Tenant: ip, Frozen: at, From: at.Add(-70 * time.Second), To: at, Rows: 2,
			Logs: []flow.EvidenceLog{{Form: "summary", Name: key + "-summary.txt", Text: "summary\n"}, {Form: "packets", Name: key + "-packets.txt", Text: "packets\n"}},
		},
	}
}

func stateOf(kind string) flow.State { return flow.State(kind) }

const exampleStatement = "An outdated WordPress plugin was broken into.\nI reinstalled the server and turned on automatic updates."

// variants are the forms in which a template may meet a kind: with everything,
// with as little as can be, with each measure, and with more findings than are
// shown.
func variants(kind string) []flow.Notice {
	full, bare, long := Example(kind), Example(kind), Example(kind)
	bare.Incident.Holder = flow.Holder{}
	bare.Incident.Findings, bare.Incident.Prior, bare.Incident.Statement = nil, 0, ""
	bare.Evidence = flow.Evidence{}
	for range 12 {
		long.Incident.Findings = append(long.Incident.Findings, long.Incident.Findings...)
		if len(long.Incident.Findings) > maxShown {
			break
		}
	}
	long.Evidence.Truncated = true
	out := []flow.Notice{full, bare, long}
	for _, m := range []flow.Measure{{Kind: flow.MeasureCut}, {Kind: flow.MeasureLimit, KbitS: 1500}, {Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: flow.ProtoUDP, Port: 53}}}} {
		n := Example(kind)
		if n.Incident.Action == nil {
			break
		}
		n.Incident.Action.Measure, n.Incident.Action.HoldS = m, 0
		out = append(out, n)
	}
	return out
}

// exampleDetails are Details with every field.
func exampleDetails(to Audience) Details {
	at := time.Date(2026, 11, 29, 6, 53, 16, 0, time.UTC)
	d := Details{LinkUntil: at, Deadline: at.Add(-48 * time.Hour), Probation: at.Add(240 * time.Hour)}
	if to == Customer {
		d.Link = "https://abuse.example.org/case/AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"
	}
	return d
}

// ExampleBatch is a digest of several kinds, more than it shows.
func ExampleBatch() Batch {
	var ns []flow.Notice
	for i := range maxDigestRows + 5 {
		n := Example([]string{"suspended", "held", "restricted"}[i%3])
		n.At = n.At.Add(time.Duration(i) * time.Second)
		n.Incident.ID = fmt.Sprintf("FC-EXAMPLE%03d", i)
		n.Incident.Tenant = netip.AddrFrom4([4]byte{11, 0, 0, byte(i)})
		n.Key = n.Incident.ID + "/" + n.Kind + "/1"
		ns = append(ns, n)
	}
	return newBatch(ns)
}
