package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/cmd/flowbench/machine"
	"github.com/flowcordon/flowcordon/cmd/flowbench/report"
	"github.com/flowcordon/flowcordon/cmd/internal/tool"
	"github.com/flowcordon/flowcordon/complaint"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/embedded"
)

// history is what runHistory was asked for.
type history struct {
	dir, json, docs string
	flows           uint64
	hosts, reps     int
	memory          int64
	log             io.Writer

	now   time.Time // the end of everything stored
	store *store.Store
	conn  driver.Conn
	match *complaint.Matcher
}

type historyResult struct {
	Head  report.Head       `json:"head"`
	Rows  map[string]uint64 `json:"rows"`
	Disk  int64             `json:"disk_bytes"`
	Fill  float64           `json:"fill_seconds"`
	Kinds []reads           `json:"kinds"`
}

const (
	// rollID of every hour: microseconds, as the rollups have it.
	rollID = 1_700_000_000_000_000
	// flowDays and minuteDays are the store's own times; windows are a day's here,
	// since questions about older days read minutes.
	flowDays, minuteDays, hourDays = 7, 30, 730
)

func runHistory(ctx context.Context, fs *flag.FlagSet, args []string, stdout, stderr io.Writer) error {
	h := history{log: stderr}
	fs.StringVar(&h.dir, "dir", "", "`directory` for the database, kept if it is given and filled only once; empty: a temporary one")
	fs.Uint64Var(&h.flows, "flows", 1_000_000_000, "flow rows, over seven days")
	fs.IntVar(&h.hosts, "hosts", 5000, "hosts with windows of a day, minutes of 30 days and hours of two years")
	fs.IntVar(&h.reps, "reps", 300, "questions of each kind")
	fs.Int64Var(&h.memory, "memory", 8<<30, "bytes that the engine may use")
	short := fs.Bool("short", false, "20 million rows, 200 hosts, coarse figures")
	fs.StringVar(&h.docs, "docs", "", "write the table into this Markdown `file`, between its marks")
	fs.StringVar(&h.json, "json", "", "write all figures to this `file`")
	if err := tool.Parse(fs, args, 0); err != nil {
		return err
	}
	if *short {
		h.flows, h.hosts, h.reps = 20_000_000, 200, 50
	}
	if h.hosts < 1 || h.hosts > 60_000 || h.reps < 1 || h.flows < 1 {
		return tool.Misuse(fs, "--hosts: write 1 to 60000; --reps and --flows: 1 or more")
	}
	if h.dir == "" {
		dir, err := os.MkdirTemp("", "flowbench-history")
		if err != nil {
			return err
		}
		h.dir = dir
		defer func() { _ = os.RemoveAll(dir) }()
	}
	result, err := h.run(ctx)
	if err != nil {
		return err
	}
	s := site{docs: h.docs, json: h.json}
	return s.publish(stdout, "history", result, result.table())
}

// run fills the database and asks.
func (h *history) run(ctx context.Context) (result historyResult, err error) {
	lib, err := embedded.FindLib()
	if err != nil {
		return result, err
	}
	dir, err := filepath.Abs(h.dir)
	if err != nil {
		return result, err
	}
	engine := embedded.New(embedded.Config{Lib: lib, Dir: filepath.Join(dir, "clickhouse"), MaxMemory: h.memory}, embedded.Deps{})
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(run) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	select {
	case <-engine.Ready():
	case err := <-ended:
		ended <- nil
		return result, err
	}
	if err := h.open(ctx, engine, dir); err != nil {
		return result, err
	}
	began := time.Now()
	if result.Rows, err = h.fill(ctx); err != nil {
		return result, err
	}
	result.Fill = time.Since(began).Seconds()
	if result.Disk, err = machine.Disk(filepath.Join(dir, "clickhouse")); err != nil {
		return result, err
	}
	result.Head = report.NewHead("make bench")
	result.Kinds, err = h.ask(ctx)
	return result, err
}

func (h *history) open(ctx context.Context, e *embedded.Engine, dir string) error {
	h.now = time.Now().UTC().Truncate(time.Hour)
	sc := store.Config{User: e.User(), Password: e.Password(), DialContext: e.DialContext, SpoolDir: filepath.Join(dir, "spool"),
		// What the questions choose a resolution by; a day more than is filled.
		FlowTTL: (flowDays + 1) * 24 * time.Hour, WindowTTL: 48 * time.Hour, MinuteTTL: (minuteDays + 1) * 24 * time.Hour, HourTTL: (hourDays + 1) * 24 * time.Hour}
	var err error
	if h.store, err = store.New(sc, store.Deps{}); err != nil {
		return err
	}
	if err := h.store.Migrate(ctx); err != nil {
		return err
	}
	h.conn, err = clickhouse.Open(&clickhouse.Options{
		Addr: []string{"engine"}, DialContext: e.DialContext, ReadTimeout: time.Hour,
		Auth: clickhouse.Auth{Username: e.User(), Password: e.Password(), Database: store.DefaultDatabase},
	})
	if err != nil {
		return err
	}
	// What a run before has filled ends where it ended.
	var last time.Time
	if err := h.conn.QueryRow(ctx, "SELECT max(start) FROM host_1h").Scan(&last); err != nil {
		return err
	}
	if last.Year() > 2000 {
		h.now = last.UTC().Add(time.Hour)
	}
	h.match, err = complaint.New(complaint.Config{FlowPolicy: "all"}, complaint.Deps{
		Store: h.store, Inventory: everyone{}, TenantKey: func(a netip.Addr) netip.Addr { return a },
		Now: func() time.Time { return h.now },
	})
	return err
}

// everyone holds an address of his own.
type everyone struct{}

// Holder is always the same one.
func (everyone) Holder(ip netip.Addr, _ time.Time) (flow.Holder, bool) {
	return flow.Holder{Prefix: netip.PrefixFrom(ip, ip.BitLen()), Tenant: "c-" + ip.String(), VDS: "v-" + ip.String()}, true
}

func benchHost(n int) netip.Addr { return netip.AddrFrom4([4]byte{11, 0, byte(n >> 8), byte(n)}) }

// The n-th row of flows is of host n % hosts, at a time and with a remote that its
// number gives, so that a complaint can name it.
const (
	hostSQL   = "toIPv6(concat('::ffff:', IPv4NumToString(toUInt32(184549376 + (%s)))))"
	remoteSQL = "toIPv6(concat('::ffff:', IPv4NumToString(toUInt32(369098752 + sipHash64(number, 1) %% 8388608))))"
)

// fill writes what is not there yet, by INSERT … SELECT FROM numbers.
func (h *history) fill(ctx context.Context) (map[string]uint64, error) {
	rows := map[string]uint64{}
	for _, t := range []struct {
		table, sql string
		rows       uint64
	}{
		{"flows", h.flowsSQL(), h.flows},
		{"host_window", h.sumsSQL("host_window", 10, "", ""), uint64(h.hosts) * 8640},
		{"service_window", h.servicesSQL(), uint64(h.hosts) * 8640},
		{"host_1m", h.sumsSQL("host_1m", 60, ", windows, attempts, roll", fmt.Sprintf(", 6, number %% 7, %d", uint64(rollID))), uint64(h.hosts) * 1440 * minuteDays},
		{"host_1h", h.sumsSQL("host_1h", 3600, ", windows, attempts, roll", fmt.Sprintf(", 360, number %% 7, %d", uint64(rollID))), uint64(h.hosts) * 24 * hourDays},
		{"rollup", fmt.Sprintf("INSERT INTO rollup (slot, roll, done, written) SELECT toDateTime(%d - 3600 * (number + 1), 'UTC'), %d, true, toDateTime64(%d, 3, 'UTC') FROM numbers(%%d, %%d)",
			h.now.Unix(), uint64(rollID), h.now.Add(-time.Hour).Unix()), 24 * hourDays},
	} {
		var have uint64
		if err := h.conn.QueryRow(ctx, "SELECT count() FROM "+t.table).Scan(&have); err != nil {
			return nil, err
		}
		const chunk = 20_000_000
		for ; have < t.rows; have += min(chunk, t.rows-have) {
			began := time.Now()
			n := min(chunk, t.rows-have)
			if err := h.conn.Exec(clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"max_partitions_per_insert_block": 10_000, "max_execution_time": 0})),
				fmt.Sprintf(t.sql, have, n)); err != nil {
				return nil, fmt.Errorf("fill %s: %w", t.table, err)
			}
			fmt.Fprintf(h.log, "%s: %d rows of %d, %.0f rows/s\n", t.table, have+n, t.rows, float64(n)/time.Since(began).Seconds())
		}
		rows[t.table] = have
	}
	return rows, nil
}

// at is the time of the n-th flow row, in milliseconds: spread over the days so that
// neighbours are far apart, as routers' rows of one host are.
func (h *history) at(n uint64) time.Time {
	const span = flowDays * 86_400_000
	return time.UnixMilli(h.now.UnixMilli() - int64(n*2_654_435_761%span) - 1).UTC()
}

func (h *history) flowsSQL() string {
	return fmt.Sprintf(`INSERT INTO flows (time, start, end, exporter, tenant, host, remote, host_port, remote_port, svc_port, dir, ip_proto, role, class, tcp_flags, packets, bytes, ip_len, ttl, rate, in_if, out_if)
		SELECT t, t, t, toIPv6('::ffff:192.0.2.1'), h, h, %s, 32768 + number %%%% 28000, p, p, 1, 6, 1, if(number %%%% 5 = 0, 1, 4), if(number %%%% 5 = 0, 2, 24), 1 + number %%%% 9, 60 + number %%%% 1400, 60, 63, 1000, 3, 1
		FROM (SELECT number, fromUnixTimestamp64Milli(toInt64(%d - (number * 2654435761) %%%% %d - 1), 'UTC') AS t, %s AS h, [22, 443, 80, 25, 3389][number %%%% 5 + 1] AS p FROM numbers(%%d, %%d))`,
		remoteSQL, h.now.UnixMilli(), flowDays*86_400_000, fmt.Sprintf(hostSQL, fmt.Sprintf("number %%%% %d", h.hosts)))
}

func (h *history) sumsSQL(table string, step int, more, values string) string {
	return fmt.Sprintf(`INSERT INTO %s (start, tenant, rate, out_records, in_records, out_packets, in_packets, out_bytes, in_bytes, syn_out%s)
		SELECT toDateTime(%d - %d * (intDiv(number, %d) + 1), 'UTC'), %s, 1000, 3, 2, 5 + sipHash64(number) %%%% 90, 4, 3000 + sipHash64(number) %%%% 90000, 900, 1%s FROM numbers(%%d, %%d)`,
		table, more, h.now.Unix(), step, h.hosts, fmt.Sprintf(hostSQL, fmt.Sprintf("number %%%% %d", h.hosts)), strings.ReplaceAll(values, "%", "%%"))
}

func (h *history) servicesSQL() string {
	return fmt.Sprintf(`INSERT INTO service_window (start, tenant, rate, ip_proto, role, svc_port, out_records, in_records, out_packets, in_packets, out_bytes, in_bytes, syn_out, attempts, remotes)
		SELECT toDateTime(%d - 10 * (intDiv(number, %d) + 1), 'UTC'), %s, 1000, 6, 1, 22, 3, 2, 5, 4, 3000, 900, 1, 1, [sipHash64(number)] FROM numbers(%%d, %%d)`,
		h.now.Unix(), h.hosts, fmt.Sprintf(hostSQL, fmt.Sprintf("number %%%% %d", h.hosts)))
}

// ask measures each kind of question.
func (h *history) ask(ctx context.Context) ([]reads, error) {
	rng := rand.New(rand.NewPCG(1, 2)) // the same questions each time
	host := func() netip.Addr { return benchHost(rng.IntN(h.hosts)) }
	day := func(end time.Time) flow.Range { return flow.Range{From: end.Add(-24 * time.Hour), To: end} }
	var out []reads
	for _, q := range []struct {
		what string
		ask  func() (rows int, err error)
	}{
		{"a host's last day", func() (int, error) {
			s, err := h.store.History(ctx, flow.SeriesQuery{Tenant: host(), Range: day(h.now)})
			return len(s.Points), err
		}},
		{"a host's day, a year ago", func() (int, error) {
			s, err := h.store.History(ctx, flow.SeriesQuery{Tenant: host(), Range: day(h.now.AddDate(-1, 0, 0))})
			return len(s.Points), err
		}},
		{"a host's two years", func() (int, error) {
			s, err := h.store.History(ctx, flow.SeriesQuery{Tenant: host(), Range: flow.Range{From: h.now.AddDate(-2, 0, 1), To: h.now}})
			return len(s.Points), err
		}},
		{"top 100 of the last hour", func() (int, error) {
			t, err := h.store.TopList(ctx, flow.TopQuery{Range: flow.Range{From: h.now.Add(-time.Hour), To: h.now}, By: "out_bytes", Limit: 100})
			return len(t.Rows), err
		}},
		{"a complaint line that the flows confirm", func() (int, error) { return h.complain(ctx, rng.Uint64N(h.flows), true) }},
		{"a complaint line of nothing", func() (int, error) { return h.complain(ctx, rng.Uint64N(h.flows), false) }},
		{"a host's 1,000 newest flows", func() (int, error) {
			r, err := h.store.Flows(ctx, flow.FlowQuery{Tenant: host(), Range: day(h.now), SvcPort: -1, Limit: 1000, Newest: true})
			return len(r), err
		}},
	} {
		k := reads{What: q.what}
		for range h.reps {
			began := time.Now()
			n, err := q.ask()
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if k.took = append(k.took, float64(time.Since(began).Microseconds())/1000); err != nil || n == 0 {
				k.Errors++
				if k.Errors == 1 {
					fmt.Fprintf(h.log, "%s: %d rows, %v\n", q.what, n, err)
				}
			}
		}
		k.sum()
		fmt.Fprintf(h.log, "%s: p50 %.0f ms, p99 %.0f ms\n", k.What, k.P50, k.P99)
		out = append(out, k)
	}
	return out, nil
}

// complain matches one line about a row of flows, or about the like of it that never
// was; it gives 1 when the verdict is right.
func (h *history) complain(ctx context.Context, n uint64, real bool) (int, error) {
	var row struct {
		remote netip.Addr
		port   uint16
	}
	err := h.conn.QueryRow(ctx, fmt.Sprintf("SELECT %s, toUInt16([22, 443, 80, 25, 3389][number %% 5 + 1]) FROM numbers(%d, 1)", strings.ReplaceAll(remoteSQL, "%%", "%"), n)).Scan(&row.remote, &row.port)
	if err != nil {
		return 0, err
	}
	want := complaint.Confirmed
	if !real {
		row.remote, want = netip.AddrFrom4([4]byte{33, 0, 0, byte(n)}), ""
	}
	line := fmt.Sprintf("%s %s:%d -> %s:%d tcp", h.at(n).Format("2006-01-02T15:04:05.000Z"), benchHost(int(n%uint64(h.hosts))), 32768+n%28000, row.remote.Unmap(), row.port)
	res, err := h.match.Match(ctx, complaint.Request{Data: []byte(line + "\n"), Type: "text/plain", Received: h.now})
	if err != nil || len(res.Lines) != 1 {
		return 0, errors.Join(err, fmt.Errorf("%d lines of %q", len(res.Lines), line))
	}
	if got := res.Lines[0].Traffic.Verdict; want != "" && got != want || want == "" && got == complaint.Confirmed {
		return 0, fmt.Errorf("%q is %s", line, got)
	}
	return 1, nil
}

func (r *historyResult) table() string {
	var b strings.Builder
	total := uint64(0)
	var parts []string
	for _, t := range []string{"flows", "host_window", "service_window", "host_1m", "host_1h"} {
		total += r.Rows[t]
		parts = append(parts, fmt.Sprintf("%s %d", t, r.Rows[t]))
	}
	fmt.Fprintf(&b, "%d rows (%s), %.1f GB on disk, filled in %.0f s\n\n", total, strings.Join(parts, ", "), float64(r.Disk)/1e9, r.Fill)
	b.WriteString("| question | asked | wrong | p50 ms | p99 ms | max ms |\n|---|---|---|---|---|---|\n")
	for _, k := range slices.Clone(r.Kinds) {
		fmt.Fprintf(&b, "| %s | %d | %d | %.1f | %.1f | %.1f |\n", k.What, k.N, k.Errors, k.P50, k.P99, k.Max)
	}
	return b.String()
}
