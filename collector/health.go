package collector

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/flow"
)

const (
	// silentAfter: an exporter of a border router sends each second; templates
	// and counters come each minute even without traffic.
	silentAfter = 5 * time.Minute
	// clockTolerance: NTP holds a clock within milliseconds, and headers in
	// whole seconds are off by one at most.
	clockTolerance = 5 // s
	// lateAfter: with the timeouts we ask for (active 60 s, inactive 15 s) a
	// record is at most about a minute old.
	lateAfter = 2 * time.Minute
)

// Exporters returns the state of every allowed exporter: those heard of, and
// those allowed by their own address that never were. Sorted by address.
func (c *Collector) Exporters() []flow.ExporterHealth {
	cfg, now := c.settings.Load(), c.now()
	allow := c.allow.Load()
	heard := map[netip.Addr]bool{}
	var out []flow.ExporterHealth
	for _, l := range c.lanes {
		l.mu.Lock()
		dec, agg := l.dec.Stats(), l.front.Stats()
		templates := map[netip.Addr][]flow.TemplateHealth{}
		for addr := range dec.Exporters {
			if allow.Contains(addr) {
				templates[addr] = l.dec.Templates(addr)
			}
		}
		l.mu.Unlock()
		for addr, list := range templates {
			heard[addr] = true
			h := dec.Exporters[addr].Health(addr)
			h.TemplateList = list
			tellProblems(&h, agg.Exporters[addr], cfg, now)
			out = append(out, h)
		}
	}
	for _, p := range cfg.Allow {
		if addr := p.Addr(); p.IsSingleIP() && !heard[addr] {
			heard[addr] = true
			h := flow.ExporterHealth{Exporter: addr, Protocols: []string{}, Dropped: map[string]uint64{}, Samplers: []flow.SamplerHealth{}}
			h.Tell(problemForms, "never_came", addr)
			out = append(out, h)
		}
	}
	slices.SortFunc(out, func(a, b flow.ExporterHealth) int { return a.Exporter.Compare(b.Exporter) })
	return out
}

// tellProblems adds those that the decoder cannot see. A line says what is wrong
// and what to do.
func tellProblems(h *flow.ExporterHealth, agg aggregate.ExporterStats, cfg *Config, now time.Time) {
	told := slices.ContainsFunc(h.Samplers, func(s flow.SamplerHealth) bool { return s.Rate == 0 })
	if agg.SamplingUnknown > 0 && !told {
		h.Tell(problemForms, "no_rate", agg.SamplingUnknown, h.Exporter)
	}
	tellTiming(h, agg, cfg)
	if h.Lost > 0 {
		h.Tell(problemForms, "lost", h.Lost)
	}
	if !h.LastSeen.IsZero() && now.Sub(h.LastSeen) > silentAfter {
		h.Tell(problemForms, "silent", h.LastSeen.UTC().Format(time.RFC3339))
	}
}

// tellTiming adds those of its clock and its timeouts.
func tellTiming(h *flow.ExporterHealth, agg aggregate.ExporterStats, cfg *Config) {
	add := func(code string, values ...any) { h.Tell(problemForms, code, values...) }
	offset := 0.0
	if h.ClockOffsetS != nil {
		offset = *h.ClockOffsetS
	}
	if agg.ClockAhead > 0 {
		add("records_ahead", agg.ClockAhead)
	}
	switch {
	case offset > clockTolerance && agg.ClockAhead == 0:
		add("clock_ahead", fmt.Sprintf("%.1f", offset))
	case offset < -clockTolerance && agg.TooLate == 0:
		add("clock_behind", fmt.Sprintf("%.1f", -offset))
	}
	maxAge := cfg.Aggregate.MaxAge
	if maxAge == 0 {
		maxAge = aggregate.DefaultMaxAge
	}
	seconds := func(s float64) string { return fmt.Sprintf("%.0f", s) }
	switch delay := time.Duration(h.MaxDelayS * float64(time.Second)); {
	case agg.TooLate > 0:
		add("too_late", agg.TooLate, maxAge)
	case h.ExportDelayS != nil && h.ExportDelayS.Max > lateAfter.Seconds():
		add("held_back", seconds(h.ExportDelayS.Max), seconds(h.ExportDelayS.P99))
	case delay > lateAfter && offset >= -clockTolerance:
		add("late", int(h.MaxDelayS))
	}
	if d := h.FlowDurationS; d != nil && d.Max > lateAfter.Seconds() {
		add("long_flows", seconds(d.Max), seconds(d.P99))
	}
}
