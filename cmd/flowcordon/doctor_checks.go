package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flowcordon/flowcordon/store"
)

func (d *doctor) checkService() {
	switch l := d.live; {
	case l == nil:
		d.say("service", gradeWarn, "systemctl start flowcordon; or name it with --url", "no service answers at %s; what it would tell is left out", d.cfg.HTTP.Address)
	case !l.ready:
		d.say("service", gradeFail, "its log says more: journalctl -u flowcordon", "runs, but is not ready: %s", strings.Join(l.reasons, "; "))
	case l.noScrap != nil || l.metrics == nil:
		d.say("service", gradeWarn, "api.metrics_open: true, or give --token-file", "is ready, but its metrics cannot be read: %v", l.noScrap)
	case l.metrics.sum("flowcordon_config_last_reload_success", "", "") == 0:
		d.say("service", gradeWarn, "flowcordon check-config "+d.config+", then systemctl reload flowcordon", "is ready, but refused the last reload: an older configuration is in force")
	default:
		d.say("service", gradeOK, "", "%s is ready", l.at.base)
	}
}

// Bounds of the database's checks.
const (
	maxSkew      = 2 * time.Second // windows are 10 s
	maxRollup    = 3 * time.Hour
	spoolWarning = 60 // seconds that the oldest batch waits
)

func (d *doctor) checkDatabase(ctx context.Context) {
	if !d.ownDatabase() {
		if d.live.ready {
			d.say("database", gradeOK, "", "the embedded engine answers, the schema is up to date")
		} else {
			d.say("database", gradeFail, "the service's log has the error; "+d.cfg.DataDir+"/clickhouse must be writable and its disk not full", "the embedded engine, or the schema, is not ready")
		}
		d.checkRollups(time.Duration(d.live.metrics.sum("flowcordon_store_rollup_behind_seconds", "", "")) * time.Second)
		d.fits(tablesOf(d.live.metrics))
		return
	}
	err := d.database(ctx, func(ctx context.Context, s *service) error {
		st, err := s.store.Status(ctx)
		if err != nil {
			return err
		}
		d.schema(st)
		if st.Skew.Abs() > maxSkew {
			d.say("database clock", gradeWarn, "synchronise both hosts by NTP (chrony)", "is %v off ours", st.Skew.Round(time.Millisecond))
		}
		d.checkRollups(st.Behind)
		r, err := s.store.Disk(ctx)
		if err != nil {
			return err
		}
		d.fits(r)
		return nil
	})
	if err != nil {
		d.say("database", gradeFail, d.databaseAdvice(), "%v", err)
	}
}

func (d *doctor) databaseAdvice() string {
	if len(d.cfg.ClickHouse.Addr) > 0 {
		return "is " + strings.Join(d.cfg.ClickHouse.Addr, ", ") + " up, its native port open from here, user and password right?"
	}
	return "make engine fetches the library; " + d.cfg.DataDir + "/clickhouse must be writable, and no other flowcordon may run on it"
}

func (d *doctor) schema(st store.Status) {
	switch {
	case len(st.Foreign) > 0:
		d.say("database", gradeFail, "run the newer flowcordon that made this database, or use another clickhouse.database", "ClickHouse %s has migrations of another build: %s", st.Version, strings.Join(st.Foreign, ", "))
	case len(st.Missing) > 0:
		d.say("database", gradeWarn, "flowcordon migrate --config "+d.config+"; or start the service", "ClickHouse %s lacks %d migrations, from %s on", st.Version, len(st.Missing), st.Missing[0])
	default:
		d.say("database", gradeOK, "", "ClickHouse %s answers, the schema is up to date", st.Version)
	}
}

func (d *doctor) checkRollups(behind time.Duration) {
	if behind > maxRollup {
		d.say("rollups", gradeWarn, "the log says why under 'rollups are behind'; before store.window_ttl is over nothing is lost", "the oldest hour that is not summed began %v ago", behind.Round(time.Minute))
		return
	}
	d.say("rollups", gradeOK, "", "minutes and hours are up to date")
}

// fits is the summary of doctor disk.
func (d *doctor) fits(r store.DiskReport) {
	f := forecastDisk(r, d.now())
	d.say("disk", f.Grade, f.Do, "%s", f.Text)
	var fs unix.Statfs_t
	if err := unix.Statfs(d.cfg.DataDir, &fs); err == nil {
		if free := fs.Bavail * uint64(fs.Bsize); free < uint64(d.cfg.Store.SpoolMaxBytes) {
			d.say("spool", gradeWarn, "free some, or lower store.spool_max_bytes", "%s has %s left, the spool may grow to %s", d.cfg.DataDir, size(float64(free)), size(float64(d.cfg.Store.SpoolMaxBytes)))
		}
	}
}

// checkClock asks the kernel whether anything keeps the time (adjtimex).
func (d *doctor) checkClock() {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	switch {
	case err != nil:
		d.say("clock", gradeWarn, "", "the kernel does not say whether it is synchronised: %v", err)
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		d.say("clock", gradeWarn, "install chrony, or see timedatectl: windows, evidence and complaints rest on the time", "is not synchronised by NTP, as far as the kernel knows")
	default:
		d.say("clock", gradeOK, "", "is synchronised, to %v", (time.Duration(t.Maxerror) * time.Microsecond).Round(time.Millisecond))
	}
}

func (d *doctor) checkBuffers() {
	want := d.cfg.Collector.ReadBuffer
	if d.live != nil {
		if l := d.live.metrics["flowcordon_collector_receive_buffer_bytes"]; len(l) > 0 {
			got := slices.MinFunc(l, func(a, b liveSeries) int { return int(a.value - b.value) })
			if int(got.value) < want {
				d.say("receive buffers", gradeWarn, fmt.Sprintf("sysctl -w net.core.rmem_max=%d (and in /etc/sysctl.d), then restart", 2*want),
					"%s has %s of the %s in collector.read_buffer", got.labels["listen"], size(got.value), size(float64(want)))
			} else {
				d.say("receive buffers", gradeOK, "", "each socket has %s", size(got.value))
			}
			return
		}
	}
	b, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	n, perr := strconv.Atoi(strings.TrimSpace(string(b)))
	switch {
	case err != nil || perr != nil:
		d.say("receive buffers", gradeWarn, "", "net.core.rmem_max cannot be read")
	case n < want:
		d.say("receive buffers", gradeWarn, fmt.Sprintf("sysctl -w net.core.rmem_max=%d (and in /etc/sysctl.d); a service with CAP_NET_ADMIN does without", 2*want),
			"net.core.rmem_max is %s, collector.read_buffer asks for %s", size(float64(n)), size(float64(want)))
	default:
		d.say("receive buffers", gradeOK, "", "net.core.rmem_max is %s", size(float64(n)))
	}
}

// checkIngest looks at what was lost since the service began, and at what waits.
func (d *doctor) checkIngest() {
	if d.live == nil || d.live.metrics == nil {
		return
	}
	m := d.live.metrics
	received := m.sum("flowcordon_collector_datagrams_total", "", "")
	var bad []string
	for _, l := range []struct{ name, text, do string }{
		{"flowcordon_collector_kernel_drops_total", "datagrams dropped by the kernel", "raise net.core.rmem_max and collector.read_buffer, or collector.workers"},
		{"flowcordon_store_dropped_total", "rows dropped by the store", "the log says why; see Disk and spool in docs/operations.md"},
		{"flowcordon_collector_rows_dropped_total", "rows that the store did not take", "the spool is full or broken: see store.spool_max_bytes"},
	} {
		if n := m.sum(l.name, "", ""); n > 0 {
			bad = append(bad, l.name)
			d.say("ingest", gradeWarn, l.do, "%.0f %s since the service began", n, l.text)
		}
	}
	if age := m.sum("flowcordon_store_spool_oldest_seconds", "", ""); age > spoolWarning {
		bad = append(bad, "spool")
		d.say("ingest", gradeWarn, "is ClickHouse up, and fast enough?", "batches wait for %.0f s to be stored", age)
	}
	if len(bad) == 0 {
		d.say("ingest", gradeOK, "", "%.0f datagrams received, none lost here", received)
	}
	d.checkDetector(m)
}

func (d *doctor) checkDetector(m liveMetrics) {
	missed, alone := m.sum("flowcordon_detect_missed_slots_total", "", ""), m.sum("flowcordon_respond_node_left_alone", "", "")
	if missed > 0 {
		d.say("detector", gradeWarn, "if it goes on: raise detect.interval, or give the database more cores", "%.0f slots had no tick because the one before took too long", missed)
	} else {
		d.say("detector", gradeOK, "", "no slot was missed")
	}
	if alone > 0 {
		d.say("breakers", gradeWarn, "the incidents of these nodes say what their hypervisors answer", "%.0f nodes are left alone after failures in a row", alone)
	}
	if n := m.sum("flowcordon_respond_log_errors_total", "", ""); n > 0 {
		d.say("event log", gradeWarn, "see the log; acts wait until their intent is stored", "%.0f appends failed and were repeated", n)
	}
}

func (d *doctor) checkExporters(ctx context.Context) {
	if d.live == nil {
		return
	}
	l, err := d.live.exporters(ctx)
	if err != nil {
		d.say("exporters", gradeWarn, "give --token-file with a token of the role viewer or higher", "cannot be asked for: %v", err)
		return
	}
	if len(l) == 0 {
		d.say("exporters", gradeFail, "do the routers send to this host, is the port open, are they in exporters.allow? The log names senders that are not", "none has sent anything yet")
		return
	}
	well := 0
	for _, e := range l {
		silent := d.now().Sub(e.LastSeen)
		switch {
		case silent > 5*time.Minute:
			d.say("exporter "+e.Exporter.String(), gradeFail, "is the router up, does it still export to this host?", "silent for %v", silent.Round(time.Second))
		case len(e.Problems) > 0:
			for _, p := range e.Problems {
				d.say("exporter "+e.Exporter.String(), gradeWarn, "", "%s", p)
			}
		default:
			well++
		}
	}
	if well > 0 {
		d.say("exporters", gradeOK, "", "%d of %d send and have no problem", well, len(l))
	}
}
