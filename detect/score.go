package detect

import "math"

// excess is the Chernoff exponent of a Poisson count: P(X ≥ c) ≤ exp(−excess)
// for X ~ Poisson(mu), c > mu. It is 0 where c is not above mu. It needs no
// correction for the sampling rate: c is the raw count of samples and
// mu = R0·T/N the most that a benign rate R0 gives (detection.md §2.1).
func excess(c, mu float64) float64 {
	if c <= mu || c <= 0 {
		return 0
	}
	if mu <= 0 {
		return math.Inf(1)
	}
	return c*math.Log(c/mu) - c + mu
}

// shortfall is the Chernoff exponent of a ratio: given k + n events of two
// Poisson streams whose rates are in the proportion ratio : 1, the probability
// that k or fewer are of the first is at most exp(−shortfall). It is 0 where k
// is not below ratio·n.
//
// It is what makes "answers are fewer than 5 % of the packets" safe for few
// samples: 100 packets without one answer prove nothing of the kind (5.0).
func shortfall(k, n, ratio float64) float64 {
	if k >= ratio*n || n <= 0 || ratio <= 0 {
		return 0
	}
	m, p := k+n, ratio/(1+ratio)
	s := n * math.Log(n/(m*(1-p)))
	if k > 0 {
		s += k * math.Log(k/(m*p))
	}
	return s
}

// minExcessCount is the smallest count whose excess over mu reaches h, the
// bound of a stage-1 screen.
func minExcessCount(mu, h float64) uint64 {
	lo, hi := math.Floor(mu), math.Floor(mu)+1
	for excess(hi, mu) < h {
		lo, hi = hi, 2*hi
	}
	for hi-lo > 1 {
		if mid := math.Floor((lo + hi) / 2); excess(mid, mu) < h {
			lo = mid
		} else {
			hi = mid
		}
	}
	return uint64(hi)
}

// poolAtLeast reports whether u distinct destinations in s attempts speak for a
// pool of at least d destinations: from a pool of d, E[u] = d·(1 − e^(−s/d)).
// It is what tells a scanner, which always meets new destinations, from a
// health checker whose few backends are down (detection.md §2.4).
func poolAtLeast(u, s, d float64) bool {
	return u >= -d*math.Expm1(-s/d)
}

// scanCounts are the raw counts that scan evidence is computed from.
type scanCounts struct {
	u       float64 // distinct destinations (or ports) of attempts, never scaled
	s       float64 // outgoing SYN records
	raw     float64 // of s: not of a kernel's shape
	e, a, i float64 // established out, SYN-ACK in, established in
	n       float64 // effective sampling rate 1:n
	alien   bool    // the raw SYNs cannot be a kernel's: isAlien of the whole range
}

// The weights are log-likelihood ratios of a scan against the least favourable
// benign profile (detection.md §2.3).
const (
	laDistinct, laEstOut, laSYNACK, laEstIn = 1.2, 2.5, 2.0, 2.5
	lbDistinct1, lbAnswer1                  = 0.26, 1.35     // N = 1: attempts and answers are exact
	lbDistinctN, lbAnswerN                  = 0.1335, 1.2528 // N > 1: θ 0.2 against 0.05 answers per SYN
	lcRaw, lcKernel                         = 2.0, 2.25      // raw share 0.9 against ≤ 0.05
	// unsampledBelow separates N = 1 from N > 1 (detection.md §7.5).
	unsampledBelow = 1.5
	// maxPerSample is the most evidence that one distinct destination can add.
	maxPerSample = lcRaw
)

// lambdaA is the evidence for a pure scanner: no conversations on that port.
func (c scanCounts) lambdaA() float64 {
	return laDistinct*c.u - laEstOut*c.e - laSYNACK*c.a - laEstIn*c.i
}

// lambdaB is the evidence for a scan inside other traffic: attempts against
// answers only. It needs the aggregator to count the flow record of a whole
// conversation as a SYN-ACK too: at 1:1 successes leave no other.
func (c scanCounts) lambdaB() float64 {
	if c.n < unsampledBelow {
		return lbDistinct1*c.u - lbAnswer1*c.a
	}
	return lbDistinctN*c.u - lbAnswerN*c.a
}

// lambdaC is the evidence in the shape of the SYNs themselves, for scans inside
// other traffic. It counts only where alien is set.
func (c scanCounts) lambdaC() float64 {
	if !c.alien {
		return math.Inf(-1)
	}
	return lcRaw*math.Min(c.raw, c.u) - lcKernel*(c.s-c.raw)
}

// lambda is the strongest of the three.
func (c scanCounts) lambda() float64 { return max(c.lambdaA(), c.lambdaB(), c.lambdaC()) }

// A host whose kernel itself sends SYNs of a raw shape (appliances with an
// initial TTL of 255) is answered: by one SYN-ACK for two SYNs at the least, if
// a fifth of what it calls is dead and tried three times.
const (
	rawAnswers = 0.5
	rawProof   = 14 // exponent at which such a host is refuted: 8e-7
)

// isAlien reports whether the raw SYNs are refuted to be a kernel's. Ordinary
// SYNs, those of traffic that a scan hides in, explain one answer each.
func (c scanCounts) isAlien() bool {
	return shortfall(math.Max(0, c.a-(c.s-c.raw)), c.raw, rawAnswers) >= rawProof
}

// at is c as it would have been counted at 1:n, which is not below c.n.
func (c scanCounts) at(n float64) scanCounts {
	f := c.n / n
	return scanCounts{u: c.u * f, s: c.s * f, raw: c.raw * f, e: c.e * f, a: c.a * f, i: c.i * f, n: n, alien: c.alien}
}

// minus is what is left of c without the later part; distinct is then a lower
// bound of the earlier part's: those that the later part did not meet again.
func (c scanCounts) minus(o scanCounts) scanCounts {
	d := func(x, y float64) float64 { return math.Max(0, x-y) }
	return scanCounts{u: d(c.u, o.u), s: d(c.s, o.s), raw: d(c.raw, o.raw), e: d(c.e, o.e),
		a: d(c.a, o.a), i: d(c.i, o.i), n: c.n, alien: c.alien}
}

// leastPackets is the smallest number of packets without any of the other kind
// whose shortfall reaches h, the bound of a stage-1 screen.
func leastPackets(h, ratio float64) uint64 {
	return uint64(math.Ceil(h / math.Log1p(ratio)))
}
