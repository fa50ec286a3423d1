package collector

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/flow"
)

// shard aggregates what a share of the tenants did, whoever exported it.
//
// With one lane the reader adds to it directly. With several, full blocks go to
// the shard's worker, so that one exporter's load spreads over the cores. The
// blocks of a shard are as many as were made at the start: a lane gets an empty
// one for a full one, and waits if there is none. Its datagrams then wait in
// the kernel's buffer, which is the larger and counts what it drops.
type shard struct {
	c      *Collector
	direct bool
	full   chan *aggregate.Block // to the worker; has room for all blocks there are
	empty  chan *aggregate.Block
	queued atomic.Int64  // blocks in full, or taken from it and not yet added
	waits  atomic.Uint64 // times that a lane waited for an empty block

	// mu guards what follows. It is held for one block, or one slice of a flush.
	mu     sync.Mutex
	agg    *aggregate.Aggregator
	within bool      // a round of flushing has begun and has not ended
	begun  time.Time // when the last one did
}

const (
	// blockItems is what a block holds when it is handed over: enough that the
	// hand-over costs next to nothing for each, few enough for a core's cache.
	blockItems = 256

	// spareBlocks is how many blocks may wait for a shard's worker: 4,000 items,
	// what comes at two million a second while two slices of a flush are
	// written. More would only wait outside of the cache.
	spareBlocks = 16

	// flushSlice is how many rows are flushed between two blocks: about 1 ms.
	flushSlice = 4096
)

func newShard(c *Collector, cfg Config) *shard {
	s := &shard{c: c, direct: cfg.Workers == 1}
	s.full = make(chan *aggregate.Block, spareBlocks+cfg.Workers)
	s.empty = make(chan *aggregate.Block, spareBlocks+cfg.Workers)
	if !s.direct {
		for range spareBlocks {
			s.empty <- new(aggregate.Block)
		}
	}
	s.agg = aggregate.New(cfg.Aggregate, s.write)
	return s
}

// hand takes a full block and returns an empty one.
func (s *shard) hand(b *aggregate.Block) *aggregate.Block {
	if s.direct {
		s.mu.Lock()
		s.take(b)
		s.mu.Unlock()
		return b
	}
	s.queued.Add(1)
	s.full <- b
	select {
	case b = <-s.empty:
	default:
		s.waits.Add(1)
		b = <-s.empty
	}
	return b
}

// handRest is hand for a block that is not full. While the worker rests it is
// added here: to wake the worker would cost more than the few items do.
func (s *shard) handRest(b *aggregate.Block) *aggregate.Block {
	if s.direct || !s.mu.TryLock() {
		return s.hand(b)
	}
	defer s.mu.Unlock()
	s.take(b)
	return b
}

// take adds a block's items and empties it; the caller holds mu.
func (s *shard) take(b *aggregate.Block) {
	s.agg.Take(b)
	b.Items = b.Items[:0]
}

// work adds blocks and flushes rows that are due until full is closed and
// empty, then flushes everything.
func (s *shard) work() {
	tick := time.NewTimer(s.c.cfg.FlushInterval)
	defer tick.Stop()
	for more := false; ; {
		if more { // a flush goes on, and what came meanwhile has its turn
			runtime.Gosched()
			for range len(s.full) {
				s.add(<-s.full)
			}
			more = s.flush(false, flushSlice)
			continue
		}
		select {
		case <-tick.C:
			wait := s.untilFlush()
			if wait <= 0 {
				more = s.flush(false, flushSlice)
				wait = s.c.cfg.FlushInterval
			}
			tick.Reset(wait)
		case b, ok := <-s.full:
			if !ok {
				s.flushAll()
				return
			}
			s.add(b)
		}
	}
}

// add takes a block that was handed over and gives it back.
func (s *shard) add(b *aggregate.Block) {
	s.mu.Lock()
	s.take(b)
	s.mu.Unlock()
	s.empty <- b
	s.queued.Add(-1)
}

// flush hands over about limit of the rows that are due (0: all of them), with
// all everything there is, and reports whether there are more.
func (s *shard) flush(all bool, limit int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.within {
		s.begun = time.Now()
	}
	s.within = s.agg.Flush(s.c.now().UnixNano(), all, limit)
	return s.within
}

// untilFlush is how long the next round has to wait: FlushDue may just have made one.
func (s *shard) untilFlush() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.c.cfg.FlushInterval - time.Since(s.begun)
}

// flushDue ends the round that has begun and makes another, while ctx lasts.
func (s *shard) flushDue(ctx context.Context) {
	s.mu.Lock()
	more := s.within
	s.mu.Unlock()
	for more && ctx.Err() == nil {
		more = s.flush(false, flushSlice)
	}
	for more = true; more && ctx.Err() == nil; {
		more = s.flush(false, flushSlice)
	}
}

// flushAll hands over everything there is.
func (s *shard) flushAll() {
	for s.flush(true, 0) {
	}
}

// drain waits until every block that was handed over is added.
func (s *shard) drain() {
	for s.queued.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
}

// write passes rows on to the sink; the caller holds mu.
func (s *shard) write(b *flow.Batch) {
	err := s.c.deps.Sink.Write(b)
	if err == nil {
		return
	}
	s.c.counts.refused.Add(uint64(b.Rows()))
	if s.c.limits.refused.AllowN(s.c.now(), 1) {
		s.c.log.Error("the store refused rows; they are lost", zap.Int("rows", b.Rows()),
			zap.Uint64("refused_so_far", s.c.counts.refused.Load()), zap.Error(err))
	}
}

func (s *shard) reconfigure(cfg aggregate.Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agg.Reconfigure(cfg)
}

func (s *shard) stats() aggregate.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agg.Stats()
}
