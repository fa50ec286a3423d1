package aggregate

import (
	"math"

	"github.com/flowcordon/flowcordon/flow"
)

// What a pair is worth when room is short, in the index beside its row.
const (
	worthOne  = iota // one contribution: most pairs, and never more
	worthMany        // several
	worthHalf        // a fourth of the packets of the floor
	worthKeep        // above the floor, or a row of it went out: stored in any case
)

func (a *Aggregator) addPair(it *Item, c *contribution, host uint32, large *span) {
	row, pair, val := a.pair(it, c, host)
	if pair == nil {
		a.pairs.full++
		return
	}
	if large == nil && c.bytes > math.MaxUint32 {
		whole := c.span
		large, c.packets, c.bytes, c.syn = &whole, 0, 0, 0
	}
	if large != nil {
		a.emitLargePair(it, pair, row, large)
		*val |= worthKeep
	}
	if pair.full(it.dir, &c.span) {
		a.emitPair(pair, row)
		*val |= worthKeep
	}
	if pair.flags&rowDirty != 0 {
		*val |= worthMany
	}
	pair.flags |= rowDirty
	pair.count(it.dir, &c.span)
	switch {
	case it.counter == cEst:
		pair.est += uint32(c.packets)
	case it.counter == cIn+cRST:
		pair.rst += uint32(c.packets)
	case it.dir == out:
		pair.syn += uint32(c.syn)
	}
	if c.last {
		pair.records[it.dir&1]++
		pair.classify(it)
		if it.set&itemPort != 0 {
			a.ports.add(&pair.ports, it.remotePort)
			if a.ports.count(pair.ports) == maxSet {
				a.emitPair(pair, row)
				*val |= worthKeep
				return
			}
		}
	}
	a.judge(it.rate, pair, row, val)
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
	if ports >= hotPorts || uint64(p.packets[out])*uint64(rate) >= hotPairOut || uint64(answers)*uint64(rate) >= hotPairIn {
		p.flags |= rowHot
		*val |= worthKeep // what goes out early goes out whole
		a.pairs.hot = append(a.pairs.hot, row)
	}
}

func (a *Aggregator) isPair(p *pairRow, row uint32, it *Item, host uint32) bool {
	return p.host == host && p.remote == it.remote.lo && p.proto == it.proto && a.remote(p, row).hi == it.remote.hi
}

// pair returns the row of the item's remote and protocol, made if need be, and
// its key, which has its worth; nil if there is no room.
func (a *Aggregator) pair(it *Item, c *contribution, host uint32) (uint32, *pairRow, *uint64) {
	first, tag := a.pairs.index.at(c.pair, c.window.handle), tagOf(c.pair, c.window.handle)
	b := &a.pairs.index.buckets[first]
	for i, k := range b {
		if uint32(k>>32) == tag {
			if p := a.pairs.rows.at(rowOf(k)); a.isPair(p, rowOf(k), it, host) {
				return rowOf(k), p, &b[i]
			}
		}
	}
	row := a.pairs.rows.get() // before another gives way, whose row is not in the cache
	at, ok := newKey(a, &a.pairs, kindPairs, c.pair, c.window.handle)
	if !ok {
		if at, ok = a.evict(a.pairs.index.at(c.pair, c.window.handle)); !ok {
			a.pairs.rows.put(row)
			return 0, nil, nil
		}
	}
	p := a.pairs.rows.at(row)
	*p = pairRow{host: host, remote: it.remote.lo, proto: it.proto}
	if it.remote.hi != 0 {
		p.flags = rowWide
		a.upper.set(row, it.remote.hi)
	}
	a.pairs.index.put(at, tag, row)
	c.window.keys[kindPairs].add(at, a.pairs.index.capacity())
	return row, p, a.pairs.index.way(at)
}

// evictNeighbours is how many buckets are looked at for a pair to give way. At
// its bound the index is an eighth full or more: one or two do.
const evictNeighbours = 1024

// evict makes room for a pair in that bucket: of its bucket, the pair that is
// worth least gives way. Below the floor it is dropped, above it its row goes
// out now.
func (a *Aggregator) evict(first uint32) (at uint32, ok bool) {
	x := &a.pairs.index
	for n := range min(evictNeighbours, x.mask+1) {
		at := (first + n) & x.mask * ways
		way, ok := a.leastWorth(&x.buckets[at/ways])
		if !ok {
			continue // there is no key here; the table is full elsewhere
		}
		at += way
		k := *x.way(at)
		if row := rowOf(k); k&worthMask != worthKeep {
			a.stats.pairsEvicted++
			a.pairs.rows.put(row)
		} else {
			p := a.pairs.rows.at(row)
			if p.flags&rowDirty != 0 {
				a.emitPair(p, row)
			}
			p.flags = 0 // not due any more, should it be in the hot list
			a.pairs.rows.put(row)
		}
		x.remove(at)
		return x.free(first)
	}
	return 0, false
}

// leastWorth returns the way of the key in b that is worth least; ok is false if
// it has none. Among equals another comes first each time.
func (a *Aggregator) leastWorth(b *bucket) (way uint32, ok bool) {
	worth := uint64(worthMask + 1)
	a.turn++
	for n := range uint32(ways) {
		i := (a.turn + n) % ways
		if k := b[i]; k != 0 && k&worthMask < worth {
			way, worth, ok = i, k&worthMask, true
		}
	}
	return way, ok
}
