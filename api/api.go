// Package api is the HTTP side of flowcordon: a REST interface for the abuse
// desk, the NOC and automation, described by an OpenAPI 3.1 document that is
// made from the same types; metrics and health for machines; and the dashboard
// of api/ui.
//
// Incidents, stored series and flows, exporter health and the inventory come in
// through the small interfaces below; requests go out as answers in JSON, text
// or CSV, and errors as problem+json (RFC 9457) that say what to do. Nothing
// under /api is answered without a token. The package starts no goroutine: the
// handler runs in those of the HTTP server. It imports flow and api/ui, nothing
// else of ours.
package api

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/api/ui"
	"github.com/flowcordon/flowcordon/flow"
)

// Prefix is where the REST interface lives.
const Prefix = "/api/v1"

// Config is what may be chosen.
type Config struct {
	Tokens      []Token       // none: every call under /api is refused
	MetricsOpen bool          // /metrics without a token; right where only loopback listens
	Version     string        // of the program, shown in the OpenAPI document
	Timeout     time.Duration // of one call; 0: 30 s
	Rate        Rate          // of tokens without one of their own, and of sessions; zero: not bounded
	OIDC        *OIDC         // nil: nobody signs in, there are tokens only
}

// Deps is what the interface shows. Incidents and Store are needed; everything
// else may be nil, and its part of an answer is then empty.
type Deps struct {
	Incidents Incidents
	Store     Store
	// StoreNotFound is the error by which Store.Evidence says that there is
	// none, compared with errors.Is.
	StoreNotFound error
	Control       Control
	// Pages are handlers that need no token, by the path under which they are
	// mounted, which ends with a slash.
	Pages map[string]http.Handler
	// Complaints matches complaints.
	Complaints Complaints
	Bundle     Bundler
	Rules      Rules
	Feed       Feed
	Exemptions Exemptions
	Searcher   Searcher
	Cases      Cases
	// Holders are all entries of the inventory, past ones too. If Inventory has a
	// Version, that is of them as well.
	Holders func(yield func(flow.Holder) bool)
	// Standing tells what the history of who holds an address says.
	Standing func(addr netip.Addr, h flow.Holder) Standing
	// StandingVersion is another number after each change of it that time alone
	// makes; nil: that is not known.
	StandingVersion VersionAt
	// Reads keeps who looked at personal data; Handler.Run hands it over. Without
	// it each look is a line of the log.
	Reads     Reads
	Inventory Inventory
	// Sources are what the inventory is read from, in the order of the configuration.
	Sources   func() []InventorySource
	Fleet     Fleet
	Exporters func() []flow.ExporterHealth
	// TenantKey maps any address to the one its windows are stored under, and
	// to the zero Addr when it is none of ours. nil: IPv6 by /64, all is ours.
	TenantKey func(netip.Addr) netip.Addr
	// Ready gives the reasons why the service is not ready, written for people;
	// the store is asked beside it.
	Ready      func() []error
	Gatherer   prometheus.Gatherer
	Registerer prometheus.Registerer
	Log        *zap.Logger
	Now        func() time.Time
}

// ListQuery selects incidents, newest first by Opened. Zero fields select all.
type ListQuery struct {
	States       []flow.State
	Tenant       netip.Addr // a window key, as TenantKey gives it
	Rule         flow.Rule
	Since, Until time.Time // Since ≤ Opened < Until
	Limit        int       // at most so many from Offset on; always > 0
	Offset       int
}

// Incidents is the controller as this package sees it. Errors that are the
// caller's fault are of type *Error.
type Incidents interface {
	// List gives one page and how many incidents match in all.
	List(ctx context.Context, q ListQuery) ([]flow.Incident, int, error)
	Incident(id string) (flow.Incident, []flow.Event, bool)
	Release(ctx context.Context, id, actor, statement string) error
	Approve(ctx context.Context, id, actor, reason string) error
	Close(ctx context.Context, id, actor, reason string) error
}

// Store is the part of the store that is read here. Answers may be shared: they are
// not changed here.
type Store interface {
	Series(ctx context.Context, tenant netip.Addr, r flow.Range, step time.Duration) (flow.Series, error)
	TopList(ctx context.Context, q flow.TopQuery) (flow.TopList, error)
	Flows(ctx context.Context, q flow.FlowQuery) ([]flow.FlowRow, error)
	HostPeers(ctx context.Context, tenant netip.Addr, r flow.Range, limit int) (flow.PeerSums, error)
	Evidence(ctx context.Context, incident string) (flow.Evidence, error)
	Ping(ctx context.Context) error
}

// Inventory tells who holds an address.
type Inventory interface {
	Holder(ip netip.Addr, at time.Time) (flow.Holder, bool)
}

// Handler answers all requests. It is safe for concurrent use.
type Handler struct {
	cfg     Config
	deps    Deps
	log     *zap.Logger
	audit   *zap.Logger
	metrics metrics
	tokens  atomic.Pointer[accepted]
	router  chi.Router
	rest    huma.API
	signIn  *signIn // nil: tokens only
	live    *sessions

	streams  *streams
	snapshot snapshot
	reads    *readLog
	boot     string // of this process: versions begin anew with it
}

// New builds the handler. The error names what is missing or contradicts itself.
func New(cfg Config, deps Deps) (*Handler, error) {
	if deps.Incidents == nil || deps.Store == nil {
		return nil, fmt.Errorf("api: Deps.Incidents and Deps.Store are needed")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.TenantKey == nil {
		deps.TenantKey = slash64
	}
	h := &Handler{cfg: cfg, deps: deps, log: deps.Log.Named("api"), audit: deps.Log.Named("audit"), metrics: newMetrics(deps.Registerer), streams: newStreams(), live: newSessions(cfg.OIDC)}
	h.reads, h.boot = newReadLog(h), crand.Text()
	if err := h.SetTokens(cfg.Tokens); err != nil {
		return nil, err
	}
	if cfg.OIDC != nil {
		var err error
		if h.signIn, err = newSignIn(h, *cfg.OIDC); err != nil {
			return nil, err
		}
	}
	h.routes()
	return h, nil
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.router.ServeHTTP(w, r) }

// OpenAPI is the document that describes the REST interface.
func (h *Handler) OpenAPI() *huma.OpenAPI { return h.rest.OpenAPI() }

// NewServer gives an HTTP server for h with time limits that a slow or hostile
// client cannot stretch. The caller listens and shuts down.
func NewServer(h http.Handler) *http.Server {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      90 * time.Second, // above the time limit of a call and the sending of the largest answer
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
	}
	if own, ok := h.(*Handler); ok {
		s.RegisterOnShutdown(own.streams.end) // they would hold it up
	}
	return s
}

func (h *Handler) routes() {
	r := chi.NewRouter()
	r.Use(h.observe, h.recoverer, securityHeaders)
	r.NotFound(h.notFound)
	r.MethodNotAllowed(h.methodNotAllowed)

	for path, f := range map[string]http.HandlerFunc{"/healthz": h.healthz, "/readyz": h.readyz} {
		r.Get(path, f)
		r.Head(path, f)
	}
	if h.deps.Gatherer != nil {
		m := promhttp.HandlerFor(h.deps.Gatherer, promhttp.HandlerOpts{})
		if h.cfg.MetricsOpen {
			r.Method(http.MethodGet, "/metrics", m)
		} else {
			r.With(h.authenticate).Method(http.MethodGet, "/metrics", m)
		}
	}
	r.Route("/api", func(r chi.Router) {
		// Before the routes and their 404: without a token nobody learns what
		// there is.
		r.Use(noStore, h.authenticate, h.deadline)
		r.NotFound(h.notFound)
		r.MethodNotAllowed(h.methodNotAllowed)
		r.Route("/v1", h.restRoutes)
	})
	r.Route(signInPath, h.signInRoutes)
	for path, f := range h.deps.Pages {
		r.Mount(path, f)
	}
	for path, f := range ui.Files() {
		r.Method(http.MethodGet, path, f)
		r.Method(http.MethodHead, path, f)
	}
	h.router = r
}

func (h *Handler) restRoutes(r chi.Router) {
	r.NotFound(h.notFound)
	r.MethodNotAllowed(h.methodNotAllowed)
	cfg := huma.DefaultConfig("flowcordon", h.cfg.Version)
	cfg.Info.Description = "Outbound abuse of a hoster's tenants: incidents with evidence, traffic of each internal address, exporters.\n\n" +
		"Times are RFC 3339 in UTC. Counters are as exported; names that begin with est_ are scaled by the sampling rate. " +
		"Errors are problem+json (RFC 9457); their detail says what to do."
	cfg.Servers = []*huma.Server{{URL: Prefix}}
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", Description: "A token of the configuration's api.tokens; roles rise viewer, abuse, operator, admin."},
	}
	// No documentation page: the ones huma can serve load their script from a
	// CDN. No $schema links either: they would be fetched without the token.
	cfg.DocsPath, cfg.SchemasPath, cfg.CreateHooks = "", "", nil
	cfg.OpenAPIPath = "/openapi"
	cfg.RejectUnknownQueryParameters = true
	cfg.Transformers = []huma.Transformer{explain}
	cfg.Formats = map[string]huma.Format{"application/json": plainJSON, "json": plainJSON}
	h.rest = humachi.New(r, cfg)

	h.registerIncidents()
	h.registerControl()
	h.registerBundle()
	h.registerRules()
	h.registerComplaints(h.deps.Complaints)
	h.registerHosts()
	h.registerPeers()
	h.registerFleet()
	h.registerTraffic()
	h.registerEvents()
	h.registerReads()
	h.registerSessions()
	h.registerExemptions()
	h.registerFlowSearch()
	h.registerTenants()
	h.registerCases()
	h.registerSearch()
	describe(h.rest.OpenAPI().Components.Schemas.Map())
}

func slash64(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64) // cannot fail: 64 ≤ 128
		return p.Addr()
	}
	return a
}
