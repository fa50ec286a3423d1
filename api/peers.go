package api

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flowcordon/flowcordon/flow"
)

type peersInput struct {
	IP    string `path:"ip" doc:"any address of the tenant" example:"198.18.0.7"`
	From  string `query:"from" doc:"RFC 3339, or relative such as -6h; default one hour before to" example:"-6h"`
	To    string `query:"to" doc:"RFC 3339, or relative; default now"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"25" doc:"of peers, and of ports"`
}

type peersOutput struct {
	Body struct {
		IP         netip.Addr     `json:"ip"`
		Tenant     netip.Addr     `json:"tenant"`
		From       time.Time      `json:"from"`
		To         time.Time      `json:"to"`
		TotalPorts uint64         `json:"total_ports" doc:"how many there are, beside those that are listed"`
		TotalPeers uint64         `json:"total_peers"`
		Ports      []flow.PeerSum `json:"ports" doc:"by service port and protocol, those with the most packets first"`
		Peers      []flow.PeerSum `json:"peers" doc:"by the other address, those with the most packets first"`
	}
}

func (h *Handler) registerPeers() {
	register(h, RoleViewer, huma.Operation{OperationID: "peers", Method: http.MethodGet, Path: "/hosts/{ip}/peers", Tags: []string{"hosts"}, Errors: []int{http.StatusNotFound},
		Summary:     "Whom an address exchanged packets with, and on which ports",
		Description: "Sums of the stored flow records, scaled by the sampling rate; older than store.flow_ttl there are none."}, h.peers)
}

func (h *Handler) peers(ctx context.Context, in *peersInput) (*peersOutput, error) {
	addr, tenant, err := h.host("ip", in.IP)
	if err != nil {
		return nil, err
	}
	r, err := parseRange(in.From, in.To, h.pollNow(), time.Hour)
	if err != nil {
		return nil, err
	}
	p, err := h.deps.Store.HostPeers(ctx, tenant, r, in.Limit)
	if err != nil {
		return nil, h.unavailable(ctx, "sum the flows", err)
	}
	out := &peersOutput{}
	b := &out.Body
	b.IP, b.Tenant, b.From, b.To = addr, tenant, r.From, r.To
	b.TotalPorts, b.TotalPeers, b.Ports, b.Peers = p.TotalPorts, p.TotalRemotes, notNil(p.Ports), notNil(p.Remotes)
	return out, nil
}
