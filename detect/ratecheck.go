package detect

import (
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// A part of guard G2: whether exporters sample as they say.

// rateLog is the last comparison of claimed sampling rates with handshakes.
type rateLog struct {
	at    time.Time
	wrong map[netip.Addr]bool
}

const (
	rateEvery = 2 * time.Minute
	rateRange = 30 * time.Minute
	// leastRate: below it both halves of a handshake are sampled too often to
	// tell anything.
	leastRate = 10
	// rateProof may be low: at the claimed rate the hits are a third of what the
	// slack allows, and then its probability is below e⁻²⁵.
	rateProof = 5
)

// checkRates compares the rates that exporters claim with how often both halves
// of a handshake were sampled. A rate that is claimed ten times too high makes a
// flood of a tenth of one, and nothing else shows it.
func (t *tickState) checkRates() error {
	cfg, l := &t.d.cfg.Thresholds.Guards, &t.d.guards.rates
	if l.at.IsZero() || t.ts.Sub(l.at) >= rateEvery {
		checks, err := t.d.deps.Windows.RateChecks(t.ctx, span(t.ts, rateRange), leastRate, cfg.RateSlack)
		switch {
		case t.ctx.Err() != nil:
			return t.ctx.Err()
		case err != nil:
			t.d.m.errors.WithLabelValues(stepSources).Inc()
			t.d.warn(t.ts, "claimed sampling rates could not be checked", err)
			return nil
		}
		l.at, l.wrong = t.ts, map[netip.Addr]bool{}
		for _, c := range checks {
			if rateWrong(c) {
				l.wrong[c.Exporter] = true
			}
		}
	}
	t.wrongRates = l.wrong
	return nil
}

// rateWrong reports whether more tenants than the claimed rate explains have a
// handshake of which both halves were sampled.
func rateWrong(c flow.RateCheck) bool {
	return excess(float64(c.Hits), c.Expected) >= rateProof
}
