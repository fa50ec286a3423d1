package collectors

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowbench/machine"
	"github.com/flowcordon/flowcordon/flow"
)

// Flowcordon is serve as it is shipped: windows and, as the job's policy says,
// flow rows go through the spool to its ClickHouse, and the rules run. Its
// database is a process apart, on the job's EngineCPU, below the generator
// that runs there.
func Flowcordon(name, does string) *Collector {
	// A window closes 15 s after it began, and rows go out 2 s after that.
	return &Collector{Name: name, Does: does, Warm: 20 * time.Second, start: startFlowcordon}
}

const flowcordonConfig = `listen: [{protocol: %s, address: "127.0.0.1:%d"}]
exporters: {allow: [127.0.0.0/8]}
networks: {internal: [%s]}
data_dir: %q
store: {flow_policy: %s}
http: {address: "127.0.0.1:%d"}
api:
  tokens:
    - {name: bench, role: admin, token_sha256: %[10]x, rate: {per_second: 0}}
%[11]scollector: {workers: %[7]d, read_buffer: %[8]d}
detect:
  rules:
    netscan: {mode: %[9]s}
    portscan: {mode: %[9]s}
    syn_flood: {mode: %[9]s}
    udp_flood: {mode: %[9]s}
log: {level: info, format: json}
`

// Token is what flowcordon's API is asked with: of role admin, without a bound.
const Token = "flowbench-0123456789abcdef"

// Staff is how many tokens there are besides, each with the bound that is the
// default: screens, desks and scripts of a NOC have one each.
const Staff = 8

// StaffToken is the i-th of them. All may read the audit log, too.
func StaffToken(i int) string { return fmt.Sprintf("flowbench-staff-%d-0123456789abcdef", i) }

func staff() string {
	var b strings.Builder
	for i := range Staff {
		fmt.Fprintf(&b, "    - {name: staff-%d, role: operator, token_sha256: %x}\n", i, sha256.Sum256([]byte(StaffToken(i))))
	}
	return b.String()
}

// engineNice lets the generator, on the same CPU, go first.
const engineNice = 5

func startFlowcordon(ctx context.Context, j *Job) (*Running, error) {
	udp, tcp, err := freePorts()
	if err != nil {
		return nil, err
	}
	protocol := "netflow"
	if j.Protocol == flow.SFlow5 {
		protocol = "sflow"
	}
	config := filepath.Join(j.Dir, "flowcordon.yaml")
	text := fmt.Sprintf(flowcordonConfig, protocol, udp, j.Prefix, filepath.Join(j.Dir, "data"), j.FlowPolicy, tcp, len(j.CPUs), j.ReadBuffer, j.Detect, sha256.Sum256([]byte(Token)), staff())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	r, err := launch(ctx, j, udp, j.Flowcordon, "serve", "--config", config)
	if err != nil {
		return nil, err
	}
	r.grace = 60 * time.Second
	base := fmt.Sprintf("http://127.0.0.1:%d", tcp)
	r.API = base
	err = r.until(ctx, 60*time.Second, "it is not ready", func() (bool, error) {
		resp, err := http.Get(base + "/readyz")
		if err != nil {
			return false, err
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
	if err == nil {
		err = r.adoptEngine(j)
	}
	if err != nil {
		_ = r.Stop()
		return nil, err
	}
	r.records = func(ctx context.Context, _ func() error) (uint64, error) {
		return r.metric(ctx, base, "flowcordon_collector_records_aggregated_total")
	}
	r.gave = func(ctx context.Context) (uint64, error) {
		return r.metric(ctx, base, "flowcordon_collector_dropped_total", "flowcordon_collector_rows_dropped_total", "flowcordon_store_dropped_total")
	}
	return r, nil
}

func (r *Running) adoptEngine(j *Job) error {
	tree := machine.Tree(r.PID(), 0)
	if len(tree) != 2 {
		return fmt.Errorf("%d processes, want flowcordon and its database", len(tree))
	}
	r.Engine = tree[1]
	if j.EngineCPU < 0 {
		return nil // as it is shipped
	}
	if err := machine.Nice(r.Engine, engineNice); err != nil {
		return err
	}
	return machine.Pin(r.Engine, j.EngineCPU)
}

// metric adds up counters that must be there.
func (r *Running) metric(ctx context.Context, base string, names ...string) (uint64, error) {
	s, err := scrape(ctx, base+"/metrics")
	if err != nil {
		return 0, err
	}
	total := uint64(0)
	for _, name := range names {
		n, ok := s.sum(name, "")
		if !ok {
			return 0, fmt.Errorf("no metric %s", name)
		}
		total += n
	}
	return total, nil
}
