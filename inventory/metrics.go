package inventory

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	entries, success, loaded prometheus.Gauge
	failed                   *prometheus.CounterVec
	doubtful                 *prometheus.GaugeVec
	reg                      prometheus.Registerer
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
	m := metrics{
		entries: gauge("entries", "Entries of the inventory in force."),
		success: gauge("last_reload_success", "1 if the last load of the inventory file was accepted, 0 if the one before stays in force."),
		loaded:  gauge("loaded_timestamp_seconds", "When the inventory in force was loaded, seconds since the epoch."),
		reg:     reg,
	}
	return m
}

// watch adds the metrics of the sources, if there are any.
func (m *metrics) watch(i *Inventory) {
	m.failed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "flowcordon_inventory_source_errors_total", Help: "Readings of an inventory source that failed, by problem.",
	}, []string{"source", "problem"})
	m.doubtful = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "flowcordon_inventory_doubtful", Help: "Discovered prefixes for which nobody is acted on, by why; stale sources are told by their age.",
	}, []string{"doubt"})
	if len(i.sources) == 0 {
		return
	}
	for _, s := range i.sources {
		for _, p := range []Problem{ProblemTimeout, ProblemNetwork, ProblemTLS, ProblemAnswer, ProblemShrunk} {
			m.failed.WithLabelValues(s.Name, string(p))
		}
	}
	m.reg.MustRegister(m.failed, m.doubtful, sourceCollector{i})
}

var (
	sourceAge = prometheus.NewDesc("flowcordon_inventory_source_age_seconds",
		"Age of the last good reading of an inventory source; absent before the first.", []string{"source"}, nil)
	sourceEntries = prometheus.NewDesc("flowcordon_inventory_source_entries", "Entries of the last good reading.", []string{"source"}, nil)
	sourceStale   = prometheus.NewDesc("flowcordon_inventory_source_stale",
		"1 while a source is older than it may be: nobody known by it is acted on.", []string{"source"}, nil)
)

// sourceCollector tells of the sources at the moment of the scrape: an age that
// nobody updates would stand still just when it matters.
type sourceCollector struct{ i *Inventory }

// Describe implements prometheus.Collector.
func (c sourceCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- sourceAge
	ch <- sourceEntries
	ch <- sourceStale
}

// Collect implements prometheus.Collector.
func (c sourceCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, source string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, source)
	}
	for _, s := range c.i.Sources() {
		if !s.Seen.IsZero() {
			gauge(sourceAge, s.Age.Seconds(), s.Name)
		}
		gauge(sourceEntries, float64(s.Entries), s.Name)
		stale := 0.0
		if s.Stale {
			stale = 1
		}
		gauge(sourceStale, stale, s.Name)
	}
}
