package ledger

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Case is what one rule said of one tenant on one day of event time (UTC).
type Case struct {
	ID     string     `json:"id"`  // rule/tenant/day
	Day    string     `json:"day"` // as 2026-11-22
	Tenant netip.Addr `json:"tenant"`
	Rule   flow.Rule  `json:"rule"`
	// Tier is the highest that was reached: what would have been done had the
	// rule's mode been enforce.
	Tier     flow.Tier    `json:"tier"`
	Findings uint64       `json:"findings"` // ticks that it was seen in
	First    time.Time    `json:"first"`
	Last     time.Time    `json:"last"`
	Best     flow.Finding `json:"best"` // the strongest: by tier, then by score
	Mark     *Mark        `json:"mark,omitempty"`
}

// Verdict is what a human says of a case.
type Verdict string

// The verdicts. Unsure takes an earlier one back.
const (
	Right  Verdict = "right"
	Wrong  Verdict = "wrong"
	Unsure Verdict = "unsure"
)

// Mark is a verdict with its reason.
type Mark struct {
	Verdict Verdict   `json:"verdict"`
	By      string    `json:"by"`
	Reason  string    `json:"reason"`
	Time    time.Time `json:"time"`
}

// The kinds of events. Repeating an event changes nothing.
const (
	KindCase = "case" // Body is a Case as it then was, without its mark
	KindMark = "mark" // Body is a Mark
)

func dayOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func caseID(r flow.Rule, tenant netip.Addr, day string) string {
	return fmt.Sprintf("%s/%s/%s", r, tenant, day)
}

// stronger orders findings by tier, then by how far the score is past its
// threshold.
func stronger(a, b *flow.Finding) bool {
	if a.Tier != b.Tier {
		return a.Tier > b.Tier
	}
	return a.Score > b.Score
}

// see adds a finding. news says that it changed enough to be stored at once.
func (c *Case) see(f *flow.Finding) (news bool) {
	if c.Findings == 0 {
		c.First, c.Best, c.Tier, news = f.Time, *f, f.Tier, true
	}
	c.Findings++
	if f.Time.After(c.Last) {
		c.Last = f.Time
	}
	if stronger(f, &c.Best) {
		news = news || f.Tier > c.Tier || f.Score >= newsScore*c.Best.Score
		c.Best, c.Tier = *f, max(c.Tier, f.Tier)
	}
	return news
}

// newsScore is how much stronger a finding must be to be worth an event.
const newsScore = 1.25
