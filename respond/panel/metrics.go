package panel

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts operations. Labels come from closed sets: the adapter's name
// in the configuration, the operations (status, cut, restore, restrict, lift,
// list, describe, read, watch), and "ok" or an error class.
type metrics struct {
	seconds *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer, adapter string) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:        "flowcordon_panel_operation_seconds",
		Help:        "Operations on a panel by result: ok or the class of the error.",
		ConstLabels: prometheus.Labels{"adapter": adapter},
		Buckets:     []float64{.005, .02, .05, .1, .25, 1, 2.5, 5, 10, 30},
	}, []string{"op", "result"})
	if err := reg.Register(h); err != nil {
		// A reload makes the adapter anew; it goes on with the same series.
		var are prometheus.AlreadyRegisteredError
		if !errors.As(err, &are) {
			panic("panel: " + err.Error())
		}
		h = are.ExistingCollector.(*prometheus.HistogramVec)
	}
	return &metrics{seconds: h}
}

func (m *metrics) observe(op, result string, d time.Duration) {
	m.seconds.WithLabelValues(op, result).Observe(d.Seconds())
}
