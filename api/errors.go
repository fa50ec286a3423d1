package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// Error is an error that the caller of the API may see: the status of the
// answer, and a sentence that says what is wrong and what to do.
type Error struct {
	Status int
	Detail string
	// Code and Values say Detail to a program: of problemForms the key, and what was
	// put into the form. Empty where the sentence is another package's.
	Code   string
	Values []string
}

// Error returns the detail.
func (e *Error) Error() string { return e.Detail }

// ErrNotFound is for an incident, or a part of it, that does not exist.
func ErrNotFound(detail string) *Error { return &Error{Status: http.StatusNotFound, Detail: detail} }

// ErrConflict is for an act that the state of the incident does not allow.
func ErrConflict(detail string) *Error { return &Error{Status: http.StatusConflict, Detail: detail} }

// ErrInvalid is for a request that cannot be meant as it was written.
func ErrInvalid(detail string) *Error {
	return &Error{Status: http.StatusUnprocessableEntity, Detail: detail}
}

// tooMany is for what may be asked for again after a while.
type tooMany struct {
	wait time.Duration
	of   *Error
}

// Error returns the detail.
func (e *tooMany) Error() string { return e.of.Detail }

// errParam is ErrInvalid for one parameter; want says what to write.
func errParam(name, got, want string) *Error {
	return invalid("param", name, echo(got), want)
}

// echo quotes what a caller sent, shortened.
func echo(s string) string {
	if len(s) > maxEcho {
		s = strings.ToValidUTF8(s[:maxEcho], "") + "…"
	}
	return fmt.Sprintf("%q", s)
}

// problem turns the error of a handler into the answer's. What is not meant for
// the caller goes to the log, and the caller gets the request id to find it by.
func (h *Handler) problem(ctx context.Context, err error) error {
	var e *Error
	var busy *tooMany
	switch {
	case errors.As(err, new(*flow.Busy)):
		return tooBusy(ctx, err)
	case errors.As(err, &e):
	case errors.As(err, &busy):
		hd := http.Header{}
		setRetry(hd, busy.wait)
		return huma.ErrorWithHeaders(newProblem(ctx, busy.of), hd)
	case errors.Is(err, context.DeadlineExceeded):
		e = fault(http.StatusGatewayTimeout, "too_slow", h.cfg.Timeout)
	case errors.Is(err, context.Canceled):
		e = fault(http.StatusServiceUnavailable, "given_up")
	default:
		h.log.Error("request failed", zap.String("request", requestID(ctx)), zap.Error(err))
		e = internal(ctx)
	}
	return newProblem(ctx, e)
}

// unavailable is for a store that does not answer: worth trying again.
func (h *Handler) unavailable(ctx context.Context, what string, err error) error {
	if errors.As(err, new(*flow.Busy)) {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err() // too slow, or nobody waits any more: problem tells them apart
	}
	h.log.Error("store failed", zap.String("request", requestID(ctx)), zap.String("what", what), zap.Error(err))
	return fault(http.StatusServiceUnavailable, "store_away", what, requestID(ctx))
}

func internal(ctx context.Context) *Error {
	return fault(http.StatusInternalServerError, "internal", requestID(ctx))
}

// failure is the body of an error: huma's, and what a program reads of it.
type failure struct {
	huma.ErrorModel
	Code   string   `json:"code,omitempty"`
	Values []string `json:"values,omitempty"`
}

func newProblem(ctx context.Context, e *Error) *failure {
	return &failure{huma.ErrorModel{Title: http.StatusText(e.Status), Status: e.Status, Detail: e.Detail, Instance: instance(ctx)}, e.Code, e.Values}
}

func instance(ctx context.Context) string { return "urn:flowcordon:request:" + requestID(ctx) }

// writeProblem answers where no operation was found yet.
func writeProblem(w http.ResponseWriter, r *http.Request, e *Error) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(e.Status)
	if r.Method != http.MethodHead {
		// The client is gone if this fails; the access log has the request.
		_ = json.NewEncoder(w).Encode(newProblem(r.Context(), e))
	}
}

func (h *Handler) notFound(w http.ResponseWriter, r *http.Request) {
	writeProblem(w, r, fault(http.StatusNotFound, "no_route"))
}

func (h *Handler) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if h.router.Match(chi.NewRouteContext(), m, r.URL.Path) {
			allow = append(allow, m)
		}
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	writeProblem(w, r, fault(http.StatusMethodNotAllowed, "method", strings.Join(allow, " or ")))
}

// hintKey is the key of an operation's metadata under which its hint stands: an
// example of a right body.
const hintKey = "hint"

// explain completes the errors that huma finds by the schemas: it puts them
// into the detail, adds what is known here, and gives each the request's id.
func explain(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	m.Instance = instance(ctx.Context())
	if len(m.Errors) == 0 && m.Status != http.StatusBadRequest {
		return m, nil
	}
	var lines []string
	for _, e := range m.Errors {
		if e == nil {
			continue
		}
		line := e.Message
		if e.Location != "" {
			line = strings.TrimPrefix(strings.TrimPrefix(e.Location, "query."), "path.") + ": " + line
		}
		switch val := e.Value.(type) {
		case string:
			e.Value = strings.Trim(echo(val), `"`)
			if val != "" && !strings.HasPrefix(e.Location, "body") {
				line += ", got " + echo(val)
			}
		case map[string]any, []any:
			e.Value = nil // the body that the caller knows
		}
		if e.Message == "unknown query parameter" {
			line += "; known here are " + strings.Join(queryNames(ctx.Operation()), ", ")
		}
		lines = append(lines, line)
	}
	if len(lines) > 0 {
		m.Detail = strings.Join(lines, "; ")
	}
	if hint, ok := ctx.Operation().Metadata[hintKey].(string); ok {
		m.Detail += "; send " + hint
	}
	return m, nil
}

func queryNames(op *huma.Operation) []string {
	var names []string
	for _, p := range op.Parameters {
		if p.In == "query" {
			names = append(names, p.Name)
		}
	}
	if names == nil {
		return []string{"none"}
	}
	return names
}
