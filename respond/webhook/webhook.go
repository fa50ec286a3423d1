// Package webhook cuts the network of a VDS by asking somebody else to: a panel
// or a script of the hoster's that speaks a small signed protocol over HTTP.
// docs/webhook.md is its reference for those who write the receiver.
//
// In come a flow.NIC and a flow.Mark; out goes one POST for each action with
// the JSON body
//
//	{"action": "status|suspend|restore", "key": "…", "incident": "…",
//	 "vds": "…", "hypervisor": "…", "mac": "…", "ip": "…", "reason": "…", "at": "RFC 3339"}
//
// and the headers X-Flowcordon-Timestamp, X-Flowcordon-Signature and, for
// actions that change something, Idempotency-Key. The receiver answers 200 with
// the state after the action:
//
//	{"live": "up|down|unknown", "config": "up|down|unknown", "running": true,
//	 "mark": {"incident": "…", "key": "…", "by": "…", "reason": "…", "at": "…"} or null,
//	 "before": {"live": "…", "config": "…", "running": true}, "undo": …}
//
// where before is optional: the state before the first suspend of the incident,
// so that a repeat tells the same as the first call did. So is undo: whatever
// the receiver needs to give back exactly that, which restore and lift bring it.
//
// A receiver whose configuration says so takes measures, too. Their bodies have
// version 2, which nothing else has, and the measure:
//
//	{"version": 2, "action": "restrict|lift", …,
//	 "measure": {"kind": "block_port", "ports": [{"proto": 6, "port": 22}]} or {"kind": "rate_limit", "kbit_s": 8000}}
//
// of lift only its kind; and every answer of such a receiver holds
//
//	"restrictions": [{"measure": {…}, "mark": {…}}]
//
// with what is in force, also in before. Likewise, {"version": 2, "action":
// "list"} is answered with {"nics": [{"nic": {"vds": "…", "mac": "…", "ip":
// "…"}, "status": {…}}]}, all that carry a mark.
//
// The key of restore and lift is one of their own, stable over retries.
// testdata/receiver.py is a receiver to start from.
//
// The Adapter keeps idle HTTP connections and starts no goroutine of its own.
// The package imports flow and no sibling.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
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

// Adapter is a suspender behind a webhook. It is safe for concurrent use.
type Adapter struct {
	cfg     Config
	log     *zap.Logger
	metrics *meter.Operations
	now     func() time.Time
	client  func() (*http.Client, error) // made at the first call
}

// New returns an Adapter. It does no I/O: a wrong configuration shows at the
// first operation (Config.Validate tells it beforehand).
func New(cfg Config, deps Deps) *Adapter {
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &Adapter{
		cfg:     cfg,
		log:     deps.Log.Named("webhook").With(zap.String("adapter", cfg.Name)),
		metrics: meter.New(deps.Registerer, "webhook", "Operations of a webhook suspender", cfg.Name),
		now:     deps.Now,
		client:  sync.OnceValues(func() (*http.Client, error) { return newClient(cfg) }),
	}
}

// Name returns the adapter's name in the configuration.
func (a *Adapter) Name() string { return a.cfg.Name }

// Status asks for the NIC's state.
func (a *Adapter) Status(ctx context.Context, nic flow.NIC) (flow.NICStatus, error) {
	var st flow.NICStatus
	err := a.do(ctx, actionStatus, func(ctx context.Context) error {
		rep, err := a.call(ctx, actionStatus, nic, flow.Mark{}, nil, nil)
		st = rep.status()
		return err
	})
	return st, err
}

// Measures are the milder ones that the configuration says the receiver takes.
func (a *Adapter) Measures() []flow.MeasureKind { return slices.Clone(a.cfg.Measures) }

// Cut asks to suspend the NIC and believes it only if the answer says that the
// link is down and carries the mark. The state is asked for first: a NIC that
// is cut for another incident is refused with flow.ErrConflict and not touched.
// Repeated for the same incident, Receipt.Before is what the receiver's before
// says; a receiver without it leaves the links there unknown.
func (a *Adapter) Cut(ctx context.Context, nic flow.NIC, m flow.Mark) (flow.Receipt, error) {
	return a.take(ctx, actionSuspend, nic, flow.Measure{Kind: flow.MeasureCut}, m)
}

// Restrict asks for a milder measure, as Cut does for the cut.
func (a *Adapter) Restrict(ctx context.Context, nic flow.NIC, me flow.Measure, m flow.Mark) (flow.Receipt, error) {
	return a.take(ctx, actionRestrict, nic, me, m)
}

func (a *Adapter) take(ctx context.Context, action string, nic flow.NIC, me flow.Measure, m flow.Mark) (flow.Receipt, error) {
	var r flow.Receipt
	err := a.do(ctx, action, func(ctx context.Context) error {
		if err := a.check(action, me, m); err != nil {
			return err
		}
		was, err := a.call(ctx, actionStatus, nic, m, nil, nil)
		if err != nil {
			return err
		}
		old := was.status().MarkOf(me.Kind)
		if old != nil && old.Incident != m.Incident {
			return fail(flow.ErrConflict, "the NIC already carries %s for incident %s by %s", me.Kind, old.Incident, old.By)
		}
		rep, err := a.call(ctx, action, nic, m, &me, nil)
		if err != nil {
			return err
		}
		if err := took(rep.status(), action, me, m); err != nil {
			return err
		}
		r = flow.Receipt{
			NIC: nic, Before: before(was, rep, me.Kind), After: rep.status(), Node: nic.Hypervisor, At: a.now().UTC(), Undo: rep.Undo,
		}
		return nil
	})
	if err != nil {
		return flow.Receipt{}, err
	}
	a.log.Info("measure taken", zap.String("measure", string(me.Kind)), zap.String("vds", nic.VDS), zap.String("mac", nic.MAC), zap.String("incident", m.Incident))
	return r, nil
}

// before is the state before the first act: what the receiver kept, or what it
// said a moment ago if the NIC did not carry the measure yet.
func before(was, rep reply, kind flow.MeasureKind) flow.NICStatus {
	st := was.status()
	switch {
	case rep.Before != nil:
		return rep.Before.status()
	case st.MarkOf(kind) == nil:
		return st
	case kind == flow.MeasureCut:
		return flow.NICStatus{Live: flow.LinkUnknown, Config: flow.LinkUnknown, Running: was.Running, Restrictions: st.Restrictions}
	}
	st.Restrictions = slices.DeleteFunc(st.Restrictions, func(r flow.Restriction) bool { return r.Measure.Kind == kind })
	if len(st.Restrictions) == 0 {
		st.Restrictions = nil
	}
	return st
}

// Restore asks to give the NIC back the state from before the suspend. A NIC
// without a mark is left alone: it is no error if it is as the receipt says. A
// mark of another incident is refused with flow.ErrConflict.
func (a *Adapter) Restore(ctx context.Context, nic flow.NIC, m flow.Mark, r flow.Receipt) error {
	return a.giveBack(ctx, actionRestore, nic, flow.MeasureCut, m, r)
}

// Lift asks to give a milder measure back, as Restore does for the cut.
func (a *Adapter) Lift(ctx context.Context, nic flow.NIC, kind flow.MeasureKind, m flow.Mark, r flow.Receipt) error {
	return a.giveBack(ctx, actionLift, nic, kind, m, r)
}

func (a *Adapter) giveBack(ctx context.Context, action string, nic flow.NIC, kind flow.MeasureKind, m flow.Mark, r flow.Receipt) error {
	err := a.do(ctx, action, func(ctx context.Context) error {
		if err := a.check(action, flow.Measure{Kind: kind}, m); err != nil {
			return err
		}
		was, err := a.call(ctx, actionStatus, nic, m, nil, nil)
		if err != nil {
			return err
		}
		old := was.status().MarkOf(kind)
		if old == nil {
			if st := was.status(); kind == flow.MeasureCut && !as(st, r.Before) {
				return fail(flow.ErrConflict, "the NIC carries no mark of ours and is live %s, config %s; it stays as it is",
					st.Live, st.Config)
			}
			return nil
		}
		if old.Incident != m.Incident {
			return fail(flow.ErrConflict, "the NIC carries %s for incident %s by %s, not for %s; it stays as it is",
				kind, old.Incident, old.By, m.Incident)
		}
		m.Key = giveBackKey(action, m, r)
		rep, err := a.call(ctx, action, nic, m, &flow.Measure{Kind: kind}, r.Undo)
		if err != nil {
			return err
		}
		st := rep.status()
		if mark := st.MarkOf(kind); mark != nil || kind == flow.MeasureCut && !as(st, r.Before) {
			return fail(flow.ErrConflict, "answered 200 to %s, but says live %s, config %s, mark %s",
				action, st.Live, st.Config, incident(mark))
		}
		return nil
	})
	if err != nil {
		return err
	}
	a.log.Info("measure given back", zap.String("measure", string(kind)), zap.String("vds", nic.VDS), zap.String("mac", nic.MAC), zap.String("incident", m.Incident))
	return nil
}

// giveBackKey is the key of a restore or a lift. It differs from that of the
// act, which some receivers remember without the action beside it, and from that
// of an earlier act of the same incident. It is made of what stays the same over
// retries and restarts: the act's key or, where the receiver's mark has lost it,
// the receipt's time.
func giveBackKey(action string, m flow.Mark, r flow.Receipt) string {
	key := m.Key
	if key == "" {
		key = m.Incident
		if !r.At.IsZero() {
			key = fmt.Sprintf("%s-%d", m.Incident, r.At.UnixMilli())
		}
	}
	return key + "-" + action
}

// as reports whether the links are as they were before the cut. Where that is
// not known, or no receipt is left, a NIC that is not cut passes.
func as(st, want flow.NICStatus) bool {
	if want.Config != flow.LinkUp && want.Config != flow.LinkDown {
		return !st.Cut()
	}
	live := want.Live
	if !want.Running {
		live = want.Config // started meanwhile
	}
	return st.Config == want.Config && (!st.Running || live == flow.LinkUnknown || st.Live == live)
}

func incident(m *flow.Mark) string {
	if m == nil {
		return "none"
	}
	return fmt.Sprintf("%q", m.Incident)
}

// do runs one operation within the deadline and gives its error a class.
func (a *Adapter) do(ctx context.Context, op string, fn func(context.Context) error) error {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.timeout(), errDeadline)
	defer cancel()
	err := fn(ctx)
	result := "ok"
	if err != nil {
		ae := classify(ctx, err)
		ae.Err = fmt.Errorf("webhook %s: %s: %w", a.cfg.Name, op, ae.Err)
		err, result = ae, string(ae.Class)
	}
	a.metrics.Observe(op, result, time.Since(start))
	return err
}

// errDeadline is the cause of the context of an operation that took too long.
var errDeadline = errors.New("no answer within the deadline")
