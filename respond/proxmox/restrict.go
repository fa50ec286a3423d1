package proxmox

import (
	"context"
	"math"
	"strconv"

	"github.com/flowcordon/flowcordon/flow"
)

// Measures are what the adapter can take beside the cut: block_port by rules
// of the guest's firewall, rate_limit by netN's rate, which holds for both
// directions.
func (a *Adapter) Measures() []flow.MeasureKind {
	return []flow.MeasureKind{flow.MeasureBlockPort, flow.MeasureLimit}
}

// Restrict puts a measure in force and leaves the mark with it. A block needs
// the firewall on for the cluster, the guest and the NIC: where it is not, the
// error (flow.ErrUnsupported) says what to switch on. It drops what the guest
// sends anew; the firewall lets connections that are already established go
// on. A limit never raises one that is there.
func (a *Adapter) Restrict(ctx context.Context, nic flow.NIC, me flow.Measure, m flow.Mark) (flow.Receipt, error) {
	var fn func(*target, context.Context, flow.Measure, flow.Mark) (undo, error)
	switch {
	case m.Incident == "":
		return flow.Receipt{}, fail(flow.ErrDenied, "restrict: the mark names no incident")
	case me.Kind == flow.MeasureBlockPort && len(me.Ports) > 0:
		fn = (*target).block
	case me.Kind == flow.MeasureLimit && me.KbitS > 0:
		fn = (*target).limit
	case me.Kind == flow.MeasureBlockPort, me.Kind == flow.MeasureLimit:
		return flow.Receipt{}, fail(flow.ErrDenied, "restrict: a %s without a bound", me.Kind)
	default:
		return flow.Receipt{}, fail(flow.ErrUnsupported, "restrict: Proxmox VE has no measure %q", me.Kind)
	}
	var r flow.Receipt
	err := a.do(ctx, "restrict", nic, func(ctx context.Context, t *target) error {
		before, err := t.status(ctx)
		if err != nil {
			return err
		}
		u, err := fn(t, ctx, me, m)
		if err != nil {
			return err
		}
		after, err := t.back(ctx)
		if err != nil {
			return err
		}
		if in, ok := after.Restricted(me.Kind); !ok || in.Mark.Incident != m.Incident {
			return fail(flow.ErrConflict, "%s: the %s does not read back as in force", t, me.Kind)
		}
		r = flow.Receipt{NIC: flow.NIC{MAC: t.mac}, Before: without(before, me.Kind), After: after, Node: t.g.Node, Undo: u.raw()}
		return nil
	})
	return a.done("network restricted by "+string(me.Kind), nic, m, r, err)
}

// without is the status as it was before our own measure of the kind.
func without(st flow.NICStatus, kind flow.MeasureKind) flow.NICStatus {
	var keep []flow.Restriction
	for _, r := range st.Restrictions {
		if r.Measure.Kind != kind {
			keep = append(keep, r)
		}
	}
	st.Restrictions = keep
	return st
}

// Lift takes a measure back that carries the incident's mark. Where there is
// none left it succeeds: an earlier call did it. One of another incident is
// refused with flow.ErrConflict.
func (a *Adapter) Lift(ctx context.Context, nic flow.NIC, kind flow.MeasureKind, m flow.Mark, r flow.Receipt) error {
	var fn func(*target, context.Context, flow.Mark, flow.Receipt) error
	switch {
	case m.Incident == "":
		return fail(flow.ErrDenied, "lift: the mark names no incident")
	case kind == flow.MeasureBlockPort:
		fn = (*target).unblock
	case kind == flow.MeasureLimit:
		fn = (*target).unlimit
	default:
		return fail(flow.ErrUnsupported, "lift: Proxmox VE has no measure %q", kind)
	}
	err := a.do(ctx, "lift", nic, func(ctx context.Context, t *target) error { return fn(t, ctx, m, r) })
	_, err = a.done("restriction lifted: "+string(kind), nic, m, r, err)
	return err
}

// kbitPerRate is kbit/s in one unit of netN's rate: a MiB/s, whatever the
// schema calls it (PVE::Network::tap_rate_limit: rate*1024*1024 bytes).
const kbitPerRate = 1024 * 1024 * 8 / 1000.0

func rateOf(kbit uint64) string {
	// Six places are 0.008 kbit/s: no rate comes out as 0, which is none.
	return strconv.FormatFloat(math.Round(float64(kbit)/kbitPerRate*1e6)/1e6, 'f', -1, 64)
}

func kbitOf(rate string) uint64 {
	f, err := strconv.ParseFloat(rate, 64)
	if err != nil || !(f > 0 && f <= 1e9) { // NaN too
		return 0
	}
	return max(1, uint64(math.Round(f*kbitPerRate)))
}

// limited is our limit, if netN carries it now and at the next start.
func (t *target) limited() *flow.Restriction {
	n := t.own(flow.MeasureLimit)
	if n == nil {
		return nil
	}
	for _, m := range []map[string]string{t.v.now, t.v.next} {
		if s, ok := m[t.key]; ok && kbitOf(parseNet(s).get("rate")) != kbitOf(n.Rate) {
			return nil // somebody set another
		}
	}
	return &flow.Restriction{Measure: flow.Measure{Kind: flow.MeasureLimit, KbitS: kbitOf(n.Rate)}, Mark: n.Mark}
}

func (t *target) limit(ctx context.Context, me flow.Measure, m flow.Mark) (undo, error) {
	old := t.own(flow.MeasureLimit)
	if old != nil && old.Mark.Incident != m.Incident {
		return undo{}, fail(flow.ErrConflict, "%s is already limited for incident %s by %s", t, old.Mark.Incident, old.Mark.By)
	}
	n := note{Kind: flow.MeasureLimit, MAC: t.mac, Guest: t.g.ID, Mark: m, Undo: undo{
		Rate: parseNet(t.v.now[t.key]).get("rate"), NextRate: parseNet(t.v.next[t.key]).get("rate"),
	}}
	if old != nil {
		n.Undo, n.Mark.At = old.Undo, old.Mark.At
	}
	n.Rate = rateOf(me.KbitS)
	if was := kbitOf(n.Undo.Rate); was > 0 && was < me.KbitS {
		n.Rate = n.Undo.Rate // the guest's own limit is the tighter one
	}
	err := t.put(ctx, func(d netDev, _ bool) netDev { return d.with("rate", n.Rate) }, replace(n, false))
	return n.Undo, err
}

func (t *target) unlimit(ctx context.Context, m flow.Mark, r flow.Receipt) error {
	n := t.own(flow.MeasureLimit)
	if n == nil {
		return nil
	}
	if n.Mark.Incident != m.Incident {
		return fail(flow.ErrConflict, "%s is limited for incident %s by %s, not for %s; it stays as it is",
			t, n.Mark.Incident, n.Mark.By, m.Incident)
	}
	was := undoOf(r, n.Undo)
	free := func(d netDev, next bool) netDev {
		if kbitOf(d.get("rate")) != kbitOf(n.Rate) {
			return d // somebody set another meanwhile
		}
		if next && was.NextRate != "" {
			return d.with("rate", was.NextRate)
		}
		return d.with("rate", was.Rate)
	}
	if err := t.put(ctx, free, replace(*n, true)); err != nil {
		return err
	}
	if err := t.again(ctx); err != nil {
		return err
	}
	if t.own(flow.MeasureLimit) != nil {
		return fail(flow.ErrConflict, "%s still carries our limit's mark", t)
	}
	return nil
}
