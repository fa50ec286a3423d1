package detect

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Scans that take hours. Lengths of whole hours are judged from the hours that
// the store has rolled up: what they say changes once an hour, so that it is asked
// between two ticks, held, and told again whenever the length is due.

// HourlyWindows is a Windows that has sums of whole hours.
type HourlyWindows interface {
	// LastHour returns the end of the last hour in r that is summed; zero: none is.
	LastHour(ctx context.Context, r flow.Range) (time.Time, error)
	// SlowScans returns the clients of TCP ports over the hours of r that have
	// minAttempts attempts and may show least of a scan's evidence (lambda).
	SlowScans(ctx context.Context, r flow.Range, minAttempts uint64, least float64) ([]flow.ServiceStat, error)
	// ServiceHourStats is the same of the tenants given, without a condition. Of
	// raw SYNs hours know nothing.
	ServiceHourStats(ctx context.Context, r flow.Range, tenants []netip.Addr) ([]flow.ServiceStat, error)
}

const (
	// slowFrom is the shortest length that is judged by hours.
	slowFrom = time.Hour
	// slowLook is how often the last hour is asked for, slowOld how old it may be:
	// an hour is summed ten minutes after its end, later where much is to be done.
	slowLook = time.Minute
	slowOld  = 3 * time.Hour
)

// slowScans holds what hours say.
type slowScans struct {
	w      HourlyWindows // nil: there are none
	looked time.Time
	end    time.Time // of the last hour; zero: none
	stats  map[time.Duration]*slowAnswer
}

// slowAnswer is what the hours of r say, and the parts of it that were asked for.
type slowAnswer struct {
	r     flow.Range
	stats []flow.ServiceStat
	parts map[time.Duration][]flow.ServiceStat
}

// last is the end of the last hour that is summed at ts; zero: none is lately.
func (s *slowScans) last(ctx context.Context, ts time.Time) (time.Time, error) {
	if s.w == nil || !s.looked.IsZero() && ts.Sub(s.looked) < slowLook {
		return s.end, nil
	}
	end, err := s.w.LastHour(ctx, flow.Range{From: floorTo(ts, slowFrom).Add(-slowOld - slowFrom), To: ts})
	if err != nil {
		return time.Time{}, fmt.Errorf("last hour: %w", err)
	}
	if !end.Equal(s.end) {
		s.stats = map[time.Duration]*slowAnswer{}
	}
	s.looked, s.end = ts, end
	return end, nil
}

// answer is what the last hours say over a length; nil: there are none.
func (s *slowScans) answer(ctx context.Context, ts time.Time, length time.Duration, cfg *NetscanConfig) (*slowAnswer, error) {
	end, err := s.last(ctx, ts)
	if err != nil || end.IsZero() {
		return nil, err
	}
	if a := s.stats[length]; a != nil {
		return a, nil
	}
	a := &slowAnswer{r: flow.Range{From: end.Add(-length), To: end}, parts: map[time.Duration][]flow.ServiceStat{}}
	if a.stats, err = s.w.SlowScans(ctx, a.r, cfg.NotifyDistinct, cfg.NotifyScore-rounding-0.1); err != nil {
		return nil, fmt.Errorf("hours of %s: %w", seconds(length), err)
	}
	s.stats[length] = a
	return a, nil
}

// slowNetscan judges hours. Beyond what netscan finds with the rate that benign
// hosts may have, fewer destinations than that are noted where hardly any of them
// answers: slow_share of the rate.
func slowNetscan(cfg *NetscanConfig, ports *portTable, s *flow.ServiceStat, r flow.Range) (flow.Finding, bool) {
	if f, ok := netscan(cfg, ports, s, r); ok {
		return f, true
	}
	r0, _ := ports.lookup(s.SvcPort)
	return netscanAbove(cfg, s, r, cfg.SlowShare*r0, flow.TierNotify)
}

// slowScan is the netscan of one length of hours.
func (t *tickState) slowScan(cfg *NetscanConfig, length time.Duration) error {
	a, err := t.d.slow.answer(t.ctx, t.ts, length, cfg)
	switch {
	case t.ctx.Err() != nil:
		return t.ctx.Err()
	case err != nil: // what happens now is judged without
		t.d.m.errors.WithLabelValues(stepHours).Inc()
		t.d.warn(t.ts, "sums of hours not available", err)
		return nil
	case a == nil:
		return nil
	}
	var fs []flow.Finding
	open := map[serviceKey]scanCounts{}
	var tenants []netip.Addr
	for i := range a.stats {
		f, ok := slowNetscan(&t.th(a.stats[i].Tenant).Netscan, t.d.ports, &a.stats[i], a.r)
		if !ok {
			continue
		}
		t.evidence(&f)
		if f.Tier == flow.TierSuspend {
			open[serviceKey{f.Tenant, f.Port}] = serviceCounts(&a.stats[i])
			tenants = append(tenants, f.Tenant)
		}
		fs = append(fs, f)
	}
	if err := t.slowTwice(a, length, open, tenants); err != nil {
		return err
	}
	return t.keepAll(a.r, length, fs, func(f *flow.Finding) bool { _, still := open[serviceKey{f.Tenant, f.Port}]; return !still }, nil)
}

// slowTwice is scansTwice for hours.
func (t *tickState) slowTwice(a *slowAnswer, length time.Duration, open map[serviceKey]scanCounts, tenants []netip.Addr) error {
	for _, div := range []time.Duration{2, 4, 8} {
		l := (length/div + slowFrom - 1) / slowFrom * slowFrom
		if len(open) == 0 || l >= length {
			return nil
		}
		stats, ok := a.parts[l]
		if !ok {
			var err error
			if stats, err = t.d.slow.w.ServiceHourStats(t.ctx, late(a.r, l), tenants); err != nil {
				return fmt.Errorf("hours for persistence: %w", err)
			}
			a.parts[l] = stats
		}
		t.scanned(open, stats, a.r, l)
	}
	return nil
}

// slowAhead asks for the hours before they are judged.
func (d *Detector) slowAhead(ctx context.Context, ts time.Time) error {
	cfg := &d.loose.Netscan
	if d.slow.w == nil || !d.cfg.on(flow.RuleNetscan) {
		return nil
	}
	for _, s := range cfg.WindowsS {
		if l := time.Duration(s) * time.Second; l >= slowFrom {
			if _, err := d.slow.answer(ctx, ts, l, cfg); err != nil {
				return err
			}
		}
	}
	return nil
}
