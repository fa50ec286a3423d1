package api

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flowcordon/flowcordon/flow"
)

// remoteBack is how far back a search for a remote looks into the flows: every row
// of that time is read.
const remoteBack = time.Hour

type searchInput struct {
	Q     string `query:"q" required:"true" minLength:"1" maxLength:"200" doc:"an address or its beginning, a prefix, or a part of a customer id, VDS, incident, complaint or exemption" example:"198.18.0.7"`
	Limit int    `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"of each type"`
}

type searchHit struct {
	Type  string    `json:"type" enum:"host,tenant,vds,incident,complaint,exemption,remote"`
	ID    string    `json:"id" doc:"what the type's own page is called by"`
	Title string    `json:"title"`
	Text  string    `json:"text,omitempty"`
	Href  string    `json:"href" doc:"where the API has it"`
	Time  time.Time `json:"time,omitzero" doc:"of the latest change"`
}

type searchOutput struct {
	Body struct {
		Q    string      `json:"q"`
		Kind string      `json:"kind" enum:"address,prefix,text" doc:"what it was read as"`
		Hits []searchHit `json:"hits"`
	}
}

func (h *Handler) registerSearch() {
	register(h, RoleViewer, huma.Operation{OperationID: "search", Method: http.MethodGet, Path: "/search", Tags: []string{"hosts"},
		Summary: "Find anything", Description: "Hosts with their holders, customers, servers, incidents, exemptions, remote addresses with the tenants that they were seen with in the last hour; " +
			"for the role abuse or higher complaints, too."}, h.search)
}

// finder collects hits, at most limit of each type.
type finder struct {
	h     *Handler
	limit int
	n     map[string]int
	seen  map[[3]string]bool
	hits  []searchHit
}

func (f *finder) add(hit searchHit) {
	key := [3]string{hit.Type, hit.ID, hit.Href}
	if f.seen[key] {
		return
	}
	f.seen[key] = true
	if f.n[hit.Type]++; f.n[hit.Type] <= f.limit {
		f.hits = append(f.hits, hit)
	}
}

func (h *Handler) search(ctx context.Context, in *searchInput) (*searchOutput, error) {
	q := strings.TrimSpace(in.Q)
	if q == "" {
		return nil, invalid("no_search")
	}
	f := &finder{h: h, limit: in.Limit, n: map[string]int{}, seen: map[[3]string]bool{}, hits: []searchHit{}}
	incidents, err := h.allIncidents(ctx)
	if err != nil {
		return nil, err
	}
	out := &searchOutput{}
	out.Body.Q, out.Body.Kind = q, "text"
	if a, err := netip.ParseAddr(q); err == nil && a.Zone() == "" {
		out.Body.Kind = "address"
		if err := f.address(ctx, a.Unmap(), incidents); err != nil {
			return nil, err
		}
	} else if p, err := netip.ParsePrefix(q); err == nil {
		out.Body.Kind = "prefix"
		f.prefix(p.Masked(), incidents)
	} else if p, ok := beginning(q); ok { // which may be part of a name as well
		out.Body.Kind = "prefix"
		f.prefix(p, incidents)
		f.text(ctx, strings.ToLower(q), incidents)
	} else {
		f.text(ctx, strings.ToLower(q), incidents)
	}
	out.Body.Hits = f.hits
	return out, nil
}

// beginning reads the first two or three numbers of an IPv4 address, as people
// type them: 198.18, 198.18.7. or 198.18.7.*
func beginning(q string) (netip.Prefix, bool) {
	q = strings.TrimSuffix(strings.TrimSuffix(q, "*"), ".")
	n := strings.Count(q, ".") + 1
	if n < 2 || n > 3 {
		return netip.Prefix{}, false
	}
	a, err := netip.ParseAddr(q + strings.Repeat(".0", 4-n))
	if err != nil {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, 8*n), true
}

func (f *finder) address(ctx context.Context, a netip.Addr, incidents []flow.Incident) error {
	key := f.h.deps.TenantKey(a)
	if key.IsValid() {
		f.host(a)
		f.incidents(inTenant(incidents, netip.PrefixFrom(key, key.BitLen())))
		f.exemptions(func(e *Exemption) bool { return e.Tenant.IsValid() && e.Tenant.Contains(key) })
		f.cases(ctx, CaseFilter{Tenant: key})
		return nil
	}
	f.incidents(slices.DeleteFunc(slices.Clone(incidents), func(i flow.Incident) bool {
		return !slices.ContainsFunc(i.Findings, func(x flow.Finding) bool { return x.Remote == a })
	}))
	f.exemptions(func(e *Exemption) bool { return e.Remote.IsValid() && e.Remote.Contains(a) })
	if f.h.deps.Searcher == nil {
		return nil
	}
	now := f.h.deps.Now().UTC()
	peers, err := f.h.deps.Searcher.RemotePeers(ctx, a, flow.Range{From: now.Add(-remoteBack), To: now}, f.limit)
	if err != nil {
		return f.h.unavailable(ctx, "look for the remote", err)
	}
	for _, p := range peers {
		f.add(searchHit{Type: "remote", ID: a.String(), Title: a.String() + " with " + p.Tenant.String(), Text: strconv.FormatUint(p.Records, 10) + " records in the last hour" + f.who(p.Tenant, now),
			Href: Prefix + "/flows?tenant=" + url.QueryEscape(p.Tenant.String()) + "&remote=" + url.QueryEscape(a.String()), Time: p.Last})
	}
	return nil
}

func (f *finder) who(a netip.Addr, at time.Time) string {
	if w := f.h.holder(a, at); w != nil {
		return ", held by " + strings.TrimSpace(w.Tenant+" "+w.VDS)
	}
	return ""
}

func (f *finder) host(a netip.Addr) {
	f.add(searchHit{Type: "host", ID: a.String(), Title: a.String(), Text: strings.TrimPrefix(f.who(a, f.h.deps.Now()), ", "), Href: Prefix + "/hosts/" + a.String()})
}

func (f *finder) prefix(p netip.Prefix, incidents []flow.Incident) {
	now := f.h.deps.Now()
	for w := range f.h.holders() {
		if w.Prefix.Overlaps(p) && holds(&w, now) {
			f.add(searchHit{Type: "host", ID: w.Prefix.Addr().String(), Title: w.Prefix.String(), Text: "held by " + strings.TrimSpace(w.Tenant+" "+w.VDS), Href: Prefix + "/hosts/" + w.Prefix.Addr().String()})
		}
	}
	f.incidents(inTenant(incidents, p))
	f.exemptions(func(e *Exemption) bool {
		return e.Tenant.IsValid() && e.Tenant.Overlaps(p) || e.Remote.IsValid() && e.Remote.Overlaps(p)
	})
}

func (f *finder) text(ctx context.Context, q string, incidents []flow.Incident) {
	has := func(s string) bool { return strings.Contains(strings.ToLower(s), q) }
	f.incidents(slices.DeleteFunc(slices.Clone(incidents), func(i flow.Incident) bool {
		return !has(i.ID) && !has(i.Holder.Tenant) && !has(i.Holder.VDS) && !slices.ContainsFunc(i.Rules, func(r flow.Rule) bool { return strings.EqualFold(string(r), q) })
	}))
	now, customers, servers := f.h.deps.Now(), map[string]bool{}, map[string]bool{}
	for w := range f.h.holders() {
		if has(w.Tenant) && !customers[w.Tenant] {
			customers[w.Tenant] = true
			f.add(searchHit{Type: "tenant", ID: w.Tenant, Title: w.Tenant, Href: Prefix + "/tenants/" + url.PathEscape(w.Tenant)})
		}
		if has(w.VDS) && !servers[w.VDS] && holds(&w, now) {
			servers[w.VDS] = true
			f.add(searchHit{Type: "vds", ID: w.VDS, Title: w.VDS, Text: w.Prefix.String() + ", held by " + w.Tenant, Href: Prefix + "/hosts/" + w.Prefix.Addr().String()})
		}
	}
	f.exemptions(func(e *Exemption) bool { return has(e.Name) || has(e.Holder) || has(e.Owner) || has(e.Reason) })
	f.cases(ctx, CaseFilter{Text: q})
}

func (f *finder) incidents(list []flow.Incident) {
	for i := range list {
		inc := &list[i]
		rules := make([]string, len(inc.Rules))
		for j, r := range inc.Rules {
			rules[j] = string(r)
		}
		f.add(searchHit{Type: "incident", ID: inc.ID, Title: strings.Join(rules, ", ") + " by " + inc.Tenant.String(), Text: string(inc.State) + ", " + strings.TrimSpace(inc.Holder.Tenant+" "+inc.Holder.VDS),
			Href: Prefix + "/incidents/" + url.PathEscape(inc.ID), Time: inc.Updated})
	}
}

func (f *finder) exemptions(fits func(*Exemption) bool) {
	if f.h.deps.Exemptions == nil {
		return
	}
	for _, e := range f.h.deps.Exemptions.List("", f.h.deps.Now()) {
		if fits(&e) {
			f.add(searchHit{Type: "exemption", ID: e.Name, Title: e.Reason, Text: e.Status + ", " + e.Owner, Href: Prefix + "/exemptions/" + e.Name, Time: e.Expires})
		}
	}
}

func (f *finder) cases(ctx context.Context, q CaseFilter) {
	if f.h.deps.Cases == nil || caller(ctx).Role < RoleAbuse {
		return
	}
	for _, c := range f.h.deps.Cases.List(q) {
		f.add(searchHit{Type: "complaint", ID: c.ID, Title: c.Subject, Text: c.Status + ", " + c.Host.String(), Href: Prefix + "/complaints/" + c.ID, Time: c.Updated})
	}
}
