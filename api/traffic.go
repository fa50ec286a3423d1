package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flowcordon/flowcordon/flow"
)

// Fleet sums all tenants.
type Fleet interface {
	// FleetSeries is by step, a multiple of a minute; Attempts are not summed.
	FleetSeries(ctx context.Context, r flow.Range, step time.Duration) ([]flow.SeriesPoint, error)
}

// InventorySource is how one source of the inventory does.
type InventorySource struct {
	Name    string    `json:"name"`
	Entries int       `json:"entries" doc:"of its last good reading"`
	Seen    time.Time `json:"seen,omitzero" doc:"the last good reading; absent: none yet"`
	Stale   bool      `json:"stale" doc:"older than it may be: nobody is acted on by it"`
	Problem string    `json:"problem,omitempty" doc:"what kind of trouble the last reading had"`
	Error   string    `json:"error,omitempty" doc:"of the last reading, if it failed"`
}

type sourcesOutput struct {
	Body struct {
		Sources []InventorySource `json:"sources" doc:"in the order of the configuration; the file of inventory.file is none of them"`
	}
}

type trafficInput struct {
	From string `query:"from" doc:"RFC 3339, or relative such as -24h; default 24 hours before to" example:"-24h"`
	To   string `query:"to" doc:"RFC 3339, or relative; default now"`
	Step string `query:"step" doc:"auto, or a multiple of 1m" default:"auto" example:"5m"`
}

// trafficPoint is all tenants in one step.
type trafficPoint struct {
	Time          time.Time `json:"time"`
	EstOutPackets uint64    `json:"est_out_packets"`
	EstInPackets  uint64    `json:"est_in_packets"`
	EstOutBytes   uint64    `json:"est_out_bytes"`
	EstInBytes    uint64    `json:"est_in_bytes"`
	OutRecords    uint64    `json:"out_records"`
	InRecords     uint64    `json:"in_records"`
	SYNOut        uint64    `json:"syn_out"`
}

type trafficOutput struct {
	Body struct {
		From   time.Time      `json:"from"`
		To     time.Time      `json:"to"`
		StepS  int            `json:"step_s"`
		Series []trafficPoint `json:"series" doc:"scaled by the sampling rate where the name begins with est_; steps without traffic are absent"`
	}
}

func (h *Handler) registerTraffic() {
	register(h, RoleViewer, huma.Operation{OperationID: "traffic", Method: http.MethodGet, Path: "/traffic", Tags: []string{"hosts"},
		Summary: "All tenants together, over time", Description: "From the sums of a minute, which are kept for two years."}, h.traffic)
	register(h, RoleViewer, huma.Operation{OperationID: "inventory-sources", Method: http.MethodGet, Path: "/inventory/sources", Tags: []string{"exporters"},
		Summary: "What the inventory is read from", Description: "When each source was read, how much it said, and what is wrong with it."}, h.inventorySources)
}

func (h *Handler) inventorySources(context.Context, *struct{}) (*sourcesOutput, error) {
	out := &sourcesOutput{}
	out.Body.Sources = []InventorySource{}
	if h.deps.Sources != nil {
		out.Body.Sources = notNil(h.deps.Sources())
	}
	return out, nil
}

func (h *Handler) traffic(ctx context.Context, in *trafficInput) (*trafficOutput, error) {
	r, err := parseRange(in.From, in.To, h.deps.Now(), 24*time.Hour)
	if err != nil {
		return nil, err
	}
	step, err := parseStep(in.Step, r)
	if err != nil {
		return nil, err
	}
	if in.Step != "" && in.Step != "auto" && step%time.Minute != 0 {
		return nil, errParam("step", in.Step, "auto or a multiple of 1m such as 1m, 5m or 1h")
	}
	step = max(step, time.Minute)
	out := &trafficOutput{}
	out.Body.From, out.Body.To, out.Body.StepS, out.Body.Series = r.From, r.To, int(step.Seconds()), []trafficPoint{}
	if h.deps.Fleet == nil {
		return out, nil
	}
	l, err := h.deps.Fleet.FleetSeries(ctx, r, step)
	if err != nil {
		return nil, h.unavailable(ctx, "read the traffic of all", err)
	}
	for i := range l {
		p := &l[i]
		out.Body.Series = append(out.Body.Series, trafficPoint{p.Time, p.EstOutPackets, p.EstInPackets, p.EstOutBytes, p.EstInBytes, p.OutRecords, p.InRecords, p.SYNOut})
	}
	return out, nil
}
