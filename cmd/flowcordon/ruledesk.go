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

// ruleCommands look at how good the rules are.
func ruleCommands() []deskCommand {
	return []deskCommand{
		{name: "rules", what: "how often each rule was right, by the marks of staff", role: api.RoleViewer, setup: setupPrecision},
		{name: "rules cases", what: "what each rule would have done, whatever its mode", role: api.RoleViewer, setup: setupCases,
			more: "Lists what each rule would have done, whatever its mode: one case for each rule, tenant and day."},
		{name: "rules mark", args: "CASE right|wrong|unsure", what: "say that a rule was right or wrong", role: api.RoleAbuse, argument: "case", setup: setupMark,
			more: "Says of a case that its rule was right or wrong; unsure takes it back. It counts in the rule's precision."},
		{name: "rules proposals", what: "thresholds that the last 14 days propose", role: api.RoleViewer, setup: setupProposals},
	}
}

// The lists of the ledger, as the document describes them.
type (
	precisionList struct {
		Precision []apiclient.LedgerPrecision `json:"precision"`
	}
	proposalList struct {
		Proposals []apiclient.LedgerProposal `json:"proposals"`
	}
	caseList struct {
		Cases []apiclient.LedgerCase `json:"cases"`
	}
)

func setupPrecision(fs *flag.FlagSet) action {
	from := fs.String("from", "", "first `day`, UTC, such as 2026-11-01")
	to := fs.String("to", "", "last `day`")
	return func(ctx context.Context, d *desk, _ []string) error {
		return show(ctx, d, "asking for the ledger", func(ctx context.Context) (*http.Response, error) {
			return d.api.Precision(ctx, &apiclient.PrecisionParams{From: opt(*from), To: opt(*to)})
		}, func(l *precisionList) error {
			if len(l.Precision) == 0 {
				return d.sayf("No rule has found anything in that time.")
			}
			t := newTable("RULE", "TIER", ">CASES", ">RIGHT", ">WRONG", ">UNMARKED", ">PRECISION", "95 %")
			for _, p := range l.Precision {
				is := "-"
				if p.Right+p.Wrong > 0 {
					is = fmt.Sprintf("%.2f", p.Precision)
				}
				t.add(p.Rule, p.Tier, p.Cases, p.Right, p.Wrong, p.Unmarked, is, fmt.Sprintf("%.2f to %.2f", p.Low, p.High))
			}
			return t.write(d.out, d.term)
		})
	}
}

func setupCases(fs *flag.FlagSet) action {
	var p apiclient.CasesParams
	rule := fs.String("rule", "", "of this `rule`")
	tenant := fs.String("tenant", "", "of the tenant with this `address`")
	from := fs.String("from", "", "first `day`, UTC")
	to := fs.String("to", "", "last `day`")
	tier := fs.String("tier", "", "at least this `tier`: log, notify, block_port or suspend")
	verdict := fs.String("verdict", "", "`mark`: right, wrong or unmarked")
	limit := fs.Int64("limit", 100, "at most so many, up to 1000")
	return func(ctx context.Context, d *desk, _ []string) error {
		p = apiclient.CasesParams{Rule: opt(*rule), Tenant: opt(*tenant), From: opt(*from), To: opt(*to), Tier: opt(apiclient.CasesParamsTier(*tier)),
			Verdict: opt(apiclient.CasesParamsVerdict(*verdict)), Limit: limit}
		return show(ctx, d, "asking for the ledger", func(ctx context.Context) (*http.Response, error) { return d.api.Cases(ctx, &p) }, func(l *caseList) error {
			if len(l.Cases) == 0 {
				return d.sayf("No case matches.")
			}
			t := newTable("CASE", "TIER", ">FINDINGS", "LAST (UTC)?", "MARK", "THE STRONGEST~20")
			for _, c := range l.Cases {
				mark := cell{"-", plain}
				if c.Mark != nil {
					mark = cell{c.Mark.Verdict + " by " + c.Mark.By, map[string]string{"right": green, "wrong": red}[c.Mark.Verdict]}
				}
				t.add(c.ID, c.Tier, c.Findings, stamp(c.Last), mark, c.Best.Reason)
			}
			return t.write(d.out, d.term)
		})
	}
}

func setupMark(fs *flag.FlagSet) action {
	var o orderFlags
	o.flags(fs, "reason", "why, for colleagues", false)
	return func(ctx context.Context, d *desk, args []string) error {
		verdict := apiclient.MarkInputBodyVerdict(args[1])
		if !verdict.Valid() {
			return failf(exitUsage, "%q is no verdict; write right, wrong or unsure", args[1])
		}
		text, err := o.read(d.in)
		if err != nil {
			return err
		}
		return show(ctx, d, "marking", func(ctx context.Context) (*http.Response, error) {
			return d.api.Mark(ctx, apiclient.MarkInputBody{ID: args[0], Verdict: verdict, Reason: text})
		}, func(c *apiclient.LedgerCase) error {
			if c.Mark == nil {
				return d.sayf("%s has no mark", c.ID)
			}
			return d.sayf("%s is marked %s by %s", c.ID, c.Mark.Verdict, c.Mark.By)
		})
	}
}

func setupProposals(*flag.FlagSet) action {
	return func(ctx context.Context, d *desk, _ []string) error {
		return show(ctx, d, "asking for the ledger", func(ctx context.Context) (*http.Response, error) { return d.api.Proposals(ctx) }, func(l *proposalList) error {
			if len(l.Proposals) == 0 {
				return d.sayf("Nothing is proposed: no case of the last 14 days is marked wrong.")
			}
			for i, p := range l.Proposals {
				if i > 0 {
					fmt.Fprintln(d.out)
				}
				err := pairs{
					{"threshold", p.Key},
					{"now", fmt.Sprintf("%g", p.Now)},
					{"proposed", fmt.Sprintf("%g", p.Proposed)},
					{"cases", fmt.Sprintf("%d: %d right, %d wrong", p.Cases, p.Right, p.Wrong)},
					{"would miss", fmt.Sprintf("%d right, %d unmarked", p.MissedRight, p.MissedUnmarked)},
					{"wrong were", strings.Join(p.WrongTenants, " ")},
					{"advice", p.Advice},
				}.write(d.out, d.term)
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
}
