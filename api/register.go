package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
)

// register adds an operation. There is no way to add one without a role.
func register[I, O any](h *Handler, role Role, op huma.Operation, f func(context.Context, *I) (*O, error)) {
	op.Description += " Needs a token of the role " + role.String() + " or higher."
	op.Security = []map[string][]string{{"bearer": {}}}
	op.Middlewares = append(op.Middlewares, h.require(role))
	op.MaxBodyBytes = maxBody
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable)
	if op.Method != http.MethodGet {
		op.Errors = append(op.Errors, http.StatusNotFound, http.StatusConflict, http.StatusBadRequest)
	}
	op.Errors = append(op.Errors, http.StatusUnprocessableEntity)
	slices.Sort(op.Errors)
	op.Errors = slices.Compact(op.Errors)
	huma.Register(h.rest, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := f(ctx, in)
		if err != nil {
			return nil, h.problem(ctx, err)
		}
		return out, nil
	})
}
