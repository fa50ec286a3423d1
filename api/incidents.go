package api

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// Metadata is the paging of a list.
type Metadata struct {
	TotalCount int `json:"totalCount" doc:"how many match in all"`
	Limit      int `json:"limit"`
	Offset     int `json:"offset"`
}

type listInput struct {
	State  []string `query:"state" nullable:"false" doc:"states separated by commas; live stands for all that are not over" example:"live"`
	Tenant string   `query:"tenant" doc:"any address of the tenant" example:"198.18.0.7"`
	Rule   string   `query:"rule" example:"netscan"`
	Since  string   `query:"since" doc:"opened at or after: RFC 3339, or relative such as -24h" example:"-24h"`
	Until  string   `query:"until" doc:"opened before: RFC 3339, or relative such as -1h"`
	Limit  int      `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Offset int      `query:"offset" minimum:"0" default:"0"`
}

type listOutput struct {
	Body struct {
		Metadata  Metadata        `json:"_metadata"`
		Incidents []flow.Incident `json:"incidents"`
	}
}

type idInput struct {
	ID string `path:"id" maxLength:"128" doc:"the incident's id"`
}

type incidentOutput struct {
	Body struct {
		Incident flow.Incident `json:"incident"`
		Events   []flow.Event  `json:"events" doc:"the timeline, oldest first"`
	}
}

type evidenceOutput struct {
	Body flow.Evidence
}

type formInput struct {
	ID   string `path:"id" maxLength:"128" doc:"the incident's id"`
	Form string `path:"form" doc:"netscan, summary or packets"`
}

type textOutput struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Body        []byte
}

type releaseInput struct {
	ID   string `path:"id" maxLength:"128" doc:"the incident's id"`
	Body struct {
		Statement string `json:"statement" minLength:"1" maxLength:"4000" doc:"what the customer says was found and done" example:"Found a hacked WordPress, reinstalled from backup."`
	}
}

type reasonInput struct {
	ID   string `path:"id" maxLength:"128" doc:"the incident's id"`
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"4000" doc:"why, for colleagues and the audit log" example:"known scanner of the customer's own network"`
	}
}

func (h *Handler) registerIncidents() {
	tags := []string{"incidents"}
	get := func(id, path, summary, doc string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary, Description: doc, Tags: tags}
	}
	post := func(id, path, summary, doc, hint string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodPost, Path: path, Summary: summary, Description: doc, Tags: tags, Metadata: map[string]any{hintKey: hint}}
	}
	one := get("incident", "/incidents/{id}", "One incident with its timeline", "All that is known of the incident, and each step that led to where it stands.")
	ev := get("evidence", "/incidents/{id}/evidence", "The frozen evidence of an incident", "The texts and what they were made from.")
	form := get("evidence-form", "/incidents/{id}/evidence/{form}", "One evidence text", "As sent to the customer: netscan (the list), summary (rates by remote address) or packets (like tcpdump).")
	form.Responses = map[string]*huma.Response{"200": {Description: "The text.", Content: map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}}}}
	for _, op := range []*huma.Operation{&one, &ev, &form} {
		op.Errors = []int{http.StatusNotFound}
	}
	register(h, RoleViewer, get("incidents", "/incidents", "Incidents, newest first", "A page of the incidents that match all filters."), h.list)
	register(h, RoleViewer, one, h.incident)
	register(h, RoleViewer, ev, h.evidence)
	register(h, RoleViewer, form, h.evidenceForm)
	register(h, RoleAbuse, post("release", "/incidents/{id}/release", "Give the network back", "Restores what was cut. The customer's statement is kept with the incident.",
		`{"statement": "what the customer says was found and done"}`), h.release)
	register(h, RoleOperator, post("approve", "/incidents/{id}/approve", "Approve the cut of an incident that waits for it", "The network is cut as if the rule were in the mode enforce.",
		`{"reason": "why the network is to be cut"}`), h.approve)
	register(h, RoleAbuse, post("close", "/incidents/{id}/close", "Close an incident without an act", "For incidents that led to no cut, or need none any more.",
		`{"reason": "why nothing is to be done"}`), h.close)
}

func (h *Handler) list(ctx context.Context, in *listInput) (*listOutput, error) {
	q := ListQuery{Limit: in.Limit, Offset: in.Offset}
	var err error
	if q.States, err = parseStates(in.State); err != nil {
		return nil, err
	}
	if q.Rule, err = parseRule(in.Rule); err != nil {
		return nil, err
	}
	if in.Tenant != "" {
		if _, q.Tenant, err = h.host("tenant", in.Tenant); err != nil {
			return nil, err
		}
	}
	now := h.deps.Now()
	if q.Since, err = parseTime("since", in.Since, now, q.Since); err != nil {
		return nil, err
	}
	if q.Until, err = parseTime("until", in.Until, now, q.Until); err != nil {
		return nil, err
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return nil, invalid("since_until")
	}
	incidents, total, err := h.deps.Incidents.List(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &listOutput{}
	out.Body.Metadata = Metadata{total, in.Limit, in.Offset}
	out.Body.Incidents = tidy(incidents)
	return out, nil
}

func (h *Handler) incident(_ context.Context, in *idInput) (*incidentOutput, error) {
	inc, events, ok := h.deps.Incidents.Incident(in.ID)
	if !ok {
		return nil, noIncident(in.ID)
	}
	out := &incidentOutput{}
	out.Body.Incident, out.Body.Events = tidy([]flow.Incident{inc})[0], notNil(events)
	return out, nil
}

func noIncident(id string) error {
	return missing("no_incident", echo(id))
}

func (h *Handler) evidence(ctx context.Context, in *idInput) (*evidenceOutput, error) {
	if _, _, ok := h.deps.Incidents.Incident(in.ID); !ok {
		return nil, noIncident(in.ID)
	}
	ev, err := h.deps.Store.Evidence(ctx, in.ID)
	var own *Error
	switch {
	case err == nil:
	case h.deps.StoreNotFound != nil && errors.Is(err, h.deps.StoreNotFound):
		return nil, missing("no_evidence")
	case errors.As(err, &own):
		return nil, own
	default:
		return nil, h.unavailable(ctx, "read the evidence", err)
	}
	ev.Logs = notNil(ev.Logs)
	return &evidenceOutput{ev}, nil
}

func (h *Handler) evidenceForm(ctx context.Context, in *formInput) (*textOutput, error) {
	ev, err := h.evidence(ctx, &idInput{in.ID})
	if err != nil {
		return nil, err
	}
	var have []string
	for _, l := range ev.Body.Logs {
		if l.Form == in.Form {
			return &textOutput{ContentType: "text/plain; charset=utf-8",
				Disposition: mime.FormatMediaType("inline", map[string]string{"filename": l.Name}), Body: []byte(l.Text)}, nil
		}
		have = append(have, l.Form)
	}
	return nil, missing("no_form", echo(in.Form), strings.Join(have, ", "))
}

func (h *Handler) release(ctx context.Context, in *releaseInput) (*incidentOutput, error) {
	return h.act(ctx, "release", in.ID, "statement", in.Body.Statement, h.deps.Incidents.Release)
}

func (h *Handler) approve(ctx context.Context, in *reasonInput) (*incidentOutput, error) {
	return h.act(ctx, "approve", in.ID, "reason", in.Body.Reason, h.deps.Incidents.Approve)
}

func (h *Handler) close(ctx context.Context, in *reasonInput) (*incidentOutput, error) {
	return h.act(ctx, "close", in.ID, "reason", in.Body.Reason, h.deps.Incidents.Close)
}

// act does one thing to an incident, in the name of the token, and leaves a line
// in the audit log whether it worked or not.
func (h *Handler) act(ctx context.Context, op, id, field, text string, f func(ctx context.Context, id, actor, text string) error) (*incidentOutput, error) {
	text = strings.TrimSpace(text)
	var err error
	switch {
	case text == "":
		err = invalid("empty", field)
	case utf8.RuneCountInString(text) > maxStatement:
		err = invalid("too_long", field)
	default:
		if _, _, ok := h.deps.Incidents.Incident(id); !ok {
			err = noIncident(id)
		}
	}
	if err == nil {
		err = f(ctx, id, caller(ctx).Name, text)
	}
	h.auditWrite(ctx, op, id, err)
	if err != nil {
		return nil, err
	}
	return h.incident(ctx, &idInput{id})
}

func (h *Handler) auditWrite(ctx context.Context, op, id string, err error) {
	t := caller(ctx)
	h.audit.Info("write", zap.String("op", op), zap.String("incident", id), zap.String("actor", t.Name), zap.Stringer("role", t.Role),
		zap.String("request", requestID(ctx)), zap.Bool("done", err == nil), zap.Error(err))
}

func (h *Handler) auditRefused(ctx context.Context, op, id string) {
	h.auditWrite(ctx, op, id, errors.New("role too low"))
}

// tidy gives lists instead of null, so that clients may loop without a look.
func tidy(in []flow.Incident) []flow.Incident {
	in = append([]flow.Incident{}, in...) // the controller may still read its own
	for i := range in {
		in[i].Rules, in[i].Findings = notNil(in[i].Rules), notNil(in[i].Findings)
		in[i].Action, in[i].Restore = tidyAction(in[i].Action), tidyAction(in[i].Restore)
	}
	return in
}

func tidyAction(a *flow.Action) *flow.Action {
	if a == nil || a.NICs != nil {
		return a
	}
	c := *a
	c.NICs = []flow.NIC{}
	return &c
}

func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
