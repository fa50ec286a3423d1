package notice

import (
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// view is what templates may use.
type view struct {
	flow.Notice
	Details
	ID, IP, Server string
	Company, URL   string
	Rules          []flow.Rule
	Findings       []flow.Finding // at most ten, strongest first
	More           int            // findings beyond those
	CutAt          time.Time      // when the measure was read back as in force
	RestoredAt     time.Time
	Measure        flow.Measure // in force or last asked for; its kind is empty when there is none
	Until          time.Time    // when the measure is given back by itself; zero: when released
	Nth            int          // which incident of this holder it is, from 1
}

const maxShown = 10

func (w *Writer) view(n flow.Notice, to Audience) view {
	inc := n.Incident
	v := view{
		Notice: n, ID: inc.ID, Server: inc.Holder.VDS, Company: w.cfg.Company, Rules: inc.Rules,
		Findings: inc.Findings, Nth: inc.Prior + 1, URL: strings.ReplaceAll(w.cfg.PortalURL, "{id}", inc.ID),
	}
	if inc.Tenant.IsValid() {
		v.IP = inc.Tenant.String()
	}
	if w.cfg.Details != nil {
		v.Details = w.cfg.Details(n)
	}
	if to != Customer {
		v.Link, v.LinkUntil = "", time.Time{}
	}
	if len(v.Findings) > maxShown {
		v.More, v.Findings = len(v.Findings)-maxShown, v.Findings[:maxShown]
	}
	v.CutAt, v.RestoredAt = n.At, n.At
	if a := inc.Action; a != nil {
		v.Measure, v.Until = a.Measure, a.Expires()
		v.Measure.Kind = a.Taken()
		if !a.Done.IsZero() {
			v.CutAt = a.Done
		}
	}
	if inc.Restore != nil && !inc.Restore.Done.IsZero() {
		v.RestoredAt = inc.Restore.Done
	}
	return v
}

var funcs = template.FuncMap{
	"utc":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"proto": protoName,
	"portlist": func(ports []flow.PortRule) string {
		names := make([]string, len(ports))
		for i, p := range ports {
			if names[i] = protoName(p.Proto); p.Port != 0 {
				names[i] += fmt.Sprintf("/%d", p.Port)
			}
		}
		return strings.Join(names, ", ")
	},
	"scan": func(r flow.Rule) bool {
		switch r {
		case flow.RuleNetscan, flow.RuleBlockscan, flow.RuleUDPSweep, flow.RuleICMPSweep:
			return true
		}
		return false
	},
	"ports": func(r flow.Rule) bool { return r == flow.RulePortscan },
	"whole": func(f float64) string { return fmt.Sprintf("%.0f", f) },
	"mbit":  func(kbit uint64) string { return fmt.Sprintf("%g", float64(kbit)/1000) },
	"join":  strings.Join,
	// quote keeps every line of a person's text apart from ours.
	"quote": func(s string) string { return "> " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n> ") },
}

func protoName(p uint8) string {
	switch p {
	case flow.ProtoTCP:
		return "TCP"
	case flow.ProtoUDP:
		return "UDP"
	case flow.ProtoICMP, flow.ProtoICMPv6:
		return "ICMP"
	}
	return fmt.Sprintf("IP/%d", p)
}
