package api

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flowcordon/flowcordon/flow"
)

type topInput struct {
	By     string `query:"by" enum:"out_bytes,out_packets,in_bytes,in_packets,syn" default:"out_bytes"`
	Window string `query:"window" default:"5m" doc:"how far back, from 10s to 744h (31 days)" example:"5m"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"20"`
}

// topEntry is a row of a top list with what is known of the tenant.
type topEntry struct {
	flow.TopRow
	Holder    *flow.Holder `json:"holder,omitempty" doc:"who holds the address now; absent when the inventory does not know"`
	Incidents []string     `json:"incidents" doc:"ids of those that are not over"`
}

type topOutput struct {
	Body struct {
		By         string     `json:"by"`
		From       time.Time  `json:"from"`
		To         time.Time  `json:"to"`
		Resolution int        `json:"resolution" doc:"seconds that one of the stored sums covers which this was read from"`
		Top        []topEntry `json:"top"`
	}
}

type exportersOutput struct {
	Body struct {
		Exporters []flow.ExporterHealth `json:"exporters"`
	}
}

type whoamiOutput struct {
	Body struct {
		Name    string    `json:"name" doc:"of the token, or of who signed in"`
		Role    string    `json:"role" enum:"viewer,abuse,operator,admin"`
		Time    time.Time `json:"time" doc:"the server's clock"`
		Expires time.Time `json:"expires,omitzero" doc:"when the token ends; absent: never"`
		Rate    *rateView `json:"rate,omitempty" doc:"how often it may call; absent: as often as it likes"`
		CSRF    string    `json:"csrf,omitempty" doc:"of a session: what its calls that change something send as X-CSRF-Token; absent: a token is used"`
	}
}

type rateView struct {
	PerSecond float64 `json:"per_second"`
	Burst     int     `json:"burst" doc:"calls at once after a rest"`
}

func (h *Handler) registerFleet() {
	op := func(id, path, summary, doc string, tag string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary, Description: doc, Tags: []string{tag}}
	}
	register(h, RoleViewer, op("top", "/top", "The tenants with the most traffic", "Scaled by the sampling rate where the name begins with est_.", "hosts"), h.top)
	register(h, RoleViewer, op("exporters", "/exporters", "The exporters and their health", "What came, what was dropped and why, sampling rates in force, and problems with what to do.", "exporters"), h.exporters)
	register(h, RoleViewer, op("whoami", "/whoami", "The token or session in use", "Its name and role.", "session"), h.whoami)
}

func (h *Handler) top(ctx context.Context, in *topInput) (*topOutput, error) {
	window, err := time.ParseDuration(in.Window)
	if err != nil || window < flow.WindowSeconds*time.Second || window > maxTopWindow {
		return nil, errParam("window", in.Window, "a time from 10s to 744h such as 5m, 1h or 720h")
	}
	now := h.pollNow()
	r := flow.Range{From: now.Add(-window), To: now}
	list, err := h.deps.Store.TopList(ctx, flow.TopQuery{Range: r, By: in.By, Limit: in.Limit})
	if err != nil {
		return nil, h.unavailable(ctx, "read the top list", err)
	}
	open, err := h.openByTenant(ctx)
	if err != nil {
		return nil, err
	}
	out := &topOutput{}
	out.Body.By, out.Body.From, out.Body.To, out.Body.Top = in.By, r.From, r.To, make([]topEntry, len(list.Rows))
	out.Body.Resolution = seconds(list.Resolution)
	for i, row := range list.Rows {
		out.Body.Top[i] = topEntry{row, h.holder(row.Tenant, now), notNil(open[row.Tenant])}
	}
	return out, nil
}

func (h *Handler) openByTenant(ctx context.Context) (map[netip.Addr][]string, error) {
	// More open incidents than this, and marks in a top list are the least
	// worry; those beyond are only not marked.
	list, _, err := h.deps.Incidents.List(ctx, ListQuery{States: liveStates(), Limit: 10_000})
	if err != nil {
		return nil, err
	}
	out := make(map[netip.Addr][]string, len(list))
	for i := range list {
		out[list[i].Tenant] = append(out[list[i].Tenant], list[i].ID)
	}
	return out, nil
}

func (h *Handler) exporters(context.Context, *struct{}) (*exportersOutput, error) {
	out := &exportersOutput{}
	out.Body.Exporters = []flow.ExporterHealth{}
	if h.deps.Exporters == nil {
		return out, nil
	}
	out.Body.Exporters = h.exporterList()
	return out, nil
}

func (h *Handler) exporterList() []flow.ExporterHealth {
	list := notNil(h.deps.Exporters())
	for i := range list {
		list[i] = tidyExporter(list[i])
	}
	return list
}

func tidyExporter(e flow.ExporterHealth) flow.ExporterHealth {
	e.Protocols, e.Samplers, e.Problems = notNil(e.Protocols), notNil(e.Samplers), notNil(e.Problems)
	e.ProblemsWhy = notNil(e.ProblemsWhy)
	if e.Dropped == nil {
		e.Dropped = map[string]uint64{}
	}
	return e
}

func (h *Handler) whoami(ctx context.Context, _ *struct{}) (*whoamiOutput, error) {
	t := caller(ctx)
	out := &whoamiOutput{}
	out.Body.Name, out.Body.Role, out.Body.Time, out.Body.Expires = t.Name, t.Role.String(), h.deps.Now().UTC(), t.Expires
	if t.session != "" {
		out.Body.CSRF = h.live.csrfOf(t.session)
	}
	if t.Rate.PerSecond > 0 {
		out.Body.Rate = &rateView{t.Rate.PerSecond, t.Rate.Burst}
	}
	return out, nil
}
