package libvirt

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// A cut is two steps: the pull takes the running machine's link down, after
// leaving the mark there, and the rest does the same in the definition and reads
// both back. Nearly all of the time goes into libvirtd's writing and syncing of
// files, so that with many cuts pending every one of them would wait for the
// definitions of those before it while its own traffic goes on. The rest waits
// for the pulls instead, but not longer than restWaits.
const (
	restWaits = 300 * time.Millisecond
	// restsAtOnce are beside maxAtOnce: a rest holds its domain, and who waits for
	// that domain must not keep it from going on.
	restsAtOnce = 2
)

// pulls counts those that wait or run.
type pulls struct {
	sync.Mutex
	n    int
	none chan struct{} // closed when there are none any more
}

func (p *pulls) begin() {
	p.Lock()
	defer p.Unlock()
	if p.n == 0 {
		p.none = make(chan struct{})
	}
	p.n++
}

func (p *pulls) end() {
	p.Lock()
	defer p.Unlock()
	if p.n--; p.n == 0 {
		close(p.none)
	}
}

// await waits until no pull is pending, or long enough.
func (p *pulls) await(ctx context.Context) {
	p.Lock()
	n, none := p.n, p.none
	p.Unlock()
	if n == 0 {
		return
	}
	t := time.NewTimer(restWaits)
	defer t.Stop()
	select {
	case <-none:
	case <-t.C:
	case <-ctx.Done():
	}
}

// pullAndCut does the two steps on the NIC; nobody else changes its domain
// between them.
func (a *Adapter) pullAndCut(ctx context.Context, q query, m flow.Mark, at *where) (r flow.Receipt, err error) {
	var t *target
	unlock := func() {}
	defer func() { unlock() }()
	pull := func() error {
		a.link.begin()
		defer a.link.end()
		return a.link.with(ctx, func(s *session) (err error) {
			unlock() // it may be the second try
			unlock = func() {}
			var held func()
			if t, held, err = a.hold(ctx, s, q, at); err != nil {
				return err
			}
			unlock = held
			return t.pull(s, m)
		})
	}
	if err = pull(); err != nil {
		return flow.Receipt{}, err
	}
	if a.pulled != nil {
		a.pulled(t.dom.Name)
	}
	a.link.await(ctx)
	err = a.link.on(ctx, a.link.rest, func(s *session) error {
		// Read anew: a panel may have written the definition meanwhile.
		now, err := t.again(s)
		if err != nil {
			return err
		}
		if !now.is(at.vds, a.cfg.metadataID()) {
			return fail(flow.ErrConflict, "%s is another VDS than %s by now", t.dom.Name, q.VDS)
		}
		r, err = now.cut(s, m)
		r.NIC.MAC = now.mac
		return err
	})
	return r, err
}

// pull leaves the mark in the running machine and takes its link down there. In
// a machine that is off there is nothing to pull.
func (t *target) pull(s *session, m flow.Mark) error {
	c, err := t.mark(m)
	if err != nil || t.live == nil || t.live.nic == nil {
		return err
	}
	live := *t
	live.config = nil
	if err := live.putCut(s, &c); err != nil {
		return fmt.Errorf("mark %s: %w", t.dom.Name, err)
	}
	return t.setLink(s, t.live, linkDown)
}
