package respond

import (
	"context"
	"math"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// verdict is what the tenant's flows say about a cut.
type verdict uint8

const (
	waiting     verdict = iota // too early, or traffic was seen and may yet stop
	fleetSilent                // nobody is heard: silence means nothing
	silent                     // the tenant is silent while others are heard
	sending                    // the deadline is over and it still sends
	unmetered                  // there is no means to tell
)

// skew is how far past the settling time packets may still be dated: clocks of
// routers differ, and a flow record is spread over its duration.
const skew = 30 * time.Second

// flushLag is how long after its end a window may still be on its way from the
// aggregator: 5 s of lateness and the next flush, 2 s later. One tenant's rows
// of a window come before another's.
const flushLag = 7 * time.Second

// silenceNeeded is how long the tenant must be silent: VerifyFor, or longer
// when it was sampled so thinly that VerifyFor of silence proves nothing. Five
// expected samples leave e^-5 = 0.7 % for silence by chance.
func silenceNeeded(cfg Config, inc flow.Incident) time.Duration {
	best := 0.0
	for _, f := range inc.Findings {
		if f.WindowS > 0 {
			best = max(best, float64(f.Samples)/float64(f.WindowS))
		}
	}
	need := cfg.VerifyFor
	if best > 0 {
		secs := math.Min(5/best, cfg.VerifyDeadline.Seconds())
		need = max(need, time.Duration(secs*float64(time.Second)))
	}
	return need
}

// since is the event time from which the tenant must be silent: the next whole
// window after the cut, and the time to settle.
func (c Config) since(done time.Time) time.Time {
	w := flow.WindowSeconds * time.Second
	t := done.Truncate(w)
	if t.Before(done) {
		t = t.Add(w)
	}
	return t.Add(c.Settle)
}

// judge is the decision of the verification; it is pure.
func judge(cfg Config, inc flow.Incident, o flow.Outbound, ts time.Time) verdict {
	since := cfg.since(inc.Action.Done)
	need := silenceNeeded(cfg, inc)
	late := !ts.Before(since.Add(max(cfg.VerifyDeadline, need)))
	from := since
	if o.Packets > 0 {
		if o.Last.After(since.Add(skew)) {
			need = max(need, cfg.VerifyDeadline) // it went on after the cut: be sure
		}
		if o.Last.After(from) {
			from = o.Last
		}
	}
	switch {
	case !o.FleetLast.Before(from.Add(need)) && !ts.Before(from.Add(need+flushLag)):
		return silent
	case o.Packets > 0 && late:
		return sending
	case ts.After(since.Add(need+skew)) && o.FleetLast.Before(ts.Add(-need-skew)):
		return fleetSilent
	}
	return waiting
}

// verify looks at the flows once and stores what they prove.
func (c *Controller) verify(ctx context.Context, id string) time.Duration {
	r, ok := c.record(id)
	if !ok || r.inc.Action == nil || r.inc.State != flow.StateSuspended && r.inc.State != flow.StateUnverified {
		return 0
	}
	key := r.inc.Action.Key
	now := c.now()
	since := c.cfg.since(r.inc.Action.Done)
	if now.Before(since) {
		return since.Sub(now)
	}
	v, seen, err := c.effect(ctx, r.inc, since, now)
	if err != nil {
		if ctx.Err() == nil {
			c.log.Warn("traffic after the cut cannot be read", zap.String("incident", id), zap.Error(err))
		}
		return c.cfg.VerifyEvery
	}
	state := r.inc.State
	err = c.store(ctx, func(t *txn) error {
		r, _ := t.st.rec(id)
		if r.inc.State != state || r.inc.Action.Key != key {
			return nil // released or replaced meanwhile, or stored already
		}
		switch {
		case v == silent:
			why := ReasonSilent
			if r.inc.Action.Taken() == flow.MeasureLimit {
				why = ReasonUnderLimit
			}
			t.emit(newEvent(id, EventVerified, actorController, why, now, body{Key: key}))
			c.m.actions.WithLabelValues(r.inc.Action.Adapter, resultVerified).Inc()
		case v == sending && state == flow.StateSuspended:
			b := body{Key: key, Detail: seen}
			b.Notices = c.dues(t, r, noticeUnverified, flow.StateUnverified)
			t.emit(newEvent(id, EventUnverified, actorController, ReasonStillSending, now, b))
			c.m.actions.WithLabelValues(r.inc.Action.Adapter, resultUnverified).Inc()
		case v == fleetSilent && state == flow.StateSuspended && r.reason != ReasonFleetSilent:
			t.emit(newEvent(id, EventWaiting, actorController, ReasonFleetSilent, now, body{Key: key}))
		case v == unmetered && state == flow.StateSuspended && r.reason != ReasonUnmetered:
			t.emit(newEvent(id, EventWaiting, actorController, ReasonUnmetered, now, body{Key: key}))
		}
		return nil
	})
	if err != nil || v != silent {
		return c.cfg.VerifyEvery
	}
	return 0
}

// stamp writes a time as people read it, in UTC and saying so.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
