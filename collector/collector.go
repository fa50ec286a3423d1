package collector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// Collector receives flow exports. Its exported methods are safe for
// concurrent use.
type Collector struct {
	cfg     Config
	deps    Deps
	log     *zap.Logger
	now     func() time.Time
	receive receiveFunc
	steer   steerFunc
	lanes   []*lane  // decoders, one for each socket of a listen address
	shards  []*shard // aggregators, as many
	counts  counts
	limits  struct{ receive, refused, save *rate.Limiter }

	allow     atomic.Pointer[bart.Lite]
	strangers *strangers
	reloadMu  sync.Mutex
	settings  atomic.Pointer[Config] // as last loaded: what Exporters speaks of

	ready    chan struct{}
	stopping chan struct{} // closed when Run begins to end
	closing  chan struct{} // closed when the readers are to end
	wake     int           // eventfd, readable from then on
	abandon  atomic.Bool   // the time for draining is over

	mu      sync.RWMutex // guards what follows; held for reading during a Flush
	groups  []*group
	readers []*reader
	open    bool // Run is between its start and its end

	saved stateHash
}

// counts are what is counted here and in no reader.
type counts struct {
	refused     atomic.Uint64 // rows
	stateErrors atomic.Uint64
}

// New returns a Collector that does nothing yet. All mistakes of cfg are in the
// error.
func New(cfg Config, deps Deps) (*Collector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Sink == nil {
		return nil, errors.New("collector: no sink")
	}
	cfg = cfg.withDefaults()
	c := &Collector{
		cfg: cfg, deps: deps, log: deps.Log, now: deps.Now,
		receive: recvmmsg, steer: attachSteering,
		ready: make(chan struct{}), stopping: make(chan struct{}), closing: make(chan struct{}),
	}
	if c.log == nil {
		c.log = zap.NewNop()
	}
	c.log = c.log.Named("collector")
	if c.now == nil {
		c.now = time.Now
	}
	// One line each minute is enough to be seen, and few enough not to hide others.
	c.limits.receive = rate.NewLimiter(rate.Every(time.Minute), 1)
	c.limits.refused = rate.NewLimiter(rate.Every(time.Minute), 1)
	c.limits.save = rate.NewLimiter(rate.Every(time.Minute), 1)
	c.strangers = newStrangers(c.log)
	c.allow.Store(allowTable(cfg.Allow))
	c.settings.Store(&cfg)
	for range cfg.Workers {
		c.shards = append(c.shards, newShard(c, cfg))
	}
	for range cfg.Workers {
		c.lanes = append(c.lanes, newLane(c, cfg))
	}
	reg := deps.Registerer
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	if err := reg.Register(newMetrics(c)); err != nil {
		return nil, fmt.Errorf("register collector metrics: %w", err)
	}
	return c, nil
}

func allowTable(prefixes []netip.Prefix) *bart.Lite {
	t := new(bart.Lite)
	for _, p := range prefixes {
		t.Insert(p.Masked())
	}
	return t
}

// Ready is closed when all sockets are bound.
func (c *Collector) Ready() <-chan struct{} { return c.ready }

// Addrs returns the bound addresses in the order of Config.Listen; nil before
// Ready.
func (c *Collector) Addrs() []net.Addr {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var out []net.Addr
	for _, g := range c.groups {
		out = append(out, g.addr)
	}
	return out
}

// The time that each step of the shutdown has.
const (
	drainTime   = 5 * time.Second // for what the kernel already has
	discardTime = time.Second     // to count what is left of it as dropped
)

// Run listens until ctx ends, then ends in order: sockets, readers, windows,
// state. It can be called once.
func (c *Collector) Run(ctx context.Context) error {
	c.loadState()
	if err := c.listen(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	var readers, workers, saver sync.WaitGroup
	for _, s := range c.shards {
		workers.Go(s.work)
	}
	for _, r := range c.readers {
		readers.Go(r.run)
	}
	saver.Go(c.saveLoop)
	c.mu.Lock()
	c.open = true
	c.mu.Unlock()
	close(c.ready)

	<-ctx.Done()
	c.shutdown(&readers, &workers, &saver)
	return nil
}

// shutdown ends everything that Run started, in the order of the data.
func (c *Collector) shutdown(readers, workers, saver *sync.WaitGroup) {
	close(c.stopping)
	c.endReaders(readers)
	t := c.totals()
	c.log.Info("sockets closed", zap.Uint64("datagrams", t.received), zap.Uint64("dropped", t.dropped[ReasonShutdown]))

	c.mu.Lock() // no Flush is at it
	c.open = false
	c.mu.Unlock()
	for _, l := range c.lanes {
		l.mu.Lock()
		l.settle()
		l.mu.Unlock()
	}
	for _, s := range c.shards {
		close(s.full)
	}
	workers.Wait()
	c.log.Info("windows handed over", zap.Uint64("rows_refused", c.counts.refused.Load()))

	saver.Wait()
	c.saveState()
	c.log.Info("collector ended")
}

// endReaders lets nothing more in, reads what the kernel has, and closes.
func (c *Collector) endReaders(readers *sync.WaitGroup) {
	for _, r := range c.readers {
		if err := refuseAll(r.fd); err != nil {
			c.log.Warn("datagrams that come during the shutdown are still taken", zap.Error(err))
		}
	}
	c.waitIdle(time.Now().Add(drainTime))
	c.abandon.Store(true)
	c.waitIdle(time.Now().Add(discardTime))
	close(c.closing)
	if err := c.wakeReaders(); err != nil {
		c.log.Error("readers cannot be woken", zap.Error(err)) // not possible: the counter has room
	}
	readers.Wait()
	if err := c.closeSockets(); err != nil {
		c.log.Warn("close sockets", zap.Error(err))
	}
}

// waitIdle waits until every datagram that the kernel had is with the shards, or
// until the deadline.
func (c *Collector) waitIdle(deadline time.Time) {
	for _, r := range c.readers {
		for !r.idle() && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
	}
}

// flushWait is how long Flush waits for sockets that do not run empty.
const flushWait = 10 * time.Second

// Flush waits until everything received so far is decoded and all of it, also
// of windows that are still open, is handed to the sink. For tests and tools;
// before Ready and after the end of Run it does nothing.
func (c *Collector) Flush() {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.open {
		return
	}
	c.waitIdle(time.Now().Add(flushWait))
	for _, s := range c.shards {
		s.drain()
		s.flushAll()
	}
}

// FlushDue hands the rows that are due now to the sink, those of busy keys among
// them, and does not wait for the next flush. It returns when that is done or
// ctx has ended; what is still on its way from the sockets is left to the next.
func (c *Collector) FlushDue(ctx context.Context) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.open {
		return
	}
	var shards sync.WaitGroup
	for _, s := range c.shards {
		shards.Go(func() { s.flushDue(ctx) })
	}
	shards.Wait()
}

// Reload takes a new allow-list, sampling rules, networks and flow policy for
// datagrams that come from now on. Templates, windows and counts stay. What
// cannot change while running (sockets, workers, sizes, files) keeps its value
// and is named in a log line. An error leaves everything as it was.
func (c *Collector) Reload(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	c.reloadMu.Lock()
	defer c.reloadMu.Unlock()
	var errs []error // none possible: Validate looked
	for _, s := range c.shards {
		errs = append(errs, s.reconfigure(cfg.Aggregate))
	}
	for _, l := range c.lanes {
		errs = append(errs, l.reconfigure(cfg))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	c.allow.Store(allowTable(cfg.Allow))
	c.settings.Store(&cfg)
	if names := c.fixedChanges(cfg); len(names) > 0 {
		c.log.Warn("these settings take effect at the next start only", zap.Strings("settings", names))
	}
	return nil
}

// fixedChanges names the settings of cfg that differ and cannot change now.
func (c *Collector) fixedChanges(cfg Config) []string {
	var names []string
	for name, changed := range map[string]bool{
		"listen":                   !slices.Equal(c.cfg.Listen, cfg.Listen),
		"collector.flush_interval": c.cfg.FlushInterval != cfg.FlushInterval,
		"collector.read_buffer":    c.cfg.ReadBuffer != cfg.ReadBuffer,
		"collector.workers":        c.cfg.Workers != cfg.Workers,
		"collector.max_datagram":   c.cfg.MaxDatagram != cfg.MaxDatagram,
		"data_dir":                 c.cfg.StateFile != cfg.StateFile,
	} {
		if changed {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
