package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"
)

const (
	// maxComplaint: mail servers refuse more than 10 to 25 MB.
	maxComplaint = 16 << 20
	// complaintRead is how long its body may take; the server's own limit is 30 s.
	complaintRead = 25 * time.Second
	// maxMatching complaints at a time: each may hold tens of megabytes, and
	// asks the database tens of questions.
	maxMatching = 3
)

// ComplaintRequest is a complaint as it was posted. Data is the matcher's only
// until Match returns.
type ComplaintRequest struct {
	Data     []byte
	Type     string    // text/plain, message/rfc822 or application/json
	Received time.Time // zero: now
	Zone     string    // of times without one, as written; empty: not known
	Target   netip.Addr
}

// Complaints reads complaints and holds them against what is stored. The shape
// of the answer is its own; errors that are the caller's fault are of type
// *Error.
type Complaints interface {
	// Match gives the answer, of the type that Shape has.
	Match(ctx context.Context, req ComplaintRequest) (any, error)
	// Shape is an empty answer: the OpenAPI document is made of its type.
	Shape() any
}

type complaintInput struct {
	ContentType string `header:"Content-Type" doc:"text/plain, message/rfc822 for a whole mail, or application/json"`
	Received    string `query:"received" doc:"when it came in: RFC 3339, or relative such as -2h; default now. Years that lines leave out are the latest that is not after it" example:"2026-11-20T12:00:00Z"`
	Zone        string `query:"zone" maxLength:"60" doc:"zone of times without one, when the complaint does not say it: +03:00 or Europe/Moscow" example:"Europe/Moscow"`
	Target      string `query:"target" doc:"the reporter's own address, for lines that do not name it" example:"203.0.113.9"`
	Open        bool   `query:"open" default:"false" doc:"keep it: a case is opened for each server that it is about, or the one about the same server and time is joined"`
	RawBody     []byte
}

type complaintOutput struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

// complaintBody is the JSON form: a text with what is known of it. An object
// without text is taken as a report of its own, such as XARF.
type complaintBody struct {
	Text     string `json:"text" doc:"log lines, or a whole mail" example:"2026-11-20T10:00:01Z 198.18.0.7:52218 -> 203.0.113.9:22 tcp"`
	Received string `json:"received,omitempty" doc:"as the query parameter"`
	Zone     string `json:"zone,omitempty" doc:"as the query parameter"`
	Target   string `json:"target,omitempty" doc:"as the query parameter"`
}

const complaintDoc = `Reads log lines of many shapes, or a whole mail with its attachments (also ARF, X-ARF and XARF), and says for each line what the stored flows, the sampling rate and the inventory of that moment make of it. ` +
	`Nothing is stored unless open says so, nobody is written to; the draft of the reply names no customer, the rest of the answer does.`

// registerComplaints adds the route that matches complaints; without a matcher
// there is none.
func (h *Handler) registerComplaints(c Complaints) {
	if c == nil {
		return
	}
	schemas := h.rest.OpenAPI().Components.Schemas
	// Names of its own: the answer's types are another package's and may be
	// called as ours are.
	own := huma.NewMapRegistry("#/components/schemas/", func(t reflect.Type, hint string) string {
		name := huma.DefaultSchemaNamer(t, hint)
		return "Complaint" + strings.TrimPrefix(name, "Complaint")
	})
	answer := own.Schema(reflect.TypeOf(c.Shape()), true, "Answer")
	body := own.Schema(reflect.TypeFor[complaintBody](), true, "Body")
	for name, s := range own.Map() {
		schemas.Map()[name] = s
	}
	if s := own.SchemaFromRef(answer.Ref); s != nil {
		s.Properties["opened"] = schemas.Schema(reflect.TypeFor[[]CaseOpened](), true, "CaseOpened")
		s.Properties["opened"].Description = "cases that were opened or joined; only with open=true"
	}
	text := &huma.Schema{Type: huma.TypeString}
	op := huma.Operation{OperationID: "complaint", Method: http.MethodPost, Path: "/complaints", Tags: []string{"complaints"},
		Summary: "Match a complaint with what was seen", Description: complaintDoc + " Needs a token of the role " + RoleAbuse.String() + " or higher.",
		Security: []map[string][]string{{"bearer": {}}}, Middlewares: huma.Middlewares{h.require(RoleAbuse), h.noteRead},
		MaxBodyBytes: maxComplaint, BodyReadTimeout: complaintRead, SkipValidateBody: true,
		Metadata: map[string]any{hintKey: `the complaint as text/plain, a mail's source as message/rfc822, or {"text": "…"} as application/json`},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"text/plain": {Schema: text}, "message/rfc822": {Schema: text}, "application/json": {Schema: body}}},
		Responses: map[string]*huma.Response{"200": {Description: "What was read, and what is made of it.", Content: map[string]*huma.MediaType{"application/json": {Schema: answer}}}},
		Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusTooManyRequests,
			http.StatusUnprocessableEntity, http.StatusServiceUnavailable, http.StatusGatewayTimeout}}
	busy := make(chan struct{}, maxMatching)
	huma.Register(h.rest, op, func(ctx context.Context, in *complaintInput) (*complaintOutput, error) {
		out, err := h.complaint(ctx, c, busy, in)
		if err != nil {
			return nil, h.problem(ctx, err)
		}
		return out, nil
	})
	// RawBody adds a type that nobody would send.
	delete(op.RequestBody.Content, "application/octet-stream")
	describe(schemas.Map())
}

func (h *Handler) complaint(ctx context.Context, c Complaints, busy chan struct{}, in *complaintInput) (*complaintOutput, error) {
	req, err := h.complaintRequest(in)
	if err != nil {
		return nil, err
	}
	select {
	case busy <- struct{}{}:
		defer func() { <-busy }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return nil, fault(http.StatusServiceUnavailable, "matching", maxMatching)
	}
	answer, err := c.Match(ctx, req)
	if err != nil {
		return nil, h.complaintError(ctx, err)
	}
	body, err := json.Marshal(answer)
	if err == nil && in.Open {
		body, err = h.openCases(ctx, answer, body)
	}
	if err != nil {
		return nil, err
	}
	t := caller(ctx)
	h.audit.Info("complaint", zap.String("actor", t.Name), zap.Stringer("role", t.Role), zap.Int("bytes", len(in.RawBody)), zap.String("request", requestID(ctx)))
	return &complaintOutput{"application/json", body}, nil
}

// openCases keeps a complaint and says so in its answer.
func (h *Handler) openCases(ctx context.Context, answer any, body []byte) ([]byte, error) {
	if h.deps.Cases == nil {
		return nil, fault(http.StatusConflict, "not_kept")
	}
	opened, err := h.takeCases(ctx, answer)
	if err != nil {
		return nil, err
	}
	list, err := json.Marshal(opened)
	if err != nil {
		return nil, fmt.Errorf("write the cases of a complaint: %w", err)
	}
	// The answer is an object with fields, so a field is put before the first.
	return append(append(append([]byte(`{"opened":`), list...), ','), body[1:]...), nil
}

// complaintError keeps what is the caller's fault; anything else is the store's.
func (h *Handler) complaintError(ctx context.Context, err error) error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e
	}
	return h.unavailable(ctx, "match the complaint", err)
}

func (h *Handler) complaintRequest(in *complaintInput) (ComplaintRequest, error) {
	req := ComplaintRequest{Data: in.RawBody, Zone: in.Zone}
	typ, _, err := mime.ParseMediaType(in.ContentType)
	if in.ContentType == "" {
		typ, err = "text/plain", nil
	}
	if err != nil || !slices.Contains([]string{"text/plain", "message/rfc822", "application/json"}, typ) {
		return req, fault(http.StatusUnsupportedMediaType, "content_type", echo(in.ContentType))
	}
	req.Type = typ
	received, target := in.Received, in.Target
	if typ == "application/json" {
		var b complaintBody
		if err := json.Unmarshal(in.RawBody, &b); err != nil && !reportLike(in.RawBody) {
			return req, fault(http.StatusBadRequest, "no_json", err)
		}
		if hasText(in.RawBody) {
			req.Data, req.Type = []byte(b.Text), "text/plain"
			received, target, req.Zone = first(received, b.Received), first(target, b.Target), first(req.Zone, b.Zone)
		}
	}
	now := h.deps.Now()
	if req.Received, err = parseTime("received", received, now, now.UTC()); err != nil {
		return req, err
	}
	if req.Received.After(now.Add(24 * time.Hour)) {
		return req, invalid("received_future", req.Received.Format(time.RFC3339))
	}
	if target != "" {
		if req.Target, err = parseAddr("target", target); err != nil {
			return req, err
		}
	}
	return req, nil
}

// reportLike reports whether a body that is no complaintBody is JSON all the
// same: a list of reports, or one whose field text is something else.
func reportLike(body []byte) bool { return json.Valid(body) }

// hasText reports whether a JSON body is a complaintBody, and no report.
func hasText(body []byte) bool {
	var b struct {
		Text *string `json:"text"`
	}
	return json.Unmarshal(body, &b) == nil && b.Text != nil
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
