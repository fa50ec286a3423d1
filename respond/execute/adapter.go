package execute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/internal/meter"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Attack is what a FastNetMon script is told of an incident.
type Attack struct {
	PPS      uint64 // packets/s of the attack
	Type     string // such as syn_flood; empty: unknown
	Protocol string // such as tcp; empty: unknown
	Text     string // further lines, such as a sample of the flows
}

// Deps are what an Adapter works with. All of them may be left out.
type Deps struct {
	Log        *zap.Logger
	Registerer prometheus.Registerer // nil: a private registry
	Now        func() time.Time      // nil: time.Now
	// Attack tells of an incident, for ModeFastNetMon; nil: 0 packets/s and the
	// mark's reason.
	Attack func(ctx context.Context, incident string) Attack
}

// Adapter is a suspender behind a command. It is safe for concurrent use.
type Adapter struct {
	cfg     Config
	invalid error
	log     *zap.Logger
	metrics *meter.Operations
	now     func() time.Time
	attack  func(ctx context.Context, incident string) Attack
	turn    chan struct{} // held by a change of the file of ModeFastNetMon
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
	if deps.Attack == nil {
		deps.Attack = func(context.Context, string) Attack { return Attack{} }
	}
	return &Adapter{
		cfg: cfg.withDefaults(), invalid: cfg.Validate(),
		log:     deps.Log.Named("exec").With(zap.String("adapter", cfg.Name)),
		metrics: meter.New(deps.Registerer, "exec", "Operations of an exec suspender", cfg.Name),
		now:     deps.Now, attack: deps.Attack, turn: make(chan struct{}, 1),
	}
}

// Name returns the adapter's name in the configuration.
func (a *Adapter) Name() string { return a.cfg.Name }

// Measures are the milder ones that the configuration says the command takes.
func (a *Adapter) Measures() []flow.MeasureKind { return slices.Clone(a.cfg.Measures) }

// Status asks for the NIC's state. Of a FastNetMon script it is what it was
// told last, and whether it ended well.
func (a *Adapter) Status(ctx context.Context, nic flow.NIC) (flow.NICStatus, error) {
	return do(ctx, a, actionStatus, func(ctx context.Context) (flow.NICStatus, error) {
		if a.cfg.Mode == ModeFastNetMon {
			return a.banned(ctx, nic)
		}
		r, err := a.ask(ctx, request{Action: actionStatus, NIC: &nic})
		return r.status(), err
	})
}

// Cut has the NIC cut and believes it only if the answer says that the link is
// down and carries the mark. The state is asked for first: a NIC that is cut
// for another incident is refused with flow.ErrConflict and not touched.
func (a *Adapter) Cut(ctx context.Context, nic flow.NIC, m flow.Mark) (flow.Receipt, error) {
	return a.take(ctx, actionCut, nic, flow.Measure{Kind: flow.MeasureCut}, m)
}

// Restrict has a milder measure put in force, as Cut does the cut.
func (a *Adapter) Restrict(ctx context.Context, nic flow.NIC, me flow.Measure, m flow.Mark) (flow.Receipt, error) {
	return a.take(ctx, actionRestrict, nic, me, m)
}

// Restore has the NIC given back. One without a mark is left alone: it is no
// error if it is not cut. A mark of another incident is refused.
func (a *Adapter) Restore(ctx context.Context, nic flow.NIC, m flow.Mark, r flow.Receipt) error {
	return a.giveBack(ctx, actionRestore, nic, flow.MeasureCut, m, r)
}

// Lift has a milder measure given back, as Restore does the cut.
func (a *Adapter) Lift(ctx context.Context, nic flow.NIC, kind flow.MeasureKind, m flow.Mark, r flow.Receipt) error {
	return a.giveBack(ctx, actionLift, nic, kind, m, r)
}

// Marked lists every NIC with a mark of ours; flow.ErrUnsupported if the
// command knows no list.
func (a *Adapter) Marked(ctx context.Context) ([]flow.MarkedNIC, error) {
	return do(ctx, a, actionList, func(ctx context.Context) ([]flow.MarkedNIC, error) {
		if a.cfg.Mode == ModeFastNetMon {
			return a.allBanned(ctx)
		}
		r, err := a.ask(ctx, request{Action: actionList})
		for i := range r.NICs {
			r.NICs[i].NIC.Hypervisor = a.cfg.Name
		}
		return r.NICs, err
	})
}

// Describe says what would be run, without the command's arguments and the
// values of its environment, which may hold secrets.
func (a *Adapter) Describe(_ context.Context, nic flow.NIC, me flow.Measure) (string, error) {
	if a.invalid != nil {
		return "", fail(flow.ErrUnsupported, "exec %s: describe: configuration: %w", a.cfg.Name, a.invalid)
	}
	if a.cfg.Mode == ModeFastNetMon {
		if me.Kind != flow.MeasureCut {
			return "", fail(flow.ErrUnsupported, "exec %s: describe: a FastNetMon script knows no %s", a.cfg.Name, me.Kind)
		}
		return fmt.Sprintf("run %s %s outgoing PPS ban, with the attack's details on stdin", a.cfg.Command[0], nic.IP.Unmap()), nil
	}
	q := request{Version: protocolVersion, Action: actionRestrict, Adapter: a.cfg.Name, NIC: &nic, Measure: &me}
	if me.Kind == flow.MeasureCut {
		q.Action, q.Measure = actionCut, nil
	}
	text, err := json.Marshal(q)
	if err != nil {
		return "", fail(flow.ErrUnsupported, "exec %s: describe: %w", a.cfg.Name, err)
	}
	return fmt.Sprintf("run %s with stdin %s", a.cfg.Command[0], text), nil
}

func incident(m *flow.Mark) string {
	if m == nil {
		return "none"
	}
	return fmt.Sprintf("%.100q", m.Incident)
}

// do runs one operation within the deadline and gives its error a class. What
// is not known to be lasting is worth a retry: every action may be repeated.
func do[T any](ctx context.Context, a *Adapter, op string, fn func(context.Context) (T, error)) (T, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.Timeout, errDeadline)
	defer cancel()
	v, err := fn(ctx)
	result := "ok"
	if err != nil {
		ae := &flow.ActError{Class: flow.ErrTransient, Err: err}
		var own *flow.ActError
		if errors.As(err, &own) {
			ae.Class, ae.Err = own.Class, own.Err
		}
		if text := ae.Err.Error(); a.redact(text) != text { // out of the command's answer
			ae.Err = errors.New(a.redact(text))
		}
		ae.Err = fmt.Errorf("exec %s: %s: %w", a.cfg.Name, op, ae.Err)
		var zero T
		v, err, result = zero, ae, string(ae.Class)
	}
	a.metrics.Observe(op, result, time.Since(start))
	return v, err
}

// errDeadline is the cause of the context of an operation that took too long.
var errDeadline = errors.New("not done within the deadline")

func fail(class flow.ErrClass, format string, args ...any) error {
	return &flow.ActError{Class: class, Err: fmt.Errorf(format, args...)}
}
