package embedded

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	restarts prometheus.Counter
	up       prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	m := &metrics{
		restarts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flowcordon_engine_restarts_total",
			Help: "Times the embedded ClickHouse engine ended or did not start and was started again.",
		}),
		up: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flowcordon_engine_up",
			Help: "1 while the embedded ClickHouse engine serves.",
		}),
	}
	reg.MustRegister(m.restarts, m.up)
	return m
}
