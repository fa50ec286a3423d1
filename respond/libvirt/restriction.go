package libvirt

import (
	"bytes"
	"encoding/xml"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

const (
	// restrictURI is the namespace of the element with the marks of measures
	// milder than the cut. It stands beside the cut's, because each <metadata>
	// element is rewritten as a whole:
	//
	//	<fcrestrict:measures xmlns:fcrestrict="urn:flowcordon:restrict:1">
	//	  <nic mac="…" kind="block_port" ports="6/22 17/53 1/0" was="…"
	//	       incident="…" key="…" by="…" reason="…" at="…"/>
	//	</fcrestrict:measures>
	//
	// one <nic> for each interface and kind; was is the XML of the element that
	// the measure took the place of, in this one of the domain's two
	// definitions. A definition that is copied to the other (a power cycle)
	// so takes along what belongs to it.
	restrictURI    = "urn:flowcordon:restrict:1"
	restrictPrefix = "fcrestrict"
)

// restriction is the mark of one measure on one interface.
type restriction struct {
	flow.Mark
	mac     string
	measure flow.Measure
	was     string // <filterref> or <bandwidth> as it was found; empty: there was none
}

func restrictionFromXML(t xml.StartElement) restriction {
	c := cutFromXML(t)
	r := restriction{Mark: c.Mark, mac: c.mac, was: attr(t, "was")}
	r.measure.Kind = flow.MeasureKind(attr(t, "kind"))
	r.measure.KbitS, _ = strconv.ParseUint(attr(t, "kbit"), 10, 64)
	for f := range strings.FieldsSeq(attr(t, "ports")) {
		if p, ok := parsePort(f); ok {
			r.measure.Ports = append(r.measure.Ports, p)
		}
	}
	return r
}

// equal reports whether b is the same mark.
func (r restriction) equal(b restriction) bool {
	return r.mac == b.mac && r.was == b.was && sameMark(r.Mark, b.Mark) && r.measure.Kind == b.measure.Kind &&
		r.measure.KbitS == b.measure.KbitS && slices.Equal(r.measure.Ports, b.measure.Ports)
}

func sameMark(a, b flow.Mark) bool {
	return a.Incident == b.Incident && a.Key == b.Key && a.By == b.By && a.Reason == b.Reason && a.At.Equal(b.At)
}

func restrictionsXML(rs []restriction) string {
	var b bytes.Buffer
	b.WriteString("<measures>")
	for _, r := range rs {
		kbit := ""
		if r.measure.KbitS > 0 {
			kbit = strconv.FormatUint(r.measure.KbitS, 10)
		}
		writeNIC(&b, [][2]string{
			{"mac", r.mac},
			{"kind", string(r.measure.Kind)},
			{"ports", portsText(r.measure.Ports)},
			{"kbit", kbit},
			{"was", r.was},
			{"incident", r.Incident},
			{"key", r.Key},
			{"by", r.By},
			{"reason", r.Reason},
			{"at", r.At.UTC().Format(time.RFC3339Nano)},
		})
	}
	b.WriteString("</measures>")
	return b.String()
}

func portsText(ps []flow.PortRule) string {
	var out []string
	for _, p := range ps {
		out = append(out, strconv.Itoa(int(p.Proto))+"/"+strconv.Itoa(int(p.Port)))
	}
	return strings.Join(out, " ")
}

func parsePort(s string) (flow.PortRule, bool) {
	proto, port, ok := strings.Cut(s, "/")
	n, err1 := strconv.ParseUint(proto, 10, 8)
	p, err2 := strconv.ParseUint(port, 10, 16)
	return flow.PortRule{Proto: uint8(n), Port: uint16(p)}, ok && err1 == nil && err2 == nil
}

// restriction is the side's mark for the measure on that interface.
func (sd *side) restriction(mac string, kind flow.MeasureKind) *restriction {
	if sd == nil {
		return nil
	}
	for i := range sd.doc.milder {
		if r := &sd.doc.milder[i]; r.mac == mac && r.measure.Kind == kind {
			return r
		}
	}
	return nil
}

// putRestrictions leaves, replaces or, on a side that marks lacks, removes the
// NIC's mark of that kind, and keeps all others.
func (t *target) putRestrictions(s *session, kind flow.MeasureKind, marks map[*side]restriction) error {
	var ms []metadata
	for _, sd := range t.sides() {
		old := sd.restriction(t.mac, kind)
		r, ok := marks[sd]
		if old == nil && !ok || old != nil && ok && old.equal(r) {
			continue
		}
		keep := slices.DeleteFunc(slices.Clone(sd.doc.milder), func(o restriction) bool {
			return o.mac == t.mac && o.measure.Kind == kind
		})
		if ok {
			keep = append(keep, r)
		}
		text := ""
		if len(keep) > 0 {
			text = restrictionsXML(keep)
		}
		ms = append(ms, metadata{text, sd.flags})
	}
	return setMetadata(s, t.dom, restrictPrefix, restrictURI, ms)
}
