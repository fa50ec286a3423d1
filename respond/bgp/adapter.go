// Package bgp cuts a tenant off at the routers, by BGP: for when a hypervisor
// cannot be reached or holds the machine locked, and for what has none.
//
// In come a flow.NIC, of which only the address counts, and a flow.Mark; out go
// FlowSpec rules that match the tenant's address as the source (RFC 8955, RFC
// 8956), or blackhole routes, to every router of the configuration. What is
// announced is bounded: own prefixes only, never wider than one tenant, never
// more than so many rules.
//
// A rule by source has no destination prefix. Routers refuse such a rule until
// validation is relaxed for our session (RFC 8955 §6 a).
//
// A router keeps no marks, so they are kept in a file, which is written before
// a route goes out and read before the first session comes up.
//
// Run owns the sessions and all goroutines. The package imports flow and no
// sibling.
package bgp

import (
	"context"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Deps are what an Adapter works with. All of them may be left out.
type Deps struct {
	Log        *zap.Logger
	Registerer prometheus.Registerer // nil: a private registry
	Now        func() time.Time      // nil: time.Now
}

// Adapter is a suspender behind BGP. It is safe for concurrent use; operations
// queue. Nothing works before Run has read the marks.
type Adapter struct {
	cfg     Config
	invalid error
	log     *zap.Logger
	metrics *metrics
	now     func() time.Time

	turn    chan struct{} // held by an operation; guards speaker and marks
	speaker *speaker      // nil: not running
	marks   marks

	mu      sync.Mutex
	changed chan struct{} // closed and made anew when a session comes or goes
}

// New returns an Adapter. It does no I/O: a wrong configuration shows at Run
// (Config.Validate tells it beforehand).
func New(cfg Config, deps Deps) *Adapter {
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &Adapter{
		invalid: cfg.Validate(),
		cfg:     cfg.withDefaults(),
		log:     deps.Log.Named("bgp").With(zap.String("adapter", cfg.Name)),
		metrics: newMetrics(deps.Registerer, cfg.Name),
		now:     deps.Now,
		turn:    make(chan struct{}, 1),
		changed: make(chan struct{}),
	}
}

// Name returns the adapter's name in the configuration.
func (a *Adapter) Name() string { return a.cfg.Name }

// Measures are the milder ones it can take: with FlowSpec all, else none.
func (a *Adapter) Measures() []flow.MeasureKind {
	if a.cfg.Method != MethodFlowSpec {
		return nil
	}
	return []flow.MeasureKind{flow.MeasureBlockPort, flow.MeasureLimit}
}

// Status tells what is in force for the NIC's address: a measure counts when
// our table sends it to RequirePeers established sessions or more. The routes
// come back with a session, so Config is down as soon as the mark says so.
func (a *Adapter) Status(ctx context.Context, nic flow.NIC) (flow.NICStatus, error) {
	return do(ctx, a, "status", func(ctx context.Context) (flow.NICStatus, error) {
		_, h, err := a.locate(nic)
		if err != nil && len(h.Measures) == 0 {
			return flow.NICStatus{}, err
		}
		v, err := a.speaker.view(ctx)
		if err != nil {
			return flow.NICStatus{}, err
		}
		st, _, err := a.status(v, h, false)
		return st, err
	})
}

// Cut announces that what the address sends is dropped, after writing the mark.
// Without enough sessions it is refused with flow.ErrTransient and nothing is
// marked; an address that is cut for another incident with flow.ErrConflict.
func (a *Adapter) Cut(ctx context.Context, nic flow.NIC, m flow.Mark) (flow.Receipt, error) {
	return a.take(ctx, "cut", nic, flow.Measure{Kind: flow.MeasureCut}, m)
}

// Restrict announces a port block or a limit. A limit under a cut is kept and
// comes into force when the cut is given back.
func (a *Adapter) Restrict(ctx context.Context, nic flow.NIC, me flow.Measure, m flow.Mark) (flow.Receipt, error) {
	if me.Kind == flow.MeasureCut {
		return flow.Receipt{}, a.refuse("restrict", fail(flow.ErrUnsupported, "a cut is no restriction"))
	}
	return a.take(ctx, "restrict", nic, me, m)
}

// Restore withdraws the cut and takes its mark away. It needs no session: a
// router that is down has nothing of ours, save for GracefulRestart.
func (a *Adapter) Restore(ctx context.Context, nic flow.NIC, m flow.Mark, _ flow.Receipt) error {
	return a.giveBack(ctx, "restore", nic, flow.MeasureCut, m)
}

// Lift withdraws a measure milder than the cut, as Restore does the cut.
func (a *Adapter) Lift(ctx context.Context, nic flow.NIC, kind flow.MeasureKind, m flow.Mark, _ flow.Receipt) error {
	if kind == flow.MeasureCut {
		return a.refuse("lift", fail(flow.ErrUnsupported, "a cut is no restriction"))
	}
	return a.giveBack(ctx, "lift", nic, kind, m)
}

// Watch calls changed with an empty VDS when a session comes or goes: then
// anything may be in force, or not any more. It returns nil when ctx ends.
func (a *Adapter) Watch(ctx context.Context, changed func(vds string)) error {
	for {
		a.mu.Lock()
		ch := a.changed
		a.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-ch:
			changed("")
		}
	}
}
