package aggregate

import (
	"github.com/flowcordon/flowcordon/flow"
)

// The keys within a window. No pointers and no padding: the map hashes them as
// one piece of memory.
type (
	hostKey struct {
		tenant addr16
		rate   uint32
	}
	serviceKey struct {
		tenant addr16
		rate   uint32
		svc    uint16
		proto  uint8
		role   flow.Role
	}
	pairKey struct {
		tenant, remote addr16
		rate           uint32
		proto          uint32
	}
)

// The counters of one key since its last row.
type (
	host struct {
		flow.Counts
		flow.Classes
		udpOut, icmpOut, icmpErrOut, bogonOut, spoofOut uint64
		attempts                                        uint64 // decides when the row is due; not stored
	}
	service struct {
		flow.Counts
		flow.Classes
		attempts uint64
		remotes  hashSet
	}
	pair struct {
		flow.Counts
		flow.Classes
		synPackets, estOut, rstIn uint64
		ports                     portList
		emitted                   bool // a row of this key went out hot; survives reset
	}
)

func (h *host) reset() { *h = host{} }

func (s *service) reset() {
	set := s.remotes
	set.reset()
	*s = service{remotes: set}
}

func (p *pair) reset() {
	l := p.ports
	l.reset()
	*p = pair{ports: l, emitted: p.emitted}
}

// entry is one key of a table with its counters.
type entry[K comparable, V any] struct {
	key   K
	dirty bool // counted something since the last row
	hot   bool // is in the table's hot list
	val   V
}

// table holds the keys of one kind in one window. Entries lie in a slice, so
// that a table costs the garbage collector next to nothing.
type table[K comparable, V any] struct {
	index map[K]uint32
	rows  []entry[K, V]
	hot   []uint32
}

// budget is the number of keys of one kind over all windows.
type budget struct {
	used, max int
	refused   uint64 // contributions that found no room
}

// at returns the entry of k, made if need be, or nil if there is no room. The
// pointer is good until the next call.
func (t *table[K, V]) at(k K, b *budget) (*entry[K, V], uint32) {
	i, ok := t.index[k]
	if !ok {
		if b.used >= b.max {
			b.refused++
			return nil, 0
		}
		b.used++
		i = uint32(len(t.rows))
		t.index[k] = i
		if len(t.rows) < cap(t.rows) {
			t.rows = t.rows[:i+1] // keeps what memory the slot's sets have
		} else {
			t.rows = append(t.rows, entry[K, V]{})
		}
		t.rows[i].key = k
	}
	e := &t.rows[i]
	e.dirty = true
	return e, i
}

func (t *table[K, V]) heat(e *entry[K, V], i uint32) {
	if !e.hot {
		e.hot = true
		t.hot = append(t.hot, i)
	}
}

// order appends the indexes of the dirty rows, or of the hot ones, in the order
// in which they first came or became hot: the same for the same records. Sorting
// them by key was a third of the collector's CPU and helped nobody, as
// ClickHouse sorts what it takes.
func (t *table[K, V]) order(dst []uint32, hotOnly bool) []uint32 {
	if hotOnly {
		for _, i := range t.hot {
			if t.rows[i].dirty {
				dst = append(dst, i)
			}
			t.rows[i].hot = false
		}
		t.hot = t.hot[:0]
	} else {
		for i := range t.rows {
			if t.rows[i].dirty {
				dst = append(dst, uint32(i))
			}
		}
	}
	return dst
}

// release empties the table, all of whose rows were emitted, for its next use.
func (t *table[K, V]) release(b *budget) {
	b.used -= len(t.rows)
	clear(t.index)
	for i := range t.rows {
		t.rows[i].dirty, t.rows[i].hot = false, false
	}
	t.rows, t.hot = t.rows[:0], t.hot[:0]
}

// window is one slot of event time.
type window struct {
	start    int64 // seconds
	opened   int64 // arrival of the record that opened it, ns
	hosts    table[hostKey, host]
	services table[serviceKey, service]
	pairs    table[pairKey, pair]
}

func newWindow() *window {
	return &window{
		hosts:    table[hostKey, host]{index: make(map[hostKey]uint32)},
		services: table[serviceKey, service]{index: make(map[serviceKey]uint32)},
		pairs:    table[pairKey, pair]{index: make(map[pairKey]uint32)},
	}
}
