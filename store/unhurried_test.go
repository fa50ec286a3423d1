package store

import (
	"context"
	"net"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
)

// Only what nobody waits for and what people ask has a priority, the latter the
// higher one, and a server that is not ours none.
func TestPriorities(t *testing.T) {
	dial := func(context.Context, string) (net.Conn, error) { return nil, net.ErrClosed }
	asked := flow.WithAsker(t.Context(), "noc")
	for _, tt := range []struct {
		name     string
		embedded bool
		ctx      context.Context
		want     any
	}{
		{"asked", true, asked, priorityAsked},
		{"unhurried", true, flow.Unhurried(t.Context()), priorityUnhurried},
		{"asked, whatever it began as", true, flow.Unhurried(asked), priorityAsked},
		{"in a slot", true, t.Context(), nil},
		{"asked of a server", false, asked, nil},
		{"unhurried, of a server", false, flow.Unhurried(t.Context()), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Addr: []string{"127.0.0.1:1"}, SpoolDir: t.TempDir()}
			if tt.embedded {
				cfg.DialContext = dial
			}
			s, err := New(cfg, Deps{})
			if err != nil {
				t.Fatal(err)
			}
			if got := s.manner(tt.ctx)["priority"]; got != tt.want {
				t.Errorf("priority %v, want %v", got, tt.want)
			}
		})
	}
}
