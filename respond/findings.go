package respond

import (
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// maxFindings bounds what one incident keeps: a tenant that floods thousands
// of remotes is proven by the strongest hundred.
const maxFindings = 100

type findingKey struct {
	rule   flow.Rule
	proto  uint8
	port   uint16
	remote netip.Addr
}

func keyOf(f flow.Finding) findingKey { return findingKey{f.Rule, f.IPProto, f.Port, f.Remote} }

// stronger orders findings by tier, then by how far the score is past its
// threshold.
func stronger(a, b flow.Finding) bool {
	if a.Tier != b.Tier {
		return a.Tier > b.Tier
	}
	return excess(a) > excess(b)
}

func excess(f flow.Finding) float64 {
	if f.Threshold > 0 {
		return f.Score / f.Threshold
	}
	return f.Score
}

// addFindings keeps the strongest of each rule, port and remote. What the
// weaker ones counted stays in the record's span, so that evidence covers it.
func addFindings(r record, fs []flow.Finding) record {
	list := slices.Clone(r.inc.Findings)
	rules := slices.Clone(r.inc.Rules)
	for _, f := range fs {
		if !slices.Contains(rules, f.Rule) {
			rules = append(rules, f.Rule)
		}
		r.inc.Tier = max(r.inc.Tier, f.Tier)
		if !f.From.IsZero() && (r.first.IsZero() || f.From.Before(r.first)) {
			r.first = f.From
		}
		if f.To.After(r.last) {
			r.last = f.To
		}
		i := slices.IndexFunc(list, func(o flow.Finding) bool { return keyOf(o) == keyOf(f) })
		switch {
		case i < 0:
			list = append(list, f)
		case stronger(f, list[i]):
			list[i] = f
		}
	}
	slices.SortStableFunc(list, func(a, b flow.Finding) int {
		switch {
		case stronger(a, b):
			return -1
		case stronger(b, a):
			return 1
		}
		return 0
	})
	r.inc.Findings, r.inc.Rules = list[:min(len(list), maxFindings)], rules
	return r
}

// newsworthy reports whether findings change the incident enough for an event:
// a new rule or a raised tier at once, a new or stronger finding at most once a
// minute, any other change of the score at most once in ten.
func newsworthy(r record, fs []flow.Finding, ts time.Time) bool {
	since := ts.Sub(r.lastFinding)
	for _, f := range fs {
		if !slices.Contains(r.inc.Rules, f.Rule) || f.Tier > r.inc.Tier {
			return true
		}
		i := slices.IndexFunc(r.inc.Findings, func(o flow.Finding) bool { return keyOf(o) == keyOf(f) })
		if since >= time.Minute && (i < 0 && len(r.inc.Findings) < maxFindings || i >= 0 && stronger(f, r.inc.Findings[i])) {
			return true
		}
		if since >= 10*time.Minute && (i < 0 || f.Score != r.inc.Findings[i].Score) {
			return true
		}
	}
	return false
}
