package aggregate

import "github.com/flowcordon/flowcordon/flow"

// What a pair is worth when room is short, in the index beside its row.
const (
	worthOne  = iota // one contribution: most pairs, and never more
	worthMany        // several
	worthHalf        // a fourth of the packets of the floor
	worthKeep        // above the floor, or a row of it went out: stored in any case
)

const worthMask = 1<<worthBits - 1

func (a *Aggregator) addPair(it *Item, w *window, host uint32, hash uint64, p, large *span, last bool) {
	row, pair, val := a.pair(it, w, host, hashPair(hash, it.remote, it.proto))
	if pair == nil {
		a.pairs.full++
		return
	}
	if large != nil {
		a.emitLargePair(it, pair, large)
		*val |= worthKeep
	}
	if pair.full(it.dir, p.packets) {
		a.emitPair(pair)
		*val |= worthKeep
	}
	if pair.flags&rowDirty != 0 {
		*val |= worthMany
	}
	pair.flags |= rowDirty
	pair.count(it.dir, p)
	switch {
	case it.counter == cEst:
		pair.est += uint32(p.packets)
	case it.counter == cIn+cRST:
		pair.rst += uint32(p.packets)
	case it.dir == out:
		pair.syn += uint32(p.syn)
	}
	if last {
		pair.records[it.dir&1]++
		pair.classify(it)
		if it.set&itemPort != 0 {
			a.ports.add(&pair.ports, it.remotePort)
			if a.ports.count(pair.ports) == maxSet {
				a.emitPair(pair)
				*val |= worthKeep
				return
			}
		}
	}
	a.judge(it.rate, pair, row, val)
}

// judge says what the pair is worth now, and whether it is due.
func (a *Aggregator) judge(rate uint32, p *pairRow, row uint32, val *uint32) {
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

// pair returns the row of the item's remote and protocol in w, made if need be,
// and where its worth is.
func (a *Aggregator) pair(it *Item, w *window, host uint32, hash uint64) (uint32, *pairRow, *uint32) {
	b := &a.pairs.index.buckets[a.pairs.index.at(hash, w.no)]
	key := tagOf(hash, w.handle)
	for i, k := range b.key {
		if k == key {
			row := b.val[i] >> worthBits
			if p := a.pairs.rows.at(row); p.host == host && p.remote == it.remote && p.proto == it.proto {
				return row, p, &b.val[i]
			}
		}
	}
	b, at, ok := newKey(a, &a.pairs, kindPairs, hash, w.no)
	if !ok {
		if b, at = a.evict(hash, w.no); b == nil {
			return 0, nil, nil
		}
	}
	row := a.pairs.rows.get()
	p := a.pairs.rows.at(row)
	*p = pairRow{host: host, remote: it.remote, proto: it.proto}
	a.pairs.index.put(b, at%ways, key, row)
	w.keys[kindPairs].add(at, a.pairs.index.capacity())
	return row, p, &b.val[at%ways]
}

// evictNeighbours is how many buckets are looked at for a pair to give way. At
// its bound the index is an eighth full or more: one or two do.
const evictNeighbours = 1024

// evict makes room for a pair with that hash: of its bucket, the pair that is
// worth least gives way. Below the floor it is dropped, above it its row goes
// out now.
func (a *Aggregator) evict(hash uint64, no int64) (_ *bucket, at int) {
	first := a.pairs.index.at(hash, no)
	for n := range min(evictNeighbours, a.pairs.index.mask+1) {
		i := (first + n) & a.pairs.index.mask
		b := &a.pairs.index.buckets[i]
		way := a.leastWorth(b)
		if way == ways {
			continue // there is no key here; the table is full elsewhere
		}
		row := b.val[way] >> worthBits
		if p := a.pairs.rows.at(row); b.val[way]&worthMask != worthKeep {
			a.stats.pairsEvicted++
		} else {
			if p.flags&rowDirty != 0 {
				a.emitPair(p)
			}
			p.flags = 0 // not due any more, should it be in the hot list
		}
		a.pairs.index.remove(b, way)
		a.pairs.rows.put(row)
		if n == 0 {
			return b, int(i)*ways + way
		}
		if way := a.pairs.index.buckets[first].free(); way < ways {
			return &a.pairs.index.buckets[first], int(first)*ways + way
		}
	}
	return nil, 0
}

// leastWorth returns the way of the key in b that is worth least, or ways if it
// has none. Among equals another comes first each time.
func (a *Aggregator) leastWorth(b *bucket) int {
	best, worth := ways, uint32(worthMask+1)
	a.turn++
	for n := range uint32(ways) {
		i := (a.turn + n) % ways
		if b.key[i] != 0 && b.val[i]&worthMask < worth {
			best, worth = int(i), b.val[i]&worthMask
		}
	}
	return best
}
