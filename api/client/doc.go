// Package client is the Go client of flowcordon's REST interface, made of its
// OpenAPI document: the same that a running service gives at
// /api/v1/openapi.json. flowcordon's own commands for the abuse desk use it.
//
//	c, err := client.NewClientWithResponses("https://flowcordon.example:8480/api/v1",
//		client.WithRequestEditorFn(client.Bearer(token)))
//	page, err := c.IncidentsWithResponse(ctx, &client.IncidentsParams{State: []string{"live"}})
//
// What is optional is a pointer, lists and maps are nil when absent. Answers
// that are no success have a problem (RFC 9457) whose Detail says what to do.
// It imports nothing else of ours; goroutines are the caller's.
package client

import (
	"context"
	"net/http"
)

// The generator is installed by .ci/install, in the version that it names there.
//go:generate ../../.cache/bin/oapi-codegen -config config.yaml -o client.gen.go ../openapi.golden.json

// Bearer sends a token with each request.
func Bearer(token string) RequestEditorFn {
	return func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+token)
		return nil
	}
}
