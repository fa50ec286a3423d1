package respond

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// scheduler keeps what is volatile about tasks: which run, when the next try
// is due, how often it was tried. Losing it in a restart only means that
// everything undone is tried at once.
type scheduler struct {
	mu    sync.Mutex
	tasks map[string]*task
	busy  map[string]bool // servers that a call is being made to
	calls map[string]map[string]int
	slots chan struct{} // bounds calls to hypervisors
	other chan struct{} // bounds notices, evidence and verification, so that a slow mail server delays no cut
}

type task struct {
	running bool
	next    time.Time
	tries   int
}

func newScheduler(workers int) *scheduler {
	return &scheduler{
		tasks: map[string]*task{}, busy: map[string]bool{}, calls: map[string]map[string]int{},
		slots: make(chan struct{}, workers), other: make(chan struct{}, 2*workers),
	}
}

// start claims a task if it is due, its server is free and a slot is free.
func (s *scheduler) start(key, server string, slots chan struct{}, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[key]
	if t == nil {
		t = &task{}
		s.tasks[key] = t
	}
	if t.running || now.Before(t.next) || server != "" && s.busy[server] {
		return false
	}
	select {
	case slots <- struct{}{}:
	default:
		return false
	}
	t.running = true
	if server != "" {
		s.busy[server] = true
	}
	return true
}

// end gives a task back; wait says when it may be tried again, 0 that it is
// finished and can be forgotten.
func (s *scheduler) end(key, server string, slots chan struct{}, now time.Time, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	<-slots
	if server != "" {
		delete(s.busy, server)
	}
	if wait <= 0 {
		delete(s.tasks, key)
		return
	}
	t := s.tasks[key]
	t.running, t.next, t.tries = false, now.Add(wait), t.tries+1
}

func (s *scheduler) tries(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tasks[key]; t != nil {
		return t.tries
	}
	return 0
}

// backoff is min·2^tries, at most limit.
func backoff(tries int, least, limit time.Duration) time.Duration {
	d := least
	for i := 0; i < tries && d < limit; i++ {
		d *= 2
	}
	return min(d, limit)
}

// Run makes the calls, verifies, freezes evidence and sends notices until ctx
// ends; it returns nil then, after its workers have.
func (c *Controller) Run(ctx context.Context) error {
	c.write.Lock()
	loaded := c.loaded
	c.write.Unlock()
	if !loaded {
		return errNotLoaded
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	c.reconsider(ctx)
	tick := time.NewTicker(c.cfg.Tick)
	defer tick.Stop()
	for {
		c.housekeeping(ctx)
		c.dispatch(ctx, &wg)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-c.wake:
		}
	}
}

// housekeeping appends what is pending and lets timers run out.
func (c *Controller) housekeeping(ctx context.Context) {
	now := c.now()
	var late, quiet []string
	c.mu.RLock()
	for tenant, id := range c.st.live {
		r, ok := c.st.recs[id]
		if !ok {
			continue
		}
		switch r.inc.State {
		case flow.StateApproval:
			if !now.Before(r.entered.Add(c.cfg.ApprovalTimeout)) {
				late = append(late, id)
			}
		case flow.StateOpen, flow.StateNotified, flow.StateHeld:
			seen := r.inc.Updated
			if s := c.lastSeen[tenant]; s.After(seen) {
				seen = s
			}
			if !now.Before(seen.Add(c.cfg.CloseAfter)) {
				quiet = append(quiet, id)
			}
		}
	}
	c.mu.RUnlock()
	err := c.transact(ctx, func(t *txn) error {
		for _, id := range late {
			if r, _ := t.st.rec(id); r.inc.State == flow.StateApproval {
				b := body{Notices: c.dues(t, r, noticeHeld, flow.StateHeld)}
				t.emit(newEvent(id, EventHeld, actorController, ReasonApprovalLate, now, b))
			}
		}
		for _, id := range quiet {
			if r, _ := t.st.rec(id); r.inc.State.Live() && !r.holdsCut() {
				t.emit(newEvent(id, EventClosed, actorController, ReasonQuiet, now, body{}))
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		c.log.Warn("event log cannot be written", zap.Error(err))
	}
}

// maxFindingAge bounds how old a finding may be that is decided on again
// after a restart.
const maxFindingAge = 10 * time.Minute

// reconsider decides again on open incidents, once after a start: the process
// may have ended between an incident's opening and the event that acts on it.
func (c *Controller) reconsider(ctx context.Context) {
	now := c.now()
	err := c.transact(ctx, func(t *txn) error {
		for id, r := range c.st.recs {
			if r.inc.State != flow.StateOpen || now.Sub(r.inc.Updated) > maxFindingAge {
				continue
			}
			h, known := c.deps.Inventory.Holder(r.inc.Tenant, now)
			in := c.input(t, now, r.inc.Tenant, r.inc.Findings, h, known, r)
			d, reason := decide(c.cfg, r.inc.State, in, now)
			c.emitDecision(t, now, id, d, reason, h, in.OtherCut)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		c.log.Warn("open incidents could not be reconsidered", zap.Error(err))
	}
}

// job is one thing the state says is undone.
type job struct {
	key    string
	server string // serialised by it; "" none
	slots  chan struct{}
	run    func(ctx context.Context) (wait time.Duration) // 0: finished
}

// dispatch starts every job that is due.
func (c *Controller) dispatch(ctx context.Context, wg *sync.WaitGroup) {
	now := c.now()
	for _, j := range c.jobs(now) {
		if ctx.Err() != nil || !c.sched.start(j.key, j.server, j.slots, now) {
			continue
		}
		wg.Go(func() {
			wait := j.run(ctx)
			c.sched.end(j.key, j.server, j.slots, c.now(), wait)
			c.kick()
		})
	}
}

// jobs reads from the state what is undone.
func (c *Controller) jobs(now time.Time) []job {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var out []job
	for id := range c.st.active {
		r := c.st.recs[id]
		if a := r.pending(); a != nil {
			key := a.Key
			out = append(out, job{key, serverKey(r.inc.Holder), c.sched.slots, func(ctx context.Context) time.Duration { return c.act(ctx, id, key) }})
		}
		switch r.inc.State {
		case flow.StateSuspended, flow.StateUnverified:
			out = append(out, job{id + "/verify", "", c.sched.other, func(ctx context.Context) time.Duration { return c.verify(ctx, id) }})
		}
		if r.inc.State.Live() && r.evidence.Before(r.wantLogs) {
			out = append(out, job{id + "/evidence", "", c.sched.other, func(ctx context.Context) time.Duration { return c.freeze(ctx, id) }})
		}
		for _, n := range r.notices {
			for _, name := range n.open() {
				if !c.noticeReady(r, n, now) || !firstFor(r, n, name) {
					continue
				}
				out = append(out, job{n.Key + "/" + name, "", c.sched.other, func(ctx context.Context) time.Duration { return c.notify(ctx, id, n, name) }})
			}
		}
	}
	return out
}
