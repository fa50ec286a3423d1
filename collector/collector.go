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
	shards  []*shard
	counts  counts
	limits  struct{ receive, refused, save *rate.Limiter }

	allow     atomic.Pointer[bart.Lite]
	strangers *strangers
	reloadMu  sync.Mutex
	settings  atomic.Pointer[Config] // as last loaded: what Exporters speaks of

	ready    chan struct{}
	stopping chan struct{} // closed when Run begins to end
	abandon  atomic.Bool   // the time for draining is over

	mu      sync.RWMutex // guards what follows; held for reading while a queue is sent to
	readers []*reader
	open    bool // queues take requests

	saved stateHash
}

// counts are the datagrams and rows that the collector itself counts; the rest
// is counted where it happens, in decode and aggregate.
type counts struct {
	received, notAllowed, truncated, queueFull, shutdown, kernelDrops, refused, stateErrors atomic.Uint64
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
		receive: recvmsg, ready: make(chan struct{}), stopping: make(chan struct{}),
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
	for _, r := range c.readers {
		out = append(out, r.sock.conn.LocalAddr())
	}
	return out
}

// The time that each step of the shutdown has.
const (
	lastReadTime = 200 * time.Millisecond // for what the kernel already has
	drainTime    = 5 * time.Second        // for the queues; the rest is counted as dropped
)

// Run listens until ctx ends, then ends in order: sockets, queues, windows,
// state. It can be called once.
func (c *Collector) Run(ctx context.Context) error {
	c.loadState()
	if err := c.listen(ctx); err != nil {
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

func (c *Collector) listen(ctx context.Context) error {
	var readers []*reader
	for i, l := range c.cfg.Listen {
		s, err := listen(ctx, i, l, c.cfg.ReadBuffer)
		if err != nil {
			for _, r := range readers {
				_ = r.sock.conn.Close() // the error to tell is the other
			}
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("listen: %w", err)
		}
		readers = append(readers, &reader{c: c, sock: s})
		c.log.Info("listening", zap.Stringer("address", s.conn.LocalAddr()), zap.Int("read_buffer", s.readBuffer))
		if s.readBuffer < c.cfg.ReadBuffer {
			c.log.Warn("the kernel granted a smaller receive buffer; bursts will be lost",
				zap.Stringer("address", s.conn.LocalAddr()), zap.Int("asked", c.cfg.ReadBuffer), zap.Int("granted", s.readBuffer),
				zap.String("to_grant_it_run", fmt.Sprintf("sysctl -w net.core.rmem_max=%d", c.cfg.ReadBuffer)))
		}
	}
	c.mu.Lock()
	c.readers = readers
	c.mu.Unlock()
	return nil
}

// shutdown ends everything that Run started, in the order of the data.
func (c *Collector) shutdown(readers, workers, saver *sync.WaitGroup) {
	close(c.stopping)
	c.waitIdle(time.Now().Add(lastReadTime))
	for _, r := range c.readers {
		if err := r.sock.conn.Close(); err != nil {
			c.log.Warn("close socket", zap.Error(err))
		}
	}
	readers.Wait()
	c.log.Info("sockets closed", zap.Uint64("datagrams", c.counts.received.Load()))

	c.mu.Lock() // no Flush is sending to a queue
	c.open = false
	for _, s := range c.shards {
		close(s.queue.items)
	}
	c.mu.Unlock()
	giveUp := time.AfterFunc(drainTime, func() { c.abandon.Store(true) })
	workers.Wait()
	giveUp.Stop()
	c.log.Info("queues drained, windows handed over", zap.Uint64("dropped", c.counts.shutdown.Load()), zap.Uint64("rows_refused", c.counts.refused.Load()))

	saver.Wait()
	c.saveState()
	c.log.Info("collector ended")
}

// waitIdle waits until every datagram that the kernel had is in a queue, or
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
	var done sync.WaitGroup
	for _, s := range c.shards {
		done.Add(1)
		s.queue.items <- item{request: func() {
			defer done.Done()
			s.flush(true)
		}}
	}
	done.Wait()
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
	for _, s := range c.shards {
		s.mu.Lock()
		s.dec.Reconfigure(cfg.Decode)
		err := s.agg.Reconfigure(cfg.Aggregate)
		s.mu.Unlock()
		if err != nil {
			return err // not possible: Validate looked
		}
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
		"collector.queue_bytes":    c.cfg.QueueBytes != cfg.QueueBytes,
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
