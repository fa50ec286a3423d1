package measure

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// rig is a generator and a collector of known speed, in a bubble's time.
type rig struct {
	capacity  float64 // records per second that the collector takes
	generator float64 // and that the generator sends at most
	rate      float64
	at        time.Time
	sent      float64
	lost      float64
	cost      float64 // CPU seconds per million
	err       error
}

func (r *rig) advance() {
	d := time.Since(r.at).Seconds()
	r.at = time.Now()
	rate := min(r.rate, r.generator)
	r.sent += rate * d
	r.lost += max(0, rate-r.capacity) * d
}

func (r *rig) SetRate(v float64) { r.advance(); r.rate = v }

func (r *rig) Sent() (records, datagrams uint64) {
	r.advance()
	return uint64(r.sent), uint64(r.sent / 25)
}

func (r *rig) CPU() (collector, engine time.Duration, err error) {
	r.advance()
	used := (r.sent - r.lost) * r.cost * 1000
	return time.Duration(used), time.Duration(used / 2), r.err
}

func (r *rig) Lost() (uint64, error) { r.advance(); return uint64(r.lost), r.err }

func (r *rig) Queued() (int64, error) { return 0, r.err }

func (r *rig) Memory() (collector, engine int64) { r.advance(); return int64(r.sent), 5 }

func TestStretch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{capacity: 1e6, generator: 1e7, cost: 0.5, at: time.Now()}
		r.SetRate(50_000)
		f, err := Stretch(t.Context(), r, r, 20*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if f.Records != 1_000_000 || f.Rate != 50_000 || f.Lost != 0 || math.Abs(f.CPU-0.5) > 1e-6 || math.Abs(f.Engine-0.25) > 1e-6 || f.Memory < 900_000 || f.EngineMemory != 5 {
			t.Errorf("%+v", f)
		}
	})
}

func TestHighest(t *testing.T) {
	for _, tc := range []struct {
		name                string
		capacity, generator float64
		want                float64
		bound               bool
	}{
		{"a fast collector", 3.7e6, 1e7, 3.7e6, false},
		{"slower than where the search begins", 31_000, 1e7, 31_000, false},
		{"exactly where it begins", 200_000, 1e7, 200_000, false},
		{"faster than the generator", 9e6, 4.2e6, 4.2e6, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &rig{capacity: tc.capacity, generator: tc.generator, cost: 0.3, at: time.Now()}
				h, err := FindHighest(t.Context(), r, r, Search{From: 200_000, Trial: 3 * time.Second, Confirm: 5 * time.Second, Precision: 0.03})
				if err != nil {
					t.Fatal(err)
				}
				if h.Rate > tc.want*1.0001 || h.Rate < tc.want*0.96 || h.Lost != 0 || h.Generator != tc.bound || math.Abs(h.CPU-0.3) > 1e-4 {
					t.Errorf("%+v", h)
				}
				if last := h.Trials[len(h.Trials)-1]; last.Lost != 0 || h.Seconds != 5 {
					t.Errorf("the last trial %+v, %v s", last, h.Seconds)
				}
			})
		})
	}
}

func TestHighestOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{capacity: 0, generator: 1e7, at: time.Now()}
		if h, err := FindHighest(t.Context(), r, r, Search{From: 1000, Trial: time.Second, Confirm: time.Second, Precision: 0.05}); err == nil {
			t.Errorf("%+v", h)
		}
	})
}

func TestErrorsAndCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("the collector is gone")
		r := &rig{capacity: 1, generator: 1e7, at: time.Now(), err: gone}
		r.SetRate(1000)
		if _, err := Stretch(t.Context(), r, r, time.Second); !errors.Is(err, gone) {
			t.Errorf("err = %v", err)
		}
		r.err = nil
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Stretch(ctx, r, r, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		r.SetRate(0)
		if _, err := Stretch(t.Context(), r, r, time.Second); err == nil {
			t.Error("figures of nothing")
		}
	})
}
