package store

import (
	lru "container/list"
	"sync"
	"time"
)

// Answers are kept for as long as nobody would see the difference.
const (
	maxMemo     = 32 << 20         // bytes
	openMemo    = 2 * time.Second  // the range reaches to where rows still come in
	maxOpenMemo = 5 * time.Second  // and the answer is slow
	closedMemo  = 30 * time.Second // it ended long ago
	// closedAfter is how long after its end a range is taken for closed: exporters'
	// timeouts, the spool and the hour's rollup are through.
	closedAfter = time.Hour
)

// memo keeps answers, the least used go first.
type memo struct {
	mu    sync.Mutex
	bytes int
	byKey map[string]*lru.Element
	used  *lru.List // of *kept, the latest first
}

type kept struct {
	key   string
	value any
	bytes int
	until time.Time
}

func newMemo() *memo { return &memo{byKey: map[string]*lru.Element{}, used: lru.New()} }

func (m *memo) get(key string, now time.Time) (any, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.byKey[key]
	if !ok {
		return nil, false
	}
	k := e.Value.(*kept)
	if !now.Before(k.until) {
		m.remove(e)
		return nil, false
	}
	m.used.MoveToFront(e)
	return k.value, true
}

// put keeps a value of so many bytes; what is large against the whole is not kept.
func (m *memo) put(key string, value any, bytes int, until time.Time) {
	bytes += len(key) + 200 // of the entry itself
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.byKey[key]; ok {
		m.remove(e)
	}
	if bytes > maxMemo/8 {
		return
	}
	for m.bytes+bytes > maxMemo {
		m.remove(m.used.Back())
	}
	m.byKey[key] = m.used.PushFront(&kept{key, value, bytes, until})
	m.bytes += bytes
}

func (m *memo) remove(e *lru.Element) {
	k := e.Value.(*kept)
	m.used.Remove(e)
	delete(m.byKey, k.key)
	m.bytes -= k.bytes
}

func (m *memo) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes
}
