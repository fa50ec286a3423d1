package api

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flowcordon/flowcordon/flow"
)

// Standing is what a holder's history says.
type Standing struct {
	VDS       string `json:"vds,omitempty"`
	Offences  int    `json:"offences" doc:"that count now: releases within respond.offence_window that were no mistake"`
	Probation bool   `json:"probation" doc:"the next offence is acted on at once"`
}

type tenantsInput struct {
	Q      string `query:"q" maxLength:"100" doc:"a part of the customer id or of a VDS" example:"c-4"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Offset int    `query:"offset" minimum:"0" default:"0"`
}

type tenantRow struct {
	Customer  string         `json:"customer"`
	VDS       []string       `json:"vds" doc:"held now; at most 20"`
	Addresses []netip.Prefix `json:"addresses" doc:"held now; at most 20"`
	Live      int            `json:"live" doc:"incidents that are not over"`
	Incidents int            `json:"incidents" doc:"all"`
}

type tenantsOutput struct {
	Body struct {
		Metadata Metadata    `json:"_metadata"`
		Tenants  []tenantRow `json:"tenants" doc:"those with live incidents first, then by customer id"`
	}
}

type tenantInput struct {
	Customer string `path:"customer" maxLength:"200" doc:"customer id of the inventory" example:"c-42"`
}

type tenantOutput struct {
	Body struct {
		Customer   string          `json:"customer"`
		Holdings   []flow.Holder   `json:"holdings" doc:"addresses with who had them how, past ones too; newest first"`
		Standing   []Standing      `json:"standing" doc:"by server held now"`
		Incidents  []flow.Incident `json:"incidents" doc:"newest first; at most 200"`
		Exemptions []Exemption     `json:"exemptions" doc:"that are active and name the customer or one of the addresses"`
		Complaints []CaseRow       `json:"complaints" doc:"latest change first; for the role abuse or higher"`
	}
}

// maxListed prefixes or servers of one row.
const maxListed = 20

func (h *Handler) registerTenants() {
	if h.deps.Holders == nil {
		return
	}
	op := func(id, path, summary, doc string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary, Description: doc, Tags: []string{"tenants"}}
	}
	register(h, RoleViewer, op("tenants", "/tenants", "Customers of the inventory", "With what they hold and the incidents they had."), h.tenants)
	one := op("tenant", "/tenants/{customer}", "One customer with history and standing", "What the customer holds and held, offences that count, incidents, exemptions, complaints.")
	one.Errors = []int{http.StatusNotFound}
	register(h, RoleViewer, one, h.tenant)
}

// allIncidents for counting; more of them are not kept in memory either.
func (h *Handler) allIncidents(ctx context.Context) ([]flow.Incident, error) {
	list, _, err := h.deps.Incidents.List(ctx, ListQuery{Limit: 1_000_000})
	return list, err
}

func (h *Handler) tenants(ctx context.Context, in *tenantsInput) (*tenantsOutput, error) {
	now, q := h.deps.Now(), strings.ToLower(in.Q)
	rows := map[string]*tenantRow{}
	hit := map[string]bool{}
	for who := range h.holders() {
		if who.Tenant == "" {
			continue
		}
		r := rows[who.Tenant]
		if r == nil {
			r = &tenantRow{Customer: who.Tenant, VDS: []string{}, Addresses: []netip.Prefix{}}
			rows[who.Tenant] = r
		}
		hit[who.Tenant] = hit[who.Tenant] || strings.Contains(strings.ToLower(who.Tenant), q) || strings.Contains(strings.ToLower(who.VDS), q)
		if !holds(&who, now) {
			continue
		}
		if len(r.Addresses) < maxListed {
			r.Addresses = append(r.Addresses, who.Prefix)
		}
		if who.VDS != "" && len(r.VDS) < maxListed && !slices.Contains(r.VDS, who.VDS) {
			r.VDS = append(r.VDS, who.VDS)
		}
	}
	incidents, err := h.allIncidents(ctx)
	if err != nil {
		return nil, err
	}
	for i := range incidents {
		if r := rows[incidents[i].Holder.Tenant]; r != nil {
			r.Incidents++
			if incidents[i].State.Live() {
				r.Live++
			}
		}
	}
	var list []tenantRow
	for c, r := range rows {
		if hit[c] {
			slices.Sort(r.VDS)
			slices.SortFunc(r.Addresses, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
			list = append(list, *r)
		}
	}
	slices.SortFunc(list, func(a, b tenantRow) int {
		return cmp.Or(cmp.Compare(min(b.Live, 1), min(a.Live, 1)), cmp.Compare(a.Customer, b.Customer))
	})
	out := &tenantsOutput{}
	out.Body.Metadata = Metadata{len(list), in.Limit, in.Offset}
	from := min(in.Offset, len(list))
	out.Body.Tenants = notNil(list[from:min(from+in.Limit, len(list))])
	return out, nil
}

// holds reports whether an entry is valid at a moment.
func holds(who *flow.Holder, at time.Time) bool {
	return !at.Before(who.From) && (who.To.IsZero() || at.Before(who.To))
}

func (h *Handler) tenant(ctx context.Context, in *tenantInput) (*tenantOutput, error) {
	out := &tenantOutput{}
	b := &out.Body
	b.Customer, b.Standing, b.Exemptions, b.Complaints = in.Customer, []Standing{}, []Exemption{}, []CaseRow{}
	now := h.deps.Now()
	for who := range h.holders() {
		if who.Tenant == in.Customer {
			b.Holdings = append(b.Holdings, who)
		}
	}
	all, err := h.allIncidents(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(i flow.Incident) bool { return i.Holder.Tenant != in.Customer })
	if len(b.Holdings) == 0 && len(all) == 0 {
		return nil, missing("no_customer", echo(in.Customer))
	}
	slices.SortStableFunc(b.Holdings, func(a, c flow.Holder) int {
		return cmp.Or(c.From.Compare(a.From), a.Prefix.Addr().Compare(c.Prefix.Addr()))
	})
	b.Incidents = tidy(all[:min(len(all), 200)])
	b.Holdings = notNil(b.Holdings)
	h.standings(b.Holdings, now, &b.Standing)
	if h.deps.Exemptions != nil {
		for _, e := range h.deps.Exemptions.List("active", now) {
			if e.Holder == in.Customer || e.Tenant.IsValid() && slices.ContainsFunc(b.Holdings, func(w flow.Holder) bool { return holds(&w, now) && w.Prefix.Overlaps(e.Tenant) }) {
				b.Exemptions = append(b.Exemptions, e)
			}
		}
	}
	if h.deps.Cases != nil && caller(ctx).Role >= RoleAbuse {
		for _, c := range h.deps.Cases.List(CaseFilter{Customer: in.Customer}) {
			b.Complaints = append(b.Complaints, rowOf(&c))
		}
	}
	return out, nil
}

// standings of the servers that are held now, each once.
func (h *Handler) standings(holdings []flow.Holder, now time.Time, out *[]Standing) {
	seen := map[string]bool{}
	for i := range holdings {
		who := &holdings[i]
		if h.deps.Standing == nil || !holds(who, now) || seen[who.VDS] && who.VDS != "" {
			continue
		}
		seen[who.VDS] = true
		s := h.deps.Standing(who.Prefix.Addr(), *who)
		s.VDS = who.VDS
		*out = append(*out, s)
	}
}
