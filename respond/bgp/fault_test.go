package bgp

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
)

// A router that hangs without a word is lost when the hold time is over, and
// has the rules again once it goes on.
func TestFrozenRouter(t *testing.T) {
	b := startBird(t, "", "")
	cfg := config(t, b.peer())
	cfg.HoldTime = 3e9
	n := run(t, cfg)
	m := suspendertest.Mark("inc-1")
	n.cut(t, nic4, m)
	if err := b.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	n.waitUp(t, 0)
	if st, err := n.Status(t.Context(), nic4); err != nil || st.Cut() {
		t.Errorf("Status = %+v, %v; want it open", st, err)
	}
	_, err := n.Cut(t.Context(), nic4, m)
	wantClass(t, err, flow.ErrTransient, "last: hold-timer-expired")
	if err := b.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	n.waitUp(t, 1)
	eventually(t, "BIRD has the rule again", func() bool { return strings.Contains(b.routes(), "11.20.0.10/32") })
}

// Many at once: each is in force, listed and in the file; half of them are given
// back meanwhile, and a restart has exactly the other half.
func TestManyAtOnce(t *testing.T) {
	b, f := startBird(t, "", ""), startFRR(t)
	cfg := config(t, b.peer(), f.peer())
	n := run(t, cfg)
	const many = 40
	var wg sync.WaitGroup
	for i := range many {
		nic := flow.NIC{VDS: fmt.Sprintf("vds-%d", i), Hypervisor: "edge", IP: netip.AddrFrom4([4]byte{11, 20, 1, byte(i)})}
		m := suspendertest.Mark(fmt.Sprintf("inc-%d", i))
		wg.Go(func() {
			r, err := n.Cut(t.Context(), nic, m)
			if err == nil {
				_, err = n.Restrict(t.Context(), nic, limit, m)
			}
			if err == nil && i%2 == 0 {
				err = n.Restore(t.Context(), nic, m, r)
			}
			if err == nil && i%2 == 0 {
				err = n.Lift(t.Context(), nic, flow.MeasureLimit, m, flow.Receipt{})
			}
			if err != nil {
				t.Errorf("%s: %v", nic.VDS, err)
			}
		})
	}
	wg.Wait()
	check := func() {
		t.Helper()
		all, err := n.Marked(t.Context())
		if err != nil || len(all) != many/2 {
			t.Fatalf("%d marked, %v; want %d", len(all), err, many/2)
		}
		for _, m := range all {
			if !m.Status.Cut() || len(m.Status.Restrictions) != 1 || m.NIC.IP.As4()[3]%2 == 0 {
				t.Errorf("%+v", m)
			}
		}
		if got := strings.Count(settled(t, n, b, f), "flow4"); got != many/2 {
			t.Errorf("BIRD has %d rules, want %d", got, many/2)
		}
	}
	check()
	n.stop()
	n = run(t, cfg)
	check()
}
