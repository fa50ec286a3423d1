package detect

import (
	"context"
	"maps"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// slotCache keeps what slots of time show of the tenants. A slot is a window, or
// a minute once that is over for settleAfter. It holds as long as the numbers of
// its stored rows are the same: rows that come late are seen by them.
type slotCache struct {
	s    Screener
	ask  flow.ScreenQuery // without range and step
	keep time.Duration    // the longest range

	ts      time.Time
	checked time.Time // the row counts are of this tick from here on
	rows    map[int64]flow.RowCounts
	windows map[int64]*slot
	minutes map[int64]*slot
	memo    map[sumKey][]showing
	tenants names
	adding  []float64 // by number; 0 between two sums
}

const (
	// recentFor is how far back each tick counts the rows of every window; those
	// before are counted together.
	recentFor = 150 * time.Second
	// settleAfter lets late rows come before a minute is added up, and puts that
	// into a tick in which little is due.
	settleAfter = 85 * time.Second
	// windowsFor is how long windows are kept: a range of five minutes begins with
	// some.
	windowsFor = 7 * time.Minute
	// askAtOnce bounds one question, for the store's memory.
	askAtOnce = 5 * time.Minute
)

// slot is what one slot shows, by sign.
type slot struct {
	rows  flow.RowCounts
	shows [flow.SignCount][]shown
}

type shown struct {
	tenant int32 // its number
	much   float32
}

// showing is the sum of what a range shows of a tenant.
type showing struct {
	tenant int32
	much   float64
}

// names numbers tenants: ordinary ones show a little, too, and to add that up by
// address took most of what the detector did.
type names struct {
	number map[netip.Addr]int32
	of     []netip.Addr
	most   int // before those that nothing names any more are forgotten
}

const leastNames = 1 << 16

func (n *names) get(a netip.Addr) int32 {
	i, ok := n.number[a]
	if !ok {
		i = int32(len(n.of))
		n.number[a], n.of = i, append(n.of, a)
	}
	return i
}

// forget numbers the tenants anew that slots name, when there are many more.
func (c *slotCache) forget() {
	if len(c.tenants.of) < c.tenants.most {
		return
	}
	old := c.tenants.of
	c.tenants = names{number: map[netip.Addr]int32{}}
	for _, slots := range []map[int64]*slot{c.windows, c.minutes} {
		for _, s := range slots {
			for sign := range s.shows {
				for i := range s.shows[sign] {
					v := &s.shows[sign][i]
					v.tenant = c.tenants.get(old[v.tenant])
				}
			}
		}
	}
	c.tenants.most = max(leastNames, 2*len(c.tenants.of))
}

type sumKey struct {
	sign flow.Sign
	r    flow.Range
}

func newSlotCache(s Screener, ask flow.ScreenQuery, keep time.Duration) *slotCache {
	return &slotCache{s: s, ask: ask, keep: keep, rows: map[int64]flow.RowCounts{}, windows: map[int64]*slot{}, minutes: map[int64]*slot{},
		tenants: names{number: map[netip.Addr]int32{}, most: leastNames}}
}

// begin starts a tick, and forgets what no range reaches any more.
func (c *slotCache) begin(ts time.Time) {
	c.ts, c.checked, c.memo = ts, time.Time{}, map[sumKey][]showing{}
	old := ts.Add(-c.keep - 2*time.Minute).Unix()
	before := func(s int64) func(int64, *slot) bool {
		return func(start int64, _ *slot) bool { return start < s }
	}
	maps.DeleteFunc(c.windows, before(ts.Add(-windowsFor).Unix()))
	maps.DeleteFunc(c.minutes, before(old))
	maps.DeleteFunc(c.rows, func(start int64, _ flow.RowCounts) bool { return start < old })
	c.forget()
}

// ensure makes every slot of r that of the rows now stored.
func (c *slotCache) ensure(ctx context.Context, r flow.Range) error {
	if err := c.count(ctx, r); err != nil {
		return err
	}
	var missing []flow.Range // of one step each
	c.tiles(r, func(from int64, step time.Duration) {
		if c.valid(from, step) == nil {
			at := time.Unix(from, 0).UTC()
			missing = append(missing, flow.Range{From: at, To: at.Add(step)})
		}
	})
	for len(missing) > 0 {
		q, step := missing[0], missing[0].To.Sub(missing[0].From)
		missing = missing[1:]
		for len(missing) > 0 && missing[0].From.Equal(q.To) && missing[0].To.Sub(missing[0].From) == step && missing[0].To.Sub(q.From) <= askAtOnce {
			q.To, missing = missing[0].To, missing[1:]
		}
		if err := c.read(ctx, q, step); err != nil {
			return err
		}
	}
	return nil
}

// tiles calls fn for the slots that r consists of.
func (c *slotCache) tiles(r flow.Range, fn func(from int64, step time.Duration)) {
	for at := r.From; at.Before(r.To); {
		step := window
		if end := at.Add(time.Minute); at.Unix()%60 == 0 && !end.After(r.To) && !end.After(c.ts.Add(-settleAfter)) {
			step = time.Minute
		}
		fn(at.Unix(), step)
		at = at.Add(step)
	}
}

func (c *slotCache) of(step time.Duration) map[int64]*slot {
	if step == time.Minute {
		return c.minutes
	}
	return c.windows
}

// valid returns a slot if it is that of the rows now stored, else nil.
func (c *slotCache) valid(from int64, step time.Duration) *slot {
	if s := c.of(step)[from]; s != nil && s.rows == c.stored(from, step) {
		return s
	}
	return nil
}

// stored is the number of rows of a slot.
func (c *slotCache) stored(from int64, step time.Duration) flow.RowCounts {
	var n flow.RowCounts
	for at := from; at < from+int64(step/time.Second); at += flow.WindowSeconds {
		n.Services, n.Pairs = n.Services+c.rows[at].Services, n.Pairs+c.rows[at].Pairs
	}
	return n
}

// count brings the row counts of r up to date, once a tick.
func (c *slotCache) count(ctx context.Context, r flow.Range) error {
	if c.checked.IsZero() {
		recent := flow.Range{From: floorTo(c.ts, window).Add(-recentFor), To: floorTo(c.ts, window).Add(window)}
		if err := c.countWindows(ctx, recent); err != nil {
			return err
		}
		c.checked = recent.From
	}
	if !r.From.Before(c.checked) {
		return nil
	}
	old := flow.Range{From: r.From, To: c.checked}
	n, err := c.s.RowCount(ctx, old)
	if err != nil {
		return err
	}
	if n != c.stored(old.From.Unix(), old.To.Sub(old.From)) {
		if err := c.countWindows(ctx, old); err != nil {
			return err
		}
	}
	c.checked = r.From
	return nil
}

func (c *slotCache) countWindows(ctx context.Context, r flow.Range) error {
	rows, err := c.s.WindowRows(ctx, r)
	if err != nil {
		return err
	}
	for at := r.From.Unix(); at < r.To.Unix(); at += flow.WindowSeconds {
		if n, ok := rows[at]; ok {
			c.rows[at] = n
		} else {
			delete(c.rows, at)
		}
	}
	return nil
}

// read asks for the slots of r.
func (c *slotCache) read(ctx context.Context, r flow.Range, step time.Duration) error {
	fresh := map[int64]*slot{}
	var all flow.RowCounts
	for at := r.From; at.Before(r.To); at = at.Add(step) {
		s := &slot{rows: c.stored(at.Unix(), step)}
		fresh[at.Unix()] = s
		all.Services, all.Pairs = all.Services+s.rows.Services, all.Pairs+s.rows.Pairs
	}
	q := c.ask
	q.Range, q.Step = r, step
	take := func(rows []flow.ScreenRow, err error) error {
		for i := range rows {
			s := fresh[rows[i].Start]
			if s == nil {
				continue
			}
			tenant := c.tenants.get(rows[i].Tenant)
			for sign, much := range rows[i].Shows {
				if much > 0 {
					s.shows[sign] = append(s.shows[sign], shown{tenant, much})
				}
			}
		}
		return err
	}
	if all.Services > 0 {
		if err := take(c.s.ServiceScreen(ctx, q)); err != nil {
			return err
		}
	}
	if all.Pairs > 0 {
		if err := take(c.s.PairScreen(ctx, q)); err != nil {
			return err
		}
	}
	maps.Copy(c.of(step), fresh)
	return nil
}

// over calls fn for the tenants of whom the slots of r, which ensure has made sure
// of, show enough altogether, in no order. The bound's least is above 0.
func (c *slotCache) over(b *bound, r flow.Range, fn func(netip.Addr)) {
	with := map[int32]float64{}
	if b.enough != nil {
		for _, s := range c.sums(b.with, r) {
			with[s.tenant] = s.much
		}
	}
	for _, s := range c.sums(b.sign, r) {
		if s.much >= b.least && (b.enough == nil || b.enough(s.much, with[s.tenant])) {
			fn(c.tenants.of[s.tenant])
		}
	}
}

func (c *slotCache) sums(sign flow.Sign, r flow.Range) []showing {
	k := sumKey{sign, r}
	l, ok := c.memo[k]
	if ok {
		return l
	}
	if n := len(c.tenants.of); n > len(c.adding) {
		c.adding = make([]float64, n+n/4)
	}
	c.tiles(r, func(from int64, step time.Duration) {
		for _, s := range c.of(step)[from].shows[sign] {
			if c.adding[s.tenant] == 0 {
				l = append(l, showing{tenant: s.tenant})
			}
			c.adding[s.tenant] += float64(s.much) // above 0
		}
	})
	for i := range l {
		l[i].much, c.adding[l[i].tenant] = c.adding[l[i].tenant], 0
	}
	c.memo[k] = l
	return l
}
