// Package vsphere cuts the network of a VDS at its vCenter or ESXi host, through
// the vSphere API.
//
// In come a flow.NIC from the inventory and a flow.Mark; out go the NIC's
// connection, taken away and given back now and for the next power-on, and a
// flow.Receipt that says what was found before. The machine runs on and its
// console stays open: only the cable is pulled. Plain vSphere has no filter for
// ports, so that the cut is the one measure.
//
// A cut is one ReconfigVM_Task: the NIC edited with nothing but its connection
// changed, and the mark in the machine's extraConfig, refused by vCenter if
// anybody reconfigured the machine since it was read. Then it is read back. The
// account needs, on the virtual machines: System.Read,
// VirtualMachine.Interact.DeviceConnection, VirtualMachine.Config.EditDevice
// and VirtualMachine.Config.AdvancedConfig.
//
// An Adapter talks to one vCenter over one login, which it renews when it has
// ended; operations run beside each other. It starts no goroutine of its own.
// The package imports flow and no sibling.
package vsphere

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/internal/login"
	"github.com/flowcordon/flowcordon/internal/meter"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vmware/govmomi/vim25/types"
	"go.uber.org/zap"
)

// Deps are what an Adapter works with. All of them may be left out.
type Deps struct {
	Log        *zap.Logger
	Registerer prometheus.Registerer // nil: a private registry
	Now        func() time.Time      // nil: time.Now
}

// Adapter is a suspender for the virtual machines of one vCenter. It is safe
// for concurrent use.
type Adapter struct {
	cfg      Config
	log      *zap.Logger
	metrics  *meter.Operations
	now      func() time.Time
	link     *login.Keeper[session]
	machines machines
	marks    markCache

	mu    sync.Mutex
	known map[types.ManagedObjectReference]string // VDS by machine, as it was asked for
}

// New returns an Adapter. It does no I/O: an unreachable vCenter or a wrong
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
		log:     deps.Log.Named("vsphere").With(zap.String("adapter", cfg.Name)),
		metrics: meter.New(deps.Registerer, "vsphere", "Operations on a vCenter", cfg.Name),
		now:     deps.Now,
		link:    newKeeper(cfg),
		known:   map[types.ManagedObjectReference]string{},
	}
}

// Name returns the adapter's name in the configuration.
func (a *Adapter) Name() string { return a.cfg.Name }

// Close logs out, for a vCenter refuses logins when too many sessions are open. The
// next operation logs in again.
func (a *Adapter) Close() {
	if s := a.link.Current(); s != nil {
		a.link.Drop(s)
		s.Bye()
	}
}

// Status reads the NIC's connection now and at the next power-on, and our mark
// if the NIC carries one. The state of a machine whose host vCenter has lost is
// an error, because what is shown of it is old.
func (a *Adapter) Status(ctx context.Context, nic flow.NIC) (flow.NICStatus, error) {
	var st flow.NICStatus
	err := a.do(ctx, "status", func(ctx context.Context, s *session) error {
		t, err := a.find(ctx, s, nic, false)
		if err != nil {
			return err
		}
		st = t.status()
		return nil
	})
	return st, err
}

// Cut disconnects the NIC, now and for the next power-on, takes the guest the
// right to connect it again, and leaves the mark with the state found before.
// Repeated for the same incident it keeps the first mark's state and only puts
// right what has changed since. A NIC that is cut for another incident is
// refused with flow.ErrConflict.
func (a *Adapter) Cut(ctx context.Context, nic flow.NIC, m flow.Mark) (flow.Receipt, error) {
	if m.Incident == "" {
		return flow.Receipt{}, fail(flow.ErrDenied, "cut: the mark names no incident")
	}
	var r flow.Receipt
	err := a.do(ctx, "cut", func(ctx context.Context, s *session) error {
		t, err := a.find(ctx, s, nic, true)
		if err != nil {
			return err
		}
		r, err = t.cut(ctx, s, nic, m)
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

// Restore gives the NIC the connection back that it had before our cut, as the
// mark recorded it, and takes the mark away. Without a mark it succeeds only if
// the NIC already is as the receipt says; a mark of another incident is refused
// with flow.ErrConflict.
func (a *Adapter) Restore(ctx context.Context, nic flow.NIC, m flow.Mark, r flow.Receipt) error {
	if m.Incident == "" {
		return fail(flow.ErrDenied, "restore: the mark names no incident")
	}
	err := a.do(ctx, "restore", func(ctx context.Context, s *session) error {
		t, err := a.find(ctx, s, nic, true)
		if err != nil {
			return err
		}
		return t.restore(ctx, s, m, r)
	})
	if err != nil {
		return err
	}
	a.log.Info("network given back", zap.String("vds", nic.VDS), zap.String("mac", nic.MAC), zap.String("incident", m.Incident))
	return nil
}

// Measures are none: a port group's traffic rules would hit its other machines
// as well, and shaping needs a distributed switch set up for it.
func (a *Adapter) Measures() []flow.MeasureKind { return nil }

// Restrict is refused with flow.ErrUnsupported.
func (a *Adapter) Restrict(context.Context, flow.NIC, flow.Measure, flow.Mark) (flow.Receipt, error) {
	return flow.Receipt{}, fail(flow.ErrUnsupported, "vsphere %s: plain vSphere only cuts", a.cfg.Name)
}

// Lift is refused with flow.ErrUnsupported.
func (a *Adapter) Lift(context.Context, flow.NIC, flow.MeasureKind, flow.Mark, flow.Receipt) error {
	return fail(flow.ErrUnsupported, "vsphere %s: plain vSphere only cuts", a.cfg.Name)
}

// Describe says which call a cut would make, with the machine as it is now.
func (a *Adapter) Describe(ctx context.Context, nic flow.NIC, me flow.Measure) (string, error) {
	if me.Kind != flow.MeasureCut {
		return "", fail(flow.ErrUnsupported, "vsphere %s: plain vSphere only cuts", a.cfg.Name)
	}
	var text string
	err := a.do(ctx, "describe", func(ctx context.Context, s *session) error {
		t, err := a.find(ctx, s, nic, false)
		if err != nil {
			return err
		}
		text = fmt.Sprintf("ReconfigVM_Task %s %q on %s, changeVersion %s: edit device %d (%s): "+
			"connected %t→false, startConnected %t→false, allowGuestControl %t→false; extraConfig %s = the mark",
			t.ref.Value, t.name, t.node, t.version, t.dev.GetVirtualDevice().Key, t.mac,
			t.now.Connected, t.now.StartConnected, t.now.GuestControl, markKey(t.mac))
		return nil
	})
	return text, err
}

// do runs one operation within the deadline and gives its error a class.
func (a *Adapter) do(ctx context.Context, op string, fn func(context.Context, *session) error) error {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.timeout(), errDeadline)
	defer cancel()
	err := a.link.With(ctx, fn)
	if err != nil {
		err = classify(ctx, fmt.Sprintf("vsphere %s: %s", a.cfg.Name, op), err)
	}
	a.metrics.Observe(op, result(err), time.Since(start))
	return err
}

// seen remembers which VDS a machine is asked for as, for Watch.
func (a *Adapter) seen(ref types.ManagedObjectReference, vds string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known[ref] = vds
}

func (a *Adapter) vdsOf(ref types.ManagedObjectReference) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known[ref]
}

func result(err error) string {
	var ae *flow.ActError
	if errors.As(err, &ae) {
		return string(ae.Class)
	}
	return "ok"
}
