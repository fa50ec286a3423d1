// Package sim simulates a hoster's border: tenants with ordinary and abusive
// traffic, and two routers that export it, one NetFlow v9 at 1:1 through a flow
// cache with timeouts, one sFlow with random packet sampling. What comes in are
// clock readings and the link state of each tenant, what goes out are the
// routers' datagrams. A tenant whose link is cut sends nothing from that tick
// on, and clients outside get no answers.
//
// A World starts no goroutine; Run drives it by the wall clock. It imports flow
// and flowgen's export.
package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/flow"
)

// TickInterval is how often Run moves the world on. A cut is effective within
// this time.
const TickInterval = 100 * time.Millisecond

// Config of a World.
type Config struct {
	Seed uint64
	// Tenants is the number of ordinary tenants, half behind each router.
	Tenants int
	// SampleRate is router B's 1:N.
	SampleRate uint32
	// Inactive and Active are router A's flow timeouts; zero: 15 s and 60 s,
	// the usual settings of real routers (docs/detection.md §3.2).
	Inactive, Active time.Duration
	// ScanRate is the netscan's destinations per second, FloodRate the UDP
	// flood's packets per second, DialRate the BitTorrent host's dials per
	// second. Zero: 1500, 80000, 60.
	ScanRate, FloodRate, DialRate float64
	// Cut reports whether the link with this MAC is down; nil: never.
	Cut func(mac string) bool
	// CleanOnRelease lets a tenant's attack be over for good when its link
	// comes back, as its owner should see to before asking for it.
	CleanOnRelease bool
	// A and B take the datagrams of the two routers.
	A, B export.Emit
	// AgentB is router B's sFlow agent address.
	AgentB netip.Addr
	// Start is when the simulation begins.
	Start time.Time
}

func (c *Config) defaults() error {
	if c.Tenants < 2 || c.Tenants > 100_000 {
		return fmt.Errorf("sim: %d tenants; choose 2 to 100000", c.Tenants)
	}
	if c.A == nil || c.B == nil || c.Start.IsZero() {
		return fmt.Errorf("sim: A, B and Start must be set")
	}
	if c.SampleRate == 0 {
		c.SampleRate = 256
	}
	if c.Inactive == 0 {
		c.Inactive = 15 * time.Second
	}
	if c.Active == 0 {
		c.Active = 60 * time.Second
	}
	if c.ScanRate == 0 {
		c.ScanRate = 1500
	}
	if c.FloodRate == 0 {
		c.FloodRate = 80_000
	}
	if c.DialRate == 0 {
		c.DialRate = 60
	}
	if c.Cut == nil {
		c.Cut = func(string) bool { return false }
	}
	return nil
}

// World is the hoster, its tenants and its routers. It is not safe for
// concurrent use.
type World struct {
	cfg     Config
	rng     *rand.Rand
	tenants []*Tenant
	popular []netip.Addr // remote servers that many tenants talk to
	mx      []netip.Addr
	now     int64
	attack  int64 // when the attacks begin; 0: not yet decided
	a       *netflowRouter
	b       *sflowRouter

	// Scanner, Flooder and Honest are the tenants with a part to play.
	Scanner, Flooder, Honest *Tenant
}

// New builds the world; nothing is sent before the first Tick.
func New(cfg Config) (*World, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	w := &World{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x666c6f77)), now: cfg.Start.UnixNano()}
	for range 300 {
		w.popular = append(w.popular, w.remote4())
	}
	for range 800 {
		w.mx = append(w.mx, w.remote4())
	}
	boot := cfg.Start.Add(-31 * 24 * time.Hour) // the uptime clock wraps after 49.7 days
	enc, err := export.New(export.Config{
		Protocol: flow.NetFlow9, Domain: 1, SamplingRate: 1, Boot: boot, TemplateInterval: 10 * time.Second,
	}, cfg.A)
	if err != nil {
		return nil, err
	}
	w.a = newNetflowRouter(w, enc)
	enc, err = export.New(export.Config{
		Protocol: flow.SFlow5, SamplingRate: cfg.SampleRate, Boot: boot, Agent: cfg.AgentB,
	}, cfg.B)
	if err != nil {
		return nil, err
	}
	w.b = newSFlowRouter(w, enc)
	w.populate()
	return w, nil
}

// Tenants are all tenants, ordinary ones first.
func (w *World) Tenants() []*Tenant { return w.tenants }

// StartAttacks lets the netscan and the flood begin at t. The BitTorrent host
// has been at work from the start.
func (w *World) StartAttacks(t time.Time) { w.attack = t.UnixNano() }

// Tick moves the world to t: all that happens until then happens, and what the
// routers have to export by then is emitted.
func (w *World) Tick(t time.Time) error {
	now := t.UnixNano()
	if now <= w.now {
		return nil
	}
	before := w.now
	w.now = now
	for _, tn := range w.tenants {
		w.link(tn)
		for i := range tn.acts {
			a := &tn.acts[i]
			for a.next <= now {
				w.act(tn, a.kind, max(a.next, before))
				a.next += a.gap(w.rng)
			}
		}
	}
	w.attacks(before, now)
	if err := w.a.export(now); err != nil {
		return fmt.Errorf("router A: %w", err)
	}
	if err := w.b.export(now); err != nil {
		return fmt.Errorf("router B: %w", err)
	}
	return nil
}

// link takes the tenant's link state over.
func (w *World) link(tn *Tenant) {
	down := w.cfg.Cut(tn.MAC)
	switch {
	case down && !tn.down:
		tn.cutAt = w.now
	case !down && tn.down && w.cfg.CleanOnRelease:
		tn.clean = true
	}
	tn.down = down
}

// Run ticks the world by the wall clock until ctx ends. After a pause of the
// whole machine it goes on with the present and does not make up for it.
// each, when not nil, is called after every tick in the same goroutine.
func (w *World) Run(ctx context.Context, each func(now time.Time) error) error {
	ticker := time.NewTicker(TickInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			if now.UnixNano()-w.now > int64(2*time.Second) {
				w.now = now.Add(-TickInterval).UnixNano()
				w.skip()
			}
			if err := w.Tick(now); err != nil {
				return err
			}
			if each == nil {
				continue
			}
			if err := each(now); err != nil {
				return err
			}
		}
	}
}

// skip moves every activity that is overdue to the present.
func (w *World) skip() {
	for _, tn := range w.tenants {
		for i := range tn.acts {
			if a := &tn.acts[i]; a.next < w.now {
				a.next = w.now + a.gap(w.rng)
			}
		}
	}
}
