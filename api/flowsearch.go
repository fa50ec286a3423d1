package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flowcordon/flowcordon/flow"
)

// Searcher is the part of the store that questions over all tenants need.
type Searcher interface {
	SearchFlows(ctx context.Context, q flow.FlowSearch) ([]flow.FlowRow, error)
	RemotePeers(ctx context.Context, remote netip.Addr, r flow.Range, limit int) ([]flow.RemotePeer, error)
}

// maxWide: a question without a tenant reads every row of its time.
const maxWide = 24 * time.Hour

type flowSearchInput struct {
	Tenant   string   `query:"tenant" doc:"address or prefix of ours" example:"198.18.0.7"`
	Customer string   `query:"customer" maxLength:"200" doc:"customer id; of each address only while the customer held it"`
	VDS      string   `query:"vds" maxLength:"200" doc:"server; of each address only while it had it"`
	Remote   string   `query:"remote" doc:"address or prefix of the other side" example:"203.0.113.0/24"`
	Port     []uint16 `query:"port" nullable:"false" maxItems:"64" doc:"service ports, the server's side, separated by commas" example:"[22,3389]"`
	Proto    string   `query:"proto" doc:"tcp, udp, icmp, icmpv6 or a number" example:"tcp"`
	Dir      string   `query:"dir" enum:"out,in" doc:"seen from the tenant"`
	Class    string   `query:"class" enum:"other,syn,synack,rst,est,udp,echo,icmp_err,noflags"`
	Flags    string   `query:"flags" maxLength:"60" doc:"TCP flags that are all set, separated by commas" example:"SYN,ACK"`
	From     string   `query:"from" doc:"RFC 3339, or relative such as -15m; default one hour before to" example:"-15m"`
	To       string   `query:"to" doc:"RFC 3339, or relative; default now"`
	Order    string   `query:"order" enum:"newest,oldest" default:"newest"`
	Cursor   string   `query:"cursor" maxLength:"80" doc:"next of the page before; all else as it was, from and to as the answer had them"`
	Limit    int      `query:"limit" minimum:"1" maximum:"20000" default:"1000"`
	Format   string   `query:"format" enum:"json,csv,jsonl" doc:"overrides the Accept header"`
	Accept   string   `header:"Accept" doc:"application/json, text/csv or application/x-ndjson"`
}

type pageMeta struct {
	Limit int    `json:"limit"`
	Next  string `json:"next,omitempty" doc:"cursor of the next page; absent on the last one"`
}

type flowPage struct {
	Metadata pageMeta   `json:"_metadata"`
	From     time.Time  `json:"from"`
	To       time.Time  `json:"to"`
	Flows    []flowView `json:"flows"`
}

type pageOutput struct {
	ContentType string `header:"Content-Type"`
	Next        string `header:"X-Flowcordon-Next"`
	Body        []byte
}

func (h *Handler) registerFlowSearch() {
	if h.deps.Searcher == nil {
		return
	}
	text := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	register(h, RoleViewer, huma.Operation{OperationID: "flow-search", Method: http.MethodGet, Path: "/flows", Tags: []string{"hosts"}, Errors: []int{http.StatusNotFound},
		Summary: "Stored flow records of any tenants, by any filter",
		Description: "All filters hold together. With more matches than limit, next goes on where the page ended (in CSV and JSON lines: the header X-Flowcordon-Next). " +
			"Without tenant, customer or vds the time is bounded to 24 hours.",
		Responses: map[string]*huma.Response{"200": {Description: "The rows in the form asked for.",
			Headers: map[string]*huma.Param{"X-Flowcordon-Next": {Description: "cursor of the next page", Schema: &huma.Schema{Type: huma.TypeString}}},
			Content: map[string]*huma.MediaType{"application/json": {Schema: h.rest.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[flowPage](), true, "FlowPage")},
				"text/csv": text, "application/x-ndjson": text}}}}, h.flowSearch)
}

func (h *Handler) flowSearch(ctx context.Context, in *flowSearchInput) (*pageOutput, error) {
	form, err := rowsForm(in.Format, in.Accept)
	if err != nil {
		return nil, err
	}
	q, err := h.flowQuery(in)
	if err != nil {
		return nil, err
	}
	rng := q.Range
	if in.Cursor != "" {
		at, skip, err := parseCursor("cursor", in.Cursor)
		if err != nil {
			return nil, err
		}
		if q.Skip = skip; q.Newest {
			q.Range.To = at
		} else {
			q.Range.From = at
		}
	}
	rows, err := h.deps.Searcher.SearchFlows(ctx, q)
	if err != nil {
		return nil, h.unavailable(ctx, "search the flows", err)
	}
	page := flowPage{Metadata: pageMeta{Limit: in.Limit}, From: rng.From, To: rng.To}
	if len(rows) > in.Limit { // one more was asked for, to know
		rows = rows[:in.Limit]
		page.Metadata.Next = flowCursor(rows, &q)
	}
	page.Flows = flowViews(rows)
	if in.Format == "" && !strings.Contains(in.Accept, "csv") && !strings.Contains(in.Accept, "ndjson") && !strings.Contains(in.Accept, "jsonl") || in.Format == "json" {
		body, err := json.Marshal(page)
		if err != nil {
			return nil, fmt.Errorf("write flows: %w", err)
		}
		return &pageOutput{"application/json", page.Metadata.Next, body}, nil
	}
	out, err := form(flowsBody{Flows: page.Flows})
	if err != nil {
		return nil, err
	}
	return &pageOutput{out.ContentType, page.Metadata.Next, out.Body}, nil
}

func flowCursor(rows []flow.FlowRow, q *flow.FlowSearch) string {
	times := make([]time.Time, len(rows))
	for i := range rows {
		times[i] = time.Unix(0, rows[i].Time).UTC()
	}
	if q.Newest {
		return nextCursor(times, q.Range.To, q.Skip, time.Nanosecond) // its end is exclusive
	}
	return nextCursor(times, q.Range.From, q.Skip, 0)
}

func (h *Handler) flowQuery(in *flowSearchInput) (flow.FlowSearch, error) {
	q := flow.FlowSearch{Ports: in.Port, Newest: in.Order != "oldest", Limit: in.Limit + 1}
	var err error
	if q.Range, err = parseRange(in.From, in.To, h.pollNow(), time.Hour); err != nil {
		return q, err
	}
	if q.Of, err = h.held(in.Tenant, in.Customer, in.VDS); err != nil {
		return q, err
	}
	if q.Of == nil && q.Range.To.Sub(q.Range.From) > maxWide {
		return q, invalid("flows_of_whom")
	}
	if q.Remote, err = parsePrefix("remote", in.Remote); err != nil {
		return q, err
	}
	if q.IPProto, err = parseProto(in.Proto); err != nil {
		return q, err
	}
	switch in.Dir {
	case "out":
		q.Dir = flow.Out
	case "in":
		q.Dir = flow.In
	}
	if in.Class != "" {
		if q.Class, q.HasClass = parseClass(in.Class); !q.HasClass {
			return q, errParam("class", in.Class, "one of syn, synack, rst, est, udp, echo, icmp_err, noflags, other")
		}
	}
	q.Flags, err = parseFlags(in.Flags)
	return q, err
}

func parseClass(s string) (flow.Class, bool) {
	for c := flow.Class(0); c < 32; c++ {
		if c.String() == s {
			return c, true
		}
	}
	return 0, false
}

var flagNames = []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"}

func parseFlags(s string) (uint8, error) {
	var f uint8
	if s == "" {
		return 0, nil
	}
	for name := range strings.SplitSeq(s, ",") {
		i := slices.Index(flagNames, strings.ToUpper(strings.TrimSpace(name)))
		if i < 0 {
			return 0, errParam("flags", s, "some of "+strings.Join(flagNames, ","))
		}
		f |= 1 << i
	}
	return f, nil
}

// maxHeldPrefixes of one customer that one question may be about.
const maxHeldPrefixes = 256

// held are the prefixes that a question is about, each in the time that it was the
// customer's; nil: all.
func (h *Handler) held(tenant, customer, vds string) ([]flow.Held, error) {
	if tenant == "" && customer == "" && vds == "" {
		return nil, nil
	}
	of, err := parsePrefix("tenant", tenant)
	if err != nil {
		return nil, err
	}
	var out []flow.Held
	if customer == "" && vds == "" {
		p, ok := h.keys(of)
		if !ok {
			return nil, missing("not_ours", of)
		}
		return []flow.Held{{Prefix: p}}, nil
	}
	for who := range h.holders() {
		if customer != "" && who.Tenant != customer || vds != "" && who.VDS != vds || of.IsValid() && !of.Overlaps(who.Prefix) {
			continue
		}
		p := who.Prefix
		if of.IsValid() && of.Bits() > p.Bits() {
			p = of
		}
		if p, ok := h.keys(p); ok {
			out = append(out, flow.Held{Prefix: p, From: who.From, To: who.To})
		}
		if len(out) > maxHeldPrefixes {
			return nil, invalid("too_many_prefixes", maxHeldPrefixes)
		}
	}
	if len(out) == 0 {
		return nil, missing("no_holder")
	}
	return out, nil
}

// keys are the window keys of a prefix: an IPv6 address stands for its tenant.
func (h *Handler) keys(p netip.Prefix) (netip.Prefix, bool) {
	key := h.deps.TenantKey(p.Addr())
	if !key.IsValid() {
		return p, false
	}
	if p.Addr() != key && p.Masked().Addr() != key { // finer than a tenant
		return netip.PrefixFrom(key, key.BitLen()), true
	}
	return p, true
}

// holders are all entries of the inventory, past ones too.
func (h *Handler) holders() func(yield func(flow.Holder) bool) {
	if h.deps.Holders == nil {
		return func(func(flow.Holder) bool) {}
	}
	return h.deps.Holders
}
