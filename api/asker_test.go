package api

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// asked is a store that notes who asks, and is busy when told so.
type asked struct {
	Store
	mu   sync.Mutex
	who  []string
	busy bool
}

func (s *asked) note(ctx context.Context) error {
	name, ok := flow.Asker(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ok {
		name = "nobody"
	}
	s.who = append(s.who, name)
	if s.busy {
		return &flow.Busy{Retry: 2 * time.Second, Own: true}
	}
	return nil
}

func (s *asked) Series(ctx context.Context, tenant netip.Addr, r flow.Range, step time.Duration) (flow.Series, error) {
	if err := s.note(ctx); err != nil {
		return flow.Series{}, err
	}
	return s.Store.Series(ctx, tenant, r, step)
}

// TestAskers: the store is told who asks, by the token's name; too many questions are
// a 503 that says when to ask again; whoever may not ask never reaches the store.
func TestAskers(t *testing.T) {
	var s *asked
	b := newBench(t, func(_ *Config, d *Deps) {
		s = &asked{Store: d.Store}
		d.Store = s
	})
	path := Prefix + "/hosts/198.18.0.7?from=-1h"
	for _, role := range []Role{RoleViewer, RoleAbuse} {
		a := b.do(t, role, http.MethodGet, path, "")
		if a.code != http.StatusOK || !strings.Contains(a.body, `"resolution":`) {
			t.Errorf("%v: %d %s", role, a.code, a.body)
		}
	}
	if a := b.do(t, 0, http.MethodGet, path, ""); a.code != http.StatusUnauthorized {
		t.Errorf("without a token: %d", a.code)
	}
	if got := strings.Join(s.who, " "); got != "test-viewer test-abuse" {
		t.Errorf("the store was asked by %q", got)
	}
	s.busy = true
	a := b.get(t, path)
	if p := a.problem(t, http.StatusServiceUnavailable); a.head.Get("Retry-After") != "2" || !strings.Contains(p.Detail, "ask again in 2s") {
		t.Errorf("%v %q", a.head, p.Detail)
	}
}

// TestPollNow: whoever looks at the same within two seconds asks for the same, and
// nothing that is stored is left out.
func TestPollNow(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for in, want := range map[time.Duration]time.Duration{0: 0, 1: 2 * time.Second, 1999 * time.Millisecond: 2 * time.Second, 2 * time.Second: 2 * time.Second} {
		h := &Handler{deps: Deps{Now: func() time.Time { return at.Add(in) }}}
		if got := h.pollNow(); !got.Equal(at.Add(want)) {
			t.Errorf("%v: %v", in, got)
		}
	}
}
