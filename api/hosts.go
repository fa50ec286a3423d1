package api

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flowcordon/flowcordon/flow"
)

type hostInput struct {
	IP   string `path:"ip" doc:"any address of the tenant" example:"198.18.0.7"`
	From string `query:"from" doc:"RFC 3339, or relative such as -6h; default one hour before to" example:"-6h"`
	To   string `query:"to" doc:"RFC 3339, or relative; default now"`
	Step string `query:"step" doc:"auto, or a multiple of 10s" default:"auto" example:"1m"`
}

type hostOutput struct {
	Body struct {
		IP         netip.Addr         `json:"ip"`
		Tenant     netip.Addr         `json:"tenant" doc:"the address that the traffic is stored under: itself, or the first of the delegated IPv6 prefix"`
		Holder     *flow.Holder       `json:"holder,omitempty" doc:"who holds the address now; absent when the inventory does not know"`
		From       time.Time          `json:"from"`
		To         time.Time          `json:"to"`
		StepS      int                `json:"step_s"`
		Resolution int                `json:"resolution" doc:"seconds that one of the stored sums covers which the series was read from: 10, 60 or 3600"`
		Series     []flow.SeriesPoint `json:"series" doc:"scaled by the sampling rate where the name begins with est_; steps without traffic may be absent"`
		Incidents  []flow.Incident    `json:"incidents" doc:"those that are not over"`
	}
}

// flowsInput: limit ends at 20,000 rows, about 10 MB of JSON built in memory.
type flowsInput struct {
	IP     string `path:"ip" doc:"any address of the tenant" example:"198.18.0.7"`
	From   string `query:"from" doc:"RFC 3339, or relative such as -15m; default one hour before to" example:"-15m"`
	To     string `query:"to" doc:"RFC 3339, or relative; default now"`
	Remote string `query:"remote" doc:"the other address"`
	Proto  string `query:"proto" doc:"tcp, udp, icmp, icmpv6 or a number" example:"tcp"`
	Port   int    `query:"port" minimum:"-1" maximum:"65535" default:"-1" doc:"service port: the server's, whichever side that is; -1 for all"`
	Dir    string `query:"dir" enum:"out,in" doc:"seen from the tenant"`
	Limit  int    `query:"limit" minimum:"1" maximum:"20000" default:"1000"`
	Format string `query:"format" enum:"json,csv,jsonl" doc:"overrides the Accept header"`
	Accept string `header:"Accept" doc:"application/json, text/csv or application/x-ndjson"`
}

func (h *Handler) registerHosts() {
	host := huma.Operation{OperationID: "host", Method: http.MethodGet, Path: "/hosts/{ip}", Tags: []string{"hosts"}, Errors: []int{http.StatusNotFound},
		Summary: "One internal address: holder, traffic over time, open incidents", Description: "An IPv6 address stands for its whole delegated prefix."}
	flows := huma.Operation{OperationID: "flows", Method: http.MethodGet, Path: "/hosts/{ip}/flows", Tags: []string{"hosts"}, Errors: []int{http.StatusNotFound},
		Summary:     "Stored flow records of an address, newest last",
		Description: "Which records are stored, and for how long, is the policy of the store. With more matches than limit the newest are given, and the answer says truncated (in CSV and JSON lines: the header X-Flowcordon-Truncated).",
		Responses:   map[string]*huma.Response{"200": flowsResponse(h.rest.OpenAPI().Components.Schemas)}}
	register(h, RoleViewer, host, h.hostSeries)
	register(h, RoleViewer, flows, h.flows)
}

func (h *Handler) hostSeries(ctx context.Context, in *hostInput) (*hostOutput, error) {
	addr, tenant, err := h.host("ip", in.IP)
	if err != nil {
		return nil, err
	}
	now := h.deps.Now()
	r, err := parseRange(in.From, in.To, h.pollNow(), time.Hour)
	if err != nil {
		return nil, err
	}
	step, err := parseStep(in.Step, r)
	if err != nil {
		return nil, err
	}
	series, err := h.deps.Store.Series(ctx, tenant, r, step)
	if err != nil {
		return nil, h.unavailable(ctx, "read the series", err)
	}
	incidents, _, err := h.deps.Incidents.List(ctx, ListQuery{States: liveStates(), Tenant: tenant, Limit: 50})
	if err != nil {
		return nil, err
	}
	out := &hostOutput{}
	b := &out.Body
	b.IP, b.Tenant, b.From, b.To, b.StepS = addr, tenant, r.From, r.To, int(step.Seconds())
	b.Resolution = seconds(series.Resolution)
	b.Holder, b.Series, b.Incidents = h.holder(addr, now), notNil(series.Points), tidy(incidents)
	return out, nil
}

func seconds(r flow.Resolution) int { return int(r.Length() / time.Second) }

func (h *Handler) holder(a netip.Addr, at time.Time) *flow.Holder {
	if h.deps.Inventory == nil {
		return nil
	}
	if who, ok := h.deps.Inventory.Holder(a, at); ok {
		return &who
	}
	return nil
}

func (h *Handler) flows(ctx context.Context, in *flowsInput) (*rowsOutput, error) {
	form, err := rowsForm(in.Format, in.Accept)
	if err != nil {
		return nil, err
	}
	q := flow.FlowQuery{SvcPort: in.Port, Limit: in.Limit + 1, Newest: true}
	var addr netip.Addr
	if addr, q.Tenant, err = h.host("ip", in.IP); err != nil {
		return nil, err
	}
	if q.Range, err = parseRange(in.From, in.To, h.pollNow(), time.Hour); err != nil {
		return nil, err
	}
	if in.Remote != "" {
		if q.Remote, err = parseAddr("remote", in.Remote); err != nil {
			return nil, err
		}
	}
	if q.IPProto, err = parseProto(in.Proto); err != nil {
		return nil, err
	}
	switch in.Dir {
	case "out":
		q.Dir = flow.Out
	case "in":
		q.Dir = flow.In
	}
	rows, err := h.deps.Store.Flows(ctx, q)
	if err != nil {
		return nil, h.unavailable(ctx, "read the flows", err)
	}
	truncated := len(rows) > in.Limit // one more was asked for, to know
	if truncated {
		rows = rows[len(rows)-in.Limit:] // newest last
	}
	return form(flowsBody{addr, q.Tenant, q.Range.From, q.Range.To, truncated, flowViews(rows)})
}
