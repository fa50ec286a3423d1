package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/flowcordon/flowcordon/api"
	apiclient "github.com/flowcordon/flowcordon/api/client"
)

// incidentCommands look at incidents.
func incidentCommands() []deskCommand {
	return []deskCommand{
		{name: "incidents", what: "list incidents, show one, and act on it", role: api.RoleViewer, watch: true, setup: setupIncidents,
			more: "Lists incidents, newest first: those that are not over, unless --state, --since or --until say otherwise."},
		{name: "incidents show", args: "ID", what: "one incident with its findings and its timeline", role: api.RoleViewer, argument: "incident", watch: true, setup: setupIncident},
		{name: "incidents evidence", args: "ID", what: "the frozen logs, as the customer gets them", role: api.RoleViewer, argument: "incident", setup: setupEvidence,
			more: "Prints one of an incident's frozen logs: netscan (the list), summary (rates by remote address) or packets (like tcpdump)."},
		{name: "incidents bundle", args: "ID", what: "all that proves an incident, as a zip", role: api.RoleAbuse, argument: "incident", setup: setupBundle},
	}
}

func setupIncidents(fs *flag.FlagSet) action {
	var p apiclient.IncidentsParams
	state := fs.String("state", "", "`states` separated by commas; live: all that are not over, all: every one")
	tenant := fs.String("tenant", "", "of the tenant with this `address`")
	rule := fs.String("rule", "", "in which this `rule` fired")
	since := fs.String("since", "", "opened at this `time` or after: RFC 3339, or relative such as -24h")
	until := fs.String("until", "", "opened before this `time`")
	limit := fs.Int64("limit", 50, "at most so many, up to 500")
	offset := fs.Int64("offset", 0, "leave out the newest so many")
	return func(ctx context.Context, d *desk, _ []string) error {
		p.Tenant, p.Rule, p.Since, p.Until, p.Limit, p.Offset = opt(*tenant), opt(*rule), opt(*since), opt(*until), limit, opt(*offset)
		switch {
		case *state == "all":
		case *state != "":
			p.State = strings.Split(*state, ",")
		case *since == "" && *until == "":
			p.State = []string{"live"}
		}
		return show(ctx, d, "asking for the incidents", func(ctx context.Context) (*http.Response, error) { return d.api.Incidents(ctx, &p) },
			func(l *apiclient.ListOutputBody) error { return d.printIncidents(l, p.State) })
	}
}

func (d *desk) printIncidents(l *apiclient.ListOutputBody, states []string) error {
	if len(l.Incidents) == 0 && l.UnderscoreMetadata.TotalCount == 0 {
		if slices.Equal(states, []string{"live"}) {
			return d.sayf("No incident is open. --state all lists those that are over, too.")
		}
		return d.sayf("No incident matches.")
	}
	if err := d.incidentTable(l.Incidents).write(d.out, d.term); err != nil {
		return err
	}
	return d.page(&l.UnderscoreMetadata, len(l.Incidents))
}

func (d *desk) incidentTable(list []apiclient.Incident) *table {
	t := newTable("ID", "STATE", "TENANT", "CUSTOMER~8", "RULES~12", "TIER??", "OPENED (UTC)??", "AGE", "REASON~16?")
	for i := range list {
		in := &list[i]
		t.add(in.ID, stateCell(in.State), in.Tenant, holderName(in.Holder), strings.Join(in.Rules, " "), in.Tier, stamp(in.Opened),
			span(d.now().Sub(in.Opened)), val(in.Reason))
	}
	return t
}

// stateCell: red wants a person, yellow waits for one, green is as it should be.
func stateCell(s apiclient.IncidentState) cell {
	switch s {
	case apiclient.IncidentStateUnverified, apiclient.IncidentStateFailed:
		return cell{string(s), red}
	case apiclient.IncidentStateAwaitingApproval, apiclient.IncidentStateHeld, apiclient.IncidentStateSuspending, apiclient.IncidentStateReleasing:
		return cell{string(s), yellow}
	case apiclient.IncidentStateSuspended, apiclient.IncidentStateVerified:
		return cell{string(s), green}
	case apiclient.IncidentStateReleased, apiclient.IncidentStateClosed:
		return cell{string(s), dim}
	}
	return cell{string(s), plain}
}

// holderName is customer and server, as far as they are known.
func holderName(h apiclient.Holder) string {
	return strings.TrimSpace(val(h.Tenant) + " " + val(h.Vds))
}

func setupIncident(*flag.FlagSet) action {
	return func(ctx context.Context, d *desk, args []string) error {
		return show(ctx, d, "asking for the incident", func(ctx context.Context) (*http.Response, error) { return d.api.Incident(ctx, args[0]) }, d.printIncident)
	}
}

func (d *desk) printIncident(o *apiclient.IncidentOutputBody) error {
	in := &o.Incident
	h := in.Holder
	head := pairs{
		{"incident", in.ID},
		{"state", string(in.State), stateCell(in.State).color},
		{"why", val(in.Reason)},
		{"tenant", in.Tenant},
		{"holder", strings.TrimSpace(holderName(h) + onNode(val(h.Hypervisor)))},
		{"contact", val(h.Contact)},
		{"tags", strings.Join(h.Tags, " ")},
		{"opened", fmt.Sprintf("%s UTC, %s ago", stamp(in.Opened), span(d.now().Sub(in.Opened)))},
		{"updated", stamp(in.Updated) + " UTC"},
		{"measure", describeAction(in.Action)},
		{"given back", describeAction(in.Restore)},
		{"would do", strings.Join(in.Would, "; ")},
		{"before", offences(in)},
		{"statement", val(in.Statement)},
		{"evidence", strings.Join(in.Evidence, " ")},
	}
	if err := head.write(d.out, d.term); err != nil {
		return err
	}
	for i := range in.Findings {
		if err := d.printFinding(&in.Findings[i]); err != nil {
			return err
		}
	}
	if len(o.Events) == 0 {
		return nil
	}
	fmt.Fprintln(d.out)
	t := newTable("TIME (UTC)", "WHAT", "BY~8", "WHY~20")
	for _, e := range o.Events {
		t.add(stamp(e.Time), e.Kind, e.Actor, val(e.Reason))
	}
	return t.write(d.out, d.term)
}

func onNode(node string) string {
	if node == "" {
		return ""
	}
	return " on " + node
}

func offences(in *apiclient.Incident) string {
	var out []string
	if n := val(in.Prior); n > 0 {
		out = append(out, fmt.Sprintf("%d earlier offence(s)", n))
	}
	if val(in.Probation) {
		out = append(out, "was on probation")
	}
	if val(in.Refuse) {
		out = append(out, "a person decides whether the customer is served further")
	}
	return strings.Join(out, ", ")
}

func describeAction(a *apiclient.Action) string {
	if a == nil {
		return ""
	}
	what := "cut"
	if a.Measure != nil && a.Measure.Kind != "" {
		what = a.Measure.Kind
		for _, p := range a.Measure.Ports {
			what += fmt.Sprintf(" %s", portName(p.Proto, val(p.Port)))
		}
		if n := val(a.Measure.KbitS); n > 0 {
			what += fmt.Sprintf(" to %d kbit/s", n)
		}
	}
	if a.Kind == "restore" {
		what = "restore"
	}
	out := fmt.Sprintf("%s by %s, asked %s UTC", what, a.Adapter, stamp(a.Intent))
	switch {
	case a.Done != nil:
		out += ", in force " + stamp(*a.Done)
	case a.Attempts > 1:
		out += fmt.Sprintf(", %d attempts", a.Attempts)
	}
	if a.Verified != nil {
		out += ", seen in the traffic " + stamp(*a.Verified)
	}
	if a.Until != nil {
		out += ", ends by itself " + stamp(*a.Until)
	}
	if e := val(a.Error); e != "" {
		out += "; " + e
	}
	return out
}

var protocolNames = map[int64]string{1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 58: "icmpv6"}

func ipProtocol(n int64) string {
	if s := protocolNames[n]; s != "" {
		return s
	}
	return fmt.Sprint(n)
}

func portName(proto, port int64) string {
	if port == 0 {
		return ipProtocol(proto)
	}
	return fmt.Sprintf("%s/%d", ipProtocol(proto), port)
}

func (d *desk) printFinding(f *apiclient.Finding) error {
	fmt.Fprintln(d.out)
	what := string(f.Rule) + ", " + portName(f.IPProto, val(f.Port))
	if r := val(f.Remote); r != "" {
		what += " to " + r
	}
	return pairs{
		{"finding", fmt.Sprintf("%s, tier %s", what, f.Tier)},
		{"", f.Reason},
		{"score", fmt.Sprintf("%.1f of %.1f; %d samples, %d distinct, sampled 1:%.0f", f.Score, f.Threshold, f.Samples, f.Distinct, f.SamplingRate)},
		{"windows", fmt.Sprintf("%s to %s UTC, %d s", stamp(f.From), stamp(f.To), f.WindowS)},
		{"held by", strings.Join(f.Gates, ", ")},
		{"exempt", val(f.Exempt)},
	}.write(d.out, d.term)
}

func setupEvidence(fs *flag.FlagSet) action {
	form := fs.String("form", "", "`form` of the log: netscan, summary or packets; without it the first that there is")
	list := fs.Bool("list", false, "only say which there are")
	return func(ctx context.Context, d *desk, args []string) error {
		if *form != "" && !d.json {
			body, _, err := d.fetch(ctx, "asking for the log", func(ctx context.Context) (*http.Response, error) { return d.api.EvidenceForm(ctx, args[0], *form) })
			if err != nil {
				return err
			}
			return d.writeText(string(body))
		}
		return show(ctx, d, "asking for the evidence", func(ctx context.Context) (*http.Response, error) { return d.api.Evidence(ctx, args[0]) },
			func(e *apiclient.Evidence) error { return d.printEvidence(e, *list) })
	}
}

func (d *desk) printEvidence(e *apiclient.Evidence, list bool) error {
	if len(e.Logs) == 0 {
		return d.sayf("The evidence has no logs.")
	}
	if !list {
		return d.writeText(e.Logs[0].Text)
	}
	t := newTable("FORM", "NAME", ">LINES", ">BYTES", "SHA-256~12")
	for _, l := range e.Logs {
		t.add(l.Form, l.Name, strings.Count(l.Text, "\n"), len(l.Text), l.Sha256)
	}
	if err := t.write(d.out, d.term); err != nil {
		return err
	}
	more := ""
	if e.Truncated {
		more = ", not all that matched"
	}
	return d.sayf("%d flow rows%s, %s to %s UTC, frozen %s UTC", e.Rows, more, stamp(e.From), stamp(e.To), stamp(e.Frozen))
}

// writeText writes a text of the service: to a file or a pipe as it is, since
// its hash is told elsewhere; to a terminal without what that would obey.
func (d *desk) writeText(s string) error {
	if d.term.is {
		s = cleanText(s)
	}
	_, err := fmt.Fprint(d.out, s)
	return err
}

func setupBundle(fs *flag.FlagSet) action {
	out := fs.String("o", "", "`file` to write; - for standard output (default: ID.zip here)")
	whom := fs.String("for", "staff", "`whom` it is for: staff, or outside, which leaves out customer, server and node")
	return func(ctx context.Context, d *desk, args []string) error {
		forWhom := apiclient.BundleParamsFor(*whom)
		if !forWhom.Valid() {
			return failf(exitUsage, "--for %s is not known; write staff or outside", *whom)
		}
		path := first(*out, fileName(args[0])+".zip")
		if path == "-" && d.term.is {
			return failf(exitUsage, "a zip is nothing for a terminal; write -o FILE")
		}
		body, _, err := d.fetch(ctx, "making the bundle", func(ctx context.Context) (*http.Response, error) {
			return d.api.Bundle(ctx, args[0], &apiclient.BundleParams{For: &forWhom})
		})
		if err != nil {
			return err
		}
		if path == "-" {
			_, err = d.out.Write(body)
			return err
		}
		// Personal data: for its owner only; what is there is not written over.
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("%w; -o names another file", err)
		}
		if _, err = f.Write(body); err == nil {
			err = f.Close()
		}
		if err != nil {
			return err
		}
		return d.sayf("%s, %d bytes", path, len(body))
	}
}

// fileName makes an id safe as the name of a file.
func fileName(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '_'
	}, strings.TrimLeft(id, "."))
}
