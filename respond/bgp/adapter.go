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
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
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
		source, err := a.cfg.sourceOf(nic.IP)
		if err != nil {
			return flow.NICStatus{}, err
		}
		v, err := a.speaker.view(ctx)
		if err != nil {
			return flow.NICStatus{}, err
		}
		st, _, err := a.status(v, a.marks[source], false)
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

// Run reads the marks, announces them anew, brings the sessions up and keeps
// them until ctx ends. A file of marks that cannot be read is an error: going on
// without would open what is cut.
func (a *Adapter) Run(ctx context.Context) error {
	if a.invalid != nil {
		return fmt.Errorf("bgp %s: %w", a.cfg.Name, a.invalid)
	}
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	err := a.start(ctx)
	sp := a.speaker
	<-a.turn
	if err != nil {
		return fmt.Errorf("bgp %s: %w", a.cfg.Name, err)
	}
	a.keep(ctx)
	select {
	case a.turn <- struct{}{}:
		a.speaker = nil
		<-a.turn
	case <-time.After(stopGrace): // an operation hangs at the disk; what it announces yet is refused
	}
	sp.stop()
	for _, p := range a.cfg.Peers {
		a.metrics.up.WithLabelValues(p.Address.String()).Set(0)
	}
	return nil
}

func (a *Adapter) start(ctx context.Context) error {
	if err := os.Mkdir(a.cfg.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("dir: %w", err)
	}
	m, err := loadMarks(a.cfg.marksPath())
	if err != nil {
		return err
	}
	if err := m.save(a.cfg.marksPath()); err != nil { // a Dir that cannot be written shows now, not at the first flood
		return err
	}
	sp, err := newSpeaker(ctx, a.cfg, a.log)
	if err != nil {
		return err
	}
	a.marks, a.speaker = m, sp
	a.metrics.limit.Set(float64(a.cfg.MaxRules))
	a.announceAll()
	up := map[netip.Addr]bool{}
	err = sp.watch(ctx, func(p netip.Addr, isUp, overLimit bool, why string) { a.session(up, p, isUp, overLimit, why) })
	for _, p := range a.cfg.Peers {
		a.metrics.up.WithLabelValues(p.Address.String()).Set(0)
		if err == nil {
			err = sp.addPeer(ctx, p)
		}
	}
	if err != nil {
		a.speaker = nil
		sp.stop()
	}
	return err
}

// keep returns when ctx ends. Until then a peer that was closed for what it
// sent is tried again each minute.
func (a *Adapter) keep(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case <-ctx.Done():
			return
		case a.turn <- struct{}{}:
			a.revive(ctx)
			<-a.turn
		}
	}
}

func (a *Adapter) revive(ctx context.Context) {
	peers, err := a.speaker.peers(ctx)
	if err != nil {
		return
	}
	for _, p := range peers {
		if p.overLimit {
			if err := a.speaker.reopen(ctx, p.Peer); err != nil {
				a.log.Warn("peer cannot be tried again", zap.Stringer("peer", p.Address), zap.Error(err))
			}
		}
	}
}

// announceAll puts every mark in force that still may be.
func (a *Adapter) announceAll() {
	refused := 0
	for source, h := range a.marks {
		want, err := h.rules(a.cfg)
		if err == nil {
			err = a.cfg.guard(source)
		}
		if err == nil && len(a.speaker.announced)+len(want) > a.cfg.MaxRules {
			err = fmt.Errorf("max_rules is %d", a.cfg.MaxRules)
		}
		if err == nil {
			err = a.speaker.set(source, want)
		}
		if err != nil {
			refused++
			a.log.Error("mark is not announced", zap.Stringer("source", source), zap.String("vds", h.NIC.VDS), zap.Error(err))
		}
	}
	a.metrics.refused.Set(float64(refused))
	a.metrics.rules.Set(float64(len(a.speaker.announced)))
	if len(a.marks) > 0 {
		a.log.Info("marks announced anew", zap.Int("sources", len(a.marks)-refused), zap.Int("rules", len(a.speaker.announced)))
	}
}

// session takes note of a change of a session. Calls do not overlap.
func (a *Adapter) session(up map[netip.Addr]bool, p netip.Addr, isUp, overLimit bool, why string) {
	if overLimit {
		a.log.Error("peer sent too many routes and was closed; let it export nothing to us",
			zap.Stringer("peer", p), zap.Int("limit", maxReceived))
	}
	if up[p] == isUp {
		return
	}
	up[p] = isUp
	if isUp {
		a.metrics.up.WithLabelValues(p.String()).Set(1)
		a.log.Info("session established", zap.Stringer("peer", p))
	} else {
		a.metrics.up.WithLabelValues(p.String()).Set(0)
		a.metrics.lost.WithLabelValues(p.String()).Inc()
		a.log.Warn("session lost", zap.Stringer("peer", p), zap.String("reason", why))
	}
	a.mu.Lock()
	close(a.changed)
	a.changed = make(chan struct{})
	a.mu.Unlock()
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

// do runs one operation in its turn and within the deadline, and gives its
// error a class. One that outlives the deadline, because the disk hangs, goes on
// and keeps the turn: what it does may be repeated.
func do[T any](ctx context.Context, a *Adapter, op string, fn func(context.Context) (T, error)) (T, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.Timeout, errDeadline)
	defer cancel()
	type answer struct {
		v   T
		err error
	}
	done := make(chan answer, 1)
	go func() {
		var ans answer
		select {
		case a.turn <- struct{}{}:
			defer func() { <-a.turn }()
			switch {
			case ctx.Err() != nil:
				ans.err = context.Cause(ctx)
			case a.speaker == nil:
				ans.err = errors.New("the BGP speaker is not running")
			default:
				ans.v, ans.err = fn(ctx)
			}
		case <-ctx.Done():
			ans.err = context.Cause(ctx)
		}
		done <- ans
	}()
	var ans answer
	select {
	case ans = <-done:
	case <-ctx.Done():
		ans.err = context.Cause(ctx)
	}
	result := "ok"
	if ans.err != nil {
		var zero T
		ae := classify(fmt.Sprintf("bgp %s: %s", a.cfg.Name, op), ans.err)
		ans.v, ans.err, result = zero, ae, string(ae.Class)
	}
	a.metrics.observe(op, result, time.Since(start))
	return ans.v, ans.err
}

func (a *Adapter) refuse(op string, err error) error {
	return classify(fmt.Sprintf("bgp %s: %s", a.cfg.Name, op), err)
}
