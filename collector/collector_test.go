package collector

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

func TestDatagramsBecomeWindows(t *testing.T) {
	h := start(t, func(c *Config, _ *Deps) {
		c.Listen = []Listen{{decode.KindNetFlow, "127.0.0.1:0"}, {decode.KindNetFlow, "[::1]:0"}, {decode.KindNetFlow, "[::]:0"}}
	})
	h.send(0, "127.0.0.1", v5(0, "198.18.0.1", 30), v5(30, "198.18.0.2", 30))
	h.send(0, "127.0.0.2", v5(0, "198.18.0.1", 10))
	h.send(1, "::1", v5(0, "198.18.0.3", 5))
	h.send(2, "127.0.0.3", v5(0, "198.18.0.4", 7)) // one dual-stack socket, both families
	h.send(2, "::1", v5(5, "198.18.0.4", 1))
	h.Flush()
	want := map[netip.Addr]flow.Counts{
		netip.MustParseAddr("198.18.0.1"): {OutRecords: 40, OutPackets: 80, OutBytes: 4800},
		netip.MustParseAddr("198.18.0.2"): {OutRecords: 30, OutPackets: 60, OutBytes: 3600},
		netip.MustParseAddr("198.18.0.3"): {OutRecords: 5, OutPackets: 10, OutBytes: 600},
		netip.MustParseAddr("198.18.0.4"): {OutRecords: 8, OutPackets: 16, OutBytes: 960},
	}
	if d := cmp.Diff(want, h.sink.sums(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	h.checkSum()
	for name, want := range map[string]float64{"datagrams_total": 6, "datagrams_decoded_total": 6, "records_total": 83, "records_aggregated_total": 83, "exporters": 4} {
		if got := h.metric(name); got != want {
			t.Errorf("%s is %g, want %g", name, got, want)
		}
	}
	var names []string
	for _, e := range h.Exporters() {
		names = append(names, e.Exporter.String())
		if len(e.Problems) > 0 || e.Protocols[0] != "netflow5" {
			t.Errorf("%s: %v, problems %v", e.Exporter, e.Protocols, e.Problems)
		}
	}
	if d := cmp.Diff([]string{"127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"}, names); d != "" {
		t.Errorf("exporters (-want +got)\n%s", d)
	}
}

func TestUnknownExporter(t *testing.T) {
	h := start(t, func(c *Config, _ *Deps) { c.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} })
	for range 20 {
		h.send(0, "127.0.0.5", v5(0, "198.18.0.1", 1))
	}
	h.Flush()
	logs := h.logs.FilterMessageSnippet("not allowed").All()
	if len(logs) != 1 || logs[0].ContextMap()["to_allow_it_write"] != "exporters: {allow: [127.0.0.5/32]}" {
		t.Errorf("log: %v", logs)
	}
	if h.sink.b.Rows() != 0 || h.metric("dropped_total", "reason", "exporter_not_allowed") != 20 {
		t.Error("rows of an unknown exporter")
	}
	families, _ := h.reg.Gather()
	for _, f := range families {
		if strings.Contains(f.String(), "127.0.0.5") {
			t.Errorf("the address of an unknown sender is a label: %s", f)
		}
	}
	// Memory and log lines stay bounded whoever sends.
	now := time.Now()
	for i := range 5 * maxStrangers {
		h.strangers.met(netip.AddrFrom4([4]byte{1, 2, byte(i >> 8), byte(i)}), now.Add(time.Duration(i)*time.Millisecond))
	}
	if n := len(h.strangers.seen); n > maxStrangers {
		t.Errorf("%d unknown senders are remembered", n)
	}
	if n := h.logs.FilterMessageSnippet("not allowed").Len(); n > 15 {
		t.Errorf("%d log lines in 5 s", n)
	}
}

func TestReload(t *testing.T) {
	h := start(t, func(c *Config, _ *Deps) {
		c.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		c.Decode.Sampling = nil
	})
	h.send(0, "127.0.0.1", v9(0, 2, v9Template(), v9Data("198.18.0.1")))
	h.send(0, "127.0.0.2", v9(0, 2, v9Template(), v9Data("198.18.0.1")))
	h.Flush()
	if h.sink.b.Rows() != 0 {
		t.Fatalf("rows without a known rate: %+v", h.sink.b)
	}
	if err := h.Reload(Config{}); err == nil {
		t.Error("an empty configuration was taken")
	}
	cfg := testConfig()
	cfg.Decode.Sampling = []decode.SamplingRule{{Exporter: netip.MustParsePrefix("127.0.0.0/8"), Default: 500}}
	cfg.Aggregate.Internal = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	cfg.Workers = 9
	if err := h.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	h.send(0, "127.0.0.1", v9(1, 1, v9Data("203.0.113.7"))) // the template is still known
	h.send(0, "127.0.0.2", v9(0, 2, v9Template(), v9Data("203.0.113.7")))
	h.Flush()
	if got := h.sink.sums()[netip.MustParseAddr("203.0.113.7")].OutRecords; got != 2 || len(h.sink.sums()) != 1 || h.sink.b.Hosts[0].Rate != 500 {
		t.Errorf("hosts after reload: %+v", h.sink.b.Hosts)
	}
	if logs := h.logs.FilterMessageSnippet("next start").All(); len(logs) != 1 || !strings.Contains(logs[0].Entry.Message+strings.Join(flatten(logs[0].ContextMap()["settings"]), " "), "collector.workers") {
		t.Errorf("log of fixed settings: %v", logs)
	}
	h.checkSum()
}

func flatten(v any) []string {
	var out []string
	for _, x := range v.([]any) {
		out = append(out, x.(string))
	}
	return out
}

func TestStateSurvivesRestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sub", "templates.state")
	with := func(workers int, allow string) func(*Config, *Deps) {
		return func(c *Config, _ *Deps) {
			c.StateFile, c.Workers = file, workers
			c.Allow = []netip.Prefix{netip.MustParsePrefix(allow)}
		}
	}
	sources := []string{"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"}
	h := start(t, with(4, "127.0.0.0/8"))
	for _, s := range sources {
		h.send(0, s, v9(0, 1, v9Template()))
	}
	h.stop()
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Fatalf("state file: %v %v", info, err)
	}
	if left, _ := filepath.Glob(file + "?*"); len(left) != 0 {
		t.Errorf("temporary files stay: %v", left)
	}

	// Another number of decoders: data without a template is understood at once.
	h = start(t, with(1, "127.0.0.0/8"))
	for _, s := range sources {
		h.send(0, s, v9(1, 1, v9Data("198.18.0.1")))
	}
	h.Flush()
	if got := h.sink.sums()[netip.MustParseAddr("198.18.0.1")].OutRecords; got != 5 {
		t.Errorf("%d records after the restart, want 5", got)
	}
	h.saveState()
	before, _ := os.Stat(file)
	h.saveState()
	if after, _ := os.Stat(file); !os.SameFile(before, after) {
		t.Error("an unchanged state was written again")
	}
	h.send(0, "127.0.0.6", v9(0, 1, v9Template()))
	h.Flush()
	h.saveState()
	if after, _ := os.Stat(file); os.SameFile(before, after) {
		t.Error("a changed state was not written")
	}
	h.stop()

	// Exporters that are not allowed any more are forgotten.
	h = start(t, with(2, "127.0.0.1/32"))
	h.stop()
	b, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(b), "127.0.0.2") || !strings.Contains(string(b), "127.0.0.1") {
		t.Errorf("state after the allow-list shrank: %v\n%s", err, b)
	}

	for name, bad := range map[string]string{"garbage": "\x00\x01garbage", "empty": "", "another format": `{"exporters":[{"addr":5}]}`, "a later version": `{"flowcordon_decoder_state":99,"exporters":[]}`} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		h = start(t, with(2, "127.0.0.0/8"))
		if h.logs.FilterMessageSnippet("cannot be used").Len() != 1 || h.metric("state_errors_total") != 1 {
			t.Errorf("%s: no warning", name)
		}
		h.send(0, "127.0.0.1", v9(0, 2, v9Template(), v9Data("198.18.0.1")))
		h.Flush()
		if h.sink.b.Rows() == 0 {
			t.Errorf("%s: does not collect", name)
		}
		h.stop()
	}
}

func TestSinkRefuses(t *testing.T) {
	h := start(t)
	h.sink.setRefuse(errors.New("spool full"))
	for range 3 {
		h.send(0, "127.0.0.1", v5(0, "198.18.0.1", 2))
		h.Flush()
	}
	if got := h.metric("rows_dropped_total", "reason", ReasonStoreRefused); got < 9 {
		t.Errorf("%g rows refused", got)
	}
	if n := h.logs.FilterMessageSnippet("refused rows").Len(); n != 1 {
		t.Errorf("%d log lines, want one a minute", n)
	}
	h.sink.setRefuse(nil)
	h.send(0, "127.0.0.1", v5(0, "198.18.0.2", 2))
	h.Flush()
	if len(h.sink.sums()) != 1 {
		t.Error("nothing goes on after the sink recovered")
	}
	h.checkSum()
}

func TestReceiveErrorDoesNotEndTheReader(t *testing.T) {
	failures := 3
	h := startWith(t, func(c *Collector) {
		c.receive = func(fd int, b *batch) (int, error) {
			if failures > 0 {
				failures--
				return 0, unix.ENOMEM
			}
			return recvmmsg(fd, b)
		}
	}, func(c *Config, _ *Deps) { c.Workers = 1 })
	h.send(0, "127.0.0.1", v5(0, "198.18.0.1", 2))
	h.Flush()
	if got := h.metric("receive_errors_total"); got != 3 {
		t.Errorf("%g receive errors, want 3", got)
	}
	if len(h.sink.sums()) != 1 {
		t.Error("the datagram was lost")
	}
	if n := h.logs.FilterMessageSnippet("receive failed").Len(); n != 1 {
		t.Errorf("%d log lines", n)
	}
}

func TestKernelDrops(t *testing.T) {
	// Hold the reader before a receive call while the kernel's buffer runs over.
	var gate sync.Mutex
	h := startWith(t, func(c *Collector) {
		c.receive = func(fd int, b *batch) (int, error) {
			gate.Lock()
			defer gate.Unlock()
			return recvmmsg(fd, b)
		}
	}, func(c *Config, _ *Deps) { c.ReadBuffer = 4096; c.Workers = 1 })
	gate.Lock()
	const sent = 200
	for range sent {
		h.send(0, "127.0.0.1", v5(0, "198.18.0.1", 20))
	}
	gate.Unlock()
	h.Flush()
	h.send(0, "127.0.0.1", v5(0, "198.18.0.1", 20)) // brings the kernel's count
	h.Flush()
	received, dropped := h.metric("datagrams_total"), h.metric("kernel_drops_total")
	if got := h.metric("socket_kernel_drops_total", "listen", h.Addrs()[0].String(), "socket", "0"); got != dropped {
		t.Errorf("%g drops at the socket, %g in all", got, dropped)
	}
	if dropped == 0 || received+dropped != sent+1 {
		t.Errorf("received %g, dropped by the kernel %g, sent %d", received, dropped, sent+1)
	}
	h.checkSum()
}

func TestShutdownLosesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 5 {
		h := start(t)
		const n = 300
		for i := range n {
			h.send(0, "127.0.0.1", v5(uint32(i*20), "198.18.0.1", 20))
		}
		h.stop() // without Flush: what the kernel holds is taken along
		if got := h.sink.sums()[netip.MustParseAddr("198.18.0.1")].OutRecords; got != n*20 {
			t.Errorf("%d records at the sink, want %d", got, n*20)
		}
		h.checkSum()
		var steps []string
		for _, l := range h.logs.FilterLevelExact(zapcore.InfoLevel).All() {
			steps = append(steps, l.Message)
		}
		if i := slices.Index(steps, "sockets closed"); i < 0 || !slices.Equal(steps[i:], []string{"sockets closed", "windows handed over", "collector ended"}) {
			t.Errorf("steps: %q", steps)
		}
		h.Flush() // after the end: nothing, and no panic
	}
	for end := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, b[:runtime.Stack(b, true)])
		}
	}
}

func TestFlushTicker(t *testing.T) {
	h := start(t, func(c *Config, _ *Deps) { c.FlushInterval = 20 * time.Millisecond })
	h.send(0, "127.0.0.1", v5(0, "198.18.0.1", 10)) // ten attempts: hot, due before the window closes
	h.eventually("rows without a Flush", func() bool { return len(h.sink.sums()) == 1 })
}

// What is due goes out at once when somebody asks, and the windows stay open.
func TestFlushDue(t *testing.T) {
	h := start(t, func(c *Config, _ *Deps) { c.FlushInterval = time.Hour })
	h.send(0, "127.0.0.1", v5(0, "198.18.0.1", 10), v5(10, "198.18.0.2", 1)) // hot; not
	hot, cold := netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("198.18.0.2")
	h.eventually("the hot rows", func() bool {
		h.FlushDue(t.Context())
		return h.sink.sums()[hot].OutRecords == 10
	})
	if sums := h.sink.sums(); len(sums) != 1 {
		t.Errorf("handed over: %v; those of %s are not due", sums, cold)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	h.send(0, "127.0.0.1", v5(11, "198.18.0.1", 10))
	h.FlushDue(ended) // nothing, at once
	h.stop()
	h.FlushDue(t.Context()) // after the end: nothing, and no panic
}

func TestListenErrors(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, c := range map[string]struct{ address, want string }{
		"in use":          {taken.LocalAddr().String(), "listen[1] " + taken.LocalAddr().String() + ": another program"},
		"not our address": {"203.0.113.77:2055", "does not have that address"},
		"not resolvable":  {"127.0.0.1:nosuchport", "listen[1] 127.0.0.1:nosuchport"},
	} {
		cfg := testConfig()
		cfg.Listen = append(cfg.Listen, Listen{decode.KindNetFlow, c.address})
		col, err := New(cfg, Deps{Sink: &keeper{}})
		if err != nil {
			t.Fatal(err)
		}
		err = col.Run(context.Background())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	cfg := Config{Listen: []Listen{{Address: "2055"}}, Allow: []netip.Prefix{{}}, Workers: -1, MaxDatagram: 70000, Aggregate: aggregate.Config{V6TenantBits: 200}}
	_, err := New(cfg, Deps{Sink: &keeper{}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"listen[0].address", "exporters.allow[0]", "workers", "max_datagram", "ipv6_tenant_prefix"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	if _, err := New(Config{}, Deps{Sink: &keeper{}}); err == nil || !strings.Contains(err.Error(), "listen: no address") {
		t.Errorf("no listen: %v", err)
	}
	if _, err := New(testConfig(), Deps{}); err == nil {
		t.Error("no sink, no error")
	}
}

func TestExporterProblems(t *testing.T) {
	now := time.Now()
	cfg := testConfig()
	ok := flow.ExporterHealth{Exporter: netip.MustParseAddr("192.0.2.1"), LastSeen: now.Add(-silentAfter), MaxDelayS: lateAfter.Seconds()}
	change := func(f func(*flow.ExporterHealth)) flow.ExporterHealth { h := ok; f(&h); return h }
	for name, c := range map[string]struct {
		health flow.ExporterHealth
		agg    aggregate.ExporterStats
		want   string
	}{
		"nothing":  {ok, aggregate.ExporterStats{}, ""},
		"sampling": {ok, aggregate.ExporterStats{SamplingUnknown: 5}, "exporters: {sampling: [{exporter: 192.0.2.1, default: N}]}"},
		"ahead":    {ok, aggregate.ExporterStats{ClockAhead: 5}, "clock is ahead"},
		"behind":   {ok, aggregate.ExporterStats{TooLate: 5}, "clock is behind"},
		"late":     {change(func(h *flow.ExporterHealth) { h.MaxDelayS++ }), aggregate.ExporterStats{}, "active timeout 60 s"},
		"loss":     {change(func(h *flow.ExporterHealth) { h.Lost = 3 }), aggregate.ExporterStats{}, "net.core.rmem_max"},
		"silent":   {change(func(h *flow.ExporterHealth) { h.LastSeen = h.LastSeen.Add(-1) }), aggregate.ExporterStats{}, "silent since"},
	} {
		tellProblems(&c.health, c.agg, &cfg, now)
		got := c.health.Problems
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}

	h := start(t, func(c *Config, _ *Deps) {
		c.Allow = append(c.Allow, netip.MustParsePrefix("192.0.2.77/32"))
		c.Decode.Sampling = nil
	})
	h.send(0, "127.0.0.1", v9(0, 2, v9Template(), v9Data("198.18.0.1")))
	h.send(0, "127.0.0.1", v9(9, 1, v9Data("198.18.0.1"))) // eight datagrams are missing
	h.Flush()
	ex := h.Exporters()
	if len(ex) != 3 || ex[2].Exporter.String() != "192.0.2.77" && ex[1].Exporter.String() != "192.0.2.77" {
		t.Fatalf("exporters: %+v", ex)
	}
	all := strings.Join(ex[0].Problems, "\n")
	if ex[0].Lost != 8 || !strings.Contains(all, "sampling") || !strings.Contains(all, "missing by sequence number") {
		t.Errorf("lost %d, problems:\n%s", ex[0].Lost, all)
	}
	if got := h.metric("sequence_lost_total", "exporter", "127.0.0.1"); got != 8 {
		t.Errorf("sequence_lost_total is %g, want 8", got)
	}
	if got := h.metric("records_dropped_total", "reason", aggregate.ReasonSamplingUnknown); got != 2 {
		t.Errorf("sampling_unknown is %g, want 2", got)
	}
}
