package api

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	denied   *prometheus.CounterVec
	panics   prometheus.Counter

	streams    prometheus.Gauge
	streamsCut prometheus.Counter
	limited    prometheus.Counter
	readsLost  prometheus.Counter
	unmade     prometheus.Counter
}

// newMetrics: the label route is a pattern of the router or "none", never a path
// that a client chose.
func newMetrics(reg prometheus.Registerer) metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	m := metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "flowcordon", Subsystem: "http", Name: "requests_total",
			Help: "Requests answered, by route and status code."}, []string{"route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "flowcordon", Subsystem: "http", Name: "request_duration_seconds",
			Help: "Time from the request's header to the end of the answer.", Buckets: []float64{.001, .005, .02, .05, .1, .2, .5, 1, 5, 30}}, []string{"route"}),
		denied: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "flowcordon", Subsystem: "http", Name: "denied_total",
			Help: "Requests refused for want of a token (401) or of a role (403)."}, []string{"code"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "flowcordon", Subsystem: "http", Name: "panics_total",
			Help: "Requests that ended in a panic; the log has the stack."}),
	}
	m.streams = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "flowcordon", Subsystem: "http", Name: "streams",
		Help: "Streams of events that are open."})
	m.streamsCut = prometheus.NewCounter(prometheus.CounterOpts{Namespace: "flowcordon", Subsystem: "http", Name: "streams_cut_total",
		Help: "Streams of events that ended because the client did not read, or with an error."})
	m.limited = prometheus.NewCounter(prometheus.CounterOpts{Namespace: "flowcordon", Subsystem: "http", Name: "limited_total",
		Help: "Requests refused because their token asked too often (429)."})
	m.readsLost = prometheus.NewCounter(prometheus.CounterOpts{Namespace: "flowcordon", Subsystem: "http", Name: "reads_unstored_total",
		Help: "Looks at personal data that are in the log of flowcordon only, because the database did not take them."})
	m.unmade = prometheus.NewCounter(prometheus.CounterOpts{Namespace: "flowcordon", Subsystem: "http", Name: "unmade_total",
		Help: "Answers 304 for which nothing was read or written, since what they are made of has not changed."})
	reg.MustRegister(m.requests, m.duration, m.denied, m.panics, m.streams, m.streamsCut, m.limited, m.readsLost, m.unmade)
	return m
}
