package detect

import (
	"math"
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
	// rateProof may be low: at the claimed rate the connections of which both
	// halves were sampled are a third of what the slack allows.
	rateProof = 5
	// rateBetween is where a tenant's count is closer to that of a rate claimed
	// ten times too high (10/3 of what the slack allows) than to the slack's.
	rateBetween = 1.8
	// rateOdd is the share of tenants that may be odd for reasons of their own,
	// such as clients that connect from one port again and again: some tenants
	// alone must not be able to put an exporter in doubt.
	rateOdd = 0.05
)

// checkRates compares the rates that exporters claim with how often both halves
// of a handshake were sampled. A rate that is claimed ten times too high makes a
// flood of a tenth of one, and nothing else shows it.
func (t *tickState) checkRates() error {
	cfg, l := &t.d.cfg.Thresholds.Guards, &t.d.guards.rates
	if l.at.IsZero() || t.ts.Sub(l.at) >= rateEvery {
		checks, err := t.d.deps.Windows.RateChecks(t.ctx, span(t.ts, rateRange), leastRate)
		switch {
		case t.ctx.Err() != nil:
			return t.ctx.Err()
		case err != nil:
			t.d.m.errors.WithLabelValues(stepSources).Inc()
			t.d.warn(t.ts, "claimed sampling rates could not be checked", err)
			return nil
		}
		l.at, l.wrong = t.ts, wrongRates(checks, cfg.RateSlack)
	}
	t.wrongRates = l.wrong
	return nil
}

// wrongRates returns the exporters that sample more densely than they claim, by
// more than slack. Each tenant counts once: it is a hit if both halves of more
// handshakes were sampled than the claim explains.
func wrongRates(checks []flow.RateCheck, slack float64) map[netip.Addr]bool {
	type claim struct {
		exporter netip.Addr
		rate     uint32
	}
	type sum struct{ hits, expected float64 }
	sums := map[claim]sum{}
	for _, c := range checks {
		most := slack * float64(c.Answered) / float64(c.Rate)
		least := max(1, math.Ceil(rateBetween*most))
		s := sums[claim{c.Exporter, c.Rate}]
		s.expected += max(rateOdd, atLeast(least, most))
		if float64(c.Both) >= least {
			s.hits++
		}
		sums[claim{c.Exporter, c.Rate}] = s
	}
	wrong := map[netip.Addr]bool{}
	for k, s := range sums {
		if excess(s.hits, s.expected) >= rateProof {
			wrong[k.exporter] = true
		}
	}
	return wrong
}

// atLeast is the probability that X ~ Poisson(mu) is k or more; k is above mu.
func atLeast(k, mu float64) float64 {
	if mu > 500 { // e^−mu has no place in a float64 soon, and the answer is 0
		return 0
	}
	below, term := 0.0, math.Exp(-mu)
	for i := 0.0; i < k; i++ {
		below += term
		term *= mu / (i + 1)
	}
	return max(0, 1-below)
}
