package detect

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// poissonTail is P(X ≥ c) for X ~ Poisson(mu), summed from the far end of the
// tail in logarithms, independent of excess.
func poissonTail(c int, mu float64) float64 {
	logTerm := func(k int) float64 {
		lg, _ := math.Lgamma(float64(k) + 1)
		return float64(k)*math.Log(mu) - mu - lg
	}
	last := c + 200 + int(5*math.Sqrt(mu))
	sum := 0.0
	for k := last; k >= c; k-- {
		sum += math.Exp(logTerm(k))
	}
	return sum
}

// binomialHead is P(K ≤ k) for K ~ Bin(m, p).
func binomialHead(k, m int, p float64) float64 {
	sum := 0.0
	for i := 0; i <= k; i++ {
		a, _ := math.Lgamma(float64(m) + 1)
		b, _ := math.Lgamma(float64(i) + 1)
		c, _ := math.Lgamma(float64(m-i) + 1)
		sum += math.Exp(a - b - c + float64(i)*math.Log(p) + float64(m-i)*math.Log1p(-p))
	}
	return sum
}

func TestExcessBoundsThePoissonTail(t *testing.T) {
	for _, mu := range []float64{0.001, 0.03, 0.3, 1, 3, 10, 30, 100, 300, 1000} {
		for c := int(mu) + 1; c < int(mu)+int(12*math.Sqrt(mu))+40; c++ {
			d, tail := excess(float64(c), mu), poissonTail(c, mu)
			if tail > math.Exp(-d)*(1+1e-9) {
				t.Fatalf("mu %g, c %d: tail %g is above the bound %g", mu, c, tail, math.Exp(-d))
			}
			// Not only a bound but a near one: the tail's exponent exceeds D by
			// no more than the Gaussian prefactor.
			if slack := -math.Log(tail) - d; d > 5 && slack > 2+math.Log(float64(c)+1) {
				t.Fatalf("mu %g, c %d: exponent %g is %g below the exact one", mu, c, d, slack)
			}
		}
	}
}

// The thresholds that detection.md §2.1 gives for h = 14, its exact column
// within one or two counts.
func TestMinExcessCountAgainstTheExactTail(t *testing.T) {
	for _, mu := range []float64{0.03, 1, 30, 300} {
		for _, h := range []float64{14, 30} {
			exact := int(mu) + 1
			for -math.Log(poissonTail(exact, mu)) < h {
				exact++
			}
			got := int(minExcessCount(mu, h))
			if got < exact || got > exact+2+int(mu/30) {
				t.Errorf("mu %g, h %g: %d, the exact test needs %d", mu, h, got, exact)
			}
			if excess(float64(got), mu) < h || excess(float64(got-1), mu) >= h {
				t.Errorf("mu %g, h %g: %d is not the first count that reaches it", mu, h, got)
			}
		}
	}
}

func TestExcessEdges(t *testing.T) {
	for _, c := range []struct{ c, mu, want float64 }{
		{0, 0, 0}, {0, 5, 0}, {5, 5, 0}, {4, 5, 0}, {1, 0, math.Inf(1)},
	} {
		if got := excess(c.c, c.mu); got != c.want {
			t.Errorf("excess(%g, %g) = %g, want %g", c.c, c.mu, got, c.want)
		}
	}
	if d := excess(1, 0.5*60/4096); d >= 14 {
		t.Errorf("one sample at 1:4096 gives %g: it must never alarm", d)
	}
}

func TestExcessIsMonotonous(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		c, mu := 200*rng.Float64(), 100*rng.Float64()+0.001
		if d := excess(c, mu); excess(c+1, mu) < d || excess(c, mu+1) > d {
			t.Fatalf("c %g, mu %g: %g, then %g with one more and %g against a higher mu", c, mu, d, excess(c+1, mu), excess(c, mu+1))
		}
	}
}

func TestShortfallBoundsTheBinomialTail(t *testing.T) {
	for _, ratio := range []float64{0.02, 0.05, 0.5, 1} {
		p := ratio / (1 + ratio)
		for _, n := range []int{1, 10, 30, 100, 400, 1000} {
			for k := 0; float64(k) < ratio*float64(n); k += 1 + n/50 {
				d, head := shortfall(float64(k), float64(n), ratio), binomialHead(k, k+n, p)
				if head > math.Exp(-d)*(1+1e-9) {
					t.Fatalf("%d of %d at %g: head %g is above the bound %g", k, k+n, ratio, head, math.Exp(-d))
				}
			}
		}
	}
}

func TestShortfallEdges(t *testing.T) {
	for _, c := range []struct{ k, n, ratio float64 }{{0, 0, 1}, {5, 5, 1}, {6, 5, 1}, {5, 100, 0.05}, {0, 10, 0}} {
		if got := shortfall(c.k, c.n, c.ratio); got != 0 {
			t.Errorf("shortfall(%g, %g, %g) = %g, want 0", c.k, c.n, c.ratio, got)
		}
	}
	for _, h := range []float64{14, 30} {
		for _, ratio := range []float64{0.05, 1} {
			n := float64(leastPackets(h, ratio))
			if shortfall(0, n, ratio) < h || shortfall(0, n-1, ratio) >= h {
				t.Errorf("h %g, ratio %g: %g is not the least number of packets", h, ratio, n)
			}
		}
	}
}

// The table of detection.md §2.4: how often s attempts at a pool of d hosts
// pass for a pool of d0.
func TestPoolGuardTable(t *testing.T) {
	pools := []int{20, 40, 80, 150, 200, 400, 1000, 0} // 0: unlimited
	for _, row := range []struct {
		d0   float64
		s    int
		pass []float64
	}{
		{60, 30, []float64{0, .11, .84, .99, 1, 1, 1, 1}},
		{200, 30, []float64{0, 0, .08, .45, .65, .92, .99, 1}},
		{200, 60, []float64{0, 0, 0, .24, .57, .99, 1, 1}},
		{1000, 60, []float64{0, 0, 0, 0, .001, .06, .47, 1}},
		{1000, 100, []float64{0, 0, 0, 0, 0, .004, .47, 1}},
	} {
		for i, d := range pools {
			t.Run(fmt.Sprintf("D0=%g S=%d D=%d", row.d0, row.s, d), func(t *testing.T) {
				const runs = 20000
				rng, pass := rand.New(rand.NewPCG(7, uint64(d))), 0
				for range runs {
					u := row.s
					if d > 0 {
						seen := make(map[int]bool, row.s)
						for range row.s {
							seen[rng.IntN(d)] = true
						}
						u = len(seen)
					}
					if poolAtLeast(float64(u), float64(row.s), row.d0) {
						pass++
					}
				}
				// The table is rounded to two digits.
				if got := float64(pass) / runs; math.Abs(got-row.pass[i]) > 0.02 {
					t.Errorf("passes %.3f, the table says %.3f", got, row.pass[i])
				}
			})
		}
	}
}

// Sums of log-likelihood ratios drift down for the benign classes of
// detection.md §2.3 and up for scans.
func TestLambdaDrift(t *testing.T) {
	for _, c := range []struct {
		name       string
		s, e, a, i float64
		scan       bool
	}{
		{"crawler, 10 % dead", 120, 810, 90, 900, false},
		{"mail server, 20 % dead", 180, 800, 80, 800, false},
		{"health checker, 97 % up", 103, 200, 97, 200, false},
		{"P2P, 15 % success", 270, 150, 15, 150, false},
		{"masscan, 2 % answered", 100, 0, 2, 0, true},
		{"scan with logins", 505, 65, 10, 65, true},
	} {
		k := scanCounts{u: c.s, s: c.s, e: c.e, a: c.a, i: c.i, n: 1000}
		if (k.lambdaA() > 0) != c.scan {
			t.Errorf("%s: Λa %.1f", c.name, k.lambdaA())
		}
	}
}

func TestMoreAnswersNeverSpeakForAScan(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	cfg, pc := defaultNetscan(), defaultPorts()
	r0, _ := pc.lookup(22)
	for range 5000 {
		n := []float64{1, 256, 4096}[rng.IntN(3)]
		s := float64(1 + rng.IntN(300))
		k := scanCounts{s: s, u: math.Floor(s * (0.5 + rng.Float64()/2)), raw: math.Floor(s * rng.Float64()), n: n,
			e: float64(rng.IntN(20)), a: float64(rng.IntN(20)), i: float64(rng.IntN(20))}
		k.alien = k.isAlien()
		tier, _ := cfg.judge(k, r0, 60)
		more := k
		switch rng.IntN(3) {
		case 0:
			more.e++
		case 1:
			more.a++
		default:
			more.i++
		}
		more.alien = more.isAlien()
		if after, _ := cfg.judge(more, r0, 60); after > tier {
			t.Fatalf("%+v gives %s, with one more answer %s", k, tier, after)
		}
		longer, _ := cfg.judge(k, r0, 120)
		if longer > tier {
			t.Fatalf("%+v gives %s in 60 s and %s in 120 s", k, tier, longer)
		}
	}
}
