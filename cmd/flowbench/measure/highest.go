package measure

import (
	"context"
	"fmt"
	"time"
)

// Search says how Highest looks for a rate.
type Search struct {
	From      float64       // records per second that it begins with
	Trial     time.Duration // how long a rate is tried
	Confirm   time.Duration // how long the rate that is found must hold
	Precision float64       // as a share of the rate, for example 0.03
}

// Highest is the outcome of a search.
type Highest struct {
	Figures
	// Generator: the rate is what the generator could send; the collector lost
	// nothing yet.
	Generator bool    `json:"generator_bound"`
	Trials    []Trial `json:"trials"`
}

// Trial is one rate that was tried.
type Trial struct {
	Asked float64 `json:"asked"`
	Rate  float64 `json:"records_per_second"`
	Lost  uint64  `json:"lost_datagrams"`
}

const (
	// ease follows a change of the rate, so that a trial shows the rate itself.
	ease = 300 * time.Millisecond
	// kept is the share of the rate asked for that the generator must have sent
	// for the collector to be what is judged.
	kept = 0.97
	// drainWithin is how long a collector that was overrun gets to empty its
	// sockets.
	drainWithin = time.Minute
	// most is beyond what any of this can reach.
	most = 1e9
)

// FindHighest looks for the highest rate at which nothing is lost: doubling,
// then halving the interval, then holding what was found for longer. The load
// does not stop between trials except to let a collector that was overrun
// empty its sockets, so that what it does with earlier records is part of what
// it does.
func FindHighest(ctx context.Context, o Offer, s Subject, how Search) (Highest, error) {
	var h Highest
	good, bad, generator := 0.0, most, 0.0
	for rate := how.From; bad-good > how.Precision*bad; {
		ok, short, err := h.try(ctx, o, s, rate, how.Trial)
		switch {
		case err != nil:
			return h, err
		case ok && short:
			good, bad, generator = h.Rate, h.Rate, h.Rate
		case ok:
			good = rate
		default:
			bad = rate
		}
		if rate = (good + bad) / 2; bad == most {
			rate = 2 * good
		}
		if rate < 100 {
			return h, fmt.Errorf("loses datagrams even at %.0f records a second", bad)
		}
	}
	for rate := good; ; rate *= 1 - how.Precision {
		if rate < how.From/1000 || rate < 100 {
			return h, fmt.Errorf("holds no rate for %v", how.Confirm)
		}
		ok, _, err := h.try(ctx, o, s, rate, how.Confirm)
		if err != nil {
			return h, err
		}
		if ok {
			h.Generator = generator > 0 && rate >= generator
			return h, nil
		}
	}
}

// try offers a rate. ok: nothing was lost; short: the generator sent less than
// asked for.
func (h *Highest) try(ctx context.Context, o Offer, s Subject, rate float64, long time.Duration) (ok, short bool, err error) {
	o.SetRate(rate)
	if err := sleep(ctx, ease); err != nil {
		return false, false, err
	}
	f, err := Stretch(ctx, o, s, long)
	if err != nil {
		return false, false, err
	}
	f.Memory, f.EngineMemory = max(f.Memory, h.Memory), max(f.EngineMemory, h.EngineMemory)
	h.Figures = f
	h.Trials = append(h.Trials, Trial{Asked: rate, Rate: f.Rate, Lost: f.Lost})
	if f.Lost > 0 {
		o.SetRate(0)
		return false, false, Drain(ctx, s)
	}
	return true, f.Rate < kept*rate, nil
}

// Drain waits until nothing is queued in the collector's sockets.
func Drain(ctx context.Context, s Subject) error {
	for deadline := time.Now().Add(drainWithin); time.Now().Before(deadline); {
		queued, err := s.Queued()
		if err != nil {
			return err
		}
		if queued == 0 {
			return nil
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("its sockets are not empty %v after the load stopped", drainWithin)
}
