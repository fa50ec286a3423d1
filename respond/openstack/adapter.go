// Package openstack cuts the network of a VDS through OpenStack's Neutron, or
// blocks some of its ports.
//
// In come a flow.NIC from the inventory, a flow.Mark and for a block a
// flow.Measure; out go a port that is administratively down, or that stands in
// a security group of ours which allows what its own groups do but the blocked
// ports, and a flow.Receipt that says what was found before. The server runs on
// and its console stays open. Allowed address pairs, QoS, binding and every
// other property of the port stay as they are.
//
// Every write to a port carries the revision that was read, so that Neutron
// refuses it when anybody wrote in between. The mark stands in tags.
//
// What Neutron cannot give: a tenant with access to the API may set the port up
// again or put it back into its groups (the controller's next look shows it);
// while a block is in force, protocols that servers hardly speak are dropped
// with it, and other groups that allow by the former group's membership do not
// know ours. A driver must enforce security groups for a block to have effect.
//
// The user needs the admin role, or Neutron's policy must let it get and update
// ports, tags and security groups of all projects; groups of ours are made in
// its own project, whose quota of groups and rules should be unlimited.
//
// An Adapter talks to one region with one token, which it renews when it has
// expired; operations run beside each other. It starts no goroutine of its own.
// The package imports flow and no sibling.
package openstack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/internal/login"
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

// Adapter is a suspender for the ports of one region. It is safe for
// concurrent use.
type Adapter struct {
	cfg     Config
	log     *zap.Logger
	metrics *meter.Operations
	now     func() time.Time
	link    *login.Keeper[client]
}

// New returns an Adapter. It does no I/O: an unreachable region or a wrong
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
		log:     deps.Log.Named("openstack").With(zap.String("adapter", cfg.Name)),
		metrics: meter.New(deps.Registerer, "openstack", "Operations on an OpenStack region", cfg.Name),
		now:     deps.Now,
		link:    newKeeper(cfg),
	}
}

// Name returns the adapter's name in the configuration.
func (a *Adapter) Name() string { return a.cfg.Name }

// Close forgets the token and closes idle connections. The next operation logs
// in again.
func (a *Adapter) Close() {
	if cl := a.link.Current(); cl != nil {
		a.link.Drop(cl)
	}
}

// Status reads the port's admin state, which is both the live state and that of
// the next power-on, with our mark and the port block that it carries.
func (a *Adapter) Status(ctx context.Context, nic flow.NIC) (flow.NICStatus, error) {
	var st flow.NICStatus
	err := a.do(ctx, "status", nic, func(ctx context.Context, c *client, p port) (err error) {
		st, err = c.status(ctx, p)
		return err
	})
	return st, err
}

// Cut takes the port down after leaving the mark with the state found before.
// Repeated for the same incident it keeps the first mark and only puts right
// what has changed since. A port that is cut for another incident is refused
// with flow.ErrConflict.
func (a *Adapter) Cut(ctx context.Context, nic flow.NIC, m flow.Mark) (flow.Receipt, error) {
	if m.Incident == "" {
		return flow.Receipt{}, fail(flow.ErrDenied, "cut: the mark names no incident")
	}
	return a.act(ctx, "cut", nic, m, func(ctx context.Context, c *client, p port) (flow.Receipt, error) {
		return c.cut(ctx, p, nic, m)
	})
}

// Restore gives the port the admin state back that it had before our cut, as
// the mark recorded it, and takes the mark away. Without a mark it succeeds
// only if the port already is as the receipt says; a mark of another incident
// is refused with flow.ErrConflict.
func (a *Adapter) Restore(ctx context.Context, nic flow.NIC, m flow.Mark, r flow.Receipt) error {
	if m.Incident == "" {
		return fail(flow.ErrDenied, "restore: the mark names no incident")
	}
	err := a.do(ctx, "restore", nic, func(ctx context.Context, c *client, p port) error { return c.restore(ctx, p, m, r) })
	if err == nil {
		a.log.Info("network given back", zap.String("vds", nic.VDS), zap.String("mac", nic.MAC), zap.String("incident", m.Incident))
	}
	return err
}

// Measures are the ones milder than the cut.
func (a *Adapter) Measures() []flow.MeasureKind { return []flow.MeasureKind{flow.MeasureBlockPort} }

// Restrict puts the port into a security group of ours that allows what its own
// groups allow but the ports of the measure. A port without port security is
// flow.ErrUnsupported. Repeated, it follows what its groups allow by now.
func (a *Adapter) Restrict(ctx context.Context, nic flow.NIC, me flow.Measure, m flow.Mark) (flow.Receipt, error) {
	switch {
	case me.Kind != flow.MeasureBlockPort:
		return flow.Receipt{}, fail(flow.ErrUnsupported, "openstack %s: %s is no measure of Neutron's that we take", a.cfg.Name, me.Kind)
	case len(me.Ports) == 0:
		return flow.Receipt{}, fail(flow.ErrUnsupported, "openstack %s: block_port without ports", a.cfg.Name)
	case m.Incident == "":
		return flow.Receipt{}, fail(flow.ErrDenied, "block_port: the mark names no incident")
	}
	return a.act(ctx, "restrict", nic, m, func(ctx context.Context, c *client, p port) (flow.Receipt, error) {
		b, err := c.blocking(ctx, p)
		if err != nil {
			return flow.Receipt{}, err
		}
		return b.restrict(ctx, nic, me, m)
	})
}

// Lift gives the port its former security groups back, with those that its user
// has added since, and deletes ours. A port that is not in ours is left alone.
func (a *Adapter) Lift(ctx context.Context, nic flow.NIC, kind flow.MeasureKind, m flow.Mark, _ flow.Receipt) error {
	if kind != flow.MeasureBlockPort {
		return fail(flow.ErrUnsupported, "openstack %s: %s is no measure of Neutron's that we take", a.cfg.Name, kind)
	}
	if m.Incident == "" {
		return fail(flow.ErrDenied, "lift: the mark names no incident")
	}
	err := a.do(ctx, "lift", nic, func(ctx context.Context, c *client, p port) error {
		b, err := c.blocking(ctx, p)
		if err != nil {
			return err
		}
		return b.lift(ctx, m)
	})
	if err == nil {
		a.log.Info("port block lifted", zap.String("vds", nic.VDS), zap.String("mac", nic.MAC), zap.String("incident", m.Incident))
	}
	return err
}

// Describe says which call the measure would make, with the port as it is now.
func (a *Adapter) Describe(ctx context.Context, nic flow.NIC, me flow.Measure) (string, error) {
	var text string
	err := a.do(ctx, "describe", nic, func(ctx context.Context, c *client, p port) error {
		rev := "without a revision"
		if p.Revision != nil {
			rev = fmt.Sprintf("If-Match: revision_number=%d", *p.Revision)
		}
		switch me.Kind {
		case flow.MeasureCut:
			text = fmt.Sprintf("PUT /v2.0/ports/%s {admin_state_up: %t→false} %s, after the mark in tags (MAC %s, device %s)",
				p.ID, p.Up, rev, p.MAC, p.Device)
			return nil
		case flow.MeasureBlockPort:
			b, err := c.blocking(ctx, p)
			if err != nil {
				return err
			}
			rules, _, err := b.allowed(ctx, b.former())
			if err != nil {
				return err
			}
			want, err := narrow(rules, me.Ports)
			if err != nil {
				return err
			}
			text = fmt.Sprintf("POST /v2.0/security-groups %s%s with %d rules, then PUT /v2.0/ports/%s {security_groups: [%s]→[it]} %s",
				groupPrefix, p.ID, len(want), p.ID, strings.Join(p.Groups, " "), rev)
			return nil
		}
		return fail(flow.ErrUnsupported, "%s is no measure of Neutron's that we take", me.Kind)
	})
	return text, err
}

// act is an operation that ends in a receipt.
func (a *Adapter) act(ctx context.Context, op string, nic flow.NIC, m flow.Mark,
	fn func(context.Context, *client, port) (flow.Receipt, error),
) (flow.Receipt, error) {
	var r flow.Receipt
	err := a.do(ctx, op, nic, func(ctx context.Context, c *client, p port) (err error) {
		r, err = fn(ctx, c, p)
		r.NIC, r.At = nic, a.now().UTC()
		r.NIC.MAC = p.MAC
		return err
	})
	if err != nil {
		return flow.Receipt{}, err
	}
	a.log.Info("network act", zap.String("op", op), zap.String("vds", nic.VDS), zap.String("mac", r.NIC.MAC),
		zap.String("incident", m.Incident), zap.String("node", r.Node))
	return r, nil
}

// do runs one operation on the NIC's port.
func (a *Adapter) do(ctx context.Context, op string, nic flow.NIC, fn func(context.Context, *client, port) error) error {
	return a.run(ctx, op, func(ctx context.Context, c *client) error {
		p, err := c.find(ctx, nic)
		if err != nil {
			return err
		}
		return fn(ctx, c, p)
	})
}

// run runs one operation within the deadline and gives its error a class.
func (a *Adapter) run(ctx context.Context, op string, fn func(context.Context, *client) error) error {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.timeout(), errDeadline)
	defer cancel()
	err := a.link.With(ctx, fn)
	if err != nil {
		err = classify(ctx, fmt.Sprintf("openstack %s: %s", a.cfg.Name, op), err)
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
