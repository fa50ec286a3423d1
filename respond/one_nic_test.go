package respond

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

var tenantSix = netip.MustParseAddr("2001:db8:7::")

// A customer attacks over IPv4 and IPv6 through one NIC. The second incident
// is held while the first holds the NIC; after the release of the first the
// attack that goes on is cut by the second, on evidence from after the release.
func TestTwoFamiliesOneNIC(t *testing.T) {
	for name, change := range map[string]func(*flow.Holder){
		"same server":                 func(*flow.Holder) {},
		"server named by its NIC":     func(h *flow.Holder) { h.VDS = "" },
		"server under another name":   func(h *flow.Holder) { h.VDS = "vds-a-ipv6" },
		"the NIC among several, caps": func(h *flow.Holder) { h.NICs = []string{"52:54:00:00:00:0b", "52:54:00:00:00:0A"} },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, enforce(), func(w *world) {
				h := w.holders[tenantA]
				h.Prefix = netip.PrefixFrom(tenantSix, 64)
				change(&h)
				w.holders[tenantSix] = h
				w.nics["52:54:00:00:00:0A"] = w.nics["52:54:00:00:00:0a"] // one NIC, however it is spelled
			}, func(s *stage) { bothFamilies(s) })
		})
	}
}

func bothFamilies(s *stage) {
	attack := func(d time.Duration, tenants ...netip.Addr) { // a tick each 5 s
		s.Helper()
		for end := time.Now().Add(d); time.Now().Before(end); s.pass(5 * time.Second) {
			s.find(tenants...)
		}
	}
	attack(time.Minute, tenantA, tenantSix)
	four := s.state(tenantA, flow.StateVerified)
	six := s.state(tenantSix, flow.StateHeld)
	if !strings.Contains(six.Reason, four.ID) {
		s.Errorf("reason %q does not name %s", six.Reason, four.ID)
	}
	s.stop() // who holds the NIC is in the log
	s.start()
	attack(5*time.Second, tenantSix)
	s.state(tenantSix, flow.StateHeld)
	if n := s.w.nic(tenantA); n.cuts != 1 || n.mark.Incident != four.ID {
		s.Fatalf("nic %+v", n)
	}

	if err := s.c.Release(s.Context(), four.ID, "anna", "the IPv4 part is fixed"); err != nil {
		s.Fatal(err)
	}
	s.pass(time.Second)
	released := s.state(tenantA, flow.StateReleased).Restore.Done
	if n := s.w.nic(tenantA); !n.up || n.mark != nil {
		s.Fatalf("after the release: %+v", n)
	}
	attack(time.Minute, tenantSix) // its findings still count what was before the release
	s.state(tenantSix, flow.StateHeld)
	if n := s.w.nic(tenantA); n.cuts != 1 || !n.up {
		s.Fatalf("cut again on findings from before the release: %+v", n)
	}
	attack(30*time.Second, tenantSix)
	six = s.of(tenantSix)
	n := s.w.nic(tenantA)
	if six.State != flow.StateSuspended && six.State != flow.StateVerified || n.cuts != 2 || n.up || n.mark.Incident != six.ID {
		s.Fatalf("the second goes on and is %s (%s), nic %+v", six.State, six.Reason, n)
	}
	if d := six.Action.Intent.Sub(released); d < 70*time.Second || d > 80*time.Second {
		s.Errorf("cut %s after the release, want as soon as a minute of evidence and the settling are over", d)
	}
	if got := len(s.w.mails("staff", noticeHeld)); got != 1 {
		s.Errorf("%d mails that it is held, want 1", got)
	}

	// Now the roles are turned: the first address is held for the second.
	attack(time.Minute, tenantA, tenantSix)
	if again := s.state(tenantA, flow.StateHeld); again.ID == four.ID || !strings.Contains(again.Reason, six.ID) {
		s.Errorf("incident %s, reason %q", again.ID, again.Reason)
	}
	if err := s.c.Release(s.Context(), six.ID, "anna", "all fixed"); err != nil {
		s.Fatal(err)
	}
	s.pass(5 * time.Minute)
	s.state(tenantSix, flow.StateReleased)
	s.state(tenantA, flow.StateHeld) // silent since
	if n := s.w.nic(tenantA); n.cuts != 2 || n.gives != 2 || !n.up || !n.configUp || n.mark != nil {
		s.Errorf("nic %+v, want the state before", n)
	}
}
