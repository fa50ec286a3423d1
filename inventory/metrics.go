package inventory

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	entries, success, loaded prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "flowcordon", Subsystem: "inventory", Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	return metrics{
		entries: gauge("entries", "Entries of the inventory in force."),
		success: gauge("last_reload_success", "1 if the last load of the inventory file was accepted, 0 if the one before stays in force."),
		loaded:  gauge("loaded_timestamp_seconds", "When the inventory in force was loaded, seconds since the epoch."),
	}
}
