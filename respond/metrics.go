package respond

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/flowcordon/flowcordon/flow"
)

type metrics struct {
	actions   *prometheus.CounterVec
	notices   *prometheus.CounterVec
	stale     prometheus.Counter
	logErrors prometheus.Counter
	hung      prometheus.Gauge
	evidence  *prometheus.CounterVec
}

// Results of an attempt, as in flowcordon_actions_total.
const (
	resultDone        = "done"
	resultAlready     = "already" // read back as wanted, no call was made
	resultRetry       = "retry"
	resultFailed      = "failed"
	resultVerified    = "verified"
	resultUnverified  = "unverified"
	resultSent        = "sent"
	resultGivenUp     = "given_up"
	resultFrozen      = "frozen"
	resultUnavailable = "unavailable"
)

var allStates = []flow.State{
	flow.StateOpen, flow.StateNotified, flow.StateHeld, flow.StateApproval, flow.StateSuspending, flow.StateSuspended,
	flow.StateVerified, flow.StateUnverified, flow.StateFailed, flow.StateReleasing, flow.StateReleased, flow.StateClosed,
}

// stateCollector reports how many incidents are in each state at scrape time.
type stateCollector struct {
	desc  *prometheus.Desc
	count func() map[flow.State]int
}

func (s stateCollector) Describe(ch chan<- *prometheus.Desc) { ch <- s.desc }

func (s stateCollector) Collect(ch chan<- prometheus.Metric) {
	n := s.count()
	for _, st := range allStates {
		ch <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, float64(n[st]), string(st))
	}
}

func newMetrics(reg prometheus.Registerer, count func() map[flow.State]int) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	m := &metrics{
		actions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flowcordon_actions_total", Help: "Attempts to cut or restore a network, by adapter and result.",
		}, []string{"adapter", "result"}),
		notices: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flowcordon_notices_total", Help: "Notices, by notifier and result.",
		}, []string{"notifier", "result"}),
		stale: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flowcordon_respond_stale_findings_total",
			Help: "Findings ignored because they count windows from before the last release or close.",
		}),
		logErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flowcordon_respond_log_errors_total", Help: "Appends to the event log that failed and are repeated.",
		}),
		hung: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flowcordon_respond_hung_calls", Help: "Calls into adapters that ignored their deadline and have not returned.",
		}),
		evidence: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flowcordon_respond_evidence_total", Help: "Evidence freezes, by result.",
		}, []string{"result"}),
	}
	reg.MustRegister(m.actions, m.notices, m.stale, m.logErrors, m.hung, m.evidence, stateCollector{
		desc:  prometheus.NewDesc("flowcordon_incidents", "Incidents, by state.", []string{"state"}, nil),
		count: count,
	})
	return m
}
