package collector

import (
	"testing"
	"time"
)

func TestPacer(t *testing.T) {
	const big = DefaultReadBuffer
	for name, c := range map[string]struct {
		buffer  int
		elapsed time.Duration // since the last wait
		calls   []int         // what receive calls brought
		nap     time.Duration
		idle    bool
	}{
		"nothing since the last wait":       {big, 20 * time.Millisecond, []int{0}, 0, true},
		"a full batch":                      {big, time.Millisecond, []int{64}, 0, false},
		"empty after full batches":          {big, time.Millisecond, []int{64, 64, 0}, 2 * time.Millisecond, false},
		"quiet: 1,700 a second":             {big, 20 * time.Millisecond, []int{34}, maxNap, false},
		"one after a long time":             {big, time.Hour, []int{1}, maxNap, false},
		"busy: 25,600 a second":             {big, 10 * time.Millisecond, []int{64, 64, 64, 64, 0}, 10 * time.Millisecond, false},
		"just napping: 256,000 a second":    {big, time.Millisecond, []int{64, 64, 64, 64, 0}, minNap, false},
		"not napping: over that":            {big, time.Millisecond, []int{64, 64, 64, 64, 1}, 0, true},
		"buffer as Linux grants it":         {212_992, 20 * time.Millisecond, []int{34}, 184 * time.Second / burstRate, false},
		"buffer that a burst fills at once": {skbSize, 20 * time.Millisecond, []int{34}, 0, true},
	} {
		now := time.Now()
		p := newPacer(c.buffer, now)
		now = now.Add(c.elapsed)
		var nap time.Duration
		var idle bool
		for _, n := range c.calls {
			nap, idle = p.next(n, now)
		}
		if nap != c.nap || idle != c.idle {
			t.Errorf("%s: nap %s, idle %t; want %s, %t", name, nap, idle, c.nap, c.idle)
		}
	}
}

// TestPacerFindsItsNap: whatever the rate, naps soon gather napGather datagrams
// or are as long as they may be.
func TestPacerFindsItsNap(t *testing.T) {
	for _, perSecond := range []int{1, 50, 1_700, 10_000, 50_000, 200_000} {
		now := time.Now()
		p := newPacer(DefaultReadBuffer, now)
		last := time.Duration(0)
		for range 20 {
			n := max(1, int(time.Duration(perSecond)*now.Sub(p.since)/time.Second))
			for ; n >= batchSize; n -= batchSize {
				p.next(batchSize, now)
			}
			d, idle := p.next(n, now)
			if idle {
				d = time.Second / time.Duration(perSecond)
			}
			now = now.Add(d)
			last = d
		}
		gathered := float64(perSecond) * last.Seconds()
		if last < maxNap && perSecond > 50 && (gathered < napGather*0.9 || gathered > napGather*1.1) {
			t.Errorf("%d a second: naps of %s find %.0f datagrams", perSecond, last, gathered)
		}
	}
}
