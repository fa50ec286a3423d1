package api

import (
	"context"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flowcordon/flowcordon/flow"
)

// Control is what staff may do about the automation as a whole. Errors that are
// the caller's fault are of type *Error.
type Control interface {
	Restrict(ctx context.Context, id, actor string, m flow.Measure, reason string) error
	ReleaseMistake(ctx context.Context, id, actor, reason string) error
	Undo(ctx context.Context, since time.Time, actor, reason string) (flow.Undone, error)
	Freezes() []flow.Frozen
	Unfreeze(ctx context.Context, actor, reason string) error
	Audit(f flow.AuditFilter, p flow.AuditPage) (entries []flow.AuditEntry, next uint64)
}

type restrictInput struct {
	ID   string `path:"id" maxLength:"128" doc:"the incident's id"`
	Body struct {
		Measure string          `json:"measure" enum:"block_port,rate_limit,cut"`
		Ports   []flow.PortRule `json:"ports,omitempty" nullable:"false" maxItems:"64" doc:"of block_port: IANA protocol number and destination port" example:"[{\"proto\": 6, \"port\": 22}]"`
		KbitS   uint64          `json:"kbit_s,omitempty" doc:"of rate_limit: kbit/s that the tenant may send" example:"10000"`
		Reason  string          `json:"reason" minLength:"1" maxLength:"4000" doc:"why, for colleagues and the audit log" example:"SSH scan goes on, the customer asked for time"`
	}
}

type undoInput struct {
	Body struct {
		Since  string `json:"since" minLength:"1" doc:"RFC 3339, or relative such as -1h" example:"-1h"`
		Reason string `json:"reason" minLength:"1" maxLength:"4000" doc:"why, for colleagues and the audit log" example:"edge-3 announced a wrong sampling rate"`
	}
}

type undoOutput struct{ Body flow.Undone }

type unfreezeInput struct {
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"4000" doc:"why, for colleagues and the audit log" example:"the scans are real: a worm"`
	}
}

type freezesOutput struct {
	Body struct {
		Freezes []flow.Frozen `json:"freezes" doc:"that last; one without a rule is of all rules"`
	}
}

type auditInput struct {
	Incident string   `query:"incident"`
	Tenant   string   `query:"tenant" doc:"any address of the tenant" example:"198.18.0.7"`
	Customer string   `query:"customer" doc:"customer id of the inventory"`
	VDS      string   `query:"vds"`
	Actor    string   `query:"actor" doc:"detector, controller, or the name of a token"`
	Kind     []string `query:"kind" nullable:"false" doc:"kinds of events separated by commas" example:"intent,released"`
	Reason   string   `query:"reason" example:"freeze"`
	Since    string   `query:"since" doc:"at or after: RFC 3339, or relative such as -24h" example:"-24h"`
	Until    string   `query:"until" doc:"before: RFC 3339, or relative such as -1h"`
	Before   uint64   `query:"before" doc:"next of the page before"`
	Limit    int      `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type auditOutput struct {
	Body struct {
		Entries []flow.AuditEntry `json:"entries" doc:"newest first"`
		Next    uint64            `json:"next,omitempty" doc:"before of the next page; absent on the last one"`
	}
}

func (h *Handler) registerControl() {
	if h.deps.Control == nil {
		return
	}
	op := func(method, id, path, tag, summary, doc, hint string) huma.Operation {
		o := huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Description: doc, Tags: []string{tag}}
		if hint != "" {
			o.Metadata = map[string]any{hintKey: hint}
		}
		return o
	}
	register(h, RoleOperator, op(http.MethodPost, "restrict", "/incidents/{id}/restrict", "incidents", "Take a measure by hand",
		"Blocks ports, limits the rate or cuts, instead of what is in force for the incident now.",
		`{"measure": "block_port", "ports": [{"proto": 6, "port": 22}], "reason": "why"}`), h.restrict)
	register(h, RoleOperator, op(http.MethodPost, "mistake", "/incidents/{id}/mistake", "incidents", "Give back what should not have been taken",
		"As release, but it counts as no offence of the customer and no probation follows.", `{"reason": "what was wrong"}`), h.mistake)
	register(h, RoleAdmin, op(http.MethodPost, "undo", "/undo", "automation", "Take back all automatic acts since a moment",
		"Gives back everything that was cut or restricted without a human. May be repeated.", `{"since": "-1h", "reason": "what went wrong"}`), h.undo)
	register(h, RoleViewer, op(http.MethodGet, "freezes", "/freezes", "automation", "Freezes that last",
		"While a rule is frozen nothing is done automatically on its findings.", ""), h.freezes)
	register(h, RoleOperator, op(http.MethodPost, "unfreeze", "/freezes/lift", "automation", "Lift every freeze",
		"What was held acts when it is found again, within the caps.", `{"reason": "why the findings are right"}`), h.unfreeze)
	register(h, RoleOperator, op(http.MethodGet, "audit", "/audit", "automation", "Who did what, to whom, and why",
		"The append-only log of every decision, act, order and notice.", ""), h.auditLog)
}

func (h *Handler) restrict(ctx context.Context, in *restrictInput) (*incidentOutput, error) {
	m := flow.Measure{Kind: flow.MeasureKind(in.Body.Measure), Ports: in.Body.Ports, KbitS: in.Body.KbitS}
	return h.act(ctx, "restrict", in.ID, "reason", in.Body.Reason, func(ctx context.Context, id, actor, text string) error {
		return h.deps.Control.Restrict(ctx, id, actor, m, text)
	})
}

func (h *Handler) mistake(ctx context.Context, in *reasonInput) (*incidentOutput, error) {
	return h.act(ctx, "mistake", in.ID, "reason", in.Body.Reason, h.deps.Control.ReleaseMistake)
}

func (h *Handler) undo(ctx context.Context, in *undoInput) (*undoOutput, error) {
	out := &undoOutput{}
	since, err := parseTime("since", in.Body.Since, h.deps.Now(), time.Time{})
	if err == nil && since.After(h.deps.Now()) {
		err = invalid("undo_future")
	}
	if err == nil {
		err = h.order(ctx, "undo", in.Body.Reason, func(actor, reason string) (err error) {
			out.Body, err = h.deps.Control.Undo(ctx, since, actor, reason)
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	out.Body.GivingBack, out.Body.Before = notNil(out.Body.GivingBack), notNil(out.Body.Before)
	return out, nil
}

func (h *Handler) freezes(context.Context, *struct{}) (*freezesOutput, error) {
	out := &freezesOutput{}
	out.Body.Freezes = notNil(h.deps.Control.Freezes())
	return out, nil
}

func (h *Handler) unfreeze(ctx context.Context, in *unfreezeInput) (*freezesOutput, error) {
	err := h.order(ctx, "unfreeze", in.Body.Reason, func(actor, reason string) error {
		return h.deps.Control.Unfreeze(ctx, actor, reason)
	})
	if err != nil {
		return nil, err
	}
	return h.freezes(ctx, nil)
}

// order does one thing that is not about one incident, in the name of the token.
func (h *Handler) order(ctx context.Context, op, reason string, f func(actor, reason string) error) error {
	reason = strings.TrimSpace(reason)
	var err error
	switch {
	case reason == "":
		err = invalid("empty", "reason")
	case utf8.RuneCountInString(reason) > maxStatement:
		err = invalid("too_long", "reason")
	default:
		err = f(caller(ctx).Name, reason)
	}
	h.auditWrite(ctx, op, "", err)
	return err
}

func (h *Handler) auditLog(_ context.Context, in *auditInput) (*auditOutput, error) {
	f := flow.AuditFilter{Incident: in.Incident, Customer: in.Customer, VDS: in.VDS, Actor: in.Actor, Kinds: in.Kind, Reason: in.Reason}
	var err error
	if in.Tenant != "" {
		if _, f.Tenant, err = h.host("tenant", in.Tenant); err != nil {
			return nil, err
		}
	}
	now := h.deps.Now()
	if f.Since, err = parseTime("since", in.Since, now, f.Since); err != nil {
		return nil, err
	}
	if f.Until, err = parseTime("until", in.Until, now, f.Until); err != nil {
		return nil, err
	}
	out := &auditOutput{}
	out.Body.Entries, out.Body.Next = h.deps.Control.Audit(f, flow.AuditPage{Before: in.Before, Limit: in.Limit})
	out.Body.Entries = notNil(out.Body.Entries)
	return out, nil
}
