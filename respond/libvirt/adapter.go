// Package libvirt cuts the network of a VDS at its hypervisor, through libvirt.
//
// In come a flow.NIC from the inventory and a flow.Mark; out go the NIC's link
// state, set down and back in the running machine and in its definition, and a
// flow.Receipt that says what was found before. The machine runs on and its
// console stays open: only the cable is pulled.
//
// One Adapter talks to one libvirtd, one operation at a time. Every operation
// reads the domain, changes nothing but the <link> of the one interface and our
// own metadata element, and reads back. An operation that outlives its deadline
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
	"time"

	"github.com/flowcordon/flowcordon/flow"
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
// concurrent use; operations queue.
type Adapter struct {
	cfg     Config
	log     *zap.Logger
	metrics *metrics
	now     func() time.Time
	link    *connector
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
		metrics: newMetrics(deps.Registerer, cfg.Name),
		now:     deps.Now,
		link:    &connector{cfg: cfg, dial: deps.Dial, turn: make(chan struct{}, 1)},
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
	err := a.do(ctx, "status", func(s *session) error {
		t, err := find(s, a.cfg.metadataID(), nic)
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
	err := a.do(ctx, "cut", func(s *session) error {
		t, err := find(s, a.cfg.metadataID(), nic)
		if err != nil {
			return err
		}
		r, err = t.cut(s, m)
		r.NIC, r.At = nic, a.now().UTC()
		r.NIC.MAC = t.mac
		return err
	})
	if err != nil {
		return flow.Receipt{}, err
	}
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
	err := a.do(ctx, "restore", func(s *session) error {
		t, err := find(s, a.cfg.metadataID(), nic)
		if err != nil {
			return err
		}
		return t.restore(s, m, r)
	})
	if err != nil {
		return err
	}
	a.log.Info("network given back", zap.String("vds", nic.VDS), zap.String("mac", nic.MAC),
		zap.String("incident", m.Incident))
	return nil
}

// do runs one operation on the node within the deadline and gives its error a class.
func (a *Adapter) do(ctx context.Context, op string, fn func(*session) error) error {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.timeout(), errDeadline)
	defer cancel()
	err := a.link.with(ctx, fn)
	if err != nil {
		err = classify(fmt.Sprintf("libvirt %s: %s", a.cfg.Name, op), err)
	}
	a.metrics.observe(op, result(err), time.Since(start))
	return err
}

func result(err error) string {
	var ae *flow.ActError
	if errors.As(err, &ae) {
		return string(ae.Class)
	}
	return "ok"
}
