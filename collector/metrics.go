package collector

import (
	"net/netip"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/collector/decode"
)

// metrics reads the counts where they are kept, at the time of a scrape: the
// hot path counts once. Label values come from closed lists and from allowed
// exporters only.
type metrics struct {
	c     *Collector
	descs []*prometheus.Desc

	datagrams, decoded, records, options, templates, dropped, setsDropped, recordsDropped, notes *prometheus.Desc
	kernelDrops, receiveErrors, stateErrors                                                      *prometheus.Desc
	aggregated, rows, rowsDropped, clipped, clockAhead, tableFull, belowFloor                    *prometheus.Desc
	queueBytes, readBuffer, windows, keys, exporters                                             *prometheus.Desc
	exporter                                                                                     exporterMetrics
}

func newMetrics(c *Collector) *metrics {
	m := &metrics{c: c}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		d := prometheus.NewDesc("flowcordon_collector_"+name, help, labels, nil)
		m.descs = append(m.descs, d)
		return d
	}
	m.datagrams = desc("datagrams_total", "Datagrams received; equals decoded plus dropped, apart from those in a queue.")
	m.decoded = desc("datagrams_decoded_total", "Datagrams decoded, possibly without some of their sets.")
	m.dropped = desc("dropped_total", "Whole datagrams dropped.", "reason")
	m.setsDropped = desc("sets_dropped_total", "Sets and samples dropped out of decoded datagrams.", "reason")
	m.recordsDropped = desc("records_dropped_total", "Records dropped out of decoded sets, or not aggregated.", "reason")
	m.notes = desc("notes_total", "Oddities in datagrams that cost nothing.", "reason")
	m.records = desc("records_total", "Flow records and packet samples decoded.")
	m.options = desc("options_records_total", "Options records decoded.")
	m.templates = desc("templates_total", "Template records received.")
	m.kernelDrops = desc("kernel_drops_total", "Datagrams that the kernel dropped because the socket's buffer was full.")
	m.receiveErrors = desc("receive_errors_total", "Failed receive calls.")
	m.stateErrors = desc("state_errors_total", "Times that saved templates could not be read or written.")
	m.aggregated = desc("records_aggregated_total", "Records that went into windows.")
	m.rows = desc("rows_total", "Rows handed to the store.", "table")
	m.rowsDropped = desc("rows_dropped_total", "Rows that the store did not take.", "reason")
	m.clipped = desc("clipped_packets_total", "Packets, as exported, that lay before max_age.")
	m.clockAhead = desc("clock_ahead_total", "Records that ended over 60 s after they arrived.")
	m.tableFull = desc("table_full_total", "Contributions to windows that found no room.", "table")
	m.belowFloor = desc("pairs_below_floor_total", "Pairs that no rule could use; not a loss.")
	m.queueBytes = desc("queue_bytes", "Bytes of datagrams that wait to be decoded.")
	m.readBuffer = desc("read_buffer_bytes", "Receive buffer that the kernel granted, by position in listen.", "listen")
	m.windows = desc("windows", "Windows open.")
	m.keys = desc("keys", "Keys in open windows.")
	m.exporters = desc("exporters", "Exporters heard of.")
	m.exporter = newExporterMetrics(desc)
	return m
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	t := m.c.totals()
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	byName := func(d *prometheus.Desc, counts map[string]uint64) {
		for name, v := range counts {
			counter(d, v, name)
		}
	}
	counter(m.datagrams, t.received)
	counter(m.decoded, t.decoded)
	counter(m.records, t.records)
	counter(m.options, t.options)
	counter(m.templates, t.templates)
	byName(m.dropped, t.dropped)
	byName(m.setsDropped, t.setsDropped)
	byName(m.recordsDropped, t.recordsDropped)
	byName(m.notes, t.notes)
	counter(m.kernelDrops, m.c.counts.kernelDrops.Load())
	counter(m.receiveErrors, t.receiveErrors)
	counter(m.stateErrors, m.c.counts.stateErrors.Load())
	counter(m.aggregated, t.agg.Aggregated)
	counter(m.rows, t.agg.RowsHosts, "hosts")
	counter(m.rows, t.agg.RowsServices, "services")
	counter(m.rows, t.agg.RowsPairs, "pairs")
	counter(m.rows, t.agg.RowsFlows, "flows")
	counter(m.rowsDropped, m.c.counts.refused.Load(), ReasonStoreRefused)
	counter(m.clipped, t.agg.ClippedPackets)
	counter(m.clockAhead, t.agg.ClockAhead)
	byName(m.tableFull, t.tableFull)
	counter(m.belowFloor, t.agg.PairsBelowFloor)
	gauge(m.queueBytes, t.queueBytes)
	for i, n := range t.readBuffers {
		gauge(m.readBuffer, n, strconv.Itoa(i))
	}
	gauge(m.windows, t.agg.Windows)
	gauge(m.keys, t.agg.Keys)
	gauge(m.exporters, t.exporters)
	for addr, e := range t.perExporter {
		m.exporter.collect(ch, addr, &e)
	}
}

// totals are the sums over all shards and readers.
type totals struct {
	received, decoded, records, options, templates, receiveErrors uint64
	dropped, setsDropped, recordsDropped, notes, tableFull        map[string]uint64
	perExporter                                                   map[netip.Addr]decode.ExporterStats // allowed ones
	agg                                                           aggregate.Stats
	queueBytes, exporters                                         int
	readBuffers                                                   []int
}

// totals adds up; every name of a closed list is there, also at zero, so that a
// rate over the first occurrence is right.
func (c *Collector) totals() totals {
	t := totals{
		dropped: map[string]uint64{}, setsDropped: map[string]uint64{}, recordsDropped: map[string]uint64{},
		notes: map[string]uint64{}, tableFull: map[string]uint64{}, perExporter: map[netip.Addr]decode.ExporterStats{},
	}
	for _, name := range DatagramReasons() {
		t.dropped[name] = 0
	}
	for _, r := range decode.Reasons() {
		switch r.Level {
		case decode.LevelSet:
			t.setsDropped[r.Name] = 0
		case decode.LevelRecord:
			t.recordsDropped[r.Name] = 0
		case decode.LevelNote:
			t.notes[r.Name] = 0
		}
	}
	for _, s := range c.shards {
		t.addShard(c, s)
	}
	// After the shards: a datagram counted as decoded is counted as received.
	t.received = c.counts.received.Load()
	t.dropped[ReasonNotAllowed] += c.counts.notAllowed.Load()
	t.dropped[ReasonTruncated] += c.counts.truncated.Load()
	t.dropped[ReasonQueueFull] += c.counts.queueFull.Load()
	t.dropped[ReasonShutdown] += c.counts.shutdown.Load()
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, r := range c.readers {
		t.receiveErrors += r.errors.Load()
		t.readBuffers = append(t.readBuffers, r.sock.readBuffer)
	}
	return t
}

func (t *totals) addShard(c *Collector, s *shard) {
	s.mu.Lock()
	dec, agg := s.dec.Stats(), s.agg.Stats()
	s.mu.Unlock()
	t.queueBytes += int(s.queue.bytes.Load())
	t.decoded += dec.Decoded
	t.records += dec.Records
	t.options += dec.OptionsRecords
	t.templates += dec.Templates
	t.exporters += len(dec.Exporters)
	addAll(t.dropped, dec.Dropped)
	addAll(t.setsDropped, dec.SetsDropped)
	addAll(t.recordsDropped, dec.RecordsDropped)
	addAll(t.recordsDropped, agg.Dropped)
	addAll(t.notes, dec.Notes)
	addAll(t.tableFull, agg.TableFull)
	allow := c.allow.Load()
	for addr, e := range dec.Exporters {
		if allow.Contains(addr) {
			t.perExporter[addr] = e
		}
	}
	t.agg.Aggregated += agg.Aggregated
	t.agg.ClippedPackets += agg.ClippedPackets
	t.agg.ClockAhead += agg.ClockAhead
	t.agg.PairsBelowFloor += agg.PairsBelowFloor
	t.agg.RowsHosts += agg.RowsHosts
	t.agg.RowsServices += agg.RowsServices
	t.agg.RowsPairs += agg.RowsPairs
	t.agg.RowsFlows += agg.RowsFlows
	t.agg.Windows += agg.Windows
	t.agg.Keys += agg.Keys
}

func addAll(to, from map[string]uint64) {
	for name, n := range from {
		to[name] += n
	}
}
