package collectors

import (
	"context"
	"fmt"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Goflow2 turns records into protobuf messages and writes them to /dev/null.
// Its reader waits for its decoder, so that an overload is seen in the kernel's
// counter and not hidden in a queue of a million datagrams. Its receive buffer
// is the system's default.
func Goflow2() *Collector {
	return &Collector{Name: "goflow2 2.2.6", Does: "protobuf, no aggregation", Warm: 5 * time.Second, start: startGoflow2}
}

func startGoflow2(ctx context.Context, j *Job) (*Running, error) {
	udp, tcp, err := freePorts()
	if err != nil {
		return nil, err
	}
	scheme := "netflow"
	if j.Protocol == flow.SFlow5 {
		scheme = "sflow"
	}
	r, err := launch(ctx, j, udp, j.Goflow2, "-listen", fmt.Sprintf("%s://127.0.0.1:%d?count=1&workers=%d&blocking=true", scheme, udp, len(j.CPUs)),
		"-addr", fmt.Sprintf("127.0.0.1:%d", tcp), "-format", "bin", "-transport", "file", "-transport.file", "/dev/null")
	if err != nil {
		return nil, err
	}
	r.records = func(ctx context.Context, _ func() error) (uint64, error) {
		s, err := scrape(ctx, fmt.Sprintf("http://127.0.0.1:%d/metrics", tcp))
		if err != nil {
			return 0, err
		}
		name, labels := "goflow2_flow_process_nf_flowset_records_total", `type="DataFlowSet"`
		switch j.Protocol {
		case flow.SFlow5:
			name, labels = "goflow2_flow_process_sf_samples_records_total", `type="FlowSample"`
		case flow.NetFlow5:
			name = "goflow2_flow_process_nf_flowset_total" // counts the records of v5
		}
		n, ok := s.sum(name, labels)
		if !ok {
			return 0, fmt.Errorf("no metric %s{%s}", name, labels)
		}
		return n, nil
	}
	return r, nil
}
