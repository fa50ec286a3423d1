package collector

import (
	"sync"

	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// lane decodes what a share of the exporters send and routes it to the shards.
// It serves one socket of each listen address.
type lane struct {
	shards []*shard
	emit   func([]flow.Record) // what dec calls: route

	// mu guards what follows. A reader holds it for one batch; who reads
	// counters or saves state takes it for a moment.
	mu     sync.Mutex
	dec    *decode.Decoder
	front  *aggregate.Front
	blocks []*aggregate.Block // one for each shard, being filled
}

func newLane(c *Collector, cfg Config) *lane {
	l := &lane{
		shards: c.shards,
		dec:    decode.New(cfg.Decode, decode.Deps{Log: c.log.Named("decode")}),
		front:  aggregate.NewFront(cfg.Aggregate, len(c.shards)),
	}
	for range c.shards {
		l.blocks = append(l.blocks, new(aggregate.Block))
	}
	l.emit = l.route
	return l
}

// route sends both sides of each record on their way; full blocks leave.
func (l *lane) route(rs []flow.Record) {
	l.front.Route(rs, l.blocks)
	for i, b := range l.blocks {
		if len(b.Items) >= blockItems {
			l.blocks[i] = l.shards[i].hand(b)
		}
	}
}

// settle hands over blocks that are not full.
func (l *lane) settle() {
	for i, b := range l.blocks {
		if len(b.Items) > 0 {
			l.blocks[i] = l.shards[i].handRest(b)
		}
	}
}

func (l *lane) reconfigure(cfg Config) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dec.Reconfigure(cfg.Decode)
	return l.front.Reconfigure(cfg.Aggregate)
}

func (l *lane) stats() (decode.Stats, aggregate.Stats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dec.Stats(), l.front.Stats()
}
