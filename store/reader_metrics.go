package store

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flowcordon/flowcordon/flow"
)

// How a question was answered: a closed set.
const (
	answerKept   = "kept"   // from memory
	answerJoined = "joined" // with an equal one that was on its way
	answerAsked  = "asked"  // by the database
)

type readerMetrics struct {
	answers  *prometheus.CounterVec
	refused  prometheus.Counter
	together prometheus.Histogram
	gauges   []prometheus.Collector
}

func newReaderMetrics(r *reader) *readerMetrics {
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	return &readerMetrics{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flowcordon_store_reads_total", Help: "Questions of the API by how they were answered: kept (from memory), joined (with an equal one), asked (by the database).",
		}, []string{"how"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flowcordon_store_reads_refused_total", Help: "Questions of the API that were refused because too many were waiting.",
		}),
		together: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "flowcordon_store_reads_together", Help: "Questions of the API that one query answered.", Buckets: []float64{1, 2, 4, 8, 16, 32, 64},
		}),
		gauges: []prometheus.Collector{
			gauge("flowcordon_store_reads_waiting", "Questions of the API that wait for their turn.", func() float64 { return float64(r.near.queued() + r.wide.queued()) }),
			gauge("flowcordon_store_reads_memory_bytes", "Answers that are kept in memory.", func() float64 { return float64(r.memo.size()) }),
		},
	}
}

func (m *readerMetrics) refuse(err error) {
	var busy *flow.Busy
	if errors.As(err, &busy) {
		m.refused.Inc()
	}
}

func (m *readerMetrics) all() []prometheus.Collector {
	return append([]prometheus.Collector{m.answers, m.refused, m.together}, m.gauges...)
}
