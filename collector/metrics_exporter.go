package collector

import (
	"math"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// rateInForce: a sampling rate that no record had for so long is history.
const rateInForce = 10 * time.Minute

// exporterMetrics are those with a label of the exporter. Only allowed ones
// come here, and a decoder keeps at most 4096.
type exporterMetrics struct {
	records, lost, offset, delay, duration, rate, templates *prometheus.Desc
}

func newExporterMetrics(desc func(name, help string, labels ...string) *prometheus.Desc) exporterMetrics {
	return exporterMetrics{
		lost:      desc("sequence_lost_total", "Datagrams or records missing by sequence number.", "exporter"),
		records:   desc("exporter_records_total", "Flow records and packet samples decoded.", "exporter"),
		offset:    desc("exporter_clock_offset_seconds", "The exporter's clock minus ours, by the headers of the last minutes; not with sFlow.", "exporter"),
		delay:     desc("exporter_export_delay_seconds", "How long records of the last minutes waited in the exporter; quantile 1 is the longest.", "exporter", "quantile"),
		duration:  desc("exporter_flow_duration_seconds", "End minus start of records of the last minutes; quantile 1 is the longest.", "exporter", "quantile"),
		rate:      desc("exporter_sampling_rate", "The least and the greatest 1:N in force; 0 is unknown.", "exporter", "bound"),
		templates: desc("exporter_templates", "Templates kept.", "exporter"),
	}
}

func (m *exporterMetrics) collect(ch chan<- prometheus.Metric, addr netip.Addr, e *decode.ExporterStats) {
	label := addr.String()
	counter := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), label)
	}
	gauge := func(d *prometheus.Desc, v float64, more ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{label}, more...)...)
	}
	spread := func(d *prometheus.Desc, s *flow.Spread) {
		if s != nil {
			gauge(d, s.P50, "0.5")
			gauge(d, s.P99, "0.99")
			gauge(d, s.Max, "1")
		}
	}
	counter(m.lost, e.Lost)
	counter(m.records, e.Records)
	if e.ClockOffset != nil {
		gauge(m.offset, e.ClockOffset.Seconds())
	}
	spread(m.delay, e.ExportDelay)
	spread(m.duration, e.FlowDuration)
	if least, greatest, ok := ratesInForce(e); ok {
		gauge(m.rate, float64(least), "min")
		gauge(m.rate, float64(greatest), "max")
	}
	gauge(m.templates, float64(e.TemplatesKnown))
}

// ratesInForce returns the bounds of the sampling rates that records had of
// late; ok is false where there were no records.
func ratesInForce(e *decode.ExporterStats) (least, greatest uint32, ok bool) {
	since := time.Unix(0, e.LastSeen).Add(-rateInForce)
	least = math.MaxUint32
	for _, s := range e.Samplers {
		if s.LastSeen.After(since) {
			least, greatest, ok = min(least, s.Rate), max(greatest, s.Rate), true
		}
	}
	return least, greatest, ok
}
