package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
)

// The suites run over one pair of routers, each case with an address of its own.
func TestConformance(t *testing.T) {
	b, f := startBird(t, "", ""), startFRR(t)
	cfg := config(t, b.peer(), f.peer())
	n := run(t, cfg)
	next := 0
	for family, addr := range map[string]func(int) netip.Addr{
		"v4": func(i int) netip.Addr { return netip.AddrFrom4([4]byte{11, 20, byte(1 + i>>8), byte(i)}) },
		"v6": func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2608:20:0:%x::1", i+1)) },
	} {
		fresh := func(t *testing.T) suspendertest.Fixture {
			next++
			nic := flow.NIC{VDS: fmt.Sprintf("vds-%d", next), Hypervisor: "edge", MAC: fmt.Sprintf("52:54:00:aa:20:%02x", next%256), IP: addr(next)}
			missing := nic
			missing.IP = netip.MustParseAddr("12.0.0.1") // not ours
			t.Cleanup(func() {
				if got := n.speaker.announced; len(got) != 0 { // a case gives back what it took
					t.Errorf("still announced: %v", got)
				}
			})
			return suspendertest.Fixture{
				S: n.Adapter, NIC: nic, Missing: missing,
				Raw:    func(t *testing.T) string { return settled(t, n, b, f) },
				Change: func(*testing.T) { b.ask("restart", "abuse") },
			}
		}
		t.Run(family, func(t *testing.T) {
			t.Run("suspender", func(t *testing.T) { suspendertest.Run(t, fresh) })
			t.Run("restrictor", func(t *testing.T) { suspendertest.RunRestrictor(t, fresh) })
			t.Run("lister", func(t *testing.T) { suspendertest.RunLister(t, fresh) })
			t.Run("describer", func(t *testing.T) { suspendertest.RunDescriber(t, fresh) })
		})
	}
	t.Run("watcher", func(t *testing.T) {
		suspendertest.RunWatcher(t, func(*testing.T) suspendertest.Fixture {
			return suspendertest.Fixture{S: n.Adapter, NIC: nic4, Change: func(*testing.T) { b.ask("restart", "abuse") }}
		})
	})
}

// settled is what both routers hold of us, once it is as many rules as we announce.
func settled(t *testing.T, n *node, b *bird, f *frr) string {
	t.Helper()
	n.turn <- struct{}{}
	want := len(n.speaker.announced)
	<-n.turn
	var out []string
	eventually(t, fmt.Sprintf("%d rules at both routers", want), func() bool {
		out = nil
		for line := range strings.Lines(b.routes()) {
			if rule, _, ok := strings.Cut(line, "  ["); ok {
				out = append(out, rule)
			}
			if strings.Contains(line, "ext_community") && len(out) > 0 {
				out[len(out)-1] += squeeze(line)
			}
		}
		return len(out) == want && strings.Count(f.rules(), "Source Address") == want
	})
	slices.Sort(out)
	return strings.Join(out, "\n")
}
