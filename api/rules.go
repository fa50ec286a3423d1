package api

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flowcordon/flowcordon/flow"
)

// Rules shows how the detector judges and how well: the shadow ledger. Answers
// that are any have a shape of their own; errors that are the caller's fault are
// of type *Error.
type Rules interface {
	Shapes() RuleShapes
	// Explain gives the policy of an address, with where each value comes from.
	Explain(ip netip.Addr, ts time.Time) any
	// Precisions are of the days from to to, both inclusive; empty: all.
	Precisions(from, to string) any
	Cases(q CaseQuery) any
	// SetMark says of a case that its rule was right or wrong.
	SetMark(ctx context.Context, id, verdict, by, reason string, ts time.Time) (any, error)
	// Proposals are thresholds that would have kept all cases out that were marked wrong.
	Proposals(ts time.Time) any
}

// CaseQuery selects cases of the ledger; zero fields select all.
type CaseQuery struct {
	Rule     flow.Rule
	Tenant   netip.Addr
	From, To string    // days, both inclusive
	MinTier  flow.Tier // at least
	Verdict  *string   // right, wrong, or "" for those without a mark
	Limit    int
}

type anyOutput struct{ Body any }

type policyInput struct {
	IP string `path:"ip" doc:"any address of the tenant" example:"198.18.0.7"`
}

type precisionInput struct {
	From string `query:"from" doc:"first day, UTC" example:"2026-11-01"`
	To   string `query:"to" doc:"last day, UTC" example:"2026-11-22"`
}

type casesInput struct {
	Rule    string `query:"rule" example:"netscan"`
	Tenant  string `query:"tenant" doc:"any address of the tenant" example:"198.18.0.7"`
	From    string `query:"from" doc:"first day, UTC" example:"2026-11-01"`
	To      string `query:"to" doc:"last day, UTC" example:"2026-11-22"`
	Tier    string `query:"tier" enum:"log,notify,block_port,suspend" doc:"at least"`
	Verdict string `query:"verdict" enum:"right,wrong,unmarked"`
	Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type markInput struct {
	Body struct {
		ID      string `json:"id" minLength:"1" maxLength:"200" doc:"of the case: rule/tenant/day" example:"netscan/198.18.0.7/2026-11-22"`
		Verdict string `json:"verdict" enum:"right,wrong,unsure"`
		Reason  string `json:"reason" minLength:"1" maxLength:"1000" doc:"why, for colleagues" example:"the customer runs a certificate census"`
	}
}

func (h *Handler) registerRules() {
	if h.deps.Rules == nil {
		return
	}
	op := func(method, id, path, summary, doc string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Description: doc, Tags: []string{"rules"}}
	}
	sh, is := newShapes(h.rest.OpenAPI().Components.Schemas), h.deps.Rules.Shapes()
	register(h, RoleViewer, answers(op(http.MethodGet, "policy", "/hosts/{ip}/policy", "The policy that an address is judged by",
		"Mode and thresholds of each rule, where each value comes from, and what each exporter's sampling lets be seen within 1, 5 and 30 minutes."), sh.one(is.Policy)), h.policy)
	register(h, RoleViewer, answers(op(http.MethodGet, "precision", "/rules/precision", "How often each rule was right",
		"By the marks of staff, with the 95 % interval after Wilson."), sh.list("precision", is.Precision)), h.precision)
	register(h, RoleViewer, answers(op(http.MethodGet, "proposals", "/rules/proposals", "Thresholds that the last 14 days propose",
		"For each rule the threshold at which no case marked wrong would have fired, and what it would have missed."), sh.list("proposals", is.Proposal)), h.proposals)
	register(h, RoleViewer, answers(op(http.MethodGet, "cases", "/rules/cases", "What each rule would have done",
		"One case for each rule, tenant and day, whatever the rule's mode."), sh.list("cases", is.Case)), h.cases)
	mark := op(http.MethodPost, "mark", "/rules/cases/mark", "Say that a rule was right or wrong", "The mark counts in the rule's precision; unsure takes it back.")
	mark.Metadata = map[string]any{hintKey: `{"id": "netscan/198.18.0.7/2026-11-22", "verdict": "wrong", "reason": "why"}`}
	register(h, RoleAbuse, answers(mark, sh.one(is.Case)), h.mark)
}

func (h *Handler) policy(_ context.Context, in *policyInput) (*anyOutput, error) {
	_, tenant, err := h.host("ip", in.IP)
	if err != nil {
		return nil, err
	}
	return &anyOutput{h.deps.Rules.Explain(tenant, h.deps.Now())}, nil
}

func (h *Handler) precision(_ context.Context, in *precisionInput) (*anyOutput, error) {
	if err := checkDays(in.From, in.To); err != nil {
		return nil, err
	}
	return &anyOutput{h.deps.Rules.Precisions(in.From, in.To)}, nil
}

func (h *Handler) proposals(context.Context, *struct{}) (*anyOutput, error) {
	return &anyOutput{h.deps.Rules.Proposals(h.deps.Now())}, nil
}

func (h *Handler) cases(_ context.Context, in *casesInput) (*anyOutput, error) {
	q := CaseQuery{From: in.From, To: in.To, Limit: in.Limit}
	if err := checkDays(in.From, in.To); err != nil {
		return nil, err
	}
	var err error
	if q.Rule, err = parseRule(in.Rule); err != nil {
		return nil, err
	}
	if in.Tenant != "" {
		if _, q.Tenant, err = h.host("tenant", in.Tenant); err != nil {
			return nil, err
		}
	}
	if in.Tier != "" {
		if err := q.MinTier.UnmarshalText([]byte(in.Tier)); err != nil {
			return nil, errParam("tier", in.Tier, "log, notify, block_port or suspend")
		}
	}
	if in.Verdict != "" {
		v := strings.TrimPrefix(in.Verdict, "unmarked")
		q.Verdict = &v
	}
	return &anyOutput{h.deps.Rules.Cases(q)}, nil
}

func (h *Handler) mark(ctx context.Context, in *markInput) (*anyOutput, error) {
	var out any
	err := h.order(ctx, "mark", in.Body.Reason, func(actor, reason string) (err error) {
		out, err = h.deps.Rules.SetMark(ctx, in.Body.ID, in.Body.Verdict, actor, reason, h.deps.Now())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &anyOutput{out}, nil
}

// checkDays: days compare as texts, so they must be written alike.
func checkDays(days ...string) error {
	for i, d := range days {
		if d == "" {
			continue
		}
		if _, err := time.Parse(time.DateOnly, d); err != nil {
			return errParam([]string{"from", "to"}[i], d, "a day such as 2026-11-22")
		}
	}
	return nil
}
