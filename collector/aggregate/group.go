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
// those that are on their way (eight each) have to stay in the first-level cache.
const groupSize = 16

// linesEach is how many cache lines are fetched at once for a contribution.
const linesEach = 5

// pipeline holds the contributions that are on their way into the tables. What
// they touch lies anywhere in some hundred megabytes, and waiting for memory is
// nearly all that adding one costs. So each group goes through three stages:
// its buckets are fetched, its rows are fetched, it is added; and while one is
// added the memory works for the two behind it.
type pipeline struct {
	groups  [3]group
	filling int // of groups
	lines   [groupSize * linesEach]uintptr
}

type group struct {
	n            int
	contribution [groupSize]contribution
	// rows that were fetched to be taken for new keys
	hosts, services, pairs int
}

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
	g, before, oldest := &p.groups[p.filling], &p.groups[(p.filling+2)%3], &p.groups[(p.filling+1)%3]
	a.fetchBuckets(b, g)
	a.fetchRows(b, before, oldest)
	a.addGroup(b, oldest)
	p.filling = (p.filling + 1) % 3
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
		h, s, p := &a.hosts.index, &a.services.index, &a.pairs.index
		lines = append(lines, line(&h.buckets[h.at(b.Items[c.item].hash, c.no)]), line(&s.buckets[s.at(c.service, c.no)]), line(&p.buckets[p.at(c.pair, c.no)]))
	}
	prefetch(lines)
}

// fetchRows fetches the rows that the keys name, and for new keys those that
// will be taken, after those that the group before takes.
func (a *Aggregator) fetchRows(b *Block, g, before *group) {
	lines := a.pipeline.lines[:0]
	g.hosts, g.services, g.pairs = 0, 0, 0
	for i := range g.contribution[:g.n] {
		c := &g.contribution[i]
		var h *hostRow
		hash := b.Items[c.item].hash
		if c.host = a.hosts.index.row(a.hosts.index.at(hash, c.no), tagOf(hash, c.window.handle)); c.host != noRow {
			h = a.hosts.rows.at(c.host)
		} else {
			h = a.hosts.rows.next(before.hosts + g.hosts)
			g.hosts++
		}
		var s *serviceRow
		if c.serviceRow = a.services.index.row(a.services.index.at(c.service, c.no), tagOf(c.service, c.window.handle)); c.serviceRow != noRow {
			s = a.services.rows.at(c.serviceRow)
		} else {
			s = a.services.rows.next(before.services + g.services)
			g.services++
		}
		var p *pairRow
		if row := a.pairs.index.row(a.pairs.index.at(c.pair, c.no), tagOf(c.pair, c.window.handle)); row != noRow {
			p = a.pairs.rows.at(row)
		} else {
			p = a.pairs.rows.next(before.pairs + g.pairs)
			g.pairs++
		}
		lines = append(lines, line(&h.bytes), line(&h.flags), line(s), line(p))
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
	g.n, g.hosts, g.services, g.pairs = 0, 0, 0, 0
}
