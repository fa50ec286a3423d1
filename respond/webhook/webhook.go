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
//	 "before": {"live": "…", "config": "…", "running": true}}
//
// where before is optional: the state before the first suspend of the incident,
// so that a repeat tells the same as the first call did.
//
// The Adapter keeps idle HTTP connections and starts no goroutine of its own.
// The package imports flow and no sibling.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
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
}

// Adapter is a suspender behind a webhook. It is safe for concurrent use.
type Adapter struct {
	cfg     Config
	log     *zap.Logger
	metrics *metrics
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
		metrics: newMetrics(deps.Registerer, cfg.Name),
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
		rep, err := a.call(ctx, actionStatus, nic, flow.Mark{})
		st = rep.status()
		return err
	})
	return st, err
}

// Cut asks to suspend the NIC and believes it only if the answer says that the
// link is down and carries the mark. The state is asked for first: a NIC that
// is cut for another incident is refused with flow.ErrConflict and not touched.
// Repeated for the same incident, Receipt.Before is what the receiver's before
// says; a receiver without it leaves the links there unknown.
func (a *Adapter) Cut(ctx context.Context, nic flow.NIC, m flow.Mark) (flow.Receipt, error) {
	if m.Incident == "" {
		return flow.Receipt{}, fail(flow.ErrDenied, "cut: the mark names no incident")
	}
	var r flow.Receipt
	err := a.do(ctx, actionSuspend, func(ctx context.Context) error {
		was, err := a.call(ctx, actionStatus, nic, m)
		if err != nil {
			return err
		}
		if was.Mark != nil && was.Mark.Incident != m.Incident {
			return fail(flow.ErrConflict, "the NIC is already cut for incident %s by %s", was.Mark.Incident, was.Mark.By)
		}
		rep, err := a.call(ctx, actionSuspend, nic, m)
		if err != nil {
			return err
		}
		st := rep.status()
		if !st.Cut() || st.Mark == nil || st.Mark.Incident != m.Incident {
			return fail(flow.ErrConflict, "answered 200 to suspend, but says live %s, config %s, mark %s",
				st.Live, st.Config, incident(st.Mark))
		}
		r = flow.Receipt{NIC: nic, Before: before(was, rep), After: st, Node: nic.Hypervisor, At: a.now().UTC()}
		return nil
	})
	if err != nil {
		return flow.Receipt{}, err
	}
	a.log.Info("network cut", zap.String("vds", nic.VDS), zap.String("mac", nic.MAC), zap.String("incident", m.Incident))
	return r, nil
}

// before is the state before the first cut: what the receiver kept, or what it
// said a moment ago if the NIC was not cut yet.
func before(was, rep reply) flow.NICStatus {
	switch {
	case rep.Before != nil:
		return rep.Before.status()
	case was.Mark == nil:
		return was.status()
	}
	return flow.NICStatus{Live: flow.LinkUnknown, Config: flow.LinkUnknown, Running: was.Running}
}

// Restore asks to give the NIC back the state from before the suspend. A NIC
// without a mark is left alone: it is no error if it is as the receipt says. A
// mark of another incident is refused with flow.ErrConflict.
func (a *Adapter) Restore(ctx context.Context, nic flow.NIC, m flow.Mark, r flow.Receipt) error {
	if m.Incident == "" {
		return fail(flow.ErrDenied, "restore: the mark names no incident")
	}
	err := a.do(ctx, actionRestore, func(ctx context.Context) error {
		was, err := a.call(ctx, actionStatus, nic, m)
		if err != nil {
			return err
		}
		if was.Mark == nil {
			if st := was.status(); !as(st, r.Before) {
				return fail(flow.ErrConflict, "the NIC carries no mark of ours and is live %s, config %s; it stays as it is",
					st.Live, st.Config)
			}
			return nil
		}
		if was.Mark.Incident != m.Incident {
			return fail(flow.ErrConflict, "the NIC is cut for incident %s by %s, not for %s; it stays as it is",
				was.Mark.Incident, was.Mark.By, m.Incident)
		}
		rep, err := a.call(ctx, actionRestore, nic, m)
		if err != nil {
			return err
		}
		if st := rep.status(); st.Mark != nil || !as(st, r.Before) {
			return fail(flow.ErrConflict, "answered 200 to restore, but says live %s, config %s, mark %s",
				st.Live, st.Config, incident(st.Mark))
		}
		return nil
	})
	if err != nil {
		return err
	}
	a.log.Info("network given back", zap.String("vds", nic.VDS), zap.String("mac", nic.MAC), zap.String("incident", m.Incident))
	return nil
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
	a.metrics.observe(op, result, time.Since(start))
	return err
}

// errDeadline is the cause of the context of an operation that took too long.
var errDeadline = errors.New("no answer within the deadline")
