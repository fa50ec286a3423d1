package respond

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
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
		lastSeen: map[netip.Addr]time.Time{},
	}
	for _, s := range deps.Suspenders {
		c.susp[s.Name()] = s
	}
	c.m = newMetrics(deps.Registerer, c.countStates)
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

// Handle takes the findings of one tick. ts is event time. When it returns nil
// every decision is stored; acts and notices follow in Run. On ErrLogAway
// nothing was lost: the detector finds the same again while the abuse lasts,
// and what was numbered is appended when the log is back.
func (c *Controller) Handle(ctx context.Context, ts time.Time, fs []flow.Finding) error {
	ts = ts.UTC()
	var order []netip.Addr
	byTenant := map[netip.Addr][]flow.Finding{}
	for _, f := range fs {
		if c.cfg.mode(f.Rule) == flow.ModeOff || f.Tier == flow.TierNone {
			continue
		}
		if _, ok := byTenant[f.Tenant]; !ok {
			order = append(order, f.Tenant)
		}
		byTenant[f.Tenant] = append(byTenant[f.Tenant], f)
	}
	if len(order) == 0 {
		return nil
	}
	err := c.transact(ctx, func(t *txn) error {
		for _, tenant := range order {
			c.handleTenant(t, ts, tenant, byTenant[tenant])
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("handle %d findings: %w", len(fs), err)
	}
	return nil
}

// handleTenant decides on one tenant's findings and emits what follows.
func (c *Controller) handleTenant(t *txn, ts time.Time, tenant netip.Addr, fs []flow.Finding) {
	h, known := c.deps.Inventory.Holder(tenant, ts)
	nb := t.st.earliest(tenant, h)
	if !nb.IsZero() {
		// After a release the long windows still hold the abuse that was
		// already dealt with. Only what counts nothing older may act.
		fresh := fs[:0:0]
		for _, f := range fs {
			if f.From.Before(nb.Add(c.cfg.Settle)) {
				c.m.stale.Inc()
				continue
			}
			fresh = append(fresh, f)
		}
		fs = fresh
	}
	if len(fs) == 0 {
		return
	}
	c.mu.Lock()
	c.lastSeen[tenant] = ts
	c.mu.Unlock()

	r, live := t.st.liveOf(tenant)
	in := c.input(t, ts, tenant, fs, h, known, r)
	var from flow.State
	if live {
		from = r.inc.State
	}
	d, reason := decide(c.cfg, from, in, ts)
	id := r.inc.ID
	if !live {
		id = incidentID(tenant, ts)
		if _, taken := t.st.rec(id); taken {
			return // opened and ended within one slot: the next slot opens another
		}
		why := reason
		if d.State != flow.StateOpen {
			why = ReasonObserved
		}
		b := body{Tenant: tenant.String(), Holder: &h, Findings: fs, Prior: t.st.priorOf(holderKey(tenant, h)), Exemption: d.Exemption}
		t.emit(newEvent(id, EventOpened, actorDetector, why, ts, b))
	} else if newsworthy(r, fs, ts) || reason == ReasonNotifyWait && r.waiting.IsZero() {
		b := body{Findings: fs, Exemption: d.Exemption}
		if !r.holdsCut() && known {
			b.Holder = &h // while something is cut, the holder it was cut for stays
		}
		t.emit(newEvent(id, EventFinding, actorDetector, reason, ts, b))
	}
	c.emitDecision(t, ts, id, d, reason, h, in.OtherCut)
}

// input collects what decide may look at.
func (c *Controller) input(t *txn, ts time.Time, tenant netip.Addr, fs []flow.Finding, h flow.Holder, known bool, r record) Input {
	first := ts
	for _, f := range fs {
		if !f.From.IsZero() && f.From.Before(first) {
			first = f.From
		}
	}
	before, knownBefore := c.deps.Inventory.Holder(tenant, first)
	in := Input{
		Findings: fs, Holder: h, Known: known, Before: before, KnownBefore: knownBefore,
		Adapter:  len(h.NICs) > 0 && c.susp[h.Hypervisor] != nil,
		LastHour: t.st.intentsSince(ts.Add(-time.Hour)),
		Released: t.st.releasedOf(holderKey(tenant, h)),
		Held:     r.reason, Waiting: r.waiting,
		OtherCut: t.st.cutByOther(h, r.inc.ID),
	}
	return in
}

// emitDecision stores the state that a decision leads to.
func (c *Controller) emitDecision(t *txn, ts time.Time, id string, d Decision, reason Reason, h flow.Holder, other string) {
	r, _ := t.st.rec(id)
	b := body{Holder: &h, Exemption: d.Exemption}
	switch d.State {
	case flow.StateNotified:
		b.Notices = c.dues(t, r, noticeNotified, flow.StateNotified)
		t.emit(newEvent(id, EventNotified, actorController, reason, ts, b))
	case flow.StateHeld:
		if reason == ReasonAlreadyCut {
			b.Detail = other
		}
		b.Notices = c.dues(t, r, noticeHeld, flow.StateHeld)
		if slices.ContainsFunc(r.notices, func(n notice) bool { return n.Kind == noticeHeld && n.reply == reason }) {
			b.Notices = nil // staff know; a reason that comes and goes is not news
		}
		t.emit(newEvent(id, EventHeld, actorController, reason, ts, b))
	case flow.StateApproval:
		b.Notices = c.dues(t, r, noticeHeld, flow.StateApproval)
		t.emit(newEvent(id, EventApprovalAsked, actorController, reason, ts, b))
	case flow.StateSuspending:
		t.emit(c.intent(r, actorController, reason, ts, h))
	}
}

// intent is the event that must be stored before a hypervisor is called.
func (c *Controller) intent(r record, actor string, reason Reason, ts time.Time, h flow.Holder) flow.Event {
	a := &flow.Action{Key: actionKey(r, kindSuspend), Kind: kindSuspend, Adapter: h.Hypervisor, Intent: ts.UTC()}
	for _, mac := range h.NICs {
		a.NICs = append(a.NICs, flow.NIC{VDS: h.VDS, Hypervisor: h.Hypervisor, MAC: mac, IP: r.inc.Tenant})
	}
	return newEvent(r.inc.ID, EventIntent, actor, reason, ts, body{Holder: &h, Action: a})
}
