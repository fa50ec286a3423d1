package collectors

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Fastnetmon counts packets, bytes and flows of every address of the internal
// prefix, in and out, by protocol. Bans are off, and so is the tracking of
// connections, which costs it more. Its receive buffer is the system's default.
func Fastnetmon() *Collector {
	return &Collector{Name: "fastnetmon " + version("1.2.4", "fastnetmon", "--version"), Does: "per-host counters", Warm: 5 * time.Second, start: startFastnetmon}
}

const fastnetmonConfig = `logging_level = info
disable_usage_report = on
enable_ban = off
enable_ban_ipv6 = off
enable_connection_tracking = off
enable_api = off
mirror_afpacket = off
interfaces =
monitor_local_ip_addresses = off
networks_list_path = %[1]s/networks
white_list_path = %[1]s/white
pid_path = %[1]s/pid
cli_stats_file_path = %[1]s/stats
cli_stats_ipv6_file_path = %[1]s/stats6
netflow = %[2]s
netflow_host = 127.0.0.1
netflow_port = %[4]d
sflow = %[3]s
sflow_host = 127.0.0.1
sflow_port = %[4]d
prometheus = on
prometheus_host = 127.0.0.1
prometheus_port = %[5]d
`

func startFastnetmon(ctx context.Context, j *Job) (*Running, error) {
	udp, tcp, err := freePorts()
	if err != nil {
		return nil, err
	}
	netflow, sflow := "on", "off"
	if j.Protocol == flow.SFlow5 {
		netflow, sflow = "off", "on"
	}
	config := filepath.Join(j.Dir, "fastnetmon.conf")
	for name, text := range map[string]string{
		config:                           fmt.Sprintf(fastnetmonConfig, j.Dir, netflow, sflow, udp, tcp),
		filepath.Join(j.Dir, "networks"): j.Prefix.String() + "\n",
		filepath.Join(j.Dir, "white"):    "",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	r, err := launch(ctx, j, udp, "fastnetmon", "--configuration_file", config, "--log_file", filepath.Join(j.Dir, "fastnetmon.log"), "--disable_pid_logic")
	if err != nil {
		return nil, err
	}
	r.records = func(ctx context.Context, _ func() error) (uint64, error) {
		// What reached the counters of hosts, whatever the protocol.
		return r.metric(ctx, fmt.Sprintf("http://127.0.0.1:%d", tcp), "fastnetmon_total_simple_packets_processed")
	}
	return r, nil
}
