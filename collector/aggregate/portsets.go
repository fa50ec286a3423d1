package aggregate

import "slices"

// portsRef names a sorted list of distinct ports in a portPool; 0 is the empty
// one. A single port, which is what nearly all pairs have, is in the ref itself.
type portsRef uint32

const (
	onePort      = 1 << 31
	portClassAt  = 27
	minPorts     = 4
	portClasses  = 11 // 4, 8 … 4096 ports: maxSet
	portChunk    = minPorts << (portClasses - 1)
	portRefsMask = 1<<portClassAt - 1
)

// portPool holds lists of ports in classes of size.
type portPool struct{ classes [portClasses]portClass }

type portClass struct {
	chunks [][]uint16
	length []uint16
	unused []uint32
}

func (r portsRef) split() (class int, i uint32) {
	return int(r >> portClassAt), uint32(r)&portRefsMask - 1
}

func (p *portPool) memory(class int, i uint32) []uint16 {
	size := uint32(minPorts) << class
	per := uint32(portChunk) / size
	return p.classes[class].chunks[i/per][i%per*size:][:size]
}

func (p *portPool) get(class int) portsRef {
	c := &p.classes[class]
	if len(c.unused) == 0 {
		per := portChunk >> class / minPorts
		c.chunks = append(c.chunks, make([]uint16, portChunk))
		for i := per; i > 0; i-- {
			c.unused = append(c.unused, uint32(len(c.length)+i-1))
		}
		c.length = append(c.length, make([]uint16, per)...)
	}
	i := c.unused[len(c.unused)-1]
	c.unused = c.unused[:len(c.unused)-1]
	return portsRef(class)<<portClassAt | portsRef(i+1)
}

// release empties the list and gives its memory back.
func (p *portPool) release(r *portsRef) {
	if *r != 0 && *r&onePort == 0 {
		class, i := r.split()
		c := &p.classes[class]
		c.length[i] = 0
		c.unused = append(c.unused, i)
	}
	*r = 0
}

// count is the number of ports.
func (p *portPool) count(r portsRef) int {
	switch {
	case r == 0:
		return 0
	case r&onePort != 0:
		return 1
	}
	class, i := r.split()
	return int(p.classes[class].length[i])
}

// add puts port into the list, which must have fewer than maxSet.
func (p *portPool) add(r *portsRef, port uint16) {
	switch {
	case *r == 0:
		*r = onePort | portsRef(port)
		return
	case *r == onePort|portsRef(port):
		return
	case *r&onePort != 0:
		first := uint16(*r)
		*r = p.get(0)
		p.add(r, first)
	}
	class, i := r.split()
	n := p.classes[class].length[i]
	l := p.memory(class, i)
	at, found := slices.BinarySearch(l[:n], port)
	if found {
		return
	}
	if int(n) == len(l) {
		bigger := p.get(class + 1)
		p.release(r)
		*r = bigger
		old := l
		class, i = r.split()
		l = p.memory(class, i)
		copy(l, old)
	}
	copy(l[at+1:n+1], l[at:n])
	l[at] = port
	p.classes[class].length[i] = n + 1
}

// appendTo appends the ports to dst, ascending.
func (p *portPool) appendTo(dst []uint16, r portsRef) []uint16 {
	switch {
	case r == 0:
		return dst
	case r&onePort != 0:
		return append(dst, uint16(r))
	}
	class, i := r.split()
	return append(dst, p.memory(class, i)[:p.classes[class].length[i]]...)
}
