package portal

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	refused *prometheus.CounterVec // by Reason
	answers *prometheus.CounterVec // by outcome
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "flowcordon", Subsystem: "portal", Name: "refused_total",
			Help: "Requests to the statement form that were refused, by reason. Outside, most of the reasons look the same.",
		}, []string{"reason"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "flowcordon", Subsystem: "portal", Name: "answers_total",
			Help: "Statements of customers, by what follows; not_stored: the customer was asked to send again.",
		}, []string{"outcome"}),
	}
	for _, r := range Reasons {
		m.refused.WithLabelValues(string(r))
	}
	for _, o := range []string{outcomeOf(purposeReleased), outcomeOf(purposeQueued), outcomeOf(purposeRefused), "not_stored"} {
		m.answers.WithLabelValues(o)
	}
	m.refused, m.answers = register(reg, m.refused), register(reg, m.answers)
	return m
}

// register adds a collector; after a reload the one that is there goes on.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	if err := reg.Register(c); err != nil {
		var are prometheus.AlreadyRegisteredError
		if !errors.As(err, &are) {
			panic("portal: " + err.Error())
		}
		return are.ExistingCollector.(C)
	}
	return c
}

// outcomeOf is the outcome that a page after an answer tells: a closed set,
// whatever Incidents says.
func outcomeOf(p purpose) string {
	switch p {
	case purposeReleased:
		return string(OutcomeReleased)
	case purposeRefused:
		return string(OutcomeRefused)
	}
	return string(OutcomeQueued)
}
