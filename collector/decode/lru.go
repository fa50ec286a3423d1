package decode

// lru is a map that remembers the order of use. It does not evict by itself:
// the owner asks for the oldest when its bound is reached.
type lru[K comparable, V any] struct {
	m          map[K]*lruNode[K, V]
	head, tail *lruNode[K, V] // head: most recently used
}

type lruNode[K comparable, V any] struct {
	key        K
	val        V
	prev, next *lruNode[K, V]
}

func (l *lru[K, V]) len() int { return len(l.m) }

// get returns the value of k and marks it as used.
func (l *lru[K, V]) get(k K) (V, bool) {
	if l.head != nil && l.head.key == k { // mostly it is the one of the last time
		return l.head.val, true
	}
	n, ok := l.m[k]
	if !ok {
		var zero V
		return zero, false
	}
	l.unlink(n)
	l.pushFront(n)
	return n.val, true
}

// put sets k, which must not be present.
func (l *lru[K, V]) put(k K, v V) {
	if l.m == nil {
		l.m = make(map[K]*lruNode[K, V])
	}
	n := &lruNode[K, V]{key: k, val: v}
	l.m[k] = n
	l.pushFront(n)
}

// remove takes k out and returns what it was.
func (l *lru[K, V]) remove(k K) (V, bool) {
	n, ok := l.m[k]
	if !ok {
		var zero V
		return zero, false
	}
	delete(l.m, k)
	l.unlink(n)
	return n.val, true
}

// oldest returns the key and value least recently used.
func (l *lru[K, V]) oldest() (k K, v V, ok bool) {
	if l.tail == nil {
		return k, v, false
	}
	return l.tail.key, l.tail.val, true
}

// all calls fn from the most to the least recently used; fn may remove.
func (l *lru[K, V]) all(fn func(K, V)) {
	for n := l.head; n != nil; {
		next := n.next
		fn(n.key, n.val)
		n = next
	}
}

func (l *lru[K, V]) unlink(n *lruNode[K, V]) {
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		l.head = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		l.tail = n.prev
	}
	n.prev, n.next = nil, nil
}

func (l *lru[K, V]) pushFront(n *lruNode[K, V]) {
	n.next = l.head
	if l.head != nil {
		l.head.prev = n
	}
	l.head = n
	if l.tail == nil {
		l.tail = n
	}
}
