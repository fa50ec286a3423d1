package collector

import (
	"net/netip"
	"strconv"

	"github.com/gaissmai/bart"
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
	kernelDrops, socketDrops, receiveErrors, stateErrors                                         *prometheus.Desc
	aggregated, rows, rowsDropped, clipped, clockAhead, tableFull, belowFloor, evicted           *prometheus.Desc
	queued, waits, readBuffer, sockets, windows, keys, exporters                                 *prometheus.Desc
	exporter                                                                                     exporterMetrics
}

func newMetrics(c *Collector) *metrics {
	m := &metrics{c: c}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		d := prometheus.NewDesc("flowcordon_collector_"+name, help, labels, nil)
		m.descs = append(m.descs, d)
		return d
	}
	m.datagrams = desc("datagrams_total", "Datagrams received; equals decoded plus dropped, apart from those being decoded.")
	m.decoded = desc("datagrams_decoded_total", "Datagrams decoded, possibly without some of their sets.")
	m.dropped = desc("dropped_total", "Whole datagrams dropped.", "reason")
	m.setsDropped = desc("sets_dropped_total", "Sets and samples dropped out of decoded datagrams.", "reason")
	m.recordsDropped = desc("records_dropped_total", "Records dropped out of decoded sets, or not aggregated.", "reason")
	m.notes = desc("notes_total", "Oddities in datagrams that cost nothing.", "reason")
	m.records = desc("records_total", "Flow records and packet samples decoded.")
	m.options = desc("options_records_total", "Options records decoded.")
	m.templates = desc("templates_total", "Template records received.")
	m.kernelDrops = desc("kernel_drops_total", "Datagrams that the kernel dropped because a socket's buffer was full.")
	m.socketDrops = desc("socket_kernel_drops_total", "The same for each socket: listen address and number.", "listen", "socket")
	m.receiveErrors = desc("receive_errors_total", "Failed receive calls.")
	m.stateErrors = desc("state_errors_total", "Times that saved templates could not be read or written.")
	m.aggregated = desc("records_aggregated_total", "Records that went into windows.")
	m.rows = desc("rows_total", "Rows handed to the store.", "table")
	m.rowsDropped = desc("rows_dropped_total", "Rows that the store did not take.", "reason")
	m.clipped = desc("clipped_packets_total", "Packets, as exported, that lay before max_age.")
	m.clockAhead = desc("clock_ahead_total", "Records that ended over 60 s after they arrived.")
	m.tableFull = desc("table_full_total", "Contributions to windows that found no room.", "table")
	m.belowFloor = desc("pairs_below_floor_total", "Pairs that no rule could use; not a loss.")
	m.evicted = desc("pairs_evicted_total", "Pairs that no rule could use yet when they gave way to others for want of room.")
	m.queued = desc("queued_blocks", "Blocks of up to 256 records' sides that wait to be aggregated.")
	m.waits = desc("shard_waits_total", "Times that decoding waited for aggregation.")
	m.readBuffer = desc("receive_buffer_bytes", "Receive buffer that the kernel granted each socket of a listen address.", "listen")
	m.sockets = desc("sockets", "Sockets of a listen address; one if the kernel cannot spread exporters over several.", "listen")
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
	var drops uint64
	for _, s := range t.sockets {
		drops += s.drops
		counter(m.socketDrops, s.drops, s.listen, strconv.Itoa(s.number))
	}
	counter(m.kernelDrops, drops)
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
	byName(m.tableFull, t.agg.TableFull)
	counter(m.belowFloor, t.agg.PairsBelowFloor)
	counter(m.evicted, t.agg.PairsEvicted)
	gauge(m.queued, t.queued)
	counter(m.waits, t.waits)
	for _, g := range t.groups {
		gauge(m.readBuffer, g.readBuffer, g.addr.String())
		gauge(m.sockets, len(g.sockets), g.addr.String())
	}
	gauge(m.windows, t.agg.Windows)
	gauge(m.keys, t.agg.Keys)
	gauge(m.exporters, t.exporters)
	for addr, e := range t.perExporter {
		m.exporter.collect(ch, addr, &e)
	}
}

// totals are the sums over all lanes, shards and readers.
type totals struct {
	received, decoded, records, options, templates, receiveErrors, waits uint64
	dropped, setsDropped, recordsDropped, notes                          map[string]uint64
	perExporter                                                          map[netip.Addr]decode.ExporterStats // allowed ones

	agg               aggregate.Stats
	queued, exporters int
	groups            []*group
	sockets           []socketDrops
}

// socketDrops are the kernel's drops at one socket of a listen address.
type socketDrops struct {
	listen string
	number int
	drops  uint64
}

// totals adds up; every name of a closed list is there, also at zero, so that a
// rate over the first occurrence is right. Against the flow of the data: what is
// counted at its end is counted at its beginning, too.
func (c *Collector) totals() totals {
	t := totals{
		dropped: map[string]uint64{}, setsDropped: map[string]uint64{}, recordsDropped: map[string]uint64{},
		notes: map[string]uint64{}, perExporter: map[netip.Addr]decode.ExporterStats{},
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
		t.agg.Merge(s.stats())
		t.waits += s.waits.Load()
		t.queued += int(s.queued.Load())
	}
	for _, l := range c.lanes {
		dec, front := l.stats()
		t.agg.Merge(front)
		t.addDecoder(dec, c.allow.Load())
	}
	addAll(t.recordsDropped, t.agg.Dropped)
	c.mu.RLock()
	defer c.mu.RUnlock()
	t.groups = c.groups
	for _, r := range c.readers {
		t.addReader(r)
	}
	return t
}

func (t *totals) addDecoder(dec decode.Stats, allow *bart.Lite) {
	t.decoded += dec.Decoded
	t.records += dec.Records
	t.options += dec.OptionsRecords
	t.templates += dec.Templates
	t.exporters += len(dec.Exporters)
	addAll(t.dropped, dec.Dropped)
	addAll(t.setsDropped, dec.SetsDropped)
	addAll(t.recordsDropped, dec.RecordsDropped)
	addAll(t.notes, dec.Notes)
	for addr, e := range dec.Exporters {
		if allow.Contains(addr) {
			t.perExporter[addr] = e
		}
	}
}

func (t *totals) addReader(r *reader) {
	n := &r.counts
	t.dropped[ReasonNotAllowed] += n.notAllowed.Load()
	t.dropped[ReasonTruncated] += n.truncated.Load()
	t.dropped[ReasonShutdown] += n.shutdown.Load()
	t.received += n.received.Load() // last: see totals
	t.receiveErrors += n.errors.Load()
	t.sockets = append(t.sockets, socketDrops{r.group.addr.String(), r.number, n.kernelDrops.Load()})
}

func addAll(to, from map[string]uint64) {
	for name, n := range from {
		to[name] += n
	}
}
