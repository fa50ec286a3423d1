package detect

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
)

// prepareLead is how long before a slot Deps.Prepare is called: about what a
// flush and an insert take, so that the tick need not wait for them.
const prepareLead = 200 * time.Millisecond

// logEvery bounds the lines about a failure that repeats at each slot.
const logEvery = time.Minute

// Run ticks at the multiples of the interval until ctx ends, then returns nil.
// A tick that runs into the next slot skips it: the slot is counted as missed,
// and lengths that were due in it are judged in the next. A tick that fails is
// counted and logged once a minute.
func (d *Detector) Run(ctx context.Context) error {
	if d.deps.Emit == nil {
		return errors.New("detect: Deps.Emit is needed to run")
	}
	step := d.cfg.Interval
	d.recall(ctx, d.deps.Now())
	if err := d.Warm(ctx, d.deps.Now()); err != nil && ctx.Err() == nil {
		d.log.Warn("windows could not be read before the first slot, which has to", zap.Error(err))
	}
	last := floorTo(d.deps.Now(), step)
	defer func() { d.remember(context.WithoutCancel(ctx), last, true) }()
	var logged time.Time
	for {
		next := last.Add(step)
		if now := d.deps.Now(); !now.Before(next.Add(step)) {
			current := floorTo(now, step)
			d.m.missed.Add(float64(current.Sub(next) / step))
			next = current
		}
		if !d.await(ctx, next) {
			return nil
		}
		d.recall(ctx, next)
		err := d.slot(ctx, last, next)
		if ctx.Err() != nil {
			return nil
		}
		d.remember(ctx, next, false)
		d.readAhead(ctx, next.Add(step))
		if err != nil && next.Sub(logged) >= logEvery {
			logged = next
			d.log.Error("tick failed", zap.Time("slot", next), zap.Error(err))
		}
		last = next
	}
}

// readAhead fills the time until shortly before the slot.
func (d *Detector) readAhead(ctx context.Context, slot time.Time) {
	left := slot.Sub(d.deps.Now()) - aheadMargin
	if left <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	if err := d.Ahead(ctx, slot); err != nil && ctx.Err() == nil {
		d.warn(slot, "windows could not be read before their slot, which has to", err)
	}
}

// await returns at the slot, or when what it is to see is stored; false: ctx ended.
func (d *Detector) await(ctx context.Context, slot time.Time) bool {
	if d.deps.Prepare != nil {
		if !sleep(ctx, slot.Add(-prepareLead).Sub(d.deps.Now())) {
			return false
		}
		d.deps.Prepare(ctx)
	}
	return sleep(ctx, slot.Sub(d.deps.Now()))
}

// slot runs one tick and hands its findings on.
func (d *Detector) slot(ctx context.Context, prev, ts time.Time) error {
	start := d.deps.Now()
	found, err := d.tick(ctx, prev, ts)
	d.m.tick.Observe(d.deps.Now().Sub(start).Seconds())
	if err != nil {
		if ctx.Err() == nil {
			d.m.errors.WithLabelValues(stepTick).Inc()
		}
		return err
	}
	for i := range found {
		d.m.findings.WithLabelValues(string(found[i].Rule), found[i].Tier.String()).Inc()
	}
	if len(found) == 0 {
		return nil
	}
	if err := d.deps.Emit(ctx, ts, found); err != nil {
		if ctx.Err() == nil {
			d.m.errors.WithLabelValues(stepEmit).Inc()
		}
		return err
	}
	return nil
}

// warn logs a failure inside a tick at most once a minute of slots.
func (d *Detector) warn(ts time.Time, msg string, err error) {
	if ts.Sub(d.warned) < logEvery {
		return
	}
	d.warned = ts
	d.log.Warn(msg, zap.Time("slot", ts), zap.Error(err))
}

func sleep(ctx context.Context, wait time.Duration) bool {
	if wait <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
