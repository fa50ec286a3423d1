package loopback

import (
	"net"
	"net/netip"
	"testing"
)

func TestFree(t *testing.T) {
	seen := map[netip.Addr]bool{}
	for range 50 {
		for _, network := range []string{"tcp", "udp"} {
			a, err := Free(network)
			if err != nil {
				t.Fatal(err)
			}
			b := a.Addr().As4()
			if !a.Addr().IsLoopback() || b[1] < 128 || b[3] == 0 || b[3] == 255 || a.Port() == 0 || seen[a.Addr()] {
				t.Fatalf("%s: %v", network, a)
			}
			seen[a.Addr()] = true
			if network == "udp" {
				c, err := net.ListenPacket(network, a.String())
				if err != nil {
					t.Fatal(err)
				}
				_ = c.Close()
				continue
			}
			l, err := net.Listen(network, a.String())
			if err != nil {
				t.Fatal(err)
			}
			_ = l.Close()
		}
	}
	if _, err := Free("unix"); err == nil {
		t.Error("unix: no error")
	}
}
