package store

import "github.com/prometheus/client_golang/prometheus"

// Reasons why rows were dropped: a closed set.
const (
	dropSpoolFull  = "spool_full"  // Write refused: the database was away for too long
	dropSpoolError = "spool_error" // Write failed: the disk
	dropClosed     = "closed"      // Write after the end of Run
	dropCorrupt    = "corrupt"     // a batch in the spool was damaged; set aside as .corrupt. Counts batches
	dropRejected   = "rejected"    // ClickHouse refuses rows for good; their batch is set aside as .rejected
)

// dropShed are the reasons for detail that a full spool has given up, by index
// in tables. Host windows are never given up.
var dropShed = [len(tables)]string{1: "spool_full_services", 2: "spool_full_pairs", 3: "spool_full_flows"}

type metrics struct {
	rows         *prometheus.CounterVec
	spoolBytes   prometheus.Gauge
	insertErrors prometheus.Counter
	dropped      *prometheus.CounterVec
	repaired     prometheus.Counter
	insertSec    prometheus.Histogram
	sentBytes    prometheus.Counter
	rollupSec    prometheus.Histogram
	rollupErrors prometheus.Counter
	rollupBehind prometheus.Gauge
	disk         *diskMetrics
}

func newMetrics() *metrics {
	m := &metrics{
		disk: newDiskMetrics(),
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
		sentBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flowcordon_store_sent_bytes_total", Help: "Bytes of columns that ClickHouse has acknowledged, before compression.",
		}),
		rollupSec: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "flowcordon_store_rollup_seconds", Help: "Time of summing one hour of windows.",
			Buckets: prometheus.ExponentialBuckets(0.05, 2, 14),
		}),
		rollupErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flowcordon_store_rollup_errors_total", Help: "Passes of the rollups that failed; each is tried again.",
		}),
		rollupBehind: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flowcordon_store_rollup_behind_seconds", Help: "Age of the oldest hour that should be rolled up and is not, 0 without any.",
		}),
	}
	for _, r := range []string{dropSpoolFull, dropSpoolError, dropClosed, dropCorrupt, dropRejected, dropShed[1], dropShed[2], dropShed[3]} {
		m.dropped.WithLabelValues(r)
	}
	return m
}

// register makes the metrics known to reg, with those that are looked up in the
// spool.
func (m *metrics) register(reg prometheus.Registerer, s *spool) {
	reg.MustRegister(m.disk.all()...)
	reg.MustRegister(m.rows, m.spoolBytes, m.insertErrors, m.dropped, m.repaired, m.insertSec, m.sentBytes,
		m.rollupSec, m.rollupErrors, m.rollupBehind,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "flowcordon_store_spool_batches", Help: "Batches that ClickHouse has not acknowledged yet.",
		}, func() float64 {
			n, _ := s.waiting()
			return float64(n)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "flowcordon_store_spool_oldest_seconds", Help: "Age of the oldest batch that ClickHouse has not acknowledged yet, 0 without any.",
		}, func() float64 {
			_, age := s.waiting()
			return age.Seconds()
		}))
}
