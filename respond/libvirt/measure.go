package libvirt

import (
	"fmt"
	"slices"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/flow"
)

// able says whether the interface can carry a measure of the kind at all,
// before anything is changed.
func (t *target) able(kind flow.MeasureKind) error {
	kinds := []string{"bridge", "network", "ethernet"} // which libvirt filters (virDomainNetDefParseXML)
	if kind == flow.MeasureLimit {
		kinds = append(kinds, "direct")
	}
	for _, sd := range t.sides() {
		if sd.nic == nil {
			continue
		}
		if !slices.Contains(kinds, sd.nic.kind) {
			return fail(flow.ErrUnsupported, "%s: NIC %s is of type %s, which libvirt takes no %s on; only %s",
				t.dom.Name, t.mac, sd.nic.kind, kind, strings.Join(kinds, ", "))
		}
		if kind == flow.MeasureBlockPort && sd.nic.port == "openvswitch" {
			return fail(flow.ErrUnsupported,
				"%s: NIC %s is on Open vSwitch, whose packets pass the node's packet filter by; libvirt cannot block ports there",
				t.dom.Name, t.mac)
		}
	}
	return nil
}

// step is what a measure does to one side.
type step struct {
	sd     *side
	was    string // the element as it is given back
	el     string // the element that takes its place
	filter string // of a block: our filter, and the one that it includes
	former string
	done   bool // the element is in its place already
}

// plan says what the measure does to each side, before anything is changed. It
// cuts the reason of the mark to length.
func (t *target) plan(me flow.Measure, m *flow.Mark) ([]step, error) {
	m.Reason = shorten(m.Reason)
	var out []step
	for _, sd := range t.sides() {
		if sd.nic == nil {
			continue
		}
		st := step{sd: sd}
		st.was, _ = t.former(sd, me.Kind, m.Incident)
		if me.Kind == flow.MeasureLimit {
			// From the former element, because an earlier limit of ours may be
			// stricter than the new one.
			was, err := parseDocument("<domain><devices><interface>" + st.was + "</interface></devices></domain>")
			if err != nil {
				return nil, fmt.Errorf("%s: the former bandwidth: %w", t.dom.Name, err)
			}
			bound := kiloBytes(me.KbitS)
			st.el = withOutbound(was, &was.ifaces[0], bound)
			if old := was.ifaces[0].outbound; 0 < old && old < bound {
				bound = old
			}
			st.done = sd.nic.outbound == bound
		} else {
			st.former = sd.nic.filter
			if isOurs(st.former) {
				st.former = t.filters[st.former].former
			}
			st.filter = filterName(m.Incident, t.mac, st.former)
			st.el = withFilter(sd.doc, sd.nic, st.filter)
			st.done = sd.nic.filter == st.filter
		}
		out = append(out, st)
	}
	return out, nil
}

// former is what a lift puts back on the side, and whether what stands there
// now is ours. What is not ours is itself what was there: a panel has written
// the definition anew.
func (t *target) former(sd *side, kind flow.MeasureKind, incident string) (el string, ours bool) {
	r := sd.restriction(t.mac, kind)
	if kind == flow.MeasureLimit {
		now := sd.doc.text(sd.nic.bandwidthAt)
		if r == nil {
			r = t.restriction(kind)
		}
		if r == nil || sd.nic.outbound != kiloBytes(r.measure.KbitS) {
			return now, false
		}
		return r.was, true
	}
	if !isOurs(sd.nic.filter) {
		return sd.doc.text(sd.nic.filterAt), false
	}
	if r != nil {
		return r.was, true
	}
	// The mark is lost, but the filter tells what it includes.
	was := t.filters[sd.nic.filter].former
	ours = sd.nic.filter == filterName(incident, t.mac, was)
	if was == "" {
		return "", ours
	}
	return withFilter(sd.doc, sd.nic, was), ours
}

func (sd *side) element(kind flow.MeasureKind) span {
	if kind == flow.MeasureLimit {
		return sd.nic.bandwidthAt
	}
	return sd.nic.filterAt
}

// withFilter is the interface's <filterref> with another filter and the same parameters.
func withFilter(d *document, i *iface, name string) string {
	return "<filterref filter='" + escape(name) + "'>" + d.text(i.filterIn) + "</filterref>"
}

// withOutbound is the interface's <bandwidth> with another bound on what the
// guest sends, in kB/s, unless the one that stands there is stricter. Inbound
// and outbound are the guest's (libvirt, formatdomain, "Quality of service").
func withOutbound(d *document, i *iface, limit uint64) string {
	if 0 < i.outbound && i.outbound < limit {
		return d.text(i.bandwidthAt)
	}
	return fmt.Sprintf("<bandwidth>%s<outbound average='%d'/></bandwidth>", d.text(i.inbound), limit)
}

// kiloBytes is the unit of libvirt's average: 1000 bytes a second (tc's kbps).
func kiloBytes(kbit uint64) uint64 { return kbit / 8 }

func (t *target) restriction(kind flow.MeasureKind) *restriction {
	for _, sd := range t.sides() {
		if r := sd.restriction(t.mac, kind); r != nil {
			return r
		}
	}
	return nil
}

// restrictions are the measures with our mark, each with what of it is in
// force wherever the interface exists: fewer ports, or no limit, when somebody
// took it away in the running machine or in the definition.
func (t *target) restrictions() []flow.Restriction {
	var out []flow.Restriction
	for _, kind := range measures {
		r := t.restriction(kind)
		if r == nil {
			continue
		}
		me := flow.Measure{Kind: kind, KbitS: r.measure.KbitS}
		for _, p := range r.measure.Ports {
			if t.everywhere(func(sd *side) bool { return t.filters[sd.nic.filter].blocks(p) }) {
				me.Ports = append(me.Ports, p)
			}
		}
		if kind == flow.MeasureLimit && !t.everywhere(func(sd *side) bool {
			return 0 < sd.nic.outbound && sd.nic.outbound <= kiloBytes(me.KbitS)
		}) {
			me.KbitS = 0
		}
		out = append(out, flow.Restriction{Measure: me, Mark: r.Mark})
	}
	return out
}

func (t *target) everywhere(ok func(*side) bool) bool {
	return !slices.ContainsFunc(t.sides(), func(sd *side) bool { return sd.nic != nil && !ok(sd) })
}

// loadFilters reads those filters of ours that the interface refers to.
func (t *target) loadFilters(s *session) error {
	for _, sd := range t.sides() {
		if sd.nic == nil || !isOurs(sd.nic.filter) {
			continue
		}
		if _, ok := t.filters[sd.nic.filter]; ok {
			continue
		}
		r, err := loadFilter(s, sd.nic.filter)
		if err != nil {
			return err
		}
		if t.filters == nil {
			t.filters = map[string]ruleset{}
		}
		t.filters[sd.nic.filter] = r
	}
	return nil
}

// put rewrites one child of the interface on one side.
func (t *target) put(s *session, sd *side, kind flow.MeasureKind, el string) error {
	text := sd.doc.with(*sd.nic, sd.element(kind), el)
	if err := s.l.DomainUpdateDeviceFlags(t.dom, text, golibvirt.DomainDeviceModifyFlags(sd.flags)); err != nil {
		return fmt.Errorf("set the %s of %s NIC %s: %w", kind, t.dom.Name, t.mac, err)
	}
	return nil
}
