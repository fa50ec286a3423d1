package aggregate

import (
	"math/bits"

	"github.com/flowcordon/flowcordon/flow"
)

// Aggregator holds the open windows of one shard. It is not safe for
// concurrent use.
type Aggregator struct {
	cfg  Config
	mask ip // of v6 tenants

	windows  windows
	hosts    table[hostRow]
	services table[serviceRow]
	pairs    table[pairRow]
	upper    upperWords // of pairs
	remotes  setPool
	ports    portPool
	turn     uint32 // which way eviction looks at first

	chunk chunk
	round round
	stats aggregatorStats

	// Scratch.
	spans    []span
	pipeline pipeline
}

// table holds the keys of one kind in all windows.
type table[T any] struct {
	index index
	rows  slab[T]
	max   int      // keys
	hot   []uint32 // rows that are due before their window
	due   []uint32 // those of them that the present round hands over
	full  uint64   // contributions that found no room
}

func (t *table[T]) init(mem *memory, choices uint32) {
	t.index, t.rows.mem = newIndex(mem, minBuckets, choices), mem
}

// minBuckets is the size of an index without keys.
const minBuckets = 16

// maxBuckets bounds an index of max keys: it is a quarter to a half full then.
func maxBuckets(keys int) int {
	return max(minBuckets, 1<<bits.Len(uint(2*keys/ways)))
}

// New returns an Aggregator without windows. write is called, by Take and
// Flush, with rows that are due or full, in chunks of at most ChunkRows; a batch
// is valid until write returns. New panics if cfg does not Validate: a user's
// configuration is checked before.
func New(cfg Config, write func(*flow.Batch)) *Aggregator {
	if err := cfg.Validate(); err != nil {
		panic("aggregate: " + err.Error())
	}
	a := &Aggregator{}
	a.chunk.write = write
	a.windows.init()
	mem := newMemory(a)
	a.hosts.init(mem, 2)
	a.services.init(mem, 2)
	a.pairs.init(mem, 1) // nearly all are new, and one that finds no room takes another's
	a.set(cfg)
	return a
}

func (a *Aggregator) set(cfg Config) {
	a.cfg = cfg.withDefaults()
	a.mask = maskOf(a.cfg.V6TenantBits)
	a.hosts.max, a.services.max, a.pairs.max = a.cfg.MaxKeys, a.cfg.MaxKeys, a.cfg.MaxPairs
}

// Reconfigure replaces the configuration for records that come from now on.
// Open windows stay. An error leaves everything as it was.
func (a *Aggregator) Reconfigure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	a.set(cfg)
	return nil
}

// hashes of rows, for an index that grows.

func (a *Aggregator) hostHash(row uint32) (uint64, uint16) {
	h := a.hosts.rows.at(row)
	return hashHost(hashTenant(h.tenant), h.rate), h.win
}

func (a *Aggregator) serviceHash(row uint32) (uint64, uint16) {
	s := a.services.rows.at(row)
	h, win := a.hostHash(s.host)
	return hashService(h, s.svc, s.proto, s.role), win
}

func (a *Aggregator) pairHash(row uint32) (uint64, uint16) {
	p := a.pairs.rows.at(row)
	h, win := a.hostHash(p.host)
	return hashPair(h, a.remote(p, row), p.proto), win
}

// grow doubles the index of a kind, if it may.
func (a *Aggregator) grow(kind int) bool {
	var ok bool
	switch kind {
	case kindHosts:
		ok = a.hosts.grow(a.hostHash)
	case kindServices:
		ok = a.services.grow(a.serviceHash)
	case kindPairs:
		ok = a.pairs.grow(a.pairHash)
	}
	if ok {
		for _, w := range a.windows.byID[1:] {
			w.keys[kind].drop() // the keys lie elsewhere now
		}
		a.round.restart(kind)
	}
	return ok
}

func (t *table[T]) grow(hash func(uint32) (uint64, uint16)) bool {
	x, ok := t.index.grown(maxBuckets(t.max), hash)
	if ok {
		t.index = x
	}
	return ok
}

// remote is the pair's remote address.
func (a *Aggregator) remote(p *pairRow, row uint32) ip {
	r := ip{lo: p.remote}
	if p.flags&rowWide != 0 {
		r.hi = a.upper.at(row)
	}
	return r
}

// newKey returns a free way for a new key of a kind, or ok false if there is no
// room.
func newKey[T any](a *Aggregator, t *table[T], kind int, hash uint64, win uint16) (at uint32, ok bool) {
	if t.index.n >= t.max {
		return 0, false
	}
	for {
		if at, ok := t.index.free(t.index.at(hash, win)); ok {
			return at, true
		}
		if !a.grow(kind) {
			return 0, false
		}
	}
}
