package collectors

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowbench/load"
	"github.com/flowcordon/flowcordon/cmd/flowbench/machine"
	"github.com/flowcordon/flowcordon/flow"
)

// TestPeersCount: each peer, with the configuration that it is measured with,
// sees what is sent to it. They belong to `make bench`, which installs them and
// runs this first.
func TestPeersCount(t *testing.T) {
	if os.Getenv("FLOWCORDON_PEERS") == "" {
		t.Skip("set FLOWCORDON_PEERS=1 to run the other collectors; .ci/install bench installs them")
	}
	goflow2, _ := filepath.Abs("../../../.cache/bin/goflow2")
	for program, c := range map[string]*Collector{"fastnetmon": Fastnetmon(), "nfcapd": Nfdump(), "nfacctd": Pmacct(), goflow2: Goflow2()} {
		for _, p := range []flow.Protocol{flow.NetFlow5, flow.NetFlow9, flow.IPFIX, flow.SFlow5} {
			t.Run(c.Name+" "+p.String(), func(t *testing.T) {
				t.Parallel()
				if _, err := exec.LookPath(program); err != nil {
					t.Fatalf("%s is not installed; .ci/install bench does it", filepath.Base(program))
				}
				allowed, err := machine.Allowed()
				if err != nil {
					t.Fatal(err)
				}
				r, err := c.Start(t.Context(), Job{Protocol: p, Prefix: load.PrefixFor(1000), Dir: filepath.Join(t.TempDir(), "job"), CPUs: allowed[:1], ReadBuffer: 1 << 20, Goflow2: goflow2})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = r.Stop() }()
				l, err := load.New(load.Config{Protocol: p, Target: r.Target, Hosts: 1000, Remotes: 20, Duration: load.RouterDurations, Ring: 200})
				if err != nil {
					t.Fatal(err)
				}
				l.SetRate(5_000)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := l.Run(ctx); err != nil {
					t.Fatal(err)
				}
				checkRecords(t, r, l)
			})
		}
	}
}

func checkRecords(t *testing.T, r *Running, l *load.Load) {
	t.Helper()
	cpu, _, err := r.CPU()
	if err != nil || cpu == 0 {
		t.Errorf("CPU time %v, %v", cpu, err)
	}
	if m, _ := r.Memory(); m < 1<<20 {
		t.Errorf("memory of %d bytes", m)
	}
	lost, err := r.Lost()
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second) // their counters are a second old
	sent, _ := l.Sent()
	seen, err := r.Records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const buffered = 350 // records, in a partly filled buffer of pmacct's core
	if lost == 0 && (seen > sent || seen+buffered < sent) {
		t.Errorf("%d records sent, it saw %d\n%s", sent, seen, r.Tail())
	}
}
