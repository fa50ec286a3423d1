package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store/storetest"
)

var (
	serverA = netip.MustParseAddr("198.18.0.10")
	scanner = netip.MustParseAddr("198.18.0.66")
)

// ordinary are n different records of serverA, from the from-th on.
func ordinary(from, n int) []export.Flow {
	out := make([]export.Flow, n)
	for i := range out {
		out[i] = ordinaryFlow(serverA, uint64(from+i), time.Now())
	}
	return out
}

// wantFlows holds that the database has the records once each, in both tables.
func wantFlows(t *testing.T, s *site, sent ...[]export.Flow) {
	t.Helper()
	var records, packets, bytes uint64
	for _, fs := range sent {
		for _, f := range fs {
			records, packets, bytes = records+1, packets+f.Packets, bytes+f.Bytes
		}
	}
	conn := s.openDatabase(t)
	for query, want := range map[string]uint64{
		"SELECT count() FROM flowcordon.flows":                                                         records,
		"SELECT uniqExact(dir, remote, remote_port, packets, bytes, start, end) FROM flowcordon.flows": records,
		"SELECT sum(packets) FROM flowcordon.flows":                                                    packets,
		"SELECT sum(out_records + in_records) FROM flowcordon.host_window":                             records,
		"SELECT sum(out_packets + in_packets) FROM flowcordon.host_window":                             packets,
		"SELECT sum(out_bytes + in_bytes) FROM flowcordon.host_window":                                 bytes,
		"SELECT sum(out_packets + in_packets) FROM flowcordon.service_window":                          packets,
	} {
		if got := scalar(t, conn, query); got != want {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
}

// TestServe: the process as it is installed. It answers, takes signals, and
// what it received a moment before SIGTERM is in the database.
func TestServe(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{Allow: "127.0.0.1/32"})
	p := s.serve(t)
	c := s.client(p.http())
	c.ready(t, 3*time.Minute)

	t.Run("answers", func(t *testing.T) {
		for _, tc := range []struct {
			path, token string
			status      int
			text        string
		}{
			{"/healthz", "", 200, ""},
			{"/readyz", "", 200, ""},
			{"/metrics", "", 200, "flowcordon_config_last_reload_success 1"},
			{"/", "", 200, "<html"},
			{"/api/v1/incidents", "", 401, "a token is needed"},
			{"/api/v1/incidents", "not a token of ours", 401, ""},
			{"/api/v1/incidents", s.token, 200, `"incidents":[]`},
			{"/api/v1/incidents/none", s.token, 404, "none"},
			{"/api/v1/exporters", s.token, 200, ""},
			{"/api/v1/hosts/198.18.0.10", s.token, 200, ""},
			{"/api/v1/hosts/8.8.8.8", s.token, 404, "none of our networks"},
			{"/api/v1/nothing", s.token, 404, ""},
		} {
			status, text, err := c.do(tc.path, tc.token, nil)
			if err != nil || status != tc.status || !strings.Contains(text, tc.text) {
				t.Errorf("%s: %d %.300s %v; want %d with %q", tc.path, status, text, err, tc.status, tc.text)
			}
		}
	})
	t.Run("second instance", func(t *testing.T) { secondInstance(t, s, p) })
	t.Run("SIGHUP", func(t *testing.T) { reloads(t, s, p, c) })

	r := newRouter(t, "127.0.0.1", p.netflow())
	early, late := ordinary(0, 3000), ordinary(3000, 2000)
	r.export(t, early...)
	eventually(t, 2*time.Minute, "rows in ClickHouse", func() (bool, string) {
		m, err := c.scrape()
		return err == nil && m.sum("flowcordon_store_rows_total", `"flows"`) >= 3000, fmt.Sprint(m.sum("flowcordon_store_rows_total"), err)
	})
	eventually(t, 2*time.Minute, "what the guards remember in ClickHouse", func() (bool, string) {
		m, err := c.scrape()
		return err == nil && m.sum("flowcordon_store_rows_total", `"guard_memory"`) >= 1, fmt.Sprint(err)
	})
	r.export(t, late...) // is in the socket's buffer at best
	if code := p.stop(t, 2*time.Minute); code != 0 {
		t.Errorf("exit %d after SIGTERM", code)
	}
	for _, stage := range []string{"collector", "detector", "controller", "store", "http", "engine"} {
		if !said(p.log(), `"msg":"stopped"`, `"stage":"`+stage+`"`) {
			t.Errorf("no line says that %s has stopped", stage)
		}
	}
	wantFlows(t, s, early, late)
}

// secondInstance starts another flowcordon on the same data, which must say
// what is wrong and leave the first alone.
func secondInstance(t *testing.T, s *site, first *process) {
	p := startProcess(t, "serve", "--config", s.config)
	if code := p.exit(t, 2*time.Minute); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	last := p.log()[len(p.log())-1]
	if !strings.Contains(last, "in use") || !strings.Contains(last, filepath.Join(s.dir, "data")) || !strings.HasPrefix(last, "flowcordon: ") {
		t.Errorf("the last line does not say which directory is in use: %s", last)
	}
	if status, text, err := s.client(first.http()).do("/readyz", "", nil); status != http.StatusOK {
		t.Errorf("the first is not ready any more: %d %s %v", status, text, err)
	}
}

// reloads sends SIGHUP with a good file, a bad one and a good one again.
func reloads(t *testing.T, s *site, p *process, c *client) {
	stranger := newRouter(t, "127.0.0.77", p.netflow())
	dropped := func() float64 {
		m, err := c.scrape()
		if err != nil {
			t.Fatal(err)
		}
		return m.sum("flowcordon_collector_dropped_total", "exporter_not_allowed")
	}
	records := func() float64 {
		m, err := c.scrape()
		if err != nil {
			t.Fatal(err)
		}
		checkAccounts(t, m)
		return m.sum("flowcordon_collector_datagrams_decoded_total")
	}
	hup := func(want float64, lines int, msg string) {
		t.Helper()
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, 2*time.Minute, msg, func() (bool, string) {
			m, err := c.scrape()
			if err != nil {
				t.Fatal(err)
			}
			return len(p.fields(msg, "level")) == lines && m.sum("flowcordon_config_last_reload_success") == want, fmt.Sprint(m.sum("flowcordon_config_last_reload_success"))
		})
	}
	// A record of nobody's: it must not be among those that are counted later.
	none := ordinaryFlow(netip.MustParseAddr("203.0.113.1"), 0, time.Now())
	stranger.export(t, none)
	eventually(t, 2*time.Minute, "a dropped datagram", func() (bool, string) { n := dropped(); return n == 1, fmt.Sprint(n) })
	if !said(p.log(), "not allowed", "exporters: {allow: [127.0.0.77/32]}") {
		t.Error("no line says how to allow the exporter")
	}
	const good = "reloaded exporters, networks and inventory; other sections need a restart"
	s.edit(t, "allow: [127.0.0.1/32]", "allow: [127.0.0.1/32, 127.0.0.77/32]")
	hup(1, 1, good)
	stranger.export(t, none)
	eventually(t, 2*time.Minute, "a decoded datagram", func() (bool, string) { n := records(); return n == 1, fmt.Sprint(n) })

	s.edit(t, "allow: [127.0.0.1/32, 127.0.0.77/32]", "alow: [127.0.0.1/32]")
	hup(0, 1, "reload refused; the configuration in force stays")
	if !said(p.log(), "reload refused", "exporters.alow") {
		t.Error("the refusal does not name the key")
	}
	stranger.export(t, none)
	eventually(t, 2*time.Minute, "the exporter still allowed", func() (bool, string) { n := records(); return n == 2, fmt.Sprint(n) })

	s.edit(t, "alow: [127.0.0.1/32]", "allow: [127.0.0.1/32]")
	s.write(t, "inventory.yaml", "- {ip: nonsense}\n")
	hup(0, 2, "reload refused; the configuration in force stays")
	stranger.export(t, none)
	eventually(t, 2*time.Minute, "nothing changed by a bad inventory", func() (bool, string) { n := records(); return n == 3, fmt.Sprint(n) })

	s.write(t, "inventory.yaml", "[]")
	s.edit(t, `internal: [198.18.0.0/15,`, `internal: [203.0.113.8/29, 198.18.0.0/15,`)
	hup(1, 2, good)
	if status, text, _ := c.do("/api/v1/hosts/203.0.113.9", s.token, nil); status != http.StatusOK {
		t.Errorf("a host in a network that came with the reload: %d %.200s", status, text)
	}
	stranger.export(t, none)
	eventually(t, 2*time.Minute, "the exporter not allowed again", func() (bool, string) { n := dropped(); return n == 2, fmt.Sprint(n) })

	// What would key one tenant's windows in two ways needs a restart.
	s.edit(t, "networks:\n", "networks:\n  ipv6_tenant_prefix: 56\n")
	hup(0, 3, "reload refused; the configuration in force stays")
	if !said(p.log(), "reload refused", "ipv6_tenant_prefix changed from 64 to 56; that needs a restart") {
		t.Error("the refusal does not name the key")
	}
}

// TestListenersInUse: a port that another process has is named.
func TestListenersInUse(t *testing.T) {
	t.Parallel()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for name, tc := range map[string]struct {
		o    siteOptions
		want string
	}{
		"http": {siteOptions{HTTP: tcp.Addr().String()}, "http.address " + tcp.Addr().String()},
		"udp":  {siteOptions{NetFlow: udp.LocalAddr().String()}, udp.LocalAddr().String()},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, tc.o)
			p := startProcess(t, "serve", "--config", s.config)
			if code := p.exit(t, 2*time.Minute); code != 1 {
				t.Errorf("exit %d, want 1", code)
			}
			last := p.log()[len(p.log())-1]
			if !strings.Contains(last, tc.want) || !strings.Contains(last, "address already in use") {
				t.Errorf("last line %s, want %q and the reason", last, tc.want)
			}
		})
	}
}

// TestClickHouseAway: no database at the start. Flows are collected into the
// spool, nothing is judged, and when the server appears everything arrives and
// detection begins.
func TestClickHouseAway(t *testing.T) {
	t.Parallel()
	e := storetest.Engine(t)
	addr := freePort(t, "tcp")
	s := newSite(t, siteOptions{
		Mode: flow.ModeEnforce, Inventory: holder(scanner, "panel"),
		ClickHouse: "  addr: [\"" + addr + "\"]\n  user: " + e.User() + "\n  password_file: PASSWORD",
	})
	s.write(t, "password", e.Password())
	s.edit(t, "PASSWORD", filepath.Join(s.dir, "password"))
	db := filepath.Base(filepath.Dir(s.dir))
	s.edit(t, "database: flowcordon", "database: "+db)
	conn := dialEngine(t, e)
	t.Cleanup(func() {
		_ = conn.Exec(t.Context(), "DROP DATABASE IF EXISTS "+db) // the engine is dropped with the test binary
		_ = conn.Close()
	})
	l := s.start(t)
	c := s.client(l.listener.Addr().String())
	r := newRouter(t, "127.0.0.1", l.netflow())
	sent := ordinary(0, 5000)
	r.export(t, sent...)
	attack := scanMinute(scanner)
	r.export(t, attack...)
	l.keepUp(t, inFlight+uint64(len(sent)+len(attack)))
	eventually(t, 2*time.Minute, "a spool that grows", func() (bool, string) {
		m, err := c.scrape()
		n := m.sum("flowcordon_store_spool_bytes")
		return err == nil && n > 100_000, fmt.Sprint(n, err)
	})
	if status, text, _ := c.do("/readyz", "", nil); status != http.StatusServiceUnavailable || !strings.Contains(text, "detection waits") {
		t.Errorf("/readyz: %d %s", status, text)
	}
	if status, _, err := c.do("/healthz", "", nil); status != http.StatusOK {
		t.Errorf("/healthz: %d %v", status, err)
	}
	if !said(l.logs.all(), "database is not ready; collecting into the spool", addr) {
		t.Error("no line says that the database is away, and where")
	}
	if n := s.panel.Requests(); n != 0 {
		t.Errorf("the panel was called %d times while nothing could be judged", n)
	}

	proxy(t, addr, e.DialContext)
	l.awaitDatabase(t)
	l.collector.Flush()
	if err := l.store.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := uint64(len(sent) + len(attack))
	if n := scalar(t, conn, "SELECT count() FROM "+db+".flows"); n != want {
		t.Errorf("%d flow rows, want %d", n, want)
	}
	if n := scalar(t, conn, "SELECT sum(out_records + in_records) FROM "+db+".host_window"); n != want {
		t.Errorf("%d records in windows, want %d", n, want)
	}
	r.export(t, attack[len(attack)-1]) // the slot's windows are those of the scan, still
	eventually(t, 2*time.Minute, "the scan found in what was spooled", func() (bool, string) {
		m, err := c.incidents()
		return err == nil && len(m[scanner]) == 1 && m[scanner][0].State.Cut(), fmt.Sprint(m, err)
	})
	eventually(t, 2*time.Minute, "the cut", func() (bool, string) { return s.panel.IsCut(macOf(scanner)), "" })
}

// proxy listens on addr and connects every caller with what dial dials.
func proxy(t *testing.T, addr string, dial func(context.Context, string) (net.Conn, error)) {
	t.Helper()
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	go func() {
		for {
			in, err := lis.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := dial(t.Context(), "")
				if err != nil {
					return
				}
				var ends sync.WaitGroup
				pipe := func(to, from net.Conn) {
					_, _ = io.Copy(to, from)
					_ = to.Close()
				}
				ends.Go(func() { pipe(out, in) })
				ends.Go(func() { pipe(in, out) })
				ends.Wait()
			}()
		}
	}()
}
