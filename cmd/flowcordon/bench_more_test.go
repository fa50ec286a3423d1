package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/flowcordon/flowcordon/detect"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
)

// timed is the store with a clock on the questions that cost most, and what the
// engine counts of them (its ProfileEvents).
type timed struct {
	*store.Store
	mu   sync.Mutex
	cost map[string]*cost
	last map[string]cost // as of the last call of lately
}

var _ detect.Screener = (*timed)(nil)

// cost is what one kind of question took.
type cost struct {
	n               int
	took, cpu       time.Duration
	rows, read, out uint64
	memory          uint64 // the most of one
}

// ask counts one question: it returns its context and what ends the clock.
func (w *timed) ask(ctx context.Context, what string) (context.Context, func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.cost[what]
	if c == nil {
		c = &cost{}
		w.cost[what] = c
	}
	c.n++
	began := time.Now()
	events := func(l []clickhouse.ProfileEvent) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, e := range l {
			switch e.Name {
			case "UserTimeMicroseconds", "SystemTimeMicroseconds":
				c.cpu += time.Duration(e.Value) * time.Microsecond
			case "SelectedRows":
				c.rows += uint64(e.Value)
			case "SelectedBytes":
				c.read += uint64(e.Value)
			case "MemoryTrackerPeakUsage":
				c.memory = max(c.memory, uint64(e.Value))
			}
		}
	}
	info := func(p *clickhouse.ProfileInfo) {
		w.mu.Lock()
		defer w.mu.Unlock()
		c.out += p.Rows
	}
	return clickhouse.Context(ctx, clickhouse.WithProfileEvents(events), clickhouse.WithProfileInfo(info)), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		c.took += time.Since(began)
	}
}

// lately says what the questions since the last call took, the most first.
func (w *timed) lately() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var text []string
	diff := map[string]cost{}
	for k, c := range w.cost {
		if o := w.last[k]; c.n > o.n {
			diff[k] = cost{n: c.n - o.n, took: c.took - o.took, rows: c.rows - o.rows}
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(diff), func(x, y string) int { return cmp.Compare(diff[y].took, diff[x].took) }) {
		text = append(text, fmt.Sprintf("%s %d× %v %dk rows", k, diff[k].n, diff[k].took.Round(time.Millisecond), diff[k].rows/1000))
	}
	w.last = map[string]cost{}
	for k, c := range w.cost {
		w.last[k] = *c
	}
	return strings.Join(text[:min(len(text), 6)], ", ")
}

// of names a question about a range.
func of(what string, r flow.Range) string { return what + "/" + r.To.Sub(r.From).String() }

func (w *timed) ServiceStats(ctx context.Context, r flow.Range, p uint8, least uint64) ([]flow.ServiceStat, error) {
	ctx, done := w.ask(ctx, of(fmt.Sprint("ServiceStats ", p), r))
	defer done()
	return w.Store.ServiceStats(ctx, r, p, least)
}

func (w *timed) ServiceTotals(ctx context.Context, r flow.Range, q flow.ServiceQuery) ([]flow.ServiceStat, error) {
	ctx, done := w.ask(ctx, of("ServiceTotals", r))
	defer done()
	return w.Store.ServiceTotals(ctx, r, q)
}

func (w *timed) AttemptStats(ctx context.Context, r flow.Range, p uint8, least, scaled uint64) ([]flow.AttemptStat, error) {
	ctx, done := w.ask(ctx, of("AttemptStats", r))
	defer done()
	return w.Store.AttemptStats(ctx, r, p, least, scaled)
}

func (w *timed) PairStats(ctx context.Context, r flow.Range, p uint8, packets, ports uint64) ([]flow.PairStat, error) {
	ctx, done := w.ask(ctx, of(fmt.Sprint("PairStats ", p), r))
	defer done()
	return w.Store.PairStats(ctx, r, p, packets, ports)
}

func (w *timed) OtherPairStats(ctx context.Context, r flow.Range, packets uint64) ([]flow.PairStat, error) {
	ctx, done := w.ask(ctx, of("OtherPairStats", r))
	defer done()
	return w.Store.OtherPairStats(ctx, r, packets)
}

func (w *timed) OneWay(ctx context.Context, r flow.Range, p uint8, scaled uint64, back float64) ([]flow.ServiceStat, error) {
	ctx, done := w.ask(ctx, of("OneWay", r))
	defer done()
	return w.Store.OneWay(ctx, r, p, scaled, back)
}

func (w *timed) FleetAnswers(ctx context.Context, base, now flow.Range, except []netip.Addr) (flow.FleetAnswers, error) {
	ctx, done := w.ask(ctx, "FleetAnswers")
	defer done()
	return w.Store.FleetAnswers(ctx, base, now, except)
}

func (w *timed) SpoofStats(ctx context.Context, r flow.Range, least uint64) ([]flow.SpoofStat, error) {
	ctx, done := w.ask(ctx, of("SpoofStats", r))
	defer done()
	return w.Store.SpoofStats(ctx, r, least)
}

func (w *timed) HostStats(ctx context.Context, r flow.Range, ts []netip.Addr) ([]flow.HostStat, error) {
	ctx, done := w.ask(ctx, of("HostStats", r))
	defer done()
	return w.Store.HostStats(ctx, r, ts)
}

func (w *timed) Sources(ctx context.Context, q flow.SourceQuery) ([]flow.SourceStat, error) {
	ctx, done := w.ask(ctx, "Sources")
	defer done()
	return w.Store.Sources(ctx, q)
}

func (w *timed) RateChecks(ctx context.Context, r flow.Range, least uint32) ([]flow.RateCheck, error) {
	ctx, done := w.ask(ctx, "RateChecks")
	defer done()
	return w.Store.RateChecks(ctx, r, least)
}

func (w *timed) TopPrefixes(ctx context.Context, r flow.Range, ts []netip.Addr, p uint8) ([]flow.PrefixStat, error) {
	ctx, done := w.ask(ctx, "TopPrefixes")
	defer done()
	return w.Store.TopPrefixes(ctx, r, ts, p)
}

func (w *timed) KnownPeerShare(ctx context.Context, a netip.Addr, p uint8, port uint16, r flow.Range, d time.Duration) (float64, error) {
	ctx, done := w.ask(ctx, "KnownPeerShare")
	defer done()
	return w.Store.KnownPeerShare(ctx, a, p, port, r, d)
}

func (w *timed) Peers(ctx context.Context, of []flow.PeerQuery) ([]flow.Peers, error) {
	ctx, done := w.ask(ctx, "Peers")
	defer done()
	return w.Store.Peers(ctx, of)
}

func (w *timed) ServiceScreen(ctx context.Context, q flow.ScreenQuery) ([]flow.ScreenRow, error) {
	ctx, done := w.ask(ctx, of(fmt.Sprint("ServiceScreen ", q.Step), q.Range))
	defer done()
	return w.Store.ServiceScreen(ctx, q)
}

func (w *timed) PairScreen(ctx context.Context, q flow.ScreenQuery) ([]flow.ScreenRow, error) {
	ctx, done := w.ask(ctx, of(fmt.Sprint("PairScreen ", q.Step), q.Range))
	defer done()
	return w.Store.PairScreen(ctx, q)
}

func (w *timed) RowCount(ctx context.Context, r flow.Range) (flow.RowCounts, error) {
	ctx, done := w.ask(ctx, "RowCount")
	defer done()
	return w.Store.RowCount(ctx, r)
}

func (w *timed) FleetPairs(ctx context.Context, r flow.Range, packets uint64) ([]flow.PairStat, error) {
	ctx, done := w.ask(ctx, of("FleetPairs", r))
	defer done()
	return w.Store.FleetPairs(ctx, r, packets)
}

func (w *timed) ServiceRows(ctx context.Context, r flow.Range, limit int) ([]flow.ServiceWindow, error) {
	ctx, done := w.ask(ctx, of("ServiceRows", r))
	defer done()
	return w.Store.ServiceRows(ctx, r, limit)
}

func (w *timed) WindowRows(ctx context.Context, r flow.Range) (map[int64]flow.RowCounts, error) {
	ctx, done := w.ask(ctx, of("WindowRows", r))
	defer done()
	return w.Store.WindowRows(ctx, r)
}

// report prints what the questions of a number of ticks cost, the most CPU time
// first, and how long they all took.
func (w *timed) report(what string, ticks int) time.Duration {
	var text strings.Builder
	var all time.Duration
	fmt.Fprintf(&text, "%s, of %d ticks:\n%-28s %5s %9s %9s %9s %9s %9s %9s\n", what, ticks, "question", "calls", "ms", "CPU ms", "rows", "MB read", "rows out", "peak MB")
	for _, k := range slices.SortedFunc(maps.Keys(w.cost), func(x, y string) int { return cmp.Compare(w.cost[y].cpu, w.cost[x].cpu) }) {
		c := w.cost[k]
		all += c.took
		n := uint64(c.n)
		fmt.Fprintf(&text, "%-28s %5d %9.1f %9.1f %9d %9.1f %9d %9d\n", k, c.n, float64(c.took.Microseconds())/1000/float64(n), float64(c.cpu.Microseconds())/1000/float64(n),
			c.rows/n, float64(c.read/n)/1e6, c.out/n, c.memory>>20)
	}
	fmt.Fprint(os.Stderr, text.String()) // a benchmark's log is cut short
	return all
}
