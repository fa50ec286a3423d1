package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/detect"
	"github.com/flowcordon/flowcordon/flow"
)

// timed is the store with a clock on the questions that cost most.
type timed struct {
	detect.Windows
	took map[string]time.Duration
	n    map[string]int
}

func (w *timed) add(what string, began time.Time) {
	w.took[what] += time.Since(began)
	w.n[what]++
}

func (w *timed) ServiceStats(ctx context.Context, r flow.Range, p uint8, least uint64) ([]flow.ServiceStat, error) {
	defer w.add("ServiceStats/"+r.To.Sub(r.From).String(), time.Now())
	return w.Windows.ServiceStats(ctx, r, p, least)
}

func (w *timed) ServiceTotals(ctx context.Context, r flow.Range, q flow.ServiceQuery) ([]flow.ServiceStat, error) {
	defer w.add("ServiceTotals/"+r.To.Sub(r.From).String(), time.Now())
	return w.Windows.ServiceTotals(ctx, r, q)
}

func (w *timed) AttemptStats(ctx context.Context, r flow.Range, p uint8, least, scaled uint64) ([]flow.AttemptStat, error) {
	defer w.add("AttemptStats/"+r.To.Sub(r.From).String(), time.Now())
	return w.Windows.AttemptStats(ctx, r, p, least, scaled)
}

func (w *timed) PairStats(ctx context.Context, r flow.Range, p uint8, packets, ports uint64) ([]flow.PairStat, error) {
	defer w.add("PairStats/"+r.To.Sub(r.From).String(), time.Now())
	return w.Windows.PairStats(ctx, r, p, packets, ports)
}

func (w *timed) OtherPairStats(ctx context.Context, r flow.Range, packets uint64) ([]flow.PairStat, error) {
	defer w.add("OtherPairStats/"+r.To.Sub(r.From).String(), time.Now())
	return w.Windows.OtherPairStats(ctx, r, packets)
}

func (w *timed) OneWay(ctx context.Context, r flow.Range, p uint8, scaled uint64, back float64) ([]flow.ServiceStat, error) {
	defer w.add("OneWay/"+r.To.Sub(r.From).String(), time.Now())
	return w.Windows.OneWay(ctx, r, p, scaled, back)
}

func (w *timed) FleetAnswers(ctx context.Context, base, now flow.Range, except []netip.Addr) (flow.FleetAnswers, error) {
	defer w.add("FleetAnswers", time.Now())
	return w.Windows.FleetAnswers(ctx, base, now, except)
}

func (w *timed) SpoofStats(ctx context.Context, r flow.Range, least uint64) ([]flow.SpoofStat, error) {
	defer w.add("SpoofStats/"+r.To.Sub(r.From).String(), time.Now())
	return w.Windows.SpoofStats(ctx, r, least)
}

func (w *timed) HostStats(ctx context.Context, r flow.Range, ts []netip.Addr) ([]flow.HostStat, error) {
	defer w.add("HostStats/"+r.To.Sub(r.From).String(), time.Now())
	return w.Windows.HostStats(ctx, r, ts)
}

func (w *timed) Sources(ctx context.Context, q flow.SourceQuery) ([]flow.SourceStat, error) {
	defer w.add("Sources", time.Now())
	return w.Windows.Sources(ctx, q)
}

func (w *timed) RateChecks(ctx context.Context, r flow.Range, least uint32, slack float64) ([]flow.RateCheck, error) {
	defer w.add("RateChecks", time.Now())
	return w.Windows.RateChecks(ctx, r, least, slack)
}

func (w *timed) TopPrefixes(ctx context.Context, r flow.Range, ts []netip.Addr, p uint8) ([]flow.PrefixStat, error) {
	defer w.add("TopPrefixes", time.Now())
	return w.Windows.TopPrefixes(ctx, r, ts, p)
}

func (w *timed) KnownPeerShare(ctx context.Context, a netip.Addr, p uint8, port uint16, r flow.Range, d time.Duration) (float64, error) {
	defer w.add("KnownPeerShare", time.Now())
	return w.Windows.KnownPeerShare(ctx, a, p, port, r, d)
}

// report logs where a benchmark's time went, a tick, the most first.
func (w *timed) report(b *testing.B, ticks int) {
	var text strings.Builder
	keys := slices.SortedFunc(maps.Keys(w.took), func(x, y string) int { return cmp.Compare(w.took[y], w.took[x]) })
	for _, k := range keys {
		fmt.Fprintf(&text, "\n%-24s %3d calls %7.1f ms each %7.1f ms a tick", k, w.n[k],
			float64(w.took[k].Microseconds())/1000/float64(w.n[k]), float64(w.took[k].Microseconds())/1000/float64(ticks))
	}
	b.Log(text.String())
}
