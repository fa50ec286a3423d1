package demo

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/cmd/flowgen/panel"
	"github.com/flowcordon/flowcordon/cmd/flowgen/sim"
)

// routers is the simulated world with the sockets of its two routers.
type routers struct {
	world *sim.World
	panel *panel.Panel // whose links the world's tenants hang on
	a, b  *export.UDP

	sent view // counters only, of the world's goroutine

	mu   sync.Mutex
	view view
}

// view is what the simulator's own counters say.
type view struct {
	at                         time.Time
	records, samples           uint64
	datagramsA, datagramsB     uint64
	scanner, flooder, honest   sim.Tenant // copies
	lastScan, lastFlood        time.Time  // when the counters last moved
	backgroundDown             int        // ordinary tenants whose link is down
	backgroundSending, tenants int        // ordinary tenants that ever sent
}

func newRouters(cfg Config, w *work) (*routers, error) {
	r := &routers{}
	var err error
	if r.a, err = export.DialUDP(netip.AddrPortFrom(routerA, 0), w.netflow); err != nil {
		return nil, err
	}
	if r.b, err = export.DialUDP(netip.AddrPortFrom(routerB, 0), w.sflow); err != nil {
		return r, err
	}
	r.world, err = sim.New(sim.Config{
		Seed: cfg.Seed, Tenants: cfg.Tenants, SampleRate: cfg.SampleRate, AgentB: routerB, Start: time.Now(),
		CleanOnRelease: true,
		Cut:            func(mac string) bool { return r.panel.IsCut(mac) },
		A: func(b []byte, n int) error {
			r.sent.records += uint64(n)
			r.sent.datagramsA++
			return r.a.Send(b)
		},
		B: func(b []byte, n int) error {
			r.sent.samples += uint64(n)
			r.sent.datagramsB++
			return r.b.Send(b)
		},
	})
	return r, err
}

func (r *routers) run(ctx context.Context) error {
	return r.world.Run(ctx, func(now time.Time) error {
		if err := errors.Join(r.a.Flush(), r.b.Flush()); err != nil {
			return err
		}
		r.look(now)
		return nil
	})
}

// look copies the counters for others to read.
func (r *routers) look(now time.Time) {
	w := r.world
	r.mu.Lock()
	defer r.mu.Unlock()
	v := &r.view
	if w.Scanner.Sent != v.scanner.Sent {
		v.lastScan = now
	}
	if w.Flooder.Sent != v.flooder.Sent {
		v.lastFlood = now
	}
	v.records, v.samples = r.sent.records, r.sent.samples
	v.datagramsA, v.datagramsB = r.sent.datagramsA, r.sent.datagramsB
	v.at, v.scanner, v.flooder, v.honest = now, *w.Scanner, *w.Flooder, *w.Honest
	v.backgroundDown, v.backgroundSending, v.tenants = 0, 0, 0
	for _, t := range w.Tenants() {
		if t == w.Scanner || t == w.Flooder {
			continue
		}
		v.tenants++
		if t.Down() {
			v.backgroundDown++
		}
		if t.Sent > 0 {
			v.backgroundSending++
		}
	}
}

func (r *routers) snapshot() view {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.view
}

func (r *routers) close() {
	for _, u := range []*export.UDP{r.a, r.b} {
		if u != nil {
			_ = u.Close()
		}
	}
}
