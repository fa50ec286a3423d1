package bundle

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// incidentOf is the incident for an audience. Outside, it says what was done
// and when, not to which NIC, by which adapter, to whom and how often before.
func incidentOf(in Input) any {
	if in.For == Staff {
		return in.Incident
	}
	type act struct {
		Measure flow.Measure `json:"measure"`
		Done    time.Time    `json:"done,omitzero"`
		Back    time.Time    `json:"given_back,omitzero"`
	}
	inc := in.Incident
	out := struct {
		ID      string      `json:"id"`
		Tenant  netip.Addr  `json:"tenant"`
		Rules   []flow.Rule `json:"rules"`
		Opened  time.Time   `json:"opened"`
		Updated time.Time   `json:"updated"`
		Act     *act        `json:"act,omitempty"`
	}{inc.ID, inc.Tenant, inc.Rules, inc.Opened.UTC(), inc.Updated.UTC(), nil}
	if a := inc.Action; a != nil && !a.Done.IsZero() {
		out.Act = &act{Measure: a.Measure, Done: a.Done.UTC()}
		out.Act.Measure.Kind = a.Taken()
		if inc.Restore != nil {
			out.Act.Back = inc.Restore.Done.UTC()
		}
	}
	return out
}

func findingsOf(in Input) []flow.Finding {
	if in.Incident.Findings == nil {
		return []flow.Finding{}
	}
	return in.Incident.Findings
}

// exportersOf are the exporters that saw the tenant, as the collector knows them.
func exportersOf(in Input, names map[netip.Addr]string) any {
	if in.For == Staff {
		out := []flow.ExporterHealth{}
		for _, e := range in.Exporters {
			if names[e.Exporter] != "" {
				out = append(out, e)
			}
		}
		slices.SortFunc(out, func(a, b flow.ExporterHealth) int { return a.Exporter.Compare(b.Exporter) })
		return out
	}
	type seen struct {
		Name      string            `json:"name"`
		Protocols []string          `json:"protocols"`
		Datagrams uint64            `json:"datagrams"`
		Records   uint64            `json:"records"`
		Lost      uint64            `json:"lost"`
		Dropped   map[string]uint64 `json:"dropped"`
		Rates     []uint32          `json:"sampling_rates"`
		MaxDelayS float64           `json:"max_delay_s"`
	}
	out := []seen{}
	for _, e := range in.Exporters {
		if names[e.Exporter] == "" {
			continue
		}
		s := seen{names[e.Exporter], e.Protocols, e.Datagrams, e.Records, e.Lost, e.Dropped, []uint32{}, e.MaxDelayS}
		for _, r := range e.Samplers {
			if !slices.Contains(s.Rates, r.Rate) {
				s.Rates = append(s.Rates, r.Rate)
			}
		}
		slices.Sort(s.Rates)
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b seen) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func readme(in Input) string {
	inc := in.Incident
	var b strings.Builder
	fmt.Fprintf(&b, "Evidence of incident %s\n\nAddress:  %s\nOpened:   %s\nRules:    %s\n", inc.ID, inc.Tenant, stamp(inc.Opened), joinRules(inc.Rules))
	if a := inc.Action; a != nil && !a.Done.IsZero() {
		fmt.Fprintf(&b, "Measure:  %s, in force at %s\n", a.Taken(), stamp(a.Done))
	}
	fmt.Fprintf(&b, "Rows:     %d flow rows", len(in.Flows))
	if in.Truncated {
		b.WriteString(", NOT ALL: more matched than are kept")
	}
	b.WriteString(`

All times are UTC. A sampling rate of 1:N means that one packet of N was looked
at: counts are of what was looked at, estimates are multiplied by N.

manifest.json     each file with its size and SHA-256
logs/             the texts as they were frozen with the incident
flows.csv         the flow rows, one a line; flows.jsonl is the same as JSON
findings.json     what was measured: rule and its version, configuration hash,
                  windows, samples, sampling rate, score and threshold
recompute.sql     the questions to the database (ClickHouse) that give the
                  measured values again, while the data is kept
exporters.json    the routers that reported the traffic, and what they lost
incident.json     the incident
packets.svg       packets per second, before and after the measure
destinations.svg  each dot is a packet or flow to an address, by time
xarf/             reports in XARF 4 (https://xarf.org), for machines
`)
	return b.String()
}

func joinRules(rules []flow.Rule) string {
	s := make([]string, len(rules))
	for i, r := range rules {
		s[i] = string(r)
	}
	return strings.Join(s, ", ")
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
