package collectors

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Nfdump writes records to files and aggregates nothing.
func Nfdump() *Collector {
	return &Collector{Name: "nfdump " + version("1.7.1", "nfdump", "-V"), Does: "writes files, aggregates nothing", Warm: 5 * time.Second, start: startNfdump}
}

func startNfdump(ctx context.Context, j *Job) (*Running, error) {
	port, err := freePort("udp")
	if err != nil {
		return nil, err
	}
	daemon := "nfcapd"
	if j.Protocol == flow.SFlow5 {
		daemon = "sfcapd"
	}
	files := filepath.Join(j.Dir, "files")
	if err := os.Mkdir(files, 0o700); err != nil {
		return nil, err
	}
	r, err := launch(ctx, j, port, daemon, "-w", files, "-b", "127.0.0.1", "-p", strconv.Itoa(int(port)), "-t", "300", "-B", strconv.Itoa(j.ReadBuffer))
	if err != nil {
		return nil, err
	}
	r.records = func(ctx context.Context, stop func() error) (uint64, error) {
		if err := stop(); err != nil { // the last file is complete only then
			return 0, err
		}
		out, err := exec.CommandContext(ctx, "nfdump", "-R", files, "-I").Output()
		if err != nil {
			return 0, fmt.Errorf("nfdump -I: %w", err)
		}
		for line := range strings.Lines(string(out)) {
			if n, ok := strings.CutPrefix(line, "Flows:"); ok {
				return strconv.ParseUint(strings.TrimSpace(n), 10, 64)
			}
		}
		return 0, fmt.Errorf("nfdump -I: no line Flows: in %q", out)
	}
	return r, nil
}
