package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/api"
	apiclient "github.com/flowcordon/flowcordon/api/client"
)

func explainCommands() []deskCommand {
	return []deskCommand{{name: "explain", args: "IP", what: "the policy that an address is judged by, and what can be seen of it", role: api.RoleViewer, argument: "host", setup: setupExplain,
		more: "Prints the mode and the thresholds of each rule with where each value comes from, what exempts the\naddress, how its holder stands, and for each exporter the rates from which on an attack is seen\nwithin 1, 5 and 30 minutes at its sampling."}}
}

func setupExplain(fs *flag.FlagSet) action {
	rule := fs.String("rule", "", "only of these `rules`, separated by commas")
	changed := fs.Bool("changed", false, "only the values that are not the default")
	return func(ctx context.Context, d *desk, args []string) error {
		var only []string
		if *rule != "" {
			only = strings.Split(*rule, ",")
		}
		return show(ctx, d, "asking for the policy", func(ctx context.Context) (*http.Response, error) { return d.api.Policy(ctx, args[0]) },
			func(e *apiclient.Explanation) error {
				for _, r := range only {
					if !slices.ContainsFunc(e.Rules, func(x apiclient.RuleExplanation) bool { return x.Rule == r }) {
						return failf(exitUsage, "--rule: there is no rule %q; there are %s", r, strings.Join(ruleNames(e), ", "))
					}
				}
				return d.printExplanation(ctx, e, only, *changed)
			})
	}
}

func ruleNames(e *apiclient.Explanation) []string {
	var out []string
	for _, r := range e.Rules {
		out = append(out, r.Rule)
	}
	return out
}

func (d *desk) printExplanation(ctx context.Context, e *apiclient.Explanation, only []string, changed bool) error {
	wanted := func(rule string) bool { return len(only) == 0 || slices.Contains(only, rule) }
	head := pairs{
		{"address", e.Address},
		{"holder", first(val(e.Holder), "nobody that the inventory knows")},
		{"tags", strings.Join(e.Tags, " ")},
		{"overrides", first(strings.Join(e.Overrides, "; then "), "none matches")},
	}
	more, err := d.standingOf(ctx, e)
	if err != nil {
		return err
	}
	head = append(head, more...)
	if err := head.write(d.out, d.term); err != nil {
		return err
	}
	fmt.Fprintln(d.out)
	t := newTable("RULE", "KEY", "FROM~12", "VALUE~12")
	hidden := 0
	var notes []string
	for _, r := range e.Rules {
		if !wanted(r.Rule) {
			continue
		}
		t.add(cell{r.Rule, bold}, "mode", r.ModeFrom, modeCell(r.Mode))
		for _, v := range r.Values {
			if changed && v.From == "default" {
				hidden++
				continue
			}
			t.add(r.Rule, v.Key, v.From, v.Value)
		}
		for _, h := range r.Held {
			notes = append(notes, r.Rule+": "+h)
		}
		for _, n := range r.Needs {
			notes = append(notes, r.Rule+" needs "+n)
		}
	}
	if err := t.write(d.out, d.term); err != nil {
		return err
	}
	if hidden > 0 {
		fmt.Fprintf(d.out, "%d more values are the default.\n", hidden)
	}
	for i, n := range notes {
		if i == 0 {
			fmt.Fprintln(d.out)
		}
		for _, line := range wrap(n, d.term.width) {
			fmt.Fprintln(d.out, line)
		}
	}
	return d.printFloors(e, wanted)
}

// standingOf says what exempts the address, and how its holder stands.
func (d *desk) standingOf(ctx context.Context, e *apiclient.Explanation) (pairs, error) {
	list, _, err := get[apiclient.ExemptionsOutputBody](ctx, d, "asking for the exemptions", func(ctx context.Context) (*http.Response, error) {
		return d.api.Exemptions(ctx, &apiclient.ExemptionsParams{})
	})
	if err != nil {
		return nil, err
	}
	var out pairs
	for i := range list.Exemptions {
		if x := &list.Exemptions[i]; covers(x, e.Address, val(e.Holder)) {
			out = append(out, [3]string{"exempt", fmt.Sprintf("%s: %s, until %s; %s (%s)", x.ID, exempts(x), first(d.until(x.Expires), "it is removed"), x.Reason, x.Owner), yellow})
		}
	}
	if out == nil {
		out = pairs{{"exempt", "no"}}
	}
	if val(e.Holder) == "" {
		return out, nil
	}
	who, _, err := get[apiclient.TenantOutputBody](ctx, d, "asking for the holder", func(ctx context.Context) (*http.Response, error) { return d.api.Tenant(ctx, *e.Holder) })
	if err != nil {
		return nil, err
	}
	for _, s := range who.Standing {
		out = append(out, standingPair(&s))
	}
	return out, nil
}

func modeCell(mode string) cell {
	switch mode {
	case "enforce":
		return cell{mode, green}
	case "off":
		return cell{mode, dim}
	}
	return cell{mode, plain}
}

// printFloors prints what can be seen at all, once for each sampling rate.
func (d *desk) printFloors(e *apiclient.Explanation, wanted func(string) bool) error {
	if len(e.Exporters) == 0 {
		return d.sayf("\nNo exporter with a known sampling rate was heard of in the last ten minutes: nothing can be said about what would be seen.")
	}
	heads := []string{"RULE", "OF~12", "TIER"}
	for _, s := range e.FloorSeconds {
		heads = append(heads, ">IN "+strings.ToUpper(minutes(s)))
	}
	for i, x := range e.Exporters {
		if slices.ContainsFunc(e.Exporters[:i], func(o apiclient.ExporterFloors) bool { return o.Rate == x.Rate }) {
			continue // told with the first of this rate
		}
		var at []string
		for _, o := range e.Exporters[i:] {
			if o.Rate == x.Rate {
				at = append(at, o.Exporter)
			}
		}
		text := fmt.Sprintf("Seen by %s at a sampling of 1:%d with 95 %% probability from these rates per second on, if nothing answers; export delay comes on top:", strings.Join(at, ", "), x.Rate)
		fmt.Fprintln(d.out)
		for _, line := range wrap(text, d.term.width) {
			fmt.Fprintln(d.out, line)
		}
		t := newTable(heads...)
		for _, f := range x.Floors {
			if wanted(f.Rule) {
				of := strings.TrimSuffix(f.Unit+", "+f.What, ", ")
				t.add(floorRow(f.Rule, of, "notify", f.Notify)...)
				if f.Tier != "notify" {
					t.add(floorRow("", "", f.Tier, f.Act)...)
				}
			}
		}
		if err := t.write(d.out, d.term); err != nil {
			return err
		}
	}
	return nil
}

func floorRow(rule, of, tier string, rates []float64) []any {
	if rule == "" {
		rule, of = " ", " " // not a hyphen: it is the row above
	}
	row := []any{rule, of, tier}
	for _, x := range rates {
		row = append(row, atLeast(x))
	}
	return row
}

// atLeast writes a rate with two digits, rounded up: a floor must not promise
// more than it holds. 0 is never.
func atLeast(x float64) string {
	if x <= 0 {
		return "never"
	}
	unit := math.Pow(10, math.Floor(math.Log10(x))-1)
	return metric(math.Ceil(x/unit-1e-9) * unit)
}

func minutes(s int64) string {
	if s%60 != 0 {
		return span(time.Duration(s) * time.Second)
	}
	return fmt.Sprintf("%d min", s/60)
}
