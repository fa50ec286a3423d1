package collectors

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Pmacct counts packets, bytes and flows by internal destination in its memory
// plugin, a process of its own; all remote destinations are one entry. That is
// half of what the others count: a second plugin for sources would cost it
// more.
func Pmacct() *Collector {
	return &Collector{Name: "pmacct " + version("1.7.7", "nfacctd", "-V"), Does: "memory plugin, counters per destination host", Warm: 5 * time.Second, start: startPmacct}
}

const pmacctConfig = `daemonize: false
%[1]s_ip: 127.0.0.1
%[1]s_port: %[2]d
%[1]s_pipe_size: %[3]d
plugins: memory[hosts]
aggregate[hosts]: dst_host, flows
networks_file: %[4]s/networks
networks_file_filter: true
imt_path[hosts]: %[4]s/hosts.pipe
imt_buckets: 65537
imt_mem_pools_number: 256
imt_mem_pools_size: 4194304
plugin_pipe_size: 67108864
plugin_buffer_size: 65536
`

func startPmacct(ctx context.Context, j *Job) (*Running, error) {
	port, err := freePort("udp")
	if err != nil {
		return nil, err
	}
	daemon := "nfacctd"
	if j.Protocol == flow.SFlow5 {
		daemon = "sfacctd"
	}
	config := filepath.Join(j.Dir, "pmacct.conf")
	for name, text := range map[string]string{
		config:                           fmt.Sprintf(pmacctConfig, daemon, port, j.ReadBuffer, j.Dir),
		filepath.Join(j.Dir, "networks"): j.Prefix.String() + "\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	r, err := launch(ctx, j, port, daemon, "-f", config)
	if err != nil {
		return nil, err
	}
	r.signal, r.grace = syscall.SIGINT, 2*time.Second // it ignores SIGTERM
	pipe := filepath.Join(j.Dir, "hosts.pipe")
	err = r.until(ctx, 30*time.Second, "its memory plugin does not answer", func() (bool, error) {
		_, err := pmacctFlows(ctx, pipe)
		return err == nil, err
	})
	if err != nil {
		_ = r.Stop()
		return nil, err
	}
	r.records = func(ctx context.Context, _ func() error) (total uint64, err error) {
		err = r.until(ctx, 30*time.Second, "its memory plugin does not answer", func() (bool, error) {
			total, err = pmacctFlows(ctx, pipe)
			return err == nil, err
		})
		return total, err
	}
	return r, nil
}

// pmacctFlows adds up the records of all entries. A plugin that is busy refuses
// the question.
func pmacctFlows(ctx context.Context, pipe string) (uint64, error) {
	out, err := exec.CommandContext(ctx, "pmacct", "-p", pipe, "-s", "-O", "json").Output()
	if err != nil {
		return 0, fmt.Errorf("pmacct -s: %w: %s", err, out)
	}
	total := uint64(0)
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		var line struct{ Flows uint64 }
		if err := json.Unmarshal(s.Bytes(), &line); err == nil { // the rest are remarks
			total += line.Flows
		}
	}
	return total, nil
}
