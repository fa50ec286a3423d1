// Package demo runs the whole system once: a work directory, a simulated
// hypervisor panel with a ticket endpoint, a mail server, two simulated border
// routers, and flowcordon itself as a child process. It follows flowcordon
// through its API, tells what happens in plain words, and judges whether the
// two attackers and nobody else were cut. Run owns all goroutines and the child
// and returns when they have ended. It imports flow and flowgen's packages.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flowcordon/flowcordon/flow"
)

// Config of a demo.
type Config struct {
	// Flowcordon is the binary; it is run as `Flowcordon serve --config F`.
	Flowcordon string
	// Dir is the work directory, kept; empty: a temporary one, removed.
	Dir string
	// Once ends the demo when all is shown or Timeout has passed.
	Once    bool
	Timeout time.Duration // 0: 180 s
	// HTTP is the preferred address of dashboard and API; a free port is taken
	// when it is not free, or with Once.
	HTTP    string
	Tenants int // ordinary ones; 0: 2000
	// AttackAfter is how long there is only ordinary traffic; 0: 10 s.
	AttackAfter time.Duration
	SampleRate  uint32 // router B's 1:N; 0: 256
	Seed        uint64
	Out         io.Writer
}

// The exporters' source addresses, which flowcordon's allow list names.
var (
	routerA = netip.AddrFrom4([4]byte{127, 0, 0, 11})
	routerB = netip.AddrFrom4([4]byte{127, 0, 0, 12})
)

func (c *Config) defaults() error {
	if c.Timeout == 0 {
		c.Timeout = 180 * time.Second
	}
	if c.HTTP == "" {
		c.HTTP = "127.0.0.1:8080"
	}
	if c.Tenants == 0 {
		c.Tenants = 2000
	}
	if c.AttackAfter == 0 {
		c.AttackAfter = 10 * time.Second
	}
	if c.SampleRate == 0 {
		c.SampleRate = 256
	}
	if c.Out == nil {
		c.Out = io.Discard
	}
	if c.Flowcordon == "" {
		return errors.New("no flowcordon binary: give --flowcordon PATH")
	}
	path, err := filepath.Abs(c.Flowcordon)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("flowcordon binary: %w (make build makes it)", err)
	}
	c.Flowcordon = path
	return nil
}

// Run runs the demo until ctx ends or, with Once, until the verdict. The error
// says what went wrong; a Summary comes in any case. In the interactive demo
// the end of ctx is not an error.
func Run(ctx context.Context, cfg Config) (Summary, error) {
	if err := cfg.defaults(); err != nil {
		return Summary{Reason: err.Error()}, err
	}
	d := &demo{cfg: cfg, started: time.Now()}
	if err := d.setup(); err != nil {
		d.close()
		return Summary{Reason: err.Error()}, err
	}
	defer d.close()
	err := d.run(ctx)
	if errors.Is(err, errDone) {
		return d.final, nil
	}
	sum := d.summary()
	if err == nil && cfg.Once {
		err = errors.New("interrupted")
	}
	if err != nil {
		sum.OK, sum.Reason = false, err.Error()
		d.story.failed(err, d.child)
	}
	return sum, err
}

// errDone ends the goroutines of a demo that has shown everything.
var errDone = errors.New("done")

// demo is one run.
type demo struct {
	cfg     Config
	started time.Time
	work    *work    // directory, files, ports
	outside *outside // panel, tickets, mail
	routers *routers // the simulated world and its sockets
	child   *child
	api     *client
	story   *story

	mu        sync.Mutex
	incidents []flow.Incident // as last seen
	readyAt   time.Time
	attack    time.Time // when the attacks begin
	final     Summary   // at the moment when all was shown; of follow's goroutine
}

func (d *demo) setup() error {
	w, err := newWork(d.cfg)
	d.work = w
	if err != nil {
		return err
	}
	d.story = newStory(d.cfg.Out, d.started)
	d.routers, err = newRouters(d.cfg, w)
	if err != nil {
		return err
	}
	d.outside, err = newOutside(w, d.routers.world.Tenants(), d.story)
	if err != nil {
		return err
	}
	d.routers.panel = d.outside.panel
	if err := w.writeFiles(d.outside, d.routers.world.Tenants()); err != nil {
		return err
	}
	d.child = newChild(d.cfg.Flowcordon, w.config, filepath.Join(w.dir, "flowcordon.log"))
	d.api = newClient("http://"+w.http, w.token)
	return nil
}

func (d *demo) close() {
	if d.outside != nil {
		d.outside.close()
	}
	if d.routers != nil {
		d.routers.close()
	}
	if d.work != nil {
		d.work.close()
	}
}

// run starts everything in order and returns when all has ended.
func (d *demo) run(ctx context.Context) error {
	if d.cfg.Once {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d.cfg.Timeout, errTimeout)
		defer cancel()
	}
	d.story.intro(d)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.outside.run(ctx) })
	// The child outlives the routers on the way down, so that it can end in
	// its own order.
	g.Go(func() error { return d.child.run(ctx) })
	g.Go(func() error {
		if err := d.api.awaitReady(ctx); err != nil {
			return d.blame(ctx, err)
		}
		d.story.ready(d)
		attack := time.Now().Add(d.cfg.AttackAfter)
		d.mu.Lock()
		d.readyAt, d.attack = time.Now(), attack
		d.mu.Unlock()
		d.routers.world.StartAttacks(attack)
		d.story.attackAt(attack)
		g.Go(func() error { return d.routers.run(ctx) })
		return d.blame(ctx, d.follow(ctx))
	})
	return g.Wait()
}

var errTimeout = errors.New("out of time")

// blame explains the end of the time that a --once demo has.
func (d *demo) blame(ctx context.Context, err error) error {
	if err == nil || !errors.Is(context.Cause(ctx), errTimeout) {
		return err
	}
	v := d.verdict(time.Now())
	return fmt.Errorf("not shown within %s: %s", d.cfg.Timeout, v.missing())
}
