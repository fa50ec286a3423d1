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

	measures   *prometheus.CounterVec
	held       *prometheus.CounterVec
	frozen     *prometheus.CounterVec
	reasserted *prometheus.CounterVec
	orphans    *prometheus.GaugeVec
	breaker    *prometheus.GaugeVec
	statements *prometheus.CounterVec
	refused    prometheus.Counter
	expired    prometheus.Counter
	undone     prometheus.Counter
	fallbacks  prometheus.Counter
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
	resultReplaced    = "replaced"
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
	m.ladder()
	reg.MustRegister(m.measures, m.held, m.frozen, m.reasserted, m.orphans, m.breaker, m.statements, m.refused, m.expired, m.undone, m.fallbacks)
	reg.MustRegister(m.actions, m.notices, m.stale, m.logErrors, m.hung, m.evidence, stateCollector{
		desc:  prometheus.NewDesc("flowcordon_incidents", "Incidents, by state.", []string{"state"}, nil),
		count: count,
	})
	return m
}

// ladder makes the metrics of measures, standing, safety and reconciling.
func (m *metrics) ladder() {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	one := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help, label string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{label})
	}
	m.measures = vec("flowcordon_measures_total", "Measures taken and given back, by measure, kind of action and result.", "measure", "kind", "result")
	m.held = vec("flowcordon_respond_held_total", "Acts that were due and held back, by reason.", "reason")
	m.frozen = vec("flowcordon_respond_freezes_total", "Freezes of automatic acts, by rule.", "rule")
	m.reasserted = vec("flowcordon_respond_reasserted_total", "Measures that were not in force any more and were taken up again, by reason.", "reason")
	m.orphans = gauge("flowcordon_respond_orphans", "NICs with a mark of ours that no incident holds, by adapter.", "adapter")
	m.breaker = gauge("flowcordon_respond_node_left_alone", "1 while a node is left alone after failures in a row.", "node")
	m.statements = vec("flowcordon_respond_statements_total", "Statements of customers, by what followed.", "outcome")
	m.refused = one("flowcordon_respond_refused_total", "Offences that were left to a human to refuse further service.")
	m.expired = one("flowcordon_respond_expired_total", "Temporary measures whose time was over.")
	m.undone = one("flowcordon_respond_undone_total", "Incidents whose measures an undo gave back.")
	m.fallbacks = one("flowcordon_respond_fallbacks_total", "Times that the fallback adapter stood in for a hypervisor.")
}
