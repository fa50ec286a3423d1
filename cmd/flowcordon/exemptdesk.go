package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/api"
	apiclient "github.com/flowcordon/flowcordon/api/client"
)

// exemptionCommands are about what is recorded but not acted on.
func exemptionCommands() []deskCommand {
	return []deskCommand{
		{name: "exemptions", args: "[ID]", what: "list what is recorded but not acted on, or show one", role: api.RoleViewer, argument: "exemption", setup: setupExemptions},
		{name: "exemptions add", what: "exempt a tenant or a customer for a time", role: api.RoleOperator, setup: setupExempt,
			more: "Exempts: findings that all of what is written matches are recorded, but nothing is done about them.\n" +
				"--tenant or --customer, --owner, --reason and --expires are needed."},
		{name: "exemptions change", args: "ID", what: "change an exemption: what is written replaces what was", role: api.RoleOperator, argument: "exemption", setup: setupExemptionChange},
		{name: "exemptions remove", args: "ID", what: "end an exemption", role: api.RoleOperator, argument: "exemption", setup: setupExemptionRemove},
	}
}

func setupExemptions(fs *flag.FlagSet) action {
	status := fs.String("status", "active", "`status`: active, expired, removed or all")
	return func(ctx context.Context, d *desk, args []string) error {
		if len(args) == 1 {
			return show(ctx, d, "asking for the exemption", func(ctx context.Context) (*http.Response, error) { return d.api.Exemption(ctx, args[0]) }, d.printExemption)
		}
		state := apiclient.ExemptionsParamsStatus(*status)
		return show(ctx, d, "asking for the exemptions", func(ctx context.Context) (*http.Response, error) {
			return d.api.Exemptions(ctx, &apiclient.ExemptionsParams{Status: &state})
		}, func(l *apiclient.ExemptionsOutputBody) error {
			if len(l.Exemptions) == 0 {
				return d.sayf("No exemption is %s.", strings.Replace(*status, "all", "there", 1))
			}
			return exemptionTable(l.Exemptions).write(d.out, d.term)
		})
	}
}

func exemptionTable(list []apiclient.Exemption) *table {
	t := newTable("ID", "STATUS", "EXEMPTS~20", "EXPIRES (UTC)", ">FINDINGS?", "OWNER~8", "REASON~16?", "WARNING~12?")
	for i := range list {
		x := &list[i]
		status := cell{string(x.Status), plain}
		if x.Status != apiclient.ExemptionStatusActive {
			status.color = dim
		}
		t.add(x.ID, status, exempts(x), stamp(val(x.Expires)), x.Hits.Findings, x.Owner, x.Reason, cell{val(x.Warning), yellow})
	}
	return t
}

// exempts says in words what an exemption matches.
func exempts(x *apiclient.Exemption) string {
	out := strings.TrimSpace(val(x.Tenant) + " " + val(x.Customer))
	if r := val(x.Rule); r != "" {
		out += ", " + r
	}
	if x.Port != nil || x.IPProto != nil {
		out += ", " + portOrAny(x)
	}
	switch {
	case val(x.Remote) != "":
		out += " to " + *x.Remote
	case val(x.RemoteAs) != 0:
		out += fmt.Sprintf(" to AS%d", *x.RemoteAs)
	}
	return out
}

func portOrAny(x *apiclient.Exemption) string {
	if x.IPProto == nil {
		return fmt.Sprintf("port %d", *x.Port)
	}
	return portName(*x.IPProto, val(x.Port))
}

func (d *desk) printExemption(x *apiclient.Exemption) error {
	return pairs{
		{"exemption", x.ID}, {"status", string(x.Status)}, {"exempts", exempts(x)}, {"expires", d.until(x.Expires)}, {"owner", x.Owner}, {"reason", x.Reason},
		{"from", string(x.Source)}, {"made by", val(x.CreatedBy)}, {"changed by", val(x.UpdatedBy)}, {"removed", val(x.RemovedWhy)},
		{"hits", fmt.Sprintf("%d findings on %d tenant-days, the last %s", x.Hits.Findings, x.Hits.TenantDays, stamp(val(x.Hits.Last)))},
		{"warning", val(x.Warning), yellow},
	}.write(d.out, d.term)
}

// exemptionFlags are what an exemption consists of, as written.
type exemptionFlags struct {
	set                              *flag.FlagSet
	tenant, customer, remote         string
	port, rule, owner, reason, until string
	as                               int64
}

func newExemptionFlags(fs *flag.FlagSet) *exemptionFlags {
	f := &exemptionFlags{set: fs}
	fs.StringVar(&f.tenant, "tenant", "", "`address or prefix` of the tenant")
	fs.StringVar(&f.customer, "customer", "", "customer's `id`")
	fs.StringVar(&f.remote, "remote", "", "only towards this `address or prefix`")
	fs.Int64Var(&f.as, "remote-as", 0, "only towards this AS `number`")
	fs.StringVar(&f.port, "port", "", "only this `port`, such as 22 or tcp/22")
	fs.StringVar(&f.rule, "rule", "", "only this `rule`")
	fs.StringVar(&f.owner, "owner", "", "`who` answers for it")
	fs.StringVar(&f.reason, "reason", "", "why, as a `text`, for those who come after")
	fs.StringVar(&f.until, "expires", "", "when it ends, a `time`: RFC 3339, or from now such as +72h")
	return f
}

// into writes the flags that were given into b; one that was given empty takes
// the restriction away.
func (f *exemptionFlags) into(b *apiclient.ExemptionBody) (err error) {
	f.set.Visit(func(g *flag.Flag) {
		switch g.Name {
		case "tenant":
			b.Tenant = opt(f.tenant)
		case "customer":
			b.Customer = opt(f.customer)
		case "remote":
			b.Remote = opt(f.remote)
		case "remote-as":
			b.RemoteAs = opt(f.as)
		case "rule":
			b.Rule = opt(f.rule)
		case "owner":
			b.Owner = f.owner
		case "reason":
			b.Reason = f.reason
		case "expires":
			b.Expires = f.until
		case "port":
			b.IPProto, b.Port = nil, nil
			if f.port != "" {
				var proto, port int64
				proto, port, err = parseService(f.port)
				b.IPProto, b.Port = opt(proto), opt(port)
			}
		}
	})
	return err
}

func setupExempt(fs *flag.FlagSet) action {
	f := newExemptionFlags(fs)
	return func(ctx context.Context, d *desk, _ []string) error {
		for name, v := range map[string]string{"owner": f.owner, "reason": f.reason, "expires": f.until, "tenant or --customer": f.tenant + f.customer} {
			if v == "" {
				return failf(exitUsage, `--%s is missing; write for example --tenant 198.18.0.7 --port tcp/22 --owner anna --reason "penetration test, ticket 4711" --expires +72h`, name)
			}
		}
		var b apiclient.ExemptionBody
		if err := f.into(&b); err != nil {
			return err
		}
		return show(ctx, d, "exempting", func(ctx context.Context) (*http.Response, error) { return d.api.Exempt(ctx, b) }, d.printExemption)
	}
}

func setupExemptionChange(fs *flag.FlagSet) action {
	f := newExemptionFlags(fs)
	return func(ctx context.Context, d *desk, args []string) error {
		if f.given() == 0 {
			return failf(exitUsage, `nothing is to be changed; write for example --expires +72h, or --remote "" for any remote`)
		}
		body, head, err := d.fetch(ctx, "asking for the exemption", func(ctx context.Context) (*http.Response, error) { return d.api.Exemption(ctx, args[0]) })
		if err != nil {
			return err
		}
		var x apiclient.Exemption
		if err := json.Unmarshal(body, &x); err != nil {
			return fmt.Errorf("the exemption as the service has it: %w", err)
		}
		b := apiclient.ExemptionBody{Tenant: x.Tenant, Customer: x.Customer, Remote: x.Remote, RemoteAs: x.RemoteAs, Port: x.Port, IPProto: x.IPProto,
			Rule: x.Rule, Owner: x.Owner, Reason: x.Reason, Expires: val(x.Expires).Format(time.RFC3339)}
		if err := f.into(&b); err != nil {
			return err
		}
		return show(ctx, d, "changing", func(ctx context.Context) (*http.Response, error) {
			return d.api.ExemptionChange(ctx, args[0], &apiclient.ExemptionChangeParams{IfMatch: opt(head.Get("ETag"))}, b)
		}, d.printExemption)
	}
}

// given is how many of the exemption's own flags were written.
func (f *exemptionFlags) given() (n int) {
	f.set.Visit(func(g *flag.Flag) {
		switch g.Name {
		case "tenant", "customer", "remote", "remote-as", "port", "rule", "owner", "reason", "expires":
			n++
		}
	})
	return n
}

// parseService reads 22, tcp/22 or icmp.
func parseService(s string) (proto, port int64, err error) {
	text := s
	if !strings.Contains(s, "/") && strings.Trim(s, "0123456789") == "" {
		text = "tcp/" + s // the port alone: any protocol
	}
	rules, err := parsePorts(text)
	if err != nil || len(rules) != 1 {
		return 0, 0, failf(exitUsage, "--port %q is not understood; write 22, tcp/22, or icmp alone", s)
	}
	if text == s {
		proto = rules[0].Proto
	}
	return proto, val(rules[0].Port), nil
}

func setupExemptionRemove(fs *flag.FlagSet) action {
	reason := fs.String("reason", "", "why it is not needed any more, as a `text`")
	return func(ctx context.Context, d *desk, args []string) error {
		if strings.TrimSpace(*reason) == "" {
			return failf(exitUsage, `--reason is missing; write --reason "why it is not needed any more"`)
		}
		// What somebody else has changed meanwhile is not removed unseen.
		_, head, err := d.fetch(ctx, "asking for the exemption", func(ctx context.Context) (*http.Response, error) { return d.api.Exemption(ctx, args[0]) })
		if err != nil {
			return err
		}
		return show(ctx, d, "removing", func(ctx context.Context) (*http.Response, error) {
			return d.api.ExemptionRemove(ctx, args[0], &apiclient.ExemptionRemoveParams{Reason: *reason, IfMatch: opt(head.Get("ETag"))})
		}, func(x *apiclient.Exemption) error { return d.sayf("%s is %s", x.ID, x.Status) })
	}
}

// covers reports whether an exemption names the address or its holder.
func covers(x *apiclient.Exemption, ip, customer string) bool {
	if c := val(x.Customer); c != "" && c != customer {
		return false
	}
	if val(x.Tenant) == "" {
		return val(x.Customer) != ""
	}
	a, err := netip.ParseAddr(ip)
	p, err2 := netip.ParsePrefix(*x.Tenant)
	if err2 != nil {
		one, err := netip.ParseAddr(*x.Tenant)
		return err == nil && one == a
	}
	return err == nil && p.Contains(a)
}
