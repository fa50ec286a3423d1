package aggregate

import "slices"

// round is one flush, handed over in slices: first the hot rows there were when
// it began, then the windows that were due then. What becomes hot or due in
// between waits for the next round.
type round struct {
	running, all bool
	hot          int          // kinds whose hot rows are done
	closing      []*window    // in order of time
	kind         int          // being handed over
	window       int          // of closing, those with a list
	pos          int          // in the window's list, the hot rows or the index
	budget       int          // of the present slice, in eighths of a row
	gaveWay      uint64       // pairTable.gaveWay when it began
	isOf         [maxWin]bool // by handle: the windows in closing
}

// isClosing reports whether the key is that of a window being handed over.
func (r *round) isClosing(k uint64) bool { return r.isOf[winOf(k)] } // of a free way: false, 0 is no window

// What a slice pays, in eighths of a row: looking at a key and at a bucket.
const (
	costRow  = 8
	costLook = 1
)

// restart begins again to look through the index of a kind, which has grown.
// What was handed over is not in it any more.
func (r *round) restart(kind int) {
	if r.hot == numKinds && r.kind == kind {
		r.pos = 0
	}
}

// Flush hands over the rows that are due at now (ns): all rows of windows that
// closed Lateness ago, the hot rows of the others, and the flow rows. With all
// it hands over everything there is, else about limit rows, if limit > 0; more
// says that there are others, for which Flush should be called again soon. For
// the same records and the same flushes the rows are the same in the same order.
//
// Records may come between two calls: those of a window that is being handed
// over open it again.
func (a *Aggregator) Flush(now int64, all bool, limit int) (more bool) {
	if all && a.round.running && !a.round.all {
		a.slice(0)
	}
	if !a.round.running {
		a.begin(now, all)
	}
	a.slice(limit)
	a.chunk.hand()
	return a.round.running
}

// crowded: so small a part of all pairs may give way in a round without haste.
const crowded = 64

// begin starts a round.
func (a *Aggregator) begin(now int64, all bool) {
	r := &a.round
	r.running, r.all, r.closing = true, all, r.closing[:0]
	r.hot, r.kind, r.window, r.pos = 0, 0, 0, 0
	a.hosts.turnHot()
	a.services.turnHot()
	a.pairs.turnHot()
	// Where many pairs give way to others for want of room, late windows go
	// earlier: then there are so many records to a key that few rows are saved.
	patience := a.pairs.gaveWay-r.gaveWay <= uint64(a.pairs.max)/crowded
	r.gaveWay = a.pairs.gaveWay
	for _, w := range a.windows.byID[1:] {
		if w.state == windowOpen && (all || w.due(now, a.cfg.Lateness, patience)) {
			r.closing = append(r.closing, w)
		}
	}
	for _, w := range r.closing {
		a.windows.close(w)
		r.isOf[w.handle] = true
	}
	slices.SortFunc(r.closing, func(v, w *window) int { return int(v.no - w.no) })
}

// turnHot makes the hot rows there are due. When they are many, what is normal
// here is not: a row must then be twice as hot to go out before its time.
func (t *table[T]) turnHot() {
	switch n := len(t.hot); {
	case n > manyHot && t.heat < maxHeat:
		t.heat++
	case n < manyHot/4 && t.heat > 0:
		t.heat--
	}
	t.hot, t.due = t.due[:0], t.hot
}

// manyHot is how many rows of a kind may be hot in a round. A round is 2 s; 8192
// rows are a fifth of what closing a window of 50,000 hosts hands over.
const (
	manyHot = 8192
	maxHeat = 11 // 16,384 attempts: a row counts up to 65,535
)

// slice goes on with the round, to its end if limit is not above 0.
func (a *Aggregator) slice(limit int) {
	r := &a.round
	r.budget = limit * costRow
	if limit <= 0 {
		r.budget = int(^uint(0) >> 1)
	}
	for ; r.hot < numKinds; r.hot, r.pos = r.hot+1, 0 {
		if !a.hotRows(r.hot) {
			return
		}
	}
	for ; r.kind < numKinds; r.kind, r.window, r.pos = r.kind+1, 0, 0 {
		if r.kind == kindPairs {
			if !a.closePairs() {
				return
			}
		} else if !a.closeLists() || !a.closeRest() {
			return
		}
	}
	for _, w := range r.closing {
		a.windows.release(w)
		r.isOf[w.handle] = false
	}
	r.running = false
}

// pay reports whether the slice may go on.
func (r *round) pay(cost int) bool {
	r.budget -= cost
	return r.budget > 0
}

// hotRows hands over the hot rows of a kind.
func (a *Aggregator) hotRows(kind int) (done bool) {
	switch kind {
	case kindPairs:
		return eachHot(a, &a.pairs.table, (*Aggregator).coolPair)
	case kindServices:
		return eachHot(a, &a.services.table, (*Aggregator).coolService)
	}
	return eachHot(a, &a.hosts.table, (*Aggregator).coolHost)
}

func eachHot[T any](a *Aggregator, t *table[T], cool func(*Aggregator, *T, uint32)) (done bool) {
	r := &a.round
	for r.pos < len(t.due) {
		cool(a, t.rows.at(t.due[r.pos]), t.due[r.pos])
		r.pos++
		if !r.pay(costRow) {
			return false
		}
	}
	return true
}

// isDue reports whether a row of the hot list still is due: it may have gone out
// since, or given way to another.
func isDue(flags *uint8) bool {
	f := *flags
	*flags &^= rowHot
	return f&(rowHot|rowDirty) == rowHot|rowDirty
}

func (a *Aggregator) coolHost(h *hostRow, _ uint32) {
	if isDue(&h.flags) {
		a.emitHost(h)
	}
}

func (a *Aggregator) coolService(s *serviceRow, _ uint32) {
	if isDue(&s.flags) {
		a.emitService(s)
	}
}

func (a *Aggregator) coolPair(p *pairRow, row uint32) {
	if isDue(&p.flags) {
		a.emitPair(p, row)
	}
}

// closeLists closes the keys of the windows that have a list of them.
func (a *Aggregator) closeLists() (done bool) {
	r := &a.round
	for ; r.window < len(r.closing); r.window, r.pos = r.window+1, 0 {
		w := r.closing[r.window]
		for l := &w.keys[r.kind]; r.pos < len(l.at); {
			if r.pos%fetchRun == 0 {
				a.fetchKeys(r.kind, l.at, r.pos)
			}
			at, cost := l.at[r.pos], costLook
			if r.pos++; r.isClosing(*a.index(r.kind).way(at)) {
				cost += a.closeKey(r.kind, at)
			}
			if !r.pay(cost) {
				return false
			}
		}
	}
	return true
}

// closeRest closes the keys of those that have none, whose keys are many.
func (a *Aggregator) closeRest() (done bool) {
	r := &a.round
	if !a.anyLong(r.kind) {
		return true
	}
	x := a.index(r.kind)
	for ; r.pos < len(x.buckets); r.pos++ {
		if r.pos%bucketRun == 0 {
			a.fetchBucketRows(r.kind, r.pos)
		}
		cost := costLook
		for way, k := range &x.buckets[r.pos] {
			if r.isClosing(k) {
				cost += a.closeKey(r.kind, uint32(r.pos*ways+way))
			}
		}
		if !r.pay(cost) {
			return false
		}
	}
	return true
}

// anyLong reports whether a closing window's keys of a kind are too many for a list.
func (a *Aggregator) anyLong(kind int) bool {
	return slices.ContainsFunc(a.round.closing, func(w *window) bool { return w.keys[kind].long })
}

// How many keys, or buckets, are closed between two fetches: enough to hide the
// wait for memory, few enough to still be in the cache when their turn comes.
const (
	fetchRun  = 16
	bucketRun = 2
)

// fetchKeys fetches ahead of pos: the buckets of the next but one run of keys,
// the rows of the next, and what this one's name in turn.
func (a *Aggregator) fetchKeys(kind int, at []uint32, pos int) {
	x := a.index(kind)
	lines := a.pipeline.lines[:0]
	for _, k := range at[min(pos+2*fetchRun, len(at)):min(pos+3*fetchRun, len(at))] {
		lines = append(lines, line(x.way(k)))
	}
	for _, k := range at[min(pos+fetchRun, len(at)):min(pos+2*fetchRun, len(at))] {
		lines = a.rowLines(lines, kind, *x.way(k))
	}
	for _, k := range at[pos:min(pos+fetchRun, len(at))] {
		lines = a.nextLines(lines, kind, *x.way(k))
	}
	prefetch(lines)
}

// fetchBucketRows fetches the rows of the run of buckets after that at pos, and
// what this one's name in turn. The buckets themselves follow each other,
// which the processor sees by itself.
func (a *Aggregator) fetchBucketRows(kind, pos int) {
	x := a.index(kind)
	lines := a.pipeline.lines[:0]
	for i := min(pos+bucketRun, len(x.buckets)); i < min(pos+2*bucketRun, len(x.buckets)); i++ {
		for _, k := range &x.buckets[i] {
			lines = a.rowLines(lines, kind, k)
		}
	}
	for i := pos; i < min(pos+bucketRun, len(x.buckets)); i++ {
		for _, k := range &x.buckets[i] {
			lines = a.nextLines(lines, kind, k)
		}
	}
	prefetch(lines)
}

// rowLines appends where the row of a closing window's key lies.
func (a *Aggregator) rowLines(lines []uintptr, kind int, k uint64) []uintptr {
	switch {
	case !a.round.isClosing(k):
	case kind == kindServices:
		lines = append(lines, line(a.services.rows.at(rowOf(k))))
	case kind == kindHosts:
		at := line(a.hosts.rows.at(rowOf(k)))
		lines = append(lines, at, at+hostCold)
	}
	return lines
}

// nextLines appends what a closing window's row names, which was fetched a run
// before: of a service its host, of a host its services.
func (a *Aggregator) nextLines(lines []uintptr, kind int, k uint64) []uintptr {
	switch {
	case !a.round.isClosing(k):
	case kind == kindServices:
		lines = append(lines, line(a.hosts.rows.at(a.services.rows.at(rowOf(k)).host)))
	default:
		o := &a.hosts.rows.at(rowOf(k)).services
		for _, row := range o.rows[:o.n] {
			lines = append(lines, line(a.services.rows.at(row)))
		}
	}
	return lines
}

func (a *Aggregator) index(kind int) *index {
	if kind == kindServices {
		return &a.services.index
	}
	return &a.hosts.index
}

// closePairs closes the pairs of all windows that are due: those with lists by
// them, and if there are others by looking through the whole index.
func (a *Aggregator) closePairs() (done bool) {
	r, x := &a.round, &a.pairs.index
	for ; r.window < len(r.closing); r.window, r.pos = r.window+1, 0 {
		l := &r.closing[r.window].keys[kindPairs]
		for ; r.pos < len(l.at); r.pos++ {
			if r.pos%fetchRun == 0 {
				a.fetchPairs(l.at, r.pos)
			}
			if !r.pay(a.closeBuckets(l.at[r.pos])) {
				r.pos++
				return false
			}
		}
	}
	if !a.anyLong(kindPairs) {
		return true
	}
	for ; r.pos < len(x.buckets); r.pos += 2 {
		a.fetchPairRows(r.pos + 2)
		if !r.pay(a.closeBuckets(uint32(r.pos))) {
			r.pos += 2
			return false
		}
	}
	return true
}

// closeBuckets closes the pairs of closing windows in a bucket and the one beside
// it, and returns what that cost. Both at once: what gives way between two slices
// must not bring a pair of the second back to the first.
func (a *Aggregator) closeBuckets(first uint32) (cost int) {
	r, x := &a.round, &a.pairs.index
	for at := first; at < first+2; at++ {
		cost += costLook
		b := x.bucket(at)
		for i := range b {
			for e := &b[i]; e.key != 0 && r.isOf[e.win()]; { // another may come back to its place
				cost += a.closePair(e)
				x.remove(at, e)
			}
		}
	}
	return cost
}

// fetchPairs fetches ahead of pos: the buckets of the next but one run of a
// list, and the rows of the next.
func (a *Aggregator) fetchPairs(at []uint32, pos int) {
	x := &a.pairs.index
	lines := a.pipeline.lines[:0]
	for _, k := range at[min(pos+2*fetchRun, len(at)):min(pos+3*fetchRun, len(at))] {
		lines = append(lines, line(x.bucket(k)), line(x.bucket(k+1)))
	}
	for _, k := range at[min(pos+fetchRun, len(at)):min(pos+2*fetchRun, len(at))] {
		lines = a.pairRowLines(a.pairRowLines(lines, k), k+1)
	}
	prefetch(lines)
}

// fetchPairRows fetches the rows of two buckets. The buckets themselves follow
// each other, which the processor sees by itself.
func (a *Aggregator) fetchPairRows(first int) {
	if first >= len(a.pairs.index.buckets) {
		return
	}
	lines := a.pairRowLines(a.pipeline.lines[:0], uint32(first))
	prefetch(a.pairRowLines(lines, uint32(first+1)))
}

// pairRowLines appends where those rows of a bucket's pairs lie that are to be
// stored, and their hosts'.
func (a *Aggregator) pairRowLines(lines []uintptr, at uint32) []uintptr {
	b := a.pairs.index.bucket(at)
	for i := range b {
		e := &b[i]
		if e.val&worthMask == worthKeep && e.key != 0 && a.round.isOf[e.win()] && len(lines) < maxLines-1 {
			lines = append(lines, line(a.pairs.rows.at(e.row())), line(a.hosts.rows.at(e.host())))
		}
	}
	return lines
}

// closePair hands a closing window's pair over, if it is to be stored. It
// returns what that cost.
func (a *Aggregator) closePair(e *pairEntry) (cost int) {
	if e.val&worthMask != worthKeep {
		a.stats.pairsBelowFloor++
		a.dropPair(e)
		return costLook
	}
	row := e.row()
	a.pairs.rows.put(row)
	if p := a.pairs.rows.at(row); p.flags&rowDirty != 0 {
		a.emitPair(p, row)
	}
	return costRow
}

// closeKey takes a closing window's key out and hands its row over. It returns
// what that cost.
func (a *Aggregator) closeKey(kind int, at uint32) (cost int) {
	x := a.index(kind)
	k := *x.way(at)
	x.remove(at)
	row := rowOf(k)
	switch kind {
	case kindServices:
		a.closeService(row)
	case kindHosts:
		a.hosts.rows.put(row)
		h := a.hosts.rows.at(row)
		cost = costRow * a.closeOwn(h)
		if h.flags&rowDirty != 0 {
			a.emitHost(h)
		}
	}
	return cost + costRow
}
