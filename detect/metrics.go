package detect

import "github.com/prometheus/client_golang/prometheus"

// The steps that can fail, the closed set of the errors' label.
const (
	stepTick       = "tick"
	stepEmit       = "emit"
	stepKnownPeers = "known_peers"
	stepSources    = "sources"
	stepFleet      = "fleet"
	stepMemory     = "memory"
	stepHours      = "hours"
)

type metrics struct {
	tick     prometheus.Histogram
	missed   prometheus.Counter
	errors   *prometheus.CounterVec
	findings *prometheus.CounterVec
	suspects *prometheus.GaugeVec
	held     prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	m := &metrics{
		tick: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "flowcordon_detect_tick_seconds", Help: "Time of one detector tick, queries included.",
			Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30},
		}),
		missed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flowcordon_detect_missed_slots_total", Help: "Slots without a tick because the one before took too long.",
		}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flowcordon_detect_errors_total", Help: "Ticks that failed (tick), findings that could not be handed on (emit), known-peer queries (known_peers) and queries of the guards (sources, fleet) that failed, and what they remember that could not be saved or read (memory), and sums of hours that were not to be had (hours).",
		}, []string{"step"}),
		findings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flowcordon_findings_total", Help: "Findings by rule and tier after the gates, one for each tick they are seen in.",
		}, []string{"rule", "tier"}),
		suspects: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "flowcordon_detect_suspects", Help: "Tenants that the last tick asked the store about, by question.",
		}, []string{"question"}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flowcordon_detect_held_bytes", Help: "Suspects' rows kept in memory, so that they need not be read each tick.",
		}),
	}
	for _, s := range []string{stepTick, stepEmit, stepKnownPeers, stepSources, stepFleet, stepMemory, stepHours} {
		m.errors.WithLabelValues(s)
	}
	for _, r := range rules {
		for _, t := range []string{"notify", "suspend"} {
			m.findings.WithLabelValues(string(r), t)
		}
	}
	reg.MustRegister(m.tick, m.missed, m.errors, m.findings, m.suspects, m.held)
	return m
}

// seeScreen notes whom the tick was about.
func (m *metrics) seeScreen(w *screened) {
	for question, l := range w.suspects {
		m.suspects.WithLabelValues(question).Set(float64(len(l)))
	}
	m.held.Set(float64(w.held.size))
}
