package api

import (
	"context"
	"mime"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flowcordon/flowcordon/flow"
)

// Bundler makes the zip with all that proves an incident. outside leaves out
// what only staff may see.
type Bundler func(ctx context.Context, inc flow.Incident, outside bool) ([]byte, error)

type bundleInput struct {
	ID  string `path:"id" maxLength:"128" doc:"the incident's id"`
	For string `query:"for" enum:"staff,outside" default:"staff" doc:"outside leaves out customer, server and node"`
}

type bundleOutput struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Body        []byte
}

func (h *Handler) registerBundle() {
	if h.deps.Bundle == nil {
		return
	}
	register(h, RoleAbuse, huma.Operation{
		OperationID: "bundle", Method: http.MethodGet, Path: "/incidents/{id}/bundle", Tags: []string{"incidents"}, Errors: []int{http.StatusNotFound},
		Summary: "All that proves an incident, as one zip",
		Description: "The frozen logs, the flows as CSV and JSON lines, what the rules measured, the exporters' health, the SQL to compute it again, " +
			"pictures of before and after, an XARF report, and a manifest with the SHA-256 of each file.",
		Responses: map[string]*huma.Response{"200": {Description: "The zip.", Content: map[string]*huma.MediaType{"application/zip": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}},
	}, h.bundle)
}

func (h *Handler) bundle(ctx context.Context, in *bundleInput) (*bundleOutput, error) {
	inc, _, ok := h.deps.Incidents.Incident(in.ID)
	if !ok {
		return nil, noIncident(in.ID)
	}
	b, err := h.deps.Bundle(ctx, inc, in.For == "outside")
	if err != nil {
		return nil, h.unavailable(ctx, "make the bundle", err)
	}
	name := mime.FormatMediaType("attachment", map[string]string{"filename": inc.ID + ".zip"})
	return &bundleOutput{ContentType: "application/zip", Disposition: name, Body: b}, nil
}
