package libvirt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/flow"
	"go.uber.org/zap"
)

// measures are the ones milder than the cut that libvirt can take.
var measures = []flow.MeasureKind{flow.MeasureBlockPort, flow.MeasureLimit}

// Measures returns the port block, by a network filter, and the rate limit, by
// the interface's bandwidth.
func (a *Adapter) Measures() []flow.MeasureKind { return slices.Clone(measures) }

// Restrict puts a measure in force in the running machine and in the
// definition, after leaving the mark with what it takes the place of. A NIC
// holds one filter only, so a block defines one that includes the NIC's own
// with its parameters. A measure of the same kind and incident is replaced, one
// of another incident refused with flow.ErrConflict.
func (a *Adapter) Restrict(ctx context.Context, nic flow.NIC, me flow.Measure, m flow.Mark) (flow.Receipt, error) {
	if err := check(me, m); err != nil {
		return flow.Receipt{}, err
	}
	var r flow.Receipt
	err := a.act(ctx, "restrict", nic, func(s *session, t *target) (err error) {
		a.sweeping.RLock()
		defer a.sweeping.RUnlock()
		r, err = t.restrict(s, me, m)
		r.NIC, r.At = nic, a.now().UTC()
		r.NIC.MAC = t.mac
		return err
	})
	if err != nil {
		return flow.Receipt{}, err
	}
	a.log.Info("measure in force", zap.String("vds", nic.VDS), zap.String("mac", r.NIC.MAC),
		zap.String("kind", string(me.Kind)), zap.String("incident", m.Incident), zap.String("node", r.Node))
	return r, nil
}

// Lift gives the NIC the filter or bandwidth back that it had before our
// measure, as the mark recorded it, and takes the mark away. Without a mark
// there is nothing to lift, and that is no error; the mark of another incident
// is refused with flow.ErrConflict. What somebody else has set since stays.
func (a *Adapter) Lift(ctx context.Context, nic flow.NIC, kind flow.MeasureKind, m flow.Mark, _ flow.Receipt) error {
	if m.Incident == "" {
		return fail(flow.ErrDenied, "lift: the mark names no incident")
	}
	if !slices.Contains(measures, kind) {
		return fail(flow.ErrUnsupported, "lift: libvirt takes no measure %q", kind)
	}
	err := a.act(ctx, "lift", nic, func(s *session, t *target) error {
		if err := t.lift(s, kind, m); err != nil {
			return err
		}
		if kind == flow.MeasureBlockPort {
			a.sweep(s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	a.log.Info("measure lifted", zap.String("vds", nic.VDS), zap.String("mac", nic.MAC),
		zap.String("kind", string(kind)), zap.String("incident", m.Incident))
	return nil
}

func check(me flow.Measure, m flow.Mark) error {
	if m.Incident == "" {
		return fail(flow.ErrDenied, "restrict: the mark names no incident")
	}
	switch me.Kind {
	case flow.MeasureBlockPort:
		return checkPorts(me.Ports)
	case flow.MeasureLimit:
		if kiloBytes(me.KbitS) == 0 {
			return fail(flow.ErrDenied, "rate_limit: %d kbit/s; libvirt counts in kB/s, write 8 or more", me.KbitS)
		}
		return nil
	}
	return fail(flow.ErrUnsupported, "restrict: libvirt takes no measure %q", me.Kind)
}

func (t *target) restrict(s *session, me flow.Measure, m flow.Mark) (flow.Receipt, error) {
	if err := t.able(me.Kind); err != nil {
		return flow.Receipt{}, err
	}
	old := t.restriction(me.Kind)
	if old != nil && old.Incident != m.Incident {
		return flow.Receipt{}, fail(flow.ErrConflict, "%s: NIC %s already carries a %s for incident %s by %s",
			t.dom.Name, t.mac, me.Kind, old.Incident, old.By)
	}
	before := t.status()
	before.Restrictions = without(before.Restrictions, me.Kind)
	steps, err := t.plan(me, &m)
	if err != nil {
		return flow.Receipt{}, err
	}
	if err := t.take(s, me, m, steps); err != nil {
		if c := classOf(err); old == nil && (c == flow.ErrUnsupported || c == flow.ErrDenied) {
			t.takeBack(s, me.Kind, steps) // nobody will try again
		}
		return flow.Receipt{}, err
	}
	back, err := t.again(s)
	if err != nil {
		return flow.Receipt{}, err
	}
	after := back.status()
	got, ok := after.Restricted(me.Kind)
	if !ok || got.Mark.Incident != m.Incident || got.Measure.KbitS != me.KbitS || !slices.Equal(got.Measure.Ports, me.Ports) {
		return flow.Receipt{}, fail(flow.ErrConflict, "%s: NIC %s reads back ports [%s], %d kbit/s after the %s was set",
			t.dom.Name, t.mac, portsText(got.Measure.Ports), got.Measure.KbitS, me.Kind)
	}
	return flow.Receipt{Before: before, After: after, Node: s.host}, nil
}

func without(rs []flow.Restriction, kind flow.MeasureKind) []flow.Restriction {
	var out []flow.Restriction
	for _, r := range rs {
		if r.Measure.Kind != kind {
			out = append(out, r)
		}
	}
	return out
}

// take does the steps: filters, then marks, then what refers to the filters. A
// measure without its mark could not be told from an admin's work; a mark
// without its measure only means that it has to be repeated.
func (t *target) take(s *session, me flow.Measure, m flow.Mark, steps []step) error {
	defined := map[string]bool{}
	for _, st := range steps {
		if st.filter == "" || defined[st.filter] {
			continue
		}
		defined[st.filter] = true
		text := filterXML(st.filter, st.former, me.Ports)
		if want, err := parseFilter(text); err == nil && want.equal(t.filters[st.filter]) {
			continue
		}
		if _, err := s.l.NwfilterDefineXML(text); err != nil {
			return fmt.Errorf("define the filter %s: %w", st.filter, err)
		}
	}
	marks := map[*side]restriction{}
	for _, st := range steps {
		marks[st.sd] = restriction{Mark: m, mac: t.mac, measure: me, was: st.was}
	}
	if err := t.putRestrictions(s, me.Kind, marks); err != nil {
		return fmt.Errorf("mark %s: %w", t.dom.Name, err)
	}
	for _, st := range steps {
		if st.done {
			continue
		}
		if err := t.put(s, st.sd, me.Kind, st.el); err != nil {
			return cannotPolice(me.Kind, err)
		}
	}
	return nil
}

// cannotPolice tells a kernel without traffic policing from other failures:
// libvirt answers what its tc said, as an internal error.
func cannotPolice(kind flow.MeasureKind, err error) error {
	var le golibvirt.Error
	if kind == flow.MeasureLimit && errors.As(err, &le) && golibvirt.ErrorNumber(le.Code) == golibvirt.ErrInternalError &&
		strings.Contains(le.Message, "(tc ") {
		return fail(flow.ErrUnsupported, "the node cannot bound traffic (has its kernel act_police and sch_htb?): %w", err)
	}
	return err
}

// takeBack undoes as much of the steps as can be undone.
func (t *target) takeBack(s *session, kind flow.MeasureKind, steps []step) {
	back, err := t.again(s)
	if err != nil {
		return
	}
	for _, sd := range back.sides() {
		if sd.nic == nil {
			continue
		}
		for _, st := range steps {
			if st.sd.flags == sd.flags && !st.done && sd.doc.text(sd.element(kind)) != st.was {
				_ = back.put(s, sd, kind, st.was)
			}
		}
	}
	_ = back.putRestrictions(s, kind, nil)
}

func (t *target) lift(s *session, kind flow.MeasureKind, m flow.Mark) error {
	if old := t.restriction(kind); old != nil && old.Incident != m.Incident {
		return fail(flow.ErrConflict, "%s: NIC %s carries a %s for incident %s by %s, not for %s; it stays as it is",
			t.dom.Name, t.mac, kind, old.Incident, old.By, m.Incident)
	}
	changed := false
	for _, sd := range t.sides() {
		if sd.nic == nil {
			continue
		}
		el, ours := t.former(sd, kind, m.Incident)
		if !ours || el == sd.doc.text(sd.element(kind)) {
			continue
		}
		changed = true
		if err := t.put(s, sd, kind, el); err != nil {
			return err
		}
	}
	// The mark goes last: until it is gone a repeat knows what to give back.
	changed = changed || t.restriction(kind) != nil
	if !changed {
		return nil
	}
	if err := t.putRestrictions(s, kind, nil); err != nil {
		return fmt.Errorf("take the mark off %s: %w", t.dom.Name, err)
	}
	back, err := t.again(s)
	if err != nil {
		return err
	}
	for _, sd := range back.sides() {
		if sd.restriction(t.mac, kind) != nil || kind == flow.MeasureBlockPort && sd.nic != nil && isOurs(sd.nic.filter) {
			return fail(flow.ErrConflict, "%s: NIC %s still carries the %s after it was lifted", t.dom.Name, t.mac, kind)
		}
	}
	return nil
}
