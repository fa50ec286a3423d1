package aggregate

import "math/bits"

// ownServices names the rows of a host's first services in a window; few hosts
// have more. They are found where the host is, and need no index. Those beyond
// them, as of a port scan, are in the index of services.
type ownServices struct {
	rows [ownSlots]uint32
	tags [ownSlots]uint16
	n    uint8
}

const ownSlots = 6

// serviceTag is the part of a service's hash by which its host knows it; never
// 0, which is the tag of a free slot.
func serviceTag(hash uint64) uint16 { return uint16(hash>>48) | 1 }

// match returns a bit for each slot with that tag. Where a service is nothing
// foretells, so no branch asks.
func (o *ownServices) match(tag uint16) (m uint32) {
	if o.tags[5] == tag {
		m = 1 << 5
	}
	if n := m | 1<<4; o.tags[4] == tag {
		m = n
	}
	if n := m | 1<<3; o.tags[3] == tag {
		m = n
	}
	if n := m | 1<<2; o.tags[2] == tag {
		m = n
	}
	if n := m | 1<<1; o.tags[1] == tag {
		m = n
	}
	if n := m | 1; o.tags[0] == tag {
		m = n
	}
	return m
}

// row returns the row of the first service with that tag, or noRow. Whether it
// is the one that was meant, the row tells.
func (o *ownServices) row(tag uint16) uint32 {
	m := o.match(tag)
	if m == 0 {
		return noRow
	}
	return o.rows[bits.TrailingZeros32(m)%ownSlots]
}

func (o *ownServices) full() bool { return o.n == ownSlots }

func (o *ownServices) put(tag uint16, row uint32) {
	o.rows[o.n], o.tags[o.n] = row, tag
	o.n++
}

func (s *serviceRow) is(it *Item, host uint32) bool {
	return s.host == host && s.svc == it.svc && s.proto == it.proto && s.role == it.role
}

// service returns the row of the item's service, made if need be, or nil if
// there is no room.
func (a *Aggregator) service(it *Item, c *contribution, host uint32, h *hostRow) (uint32, *serviceRow) {
	if c.serviceRow != noRow {
		if s := a.services.rows.at(c.serviceRow); s.is(it, host) {
			return c.serviceRow, s
		}
	}
	own, tag := &h.services, serviceTag(c.service)
	for m := own.match(tag); m != 0; m &= m - 1 {
		row := own.rows[bits.TrailingZeros32(m)%ownSlots]
		if s := a.services.rows.at(row); s.is(it, host) {
			return row, s
		}
	}
	if own.full() {
		return a.indexedService(it, c, host)
	}
	if a.services.keys() >= a.services.max {
		return 0, nil
	}
	row, s := a.newService(it, host)
	own.put(tag, row)
	a.services.own++
	return row, s
}

// indexedService is that of a service for which its host has no slot.
func (a *Aggregator) indexedService(it *Item, c *contribution, host uint32) (uint32, *serviceRow) {
	x := &a.services.index
	first, tag := x.at(c.service, c.window.handle), tagOf(c.service, c.window.handle)
	for n := range uint32(2) {
		for _, k := range &x.buckets[first^n] {
			if uint32(k>>32) == tag {
				if s := a.services.rows.at(rowOf(k)); s.is(it, host) {
					return rowOf(k), s
				}
			}
		}
	}
	at, ok := newKey(a, &a.services, kindServices, c.service, c.window.handle)
	if !ok {
		return 0, nil
	}
	row, s := a.newService(it, host)
	x.put(at, tag, row)
	c.window.keys[kindServices].add(at, x.capacity())
	return row, s
}

func (a *Aggregator) newService(it *Item, host uint32) (uint32, *serviceRow) {
	row := a.services.rows.get()
	s := a.services.rows.at(row)
	*s = serviceRow{host: host, svc: it.svc, proto: it.proto, role: it.role}
	return row, s
}

// addRemote takes a destination of an attempt down. Most services see one in a
// window, or always the same: that needs no set.
func (a *Aggregator) addRemote(s *serviceRow, remote ip) {
	switch {
	case s.flags&rowOne != 0:
		if remote == s.one() {
			return
		}
		first := s.one()
		s.remotes, s.flags = 0, s.flags&^rowOne
		a.remotes.add(&s.remotes, hashRemote(first))
	case s.remotes == 0 && remote.is4():
		s.remotes, s.flags = setRef(remote.lo), s.flags|rowOne
		return
	}
	a.remotes.add(&s.remotes, hashRemote(remote))
}

// one is the only destination of a service with rowOne.
func (s *serviceRow) one() ip { return ip{lo: v4Prefix | uint64(s.remotes)} }

// takeRemotes appends the destinations to dst, ascending by hash, and forgets them.
func (a *Aggregator) takeRemotes(dst []uint64, s *serviceRow) (_ []uint64, level uint8) {
	if s.flags&rowOne != 0 {
		return append(dst, hashRemote(s.one())), 0
	}
	dst, level = a.remotes.appendTo(dst, s.remotes)
	a.remotes.release(&s.remotes)
	return dst, level
}

// closeOwn hands over the services of a closing window's host, and returns how
// many there were.
func (a *Aggregator) closeOwn(h *hostRow) int {
	o := &h.services
	for _, row := range o.rows[:o.n] {
		a.closeService(row)
	}
	a.services.own -= int(o.n)
	return int(o.n)
}

func (a *Aggregator) closeService(row uint32) {
	a.services.rows.put(row)
	if s := a.services.rows.at(row); s.flags&rowDirty != 0 {
		a.emitService(s)
	}
}
