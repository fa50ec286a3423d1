// Package execute cuts the network of a VDS by running a command of the
// hoster's: for products that no adapter knows, and for scripts that are there
// already.
//
// # The protocol
//
// For each action the command is run once, without a shell, with nothing but
// PATH, LANG and the configured variables in its environment. On stdin it reads
// one JSON object:
//
//	{"version": 1, "action": "status|cut|restore|restrict|lift|list", "adapter": "panel",
//	 "nic": {"vds": "vds-1001", "hypervisor": "panel", "mac": "52:54:00:aa:10:01", "ip": "11.20.0.10"},
//	 "measure": {"kind": "block_port", "ports": [{"proto": 6, "port": 22}]} or {"kind": "rate_limit", "kbit_s": 8000},
//	 "mark": {"incident": "…", "key": "…", "by": "…", "reason": "…", "at": "RFC 3339"},
//	 "receipt": {"nic": {…}, "before": {…}, "after": {…}, "undo": …}}
//
// where mark comes with cut, restore, restrict and lift, measure with restrict
// and lift (there only its kind), receipt with restore and lift. mark.key is
// the act's idempotency key. A number of version that the command does not know
// is to be refused with 14; fields that it does not know are to be ignored.
//
// On stdout it writes one JSON object, the state after the action:
//
//	{"live": "up|down|unknown", "config": "up|down|unknown", "running": true,
//	 "mark": {…} or null, "restrictions": [{"measure": {…}, "mark": {…}}],
//	 "before": {"live": …}, "node": "node7", "undo": …}
//
// mark is that of the cut; config is what the next power-on will have; before
// is the state before the incident's first act of this kind, undo whatever the
// command needs to give back exactly that; before, node and undo may be left
// out. list, which may be refused with 14, is answered with
// {"nics": [{"nic": {…}, "status": {…}}]}: all that carry a mark.
//
// The exit code says how it went: 0 done; 10 there is no such NIC; 11 it is
// locked, by a backup say; 12 it carries another incident's mark or changed
// meanwhile; 13 refused for good; 14 not possible here; anything else is worth a
// retry. Why stands on stderr, of which the last 400 characters are shown to
// staff. Every action may be repeated, also after a run that was killed at the
// deadline: cut and restrict then keep the state remembered first.
//
// testdata/panel.py is such a command.
//
// # FastNetMon's scripts
//
// In ModeFastNetMon the command gets the arguments of FastNetMon's notify
// script instead: address, "outgoing", packets/s and ban or unban, with the
// attack's details on stdin of a ban. It answers nothing, so what it banned is
// kept in a file.
//
// The Adapter owns no goroutine beyond a call. The package imports flow and no
// sibling.
package execute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
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
	metrics *metrics
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
		metrics: newMetrics(deps.Registerer, cfg.Name),
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

// markOf is the mark of a measure that the NIC carries, or nil.
func markOf(st flow.NICStatus, kind flow.MeasureKind) *flow.Mark {
	if kind == flow.MeasureCut {
		return st.Mark
	}
	if r, ok := st.Restricted(kind); ok {
		return &r.Mark
	}
	return nil
}

// check refuses what the command cannot be asked for.
func (a *Adapter) check(action string, me flow.Measure, m flow.Mark) error {
	switch {
	case m.Incident == "":
		return fail(flow.ErrDenied, "the mark names no incident")
	case action == actionCut, action == actionRestore:
		return nil
	case me.Kind == flow.MeasureCut || !slices.Contains(a.cfg.Measures, me.Kind):
		return fail(flow.ErrUnsupported, "measure %q is not among the configured measures", me.Kind)
	case action == actionRestrict && me.Kind == flow.MeasureBlockPort && len(me.Ports) == 0:
		return fail(flow.ErrDenied, "block_port: no ports")
	case action == actionRestrict && me.Kind == flow.MeasureLimit && me.KbitS == 0:
		return fail(flow.ErrDenied, "rate_limit: kbit_s is 0")
	}
	return nil
}

func (a *Adapter) take(ctx context.Context, action string, nic flow.NIC, me flow.Measure, m flow.Mark) (flow.Receipt, error) {
	r, err := do(ctx, a, action, func(ctx context.Context) (flow.Receipt, error) {
		if err := a.check(action, me, m); err != nil {
			return flow.Receipt{}, err
		}
		if a.cfg.Mode == ModeFastNetMon {
			return a.ban(ctx, nic, m)
		}
		was, err := a.ask(ctx, request{Action: actionStatus, NIC: &nic})
		if err != nil {
			return flow.Receipt{}, err
		}
		old := markOf(was.status(), me.Kind)
		if old != nil && old.Incident != m.Incident {
			return flow.Receipt{}, fail(flow.ErrConflict, "the NIC already carries %s for incident %s by %s", me.Kind, old.Incident, old.By)
		}
		q := request{Action: action, NIC: &nic, Mark: &m}
		if action == actionRestrict {
			q.Measure = &me
		}
		rep, err := a.ask(ctx, q)
		if err != nil {
			return flow.Receipt{}, err
		}
		if err := took(rep.status(), me, m); err != nil {
			return flow.Receipt{}, err
		}
		return flow.Receipt{NIC: nic, Before: before(was.status(), rep, me.Kind), After: rep.status(), Node: rep.Node, At: a.now().UTC(), Undo: rep.Undo}, nil
	})
	if err == nil {
		a.log.Info("measure taken", zap.String("measure", string(me.Kind)), zap.String("vds", nic.VDS), zap.String("mac", nic.MAC), zap.String("incident", m.Incident))
	}
	return r, err
}

// took checks that a command which says that it is done did it.
func took(st flow.NICStatus, me flow.Measure, m flow.Mark) error {
	mark := markOf(st, me.Kind)
	if mark == nil || mark.Incident != m.Incident {
		return fail(flow.ErrConflict, "exited with 0, but says that %s carries the mark of %s", me.Kind, incident(mark))
	}
	if me.Kind == flow.MeasureCut {
		if !st.Cut() {
			return fail(flow.ErrConflict, "exited with 0, but says live %s, config %s", st.Live, st.Config)
		}
		return nil
	}
	if got, _ := st.Restricted(me.Kind); !same(got.Measure, me) {
		return fail(flow.ErrConflict, "exited with 0, but says that %+v is in force, not %+v", got.Measure, me)
	}
	return nil
}

func same(a, b flow.Measure) bool {
	for _, p := range a.Ports {
		if !slices.Contains(b.Ports, p) {
			return false
		}
	}
	for _, p := range b.Ports {
		if !slices.Contains(a.Ports, p) {
			return false
		}
	}
	return a.Kind == b.Kind && a.KbitS == b.KbitS
}

// before is the state before the first act: what the command kept, or what it
// said a moment ago if the NIC did not carry the measure yet.
func before(was flow.NICStatus, rep reply, kind flow.MeasureKind) flow.NICStatus {
	switch {
	case rep.Before != nil:
		return rep.Before.status()
	case markOf(was, kind) == nil:
		return was
	case kind == flow.MeasureCut:
		was.Mark, was.Live, was.Config = nil, flow.LinkUnknown, flow.LinkUnknown
	}
	was.Restrictions = slices.DeleteFunc(slices.Clone(was.Restrictions), func(r flow.Restriction) bool { return r.Measure.Kind == kind })
	if len(was.Restrictions) == 0 {
		was.Restrictions = nil
	}
	return was
}

func (a *Adapter) giveBack(ctx context.Context, action string, nic flow.NIC, kind flow.MeasureKind, m flow.Mark, r flow.Receipt) error {
	given, err := do(ctx, a, action, func(ctx context.Context) (bool, error) {
		if err := a.check(action, flow.Measure{Kind: kind}, m); err != nil {
			return false, err
		}
		if a.cfg.Mode == ModeFastNetMon {
			return a.unban(ctx, nic, m)
		}
		was, err := a.ask(ctx, request{Action: actionStatus, NIC: &nic})
		if err != nil {
			return false, err
		}
		old := markOf(was.status(), kind)
		if old == nil {
			return false, given(was.status(), kind, r)
		}
		if old.Incident != m.Incident {
			return false, fail(flow.ErrConflict, "the NIC carries %s for incident %s by %s, not for %s; it stays as it is", kind, old.Incident, old.By, m.Incident)
		}
		q := request{Action: action, NIC: &nic, Mark: &m, Receipt: &r}
		if action == actionLift {
			q.Measure = &flow.Measure{Kind: kind}
		}
		rep, err := a.ask(ctx, q)
		if err != nil {
			return false, err
		}
		if mark := markOf(rep.status(), kind); mark != nil {
			return false, fail(flow.ErrConflict, "exited with 0, but says that %s still carries the mark of %s", kind, incident(mark))
		}
		return true, given(rep.status(), kind, r)
	})
	if err == nil && given {
		a.log.Info("measure given back", zap.String("measure", string(kind)), zap.String("vds", nic.VDS), zap.String("mac", nic.MAC), zap.String("incident", m.Incident))
	}
	return err
}

// given checks that a NIC without our mark is as it was before the cut. Where
// that is not known, one that is not cut passes.
func given(st flow.NICStatus, kind flow.MeasureKind, r flow.Receipt) error {
	if kind != flow.MeasureCut {
		return nil
	}
	want := r.Before
	ok := !st.Cut()
	if want.Config == flow.LinkUp || want.Config == flow.LinkDown {
		live := want.Live
		if !want.Running {
			live = want.Config // started meanwhile
		}
		ok = st.Config == want.Config && (!st.Running || live == flow.LinkUnknown || st.Live == live)
	}
	if !ok {
		return fail(flow.ErrConflict, "the NIC carries no mark of ours and is live %s, config %s; it stays as it is", st.Live, st.Config)
	}
	return nil
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
	a.metrics.observe(op, result, time.Since(start))
	return v, err
}

// errDeadline is the cause of the context of an operation that took too long.
var errDeadline = errors.New("not done within the deadline")

func fail(class flow.ErrClass, format string, args ...any) error {
	return &flow.ActError{Class: class, Err: fmt.Errorf(format, args...)}
}
