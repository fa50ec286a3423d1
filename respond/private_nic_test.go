package respond

import (
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

const privateMAC = "52:54:00:00:00:1a"

// A server has a private NIC too. The block of a port is at the NIC that holds
// the address; the cut takes the private one as well where the policy says so,
// and the release gives both back as they were.
func TestPrivateNIC(t *testing.T) {
	for name, cut := range map[string]bool{"kept": false, "cut": true} {
		t.Run(name, func(t *testing.T) {
			play(t, climbing(), func(w *world) {
				w.attacks[tenantA] = []uint16{22}
				w.nics[privateMAC] = &nicState{up: true, configUp: true, running: true, at: "hv"}
				if cut {
					w.private = func(h flow.Holder) []string {
						if h.VDS == "vds-a" {
							return []string{privateMAC}
						}
						return nil
					}
				}
			}, func(s *stage) {
				s.attack(5*time.Second, onPort(22))
				s.state(tenantA, flow.StateSuspended)
				private := s.w.nics[privateMAC]
				if n := s.w.nic(tenantA); n.takes != 1 || private.takes != 0 || private.cuts != 0 {
					s.Fatalf("after the block: %+v, private %+v", n, private)
				}
				s.attack(2*time.Minute, onPort(22))
				if n := s.w.nic(tenantA); n.up || n.cuts != 1 || private.up == cut || (private.cuts == 1) != cut {
					s.Fatalf("after the cut: %+v, private %+v", n, private)
				}
				if err := s.c.Release(s.Context(), s.of(tenantA).ID, "anna", "fixed"); err != nil {
					s.Fatal(err)
				}
				s.pass(time.Minute)
				s.state(tenantA, flow.StateReleased)
				if n := s.w.nic(tenantA); !n.up || n.mark != nil || !private.up || !private.configUp || private.mark != nil || (private.gives == 1) != cut {
					s.Errorf("after the release: %+v, private %+v", n, private)
				}
			})
		})
	}
}
