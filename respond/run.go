package respond

import (
	"context"
	"sync"
	"time"

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

// hurry makes a task that does not run due.
func (s *scheduler) hurry(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tasks[key]; t != nil {
		t.next = time.Time{}
	}
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
	for name, sp := range c.susp {
		if w, ok := sp.(Watcher); ok {
			wg.Go(func() { c.watch(ctx, name, w) })
		}
	}
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
	out := c.orphanJobs(now)
	for id := range c.st.active {
		r := c.st.recs[id]
		if a := r.pending(); a != nil {
			key := a.Key
			out = append(out, job{key, serverKey(r.inc.Holder), c.sched.slots, func(ctx context.Context) time.Duration { return c.act(ctx, id, key) }})
		}
		out = c.measureJobs(out, id, r, now)
		switch r.inc.State {
		case flow.StateSuspended, flow.StateUnverified:
			out = append(out, job{id + "/verify", "", c.sched.other, func(ctx context.Context) time.Duration { return c.verify(ctx, id) }})
		}
		if c.owesLogs(r) && !now.Before(c.logsDue(r)) {
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

// measureJobs are those beside the action that is pending: the fallback's, what
// is replaced, what must be read back, what a dry run owes. The caller holds mu.
func (c *Controller) measureJobs(out []job, id string, r record, now time.Time) []job {
	server := serverKey(r.inc.Holder)
	for _, a := range r.stepsIn() {
		out = append(out, job{a.Key, server, c.sched.slots, func(ctx context.Context) time.Duration { return c.act(ctx, id, a.Key) }})
	}
	for _, a := range r.replaced() {
		out = append(out, job{id + "/lift/" + a.Key, server, c.sched.slots, func(ctx context.Context) time.Duration { return c.lift(ctx, id, a.Key) }})
	}
	out = c.readBackJobs(out, id, r, now)
	if r.owesCalls() {
		out = append(out, job{id + "/describe", server, c.sched.slots, func(ctx context.Context) time.Duration { return c.describe(ctx, id) }})
	}
	return out
}

// readBackJobs read back what must be in force, when it is time or somebody
// changed the server. The caller holds mu.
func (c *Controller) readBackJobs(out []job, id string, r record, now time.Time) []job {
	if c.cfg.Reassert <= 0 {
		return out
	}
	add := func(key string, done time.Time, run func(context.Context) time.Duration) {
		if c.nudged[id] {
			c.sched.hurry(key)
		}
		if c.nudged[id] || !now.Before(done.Add(c.cfg.Reassert)) {
			out = append(out, job{key, serverKey(r.inc.Holder), c.sched.slots, run})
		}
	}
	for _, a := range r.upheld() {
		add(id+"/uphold/"+a.Key, a.Done, func(ctx context.Context) time.Duration { return c.uphold(ctx, id, a.Key) })
	}
	if a := r.inForce(); a != nil {
		add(id+"/reassert", a.Done, func(ctx context.Context) time.Duration { return c.reassert(ctx, id) })
	}
	return out
}

// orphanJobs list what is marked, and see to what two listings showed. The
// caller holds mu.
func (c *Controller) orphanJobs(now time.Time) []job {
	var out []job
	if c.cfg.Reassert < 0 {
		return nil
	}
	for name, s := range c.susp {
		if l, ok := s.(Lister); ok && !now.Before(c.started.Add(c.cfg.Reassert)) {
			out = append(out, job{"orphans/" + name, "", c.sched.other, func(ctx context.Context) time.Duration { return c.sweep(ctx, name, l) }})
		}
	}
	for key, o := range c.strays {
		if o.seen.After(o.since) {
			out = append(out, job{"orphan/" + key, o.adapter + "/" + o.nic.VDS, c.sched.slots, func(ctx context.Context) time.Duration { return c.adopt(ctx, key, o) }})
		}
	}
	return out
}
