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
			h.Problems = append(h.Problems, problems(&h, agg.Exporters[addr], cfg, now)...)
			out = append(out, h)
		}
	}
	for _, p := range cfg.Allow {
		if addr := p.Addr(); p.IsSingleIP() && !heard[addr] {
			heard[addr] = true
			out = append(out, flow.ExporterHealth{
				Exporter: addr, Protocols: []string{}, Dropped: map[string]uint64{}, Samplers: []flow.SamplerHealth{},
				Problems: []string{fmt.Sprintf("nothing came from %s since the start: check its export destination, the ports under listen, and firewalls on the way", addr)},
			})
		}
	}
	slices.SortFunc(out, func(a, b flow.ExporterHealth) int { return a.Exporter.Compare(b.Exporter) })
	return out
}

// problems are those that the decoder cannot see. A line says what is wrong and
// what to do.
func problems(h *flow.ExporterHealth, agg aggregate.ExporterStats, cfg *Config, now time.Time) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	told := slices.ContainsFunc(h.Samplers, func(s flow.SamplerHealth) bool { return s.Rate == 0 })
	if agg.SamplingUnknown > 0 && !told {
		add("%d records without a known sampling rate are kept out of detection: write exporters: {sampling: [{exporter: %s, default: N}]} with its 1:N", agg.SamplingUnknown, h.Exporter)
	}
	out = append(out, timingProblems(h, agg, cfg)...)
	if h.Lost > 0 {
		add("%d datagrams or records are missing by sequence number: if flowcordon_collector_kernel_drops_total grows too, raise collector.read_buffer and net.core.rmem_max; else they are lost on the way", h.Lost)
	}
	if !h.LastSeen.IsZero() && now.Sub(h.LastSeen) > silentAfter {
		add("silent since %s: check the export on the router and the way to this host", h.LastSeen.UTC().Format(time.RFC3339))
	}
	return out
}

// timingProblems are those of its clock and its timeouts.
func timingProblems(h *flow.ExporterHealth, agg aggregate.ExporterStats, cfg *Config) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	offset := 0.0
	if h.ClockOffsetS != nil {
		offset = *h.ClockOffsetS
	}
	if agg.ClockAhead > 0 {
		add("its clock is ahead: %d records ended over 60 s after they arrived; the time of arrival was used. Set its clock by NTP", agg.ClockAhead)
	}
	switch {
	case offset > clockTolerance && agg.ClockAhead == 0:
		add("its clock is %.1f s ahead of ours: set it by NTP", offset)
	case offset < -clockTolerance && agg.TooLate == 0:
		add("its clock is %.1f s behind ours, or its datagrams take that long: set it by NTP", -offset)
	}
	maxAge := cfg.Aggregate.MaxAge
	if maxAge == 0 {
		maxAge = aggregate.DefaultMaxAge
	}
	switch delay := time.Duration(h.MaxDelayS * float64(time.Second)); {
	case agg.TooLate > 0:
		add("%d records ended over %s before they arrived and were dropped: its clock is behind (set it by NTP) or its time zone is not UTC", agg.TooLate, maxAge)
	case h.ExportDelayS != nil && h.ExportDelayS.Max > lateAfter.Seconds():
		add("records wait up to %.0f s in it before they are exported (99 %% of them up to %.0f s): set active timeout 60 s, inactive 15 s", h.ExportDelayS.Max, h.ExportDelayS.P99)
	case delay > lateAfter && offset >= -clockTolerance:
		add("records arrive up to %d s after they ended: its clock is behind (set it by NTP) or it holds them back (set active timeout 60 s, inactive 15 s)", int(h.MaxDelayS))
	}
	if d := h.FlowDurationS; d != nil && d.Max > lateAfter.Seconds() {
		add("records span up to %.0f s (99 %% of them up to %.0f s), and what they count is spread over all of it: set active timeout 60 s", d.Max, d.P99)
	}
	return out
}
