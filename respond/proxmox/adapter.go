// Package proxmox cuts the network of a VDS (QEMU) or a container (LXC) of a
// Proxmox VE cluster, blocks ports of it or limits its rate, through the
// cluster's HTTP API.
//
// In come a flow.NIC from the inventory and a flow.Mark; out go link_down in
// the guest's netN, a drop rule in its firewall or a rate in its netN, and a
// flow.Receipt. The guest runs on and its console stays open.
//
// The mark of a cut and of a limit is a line of its own at the end of the
// guest's notes (description): it travels with the guest's configuration
// through migration, restart and backup, is written in the same call as netN
// under the same digest, and staff see it. The mark of a port block is the
// comment of the rules themselves. What else stands in the notes stays.
//
// Where the guest is is asked of the cluster each time, and each write carries
// the digest of what was read, so nothing is written over a change of
// somebody else's. What the API does not tell is the link as QEMU itself has
// it: Live is the value in effect of netN, which a "set_link" typed into the
// monitor does not change.
//
// The Adapter keeps idle HTTP connections and starts no goroutine that
// outlives a call. The API has no events: Watch looks at the cluster's tasks.
// The package imports flow and no sibling.
package proxmox

import (
	"context"
	"errors"
	"fmt"
	"time"

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
}

// Adapter is a suspender for the guests of one Proxmox VE cluster. It is safe
// for concurrent use; calls for one guest are kept apart by the digest.
type Adapter struct {
	cfg     Config
	log     *zap.Logger
	metrics *meter.Operations
	now     func() time.Time
	api     *client
}

// New returns an Adapter. It does no I/O: an unreachable cluster or a wrong
// configuration shows at the first operation (Config.Validate tells the latter
// beforehand).
func New(cfg Config, deps Deps) *Adapter {
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &Adapter{
		cfg:     cfg,
		log:     deps.Log.Named("proxmox").With(zap.String("adapter", cfg.Name)),
		metrics: meter.New(deps.Registerer, "proxmox", "Operations on a Proxmox VE cluster", cfg.Name),
		now:     deps.Now,
		api:     newClient(cfg),
	}
}

// Name returns the adapter's name in the configuration.
func (a *Adapter) Name() string { return a.cfg.Name }

// Status reads the NIC's link as it is in effect and as the next start will
// have it, our mark, and the port block and limit of ours that are in force. A
// NIC that is not there, or will not be, cannot send and counts as down.
func (a *Adapter) Status(ctx context.Context, nic flow.NIC) (flow.NICStatus, error) {
	var st flow.NICStatus
	err := a.do(ctx, "status", nic, func(ctx context.Context, t *target) (err error) {
		st, err = t.status(ctx)
		return err
	})
	return st, err
}

// Cut sets link_down in the NIC's netN and leaves the mark with the state
// found before, in one call. Repeated for the same incident it keeps the first
// mark's state and only puts right what has changed since. A NIC that is cut
// for another incident is refused with flow.ErrConflict, a guest that a backup
// or migration holds with flow.ErrLocked.
func (a *Adapter) Cut(ctx context.Context, nic flow.NIC, m flow.Mark) (flow.Receipt, error) {
	if m.Incident == "" {
		return flow.Receipt{}, fail(flow.ErrDenied, "cut: the mark names no incident")
	}
	var r flow.Receipt
	err := a.do(ctx, "cut", nic, func(ctx context.Context, t *target) (err error) {
		r, err = t.cut(ctx, m)
		return err
	})
	return a.done("network cut", nic, m, r, err)
}

// Restore gives the NIC the link state back that it had before our cut, as the
// receipt, or else the mark, says, and takes the mark away. Whatever else was
// changed in netN meanwhile stays. Without a mark it succeeds only if the NIC
// already is as the receipt says; a mark of another incident is refused with
// flow.ErrConflict.
func (a *Adapter) Restore(ctx context.Context, nic flow.NIC, m flow.Mark, r flow.Receipt) error {
	if m.Incident == "" {
		return fail(flow.ErrDenied, "restore: the mark names no incident")
	}
	err := a.do(ctx, "restore", nic, func(ctx context.Context, t *target) error { return t.restore(ctx, m, r) })
	_, err = a.done("network given back", nic, m, r, err)
	return err
}

// done completes the receipt of a call that changed something, and logs it.
func (a *Adapter) done(what string, nic flow.NIC, m flow.Mark, r flow.Receipt, err error) (flow.Receipt, error) {
	if err != nil {
		return flow.Receipt{}, err
	}
	mac := r.NIC.MAC
	if r.NIC = nic; mac != "" {
		r.NIC.MAC = mac
	}
	r.At = a.now().UTC()
	a.log.Info(what, zap.String("vds", nic.VDS), zap.String("mac", r.NIC.MAC),
		zap.String("incident", m.Incident), zap.String("node", r.Node))
	return r, nil
}

// tries bounds how often one operation is begun anew because the guest moved
// or somebody else wrote its configuration at the same time.
const tries = 3

// do finds the NIC and runs fn on it within the deadline, and gives its error
// a class. fn is run again on what is read anew when the guest had moved to
// another node, or its configuration changed, since it was read.
func (a *Adapter) do(ctx context.Context, op string, nic flow.NIC, fn func(context.Context, *target) error) error {
	return a.timed(ctx, op, a.cfg.timeout(), func(ctx context.Context) error {
		for try := 1; ; try++ {
			t, err := a.find(ctx, nic)
			if err == nil {
				err = fn(ctx, t)
			}
			if err == nil || try == tries || !errors.Is(err, errMoved) && !errors.Is(err, errDigest) {
				return err
			}
		}
	})
}

// timed bounds fn by the deadline, measures it and gives its error a class.
func (a *Adapter) timed(ctx context.Context, op string, limit time.Duration, fn func(context.Context) error) error {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errDeadline)
	defer cancel()
	err := fn(ctx)
	res := "ok"
	if err != nil {
		ae := classify(ctx, err)
		ae.Err = fmt.Errorf("proxmox %s: %s: %w", a.cfg.Name, op, ae.Err)
		err, res = ae, string(ae.Class)
	}
	a.metrics.Observe(op, res, time.Since(start))
	return err
}
