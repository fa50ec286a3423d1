package store

import (
	"context"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// TableDisk is what a table takes on disk.
type TableDisk struct {
	Table  string        `json:"table"`
	Level  Level         `json:"level,omitempty"` // empty: kept for ever, or by a TTL of its own
	TTL    time.Duration `json:"ttl"`             // negative: for ever; 0: of its own
	Rows   uint64        `json:"rows"`
	Bytes  uint64        `json:"bytes"`
	Raw    uint64        `json:"raw_bytes"` // before compression
	Oldest time.Time     `json:"oldest"`    // event time; zero: unknown, or no rows
	Newest time.Time     `json:"newest"`
	// PerDay is how many bytes a day of event time takes, judged by the newest
	// partitions that cover a day or more; 0: there is less than an hour.
	PerDay float64 `json:"bytes_per_day"`
}

// DiskSpace is one disk of the database.
type DiskSpace struct {
	Name  string `json:"name"`
	Free  uint64 `json:"free_bytes"` // for the database
	Total uint64 `json:"total_bytes"`
}

// DiskReport is what the database takes and what there is.
type DiskReport struct {
	Tables []TableDisk `json:"tables"` // largest first
	Disks  []DiskSpace `json:"disks"`
}

const tableDiskSQL = `SELECT p.table AS name, sum(n), sum(bytes) AS all, sum(raw), toInt64(min(first)), toInt64(max(last)),
	arraySort(x -> -x.1, groupArray((toInt64(first), toInt64(last), toUInt64(bytes))))
FROM (
	SELECT table, partition, sum(rows) AS n, sum(bytes_on_disk) AS bytes, sum(data_uncompressed_bytes) AS raw,
		toUnixTimestamp(min(min_time)) AS first, toUnixTimestamp(max(max_time)) AS last
	FROM system.parts WHERE active AND database = currentDatabase() GROUP BY table, partition) AS p
GROUP BY name ORDER BY all DESC, name`

// Disk reads what each table takes from the parts' own bounds; no row is read.
func (s *Store) Disk(ctx context.Context) (DiskReport, error) {
	var r DiskReport
	levels := map[string]Level{}
	for _, t := range leveledTables {
		levels[t.table] = t.level
	}
	var err error
	r.Tables, err = query(ctx, s, "disk use", tableDiskSQL, nil, func(rows driver.Rows, v *TableDisk) error {
		var first, last int64
		var parts [][]any // first, last, bytes by partition, newest first
		if err := rows.Scan(&v.Table, &v.Rows, &v.Bytes, &v.Raw, &first, &last, &parts); err != nil {
			return err
		}
		if v.Level = levels[v.Table]; v.Level != "" {
			v.TTL = s.cfg.ttl(v.Level)
		}
		if first > 0 && last > 0 {
			v.Oldest, v.Newest = time.Unix(first, 0).UTC(), time.Unix(last, 0).UTC()
		}
		v.PerDay = perDay(parts)
		return nil
	})
	if err != nil {
		return r, err
	}
	r.Disks, err = query(ctx, s, "disks", `SELECT name, unreserved_space, total_space FROM system.disks ORDER BY name`, nil,
		func(rows driver.Rows, v *DiskSpace) error { return rows.Scan(&v.Name, &v.Free, &v.Total) })
	return r, err
}

// perDay takes partitions from the newest on until they cover a day.
func perDay(parts [][]any) float64 {
	const day = 86400
	var bytes uint64
	var from, to int64
	for i, p := range parts {
		first, last := p[0].(int64), p[1].(int64)
		if first <= 0 || last <= 0 {
			return 0 // not by time
		}
		if i == 0 {
			to = last
		}
		from = first
		bytes += p[2].(uint64)
		if to-from >= day {
			break
		}
	}
	if to-from < 3600 {
		return 0
	}
	return float64(bytes) * day / float64(to-from)
}

// diskEvery is the time between two looks at the disk for the metrics.
const diskEvery = 5 * time.Minute

// diskMetrics are set by RunDisk.
type diskMetrics struct {
	rows, bytes, raw, perDay, ttl, oldest, newest *prometheus.GaugeVec
	free, total                                   *prometheus.GaugeVec
}

func newDiskMetrics() *diskMetrics {
	table := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "flowcordon_store_table_" + name, Help: help}, []string{"table"})
	}
	disk := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "flowcordon_store_disk_" + name, Help: help}, []string{"disk"})
	}
	return &diskMetrics{
		rows: table("rows", "Rows stored."), bytes: table("bytes", "Bytes on disk."), raw: table("raw_bytes", "Bytes before compression."),
		perDay: table("bytes_per_day", "Bytes that a day takes at the present rate, 0 while there is less than an hour."),
		ttl:    table("ttl_seconds", "How long rows are kept, -1 for ever, 0 where the configuration does not say."),
		oldest: table("oldest_timestamp_seconds", "Event time of the oldest row, 0 where that is unknown."),
		newest: table("newest_timestamp_seconds", "Event time of the newest row, 0 where that is unknown."),
		free:   disk("free_bytes", "Bytes that the database may still take on a disk."), total: disk("bytes", "Size of a disk of the database."),
	}
}

func (m *diskMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.rows, m.bytes, m.raw, m.perDay, m.ttl, m.oldest, m.newest, m.free, m.total}
}

func (m *diskMetrics) set(r DiskReport) {
	for _, t := range r.Tables {
		oldest, newest, ttl := 0.0, 0.0, t.TTL.Seconds()
		if !t.Oldest.IsZero() {
			oldest, newest = float64(t.Oldest.Unix()), float64(t.Newest.Unix())
		}
		if t.TTL < 0 {
			ttl = -1
		}
		for g, v := range map[*prometheus.GaugeVec]float64{
			m.rows: float64(t.Rows), m.bytes: float64(t.Bytes), m.raw: float64(t.Raw), m.perDay: t.PerDay, m.ttl: ttl, m.oldest: oldest, m.newest: newest,
		} {
			g.WithLabelValues(t.Table).Set(v)
		}
	}
	for _, d := range r.Disks {
		m.free.WithLabelValues(d.Name).Set(float64(d.Free))
		m.total.WithLabelValues(d.Name).Set(float64(d.Total))
	}
}

// RunDisk keeps the metrics of the disk up to date until ctx ends.
func (s *Store) RunDisk(ctx context.Context) error {
	for {
		r, err := s.Disk(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.log.Warn("what the tables take on disk could not be read", zap.Error(err))
		default:
			s.metrics.disk.set(r)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(diskEvery):
		}
	}
}
