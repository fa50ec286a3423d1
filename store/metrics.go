package store

import "github.com/prometheus/client_golang/prometheus"

// Reasons why rows were dropped: a closed set.
const (
	dropSpoolFull  = "spool_full"  // Write refused: the database was away for too long
	dropSpoolError = "spool_error" // Write failed: the disk
	dropClosed     = "closed"      // Write after the end of Run
	dropCorrupt    = "corrupt"     // a batch in the spool was damaged; set aside as .corrupt. Counts batches
	dropRejected   = "rejected"    // ClickHouse refuses a batch for good; set aside as .rejected
)

type metrics struct {
	rows         *prometheus.CounterVec
	spoolBytes   prometheus.Gauge
	insertErrors prometheus.Counter
	dropped      *prometheus.CounterVec
	repaired     prometheus.Counter
	insertSec    prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	m := &metrics{
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flowcordon_store_rows_total", Help: "Rows that ClickHouse has acknowledged.",
		}, []string{"table"}),
		spoolBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flowcordon_store_spool_bytes", Help: "Bytes on disk that ClickHouse has not acknowledged yet.",
		}),
		insertErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flowcordon_store_insert_errors_total", Help: "Inserts that failed; each is tried again.",
		}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flowcordon_store_dropped_total", Help: "Rows that were dropped (reason corrupt: batches).",
		}, []string{"reason"}),
		repaired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flowcordon_store_repaired_total",
			Help: "Parts that a crash of ClickHouse had lost although their token was recorded, and that were inserted again.",
		}),
		insertSec: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "flowcordon_store_insert_seconds", Help: "Time of one acknowledged insert.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 12),
		}),
	}
	for _, r := range []string{dropSpoolFull, dropSpoolError, dropClosed, dropCorrupt, dropRejected} {
		m.dropped.WithLabelValues(r)
	}
	reg.MustRegister(m.rows, m.spoolBytes, m.insertErrors, m.dropped, m.repaired, m.insertSec)
	return m
}
