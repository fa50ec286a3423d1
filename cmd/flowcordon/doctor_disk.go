package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/flowcordon/flowcordon/store"
)

// What doctor disk warns of.
const (
	soonFull  = 30 * 24 * time.Hour
	aboutFull = 3 * 24 * time.Hour
	// mergeRoom of a disk is left out of what is free: ClickHouse writes parts
	// anew when it merges them, and stops when it cannot.
	mergeRoom = 0.05
	// forecastDays is how far ahead is looked.
	forecastDays = 3650
)

// partition is how much longer than its TTL a row may stay: a TTL drops whole
// partitions.
var partition = map[store.Level]time.Duration{
	store.LevelFlows: 6 * time.Hour, store.LevelWindows: 24 * time.Hour,
	store.LevelMinutes: 7 * 24 * time.Hour, store.LevelHours: 31 * 24 * time.Hour,
}

// ttlKeys are the configuration's names of the TTLs.
var ttlKeys = map[store.Level]string{
	store.LevelFlows: "store.flow_ttl", store.LevelWindows: "store.window_ttl",
	store.LevelMinutes: "clickhouse.retention.minutes", store.LevelHours: "clickhouse.retention.hours",
}

// levelCost is what a level's tables take together.
type levelCost struct {
	Level   store.Level `json:"level"`
	Key     string      `json:"key"`
	TTL     string      `json:"ttl"`
	Bytes   float64     `json:"bytes"`
	PerDay  float64     `json:"bytes_per_day"`
	Settles float64     `json:"settles_at_bytes"` // when the TTL is reached, at the present rate
}

// diskForecast is the conclusion.
type diskForecast struct {
	Grade   string      `json:"grade"`
	Text    string      `json:"text"`
	Do      string      `json:"do,omitempty"`
	Full    *time.Time  `json:"full,omitempty"` // nil: not within ten years
	Free    float64     `json:"free_bytes"`
	Total   float64     `json:"total_bytes"`
	Bytes   float64     `json:"bytes"`
	PerDay  float64     `json:"bytes_per_day"`
	Settles float64     `json:"settles_at_bytes"`
	Levels  []levelCost `json:"levels"`
	Young   bool        `json:"young"` // less than a day of rows: the rate is a guess
}

// limit is what a table grows to at its present rate; +Inf without an end.
func limit(t store.TableDisk) float64 {
	switch {
	case t.PerDay == 0:
		return float64(t.Bytes)
	case t.TTL == 0 || t.Level == "": // a TTL of its own, and few rows: as it is
		return float64(t.Bytes)
	case t.TTL < 0:
		return math.Inf(1)
	}
	return t.PerDay * (t.TTL + partition[t.Level]).Hours() / 24
}

// after is what a table takes some days on: it grows to its limit, and one that
// is above it stays there until its TTL has been round.
func after(t store.TableDisk, days float64) float64 {
	now, most := float64(t.Bytes), limit(t)
	if now > most {
		if days*24 < t.TTL.Hours() {
			return now
		}
		return most
	}
	return min(now+t.PerDay*days, most)
}

// forecastDisk says when the database fills its disks at the present rates.
func forecastDisk(r store.DiskReport, now time.Time) diskForecast {
	f := diskForecast{Young: true}
	for _, d := range r.Disks {
		f.Total += float64(d.Total)
		f.Free += max(0, float64(d.Free)-mergeRoom*float64(d.Total))
	}
	costs := map[store.Level]*levelCost{}
	for _, t := range r.Tables {
		f.Bytes += float64(t.Bytes)
		f.PerDay += t.PerDay
		f.Settles += limit(t)
		if t.Newest.Sub(t.Oldest) >= 24*time.Hour {
			f.Young = false
		}
		if t.Level == "" {
			continue
		}
		c := costs[t.Level]
		if c == nil {
			c = &levelCost{Level: t.Level, Key: ttlKeys[t.Level], TTL: ttlText(t.TTL)}
			costs[t.Level] = c
		}
		c.Bytes += float64(t.Bytes)
		c.PerDay += t.PerDay
		c.Settles += limit(t)
	}
	for _, l := range []store.Level{store.LevelFlows, store.LevelWindows, store.LevelMinutes, store.LevelHours} {
		if c := costs[l]; c != nil {
			f.Levels = append(f.Levels, *c)
		}
	}
	for day := range forecastDays {
		grown := -f.Bytes
		for _, t := range r.Tables {
			grown += after(t, float64(day))
		}
		if grown > f.Free {
			at := now.Add(time.Duration(day) * 24 * time.Hour)
			f.Full = &at
			break
		}
	}
	f.conclude(r, now)
	return f
}

func (f *diskForecast) conclude(r store.DiskReport, now time.Time) {
	guess := ""
	if f.Young {
		guess = "; the rate is judged by less than a day"
	}
	switch {
	case f.Total == 0:
		f.Grade, f.Text = gradeWarn, "the database does not say how large its disks are"
	case f.PerDay == 0:
		f.Grade, f.Text = gradeOK, fmt.Sprintf("%s of %s free; too few rows to tell how they grow", size(f.Free), size(f.Total))
	case f.Full == nil:
		f.Grade = gradeOK
		f.Text = fmt.Sprintf("grows by %s a day and settles at %s; %s of %s are free%s", size(f.PerDay), size(f.Settles), size(f.Free), size(f.Total), guess)
	default:
		in := f.Full.Sub(now)
		f.Grade = gradeWarn
		if in < aboutFull {
			f.Grade = gradeFail
		} else if in >= soonFull {
			f.Grade = gradeOK
		}
		f.Text = fmt.Sprintf("full in %.0f days (%s) at %s a day; %s of %s are free%s", in.Hours()/24, f.Full.Format(time.DateOnly), size(f.PerDay), size(f.Free), size(f.Total), guess)
		f.Do = advice(r, f)
	}
}

// advice names the one TTL whose shortening makes everything fit, of the level
// that takes the most, and to what.
func advice(r store.DiskReport, f *diskForecast) string {
	budget := f.Free + f.Bytes
	levels := slices.Clone(f.Levels)
	slices.SortFunc(levels, func(a, b levelCost) int { return int(math.Copysign(1, b.Settles-a.Settles)) })
	for _, c := range levels {
		rest := 0.0
		for _, t := range r.Tables {
			if t.Level != c.Level {
				rest += limit(t)
			}
		}
		if c.PerDay == 0 || math.IsInf(rest, 1) {
			continue
		}
		days := math.Floor((budget-rest)/c.PerDay - partition[c.Level].Hours()/24)
		if days >= 1 {
			return fmt.Sprintf("set %s to %.0fh (%.0f days) or less, add disk, or see store.flow_policy", c.Key, 24*days, days)
		}
	}
	return fmt.Sprintf("no single TTL is enough: it settles at %s; add disk, or shorten store.flow_ttl and store.window_ttl", size(f.Settles))
}

func ttlText(d time.Duration) string {
	switch {
	case d < 0:
		return "for ever"
	case d == 0:
		return "-"
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.0f d", d.Hours()/24)
	}
	return d.String()
}

// size is a number of bytes for people.
func size(b float64) string {
	for _, u := range []struct {
		n    float64
		name string
	}{{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
		if b >= u.n {
			return fmt.Sprintf("%.3g %s", b/u.n, u.name)
		}
	}
	if math.IsInf(b, 1) {
		return "no end"
	}
	return fmt.Sprintf("%.0f B", b)
}

// tablesOf is the report that a running service keeps in its metrics.
func tablesOf(m liveMetrics) store.DiskReport {
	var r store.DiskReport
	levels := map[string]store.Level{}
	for _, t := range store.Tables() {
		levels[t.Name] = t.Level
	}
	for _, s := range m["flowcordon_store_table_bytes"] {
		name := s.labels["table"]
		of := func(metric string) float64 { return m.sum("flowcordon_store_table_"+metric, "table", name) }
		t := store.TableDisk{Table: name, Level: levels[name], Rows: uint64(of("rows")), Bytes: uint64(s.value), Raw: uint64(of("raw_bytes")),
			PerDay: of("bytes_per_day"), TTL: time.Duration(of("ttl_seconds")) * time.Second}
		for at, v := range map[*time.Time]float64{&t.Oldest: of("oldest_timestamp_seconds"), &t.Newest: of("newest_timestamp_seconds")} {
			if v > 0 {
				*at = time.Unix(int64(v), 0).UTC()
			}
		}
		r.Tables = append(r.Tables, t)
	}
	slices.SortFunc(r.Tables, func(a, b store.TableDisk) int { return int(int64(b.Bytes) - int64(a.Bytes)) })
	for _, s := range m["flowcordon_store_disk_bytes"] {
		name := s.labels["disk"]
		r.Disks = append(r.Disks, store.DiskSpace{Name: name, Total: uint64(s.value), Free: uint64(m.sum("flowcordon_store_disk_free_bytes", "disk", name))})
	}
	return r
}

// disk is doctor disk.
func (d *doctor) disk(ctx context.Context, out io.Writer) error {
	var r store.DiskReport
	if d.ownDatabase() {
		if err := d.database(ctx, func(ctx context.Context, s *service) (err error) {
			r, err = s.store.Disk(ctx)
			return err
		}); err != nil {
			return err
		}
	} else if r = tablesOf(d.live.metrics); len(r.Tables) == 0 {
		return failf(exitFailed, "%s has not looked at its disk yet, or its metrics cannot be read; wait a minute, or give --token-file", d.live.at.base)
	}
	f := forecastDisk(r, d.now())
	d.say("disk", f.Grade, f.Do, "%s", f.Text)
	if d.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if math.IsInf(f.Settles, 1) { // JSON has no such number
			f.Settles = -1
		}
		for i := range f.Levels {
			if math.IsInf(f.Levels[i].Settles, 1) {
				f.Levels[i].Settles = -1
			}
		}
		return enc.Encode(struct {
			store.DiskReport
			Forecast diskForecast `json:"forecast"`
		}{r, f})
	}
	return printDisk(out, r, f, d.lines)
}

func printDisk(out io.Writer, r store.DiskReport, f diskForecast, lines []diagnosis) error {
	// The writer keeps an error until Flush.
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "table\trows\tbytes\tcompressed\tbytes/row\ta day\tkept\tthen\toldest\t")
	for _, t := range r.Tables {
		ratio, row, oldest := "-", "-", "-"
		if t.Bytes > 0 && t.Rows > 0 {
			ratio, row = fmt.Sprintf("%.1f:1", float64(t.Raw)/float64(t.Bytes)), fmt.Sprintf("%.1f", float64(t.Bytes)/float64(t.Rows))
		}
		if !t.Oldest.IsZero() {
			oldest = t.Oldest.Format("2006-01-02 15:04")
		}
		_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", t.Table, t.Rows, size(float64(t.Bytes)), ratio, row, size(t.PerDay), ttlText(t.TTL), size(limit(t)), oldest)
	}
	_, _ = fmt.Fprintln(w)
	for _, c := range f.Levels {
		_, _ = fmt.Fprintf(w, "%s\t%s\tnow %s\t\t\t%s a day\t%s\tthen %s\t\t\n", c.Level, c.Key, size(c.Bytes), size(c.PerDay), c.TTL, size(c.Settles))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	return printDiagnoses(out, lines)
}
