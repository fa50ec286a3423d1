package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/cmd/flowgen/panel"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/internal/loopback"
	"github.com/flowcordon/flowcordon/store/embedded"
)

// site is a hoster in miniature around one flowcordon: a directory with its
// configuration, and a panel that cuts what it is told to.
type site struct {
	dir, config string
	token       string
	panel       *panel.Panel
	hook        *hook // in front of the panel
}

// siteOptions are what differs between tests; the zero value is a service on
// free ports that observes.
type siteOptions struct {
	Mode       flow.Mode // of every rule; empty: observe
	FlowPolicy string    // empty: all
	NetFlow    string    // address; empty: a free port
	SFlow      string
	HTTP       string
	ClickHouse string // lines under clickhouse:
	Allow      string // prefixes; empty: all of loopback
	Respond    string // lines under respond:, apart from the panel
	Suspenders string // more of them
	Inventory  string // entries
	Collector  string // lines under collector:
	Interval   string // of the detector; empty: 1s
}

var siteTemplate = template.Must(template.New("config").Parse(`listen:
  - {protocol: netflow, address: "{{.NetFlow}}"}
  - {protocol: sflow, address: "{{.SFlow}}"}
exporters:
  allow: [{{.Allow}}]
networks:
  internal: [198.18.0.0/15, "2001:db8::/32"]
data_dir: "{{.Dir}}/data"
clickhouse:
  database: flowcordon
{{.ClickHouse}}
store: {flow_policy: {{.FlowPolicy}}}
http: {address: "{{.HTTP}}"}
collector:
  workers: 2
{{.Collector}}
detect:
  interval: {{.Interval}}
  thresholds: {guards: {fleet_min: 1000}} # tests have more scanners than neighbours
  rules:
    netscan: {mode: {{.Mode}}}
    portscan: {mode: {{.Mode}}}
    syn_flood: {mode: {{.Mode}}}
    udp_flood: {mode: {{.Mode}}}
respond:
  max_per_hour: 1000
  caps: {per_10min: 1000, per_day: 1000, tenant_per_day: 1000, node_per_hour: 1000, fleet_share: 1}
  freeze: {tenants: 0, all_tenants: 0}
{{.Respond}}
  suspenders:
    - {name: panel, type: webhook, url: "{{.Panel}}/hypervisor", secret_file: "{{.Dir}}/secret"}
{{.Suspenders}}
inventory: {file: "{{.Dir}}/inventory.yaml"}
api:
  tokens:
    - {name: test, role: admin, token_file: "{{.Dir}}/token"}
log: {level: info, format: json}
`))

var siteSecret = []byte("a secret of the tests, of no worth")

func newSite(t *testing.T, o siteOptions) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), token: "0123456789abcdef0123456789abcdef"}
	s.config = filepath.Join(s.dir, "flowcordon.yaml")
	s.panel = panel.New(panel.Config{Secret: siteSecret, AnyNIC: true})
	s.hook = &hook{next: s.panel}
	srv := httptest.NewServer(s.hook)
	t.Cleanup(srv.Close)
	for v, d := range map[*string]string{
		(*string)(&o.Mode): "observe", &o.FlowPolicy: "all", &o.NetFlow: "127.0.0.1:0", &o.SFlow: "127.0.0.1:0",
		&o.HTTP: "127.0.0.1:0", &o.Allow: "127.0.0.0/8", &o.Inventory: "[]", &o.Interval: "1s",
	} {
		if *v == "" {
			*v = d
		}
	}
	var b bytes.Buffer
	err := siteTemplate.Execute(&b, struct {
		siteOptions
		Dir, Panel string
	}{o, s.dir, srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"flowcordon.yaml": b.String(), "secret": string(siteSecret), "token": s.token, "inventory.yaml": o.Inventory,
	} {
		s.write(t, name, text)
	}
	return s
}

func (s *site) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// edit replaces text in the configuration.
func (s *site) edit(t *testing.T, old, with string) {
	t.Helper()
	b, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		t.Fatalf("%q is not in the configuration", old)
	}
	s.write(t, "flowcordon.yaml", strings.Replace(string(b), old, with, 1))
}

// openDatabase runs the engine on the site's data, while flowcordon does not.
func (s *site) openDatabase(t *testing.T) driver.Conn {
	t.Helper()
	lib, err := embedded.FindLib()
	if err != nil {
		t.Fatal(err)
	}
	e := embedded.New(embedded.Config{Lib: lib, Dir: filepath.Join(s.dir, "data", "clickhouse")}, embedded.Deps{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	select {
	case <-e.Ready():
	case err := <-done:
		t.Fatalf("engine on %s: %v", s.dir, err)
	}
	conn := dialEngine(t, e)
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("engine: %v", err)
		}
	})
	return conn
}

func dialEngine(t testing.TB, e *embedded.Engine) driver.Conn {
	t.Helper()
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{"engine"}, DialContext: e.DialContext,
		Auth: clickhouse.Auth{Username: e.User(), Password: e.Password()}, ReadTimeout: 5 * time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// scalar is the one number that a query gives.
func scalar(t *testing.T, conn driver.Conn, query string, args ...any) uint64 {
	t.Helper()
	var n uint64
	if err := conn.QueryRow(context.Background(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// holder is an inventory entry that may be cut by a panel.
func holder(ip netip.Addr, panel string) string {
	return fmt.Sprintf("- {ip: %q, tenant: c-%s, vds: vds-%s, hypervisor: %s, macs: [%q], contact: owner@customer.example}\n", ip, ip, ip, panel, macOf(ip))
}

// macOf is the MAC address of the NIC of a tenant with an IPv4 address.
func macOf(ip netip.Addr) string {
	a := ip.As4()
	return fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", a[0], a[1], a[2], a[3])
}

// client speaks to the HTTP side of a running flowcordon.
type client struct {
	base  string
	token string
	http  http.Client
}

func (s *site) client(addr string) *client {
	return &client{base: "http://" + addr, token: s.token, http: http.Client{Timeout: time.Minute}}
}

// do makes one request; a body makes it a POST.
func (c *client) do(path, token string, body any) (status int, text string, err error) {
	req, err := http.NewRequest(http.MethodGet, c.base+path, nil)
	if err == nil && body != nil {
		b, _ := json.Marshal(body) // of strings only
		req, err = http.NewRequest(http.MethodPost, c.base+path, bytes.NewReader(b))
	}
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// incidents lists all of them, by tenant.
func (c *client) incidents() (map[netip.Addr][]flow.Incident, error) {
	status, text, err := c.do("/api/v1/incidents?limit=500", c.token, nil)
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("incidents: %d %.200s: %w", status, text, err)
	}
	var page struct{ Incidents []flow.Incident }
	if err := json.Unmarshal([]byte(text), &page); err != nil {
		return nil, err
	}
	out := map[netip.Addr][]flow.Incident{}
	for _, i := range page.Incidents {
		out[i.Tenant] = append(out[i.Tenant], i)
	}
	return out, nil
}

// samples are a scrape: series with labels as text → value.
type samples map[string]float64

func (c *client) scrape() (samples, error) {
	status, text, err := c.do("/metrics", "", nil)
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("scrape: %d: %w", status, err)
	}
	out := samples{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || i < 0 {
			continue
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("scrape: %q: %w", line, err)
		}
		out[line[:i]] = v
	}
	return out, nil
}

// sum adds up the series of a name whose labels contain all of the texts.
func (s samples) sum(name string, labels ...string) float64 {
	total := 0.0
next:
	for series, v := range s {
		n, l, _ := strings.Cut(series, "{")
		if n != name {
			continue
		}
		for _, want := range labels {
			if !strings.Contains(l, want) {
				continue next
			}
		}
		total += v
	}
	return total
}

// checkAccounts holds what is always true of the collector's counters.
func checkAccounts(t *testing.T, m samples) {
	t.Helper()
	received := m.sum("flowcordon_collector_datagrams_total")
	decoded, dropped := m.sum("flowcordon_collector_datagrams_decoded_total"), m.sum("flowcordon_collector_dropped_total")
	if received != decoded+dropped {
		t.Errorf("received %v datagrams, but decoded %v and dropped %v", received, decoded, dropped)
	}
}

// eventually waits until ok, which says what is still missing.
func eventually(t *testing.T, wait time.Duration, what string, ok func() (bool, string)) {
	t.Helper()
	for deadline := time.Now().Add(wait); ; time.Sleep(50 * time.Millisecond) {
		done, missing := ok()
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %s", what, wait, missing)
		}
	}
}

// freePort is an address that nobody listens on, or will before its user does.
func freePort(t *testing.T, network string) string {
	t.Helper()
	a, err := loopback.Free(network)
	if err != nil {
		t.Fatal(err)
	}
	return a.String()
}

// said reports whether a log line contains all of the texts.
func said(lines []string, texts ...string) bool {
next:
	for _, l := range lines {
		for _, want := range texts {
			if !strings.Contains(l, want) {
				continue next
			}
		}
		return true
	}
	return false
}

// TestMarksDirectory: what keeps marks for adapters need not be there before
// the first start, neither for check-config nor for serve.
func TestMarksDirectory(t *testing.T) {
	s := newSite(t, siteOptions{Suspenders: "    - {name: vz, type: virtualizor, url: \"https://127.0.0.1:1\", user: k, secret_file: SECRET}\n"})
	s.edit(t, "SECRET", s.dir+"/secret")
	cfg, err := config.Load(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkSuspenders(s.config, cfg); err != nil {
		t.Errorf("check-config: %v", err)
	}
	if isDir(marksDir(cfg)) {
		t.Error("check-config made a directory")
	}
	s.start(t)
	if !isDir(marksDir(cfg)) {
		t.Error("serve did not make it")
	}
}
