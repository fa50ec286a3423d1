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
	hosts    keyed[hostRow]
	services keyed[serviceRow]
	pairs    pairTable
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

// table holds the rows of one kind in all windows.
type table[T any] struct {
	rows slab[T]
	max  int      // keys
	hot  []uint32 // rows that are due before their window
	due  []uint32 // those of them that the present round hands over
	heat uint     // by how many bits a row must be hotter than usual
	full uint64   // contributions that found no room
}

// keyed is a table of hosts or of services.
type keyed[T any] struct {
	table[T]
	index index
	own   int // services that are found by their hosts, not in the index
}

func (t *keyed[T]) keys() int { return t.index.n + t.own }

type pairTable struct {
	table[pairRow]
	index   pairIndex
	gaveWay uint64 // pairs to others, for want of room
}

// minBuckets is the size of an index without keys.
const minBuckets = 16

// maxBuckets bounds an index of max keys: it is a quarter to a half full then.
func maxBuckets(keys, ways int) int {
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
	a.hosts.index, a.hosts.rows.mem = newIndex(mem, minBuckets), mem
	a.services.index, a.services.rows.mem = newIndex(mem, minBuckets), mem
	a.pairs.index, a.pairs.rows.mem = newPairIndex(mem, minBuckets), mem
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
	return hashHost(hashTenant(h.tenant()), h.rate), h.win
}

func (a *Aggregator) serviceHash(row uint32) (uint64, uint16) {
	s := a.services.rows.at(row)
	h, win := a.hostHash(s.host)
	return hashService(h, s.svc, s.proto, s.role), win
}

func (a *Aggregator) pairHash(e *pairEntry) uint64 {
	h, _ := a.hostHash(e.host())
	switch form := e.key & pairFormMask; form {
	case formOther, formV6:
		p := a.pairs.rows.at(e.row())
		return hashPair(h, a.remote(p, e.row()), p.proto)
	default:
		return hashPair(h, ip{lo: v4Prefix | e.key>>32}, formProtos[form])
	}
}

// grow doubles the index of a kind, if it may.
func (a *Aggregator) grow(kind int) (ok bool) {
	switch kind {
	case kindHosts:
		ok = a.hosts.grow(a.hostHash)
	case kindServices:
		ok = a.services.grow(a.serviceHash)
	case kindPairs:
		var x pairIndex
		if x, ok = a.pairs.index.grown(maxBuckets(a.pairs.max, pairWays), a.pairHash); ok {
			a.pairs.index = x
		}
	}
	if ok {
		for _, w := range a.windows.byID[1:] {
			w.keys[kind].drop() // the keys lie elsewhere now
		}
		a.round.restart(kind)
	}
	return ok
}

func (t *keyed[T]) grow(hash func(uint32) (uint64, uint16)) bool {
	x, ok := t.index.grown(maxBuckets(t.max, ways), hash)
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
func newKey[T any](a *Aggregator, t *keyed[T], kind int, hash uint64, win uint16) (at uint32, ok bool) {
	if t.keys() >= t.max {
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
