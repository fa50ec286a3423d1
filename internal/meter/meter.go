// Package meter counts the operations of an adapter: how long each took and how
// it ended. It imports no package of ours.
package meter

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Operations is an adapter's histogram flowcordon_KIND_operation_seconds, in
// seconds. Labels come from closed sets: the adapter's name in the
// configuration, the operations, and "ok" or an error class.
type Operations struct {
	seconds *prometheus.HistogramVec
}

// New registers the histogram; what says which operations it counts. A reload
// makes an adapter anew: it goes on with the same series. reg may be nil.
func New(reg prometheus.Registerer, kind, what, adapter string) *Operations {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:        "flowcordon_" + kind + "_operation_seconds",
		Help:        what + " by result: ok or the class of the error.",
		ConstLabels: prometheus.Labels{"adapter": adapter},
		Buckets:     []float64{.005, .02, .05, .1, .25, 1, 2.5, 5, 10, 30},
	}, []string{"op", "result"})
	if err := reg.Register(h); err != nil {
		var are prometheus.AlreadyRegisteredError
		if !errors.As(err, &are) {
			panic(kind + ": " + err.Error())
		}
		h = are.ExistingCollector.(*prometheus.HistogramVec)
	}
	return &Operations{seconds: h}
}

// Observe counts one operation that took d.
func (o *Operations) Observe(op, result string, d time.Duration) {
	o.seconds.WithLabelValues(op, result).Observe(d.Seconds())
}
