package api

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/detect"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/ledger"
)

// verdicts is a Rules that tells what it was asked.
type verdicts struct{ query CaseQuery }

// Shapes are the real ones, so that the golden document has them.
func (*verdicts) Shapes() RuleShapes {
	return RuleShapes{Policy: detect.Explanation{}, Precision: ledger.Precision{}, Proposal: ledger.Proposal{}, Case: ledger.Case{}}
}

func (*verdicts) Explain(ip netip.Addr, _ time.Time) any {
	return map[string]any{"address": ip}
}

func (*verdicts) Precisions(from, to string) any { return map[string]any{"from": from, "to": to} }
func (*verdicts) Proposals(time.Time) any        { return map[string]any{"proposals": []string{}} }

func (v *verdicts) Cases(q CaseQuery) any {
	v.query = q
	return map[string]any{"cases": []string{}}
}

func (*verdicts) SetMark(_ context.Context, id, verdict, by, reason string, _ time.Time) (any, error) {
	if !strings.HasPrefix(id, "netscan/") {
		return nil, ErrNotFound("no such case")
	}
	return map[string]any{"said": fmt.Sprintf("%s %s %s %s", id, verdict, by, reason)}, nil
}

func TestRulesAndCases(t *testing.T) {
	v := &verdicts{}
	b := newBench(t, func(_ *Config, d *Deps) { d.Rules = v })
	var got map[string]any
	b.get(t, Prefix+"/hosts/2001:db8:0:7::9/policy").into(t, &got)
	if got["address"] != "2001:db8:0:7::" {
		t.Errorf("policy of %v", got)
	}
	b.get(t, Prefix+"/rules/precision?from=2026-11-01&to=2026-11-22").into(t, &got)
	if got["from"] != "2026-11-01" || got["to"] != "2026-11-22" {
		t.Errorf("precision of %v", got)
	}
	b.get(t, Prefix+"/rules/cases?rule=netscan&tenant=198.18.0.7&tier=notify&verdict=unmarked&limit=7").into(t, &got)
	if q := v.query; q.Rule != flow.RuleNetscan || q.Tenant.String() != "198.18.0.7" || q.MinTier != flow.TierNotify || q.Verdict == nil || *q.Verdict != "" || q.Limit != 7 {
		t.Errorf("query %+v", q)
	}
	b.get(t, Prefix+"/rules/cases").into(t, &got)
	if v.query.Verdict != nil || v.query.MinTier != flow.TierNone {
		t.Errorf("query without filters %+v", v.query)
	}
	mark := func(body string) answer {
		return b.do(t, RoleAbuse, http.MethodPost, Prefix+"/rules/cases/mark", body)
	}
	mark(`{"id":"netscan/198.18.0.7/2026-11-22","verdict":"wrong","reason":" a census "}`).into(t, &got)
	if got["said"] != "netscan/198.18.0.7/2026-11-22 wrong test-abuse a census" {
		t.Errorf("mark: %v", got)
	}
	mark(`{"id":"spam/x/y","verdict":"wrong","reason":"x"}`).problem(t, 404)
	mark(`{"id":"netscan/x/y","verdict":"maybe","reason":"x"}`).problem(t, 422)
	for _, path := range []string{"/rules/precision?from=yesterday", "/rules/cases?rule=nothing", "/rules/cases?tier=high", "/hosts/8.8.8.8/policy"} {
		if a := b.get(t, Prefix+path); a.code != 422 && a.code != 404 {
			t.Errorf("%s: %d %s", path, a.code, a.body)
		}
	}
}
