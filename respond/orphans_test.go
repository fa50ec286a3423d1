package respond

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

const macB = "52:54:00:00:00:0b"

// strand leaves marks on two servers that no incident holds.
func strand(w *world) {
	for mac, id := range map[string]string{macA: "FC-A", macB: "FC-B"} {
		n := w.nics[mac]
		n.up, n.configUp, n.mark = false, false, &flow.Mark{Incident: id, Key: id, By: "flowcordon", At: t0}
	}
}

// told are the incidents whose stray marks staff were told of.
func (s *stage) told() map[string]bool {
	out := map[string]bool{}
	for _, id := range []string{"FC-A", "FC-B"} {
		if _, _, ok := s.c.Incident(id); ok {
			out[id] = true
		}
	}
	return out
}

// A list of marks reads whole nodes: it may take longer than a call may, and is
// given up in the end.
func TestListTimeout(t *testing.T) {
	cfg := enforce()
	cfg.Reassert, cfg.CallTimeout, cfg.ListTimeout = time.Minute, 10*time.Second, 2*time.Minute
	for name, tc := range map[string]struct {
		takes time.Duration
		deaf  bool // to its context
		want  int  // marks that are told of
	}{
		"longer than a call":    {100 * time.Second, false, 2},
		"just long enough":      {2*time.Minute - time.Second, false, 2},
		"too long":              {2*time.Minute + time.Second, false, 0},
		"too long, and no stop": {2*time.Minute + time.Second, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, cfg, func(w *world) {
				strand(w)
				w.list = func(ctx context.Context, all []flow.MarkedNIC) ([]flow.MarkedNIC, error) {
					if tc.deaf {
						time.Sleep(tc.takes)
						return all, nil
					}
					select {
					case <-time.After(tc.takes):
						return all, nil
					case <-ctx.Done():
						return nil, &flow.ActError{Class: flow.ErrTransient, Err: ctx.Err()}
					}
				}
			}, func(s *stage) {
				s.pass(15 * time.Minute)
				if got := s.told(); len(got) != tc.want {
					s.Errorf("told of %v, want %d", got, tc.want)
				}
				s.find(tenantC) // whatever the lists do, a server of the same hypervisor is cut
				s.pass(10 * time.Second)
				s.state(tenantC, flow.StateSuspended)
				s.change(func(w *world) { w.list = nil })
				s.pass(5 * time.Minute)
				if got := s.told(); len(got) != 2 {
					s.Errorf("when lists are quick again, told of %v", got)
				}
			})
		})
	}
}

// A list that ended halfway says what is there, and nothing of what is not.
func TestHalfAList(t *testing.T) {
	half := func(_ context.Context, all []flow.MarkedNIC) ([]flow.MarkedNIC, error) {
		return all[:1], &flow.ActError{Class: flow.ErrTransient, Err: errors.New("node 2 cannot be reached")}
	}
	cfg := enforce()
	cfg.Reassert = time.Minute
	t.Run("what it shows is told of", func(t *testing.T) {
		play(t, cfg, func(w *world) { strand(w); w.list = half }, func(s *stage) {
			s.pass(10 * time.Minute)
			if got := s.told(); len(got) != 1 || !got["FC-A"] {
				s.Errorf("told of %v, want FC-A", got)
			}
			if _, ok := gathered(s.T, s.w.reg)["flowcordon_respond_orphans adapter=hv"]; ok {
				s.Error("half a list was counted as all")
			}
			s.change(func(w *world) { w.list = nil })
			s.pass(3 * time.Minute)
			if got := s.told(); len(got) != 2 {
				s.Errorf("with all of it, told of %v", got)
			}
			if n := gathered(s.T, s.w.reg)["flowcordon_respond_orphans adapter=hv"]; n != 2 {
				s.Errorf("%v orphans are counted", n)
			}
		})
	})
	// A whole list, a half and a whole one: both of the whole ones showed FC-B.
	t.Run("what it does not show is kept", func(t *testing.T) {
		n := 0
		play(t, cfg, func(w *world) {
			strand(w)
			w.list = func(ctx context.Context, all []flow.MarkedNIC) ([]flow.MarkedNIC, error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				if n++; n == 2 {
					return half(ctx, all)
				}
				return all, nil
			}
		}, func(s *stage) {
			for range 20 {
				s.pass(10 * time.Second)
				s.w.mu.Lock()
				lists := n
				s.w.mu.Unlock()
				if got := s.told(); lists < 2 && len(got) != 0 || lists == 2 && (len(got) != 1 || !got["FC-A"]) || lists >= 3 && len(got) != 2 {
					s.Fatalf("after %d lists told of %v", lists, got)
				}
			}
			if n < 3 {
				s.Errorf("%d lists", n)
			}
		})
	})
	t.Run("nothing and an error", func(t *testing.T) {
		play(t, cfg, func(w *world) {
			strand(w)
			w.list = func(context.Context, []flow.MarkedNIC) ([]flow.MarkedNIC, error) {
				return nil, &flow.ActError{Class: flow.ErrDenied, Err: errors.New("not with this account")}
			}
		}, func(s *stage) {
			s.pass(10 * time.Minute)
			if got := s.told(); len(got) != 0 {
				s.Errorf("told of %v", got)
			}
		})
	})
}
