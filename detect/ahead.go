package detect

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Reading ahead: what a tick will need and what is stored already is read between
// the slots, so that the tick itself reads what is new. It changes when something
// is read and never what is found: slots and held rows are good as long as as
// many rows are stored as were read, whoever asked for them.

const (
	// aheadOpen: later windows still get rows.
	aheadOpen = 2 * window
	// aheadTenants of one question, and aheadLength of it: each tenant and window
	// is a granule of 8,192 rows for the store, 4 M at most.
	aheadTenants = 16
	aheadLength  = 5 * time.Minute
	// aheadSuspects are read ahead at most; if there are more, something is wrong
	// with everybody.
	aheadSuspects = 128
	// aheadMargin before the next slot belongs to its own work.
	aheadMargin = time.Second
)

// askKey is a question whose answers are held.
type askKey struct {
	key    string
	length time.Duration
}

// Warm reads what the first ticks would have to: half an hour of windows, the rows
// of suspects over every length, and the fleet's answers. Run calls it; without it
// they take as long.
func (d *Detector) Warm(ctx context.Context, ts time.Time) error {
	if d.screen == nil {
		return nil
	}
	ts = floorTo(ts, d.cfg.Interval)
	d.screen.begin(ts)
	if err := d.screen.slots.ensure(ctx, span(ts, d.screen.slots.keep)); err != nil {
		return err
	}
	// The rules ask, with every length due, and what they find is for nobody.
	t := &tickState{d: d, ctx: ctx, prev: ts.Add(-d.screen.slots.keep), ts: ts.UTC(), best: map[findingKey]flow.Finding{}, fleet: fleet{}}
	if err := t.judge(); err != nil {
		return err
	}
	var guilt []netip.Addr
	above := false
	for _, f := range t.best {
		above = above || f.Tier > flow.TierNotify
		if guilty(&f) {
			guilt = append(guilt, f.Tenant)
		}
	}
	if above { // the first tick will ask whose rates are not what they claim
		if err := t.checkRates(); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(fanOut, d.cfg.on) {
		return nil
	}
	// The fleet's answers are looked at without those that the first tick will note.
	return t.askFleetWithout(guilt)
}

// Ahead reads what the slot next will ask for and what is stored now. Run calls it
// between the slots; without it the ticks take as long.
func (d *Detector) Ahead(ctx context.Context, next time.Time) error {
	ctx = flow.Unhurried(ctx)
	hours := d.slowAhead(ctx, next)
	if d.screen == nil {
		return hours
	}
	t := &tickState{d: d, ctx: ctx, prev: next.Add(-d.cfg.Interval), ts: next.UTC()}
	return errors.Join(hours, d.screen.ahead(ctx, next, t.dueAnyhow()))
}

// dueAnyhow are the lengths of minutes that any rule is judged over in a slot.
func (t *tickState) dueAnyhow() []time.Duration {
	th, due := t.d.loose, map[time.Duration]struct{}{}
	for rule, lengths := range map[flow.Rule][]int{
		flow.RuleNetscan: th.Netscan.WindowsS, flow.RulePortscan: th.Portscan.WindowsS, flow.RuleBlockscan: th.Blockscan.WindowsS,
		flow.RuleUDPSweep: th.UDPSweep.WindowsS, flow.RuleICMPSweep: th.ICMPSweep.WindowsS,
		flow.RuleSpam: th.Spam.WindowsS, flow.RuleBruteforce: th.Bruteforce.WindowsS, flow.RuleBlockedPort: th.BlockedPort.WindowsS,
	} {
		if t.d.cfg.on(rule) {
			for _, l := range t.dueLengths(rule, lengths) {
				due[l] = struct{}{}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(due), func(a, b time.Duration) int { return int(b - a) })
}

func (w *screened) ahead(ctx context.Context, next time.Time, due []time.Duration) error {
	w.begin(next)
	end := floorTo(next, window)
	until := end.Add(-aheadOpen)
	if err := w.slots.count(ctx, flow.Range{From: end.Add(-w.slots.keep), To: until}); err != nil {
		return err
	}
	// Minutes that are settled now, and the windows before the first whole one.
	if err := w.slots.ensure(ctx, flow.Range{From: ceilTo(end.Add(-w.slots.keep), time.Minute), To: until}); err != nil {
		return err
	}
	for _, length := range due {
		if r := span(next, length); r.From.Before(until) {
			if err := w.slots.ensure(ctx, flow.Range{From: r.From, To: until}); err != nil {
				return err
			}
		}
	}
	for _, length := range slices.SortedFunc(maps.Keys(w.lengths()), func(a, b time.Duration) int { return int(b - a) }) {
		r := span(next, length)
		r.To = until
		if l := w.suspectsOf(r, length); len(l) > 0 {
			if err := w.held.ahead(ctx, r, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// lengths are those that held questions were about.
func (w *screened) lengths() map[time.Duration]struct{} {
	out := map[time.Duration]struct{}{}
	for k := range w.asks {
		if k.length > 2*aheadOpen {
			out[floorLength(k.length)] = struct{}{}
		}
	}
	return out
}

// floorLength is the length that a span of it is for: half a window more is the
// same.
func floorLength(d time.Duration) time.Duration {
	if rest := d % time.Minute; rest == window {
		return d - rest
	}
	return d
}

// suspectsOf are those of whom the whole minutes of r, and what is stored after
// them, show enough for any question of that length.
func (w *screened) suspectsOf(r flow.Range, length time.Duration) []netip.Addr {
	if from := ceilTo(r.From, time.Minute); from.Before(r.To) {
		r.From = from
	} else {
		return nil
	}
	l := map[netip.Addr]struct{}{}
	for k, bounds := range w.asks {
		if floorLength(k.length) != length {
			continue
		}
		for i := range bounds {
			if bounds[i].least > 0 {
				w.slots.over(&bounds[i], r, func(a netip.Addr) { l[a] = struct{}{} })
			}
		}
	}
	out := slices.SortedFunc(maps.Keys(l), netip.Addr.Compare)
	return out[:min(len(out), aheadSuspects)]
}

// ahead loads the rows of r of a number of tenants in small pieces, those of the
// latest first, as far as there is room.
func (h *heldRows) ahead(ctx context.Context, r flow.Range, tenants []netip.Addr) error {
	for to := r.To; to.After(r.From); {
		from := to.Add(-aheadLength)
		if from.Before(r.From) {
			from = r.From
		}
		for some := range slices.Chunk(tenants, aheadTenants) {
			if h.size > heldMax/2 {
				return nil
			}
			if _, err := h.load(ctx, flow.Range{From: from, To: to}, some); err != nil {
				return err
			}
		}
		to = from
	}
	return nil
}

// ceilTo rounds t up to a multiple of step since the Unix epoch.
func ceilTo(t time.Time, step time.Duration) time.Time {
	if f := floorTo(t, step); !f.Equal(t) {
		return f.Add(step)
	}
	return t.UTC()
}
