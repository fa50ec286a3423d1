package aggregate

import "github.com/flowcordon/flowcordon/flow"

// Local is a Front with one shard and its Aggregator in one, for tests, replay
// and tools. It belongs to one goroutine.
type Local struct {
	front  *Front
	agg    *Aggregator
	blocks []*Block
	one    [1]flow.Record
}

// NewLocal returns a Local without windows; see New for write. It panics if cfg
// does not Validate.
func NewLocal(cfg Config, write func(*flow.Batch)) *Local {
	return &Local{front: NewFront(cfg, 1), agg: New(cfg, write), blocks: []*Block{{}}}
}

// Add takes in one record; r.Received is "now". The record is not kept.
func (l *Local) Add(r *flow.Record) {
	l.one[0] = *r
	l.AddRun(l.one[:])
}

// localRun is how many records are routed before their items are taken: enough
// to overlap their memory accesses, few enough to stay in the cache.
const localRun = 256

// AddRun takes in records in order. None is kept.
func (l *Local) AddRun(rs []flow.Record) {
	b := l.blocks[0]
	for len(rs) > 0 {
		n := min(len(rs), localRun)
		l.front.Route(rs[:n], l.blocks)
		l.agg.Take(b)
		b.Items = b.Items[:0]
		rs = rs[n:]
	}
}

// Flush hands over all rows that are due at now (ns), or all there are.
func (l *Local) Flush(now int64, all bool) {
	for l.agg.Flush(now, all, 0) {
	}
}

// Reconfigure replaces the configuration for records that come from now on. An
// error leaves everything as it was.
func (l *Local) Reconfigure(cfg Config) error {
	if err := l.front.Reconfigure(cfg); err != nil {
		return err
	}
	return l.agg.Reconfigure(cfg)
}

// Stats returns the totals: Records = Aggregated + Σ Dropped.
func (l *Local) Stats() Stats {
	s := l.front.Stats()
	s.Merge(l.agg.Stats())
	return s
}
