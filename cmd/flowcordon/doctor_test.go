package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/store"
)

const gb = 1e9

func disk(free, total float64) []store.DiskSpace {
	return []store.DiskSpace{{Name: "default", Free: uint64(free), Total: uint64(total)}}
}

func kept(level store.Level, ttl time.Duration, bytes, perDay float64) store.TableDisk {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	return store.TableDisk{Table: string(level), Level: level, TTL: ttl, Rows: 1, Bytes: uint64(bytes), Raw: uint64(3 * bytes), PerDay: perDay, Oldest: at, Newest: at.Add(48 * time.Hour)}
}

func TestForecastDisk(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name    string
		r       store.DiskReport
		grade   string
		days    float64 // until full; -1: never
		settles float64
		text    string
		do      string
	}{
		{"settles", store.DiskReport{Tables: []store.TableDisk{kept(store.LevelWindows, 14*day, 10*gb, 10*gb)}, Disks: disk(500*gb, 500*gb)}, "OK", -1, 150 * gb, "settles at 150 GB", ""},
		{"full next year", store.DiskReport{Tables: []store.TableDisk{kept(store.LevelHours, 731*day, 0, gb)}, Disks: disk(125*gb, 500*gb)}, "OK", 101, 762 * gb, "full in 101 days", "clickhouse.retention.hours to 1656h (69 days)"},
		{"full soon", store.DiskReport{Tables: []store.TableDisk{kept(store.LevelFlows, 30*day, 10*gb, 10*gb), kept(store.LevelHours, 731*day, 0, gb/100)}, Disks: disk(105*gb, 100*gb)}, "WARN", 10, 302.5*gb + 7.62*gb, "full in 10 days (2026-03-13)", "set store.flow_ttl to 216h (9 days) or less"},
		{"full now", store.DiskReport{Tables: []store.TableDisk{kept(store.LevelFlows, 7*day, 10*gb, 100*gb)}, Disks: disk(105*gb, 100*gb)}, "FAIL", 2, 725 * gb, "full in 2 days", "no single TTL"},
		{"no end", store.DiskReport{Tables: []store.TableDisk{kept(store.LevelFlows, -1, 10*gb, gb)}, Disks: disk(25*gb, 100*gb)}, "WARN", 21, math.Inf(1), "full in 21 days", "store.flow_ttl"},
		{"above what its TTL keeps", store.DiskReport{Tables: []store.TableDisk{kept(store.LevelWindows, 2*day, 90*gb, gb)}, Disks: disk(20*gb, 100*gb)}, "OK", -1, 3 * gb, "settles at 3 GB", ""},
		{"nothing yet", store.DiskReport{Disks: disk(20*gb, 100*gb)}, "OK", -1, 0, "too few rows", ""},
		{"no disks", store.DiskReport{}, "WARN", -1, 0, "does not say", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := forecastDisk(tt.r, now)
			days := -1.0
			if f.Full != nil {
				days = f.Full.Sub(now).Hours() / 24
			}
			if f.Grade != tt.grade || days != tt.days || math.Abs(f.Settles-tt.settles) > gb/1000 || !strings.Contains(f.Text, tt.text) || !strings.Contains(f.Do, tt.do) {
				t.Errorf("%s, full in %v days, settles at %.1f GB: %q → %q", f.Grade, days, f.Settles/gb, f.Text, f.Do)
			}
			// What is advised fits.
			if _, rest, ok := strings.Cut(f.Do, " to "); ok && strings.HasPrefix(f.Do, "set ") {
				ttl, err := time.ParseDuration(strings.Fields(rest)[0])
				if err != nil {
					t.Fatal(err)
				}
				for i := range tt.r.Tables {
					if strings.Contains(f.Do, ttlKeys[tt.r.Tables[i].Level]) {
						tt.r.Tables[i].TTL = ttl
					}
				}
				if f := forecastDisk(tt.r, now); f.Full != nil {
					t.Errorf("with what was advised, %v: %s", ttl, f.Text)
				}
			}
		})
	}
}

func TestParseMetrics(t *testing.T) {
	m, err := parseMetrics([]byte("# HELP a b\na 3\nb{x=\"1\",y=\"2\"} 4.5\nb{x=\"3\",y=\"2\"} +Inf\nc{x=\"a b,c\"} 1e3\n"))
	if err != nil || m.sum("a", "", "") != 3 || m.sum("b", "x", "1") != 4.5 || m.sum("c", "x", "a b,c") != 1000 || !math.IsInf(m.sum("b", "", ""), 1) {
		t.Errorf("%+v, %v", m, err)
	}
	for _, bad := range []string{"a", "a b", "a{x=1} 2", `a{x="1} 2`} {
		if _, err := parseMetrics([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestDoctorCode(t *testing.T) {
	for _, tt := range []struct {
		grades []string
		want   int
	}{{nil, 0}, {[]string{"OK", "OK"}, 0}, {[]string{"OK", "WARN"}, 3}, {[]string{"WARN", "FAIL", "OK"}, 1}} {
		d := &doctor{}
		for _, g := range tt.grades {
			d.say("x", g, "", "y")
		}
		if got := d.code(); got != tt.want {
			t.Errorf("%v: exit status %d, want %d", tt.grades, got, tt.want)
		}
	}
}

type doctorAnswer struct{ Checks []diagnosis }

func (a doctorAnswer) grade(check string) string {
	for _, c := range a.Checks {
		if c.Check == check {
			return c.Grade
		}
	}
	return "absent"
}

func runDoctorJSON(t *testing.T, into any, args ...string) int {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(context.Background(), append(append([]string{"doctor"}, args...), "--json"), &out, &errs)
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		t.Fatalf("doctor %v: %d: %v\n%s%s", args, code, err, out.String(), errs.String())
	}
	return code
}

// The doctor of a service that runs and of one that does not: the same site, by
// HTTP and by the database itself.
func TestDoctor(t *testing.T) {
	// No tick takes 20 s, on however busy a machine: a missed slot would be a warning.
	s := newSite(t, siteOptions{HTTP: freePort(t, "tcp"), Interval: "20s", Inventory: "- {ip: 198.18.0.7, tenant: c-7, vds: vds-7, hypervisor: panel, macs: [\"52:54:00:00:00:07\"]}\n"})
	l := s.start(t)
	l.awaitDatabase(t)
	var a doctorAnswer
	code := runDoctorJSON(t, &a, "--config", s.config)
	// Nobody exports yet, which is a failure.
	for check, want := range map[string]string{"config": "OK", "service": "OK", "database": "OK", "rollups": "OK", "ingest": "OK", "detector": "OK",
		"exporters": "FAIL", "inventory": "OK", "suspender panel": "OK"} {
		if got := a.grade(check); got != want {
			t.Errorf("running: %s is %s, want %s", check, got, want)
		}
	}
	if code != 1 {
		t.Errorf("running: exit status %d, want 1", code)
	}
	var live struct {
		Tables   []store.TableDisk
		Disks    []store.DiskSpace
		Forecast struct{ Grade, Text string }
	}
	eventually(t, 2*time.Minute, "disk metrics", func() (bool, string) {
		live.Tables = nil
		var out, errs bytes.Buffer
		code := run(context.Background(), []string{"doctor", "disk", "--config", s.config, "--json"}, &out, &errs)
		return code == 0 && json.Unmarshal(out.Bytes(), &live) == nil && len(live.Tables) > 0, errs.String()
	})
	if len(live.Disks) == 0 || live.Forecast.Grade == "" {
		t.Errorf("running: %+v", live)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	a = doctorAnswer{}
	if code = runDoctorJSON(t, &a, "--config", s.config); code != exitWarned && code != 1 { // the machine's own clock and disk may be ill
		t.Errorf("stopped: exit status %d", code)
	}
	for check, want := range map[string]string{"service": "WARN", "database": "OK", "exporters": "absent", "suspender panel": "OK"} {
		if got := a.grade(check); got != want {
			t.Errorf("stopped: %s is %s, want %s", check, got, want)
		}
	}
	var offline struct{ Tables []store.TableDisk }
	runDoctorJSON(t, &offline, "disk", "--config", s.config)
	byName := map[string]store.TableDisk{}
	for _, d := range offline.Tables {
		byName[d.Table] = d
	}
	if d := byName["migration"]; d.Rows == 0 || d.Bytes == 0 {
		t.Errorf("stopped: the tables are %+v", offline.Tables)
	}

	// A hypervisor that is away, and a server that is.
	s.edit(t, "url: \"http://127", "url: \"http://127.0.0.1:1/#") // nobody is there
	s.edit(t, "clickhouse:\n", "clickhouse:\n  addr: [127.0.0.1:1]\n")
	a = doctorAnswer{}
	if code = runDoctorJSON(t, &a, "--config", s.config); code != 1 || a.grade("database") != "FAIL" || a.grade("suspender panel") != "FAIL" {
		t.Errorf("away: exit status %d, database %s, suspender %s", code, a.grade("database"), a.grade("suspender panel"))
	}
}

func TestDoctorUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want int
		text string
	}{
		{[]string{"--config", filepath.Join(t.TempDir(), "none.yaml")}, 1, "none.yaml"},
		{[]string{"disks"}, 2, "unexpected argument"},
		{[]string{"--nonsense"}, 2, "usage: flowcordon doctor"},
		{[]string{"--help"}, 0, "Exit status"},
	} {
		var out, errs bytes.Buffer
		if got := run(context.Background(), append([]string{"doctor"}, tt.args...), &out, &errs); got != tt.want || !strings.Contains(errs.String(), tt.text) {
			t.Errorf("%v: %d, want %d, and %q in %q", tt.args, got, tt.want, tt.text, errs.String())
		}
	}
}

func TestPrintDisk(t *testing.T) {
	r := store.DiskReport{Tables: []store.TableDisk{kept(store.LevelFlows, 7*24*time.Hour, 40*gb, 10*gb), {Table: "event", Rows: 3, Bytes: 900, Raw: 1800}}, Disks: disk(400*gb, 500*gb)}
	f := forecastDisk(r, time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC))
	var out bytes.Buffer
	if err := printDisk(&out, r, f, []diagnosis{{"disk", f.Grade, f.Text, f.Do}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"flows     1  40 GB       3.0:1", "10 GB   7 d  72.5 GB", "event     3  900 B       2.0:1", "store.flow_ttl", "OK  disk  grows by 10 GB a day and settles at 72.5 GB"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}
