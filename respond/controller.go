package respond

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// ErrLogAway means that the event log could not take an event. Nothing was
// done; what was decided is kept and appended as soon as the log is back.
var ErrLogAway = errors.New("the event log cannot be written, nothing is done until it can")

// errNotLoaded is returned by everything that writes before Load succeeded.
var errNotLoaded = errors.New("respond: the event log is not loaded yet")

// Controller owns every incident. Its methods are safe for concurrent use.
type Controller struct {
	cfg   Config
	deps  Deps
	log   *zap.Logger
	now   func() time.Time
	susp  map[string]Suspender
	m     *metrics
	wake  chan struct{}
	sched *scheduler

	write   sync.Mutex // held from reading the state to folding what was decided on it
	loaded  bool       // under write
	pending []flow.Event

	mu       sync.RWMutex // guards what follows; taken after write
	started  time.Time    // of the last Load
	st       *state
	lastSeen map[netip.Addr]time.Time // tenant → last finding handled, stored or not
	busy     map[flow.Rule]time.Time  // rule → last tick that would freeze it, "" for all
	nudged   map[string]bool          // incidents to be read back before it is their time
	strays   map[string]stray         // adapter and NIC → orphan, see orphans.go
	news     chan struct{}            // closed, and made anew, when events were folded

	nodes *breakers
}

// New makes a controller. It does no I/O and starts nothing: call Load, then
// Run.
func New(cfg Config, deps Deps) *Controller {
	cfg = cfg.withDefaults()
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	c := &Controller{
		cfg: cfg, deps: deps, log: deps.Log.Named("respond"), now: func() time.Time { return deps.Now().UTC() },
		susp: map[string]Suspender{}, wake: make(chan struct{}, 1), st: newState(nil),
		lastSeen: map[netip.Addr]time.Time{}, busy: map[flow.Rule]time.Time{}, nudged: map[string]bool{},
		strays: map[string]stray{}, news: make(chan struct{}),
	}
	for _, s := range deps.Suspenders {
		c.susp[s.Name()] = s
	}
	c.m = newMetrics(deps.Registerer, c.countStates)
	c.nodes = newBreakers(cfg.BreakerAfter, cfg.BreakerFor, c.m.breaker)
	c.sched = newScheduler(cfg.Workers)
	return c
}

// Load replays the log. It must succeed before Handle, Run or an order of a
// person is accepted.
func (c *Controller) Load(ctx context.Context) error {
	c.write.Lock()
	defer c.write.Unlock()
	st := newState(nil)
	n := 0
	err := c.deps.Events.Events(ctx, func(ev flow.Event) error {
		if ev.Seq <= st.seq {
			return fmt.Errorf("event %d after event %d: the log is not in order", ev.Seq, st.seq)
		}
		n++
		return st.fold(ev)
	})
	if err != nil {
		return fmt.Errorf("replay the event log: %w", err)
	}
	c.mu.Lock()
	now := c.now()
	c.st, c.started = st, now
	for tenant, id := range st.live {
		if id != "" {
			c.lastSeen[tenant] = now // nobody looked while we were away: quiet is counted from here
		}
	}
	c.mu.Unlock()
	c.loaded, c.pending = true, nil
	c.log.Info("event log replayed", zap.Int("events", n), zap.Int("incidents", len(st.recs)))
	return nil
}

// transact runs fn on a draft of the state, appends the events that fn emits
// and folds them. fn runs under the writer's lock and must not block. It
// returns ErrLogAway when the events are not acknowledged: either they were
// never numbered (fn was not run), or they are kept and appended later.
func (c *Controller) transact(ctx context.Context, fn func(t *txn) error) error {
	c.write.Lock()
	defer c.write.Unlock()
	if !c.loaded {
		return errNotLoaded
	}
	if err := c.flush(ctx); err != nil {
		return err
	}
	t := &txn{st: newState(c.st)}
	if err := fn(t); err != nil {
		return err
	}
	if len(t.evs) == 0 {
		return nil
	}
	c.pending = t.evs
	return c.flush(ctx)
}

// flush appends what is pending. The same events go out with the same numbers
// until they are acknowledged: after a timeout nobody knows whether the first
// try was stored. The caller holds write.
func (c *Controller) flush(ctx context.Context) error {
	if len(c.pending) == 0 {
		return nil
	}
	actx, cancel := context.WithTimeout(ctx, c.cfg.AppendTimeout)
	defer cancel()
	if err := c.deps.Events.AppendEvents(actx, c.pending); err != nil {
		c.m.logErrors.Inc()
		return fmt.Errorf("%w: %w", ErrLogAway, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ev := range c.pending {
		if err := c.st.fold(ev); err != nil {
			panic("respond: an event that was folded in a draft does not fold: " + err.Error())
		}
	}
	c.pending = nil
	close(c.news)
	c.news = make(chan struct{})
	c.kick()
	return nil
}

// kick lets Run look at the state again.
func (c *Controller) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// txn collects the events of one transaction on a draft of the state.
type txn struct {
	st  *state
	evs []flow.Event
}

// emit numbers an event and folds it into the draft.
func (t *txn) emit(ev flow.Event) {
	ev.Seq = t.st.seq + 1
	if err := t.st.fold(ev); err != nil {
		panic("respond: a new event does not fold: " + err.Error())
	}
	t.evs = append(t.evs, ev)
}
