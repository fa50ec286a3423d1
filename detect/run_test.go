package detect

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flowcordon/flowcordon/flow"
)

// value is a counter's value, or the number of a histogram's observations.
func value(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 1 {
		t.Fatalf("not one metric: %v %v", families, err)
	}
	m := families[0].GetMetric()[0]
	if h := m.GetHistogram(); h != nil {
		return float64(h.GetSampleCount())
	}
	return m.GetCounter().GetValue()
}

// slowWindows takes its time for each tick.
type slowWindows struct {
	*memWindows
	wait time.Duration
}

func (s *slowWindows) ServiceStats(ctx context.Context, r flow.Range, p uint8, n uint64) ([]flow.ServiceStat, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(s.wait):
	}
	s.wait = 0
	return s.memWindows.ServiceStats(ctx, r, p, n)
}

func onlyNetscan() Config {
	cfg := Defaults()
	for _, r := range rules[1:] {
		cfg.Rules[r] = RuleConfig{Mode: flow.ModeOff}
	}
	return cfg
}

// always gives one finding at each tick.
type always struct{ *memWindows }

func (always) ServiceStats(_ context.Context, r flow.Range, _ uint8, _ uint64) ([]flow.ServiceStat, error) {
	return []flow.ServiceStat{scan(500, 1, 22)}, nil
}

func (always) HostStats(_ context.Context, _ flow.Range, ts []netip.Addr) ([]flow.HostStat, error) {
	return []flow.HostStat{{Tenant: ts[0], Classes: flow.Classes{SYNOut: 500}}}, nil
}

func TestRunTicksAtTheSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(3 * time.Second) // not on a slot
		ctx, cancel := context.WithCancel(context.Background())
		var slots []time.Time
		reg := prometheus.NewRegistry()
		d := New(onlyNetscan(), Deps{Windows: always{newMemWindows()}, Registerer: reg, Emit: func(_ context.Context, ts time.Time, f []flow.Finding) error {
			if !time.Now().Equal(ts) {
				t.Errorf("slot %v at %v", ts, time.Now())
			}
			slots = append(slots, ts)
			return nil
		}})
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		time.Sleep(21 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if len(slots) != 4 {
			t.Fatalf("%d slots: %v", len(slots), slots)
		}
		for i, s := range slots {
			if s.Unix()%5 != 0 || i > 0 && s.Sub(slots[i-1]) != 5*time.Second {
				t.Errorf("slots %v", slots)
			}
		}
		if n := value(t, d.m.missed); n != 0 {
			t.Errorf("%g missed", n)
		}
		if n := value(t, d.m.findings.WithLabelValues("netscan", "notify")) + value(t, d.m.findings.WithLabelValues("netscan", "suspend")); n != 4 {
			t.Errorf("%g findings counted", n)
		}
	})
}

func TestRunSkipsMissedSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		w := &slowWindows{newMemWindows(), 17 * time.Second}
		d := New(onlyNetscan(), Deps{Windows: w, Emit: func(context.Context, time.Time, []flow.Finding) error { return nil }})
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		time.Sleep(31 * time.Second)
		cancel()
		<-done
		// The tick of 5 s ends at 22 s: 10 and 15 are missed, 20 is late.
		if n := value(t, d.m.missed); n != 2 {
			t.Errorf("%g missed, want 2", n)
		}
		// 5, 20 and 25 s, and the one that begins at 30 s.
		if n := value(t, d.m.tick); n != 4 {
			t.Errorf("%g ticks were timed", n)
		}
	})
}

func TestRunGoesOnAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		core, logs := observer.New(zap.InfoLevel)
		m := newMemWindows()
		m.err = errors.New("connection refused")
		d := New(onlyNetscan(), Deps{Windows: m, Log: zap.New(core), Emit: func(context.Context, time.Time, []flow.Finding) error { return nil }})
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		time.Sleep(151 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if n := value(t, d.m.errors.WithLabelValues(stepTick)); n != 30 {
			t.Errorf("%g errors counted, want 30", n)
		}
		if n := logs.Len(); n != 3 {
			t.Errorf("%d lines, want one a minute: 3", n)
		}
	})
}

func TestRunCountsEmitErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		d := New(onlyNetscan(), Deps{Windows: always{newMemWindows()}, Emit: func(context.Context, time.Time, []flow.Finding) error { return errors.New("full") }})
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		time.Sleep(11 * time.Second)
		cancel()
		<-done
		if n := value(t, d.m.errors.WithLabelValues(stepEmit)); n != 2 {
			t.Errorf("%g, want 2", n)
		}
	})
}

func TestRunEndsInsideATick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		d := New(onlyNetscan(), Deps{Windows: &slowWindows{newMemWindows(), time.Hour}, Emit: func(context.Context, time.Time, []flow.Finding) error { return nil }})
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		time.Sleep(7 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if n := value(t, d.m.errors.WithLabelValues(stepTick)); n != 0 {
			t.Errorf("a cancelled tick counts as %g errors", n)
		}
	})
}

func TestRunNeedsEmit(t *testing.T) {
	if err := New(Config{}, Deps{Windows: newMemWindows()}).Run(context.Background()); err == nil {
		t.Error("runs without Emit")
	}
}

// A tick waits for what was received until a moment before it, but the slot stays the slot.
func TestPrepare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takes = 300 * time.Millisecond
		var prepared []time.Time
		ctx, cancel := context.WithCancel(t.Context())
		ticks := 0
		d := New(onlyNetscan(), Deps{Windows: always{newMemWindows()}, Prepare: func(context.Context) {
			prepared = append(prepared, time.Now())
			time.Sleep(takes)
		}, Emit: func(_ context.Context, ts time.Time, _ []flow.Finding) error {
			if since := prepared[len(prepared)-1].Sub(ts); since != -prepareLead {
				t.Errorf("prepared %v after the slot, want %v before", since, prepareLead)
			}
			if after := time.Since(ts); after != takes-prepareLead {
				t.Errorf("the tick ended %v after its slot, want %v", after, takes-prepareLead)
			}
			if ticks++; ticks == 3 {
				cancel()
			}
			return nil
		}})
		if err := d.Run(ctx); err != nil || len(prepared) != 3 {
			t.Errorf("prepared %d times for %d ticks: %v", len(prepared), ticks, err)
		}
	})
}
