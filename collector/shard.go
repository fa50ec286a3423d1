package collector

import (
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// shard decodes and aggregates what a share of the exporters send.
type shard struct {
	c     *Collector
	queue *queue

	// mu guards dec and agg. The worker holds it for one datagram at a time;
	// who reads counters or saves state takes it for a moment.
	mu  sync.Mutex
	dec *decode.Decoder
	agg *aggregate.Local
	add func([]flow.Record)
}

func newShard(c *Collector, cfg Config) *shard {
	s := &shard{
		c:     c,
		queue: newQueue(cfg.QueueBytes),
		dec:   decode.New(cfg.Decode, decode.Deps{Log: c.log.Named("decode")}),
	}
	s.agg = aggregate.NewLocal(cfg.Aggregate, s.write)
	s.add = s.agg.AddRun
	return s
}

// work runs until the queue is closed and empty, then flushes everything.
func (s *shard) work() {
	tick := time.NewTicker(s.c.cfg.FlushInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.flush(false)
		case it, ok := <-s.queue.items:
			if !ok {
				s.flush(true)
				return
			}
			s.handle(it)
		}
	}
}

func (s *shard) handle(it item) {
	if it.request != nil {
		it.request()
		return
	}
	if s.c.abandon.Load() {
		s.c.counts.shutdown.Add(1)
		s.queue.free(it)
		return
	}
	s.mu.Lock()
	s.dec.Decode(decode.Datagram{Exporter: it.from, Received: it.received, Payload: *it.buf, Kind: it.kind}, s.add)
	s.mu.Unlock()
	s.queue.free(it)
}

// flush hands the rows that are due to the sink; all: everything there is.
func (s *shard) flush(all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agg.Flush(s.c.now().UnixNano(), all)
}

// write hands rows to the sink.
func (s *shard) write(b *flow.Batch) {
	if err := s.c.deps.Sink.Write(b); err != nil {
		s.c.counts.refused.Add(uint64(b.Rows()))
		if s.c.limits.refused.AllowN(s.c.now(), 1) {
			s.c.log.Error("the store refused rows; they are lost", zap.Int("rows", b.Rows()),
				zap.Uint64("refused_so_far", s.c.counts.refused.Load()), zap.Error(err))
		}
	}
}

// shardOf returns the shard of an exporter, the same for as long as the number
// of shards is: its templates are there.
func (c *Collector) shardOf(addr netip.Addr) *shard {
	return c.shards[shardIndex(addr, len(c.shards))]
}

// shardIndex is FNV-1a (64 bits) over the address, high half, modulo n.
func shardIndex(addr netip.Addr, n int) int {
	h := uint64(14695981039346656037)
	for _, b := range addr.As16() {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return int((h >> 32) % uint64(n))
}
