package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"strings"

	"github.com/flowcordon/flowcordon/api"
	apiclient "github.com/flowcordon/flowcordon/api/client"
)

// controlCommands are about the automation as a whole.
func controlCommands() []deskCommand {
	return []deskCommand{
		{name: "undo", what: "take back all automatic acts since a moment", role: api.RoleAdmin, setup: setupUndo,
			more: "Takes back all that was done automatically since a moment, and does nothing automatically until a person lifts the freeze."},
		{name: "freezes", what: "list the freezes of automatic acts, or lift them", role: api.RoleViewer, watch: true, setup: setupFreezes},
		{name: "freezes lift", what: "lift every freeze", role: api.RoleOperator, setup: setupUnfreeze},
		{name: "audit", what: "who did what, to whom, and why", role: api.RoleOperator, setup: setupAudit},
		{name: "whoami", what: "which service is asked, and with which token", role: api.RoleViewer, setup: setupWhoami},
	}
}

func setupUndo(fs *flag.FlagSet) action {
	var o orderFlags
	fs.StringVar(&o.text, "reason", "", "what went wrong, as a `text`; - reads it from standard input")
	fs.BoolVar(&o.yes, "yes", false, "do not ask")
	o.field = "reason"
	since := fs.String("since", "", "when things began to go wrong, a `time`: RFC 3339, or relative such as -1h")
	return func(ctx context.Context, d *desk, _ []string) error {
		text, err := o.read(d.in)
		if err != nil {
			return err
		}
		if *since == "" {
			return failf(exitUsage, "--since is missing; write when things began to go wrong, as --since -1h")
		}
		if err := d.confirm(o.yes, fmt.Sprintf("Give back everything that was taken automatically since %s, on %s?", *since, d.end.base)); err != nil {
			return err
		}
		return show(ctx, d, "taking back", func(ctx context.Context) (*http.Response, error) {
			return d.api.Undo(ctx, apiclient.UndoInputBody{Since: *since, Reason: text})
		}, func(u *apiclient.Undone) error {
			if len(u.GivingBack)+len(u.Before) == 0 {
				return d.sayf("Nothing was taken automatically since then.")
			}
			return pairs{
				{"giving back", first(strings.Join(u.GivingBack, " "), "nothing")},
				{"given back before", strings.Join(u.Before, " ")},
				{"now", "nothing is done automatically until freezes lift"},
			}.write(d.out, d.term)
		})
	}
}

func setupFreezes(*flag.FlagSet) action {
	return func(ctx context.Context, d *desk, _ []string) error {
		return show(ctx, d, "asking for the freezes", func(ctx context.Context) (*http.Response, error) { return d.api.Freezes(ctx) }, d.printFreezes)
	}
}

func (d *desk) printFreezes(o *apiclient.FreezesOutputBody) error {
	if len(o.Freezes) == 0 {
		return d.sayf("Nothing is frozen.")
	}
	t := newTable("RULE", "SINCE (UTC)", ">TENANTS", "BY~8", "INCIDENT?", "WHY~20")
	for _, f := range o.Freezes {
		t.add(first(val(f.Rule), "all rules"), stamp(f.Since), f.Tenants, f.By, f.Incident, f.Why)
	}
	return t.write(d.out, d.term)
}

func setupUnfreeze(fs *flag.FlagSet) action {
	var o orderFlags
	o.field = "reason"
	fs.StringVar(&o.text, "reason", "", "why the findings are right, as a `text`; - reads it from standard input")
	return func(ctx context.Context, d *desk, _ []string) error {
		text, err := o.read(d.in)
		if err != nil {
			return err
		}
		return show(ctx, d, "lifting", func(ctx context.Context) (*http.Response, error) {
			return d.api.Unfreeze(ctx, apiclient.UnfreezeInputBody{Reason: text})
		}, d.printFreezes)
	}
}

func setupAudit(fs *flag.FlagSet) action {
	var p apiclient.AuditParams
	incident := fs.String("incident", "", "of this incident's `id`")
	tenant := fs.String("tenant", "", "of the tenant with this `address`")
	customer := fs.String("customer", "", "of this customer's `id`")
	vds := fs.String("vds", "", "of this `server`")
	actor := fs.String("actor", "", "by `whom`: detector, controller, or the name of a token")
	kind := fs.String("kind", "", "`kinds` of events separated by commas, such as intent,released")
	reason := fs.String("reason", "", "for this `reason`, such as freeze")
	since := fs.String("since", "", "at this `time` or after: RFC 3339, or relative such as -24h")
	until := fs.String("until", "", "before this `time`")
	limit := fs.Int64("limit", 100, "at most so many, up to 1000")
	before := fs.Int64("before", 0, "the `number` that the page before ended with")
	return func(ctx context.Context, d *desk, _ []string) error {
		p = apiclient.AuditParams{Incident: opt(*incident), Tenant: opt(*tenant), Customer: opt(*customer), Vds: opt(*vds), Actor: opt(*actor),
			Reason: opt(*reason), Since: opt(*since), Until: opt(*until), Limit: limit, Before: opt(*before)}
		if *kind != "" {
			p.Kind = strings.Split(*kind, ",")
		}
		return show(ctx, d, "asking for the log", func(ctx context.Context) (*http.Response, error) { return d.api.Audit(ctx, &p) }, d.printAudit)
	}
}

func (d *desk) printAudit(o *apiclient.AuditOutputBody) error {
	if len(o.Entries) == 0 {
		return d.sayf("No entry matches.")
	}
	t := newTable("TIME (UTC)", "WHO~8", "WHAT", "INCIDENT", "TENANT?", "CUSTOMER~8?", "OUTCOME?", "TEXT~20")
	for _, e := range o.Entries {
		t.add(stamp(e.Time), e.Actor, e.Kind, e.Incident, val(e.Tenant), strings.TrimSpace(val(e.Customer)+" "+val(e.Vds)), val(e.Outcome),
			first(val(e.Error), val(e.Text), val(e.Reason)))
	}
	if err := t.write(d.out, d.term); err != nil {
		return err
	}
	if o.Next != nil {
		return d.sayf("More are older: --before %d", *o.Next)
	}
	return nil
}

func setupWhoami(*flag.FlagSet) action {
	return func(ctx context.Context, d *desk, _ []string) error {
		return show(ctx, d, "asking", func(ctx context.Context) (*http.Response, error) { return d.api.Whoami(ctx) }, func(w *apiclient.WhoamiOutputBody) error {
			return pairs{{"service", d.end.base}, {"token", w.Name}, {"role", string(w.Role)}, {"expires", d.until(w.Expires)}, {"its clock", stamp(w.Time) + " UTC"}}.write(d.out, d.term)
		})
	}
}
