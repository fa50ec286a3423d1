package bgp

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one adapter. Labels come from closed sets: the adapter's name and
// the peers of the configuration, the operations, and "ok" or an error class.
type metrics struct {
	seconds *prometheus.HistogramVec
	up      *prometheus.GaugeVec
	lost    *prometheus.CounterVec
	rules   prometheus.Gauge
	limit   prometheus.Gauge
	refused prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, adapter string) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	labels := prometheus.Labels{"adapter": adapter}
	gauge := func(name, help string) prometheus.Gauge {
		return register(reg, prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}))
	}
	return &metrics{
		seconds: register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:        "flowcordon_bgp_operation_seconds",
			Help:        "Operations of a BGP suspender by result: ok or the class of the error.",
			ConstLabels: labels,
			Buckets:     []float64{.001, .005, .02, .05, .1, .25, 1, 2.5, 5, 10},
		}, []string{"op", "result"})),
		up: register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "flowcordon_bgp_peer_up", Help: "1 while the BGP session with the peer is established.", ConstLabels: labels,
		}, []string{"peer"})),
		lost: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flowcordon_bgp_sessions_lost_total", Help: "Established BGP sessions that ended.", ConstLabels: labels,
		}, []string{"peer"})),
		rules:   gauge("flowcordon_bgp_rules", "Routes that we announce: FlowSpec rules or blackholes."),
		limit:   gauge("flowcordon_bgp_rules_limit", "Routes that we may announce (max_rules)."),
		refused: gauge("flowcordon_bgp_marks_not_announced", "Sources whose marks were found at the start and may not be announced any more."),
	}
}

// register keeps the series of an adapter that a reload makes anew.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	err := reg.Register(c)
	if err == nil {
		return c
	}
	var are prometheus.AlreadyRegisteredError
	if !errors.As(err, &are) {
		panic("bgp: " + err.Error())
	}
	return are.ExistingCollector.(C)
}

func (m *metrics) observe(op, result string, d time.Duration) {
	m.seconds.WithLabelValues(op, result).Observe(d.Seconds())
}
