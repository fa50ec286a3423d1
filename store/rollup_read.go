package store

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// settled is how long ago an hour must have been noted as done before readers
// rely on it: the two halves of one question must see the same hours.
const settled = 5 * time.Second

// rolledSlots binds {asof}: a roll is in force for a question if it was noted
// before. rollsInForce are their ids, slotsInForce their hours.
const (
	rollsInForce = `(SELECT max(roll) FROM rollup WHERE done AND written <= fromUnixTimestamp64Milli({asof:Int64}, 'UTC')
		AND slot > toDateTime({from:Int64}, 'UTC') - 3600 AND slot < toDateTime({to:Int64}, 'UTC') GROUP BY slot)`
	slotsInForce = `(SELECT slot FROM rollup WHERE done AND written <= fromUnixTimestamp64Milli({asof:Int64}, 'UTC')
		AND slot > toDateTime({from:Int64}, 'UTC') - 3600 AND slot < toDateTime({to:Int64}, 'UTC'))`
)

// span is [from, to) in Unix seconds.
type span struct{ from, to int64 }

func (p span) empty() bool { return p.from >= p.to }

// plan is how a question about host windows is answered: each moment of the
// range from one table, the coarsest allowed where it is rolled up.
type plan struct {
	res             flow.Resolution
	all             span
	hours           span   // host_1h
	minutes         []span // host_1m
	edges, unrolled []span // host_window: always, and in hours that are not in force
	asof            time.Time
}

func floorTo(t, unit int64) int64 { return t - t%unit }
func ceilTo(t, unit int64) int64  { return floorTo(t+unit-1, unit) }

// Horizons: how far back windows and minutes are stored. ttl < 0: for ever.
func (s *Store) horizon(ttl time.Duration, now time.Time) int64 {
	if ttl < 0 {
		return 0
	}
	return max(0, now.Add(-ttl).Unix())
}

// plan chooses. The range's ends are met by finer sums where these are stored,
// and else moved outwards.
func (s *Store) plan(ctx context.Context, r flow.Range, res flow.Resolution) (plan, error) {
	now := time.Now()
	p := plan{res: res, all: span{ceilSeconds(r.From), ceilSeconds(r.To)}, asof: now.Add(-settled)}
	if res == flow.ResolutionWindow {
		p.edges = []span{p.all}
		return p, nil
	}
	windows, minutes := s.horizon(s.cfg.WindowTTL, now), s.horizon(s.cfg.MinuteTTL, now)
	unit := int64(60)
	if p.all.from < windows {
		p.all.from = floorTo(p.all.from, unit)
	}
	if p.all.to < windows {
		p.all.to = ceilTo(p.all.to, unit)
	}
	if res == flow.ResolutionHour {
		if p.all.from < minutes {
			p.all.from = floorTo(p.all.from, 3600)
		}
		if p.all.to < minutes {
			p.all.to = ceilTo(p.all.to, 3600)
		}
	}
	mid := span{ceilTo(p.all.from, unit), floorTo(p.all.to, unit)} // whole minutes
	if mid.empty() {
		p.edges = []span{p.all}
		return p, nil
	}
	p.edges = nonEmpty(span{p.all.from, mid.from}, span{mid.to, p.all.to})
	p.minutes = []span{mid}
	if res == flow.ResolutionHour {
		if h := (span{ceilTo(mid.from, 3600), floorTo(mid.to, 3600)}); !h.empty() {
			p.hours = h
			p.minutes = nonEmpty(span{mid.from, h.from}, span{h.to, mid.to})
		}
	}
	var err error
	p.unrolled, err = s.unrolled(ctx, p, mid, windows)
	return p, err
}

func nonEmpty(l ...span) []span {
	out := l[:0]
	for _, p := range l {
		if !p.empty() {
			out = append(out, p)
		}
	}
	return out
}

// maxUnrolled bounds the pieces of windows that are read beside rollups.
const maxUnrolled = 8

// unrolled are the runs of hours in mid that no roll in force holds and that may
// have windows, a few of them: near ones go together, the question leaves out
// what lies between.
func (s *Store) unrolled(ctx context.Context, p plan, mid span, windows int64) ([]span, error) {
	from := max(floorTo(mid.from, 3600), floorTo(windows, 3600))
	slots, err := query(ctx, s, "hours rolled up", `SELECT DISTINCT toInt64(toUnixTimestamp(slot)) AS hour FROM rollup
		WHERE done AND written <= fromUnixTimestamp64Milli({asof:Int64}, 'UTC') AND hour >= {first:Int64} AND hour < {last:Int64} ORDER BY hour`,
		[]any{named("asof", p.asof.UnixMilli()), named("first", from), named("last", mid.to)},
		func(rows driver.Rows, v *int64) error { return rows.Scan(v) })
	if err != nil {
		return nil, err
	}
	var runs []span
	at := from
	for _, slot := range append(slots, ceilTo(mid.to, 3600)) {
		if slot > at {
			runs = append(runs, span{max(at, mid.from), min(slot, mid.to)})
		}
		at = slot + 3600
	}
	for len(runs) > maxUnrolled { // join those with the least between them
		best := 1
		for i := 2; i < len(runs); i++ {
			if runs[i].from-runs[i-1].to < runs[best].from-runs[best-1].to {
				best = i
			}
		}
		runs[best-1].to = runs[best].to
		runs = append(runs[:best], runs[best+1:]...)
	}
	return runs, nil
}

// hostColumns of a planned question, under the names of host_window.
var hostColumns = concat(rollCounts, []string{"syn_out"})

// source writes the plan as a table in parentheses with start, tenant, rate,
// windows, hostColumns and attempts, and the arguments that it binds. where is a
// condition on tenant that ends in AND, or empty; attempts of windows are in
// another table and read only if asked for.
func (p plan) source(where string, attempts bool) (string, []any) {
	args := []any{named("from", p.all.from), named("to", p.all.to), named("asof", p.asof.UnixMilli())}
	var parts []string
	add := func(table, windows, columns, tries, cond string, sp span) {
		n := len(parts)
		args = append(args, named(fmt.Sprintf("a%d", n), sp.from), named(fmt.Sprintf("b%d", n), sp.to))
		parts = append(parts, fmt.Sprintf(`SELECT start, tenant, rate, %s AS windows, %s, %s AS attempts FROM %s
			WHERE %s start >= toDateTime({a%d:Int64}, 'UTC') AND start < toDateTime({b%d:Int64}, 'UTC')%s`,
			windows, columns, tries, table, where, n, n, cond))
	}
	stored := each(hostColumns, "%[1]s")
	none := each(hostColumns, "toUInt64(0) AS %[1]s")
	raw := func(sp span, cond string) {
		add("host_window", "toUInt32(1)", stored, "toUInt64(0)", cond, sp)
		if attempts {
			add("service_window", "toUInt32(0)", none, "service_window.attempts", cond, sp)
		}
	}
	if !p.hours.empty() {
		add("host_1h", "windows", stored, "attempts", " AND roll IN "+rollsInForce, p.hours)
	}
	for _, sp := range p.minutes {
		add("host_1m", "windows", stored, "attempts", " AND roll IN "+rollsInForce, sp)
	}
	for _, sp := range p.edges {
		raw(sp, "")
	}
	for _, sp := range p.unrolled {
		raw(sp, " AND toStartOfHour(start) NOT IN "+slotsInForce)
	}
	return "(" + strings.Join(parts, "\nUNION ALL\n") + ")", args
}

// span of the answer.
func (p plan) within() flow.Range {
	return flow.Range{From: time.Unix(p.all.from, 0).UTC(), To: time.Unix(p.all.to, 0).UTC()}
}

// fits is the resolution for a step: the coarsest that divides it.
func fits(step time.Duration) flow.Resolution {
	switch {
	case step%time.Hour == 0:
		return flow.ResolutionHour
	case step%time.Minute == 0:
		return flow.ResolutionMinute
	}
	return flow.ResolutionWindow
}

// StepFor is the step that a series over d is shown in where nobody chose: 10 s
// up to two hours, a minute up to three days, an hour up to 120 days, else a day.
func StepFor(d time.Duration) time.Duration {
	switch {
	case d <= 2*time.Hour:
		return flow.WindowSeconds * time.Second
	case d <= 3*24*time.Hour:
		return time.Minute
	case d <= 120*24*time.Hour:
		return time.Hour
	}
	return 24 * time.Hour
}

const seriesColumns = `sum(out_packets * rate), sum(in_packets * rate), sum(out_bytes * rate), sum(in_bytes * rate),
	sum(out_records), sum(in_records), sum(syn_out), sum(attempts)`

// History is HostSeries at whichever resolution fits, and says at which. What
// is not rolled up yet is summed from windows, so that the points do not depend
// on the resolution; a row that came late is in the rollups after half an hour.
func (s *Store) History(ctx context.Context, q flow.SeriesQuery) (flow.Series, error) {
	if q.Step == 0 {
		q.Step = StepFor(q.Range.To.Sub(q.Range.From))
		// Where windows or minutes have expired, coarser steps are all there is.
		now := time.Now()
		if from := q.Range.From.Unix(); q.Step < time.Hour && from < s.horizon(s.cfg.MinuteTTL, now) {
			q.Step = time.Hour
		} else if q.Step < time.Minute && from < s.horizon(s.cfg.WindowTTL, now) {
			q.Step = time.Minute
		}
		q.Step = max(q.Step, q.Resolution.Length())
	}
	if err := checkStep(q.Step); err != nil {
		return flow.Series{}, err
	}
	if q.Resolution == flow.ResolutionAuto {
		q.Resolution = fits(q.Step)
	}
	if l := q.Resolution.Length(); l == 0 || q.Step%l != 0 {
		return flow.Series{}, fmt.Errorf("resolution %q does not fit the step %v: want %s, %s or %s, and a step that is a multiple", q.Resolution, q.Step,
			flow.ResolutionWindow, flow.ResolutionMinute, flow.ResolutionHour)
	}
	p, err := s.plan(ctx, q.Range, q.Resolution)
	if err != nil {
		return flow.Series{}, err
	}
	from, args := p.source("tenant = {tenant:IPv6} AND", true)
	points, err := query(ctx, s, "time series", `SELECT `+stepOf+` AS step, `+seriesColumns+`
	FROM `+from+` GROUP BY step HAVING sum(windows) > 0 ORDER BY step`,
		append(args, namedAddr("tenant", q.Tenant), named("step", int64(q.Step/time.Second))),
		func(rows driver.Rows, v *flow.SeriesPoint) error {
			var at int64
			err := rows.Scan(&at, &v.EstOutPackets, &v.EstInPackets, &v.EstOutBytes, &v.EstInBytes, &v.OutRecords, &v.InRecords, &v.SYNOut, &v.Attempts)
			v.Time = time.Unix(at, 0).UTC()
			return err
		})
	return flow.Series{Range: p.within(), Step: q.Step, Resolution: q.Resolution, Points: points}, err
}

// TopList is Top at a resolution: the one asked for, or by the range's length
// windows up to two hours, minutes up to two days, else hours.
func (s *Store) TopList(ctx context.Context, q flow.TopQuery) (flow.TopList, error) {
	if _, ok := topOrders[q.By]; !ok {
		return flow.TopList{}, fmt.Errorf("%w, not %q", ErrOrder, q.By)
	}
	if q.Limit <= 0 {
		q.Limit = 20
	}
	q.Range = onWindows(q.Range)
	if d := q.Range.To.Sub(q.Range.From); q.Resolution == flow.ResolutionAuto {
		switch {
		case d <= 2*time.Hour:
			q.Resolution = flow.ResolutionWindow
		case d <= 2*24*time.Hour:
			q.Resolution = flow.ResolutionMinute
		default:
			q.Resolution = flow.ResolutionHour
		}
	}
	if q.Resolution.Length() == 0 {
		return flow.TopList{}, fmt.Errorf("unknown resolution %q", q.Resolution)
	}
	return answer(ctx, s, question[flow.TopList]{
		shape: fmt.Sprint("top ", q.By, q.Limit, " ", q.Resolution, q.Range.From.Unix(), q.Range.To.Unix()), to: q.Range.To,
		wide:  q.Range.To.Sub(q.Range.From) > nearTop,
		bytes: func(v flow.TopList) int { return rowsBytes(v.Rows) },
		ask:   alone(func(ctx context.Context) (flow.TopList, error) { return s.top(ctx, q) }),
	})
}

// nearTop is how much of windows a top list may read without a turn among the wide
// questions.
const nearTop = 15 * time.Minute

func (s *Store) top(ctx context.Context, q flow.TopQuery) (flow.TopList, error) {
	order := topOrders[q.By]
	p, err := s.plan(ctx, q.Range, q.Resolution)
	if err != nil {
		return flow.TopList{}, err
	}
	from, args := p.source("", false)
	rows, err := query(ctx, s, "top tenants", `SELECT tenant, sum(out_packets * rate) AS est_out_packets, sum(in_packets * rate) AS est_in_packets,
		sum(out_bytes * rate) AS est_out_bytes, sum(in_bytes * rate) AS est_in_bytes,
		sum(out_records), sum(syn_out) AS syn
	FROM `+from+`
	GROUP BY tenant HAVING sum(windows) > 0 ORDER BY `+order+` DESC, tenant LIMIT {limit:UInt32}`,
		append(args, named("limit", min(q.Limit, maxTop))), func(rows driver.Rows, v *flow.TopRow) error {
			err := rows.Scan(&v.Tenant, &v.EstOutPackets, &v.EstInPackets, &v.EstOutBytes, &v.EstInBytes, &v.OutRecords, &v.SYNOut)
			v.Tenant = unmap(v.Tenant)
			return err
		})
	return flow.TopList{Range: p.within(), Resolution: q.Resolution, Rows: rows}, err
}

// Finest is the length of the finest sums of hosts that are stored of a moment:
// 10 s, a minute or an hour.
func (s *Store) Finest(at time.Time) time.Duration {
	now, t := time.Now(), at.Unix()
	switch {
	case t >= s.horizon(s.cfg.WindowTTL, now):
		return flow.WindowSeconds * time.Second
	case t >= s.horizon(s.cfg.MinuteTTL, now):
		return time.Minute
	}
	return time.Hour
}

// activity sums a tenant's counts by step and rate.
func (s *Store) activity(ctx context.Context, tenant netip.Addr, r flow.Range, step time.Duration) ([]flow.HostWindow, error) {
	p, err := s.plan(ctx, r, fits(step))
	if err != nil {
		return nil, err
	}
	from, args := p.source("tenant = {tenant:IPv6} AND", false)
	return query(ctx, s, "activity of a host", `SELECT `+stepOf+` AS step, rate,
	sum(out_records), sum(in_records), sum(out_packets), sum(in_packets), sum(out_bytes), sum(in_bytes)
FROM `+from+` GROUP BY step, rate HAVING sum(windows) > 0 ORDER BY step, rate`,
		append(args, namedAddr("tenant", tenant), named("step", int64(step/time.Second))), scanActivity(tenant))
}
