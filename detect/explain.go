package detect

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Explanation is the policy that holds for one address, and where each value of
// it comes from.
type Explanation struct {
	Address   netip.Addr        `json:"address"`
	Holder    string            `json:"holder,omitempty"` // customer id
	Tags      []string          `json:"tags,omitempty"`
	Overrides []string          `json:"overrides,omitempty"` // that match, laid over each other in this order
	Rules     []RuleExplanation `json:"rules"`
	Exporters []ExporterFloors  `json:"exporters,omitempty"` // what can be seen at all under this policy
	// FloorSeconds are the times that the rates of the floors are for, in their order.
	FloorSeconds []int `json:"floor_seconds"`
}

// RuleExplanation is one rule of an Explanation.
type RuleExplanation struct {
	Rule       flow.Rule          `json:"rule"`
	Mode       flow.Mode          `json:"mode"`
	ModeFrom   string             `json:"mode_from"`
	Version    int                `json:"version"`
	ConfigHash string             `json:"config_hash"` // as findings under this policy carry it
	Held       []string           `json:"held,omitempty"`
	Needs      []string           `json:"needs,omitempty"` // what it depends on beside the windows
	Values     []ValueExplanation `json:"values"`
}

// ValueExplanation is one threshold, as JSON, and where it comes from: "default",
// "detect.thresholds" or an override.
type ValueExplanation struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	From  string `json:"from"`
}

const (
	fromDefault = "default"
	fromFile    = "detect.thresholds"
	fromRules   = "detect.rules"
)

// needs says what a rule cannot do without, beside the windows.
var needs = map[flow.Rule][]string{
	flow.RuleReflector:  {"store.flow_policy: all; else notify at most, with gate " + GatePeersUnknown},
	flow.RuleSpam:       {"store.flow_policy: all; else it finds nothing"},
	flow.RuleBruteforce: {"store.flow_policy: all; else it finds nothing"},
	flow.RuleUDPFlood:   {"store.flow_policy: all, for floods that are spread over a network (carpet bombing)"},
	flow.RuleNetscan:    {"store.flow_policy: all or attempts, for known peers; else notify at most, with gate " + GatePeersUnknown},
	flow.RuleUDPSweep:   {"store.flow_policy: all or attempts, for known peers; else notify at most, with gate " + GatePeersUnknown},
	flow.RuleSpoofed:    {"an inventory of ports or MAC addresses, and networks.external for what is spoofed from outside"},
}

var versions = map[flow.Rule]int{
	flow.RuleNetscan: netscanVersion, flow.RulePortscan: portscanVersion, flow.RuleBlockscan: blockscanVersion,
	flow.RuleUDPSweep: udpSweepVersion, flow.RuleICMPSweep: icmpSweepVersion, flow.RuleSYNFlood: synFloodVersion,
	flow.RuleUDPFlood: udpFloodVersion, flow.RuleICMPFlood: icmpFloodVersion, flow.RulePacketFlood: packetFloodVersion,
	flow.RuleReflector: reflectorVersion, flow.RuleSpam: spamVersion, flow.RuleBruteforce: bruteforceVersion,
	flow.RuleBlockedPort: blockedPortVersion, flow.RuleSpoofed: spoofedVersion,
}

// Explain returns the policy of an address. It may be called from any goroutine.
// ts is the moment that exporters' rates are taken at.
func (d *Detector) Explain(ip netip.Addr, ts time.Time) Explanation {
	ip = ip.Unmap()
	h := d.holder(ip)
	tags := d.tags(ip, h)
	p := d.policies.of(ip, h, tags)
	e := Explanation{Address: ip, Holder: h.Tenant, Tags: tags, FloorSeconds: FloorSeconds}
	for _, i := range p.set {
		e.Overrides = append(e.Overrides, d.cfg.describe(i))
	}
	def := Defaults().Thresholds
	for _, r := range rules {
		re := RuleExplanation{Rule: r, Mode: d.cfg.mode(r), ModeFrom: fromRules, Version: versions[r], ConfigHash: p.hashes[r], Needs: needs[r]}
		from := map[string]string{}
		for _, i := range p.set { // the last that sets it
			for key := range d.cfg.Overrides[i].Rules[r] {
				from[key] = d.cfg.describe(i)
			}
		}
		if m, ok := p.modes[r]; ok {
			re.Mode, re.ModeFrom = m, from[keyMode]
		}
		if tagHolds(tags, r) {
			re.Held = append(re.Held, "notify at most: gate "+GateRoleTag)
		}
		base, defaults := flatten(d.cfg.Thresholds.of(r)), flatten(def.of(r))
		now := flatten(p.th.of(r))
		for _, key := range sortedKeys(now) {
			v := ValueExplanation{Key: key, Value: now[key], From: fromFile}
			switch o := from[key]; {
			case o != "":
				v.From = o
			case base[key] == defaults[key]:
				v.From = fromDefault
			}
			re.Values = append(re.Values, v)
		}
		e.Rules = append(e.Rules, re)
	}
	if d.deps.Health != nil {
		e.Exporters = p.floorsOf(d.deps.Health.Exporters(), ts)
	}
	return e
}

// WriteText prints an explanation for people; rules, if not empty, names those
// that are wanted.
func (e Explanation) WriteText(w io.Writer, only ...flow.Rule) error {
	var head strings.Builder
	fmt.Fprintf(&head, "%s", e.Address)
	if e.Holder != "" {
		fmt.Fprintf(&head, ", held by %s", e.Holder)
	}
	if len(e.Tags) > 0 {
		fmt.Fprintf(&head, ", tags %s", strings.Join(e.Tags, " "))
	}
	head.WriteByte('\n')
	if len(e.Overrides) == 0 {
		head.WriteString("no override matches\n")
	}
	for _, o := range e.Overrides {
		fmt.Fprintf(&head, "matches %s\n", o)
	}
	if _, err := io.WriteString(w, head.String()); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for i := range e.Rules {
		if len(only) == 0 || slices.Contains(only, e.Rules[i].Rule) {
			e.Rules[i].write(t)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, x := range e.Exporters {
		if _, err := fmt.Fprintf(w, "\nexporter %s\n", x.Exporter); err != nil {
			return err
		}
		if err := WriteFloors(w, float64(x.Rate), x.Floors); err != nil {
			return err
		}
	}
	return nil
}

func (r *RuleExplanation) write(t *tabwriter.Writer) {
	row := func(format string, a ...any) { _, _ = fmt.Fprintf(t, format, a...) } // Flush tells its errors
	row("\n%s, version %d, config %s\n", r.Rule, r.Version, r.ConfigHash)
	row("  mode\t%s\t%s\t\n", r.Mode, r.ModeFrom)
	for _, v := range r.Values {
		row("  %s\t%s\t%s\t\n", v.Key, v.Value, v.From)
	}
	for _, s := range r.Held {
		row("  %s\n", s)
	}
	for _, s := range r.Needs {
		row("  needs %s\n", s)
	}
}
