// Package libvirt cuts the network of a VDS at its hypervisor, through libvirt.
//
// In come a flow.NIC from the inventory and a flow.Mark; out go the NIC's link
// state, set down and back in the running machine and in its definition, and a
// flow.Receipt that says what was found before. The machine runs on and its
// console stays open: only the cable is pulled.
//
// Milder than the cut it takes a port block (an nwfilter that includes the NIC's
// own) and a rate limit (the NIC's <bandwidth>), marked and given back alike.
//
// One Adapter talks to one libvirtd, a few operations at a time and one on a
// domain. Every operation reads the domain, changes nothing but that one child of
// the one interface and our own metadata element, and reads back. An operation that outlives its deadline
// is freed by closing the connection, because libvirt's protocol client knows
// no deadlines of its own.
//
// The Adapter owns its connection and the goroutines that read it; Close ends
// both. The package imports flow and no sibling.
package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/internal/meter"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Deps are what an Adapter works with. All of them may be left out.
type Deps struct {
	Log        *zap.Logger
	Registerer prometheus.Registerer // nil: a private registry
	Now        func() time.Time      // nil: time.Now
	// Dial opens the connection to the node; TLS comes on top of it. nil: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Adapter is a suspender for the domains of one libvirt node. It is safe for
// concurrent use.
type Adapter struct {
	cfg     Config
	log     *zap.Logger
	metrics *meter.Operations
	now     func() time.Time
	link    *connector
	finder  *finder
	locks   *domainLocks
	// sweeping keeps filters that are defined but not yet referred to: whoever
	// defines one holds it shared, who sweeps holds it alone.
	sweeping *sync.RWMutex
	pulled   func(domain string) // nil; the benchmark's, when a link is down
}

// New returns an Adapter. It does no I/O: an unreachable node or a wrong
// configuration shows at the first operation (Config.Validate tells the latter
// beforehand).
func New(cfg Config, deps Deps) *Adapter {
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Dial == nil {
		deps.Dial = (&net.Dialer{}).DialContext
	}
	return &Adapter{
		cfg:     cfg,
		log:     deps.Log.Named("libvirt").With(zap.String("adapter", cfg.Name)),
		metrics: meter.New(deps.Registerer, "libvirt", "Operations on a libvirt node", cfg.Name),
		now:     deps.Now,
		link: &connector{
			cfg: cfg, dial: deps.Dial, turn: make(chan struct{}, maxAtOnce), rest: make(chan struct{}, restsAtOnce), used: map[*session]bool{},
		},
		finder:   &finder{metadataID: cfg.metadataID(), turn: make(chan struct{}, 1)},
		locks:    &domainLocks{held: map[golibvirt.UUID]*domainLock{}},
		sweeping: &sync.RWMutex{},
	}
}

// Name returns the adapter's name in the configuration.
func (a *Adapter) Name() string { return a.cfg.Name }

// Close drops the connection to the node. The next operation dials again.
func (a *Adapter) Close() { a.link.close() }

// Status reads the NIC's link in the running machine and in the definition that
// the next power-on uses, and our mark if the NIC carries one. A NIC that one
// of the two lacks cannot send there and counts as down.
func (a *Adapter) Status(ctx context.Context, nic flow.NIC) (flow.NICStatus, error) {
	var st flow.NICStatus
	called := time.Now()
	err := a.do(ctx, "status", func(ctx context.Context, s *session) error {
		t, err := a.finder.find(ctx, s, nic, called)
		if err != nil {
			return err
		}
		st = t.status()
		return nil
	})
	return st, err
}

// Cut sets the NIC's link down, live and in the definition, after leaving the
// mark with the state found before. Repeated for the same incident it keeps
// the first mark's state and only puts right what has changed since. A NIC
// that is cut for another incident is refused with flow.ErrConflict.
func (a *Adapter) Cut(ctx context.Context, nic flow.NIC, m flow.Mark) (flow.Receipt, error) {
	if m.Incident == "" {
		return flow.Receipt{}, fail(flow.ErrDenied, "cut: the mark names no incident")
	}
	var r flow.Receipt
	var at where
	q := query{nic, time.Now()}
	err := a.run(ctx, "cut", func(ctx context.Context) (err error) {
		r, err = a.pullAndCut(ctx, q, m, &at)
		return err
	}, at.heldByJob)
	if err != nil {
		return flow.Receipt{}, err
	}
	mac := r.NIC.MAC
	r.NIC, r.At = nic, a.now().UTC()
	r.NIC.MAC = mac
	a.log.Info("network cut", zap.String("vds", nic.VDS), zap.String("mac", r.NIC.MAC),
		zap.String("incident", m.Incident), zap.String("node", r.Node))
	return r, nil
}

// Restore gives the NIC the link state back that it had before our cut, as the
// mark recorded it, and takes the mark away. Without a mark it succeeds only if
// the NIC already is as the receipt says; a mark of another incident is refused
// with flow.ErrConflict.
func (a *Adapter) Restore(ctx context.Context, nic flow.NIC, m flow.Mark, r flow.Receipt) error {
	if m.Incident == "" {
		return fail(flow.ErrDenied, "restore: the mark names no incident")
	}
	err := a.act(ctx, "restore", nic, func(s *session, t *target) error { return t.restore(s, m, r) })
	if err != nil {
		return err
	}
	a.log.Info("network given back", zap.String("vds", nic.VDS), zap.String("mac", nic.MAC),
		zap.String("incident", m.Incident))
	return nil
}

// Do runs fn over a connection to the node on which nothing else runs; for what
// reads more of the node than the adapter does, such as discovery. The deadline
// is ctx's alone: when it ends the connection is closed, so that fn returns. fn
// may run a second time if the connection turns out dead. Errors are
// *flow.ActError.
func (a *Adapter) Do(ctx context.Context, fn func(*golibvirt.Libvirt) error) error {
	start := time.Now()
	err := a.link.with(ctx, func(s *session) error { return fn(s.l) })
	if err != nil {
		err = classify("libvirt "+a.cfg.Name, err)
	}
	a.metrics.Observe("read", result(err), time.Since(start))
	return err
}

// where is what an operation found out of its NIC's place; the domain's name is
// empty before that.
type where struct {
	ref
}

// heldByJob is an error of class locked if a migration, a backup or the like
// has the domain.
func (w *where) heldByJob(s *session) error {
	if w.dom.Name == "" {
		return nil
	}
	return heldByJob(s, w.dom)
}

// act finds the NIC and changes it, while nobody else changes its domain.
func (a *Adapter) act(ctx context.Context, op string, nic flow.NIC, fn func(*session, *target) error) error {
	q := query{nic, time.Now()}
	var at where
	return a.run(ctx, op, func(ctx context.Context) error {
		return a.link.with(ctx, func(s *session) error {
			t, unlock, err := a.hold(ctx, s, q, &at)
			if err != nil {
				return err
			}
			defer unlock()
			return fn(s, t)
		})
	}, at.heldByJob)
}

// hold locks the NIC's domain and reads it; at says which one is waited for. A
// guess costs one question and is right nearly always; where the reading says
// otherwise the NIC is looked for on the whole node.
func (a *Adapter) hold(ctx context.Context, s *session, q query, at *where) (*target, func(), error) {
	r, likely, err := a.finder.guess(s, q)
	if err != nil {
		return nil, nil, err
	}
	if likely {
		at.ref = r
		unlock, err := a.locks.lock(ctx, r.dom.UUID)
		if err != nil {
			return nil, nil, err
		}
		if t, err := a.finder.there(s, r); t != nil && err == nil {
			return t, unlock, nil
		} else if unlock(); err != nil {
			return nil, nil, err
		}
	}
	if r, err = a.finder.resolve(ctx, s, q); err != nil {
		return nil, nil, err
	}
	at.ref = r
	unlock, err := a.locks.lock(ctx, r.dom.UUID)
	if err != nil {
		return nil, nil, err
	}
	t, err := a.finder.read(ctx, s, q, r)
	if err == nil && t.dom.UUID != r.dom.UUID {
		err = fail(flow.ErrConflict, "NIC %s went from %s to %s while it was looked at", t.mac, r.dom.Name, t.dom.Name)
	}
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return t, unlock, nil
}

// heldByJob is an error of class locked if a migration, a backup or the like
// has the domain.
func heldByJob(s *session, dom golibvirt.Domain) error {
	kind, _, _, _, _, _, _, _, _, _, _, _, err := s.l.DomainGetJobInfo(dom)
	if err != nil || golibvirt.DomainJobType(kind) == golibvirt.DomainJobNone {
		return nil
	}
	return fail(flow.ErrLocked, "%s is held by a job of libvirt: a migration, a backup or a snapshot", dom.Name)
}

// do runs one operation on the node within the deadline and gives its error a class.
func (a *Adapter) do(ctx context.Context, op string, fn func(context.Context, *session) error) error {
	return a.run(ctx, op, func(ctx context.Context) error {
		return a.link.with(ctx, func(s *session) error { return fn(ctx, s) })
	}, nil)
}

// run is do; when the deadline comes it asks why, if there is something to ask.
// libvirt itself says that a domain is locked only after 30 s, so the last part
// of the time is kept for the question.
func (a *Adapter) run(ctx context.Context, op string, fn func(context.Context) error, why func(*session) error) error {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.timeout(), errDeadline)
	defer cancel()
	work := ctx
	if end, ok := ctx.Deadline(); ok && why != nil {
		var done context.CancelFunc
		work, done = context.WithDeadlineCause(ctx, end.Add(-time.Until(end)/5), errDeadline)
		defer done()
	}
	err := fn(work)
	if err != nil && why != nil && work.Err() != nil && ctx.Err() == nil {
		if held := a.link.with(ctx, why); classOf(held) == flow.ErrLocked {
			err = fmt.Errorf("%w (%w)", held, err)
		}
	}
	return a.ended(op, start, err)
}

// parts runs an operation that is as long as the node is big: the deadline is not
// the whole's but that of each part, which fn ends by calling next. The whole is
// bounded by ctx.
func (a *Adapter) parts(ctx context.Context, op string, fn func(s *session, next func()) error) error {
	start := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := time.AfterFunc(a.cfg.timeout(), func() { cancel(errDeadline) })
	defer t.Stop()
	next := func() { t.Reset(a.cfg.timeout()) }
	return a.ended(op, start, a.link.with(ctx, func(s *session) error {
		next()
		return fn(s, next)
	}))
}

// ended gives an operation's error a class and counts it.
func (a *Adapter) ended(op string, start time.Time, err error) error {
	if err != nil {
		err = classify(fmt.Sprintf("libvirt %s: %s", a.cfg.Name, op), err)
	}
	a.metrics.Observe(op, result(err), time.Since(start))
	return err
}

func result(err error) string {
	var ae *flow.ActError
	if errors.As(err, &ae) {
		return string(ae.Class)
	}
	return "ok"
}
