package panel

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/flowcordon/flowcordon/flow"
)

// Measures are block_port, for TCP and UDP, and rate_limit.
func (a *VMmanagerAdapter) Measures() []flow.MeasureKind {
	return []flow.MeasureKind{flow.MeasureBlockPort, flow.MeasureLimit}
}

var protocols = map[uint8]string{6: "tcp", 17: "udp"}

func rulesFor(ports []flow.PortRule) []rule {
	var out []rule
	for _, p := range ports {
		r := rule{Action: "drop", Direction: "out", Protocols: []string{protocols[p.Proto]}, From: int(p.Port), To: int(p.Port)}
		if p.Port == 0 {
			r.From, r.To = 1, 65535
		}
		out = append(out, r)
	}
	return out
}

// Restrict puts a measure in force for the whole server. Rules and limits of
// others stay; a limit never raises one that is there.
func (a *VMmanagerAdapter) Restrict(ctx context.Context, nic flow.NIC, me flow.Measure, m flow.Mark) (flow.Receipt, error) {
	if err := takes(me, m); err != nil {
		return flow.Receipt{}, err
	}
	var r flow.Receipt
	err := a.do(ctx, "restrict", func(ctx context.Context) error {
		h, before, err := a.status(ctx, nic)
		if err != nil {
			return err
		}
		before.Restrictions = slices.DeleteFunc(before.Restrictions, func(x flow.Restriction) bool { return x.Measure.Kind == me.Kind })
		if len(before.Restrictions) == 0 {
			before.Restrictions = nil
		}
		old, err := a.marks.get(h.ID, me.Kind)
		if err != nil {
			return err
		}
		if old != nil && old.Mark.Incident != m.Incident {
			return fail(flow.ErrConflict, "server %d already has a %s for incident %s by %s", h.ID, me.Kind, old.Mark.Incident, old.Mark.By)
		}
		e := &entry{Kind: me.Kind, MAC: nic.MAC, Mark: m, Before: before, Want: me}
		if me.Kind == flow.MeasureBlockPort {
			err = a.block(ctx, h, old, e)
		} else {
			err = a.limit(ctx, h, old, e)
		}
		if err != nil {
			return err
		}
		_, after, err := a.status(ctx, nic)
		if err != nil {
			return err
		}
		if in, ok := after.Restricted(me.Kind); !ok || in.Mark.Incident != m.Incident {
			return fail(flow.ErrConflict, "server %d: the %s does not read back", h.ID, me.Kind)
		}
		r = flow.Receipt{NIC: nic, Before: before, After: after, Node: a.cfg.Name, At: a.now().UTC()}
		return nil
	})
	if err != nil {
		return flow.Receipt{}, err
	}
	a.done("network restricted by "+string(me.Kind), nic, m)
	return r, nil
}

func takes(me flow.Measure, m flow.Mark) error {
	switch {
	case m.Incident == "":
		return fail(flow.ErrDenied, "restrict: the mark names no incident")
	case me.Kind == flow.MeasureLimit && me.KbitS > 0:
		return nil
	case me.Kind == flow.MeasureBlockPort && len(me.Ports) > 0:
		for _, p := range me.Ports {
			if protocols[p.Proto] == "" {
				return fail(flow.ErrUnsupported, "restrict: VMmanager's rules are for TCP and UDP, not for protocol %d", p.Proto)
			}
		}
		return nil
	case me.Kind == flow.MeasureLimit, me.Kind == flow.MeasureBlockPort:
		return fail(flow.ErrDenied, "restrict: a %s without a bound", me.Kind)
	}
	return fail(flow.ErrUnsupported, "restrict: VMmanager has no measure %q", me.Kind)
}

// block replaces the rules that we added by those that are wanted. The mark
// goes first, with all that may be ours: until the call is read back either is.
func (a *VMmanagerAdapter) block(ctx context.Context, h host, old, e *entry) error {
	var ours []rule
	if old != nil {
		ours = old.Rules
	}
	want := rulesFor(e.Want.Ports)
	next := without(h.Rules, ours)
	for _, r := range want {
		if (host{Rules: next}).has(r) {
			continue // somebody else's own: it stays when ours goes
		}
		e.Rules = append(e.Rules, r)
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		next = append(next, b)
	}
	final := e.Rules
	e.Rules = append(slices.Clone(final), ours...)
	if err := a.marks.put(h.ID, e.Kind, e); err != nil {
		return err
	}
	if !sameRules(h.Rules, next) {
		if err := a.change(ctx, h.ID, map[string]any{"firewall_rules": next}); err != nil {
			return err
		}
	}
	e.Rules = final
	return a.marks.put(h.ID, e.Kind, e)
}

// without removes one rule for each of ours.
func without(all []json.RawMessage, ours []rule) []json.RawMessage {
	out := slices.Clone(all)
	for _, r := range ours {
		i := slices.IndexFunc(out, func(raw json.RawMessage) bool {
			var o rule
			return json.Unmarshal(raw, &o) == nil && r.same(o)
		})
		if i >= 0 {
			out = slices.Delete(out, i, i+1)
		}
	}
	if out == nil {
		out = []json.RawMessage{} // null would not be a list
	}
	return out
}

func sameRules(a, b []json.RawMessage) bool {
	return slices.EqualFunc(a, b, func(x, y json.RawMessage) bool {
		var r, o rule
		return bytes.Equal(x, y) || json.Unmarshal(x, &r) == nil && json.Unmarshal(y, &o) == nil && r.same(o)
	})
}

func (a *VMmanagerAdapter) limit(ctx context.Context, h host, old, e *entry) error {
	e.Mbit = h.Out
	if old != nil {
		e.Mbit = old.Mbit
	}
	e.Ours = int(min((e.Want.KbitS+999)/1000, 1<<30))
	if e.Mbit > 0 && e.Mbit < e.Ours {
		e.Ours = e.Mbit // the server's own limit is the tighter one
	}
	e.Want.KbitS = uint64(e.Ours) * 1000
	if err := a.marks.put(h.ID, e.Kind, e); err != nil {
		return err
	}
	if h.Out == e.Ours {
		return nil
	}
	return a.change(ctx, h.ID, map[string]int{"net_out_mbitps": e.Ours})
}

// Lift takes a measure back that carries the incident's mark. Where there is
// none left it succeeds: an earlier call did it.
func (a *VMmanagerAdapter) Lift(ctx context.Context, nic flow.NIC, kind flow.MeasureKind, m flow.Mark, _ flow.Receipt) error {
	switch {
	case m.Incident == "":
		return fail(flow.ErrDenied, "lift: the mark names no incident")
	case !slices.Contains(a.Measures(), kind):
		return fail(flow.ErrUnsupported, "lift: VMmanager has no measure %q", kind)
	}
	err := a.do(ctx, "lift", func(ctx context.Context) error {
		h, err := a.read(ctx, nic)
		if err != nil {
			return err
		}
		e, err := a.marks.get(h.ID, kind)
		if err != nil || e == nil {
			return err
		}
		if e.Mark.Incident != m.Incident {
			return fail(flow.ErrConflict, "server %d has its %s for incident %s by %s, not for %s; it stays",
				h.ID, kind, e.Mark.Incident, e.Mark.By, m.Incident)
		}
		next := without(h.Rules, e.Rules)
		switch {
		case kind == flow.MeasureBlockPort && len(next) != len(h.Rules):
			err = a.change(ctx, h.ID, map[string]any{"firewall_rules": next})
		case kind == flow.MeasureLimit && h.Out == e.Ours && h.Out != e.Mbit: // else somebody set another
			err = a.change(ctx, h.ID, map[string]int{"net_out_mbitps": e.Mbit})
		}
		if err != nil {
			return err
		}
		if h, err = a.read(ctx, nic); err != nil {
			return err
		}
		if kind == flow.MeasureBlockPort && len(h.Rules) > len(next) {
			return fail(flow.ErrConflict, "server %d still has our rules", h.ID)
		}
		return a.marks.put(h.ID, kind, nil)
	})
	if err == nil {
		a.done("restriction lifted: "+string(kind), nic, m)
	}
	return err
}

// Marked lists the servers that have a mark of ours in force.
func (a *VMmanagerAdapter) Marked(ctx context.Context) ([]flow.MarkedNIC, error) {
	return a.marked(ctx, func(ctx context.Context, nic flow.NIC) (flow.NICStatus, error) {
		_, st, err := a.status(ctx, nic)
		return st, err
	})
}

// Describe says which call a measure would make.
func (a *VMmanagerAdapter) Describe(ctx context.Context, nic flow.NIC, me flow.Measure) (string, error) {
	if me.Kind == flow.MeasureCut {
		return "VMmanager's API has no call for a NIC's link: a cut would be refused", nil
	}
	if err := takes(me, flow.Mark{Incident: "none"}); err != nil {
		return "", err
	}
	var text string
	err := a.do(ctx, "describe", func(ctx context.Context) error {
		h, err := a.read(ctx, nic)
		if err != nil {
			return err
		}
		what := "net_out_mbitps=" + strconv.FormatUint((me.KbitS+999)/1000, 10)
		if me.Kind == flow.MeasureBlockPort {
			b, err := json.Marshal(rulesFor(me.Ports))
			if err != nil {
				return err
			}
			what = fmt.Sprintf("firewall_rules with its %d and %s", len(h.Rules), b)
		}
		text = fmt.Sprintf("POST %s/vm/v3/host/%d/resource %s", strings.TrimSuffix(a.cfg.URL, "/"), h.ID, what)
		return nil
	})
	return text, err
}
