package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/api"
	apiclient "github.com/flowcordon/flowcordon/api/client"
)

// tenantCommands look at customers, and at the complaints about them.
func tenantCommands() []deskCommand {
	return []deskCommand{
		{name: "search", args: "TEXT", what: "find an address, prefix, customer, server, incident or complaint", role: api.RoleViewer, setup: setupSearch},
		{name: "tenants", args: "[CUSTOMER]", what: "list customers, or show one with history and standing", role: api.RoleViewer, argument: "customer", setup: setupTenants},
		{name: "cases", args: "[ID]", what: "list the complaints that are kept, or show one", role: api.RoleAbuse, argument: "complaint", setup: setupComplaintCases,
			more: "Lists the complaints that match --open kept, by server, or shows one with its mails, its history and the draft of a reply."},
		{name: "cases status", args: "ID open|answered|closed", what: "say how far a complaint is", role: api.RoleAbuse, argument: "complaint", setup: setupCaseStatus},
	}
}

func setupSearch(fs *flag.FlagSet) action {
	limit := fs.Int64("limit", 20, "at most so many, up to 100")
	return func(ctx context.Context, d *desk, args []string) error {
		return show(ctx, d, "searching", func(ctx context.Context) (*http.Response, error) {
			return d.api.Search(ctx, &apiclient.SearchParams{Q: args[0], Limit: limit})
		}, func(o *apiclient.SearchOutputBody) error {
			if len(o.Hits) == 0 {
				return d.sayf("Nothing is known of %q, read as %s.", o.Q, o.Kind)
			}
			t := newTable("WHAT", "ID", "TITLE~12", "TEXT~20", "LAST CHANGE (UTC)?")
			for _, h := range o.Hits {
				t.add(h.Type, h.ID, h.Title, val(h.Text), stamp(val(h.Time)))
			}
			return t.write(d.out, d.term)
		})
	}
}

func setupTenants(fs *flag.FlagSet) action {
	query := fs.String("q", "", "`part` of the customer id, a server or an address")
	limit := fs.Int64("limit", 50, "at most so many, up to 500")
	offset := fs.Int64("offset", 0, "leave out the first so many")
	return func(ctx context.Context, d *desk, args []string) error {
		if len(args) == 1 {
			return show(ctx, d, "asking for the customer", func(ctx context.Context) (*http.Response, error) { return d.api.Tenant(ctx, args[0]) }, d.printTenant)
		}
		return show(ctx, d, "asking for the customers", func(ctx context.Context) (*http.Response, error) {
			return d.api.Tenants(ctx, &apiclient.TenantsParams{Q: opt(*query), Limit: limit, Offset: opt(*offset)})
		}, d.printTenants)
	}
}

func (d *desk) printTenants(l *apiclient.TenantsOutputBody) error {
	if len(l.Tenants) == 0 {
		return d.sayf("No customer matches.")
	}
	t := newTable("CUSTOMER", ">OPEN", ">INCIDENTS", "SERVERS~12", "ADDRESSES~15")
	for _, r := range l.Tenants {
		open := cell{fmt.Sprint(r.Live), plain}
		if r.Live > 0 {
			open.color = yellow
		}
		t.add(r.Customer, open, r.Incidents, strings.Join(r.Vds, " "), strings.Join(r.Addresses, " "))
	}
	if err := t.write(d.out, d.term); err != nil {
		return err
	}
	return d.page(&l.UnderscoreMetadata, len(l.Tenants))
}

// page says which part of a list this is, if it is one.
func (d *desk) page(m *apiclient.Metadata, n int) error {
	if m.Offset == 0 && int64(n) >= m.TotalCount {
		return nil
	}
	text := fmt.Sprintf("%d to %d of %d", m.Offset+1, m.Offset+int64(n), m.TotalCount)
	if m.Offset+int64(n) < m.TotalCount {
		text += fmt.Sprintf("; --offset %d gives the next", m.Offset+int64(n))
	}
	return d.sayf("%s", text)
}

func (d *desk) printTenant(o *apiclient.TenantOutputBody) error {
	head := pairs{{"customer", o.Customer}}
	for _, s := range o.Standing {
		head = append(head, standingPair(&s))
	}
	if err := head.write(d.out, d.term); err != nil {
		return err
	}
	section := func(title string, n int, t *table) error {
		if n == 0 {
			return nil
		}
		fmt.Fprintf(d.out, "\n%s\n", d.term.paint(title, bold))
		return t.write(d.out, d.term)
	}
	holds := newTable("ADDRESSES", "SERVER~8", "NODE~8?", "FROM (UTC)", "TO (UTC)")
	for _, h := range o.Holdings {
		holds.add(val(h.Prefix), val(h.Vds), val(h.Hypervisor), stamp(val(h.From)), stamp(val(h.To)))
	}
	if err := section("holds or held", len(o.Holdings), holds); err != nil {
		return err
	}
	if err := section("incidents", len(o.Incidents), d.incidentTable(o.Incidents)); err != nil {
		return err
	}
	if err := section("exemptions", len(o.Exemptions), exemptionTable(o.Exemptions)); err != nil {
		return err
	}
	return section("complaints", len(o.Complaints), caseTable(o.Complaints))
}

func standingPair(s *apiclient.Standing) [3]string {
	text, color := fmt.Sprintf("%d offence(s) that count", s.Offences), plain
	if s.Probation {
		text, color = text+", on probation: the next is acted on at once", yellow
	}
	return [3]string{first(val(s.Vds), "standing"), text, color}
}

func setupComplaintCases(fs *flag.FlagSet) action {
	status := fs.String("status", "open", "`status`: open, answered, closed or all")
	tenant := fs.String("tenant", "", "about the tenant with this `address`")
	customer := fs.String("customer", "", "about this customer's `id`")
	query := fs.String("q", "", "`part` of the id, the subject or the reporter")
	limit := fs.Int64("limit", 50, "at most so many, up to 500")
	offset := fs.Int64("offset", 0, "leave out the first so many")
	reply := fs.String("reply", "", "of one case: only the draft of the reply, `en or ru`")
	return func(ctx context.Context, d *desk, args []string) error {
		if *reply != "" && (*reply != "en" && *reply != "ru" || len(args) == 0) {
			return failf(exitUsage, "write cases ID --reply en, or ru")
		}
		if len(args) == 1 {
			return show(ctx, d, "asking for the complaint", func(ctx context.Context) (*http.Response, error) { return d.api.ComplaintCase(ctx, args[0]) },
				func(c *apiclient.AbuseCase) error {
					switch *reply {
					case "en":
						return d.writeText(c.Reply.En)
					case "ru":
						return d.writeText(c.Reply.Ru)
					}
					return d.printCase(c)
				})
		}
		state := apiclient.ComplaintsParamsStatus(*status)
		return show(ctx, d, "asking for the complaints", func(ctx context.Context) (*http.Response, error) {
			return d.api.Complaints(ctx, &apiclient.ComplaintsParams{Status: &state, Tenant: opt(*tenant), Customer: opt(*customer), Q: opt(*query), Limit: limit, Offset: opt(*offset)})
		}, func(l *apiclient.CasesListOutputBody) error {
			if len(l.Complaints) == 0 {
				return d.sayf("No complaint matches. match --open FILE keeps one.")
			}
			if err := caseTable(l.Complaints).write(d.out, d.term); err != nil {
				return err
			}
			return d.page(&l.UnderscoreMetadata, len(l.Complaints))
		})
	}
}

func caseTable(list []apiclient.CaseRow) *table {
	t := newTable("ID", "STATUS", "HOST", "CUSTOMER~8", "VERDICTS~12", ">MAILS", "INCIDENT?", "UPDATED (UTC)?", "SUBJECT~16?")
	for i := range list {
		c := &list[i]
		color := plain
		if c.Status == apiclient.CaseRowStatusOpen {
			color = yellow
		}
		t.add(c.ID, cell{string(c.Status), color}, c.Host, strings.TrimSpace(val(c.Customer)+" "+val(c.Vds)), verdicts(c.Verdicts), c.Mails, val(c.Incident), stamp(c.Updated), val(c.Subject))
	}
	return t
}

func verdicts(counts map[string]int64) string {
	var out []string
	for v, n := range counts {
		out = append(out, fmt.Sprintf("%d %s", n, v))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func (d *desk) printCase(c *apiclient.AbuseCase) error {
	err := pairs{
		{"complaint", c.ID}, {"status", string(c.Status)}, {"host", c.Host}, {"customer", strings.TrimSpace(val(c.Customer) + " " + val(c.Vds))},
		{"about", fmt.Sprintf("%s to %s UTC", stamp(c.First), stamp(c.Last))}, {"verdicts", verdicts(c.Verdicts)}, {"incident", val(c.Incident)},
	}.write(d.out, d.term)
	if err != nil {
		return err
	}
	fmt.Fprintln(d.out)
	mails := newTable("RECEIVED (UTC)", "REPORTER~12", ">LINES", "VERDICTS~12", "SUBJECT~16")
	for _, m := range c.Received {
		mails.add(stamp(m.Time), val(m.Reporter), m.Lines, verdicts(m.Verdicts), val(m.Subject))
	}
	if err := mails.write(d.out, d.term); err != nil {
		return err
	}
	fmt.Fprintln(d.out)
	steps := newTable("TIME (UTC)", "BY~8", "WHAT", "NOTE~20")
	for _, s := range c.History {
		steps.add(stamp(s.Time), s.Actor, s.Kind, val(s.Note))
	}
	if err := steps.write(d.out, d.term); err != nil {
		return err
	}
	return d.sayf("--reply en or ru prints the draft of the reply.")
}

func setupCaseStatus(fs *flag.FlagSet) action {
	note := fs.String("note", "", "for colleagues, a `text`")
	return func(ctx context.Context, d *desk, args []string) error {
		status := apiclient.CaseStatusInputBodyStatus(args[1])
		if !status.Valid() {
			return failf(exitUsage, "%q is no status; write open, answered or closed", args[1])
		}
		return show(ctx, d, "saying so", func(ctx context.Context) (*http.Response, error) {
			return d.api.ComplaintStatus(ctx, args[0], apiclient.CaseStatusInputBody{Status: status, Note: opt(*note)})
		}, func(c *apiclient.AbuseCase) error { return d.sayf("%s is %s", c.ID, c.Status) })
	}
}

// until writes when something ends, and how long that is away.
func (d *desk) until(t *time.Time) string {
	if t == nil {
		return ""
	}
	if left := t.Sub(d.now()); left > 0 {
		return fmt.Sprintf("%s UTC, in %s", stamp(*t), span(left))
	}
	return stamp(*t) + " UTC, over"
}
