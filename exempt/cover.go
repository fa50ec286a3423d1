package exempt

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// Cover names the first exemption that covers a finding of holder h at ts.
func (b *Book) Cover(f flow.Finding, h flow.Holder, ts time.Time) (id string, ok bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if e := b.cover(f, h, ts); e != nil {
		return e.Name, true
	}
	return "", false
}

func (b *Book) cover(f flow.Finding, h flow.Holder, ts time.Time) *entry {
	for _, e := range b.entries {
		if e.Removed.IsZero() && e.Covers(f, h, ts, b.cfg.ASOf) {
			return e
		}
	}
	return nil
}

// Mark writes into the findings of one tick which exemption covers them, and counts it.
func (b *Book) Mark(fs []flow.Finding, holder func(flow.Finding) flow.Holder, ts time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.entries) == 0 {
		return
	}
	for i := range fs {
		e := b.cover(fs[i], holder(fs[i]), ts)
		if e == nil {
			continue
		}
		fs[i].Exempt = e.Name
		b.version++
		e.hits.Findings++
		if ts.After(e.hits.Last) {
			e.hits.Last = ts.UTC()
		}
		if day := ts.UTC().Format(time.DateOnly); e.today[fs[i].Tenant] != day {
			if len(e.today) >= maxToday {
				clear(e.today)
			}
			e.today[fs[i].Tenant] = day
			e.hits.Days++
		}
		e.unsaved = true
	}
}

// maxToday bounds the tenants that are remembered for one exemption: whoever
// exempts more of them has exempted everybody.
const maxToday = 10_000

// storeEvery is how often counts are stored: what a crash may lose of them.
const storeEvery = time.Minute

// Run stores the counts until ctx ends, and once more then.
func (b *Book) Run(ctx context.Context) error {
	tick := time.NewTicker(storeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
			defer cancel()
			b.keepHits(last, time.Now())
			return nil
		case ts := <-tick.C:
			b.keepHits(ctx, ts)
		}
	}
}

func (b *Book) keepHits(ctx context.Context, ts time.Time) {
	if err := b.storeHits(ctx, ts); err != nil {
		b.cfg.Log.Warn("hits of exemptions could not be stored; they are tried again with the next", zap.Error(err))
	}
}

func (b *Book) storeHits(ctx context.Context, ts time.Time) error {
	if err := b.log.Begin(ctx); err != nil {
		return err
	}
	defer b.log.End()
	var evs []flow.Event
	var of []*entry
	b.mu.Lock()
	for _, e := range b.entries {
		if !e.unsaved {
			continue
		}
		body, err := json.Marshal(e.hits)
		if err != nil {
			b.mu.Unlock()
			return fmt.Errorf("encode hits: %w", err)
		}
		e.unsaved = false
		of = append(of, e)
		evs = append(evs, flow.Event{Time: ts.UTC(), Incident: e.Name, Kind: KindHits, Body: body})
	}
	b.mu.Unlock()
	if len(evs) == 0 {
		return nil
	}
	if err := b.log.Append(ctx, evs...); err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, e := range of {
			e.unsaved = true
		}
		return err
	}
	return nil
}

// count is how many exemptions count at ts.
func (b *Book) count(ts time.Time) int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	n := 0
	for _, e := range b.entries {
		if e.status(ts) == StatusActive {
			n++
		}
	}
	return n
}

// The states of an exemption.
const (
	StatusActive  = "active"
	StatusExpired = "expired"
	StatusRemoved = "removed"
)

func (e *entry) status(ts time.Time) string {
	switch {
	case !e.Removed.IsZero():
		return StatusRemoved
	case e.Expired(ts):
		return StatusExpired
	}
	return StatusActive
}

// Status is one exemption with its hits and what is to be said of it.
type Status struct {
	Entry
	Status  string `json:"status"`
	Hits    Hits   `json:"hits"`
	Warning string `json:"warning,omitempty"`
}

func (b *Book) statusOf(e *entry, ts time.Time) Status {
	s := Status{Entry: e.Entry, Status: e.status(ts), Hits: e.hits}
	if s.Status != StatusRemoved {
		s.Warning = warning(&e.Entry, e.hits, ts)
	}
	return s
}

// Get returns one exemption.
func (b *Book) Get(id string, ts time.Time) (Status, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if e := b.find(id); e != nil {
		return b.statusOf(e, ts), true
	}
	return Status{}, false
}

// List returns the exemptions of one status, all with "", those with a warning
// first, then the newest.
func (b *Book) List(status string, ts time.Time) []Status {
	b.mu.RLock()
	out := []Status{}
	for _, e := range b.entries {
		if status == "" || status == e.status(ts) {
			out = append(out, b.statusOf(e, ts))
		}
	}
	b.mu.RUnlock()
	slices.Reverse(out)
	slices.SortStableFunc(out, func(a, c Status) int { return min(len(c.Warning), 1) - min(len(a.Warning), 1) })
	return out
}

const (
	// warnBefore is when an exemption that ends is told of.
	warnBefore = 3 * 24 * time.Hour
	// warnUnused is when one that nothing needed is.
	warnUnused = 30 * 24 * time.Hour
)

func warning(e *Entry, h Hits, ts time.Time) string {
	left, last := e.Expires.Sub(ts), e.Created
	if h.Last.After(last) {
		last = h.Last
	}
	day := func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
	switch {
	case e.Expired(ts):
		return fmt.Sprintf("expired on %s and exempts nothing: remove it, or ask %s whether it is still needed", day(e.Expires), e.Owner)
	case !e.Expires.IsZero() && left <= warnBefore && h.Findings > 0:
		return fmt.Sprintf("expires on %s and was needed on %s: what it covers will be acted on then; ask %s", day(e.Expires), day(h.Last), e.Owner)
	case !last.IsZero() && ts.Sub(last) >= warnUnused:
		return fmt.Sprintf("nothing needed it for %d days: ask %s whether it can go", int(ts.Sub(last)/(24*time.Hour)), e.Owner)
	case e.Expires.IsZero():
		return "never expires: give it an end"
	}
	return ""
}
