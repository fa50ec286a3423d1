package api

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// register adds an operation. There is no way to add one without a role.
func register[I, O any](h *Handler, role Role, op huma.Operation, f func(context.Context, *I) (*O, error)) {
	op = h.secured(role, op)
	huma.Register(h.rest, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := f(ctx, in)
		if err != nil {
			return nil, h.problem(ctx, err)
		}
		return out, nil
	})
}

// secured is op with what every operation has: the role that it needs, the audit
// of looks at personal data, ETags, the errors that may come.
func (h *Handler) secured(role Role, op huma.Operation) huma.Operation {
	op.Description += " Needs a token of the role " + role.String() + " or higher."
	op.Security = []map[string][]string{{"bearer": {}}}
	op.Middlewares = append(op.Middlewares, h.require(role), h.noteRead, h.asks)
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = maxBody
	}
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable)
	if op.Method != http.MethodGet {
		op.Errors = append(op.Errors, http.StatusNotFound, http.StatusConflict, http.StatusBadRequest)
	}
	op.Errors = append(op.Errors, http.StatusUnprocessableEntity)
	slices.Sort(op.Errors)
	op.Errors = slices.Compact(op.Errors)
	if tagged[op.OperationID] {
		op = withETag(op)
		op.Middlewares = append(op.Middlewares, h.conditional)
	}
	return op
}

// plainJSON escapes angle brackets, which huma's own does not: what a stranger wrote
// stays harmless even where something takes it for HTML.
var plainJSON = huma.Format{
	Marshal:   func(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) },
	Unmarshal: json.Unmarshal,
}

// describe says of the answers what their Go types cannot: lists are never
// null (tidy and notNil see to it), sets of names are closed, and fields may be
// added, so that a client which checks answers strictly does not break then.
func describe(schemas map[string]*huma.Schema) {
	for name, s := range schemas {
		if strings.HasSuffix(name, "InputBody") {
			continue // unknown fields of a request stay errors
		}
		if s.AdditionalProperties == false {
			s.AdditionalProperties = nil
		}
		for _, p := range s.Properties {
			if p.Type == huma.TypeArray {
				p.Nullable = false
			}
		}
	}
	if s := schemas["ErrorModel"]; s != nil { // what newProblem adds
		s.Properties["code"] = &huma.Schema{Type: huma.TypeString, Description: "names the sentence in detail; absent where that is another's words", Enum: anys(slices.Sorted(maps.Keys(problemForms)))}
		s.Properties["values"] = &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString}, Description: "what was put into the sentence, in its order"}
	}
	closed := func(schema, field string, names []any) {
		if s := schemas[schema]; s != nil && s.Properties[field] != nil {
			s.Properties[field].Enum = names
		}
	}
	closed("Incident", "state", anys(allStates))
	closed("Finding", "rule", anys(allRules))
	tiers := []any{"none", "log", "notify", "block_port", "suspend"}
	closed("Incident", "tier", tiers)
	closed("Finding", "tier", tiers)
}

func anys[T ~string](in []T) []any {
	out := make([]any, len(in))
	for i, s := range in {
		out[i] = string(s)
	}
	return out
}
