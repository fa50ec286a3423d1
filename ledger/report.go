package ledger

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Precision is how often a rule was right, by the marks that it was given.
type Precision struct {
	Rule     flow.Rule `json:"rule"`
	Tier     flow.Tier `json:"tier"` // of the cases that are counted
	Cases    int       `json:"cases"`
	Right    int       `json:"right"`
	Wrong    int       `json:"wrong"`
	Unmarked int       `json:"unmarked"`
	// Precision is right/(right+wrong); Low and High are the ends of its 95 %
	// interval after Wilson. Without a mark they are 0, 0 and 1.
	Precision float64 `json:"precision"`
	Low       float64 `json:"low"`
	High      float64 `json:"high"`
}

// z is the normal quantile of a two-sided 95 %.
const z = 1.959964

// Wilson returns the 95 % score interval of a share of k in n (Wilson 1927): it
// is right for few cases and near 0 and 1, where the usual one is not.
func Wilson(k, n int) (low, high float64) {
	if n <= 0 {
		return 0, 1
	}
	p, m := float64(k)/float64(n), float64(n)
	mid := (p + z*z/(2*m)) / (1 + z*z/m)
	half := z / (1 + z*z/m) * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return max(0, mid-half), min(1, mid+half)
}

// Precisions counts the cases of the days from and to, both inclusive, by rule
// and the highest tier of each. In the order of the rules' names, the higher
// tier first.
func (l *Ledger) Precisions(from, to string) []Precision {
	type key struct {
		r flow.Rule
		t flow.Tier
	}
	sums := map[key]*Precision{}
	for _, c := range l.Cases(Query{From: from, To: to}) {
		k := key{c.Rule, c.Tier}
		p := sums[k]
		if p == nil {
			p = &Precision{Rule: c.Rule, Tier: c.Tier}
			sums[k] = p
		}
		p.Cases++
		switch c.verdict() {
		case Right:
			p.Right++
		case Wrong:
			p.Wrong++
		default:
			p.Unmarked++
		}
	}
	out := make([]Precision, 0, len(sums))
	for _, p := range sums {
		if n := p.Right + p.Wrong; n > 0 {
			p.Precision = float64(p.Right) / float64(n)
		}
		p.Low, p.High = Wilson(p.Right, p.Right+p.Wrong)
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Precision) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(b.Tier, a.Tier))
	})
	return out
}

// Proposal is what the marks of the last days say about one threshold.
type Proposal struct {
	Rule flow.Rule `json:"rule"`
	Tier flow.Tier `json:"tier"` // that the threshold leads to
	Key  string    `json:"key"`  // in the configuration, as detect.thresholds.netscan.suspend_score
	// Now is the threshold that the cases were judged by, the lowest if several.
	Now float64 `json:"now"`
	// Proposed is the threshold at which no case that is marked wrong would have
	// reached the tier.
	Proposed float64 `json:"proposed"`
	Cases    int     `json:"cases"` // that reached the tier
	Right    int     `json:"right"`
	Wrong    int     `json:"wrong"`
	// What Proposed would have missed: cases marked right, and those unmarked.
	MissedRight    int `json:"missed_right"`
	MissedUnmarked int `json:"missed_unmarked"`
	// WrongTenants had the wrong cases, at most ten; few of them are better
	// served by an exemption or an override of their own.
	WrongTenants []netip.Addr `json:"wrong_tenants"`
	Advice       string       `json:"advice"`
	Why          flow.Told    `json:"why"` // Advice by its code and values
}

// ProposalDays is how far back Proposals looks.
const ProposalDays = 14

// fewTenants is how many wrong ones are a matter of their own.
const fewTenants = 2

// thresholdKeys names the threshold of each rule's score by tier; where the score
// is a plain number, it is the one that is counted against.
var thresholdKeys = map[flow.Rule]map[flow.Tier]string{
	flow.RuleReflector:   {flow.TierNotify: "notify_score", flow.TierBlockPort: "block_score"},
	flow.RuleSpam:        {flow.TierNotify: "notify_score"},
	flow.RuleBruteforce:  {flow.TierNotify: "notify_score"},
	flow.RuleBlockedPort: {flow.TierNotify: "min_samples"},
	flow.RuleSpoofed:     {flow.TierNotify: "notify_records", flow.TierBlockPort: "block_records"},
}

func keyFor(r flow.Rule, t flow.Tier) string {
	name := map[flow.Tier]string{flow.TierNotify: "notify_score", flow.TierSuspend: "suspend_score"}[t]
	if m, ok := thresholdKeys[r]; ok {
		name = m[t]
	}
	if name == "" {
		return ""
	}
	return "detect.thresholds." + string(r) + "." + name
}

// Proposals looks at the marks of the last 14 days before ts, for each rule and
// tier with a case that is marked wrong.
func (l *Ledger) Proposals(ts time.Time) []Proposal {
	from := dayOf(ts.AddDate(0, 0, -ProposalDays+1))
	by := map[string][]Case{}
	for _, c := range l.Cases(Query{From: from, To: dayOf(ts), MinTier: flow.TierNotify}) {
		if key := keyFor(c.Rule, c.Tier); key != "" {
			by[key] = append(by[key], c)
		}
	}
	var out []Proposal
	for _, key := range sortedKeys(by) {
		if p, ok := propose(key, by[key]); ok {
			out = append(out, p)
		}
	}
	return out
}

// propose finds the threshold for the cases of one rule and tier.
func propose(key string, cases []Case) (Proposal, bool) {
	p := Proposal{Rule: cases[0].Rule, Tier: cases[0].Tier, Key: key, Now: math.Inf(1), Cases: len(cases)}
	worst := 0.0
	for i := range cases {
		c := &cases[i]
		p.Now = min(p.Now, c.Best.Threshold)
		switch c.verdict() {
		case Right:
			p.Right++
		case Wrong:
			p.Wrong++
			worst = max(worst, c.Best.Score)
			if !slices.Contains(p.WrongTenants, c.Tenant) {
				p.WrongTenants = append(p.WrongTenants, c.Tenant)
			}
		}
	}
	if p.Wrong == 0 {
		return Proposal{}, false
	}
	p.Proposed = above(worst)
	for i := range cases {
		if c := &cases[i]; c.Best.Score < p.Proposed {
			switch c.verdict() {
			case Right:
				p.MissedRight++
			case "":
				p.MissedUnmarked++
			}
		}
	}
	slices.SortFunc(p.WrongTenants, netip.Addr.Compare)
	p.Advice, p.Why = p.advice()
	p.WrongTenants = p.WrongTenants[:min(len(p.WrongTenants), 10)]
	return p, true
}

// above is the next number with three digits that x does not reach.
func above(x float64) float64 {
	if x <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(x))-2)
	for k := math.Ceil(x / unit); ; k++ {
		// Through text, without the noise of the powers of ten.
		if up, err := strconv.ParseFloat(strconv.FormatFloat(k*unit, 'g', 4, 64), 64); err != nil || up > x {
			return up
		}
	}
}

// adviceForms are what Proposal.Advice may say. web/src/advice.ru.json has the same
// in Russian.
var adviceForms = flow.Forms{
	"exempt":        "no threshold tells right from wrong here: exempt {0}, or lower the mode for them",
	"exempt_many":   "no threshold tells right from wrong here: exempt {0} tenants, or lower the mode for them",
	"override":      "all that is wrong is {0}: give them an override or an exemption, and leave the threshold",
	"override_many": "all that is wrong is {0} tenants: give them an override or an exemption, and leave the threshold",
	"costs":         "raising it costs {0} of {1} right ones, which would be notified of later or at a lower tier",
	"mark_more":     "nothing was marked right: mark more before it is changed",
	"raise":         "raise it: nothing that was right would have been missed",
}

// Sentences are what Proposal.Advice may say, by code.
func Sentences() flow.Forms { return maps.Clone(adviceForms) }

func (p *Proposal) advice() (string, flow.Told) {
	ofWhom := func(code string) (string, flow.Told) {
		if len(p.WrongTenants) == 1 {
			return adviceForms.Say(code, p.WrongTenants[0])
		}
		return adviceForms.Say(code+"_many", len(p.WrongTenants))
	}
	switch {
	case p.Right > 0 && p.MissedRight == p.Right:
		return ofWhom("exempt")
	case len(p.WrongTenants) <= fewTenants && p.MissedRight > 0:
		return ofWhom("override")
	case p.MissedRight > 0:
		return adviceForms.Say("costs", p.MissedRight, p.Right)
	case p.Right == 0:
		return adviceForms.Say("mark_more")
	}
	return adviceForms.Say("raise")
}

// WriteReport prints precisions and proposals for people.
func (l *Ledger) WriteReport(w io.Writer, ts time.Time) error {
	from, to := dayOf(ts.AddDate(0, 0, -ProposalDays+1)), dayOf(ts)
	if _, err := fmt.Fprintf(w, "What the rules would have done, %s to %s, one case for a tenant, a rule and a day\n\n", from, to); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	row := func(format string, a ...any) { _, _ = fmt.Fprintf(t, format, a...) } // Flush tells its errors
	row("rule\ttier\tcases\tright\twrong\tunmarked\tprecision\t95 %%\t\n")
	for _, p := range l.Precisions(from, to) {
		precision := "–"
		if p.Right+p.Wrong > 0 {
			precision = fmt.Sprintf("%.2f", p.Precision)
		}
		row("%s\t%s\t%d\t%d\t%d\t%d\t%s\t%.2f to %.2f\t\n", p.Rule, p.Tier, p.Cases, p.Right, p.Wrong, p.Unmarked, precision, p.Low, p.High)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	ps := l.Proposals(ts)
	if len(ps) == 0 {
		_, err := fmt.Fprint(w, "\nNo case is marked wrong: no threshold is proposed.\n")
		return err
	}
	for _, p := range ps {
		if _, err := fmt.Fprintf(w, "\n%s: %g\n  now %g, %d cases reached %s: %d right, %d wrong\n  would have missed %d right, %d unmarked\n  %s\n",
			p.Key, p.Proposed, p.Now, p.Cases, p.Tier, p.Right, p.Wrong, p.MissedRight, p.MissedUnmarked, p.Advice); err != nil {
			return err
		}
	}
	return nil
}
