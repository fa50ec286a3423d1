package detect

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// counted counts what the first stage of a tick is asked.
type counted struct {
	*store.Store
	windows int // of suspects, one for each tenant
	minutes int // slots of a minute
}

func (c *counted) ServiceRows(ctx context.Context, r flow.Range, limit int) ([]flow.ServiceWindow, error) {
	l, _ := flow.WantedOf(ctx)
	c.windows += len(l) * int(r.To.Sub(r.From)/window)
	return c.Store.ServiceRows(ctx, r, limit)
}

func (c *counted) ServiceScreen(ctx context.Context, q flow.ScreenQuery) ([]flow.ScreenRow, error) {
	if q.Step == time.Minute {
		c.minutes += int(q.Range.To.Sub(q.Range.From) / time.Minute)
	}
	return c.Store.ServiceScreen(ctx, q)
}

// What is read between two slots changes when something is read, and nothing that
// is found, also where rows come late for what was read; and the ticks are left
// with what is new.
func TestAheadChangesNothing(t *testing.T) {
	ctx := context.Background()
	s := storetest.New(t)
	rng := rand.New(rand.NewPCG(3, 4))
	write := func(b *flow.Batch) {
		t.Helper()
		if err := s.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(ctx); err != nil {
			t.Fatal(err)
		}
	}
	start := epoch.Add(time.Hour)
	at := start.Add(31 * time.Minute)
	write(fleetOf(rng, 24, start, at))
	cold, ahead := &counted{Store: s}, &counted{Store: s}
	one, other := New(Config{}, Deps{Windows: cold}), New(Config{}, Deps{Windows: ahead})
	if err := other.Warm(ctx, at); err != nil {
		t.Fatal(err)
	}
	if g := other.guards; len(g.entries) != 0 || len(g.asked) != 0 || g.answers.at != at {
		t.Errorf("a start leaves entries %v, the answers of %v", g.entries, g.answers.at)
	}
	if err := one.screen.slots.ensure(ctx, span(at, one.screen.slots.keep)); err != nil { // without suspects
		t.Fatal(err)
	}
	cold.windows, cold.minutes, ahead.windows, ahead.minutes = 0, 0, 0, 0
	found := 0
	for end := at.Add(time.Minute); at.Before(end); {
		before := *ahead
		at = at.Add(5 * time.Second)
		if err := other.Ahead(ctx, at); err != nil {
			t.Fatal(err)
		}
		ahead.windows, ahead.minutes = before.windows, before.minutes // those of ticks only
		if at.Second()%10 == 0 {
			write(fleetOf(rng, 24, at.Add(-10*time.Second), at))
		}
		if at.Second() == 30 { // late, for minutes and windows that are held
			write(fleetOf(rng, 10, start.Add(5*time.Minute), start.Add(6*time.Minute)))
		}
		var fs [2][]flow.Finding
		for i, d := range []*Detector{one, other} {
			var err error
			if fs[i], err = d.Tick(ctx, at); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff(fs[0], fs[1], cmpopts.EquateComparable(netip.Addr{})); d != "" {
			t.Errorf("%v (-in the tick +ahead):\n%s", at, d)
		}
		found += len(fs[0])
	}
	if found == 0 {
		t.Error("nothing is found: nothing is shown")
	}
	if 3*ahead.windows > cold.windows || cold.minutes == 0 || ahead.minutes >= cold.minutes {
		t.Errorf("windows of suspects: %d in ticks, with reading ahead %d; minutes: %d, with %d", cold.windows, ahead.windows, cold.minutes, ahead.minutes)
	}
}
