package aggregate

import "unsafe"

// contribution is what one item adds to one window.
type contribution struct {
	span
	window        *window
	service, pair uint64 // hashes
	item          int32  // of the block
	host          uint32 // row, as far as the index told by its tags
	serviceRow    uint32
	entry         uint32 // of the pair, likewise
	last          bool   // the record itself, and what it is evidence of, counts here
}

// groupSize is how many contributions are added together. The cache lines of
// those that are on their way (eight each) have to stay in the cache; measured:
// 16 is best, 4 and 24 cost a tenth more.
const groupSize = 16

// maxLines is the most cache lines that are fetched at once: when windows close,
// of each key in a run its bucket, two of a host, and its services.
const maxLines = (3 + ownSlots) * groupSize

// pipeline holds the contributions that are on their way into the tables. What
// they touch lies anywhere in some hundred megabytes, and waiting for memory is
// nearly all that adding one costs. So each group goes through five stages: its
// buckets are fetched, its hosts and pairs, its services, its sets of
// destinations, and it is added; and while one is added the memory works for
// the four behind it.
type pipeline struct {
	groups  [numStages]group
	filling int // of groups
	lines   [maxLines]uintptr
}

const numStages = 5

type group struct {
	n            int
	contribution [groupSize]contribution
	fresh        fresh
}

// fresh counts keys that the index did not hold. For them those rows are
// fetched that will be taken next.
type fresh struct{ hosts, services, pairs int }

func (a *Aggregator) contribute(b *Block, item int, p *span, last bool) {
	it := &b.Items[item]
	g := &a.pipeline.groups[a.pipeline.filling]
	c := &g.contribution[g.n]
	c.span, c.item, c.last = *p, int32(item), last
	c.window = a.windows.at(p.no, it.received)
	c.service = hashService(it.hash, it.svc, it.proto, it.role)
	c.pair = hashPair(it.hash, it.remote, it.proto)
	if g.n++; g.n == groupSize {
		a.advance(b)
	}
}

// advance moves each group on by one stage.
func (a *Aggregator) advance(b *Block) {
	p := &a.pipeline
	stage := func(n int) *group { return &p.groups[(p.filling+numStages-n)%numStages] }
	services, sets, add := stage(2), stage(3), stage(4)
	a.fetchBuckets(b, stage(0))
	a.fetchRows(b, stage(1), fresh{
		hosts: services.fresh.hosts + sets.fresh.hosts + add.fresh.hosts,
		pairs: services.fresh.pairs + sets.fresh.pairs + add.fresh.pairs,
	})
	a.fetchServices(services, sets.fresh.services+add.fresh.services)
	a.fetchSets(b, sets)
	a.addGroup(b, add)
	p.filling = (p.filling + 1) % numStages
}

// drain adds what is on its way.
func (a *Aggregator) drain(b *Block) {
	for range a.pipeline.groups {
		a.advance(b)
	}
}

func line[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

func (a *Aggregator) fetchBuckets(b *Block, g *group) {
	lines := a.pipeline.lines[:0]
	for i := range g.contribution[:g.n] {
		c := &g.contribution[i]
		win := c.window.handle
		h, p := &a.hosts.index, &a.pairs.index
		lines = append(lines, line(h.bucket(h.at(b.Items[c.item].hash, win))), line(p.bucket(p.at(c.pair, win))))
	}
	prefetch(lines)
}

// fetchRows fetches the rows that the keys name, and for new keys those that
// will be taken when the groups before have taken theirs. A pair that is new
// mostly needs none.
func (a *Aggregator) fetchRows(b *Block, g *group, before fresh) {
	lines := a.pipeline.lines[:0]
	next := before
	for i := range g.contribution[:g.n] {
		c := &g.contribution[i]
		it := &b.Items[c.item]
		win := c.window.handle
		if c.host = a.hosts.index.row(a.hosts.index.at(it.hash, win), tagOf(it.hash, win)); c.host != noRow {
			at := line(a.hosts.rows.at(c.host))
			lines = a.pairLines(append(lines, at, at+hostCold), it, c, &next)
		} else {
			c.entry = noPair
			at := line(a.hosts.rows.next(next.hosts))
			lines = append(lines, at, at+hostCold)
			next.hosts++
		}
	}
	g.fresh.hosts, g.fresh.pairs = next.hosts-before.hosts, next.pairs-before.pairs
	prefetch(lines)
}

// fetchServices fetches the rows of the services that the hosts name, for new
// ones those that will be taken, and the bucket where one beyond them would be.
func (a *Aggregator) fetchServices(g *group, before int) {
	lines := a.pipeline.lines[:0]
	next := before
	for i := range g.contribution[:g.n] {
		c := &g.contribution[i]
		c.serviceRow = noRow
		if c.host != noRow {
			o := &a.hosts.rows.at(c.host).services
			if c.serviceRow = o.row(serviceTag(c.service)); c.serviceRow != noRow {
				lines = append(lines, line(a.services.rows.at(c.serviceRow)))
				continue
			}
			if o.full() {
				x := &a.services.index
				lines = append(lines, line(x.bucket(x.at(c.service, c.window.handle))))
				continue
			}
		}
		lines = append(lines, line(a.services.rows.next(next)))
		next++
	}
	g.fresh.services = next - before
	prefetch(lines)
}

// pairLines appends where the pair's row lies or, if it is new and will have
// one, will lie.
func (a *Aggregator) pairLines(lines []uintptr, it *Item, c *contribution, next *fresh) []uintptr {
	var at uintptr
	c.entry = a.findPair(a.pairs.index.at(c.pair, c.window.handle), nameOf(it.remote, it.proto, c.pair, c.host), nil)
	if c.entry == noPair && fitsSingle(it, c) {
		return lines
	}
	if c.entry != noPair && !a.pairs.index.way(c.entry).single() {
		at = line(a.pairs.rows.at(a.pairs.index.way(c.entry).row()))
	} else {
		at = line(a.pairs.rows.next(next.pairs))
		next.pairs++
	}
	return append(lines, at, at+unsafe.Sizeof(pairRow{})-1)
}

// hostCold is where the second cache line of a host's row begins.
const hostCold = unsafe.Offsetof(hostRow{}.tenantHi)

// fetchSets fetches where the destinations of attempts will be looked for, and
// the rows of services that their hosts do not name.
func (a *Aggregator) fetchSets(b *Block, g *group) {
	lines := a.pipeline.lines[:0]
	for i := range g.contribution[:g.n] {
		c := &g.contribution[i]
		it := &b.Items[c.item]
		if c.serviceRow == noRow {
			if c.host != noRow && a.hosts.rows.at(c.host).services.full() {
				x, win := &a.services.index, c.window.handle
				if c.serviceRow = x.row(x.at(c.service, win), tagOf(c.service, win)); c.serviceRow != noRow {
					lines = append(lines, line(a.services.rows.at(c.serviceRow)))
				}
			}
			continue
		}
		if it.set&itemAttempt == 0 || !c.last {
			continue
		}
		if s := a.services.rows.at(c.serviceRow); s.remotes != 0 && s.flags&rowOne == 0 {
			meta, slot := a.remotes.where(s.remotes, hashRemote(it.remote))
			lines = append(lines, line(meta), line(slot))
		}
	}
	prefetch(lines)
}

func (a *Aggregator) addGroup(b *Block, g *group) {
	for i := range g.contribution[:g.n] {
		c := &g.contribution[i]
		it := &b.Items[c.item]
		stored := a.add(it, c)
		if c.last && it.set&itemPrimary != 0 {
			if stored {
				a.stats.aggregated++
			} else {
				a.stats.tableFull++
			}
		}
	}
	g.n, g.fresh = 0, fresh{}
}
