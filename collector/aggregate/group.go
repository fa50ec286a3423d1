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
	last          bool // the record itself, and what it is evidence of, counts here
}

// groupSize is how many contributions are added together. The cache lines of
// those that are on their way (eight each) have to stay in the cache; measured:
// 16 is best, 4 and 24 cost a tenth more.
const groupSize = 16

// maxLines is the most cache lines that are fetched at once.
const maxLines = 128

// pipeline holds the contributions that are on their way into the tables. What
// they touch lies anywhere in some hundred megabytes, and waiting for memory is
// nearly all that adding one costs. So each group goes through four stages: its
// buckets are fetched, its rows, its sets of destinations, and it is added; and
// while one is added the memory works for the three behind it.
type pipeline struct {
	groups  [4]group
	filling int // of groups
	lines   [maxLines]uintptr
}

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
	oldest, older, newer := &p.groups[(p.filling+1)%4], &p.groups[(p.filling+2)%4], &p.groups[(p.filling+3)%4]
	a.fetchBuckets(b, &p.groups[p.filling])
	a.fetchRows(b, newer, fresh{
		oldest.fresh.hosts + older.fresh.hosts, oldest.fresh.services + older.fresh.services, oldest.fresh.pairs + older.fresh.pairs,
	})
	a.fetchSets(b, older)
	a.addGroup(b, oldest)
	p.filling = (p.filling + 1) % 4
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
		h, s, p := &a.hosts.index, &a.services.index, &a.pairs.index
		lines = append(lines, line(&h.buckets[h.at(b.Items[c.item].hash, win)]), line(&s.buckets[s.at(c.service, win)]), line(&p.buckets[p.at(c.pair, win)]))
	}
	prefetch(lines)
}

// fetchRows fetches the rows that the keys name, and for new keys those that
// will be taken when the groups before have taken theirs.
func (a *Aggregator) fetchRows(b *Block, g *group, before fresh) {
	lines := a.pipeline.lines[:0]
	next := before
	for i := range g.contribution[:g.n] {
		c := &g.contribution[i]
		var h *hostRow
		hash, win := b.Items[c.item].hash, c.window.handle
		if c.host = a.hosts.index.row(a.hosts.index.at(hash, win), tagOf(hash, win)); c.host != noRow {
			h = a.hosts.rows.at(c.host)
		} else {
			h = a.hosts.rows.next(next.hosts)
			next.hosts++
		}
		var s *serviceRow
		if c.serviceRow = a.services.index.row(a.services.index.at(c.service, win), tagOf(c.service, win)); c.serviceRow != noRow {
			s = a.services.rows.at(c.serviceRow)
		} else {
			s = a.services.rows.next(next.services)
			next.services++
		}
		var p *pairRow
		if row := a.pairs.index.row(a.pairs.index.at(c.pair, win), tagOf(c.pair, win)); row != noRow {
			p = a.pairs.rows.at(row)
		} else {
			p = a.pairs.rows.next(next.pairs)
			next.pairs++
		}
		lines = append(lines, line(&h.bytes), line(&h.flags), line(s), line(p))
	}
	g.fresh = fresh{next.hosts - before.hosts, next.services - before.services, next.pairs - before.pairs}
	prefetch(lines)
}

// fetchSets fetches where the destinations of attempts will be looked for.
func (a *Aggregator) fetchSets(b *Block, g *group) {
	lines := a.pipeline.lines[:0]
	for i := range g.contribution[:g.n] {
		c := &g.contribution[i]
		it := &b.Items[c.item]
		if it.set&itemAttempt == 0 || c.serviceRow == noRow || !c.last {
			continue
		}
		if r := a.services.rows.at(c.serviceRow).remotes; r != 0 {
			meta, slot := a.remotes.where(r, hashRemote(it.remote))
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
