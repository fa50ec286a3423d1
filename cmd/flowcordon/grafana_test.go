package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"
)

// promQL is an expression and where it stands.
type promQL struct{ at, expr string }

// promQLs are those of the dashboards and of the alert rules.
func promQLs(t *testing.T) []promQL {
	t.Helper()
	var all []promQL
	files, _ := filepath.Glob("../../deploy/grafana/dashboards/*.json") // the pattern is right
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				if q.Expr != "" {
					all = append(all, promQL{filepath.Base(f) + ", " + p.Title, strings.ReplaceAll(q.Expr, "$__rate_interval", "5m")})
				}
			}
		}
	}
	panels := len(all)
	b, err := os.ReadFile("../../deploy/prometheus/rules/flowcordon.yml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Labels      struct{ Severity string }
				Annotations struct{ Summary, Do string }
			}
		}
	}
	if err := yaml.Unmarshal(b, &rules); err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if !slices.Contains([]string{"page", "ticket"}, r.Labels.Severity) || r.Annotations.Summary == "" || r.Annotations.Do == "" {
				t.Errorf("alert %s: wants a severity page or ticket, a summary and what to do", r.Alert)
			}
			all = append(all, promQL{"alert " + r.Alert, r.Expr})
		}
	}
	if panels < 20 || len(all)-panels < 12 {
		t.Fatalf("%d expressions of panels and %d of alerts were found", panels, len(all)-panels)
	}
	return all
}

// exported are the metrics of a service with their labels, as its registry
// describes them, whether or not anything was counted yet.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	site := newSite(t, siteOptions{})
	cfg, err := loadSite(site)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newService(site.config, cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.listener.Close() })
	ch := make(chan *prometheus.Desc)
	go func() { s.registry.Describe(ch); close(ch) }()
	form := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{(.*)\}\}`)
	all := map[string][]string{"up": nil}
	for d := range ch {
		m := form.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("unknown form of %s", d)
		}
		all[m[1]] = strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' || r == ' ' })
	}
	if len(all) < 50 {
		t.Fatalf("only %d metrics are exported", len(all))
	}
	return all
}

var (
	metricName = regexp.MustCompile(`\b(up|flowcordon_\w+)\b(?:\{([^}]*)\})?`)
	labelIn    = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
	grouping   = regexp.MustCompile(`\b(?:by|without|on|ignoring)\s*\(([^)]*)\)`)
)

// Every expression names metrics that the service exports, and labels that these
// have.
func TestExpressionsNameWhatIsExported(t *testing.T) {
	metrics := exported(t)
	for _, q := range promQLs(t) {
		labels := []string{"instance", "job", "le", "quantile"}
		found := metricName.FindAllStringSubmatch(q.expr, -1)
		if len(found) == 0 {
			t.Errorf("%s: names no metric: %s", q.at, q.expr)
		}
		for _, m := range found {
			own, ok := metrics[m[1]]
			for _, suffix := range []string{"_bucket", "_sum", "_count"} { // of histograms
				if base, cut := strings.CutSuffix(m[1], suffix); cut && !ok {
					own, ok = metrics[base]
				}
			}
			if !ok {
				t.Errorf("%s: %s is not exported", q.at, m[1])
			}
			for _, l := range labelIn.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(own, l[1]) && l[1] != "job" {
					t.Errorf("%s: %s has no label %s", q.at, m[1], l[1])
				}
			}
			labels = append(labels, own...)
		}
		for _, g := range grouping.FindAllStringSubmatch(q.expr, -1) {
			for l := range strings.SplitSeq(g[1], ",") {
				if l = strings.TrimSpace(l); !slices.Contains(labels, l) {
					t.Errorf("%s: none of its metrics has the label %s", q.at, l)
				}
			}
		}
	}
}

// tool finds a program of Debian's package prometheus.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed (Debian: prometheus)", name)
		}
		t.Skipf("%s is not installed (Debian: prometheus)", name)
	}
	return path
}

// Prometheus itself parses every expression, and our configuration.
func TestPrometheusParses(t *testing.T) {
	promtool := tool(t, "promtool")
	dir := t.TempDir()
	var b strings.Builder
	b.WriteString("groups:\n  - name: panels\n    rules:\n")
	for i, q := range promQLs(t) {
		text, err := json.Marshal(q.expr) // JSON is YAML
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "      - {record: \"panel:%d\", expr: %s}\n", i, text)
	}
	file := filepath.Join(dir, "panels.yml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check", "rules", file}, {"check", "config", "../../deploy/prometheus/prometheus.yml"}} {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		out, err := exec.CommandContext(ctx, promtool, args...).CombinedOutput()
		cancel()
		if err != nil || bytes.Contains(out, []byte("FAILED")) {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// A real Prometheus with our configuration scrapes a running service and
// evaluates every alert rule without an error.
func TestPrometheusScrapes(t *testing.T) {
	program := tool(t, "prometheus")
	s := newSite(t, siteOptions{})
	l := s.start(t)
	l.awaitDatabase(t)
	dir := t.TempDir()
	b, err := os.ReadFile("../../deploy/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	rules, err := filepath.Abs("../../deploy/prometheus/rules")
	if err != nil {
		t.Fatal(err)
	}
	for old, with := range map[string]string{"127.0.0.1:8080": l.listener.Addr().String(), "15s": "1s", "rules/*.yml": rules + "/*.yml"} {
		if !strings.Contains(text, old) {
			t.Fatalf("%q is not in prometheus.yml", old)
		}
		text = strings.ReplaceAll(text, old, with)
	}
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := freePort(t, "tcp")
	ctx, cancel := context.WithCancel(context.Background())
	var logs bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address="+addr)
	cmd.Stdout, cmd.Stderr = &logs, &logs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Log(logs.String())
		}
	}()
	client := http.Client{Timeout: 10 * time.Second}
	get := func(path string, into any) error {
		res, err := client.Get("http://" + addr + path)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		return json.NewDecoder(res.Body).Decode(into)
	}
	eventually(t, 2*time.Minute, "a scrape", func() (bool, string) {
		var a struct {
			Data struct {
				ActiveTargets []struct{ Health, LastError string }
			}
		}
		if err := get("/api/v1/targets", &a); err != nil {
			return false, err.Error()
		}
		return len(a.Data.ActiveTargets) == 1 && a.Data.ActiveTargets[0].Health == "up", fmt.Sprintf("%+v", a.Data)
	})
	eventually(t, 2*time.Minute, "every rule evaluated", func() (bool, string) {
		var a struct {
			Data struct {
				Groups []struct {
					Rules []struct{ Name, Health, LastError string }
				}
			}
		}
		if err := get("/api/v1/rules", &a); err != nil {
			return false, err.Error()
		}
		n := 0
		for _, g := range a.Data.Groups {
			for _, r := range g.Rules {
				if n++; r.Health != "ok" {
					return false, fmt.Sprintf("%+v", r)
				}
			}
		}
		return n >= 12, fmt.Sprintf("%d rules", n)
	})
}

// docker-compose.yml is YAML, pins its images, and mounts what the tree has.
func TestCompose(t *testing.T) {
	b, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Services map[string]struct {
			Image       string
			Build       any
			Volumes     []string
			Secrets     []string
			Environment map[string]string
		}
		Volumes map[string]any
		Secrets map[string]any
	}
	if err := yaml.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"clickhouse", "flowcordon", "prometheus", "grafana"} {
		s, ok := c.Services[want]
		if !ok {
			t.Errorf("no service %s", want)
		}
		_, tag, _ := strings.Cut(s.Image, ":")
		if s.Build == nil && !regexp.MustCompile(`^v?\d+\.\d+`).MatchString(tag) {
			t.Errorf("%s: the image %q is not pinned", want, s.Image)
		}
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if _, named := c.Volumes[from]; named || from == "./etc" { // the operator's own
				continue
			}
			if _, err := os.Stat(filepath.Join("../..", from)); err != nil || !strings.HasPrefix(from, "./") {
				t.Errorf("%s mounts %s: %v", want, from, err)
			}
		}
		for _, name := range s.Secrets {
			if _, ok := c.Secrets[name]; !ok {
				t.Errorf("%s: no secret %s", want, name)
			}
		}
	}
	if plugin := c.Services["grafana"].Environment["GF_PLUGINS_PREINSTALL"]; !regexp.MustCompile(`^grafana-clickhouse-datasource@\d+\.\d+\.\d+$`).MatchString(plugin) {
		t.Errorf("the plugin %q is not pinned", plugin)
	}
}
