package aggregate

import "slices"

// hashSet is a set of 64-bit hashes: open addressing, linear probing, at most
// half full. The values are mixed already, so their low bits are the slot.
type hashSet struct {
	tab []uint64 // power of two long; 0 is an empty slot
	n   int
}

const (
	hashSetMin  = 4
	hashSetKeep = 64 // slots that a reset set may keep
)

// add puts h into the set and returns the set's size.
func (s *hashSet) add(h uint64) int {
	if h == 0 {
		h = 1 // 0 marks an empty slot; one value in 2^64 shares its place
	}
	if 2*(s.n+1) > len(s.tab) {
		s.grow()
	}
	mask := uint64(len(s.tab) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch s.tab[i] {
		case h:
			return s.n
		case 0:
			s.tab[i] = h
			s.n++
			return s.n
		}
	}
}

func (s *hashSet) grow() {
	old := s.tab
	s.tab = make([]uint64, max(hashSetMin, 2*len(old)))
	mask := uint64(len(s.tab) - 1)
	for _, h := range old {
		if h == 0 {
			continue
		}
		i := h & mask
		for s.tab[i] != 0 {
			i = (i + 1) & mask
		}
		s.tab[i] = h
	}
}

// sorted returns the members in a slice of their own, ascending; nil if none.
func (s *hashSet) sorted() []uint64 {
	if s.n == 0 {
		return nil
	}
	out := make([]uint64, 0, s.n)
	for _, h := range s.tab {
		if h != 0 {
			out = append(out, h)
		}
	}
	slices.Sort(out)
	return out
}

// reset empties the set. A large table is given back: most keys have few
// remotes, and a slot that once held a scanner must not keep its memory.
func (s *hashSet) reset() {
	if len(s.tab) > hashSetKeep {
		s.tab = nil
	} else if s.n > 0 {
		clear(s.tab)
	}
	s.n = 0
}

// portList is a sorted list of distinct ports, at most maxSet long.
type portList []uint16

// add puts p into the list and returns its length.
func (l *portList) add(p uint16) int {
	if i, found := slices.BinarySearch(*l, p); !found {
		*l = slices.Insert(*l, i, p)
	}
	return len(*l)
}

func (l *portList) reset() {
	if cap(*l) > hashSetKeep {
		*l = nil
	}
	*l = (*l)[:0]
}
