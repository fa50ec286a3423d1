package bgp

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/flowcordon/flowcordon/flow"
	gobgp "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"go.uber.org/zap"
)

// status is a source as our table sends it; all lists measures that are marked
// but not in force, too. The peers are those that have everything.
func (a *Adapter) status(v *view, h held, all bool) (flow.NICStatus, []Peer, error) {
	st := flow.NICStatus{Live: flow.LinkUp, Config: flow.LinkUp, Running: true}
	if len(h.Measures) == 0 {
		return st, nil, nil
	}
	want, err := h.rules(a.cfg)
	if err != nil {
		// Marks of another method: they are there, and nothing is in force.
		a.log.Warn("mark cannot be announced", zap.Stringer("source", h.Source), zap.Error(err))
		want = nil
	}
	for _, r := range h.Measures {
		part := rules{}
		if own, err := a.cfg.rulesOf(h.Source, r.Measure); err == nil {
			for k := range own {
				part[k] = want[k] // a limit under a cut is in force when the cut is
			}
		}
		with, err := v.have(part)
		if err != nil {
			return flow.NICStatus{}, nil, err
		}
		inForce := len(with) >= a.cfg.RequirePeers
		switch {
		case r.Measure.Kind == flow.MeasureCut:
			m := r.Mark
			st.Mark, st.Config = &m, flow.LinkDown
			if inForce {
				st.Live = flow.LinkDown
			}
		case inForce || all:
			st.Restrictions = append(st.Restrictions, r)
		}
	}
	with, err := v.have(want)
	return st, with, err
}

// locate is the source that a NIC's address stands for, with what is held
// against it: also what was announced when v6_length was another. The error is
// of the configuration as it is; what is held may be given back in spite of it.
func (a *Adapter) locate(nic flow.NIC) (netip.Prefix, held, error) {
	source, err := a.cfg.sourceOf(nic.IP)
	if h, ok := a.marks[source]; ok {
		return source, h, err
	}
	for p, h := range a.marks {
		if nic.IP.IsValid() && h.NIC.IP.Unmap() == nic.IP.Unmap() {
			return p, h, err
		}
	}
	return source, held{}, err
}

// take puts a measure in force.
func (a *Adapter) take(ctx context.Context, op string, nic flow.NIC, me flow.Measure, m flow.Mark) (flow.Receipt, error) {
	if m.Incident == "" {
		return flow.Receipt{}, a.refuse(op, fail(flow.ErrDenied, "the mark names no incident"))
	}
	r, err := do(ctx, a, op, func(ctx context.Context) (flow.Receipt, error) { return a.takeInTurn(ctx, nic, me, m) })
	if err == nil {
		a.log.Info("measure announced", zap.String("measure", string(me.Kind)), zap.String("vds", nic.VDS),
			zap.Stringer("ip", nic.IP), zap.String("incident", m.Incident), zap.String("peers", r.Node))
	}
	return r, err
}

func (a *Adapter) takeInTurn(ctx context.Context, nic flow.NIC, me flow.Measure, m flow.Mark) (flow.Receipt, error) {
	source, h, err := a.locate(nic)
	if err != nil {
		return flow.Receipt{}, err
	}
	if _, err := a.cfg.rulesOf(source, me); err != nil {
		return flow.Receipt{}, err
	}
	if err := a.cfg.guard(source); err != nil {
		return flow.Receipt{}, err
	}
	if old, ok := h.measure(me.Kind); ok {
		if old.Mark.Incident != m.Incident {
			return flow.Receipt{}, fail(flow.ErrConflict, "%s already carries %s for incident %s by %s",
				source, me.Kind, old.Mark.Incident, old.Mark.By)
		}
		m.At = old.Mark.At // since when it is so
	}
	v, err := a.speaker.view(ctx)
	if err != nil {
		return flow.Receipt{}, err
	}
	before, _, err := a.status(v, h.without(me.Kind), false)
	if err != nil {
		return flow.Receipt{}, err
	}
	me.Ports = slices.Clone(me.Ports)
	next := held{Source: source, NIC: nic, Measures: h.Measures}.with(flow.Restriction{Measure: me, Mark: m})
	next.NIC.Hypervisor = a.cfg.Name
	want, err := next.rules(a.cfg)
	if err != nil {
		return flow.Receipt{}, err
	}
	if err := a.ready(v.peers, source); err != nil {
		return flow.Receipt{}, err
	}
	if n := a.others(source) + len(want); n > a.cfg.MaxRules {
		return flow.Receipt{}, fail(flow.ErrDenied, "%d rules would be announced, max_rules is %d; give something back, or raise it if the routers' tables are larger",
			n, a.cfg.MaxRules)
	}
	if err := a.store(ctx, source, &next); err != nil {
		return flow.Receipt{}, err
	}
	if err := a.announce(source, want); err != nil {
		return flow.Receipt{}, err
	}
	var with []Peer
	after := flow.NICStatus{}
	if v, err = a.speaker.view(ctx); err == nil {
		after, with, err = a.status(v, next, false)
	}
	if err != nil {
		return flow.Receipt{}, err
	}
	if _, ok := after.Restricted(me.Kind); !ok && (me.Kind != flow.MeasureCut || !after.Cut()) {
		return flow.Receipt{}, fail(flow.ErrTransient, "announced, but a session was lost meanwhile: %s of %d needed have it", names(with), a.cfg.RequirePeers)
	}
	return flow.Receipt{NIC: nic, Before: before, After: after, Node: names(with), At: a.now().UTC()}, nil
}

// ready refuses an act that too few routers would hear of.
func (a *Adapter) ready(peers []peerState, source netip.Prefix) error {
	family := rule{source: source, blackhole: a.cfg.Method != MethodFlowSpec}.family()
	var down []string
	up := 0
	for _, p := range peers {
		switch {
		case !p.up:
			down = append(down, p.String())
		case !p.takes[family]:
			down = append(down, fmt.Sprintf("%s (AS %d): takes no %s", p.Address, p.AS, familyName(family)))
		default:
			up++
		}
	}
	if up >= a.cfg.RequirePeers {
		return nil
	}
	return fail(flow.ErrTransient, "%d of %d needed BGP sessions are ready: %s", up, a.cfg.RequirePeers, strings.Join(down, "; "))
}

func familyName(f gobgp.Family) string {
	switch f {
	case gobgp.RF_FS_IPv4_UC:
		return "IPv4 FlowSpec"
	case gobgp.RF_FS_IPv6_UC:
		return "IPv6 FlowSpec"
	case gobgp.RF_IPv4_UC:
		return "IPv4 unicast"
	}
	return "IPv6 unicast"
}

// others counts the rules that are announced for other sources.
func (a *Adapter) others(source netip.Prefix) int {
	n := 0
	for r := range a.speaker.announced {
		if r.source != source {
			n++
		}
	}
	return n
}

// store writes the marks with h for source, or without it when h is nil.
func (a *Adapter) store(ctx context.Context, source netip.Prefix, h *held) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	next := maps.Clone(a.marks)
	if h == nil || len(h.Measures) == 0 {
		delete(next, source)
	} else {
		next[source] = *h
	}
	if err := next.save(a.cfg.marksPath()); err != nil {
		return err
	}
	a.marks = next
	return nil
}

func (a *Adapter) announce(source netip.Prefix, want rules) error {
	err := a.speaker.set(source, want)
	a.metrics.rules.Set(float64(len(a.speaker.announced)))
	return err
}

// giveBack withdraws a measure. Without a mark there is nothing to give back;
// a route that an earlier call left behind goes all the same.
func (a *Adapter) giveBack(ctx context.Context, op string, nic flow.NIC, kind flow.MeasureKind, m flow.Mark) error {
	if m.Incident == "" {
		return a.refuse(op, fail(flow.ErrDenied, "the mark names no incident"))
	}
	given, err := do(ctx, a, op, func(ctx context.Context) (bool, error) {
		source, h, err := a.locate(nic)
		if err != nil && len(h.Measures) == 0 {
			return false, err
		}
		old, ok := h.measure(kind)
		if ok && old.Mark.Incident != m.Incident {
			return false, fail(flow.ErrConflict, "%s carries %s for incident %s by %s, not for %s; it stays as it is",
				source, kind, old.Mark.Incident, old.Mark.By, m.Incident)
		}
		next := h.without(kind)
		if ok {
			if err := a.store(ctx, source, &next); err != nil {
				return false, err
			}
		}
		want, err := next.rules(a.cfg)
		if err != nil || a.cfg.guard(source) != nil {
			want = nil // marks of another configuration: nothing of them is announced
		}
		return ok, a.announce(source, want)
	})
	if err == nil && given {
		a.log.Info("measure withdrawn", zap.String("measure", string(kind)), zap.String("vds", nic.VDS),
			zap.Stringer("ip", nic.IP), zap.String("incident", m.Incident))
	}
	return err
}

// Marked lists every source that carries a mark of ours, also one that no
// session is up for.
func (a *Adapter) Marked(ctx context.Context) ([]flow.MarkedNIC, error) {
	return do(ctx, a, "marked", func(ctx context.Context) ([]flow.MarkedNIC, error) {
		v, err := a.speaker.view(ctx)
		if err != nil {
			return nil, err
		}
		var out []flow.MarkedNIC
		for _, p := range slices.SortedFunc(maps.Keys(a.marks), netip.Prefix.Compare) {
			h := a.marks[p]
			st, _, err := a.status(v, h, true)
			if err != nil {
				return nil, err
			}
			out = append(out, flow.MarkedNIC{NIC: h.NIC, Status: st})
		}
		return out, nil
	})
}

// Describe says which routes a measure would announce, and to whom.
func (a *Adapter) Describe(_ context.Context, nic flow.NIC, me flow.Measure) (string, error) {
	source, err := a.cfg.sourceOf(nic.IP)
	var want rules
	if err == nil {
		want, err = a.cfg.rulesOf(source, me)
	}
	if err != nil {
		return "", a.refuse("describe", err)
	}
	var lines []string
	for r, rate := range want {
		lines = append(lines, fmt.Sprintf("%s: %s %s", familyName(r.family()), r, r.then(a.cfg, rate)))
	}
	slices.Sort(lines)
	var to []string
	for _, p := range a.cfg.Peers {
		to = append(to, fmt.Sprintf("%s (AS %d)", p.Address, p.AS))
	}
	text := fmt.Sprintf("BGP from AS %d to %s: announce %s", a.cfg.AS, strings.Join(to, ", "), strings.Join(lines, "; "))
	for _, p := range me.Ports {
		if foreign(source, p.Proto) {
			text += fmt.Sprintf("; %s is left out, since %s sends none", protoName(p.Proto), source)
		}
	}
	if a.cfg.Method == MethodRTBH {
		text += " (drops what is sent to it, not what it sends)"
	}
	return text, nil
}
