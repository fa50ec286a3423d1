package api

import (
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flowcordon/flowcordon/flow"
)

// Exemptions are what is recorded and not acted on. Errors that are the caller's
// fault are of type *Error.
type Exemptions interface {
	List(status string, ts time.Time) []Exemption // "": of every status
	Get(id string, ts time.Time) (Exemption, bool)
	Create(ctx context.Context, e flow.Exemption, actor string, ts time.Time) (Exemption, error)
	// Change and Remove want the version that the caller has seen.
	Change(ctx context.Context, id string, version int, e flow.Exemption, actor string, ts time.Time) (Exemption, error)
	Remove(ctx context.Context, id string, version int, actor, reason string, ts time.Time) (Exemption, error)
}

// Exemption is one with what became of it.
type Exemption struct {
	flow.Exemption
	Source    string        `json:"source" enum:"config,api"`
	Status    string        `json:"status" enum:"active,expired,removed"`
	Version   int           `json:"version" doc:"rises with each change; the ETag"`
	Created   time.Time     `json:"created,omitzero"`
	CreatedBy string        `json:"created_by,omitempty"`
	Updated   time.Time     `json:"updated,omitzero"`
	UpdatedBy string        `json:"updated_by,omitempty"`
	Removed   time.Time     `json:"removed,omitzero"`
	Why       string        `json:"removed_why,omitempty"`
	Hits      ExemptionHits `json:"hits"`
	Warning   string        `json:"warning,omitempty" doc:"for people: about to expire, expired, or needed by nothing"`
}

// ExemptionHits is how often an exemption was needed.
type ExemptionHits struct {
	Findings uint64    `json:"findings" doc:"findings of the detector's ticks that it covered"`
	Days     uint64    `json:"tenant_days" doc:"distinct tenants and days among them"`
	Last     time.Time `json:"last,omitzero"`
}

type exemptionBody struct {
	Tenant   string `json:"tenant,omitempty" maxLength:"50" doc:"prefix or address of the tenant; this or customer is needed" example:"198.18.0.7"`
	Customer string `json:"customer,omitempty" maxLength:"200" doc:"customer id of the inventory" example:"c-42"`
	Remote   string `json:"remote,omitempty" maxLength:"50" doc:"prefix or address of the other side; findings about many remotes have none, and are not covered then" example:"203.0.113.0/24"`
	RemoteAS uint32 `json:"remote_as,omitempty" doc:"AS number of the other side, instead of remote"`
	Port     uint16 `json:"port,omitempty" doc:"service port; absent: any" example:"22"`
	IPProto  uint8  `json:"ip_proto,omitempty" doc:"IANA protocol number; absent: any" example:"6"`
	Rule     string `json:"rule,omitempty" doc:"absent: any" example:"netscan"`
	Owner    string `json:"owner" minLength:"1" maxLength:"100" doc:"who answers for it" example:"anna"`
	Reason   string `json:"reason" minLength:"1" maxLength:"1000" doc:"why, for those who come after" example:"penetration test, ticket 4711"`
	Expires  string `json:"expires" minLength:"1" maxLength:"40" doc:"when it ends: RFC 3339, or from now such as +72h; at most a year" example:"+72h"`
}

type newExemptionInput struct{ Body exemptionBody }

type exemptionInput struct {
	ID string `path:"id" maxLength:"60" doc:"of the exemption" example:"ex-0a1b2c3d4e5f"`
}

type changeExemptionInput struct {
	ID      string `path:"id" maxLength:"60" doc:"of the exemption" example:"ex-0a1b2c3d4e5f"`
	IfMatch string `header:"If-Match" maxLength:"80" doc:"the ETag of the exemption as it was read; needed"`
	Body    exemptionBody
}

type removeExemptionInput struct {
	ID      string `path:"id" maxLength:"60" doc:"of the exemption" example:"ex-0a1b2c3d4e5f"`
	IfMatch string `header:"If-Match" maxLength:"80" doc:"the ETag of the exemption as it was read; needed"`
	Reason  string `query:"reason" required:"true" minLength:"1" maxLength:"1000" doc:"why it is not needed any more" example:"the test is over"`
}

type exemptionsInput struct {
	Status string `query:"status" enum:"active,expired,removed,all" default:"active"`
}

type exemptionsOutput struct {
	Body struct {
		Exemptions []Exemption `json:"exemptions" doc:"those with a warning first, then the newest"`
	}
}

type exemptionOutput struct {
	Status   int
	ETag     string `header:"ETag"`
	Location string `header:"Location"`
	Body     Exemption
}

func (h *Handler) registerExemptions() {
	if h.deps.Exemptions == nil {
		return
	}
	op := func(method, id, path, summary, doc string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Description: doc, Tags: []string{"exemptions"}}
	}
	const hint = `{"customer": "c-42", "port": 22, "owner": "anna", "reason": "penetration test", "expires": "+72h"}`
	register(h, RoleViewer, op(http.MethodGet, "exemptions", "/exemptions", "What is recorded and not acted on", "Exemptions of the configuration and those made here, with how often each was needed."), h.exemptions)
	one := op(http.MethodGet, "exemption", "/exemptions/{id}", "One exemption", "Its ETag is what changing and removing it ask for.")
	one.Errors = []int{http.StatusNotFound}
	register(h, RoleViewer, one, h.exemption)
	create := op(http.MethodPost, "exempt", "/exemptions", "Exempt a tenant", "Findings that every given field fits are recorded and not acted on, from the next tick on until it expires.")
	create.DefaultStatus, create.Metadata = http.StatusCreated, map[string]any{hintKey: hint}
	register(h, RoleOperator, create, h.exempt)
	precondition := []int{http.StatusPreconditionFailed, http.StatusPreconditionRequired}
	change := op(http.MethodPut, "exemption-change", "/exemptions/{id}", "Change an exemption", "Replaces all of it. Those of the configuration are changed there.")
	change.Errors, change.Metadata = precondition, map[string]any{hintKey: hint}
	register(h, RoleOperator, change, h.changeExemption)
	remove := op(http.MethodDelete, "exemption-remove", "/exemptions/{id}", "End an exemption", "At once; what it covered is acted on when it is found again. It stays listed as removed.")
	remove.Errors = precondition
	register(h, RoleOperator, remove, h.removeExemption)
}

func (h *Handler) exemptions(_ context.Context, in *exemptionsInput) (*exemptionsOutput, error) {
	out := &exemptionsOutput{}
	status := in.Status
	if status == "all" {
		status = ""
	}
	out.Body.Exemptions = notNil(h.deps.Exemptions.List(status, h.deps.Now()))
	return out, nil
}

func noExemption(id string) error {
	return missing("no_exemption", echo(id))
}

func answerExemption(e Exemption, status int) *exemptionOutput {
	out := &exemptionOutput{Status: status, ETag: strconv.Quote(strconv.Itoa(e.Version)), Body: e}
	if status == http.StatusCreated {
		out.Location = Prefix + "/exemptions/" + e.Name
	}
	return out
}

func (h *Handler) exemption(_ context.Context, in *exemptionInput) (*exemptionOutput, error) {
	e, ok := h.deps.Exemptions.Get(in.ID, h.deps.Now())
	if !ok {
		return nil, noExemption(in.ID)
	}
	return answerExemption(e, http.StatusOK), nil
}

func (h *Handler) exempt(ctx context.Context, in *newExemptionInput) (*exemptionOutput, error) {
	return h.orderExemption(ctx, "exempt", "", &in.Body, http.StatusCreated, func(e flow.Exemption, actor string, now time.Time) (Exemption, error) {
		return h.deps.Exemptions.Create(ctx, e, actor, now)
	})
}

func (h *Handler) changeExemption(ctx context.Context, in *changeExemptionInput) (*exemptionOutput, error) {
	version, err := versionOf(in.IfMatch)
	if err != nil {
		return nil, err
	}
	return h.orderExemption(ctx, "exemption-change", in.ID, &in.Body, http.StatusOK, func(e flow.Exemption, actor string, now time.Time) (Exemption, error) {
		return h.deps.Exemptions.Change(ctx, in.ID, version, e, actor, now)
	})
}

// orderExemption reads a body and does what is asked for in the name of the token.
func (h *Handler) orderExemption(ctx context.Context, op, id string, b *exemptionBody, status int, f func(e flow.Exemption, actor string, now time.Time) (Exemption, error)) (*exemptionOutput, error) {
	now := h.deps.Now()
	e, err := b.read(now)
	var done Exemption
	if err == nil {
		if done, err = f(e, caller(ctx).Name, now); err == nil {
			id = done.Name
		}
	}
	h.auditWrite(ctx, op, id, err)
	if err != nil {
		return nil, err
	}
	return answerExemption(done, status), nil
}

func (h *Handler) removeExemption(ctx context.Context, in *removeExemptionInput) (*exemptionOutput, error) {
	version, err := versionOf(in.IfMatch)
	if err != nil {
		return nil, err
	}
	e, err := h.deps.Exemptions.Remove(ctx, in.ID, version, caller(ctx).Name, strings.TrimSpace(in.Reason), h.deps.Now())
	h.auditWrite(ctx, "exemption-remove", in.ID, err)
	if err != nil {
		return nil, err
	}
	return answerExemption(e, http.StatusOK), nil
}

// versionOf reads an If-Match: one ETag as it came.
func versionOf(match string) (int, error) {
	if match == "" {
		return 0, fault(http.StatusPreconditionRequired, "if_match")
	}
	v, err := strconv.Unquote(strings.TrimSpace(match))
	n, err2 := strconv.Atoi(v)
	if err != nil || err2 != nil {
		return 0, fault(http.StatusPreconditionFailed, "if_match_wrong", echo(match))
	}
	return n, nil
}

func (b *exemptionBody) read(now time.Time) (flow.Exemption, error) {
	e := flow.Exemption{Holder: strings.TrimSpace(b.Customer), RemoteAS: b.RemoteAS, Port: b.Port, IPProto: b.IPProto,
		Owner: strings.TrimSpace(b.Owner), Reason: strings.TrimSpace(b.Reason)}
	var err error
	if e.Rule, err = parseRule(b.Rule); err != nil {
		return e, err
	}
	if e.Tenant, err = parsePrefix("tenant", b.Tenant); err != nil {
		return e, err
	}
	if e.Remote, err = parsePrefix("remote", b.Remote); err != nil {
		return e, err
	}
	for _, s := range []string{e.Holder, e.Owner, e.Reason} {
		if !utf8.ValidString(s) {
			return e, invalid("not_utf8")
		}
	}
	if d, ok := strings.CutPrefix(b.Expires, "+"); ok {
		span, err := time.ParseDuration(d)
		if err != nil {
			return e, errParam("expires", b.Expires, "RFC 3339 such as 2026-12-31T12:00:00Z, or from now such as +72h")
		}
		e.Expires = now.Add(span).UTC().Truncate(time.Second)
		return e, nil
	}
	at, err := time.Parse(time.RFC3339, b.Expires)
	if err != nil {
		return e, errParam("expires", b.Expires, "RFC 3339 such as 2026-12-31T12:00:00Z, or from now such as +72h")
	}
	e.Expires = at.UTC()
	return e, nil
}

// parsePrefix reads a prefix or an address; empty is none.
func parsePrefix(name, s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, errParam(name, s, "an address or a prefix such as 198.18.0.7, 203.0.113.0/24 or 2001:db8::/32")
	}
	return p.Masked(), nil
}
