package bgp

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
)

// A router that hangs without a word is lost when the hold time is over, and
// has the rules again once it goes on.
func TestFrozenRouter(t *testing.T) {
	b := startBird(t, "", "")
	cfg := config(t, b.peer())
	cfg.HoldTime = 3 * time.Second
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

// TestMain is also the process that TestKilled kills: one that cuts and waits.
func TestMain(m *testing.M) {
	path := os.Getenv("FLOWCORDON_BGP_VICTIM")
	if path == "" {
		os.Exit(m.Run())
	}
	var cfg Config
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &cfg)
	}
	if err != nil {
		panic(err)
	}
	a := New(cfg, Deps{})
	go func() { panic(a.Run(context.Background())) }()
	for {
		if _, err := a.Cut(context.Background(), nic4, suspendertest.Mark("inc-1")); err == nil {
			fmt.Println("cut")
			select {}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Our process is killed: without graceful restart the rule is gone until we are
// back, with it the routers keep it all the while.
func TestKilled(t *testing.T) {
	for name, graceful := range map[string]time.Duration{"plain": 0, "graceful restart": 2 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			b := startBird(t, "graceful restart on;", "")
			cfg := config(t, b.peer())
			cfg.GracefulRestart = graceful
			text, err := json.Marshal(cfg)
			if err != nil {
				t.Fatal(err)
			}
			victim := exec.Command(os.Args[0])
			victim.Env = append(os.Environ(), "FLOWCORDON_BGP_VICTIM="+b.write("victim.json", string(text)))
			victim.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			out, err := victim.StdoutPipe()
			if err == nil {
				err = victim.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil || line != "cut\n" {
				t.Fatalf("the victim said %q, %v", line, err)
			}
			eventually(t, "BIRD has the rule", func() bool { return strings.Contains(b.routes(), "11.20.0.10/32") })
			_ = victim.Process.Kill()
			_ = victim.Wait()
			eventually(t, "BIRD lost the session", func() bool { return !strings.Contains(b.ask("show", "protocols", "abuse"), "Established") })
			if has := strings.Contains(b.routes(), "11.20.0.10/32"); has != (graceful > 0) {
				t.Errorf("BIRD has the rule: %t\n%s", has, b.routes())
			}
			n := run(t, cfg)
			eventually(t, "BIRD has the rule again", func() bool { return strings.Contains(b.routes(), "11.20.0.10/32") })
			eventually(t, "it is cut", func() bool { st, err := n.Status(t.Context(), nic4); return err == nil && st.Cut() })
			if err := n.Restore(t.Context(), nic4, suspendertest.Mark("inc-1"), flow.Receipt{}); err != nil {
				t.Error(err)
			}
			eventually(t, "BIRD has it no more", func() bool { return !strings.Contains(b.routes(), "11.20.0.10/32") })
		})
	}
}
