package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flowcordon/flowcordon/flow"
)

// pollGrid is what now is rounded up to where a time is relative to it: those who
// look at the same then ask for the same. Nothing that is stored already is left out.
const pollGrid = 2 * time.Second

// asks marks what is asked of the store as this caller's, for its turns. Acts are
// not: they must not wait behind questions.
func (h *Handler) asks(ctx huma.Context, next func(huma.Context)) {
	if op := ctx.Operation(); op.Method == http.MethodGet || op.OperationID == "complaint" {
		ctx = huma.WithContext(ctx, flow.WithAsker(ctx.Context(), caller(ctx.Context()).Name))
	}
	next(ctx)
}

// pollNow is the now that relative times of a question are counted from.
func (h *Handler) pollNow() time.Time {
	now := h.deps.Now().UTC()
	if t := now.Truncate(pollGrid); !t.Equal(now) {
		return t.Add(pollGrid)
	}
	return now
}

// tooBusy is err as a problem, if it is that too many questions wait.
func tooBusy(ctx context.Context, err error) error {
	var b *flow.Busy
	if !errors.As(err, &b) {
		return nil
	}
	hd := http.Header{}
	setRetry(hd, b.Retry)
	return huma.ErrorWithHeaders(newProblem(ctx, &Error{Status: http.StatusServiceUnavailable, Detail: b.Error(), Code: "busy"}), hd)
}
