package aggregate

// setRef names a set of hashes in a setPool; 0 is the empty set.
type setRef uint32

const (
	setClassBits = 4
	setClassAt   = 32 - setClassBits
	minSetSlots  = 4
	setClasses   = 12 // 4, 8 … 8192 slots: twice maxSet
	setChunk     = minSetSlots << (setClasses - 1)
)

// setPool holds the sets of distinct destinations: open addressing, at most half
// full, in classes of size. A set that has maxSet members is thinned: its level
// rises, and it keeps only the hashes whose lowest level bits are zero (see
// flow.ServiceWindow). The hashes are mixed already, so their upper bits are the
// slot, and a table in order is nearly sorted.
type setPool struct {
	classes [setClasses]setClass
	scratch [maxSet]uint64
}

type setClass struct {
	chunks [][]uint64
	meta   []setMeta
	unused []uint32
}

type setMeta struct {
	n     uint16
	level uint8
}

func (r setRef) split() (class int, i uint32) {
	return int(r >> setClassAt), uint32(r)&(1<<setClassAt-1) - 1
}

// slots is the memory of set i of a class; 0 is an empty slot.
func (p *setPool) slots(class int, i uint32) []uint64 {
	size := uint32(minSetSlots) << class
	per := uint32(setChunk) / size
	return p.classes[class].chunks[i/per][i%per*size:][:size]
}

func (p *setPool) get(class int) setRef {
	c := &p.classes[class]
	if len(c.unused) == 0 {
		per := setChunk >> class / minSetSlots
		c.chunks = append(c.chunks, make([]uint64, setChunk))
		for i := per; i > 0; i-- {
			c.unused = append(c.unused, uint32(len(c.meta)+i-1))
		}
		c.meta = append(c.meta, make([]setMeta, per)...)
	}
	i := c.unused[len(c.unused)-1]
	c.unused = c.unused[:len(c.unused)-1]
	return setRef(class)<<setClassAt | setRef(i+1)
}

// release empties the set and gives its memory back.
func (p *setPool) release(r *setRef) {
	if *r == 0 {
		return
	}
	class, i := r.split()
	clear(p.slots(class, i))
	c := &p.classes[class]
	c.meta[i] = setMeta{}
	c.unused = append(c.unused, i)
	*r = 0
}

// add puts h into the set.
func (p *setPool) add(r *setRef, h uint64) {
	if h == 0 {
		h = 1 // 0 marks an empty slot; one value in 2^64 shares its place
	}
	if *r == 0 {
		*r = p.get(0)
	}
	for {
		class, i := r.split()
		m := &p.classes[class].meta[i]
		if h&(1<<m.level-1) != 0 {
			return
		}
		s := p.slots(class, i)
		at, found := find(s, class, h)
		switch {
		case found:
			return
		case m.n == maxSet:
			p.thin(s, class, m)
		case 2*(int(m.n)+1) > len(s):
			p.enlarge(r)
		default:
			s[at] = h
			m.n++
			return
		}
	}
}

// where returns what add will read first.
func (p *setPool) where(r setRef, h uint64) (*setMeta, *uint64) {
	class, i := r.split()
	return &p.classes[class].meta[i], &p.slots(class, i)[h>>(64-2-class)]
}

// find returns the slot of h, or the empty one where it belongs.
func find(s []uint64, class int, h uint64) (at uint64, found bool) {
	mask := uint64(len(s) - 1)
	for at = h >> (64 - 2 - class); ; at = (at + 1) & mask {
		switch s[at&mask] {
		case h:
			return at, true
		case 0:
			return at, false
		}
	}
}

func (p *setPool) enlarge(r *setRef) {
	class, i := r.split()
	bigger := p.get(class + 1)
	_, j := bigger.split()
	s := p.slots(class+1, j)
	for _, h := range p.slots(class, i) {
		if h != 0 {
			at, _ := find(s, class+1, h)
			s[at] = h
		}
	}
	p.classes[class+1].meta[j] = p.classes[class].meta[i]
	p.release(r)
	*r = bigger
}

// thin raises the level by one.
func (p *setPool) thin(s []uint64, class int, m *setMeta) {
	m.level++
	keep := p.scratch[:0]
	for _, h := range s {
		if h != 0 && h&(1<<m.level-1) == 0 {
			keep = append(keep, h)
		}
	}
	clear(s)
	for _, h := range keep {
		at, _ := find(s, class, h)
		s[at] = h
	}
	m.n = uint16(len(keep))
}

// appendTo appends the members to dst, ascending.
func (p *setPool) appendTo(dst []uint64, r setRef) (_ []uint64, level uint8) {
	if r == 0 {
		return dst, 0
	}
	class, i := r.split()
	first := len(dst)
	for _, h := range p.slots(class, i) {
		if h == 0 {
			continue
		}
		at := len(dst)
		dst = append(dst, h)
		for ; at > first && dst[at-1] > h; at-- { // out of order by a collision only
			dst[at] = dst[at-1]
		}
		dst[at] = h
	}
	return dst, p.classes[class].meta[i].level
}
