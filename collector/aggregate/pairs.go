package aggregate

import (
	"math"
	"math/bits"

	"github.com/flowcordon/flowcordon/flow"
)

// What a pair is worth when room is short, in the lowest bits of pairEntry.val.
const (
	_         = iota // one contribution: most pairs, and never more
	worthMany        // several
	worthHalf        // a fourth of the packets of the floor
	worthKeep        // above the floor, or a row of it went out: stored in any case

	worthMask = 3
)

func (a *Aggregator) addPair(it *Item, c *contribution, host uint32, large *span) {
	e := a.pair(it, c, host, large)
	if e == nil {
		return
	}
	row := e.row()
	pair := a.pairs.rows.at(row)
	if large == nil && c.bytes > math.MaxUint32 {
		whole := c.span
		large, c.packets, c.bytes, c.syn = &whole, 0, 0, 0
	}
	if large != nil {
		a.emitLargePair(it, pair, row, large)
		e.val |= worthKeep
	}
	if pair.full(it.dir, &c.span) {
		a.emitPair(pair, row)
		e.val |= worthKeep
	}
	if pair.flags&rowDirty != 0 {
		e.val |= worthMany
	}
	a.takePair(it, pair, &c.span, c.last)
	if a.ports.count(pair.ports) == maxSet {
		a.emitPair(pair, row)
		e.val |= worthKeep
		return
	}
	a.judge(it.rate, pair, row, &e.val)
}

// takePair counts a contribution.
func (a *Aggregator) takePair(it *Item, pair *pairRow, s *span, last bool) {
	pair.flags |= rowDirty
	pair.count(it.dir, s)
	switch {
	case it.counter == cEst:
		pair.est += uint32(s.packets)
	case it.counter == cIn+cRST:
		pair.rst += uint32(s.packets)
	case it.dir == out:
		pair.syn += uint32(s.syn)
	}
	if last {
		pair.records[it.dir&1]++
		pair.classify(it)
		if it.set&itemPort != 0 {
			a.ports.add(&pair.ports, it.remotePort)
		}
	}
}

// judge says what the pair is worth now, and whether it is due.
func (a *Aggregator) judge(rate uint32, p *pairRow, row uint32, val *uint64) {
	ports := a.ports.count(p.ports) // with two or more the pair is above the floor: no list is ever dropped
	if *val&worthMask != worthKeep {
		did := PairDid{Rate: rate, IPProto: p.proto, OutPackets: uint64(p.packets[out]), InPackets: uint64(p.packets[in]),
			SYNPackets: uint64(p.syn), RSTIn: uint64(p.rst), SYNPorts: ports}
		switch {
		case PairFloor(did):
			*val |= worthKeep
		case uint64(max(p.packets[out], p.packets[in]))*uint64(rate) >= pairFloorEst/4:
			*val = *val&^worthMask | worthHalf
		}
	}
	if p.flags&rowHot != 0 {
		return
	}
	answers := p.rst
	if p.proto == flow.ProtoUDP {
		answers = p.packets[in]
	}
	heat := a.pairs.heat
	if ports >= hotPorts<<heat || uint64(p.packets[out])*uint64(rate) >= hotPairOut<<heat || uint64(answers)*uint64(rate) >= hotPairIn<<heat {
		p.flags |= rowHot
		*val |= worthKeep // what goes out early goes out whole
		a.pairs.hot = append(a.pairs.hot, row)
	}
}

// findPair returns where the pair of that name is, in its own bucket or the one
// beside: bucket·pairWays + way, or noPair. Without an item the name must do.
func (a *Aggregator) findPair(at uint32, name uint64, it *Item) uint32 {
	x := &a.pairs.index
	m, full := x.bucket(at).match(name)
	if m == 0 && full {
		at ^= 1
		m, _ = x.bucket(at).match(name)
	}
	for ; m != 0; m &= m - 1 { // more than one: names that do not say all
		i := at*pairWays + uint32(bits.TrailingZeros64(m))
		if a.isPair(x.way(i), it) {
			return i
		}
	}
	return noPair
}

const noPair = ^uint32(0)

// isPair asks the row if the name does not say all; without an item the name
// must do.
func (a *Aggregator) isPair(e *pairEntry, it *Item) bool {
	if e.key&pairFormMask < formOther || it == nil {
		return true
	}
	p := a.pairs.rows.at(e.row())
	return p.remote == it.remote.lo && p.proto == it.proto && a.remote(p, e.row()).hi == it.remote.hi
}

// pair returns the entry of the item's remote and protocol, with a row, made if
// need be. It is nil when the contribution was kept as a single, or there is no
// room for it.
func (a *Aggregator) pair(it *Item, c *contribution, host uint32, large *span) *pairEntry {
	name := nameOf(it.remote, it.proto, c.pair, host)
	i := c.entry // may have gone, or moved
	if i == noPair || a.pairs.index.way(i).key&pairName != name || !a.isPair(a.pairs.index.way(i), it) {
		i = a.findPair(a.pairs.index.at(c.pair, c.window.handle), name, it)
	}
	if i != noPair {
		e := a.pairs.index.way(i)
		if e.single() {
			a.promote(e)
		}
		return e
	}
	e, displaced := a.newPair(c.pair, c.window.handle)
	if e == nil {
		a.pairs.full++
		return nil
	}
	if large == nil && fitsSingle(it, c) {
		*e = singleOf(name|displaced, it, c)
		return nil
	}
	row := a.pairs.rows.get()
	*e = pairEntry{key: name | displaced, val: uint64(row)<<32 | uint64(c.window.handle)<<pairWinAt}
	p := a.pairs.rows.at(row)
	*p = pairRow{host: host, remote: it.remote.lo, proto: it.proto}
	if it.remote.hi != 0 {
		p.flags = rowWide
		a.upper.set(row, it.remote.hi)
	}
	return e
}

// promote gives a single a row.
func (a *Aggregator) promote(e *pairEntry) {
	var first Item
	var s span
	e.unpack(&first, &s)
	row := a.pairs.rows.get()
	p := a.pairs.rows.at(row)
	*p = pairRow{host: e.host(), remote: v4Prefix | e.key>>32, proto: first.proto}
	a.takePair(&first, p, &s, true)
	e.key &= pairName | pairDisplaced
	e.val = uint64(row)<<32 | uint64(e.win())<<pairWinAt
}

// newPair returns a free way for a pair: another gives way if there is none. It
// is nil if there is no pair that could.
func (a *Aggregator) newPair(hash uint64, win uint16) (e *pairEntry, displaced uint64) {
	x := &a.pairs.index
	at := x.at(hash, win)
	l := &a.windows.byID[win].keys[kindPairs]
	if x.n < a.pairs.max {
		e, displaced = x.free(at)
		for e == nil && a.grow(kindPairs) {
			at = x.at(hash, win)
			e, displaced = x.free(at)
		}
	} else if e = a.giveWay(at); e != nil {
		l.add(at&^1, x.capacity())
		return e, 0
	}
	if e == nil {
		if !a.evict(at) {
			return nil, 0
		}
		e, displaced = x.free(at)
	}
	x.n++
	l.add(at&^1, x.capacity())
	return e, displaced
}

// giveWay returns the place of the pair that is worth least in the very bucket
// at, for another of that bucket; nil: there is none that could be dropped. Where
// more pairs come than there is room for, most records bring one, and this is
// the short way: it looks at no other cache line. Whether the bucket is full, by
// which its displaced pairs are found, stays as it was.
func (a *Aggregator) giveWay(at uint32) *pairEntry {
	b := a.pairs.index.bucket(at)
	a.turn++
	way, worth := b.least(a.turn)
	if worth >= worthKeep {
		return nil
	}
	a.stats.pairsEvicted++
	a.pairs.gaveWay++
	e := &b[way%pairWays]
	a.dropPair(e)
	return e
}

// evictNeighbours is how many pairs of buckets are looked at for a pair to give
// way. At its bound the index is a quarter full or more: one or two do.
const evictNeighbours = 1024

// evict makes room for a pair whose own bucket is at: of those in it and the one
// beside, the pair that is worth least gives way. Below the floor it is dropped,
// above it its row goes out now.
func (a *Aggregator) evict(at uint32) bool {
	x := &a.pairs.index
	for n := range min(evictNeighbours, (x.mask+1)/2) {
		first := (at + 2*n) & x.mask
		bucket, e := a.leastWorth(first)
		if e == nil {
			continue // there is no pair here; the table is full elsewhere
		}
		if e.val&worthMask == worthKeep {
			row := e.row()
			p := a.pairs.rows.at(row)
			if p.flags&rowDirty != 0 {
				a.emitPair(p, row)
			}
			p.flags = 0 // not due any more, should it be in the hot list
			a.pairs.rows.put(row)
		} else {
			a.stats.pairsEvicted++
			a.dropPair(e)
		}
		x.remove(bucket, e)
		a.pairs.gaveWay++
		return true
	}
	return false
}

// dropPair gives back what a pair holds that is not stored.
func (a *Aggregator) dropPair(e *pairEntry) {
	if e.single() {
		return
	}
	a.pairs.rows.put(e.row())
}

// leastWorth returns the pair that is worth least of a bucket and the one beside
// it, or nil. Among equals another comes first each time.
func (a *Aggregator) leastWorth(at uint32) (bucket uint32, least *pairEntry) {
	worth := uint64(worthMask + 1)
	a.turn++
	for n := range uint32(2 * pairWays) {
		i := (a.turn + n) % (2 * pairWays)
		e := &a.pairs.index.bucket(at ^ i/pairWays)[i%pairWays]
		if e.key != 0 && e.val&worthMask < worth {
			bucket, least, worth = at^i/pairWays, e, e.val&worthMask
		}
	}
	return bucket, least
}
