package detect

import (
	"math"

	"github.com/flowcordon/flowcordon/flow"
)

// What the UDP and the ICMP sweep share: requests to many destinations, of
// which few are answered.

// sweepCounts are the raw counts that sweep evidence is computed from.
type sweepCounts struct {
	u  float64 // distinct destinations of requests, never scaled
	s  float64 // request records
	in float64 // records that came back
	n  float64 // sampling rate 1:n
}

func sweepOf(s *flow.ServiceStat) sweepCounts {
	tries := float64(s.Attempts)
	return sweepCounts{u: math.Min(float64(s.Distinct), tries), s: tries, in: float64(s.InRecords), n: effectiveRate(s.Rate)}
}

// The weights of detection.md §4, UDP sweep: no drift where 24 % are answered.
const (
	luDistinct = 0.31
	luAnswer   = 1.30
)

// lambdaU is the evidence in the answers that are missing.
func (c sweepCounts) lambdaU() float64 { return luDistinct*c.u - luAnswer*c.in }

// score is the smaller of "too many destinations", more than rate per second,
// and "too few answered".
func (c sweepCounts) score(rate, seconds float64) float64 {
	return math.Min(excess(c.u, rate*seconds/c.n), c.lambdaU())
}

func (c sweepCounts) at(n float64) sweepCounts {
	f := c.n / n
	return sweepCounts{u: c.u * f, s: c.s * f, in: c.in * f, n: n}
}

// minus is what is left without the later part; see scanCounts.minus.
func (c sweepCounts) minus(o sweepCounts) sweepCounts {
	return sweepCounts{u: math.Max(0, c.u-o.u), s: math.Max(0, c.s-o.s), in: math.Max(0, c.in-o.in), n: c.n}
}

// sweptTwice reports whether both parts of a range show a sweep above rate with
// a score of least.
func sweptTwice(whole, late sweepCounts, rate, seconds, lateS, least float64) bool {
	late = late.at(whole.n)
	return late.score(rate, lateS) >= least && whole.minus(late).score(rate, seconds-lateS) >= least
}
