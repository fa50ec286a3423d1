package libvirt

import (
	"bytes"
	"encoding/xml"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/flow"
)

const (
	// metadataURI is the namespace of our element in a domain's <metadata>:
	//
	//	<flowcordon:cuts xmlns:flowcordon="urn:flowcordon:cut:1">
	//	  <nic mac="…" incident="…" key="…" by="…" reason="…" at="…"
	//	       live="up|down|default|none" config="…" running="true|false"/>
	//	</flowcordon:cuts>
	//
	// one <nic> for each interface that we cut; live, config and running are
	// what was found before the cut.
	metadataURI    = "urn:flowcordon:cut:1"
	metadataPrefix = "flowcordon"

	// maxReason keeps the mark readable in virsh dumpxml.
	maxReason = 300
)

// cut is a mark with the state that a restore goes back to.
type cut struct {
	flow.Mark
	mac          string
	live, config link
	running      bool
}

func cutFromXML(t xml.StartElement) cut {
	at, _ := time.Parse(time.RFC3339Nano, attr(t, "at"))
	return cut{
		Mark: flow.Mark{
			Incident: attr(t, "incident"), Key: attr(t, "key"), By: attr(t, "by"), Reason: attr(t, "reason"), At: at,
		},
		mac:  strings.ToLower(attr(t, "mac")),
		live: link(attr(t, "live")), config: link(attr(t, "config")),
		running: attr(t, "running") == "true",
	}
}

func (c cut) equal(o cut) bool {
	return c.mac == o.mac && c.live == o.live && c.config == o.config && c.running == o.running && sameMark(c.Mark, o.Mark)
}

// before is the state that was found before the cut.
func (c cut) before() flow.NICStatus {
	return status(c.live, c.config, c.running)
}

func cutsXML(cuts []cut) string {
	var b bytes.Buffer
	b.WriteString("<cuts>")
	for _, c := range cuts {
		writeNIC(&b, [][2]string{
			{"mac", c.mac},
			{"incident", c.Incident},
			{"key", c.Key},
			{"by", c.By},
			{"reason", c.Reason},
			{"at", c.At.UTC().Format(time.RFC3339Nano)},
			{"live", string(c.live)},
			{"config", string(c.config)},
			{"running", strconv.FormatBool(c.running)},
		})
	}
	b.WriteString("</cuts>")
	return b.String()
}

// writeNIC writes one <nic> element; empty attributes are left out.
func writeNIC(b *bytes.Buffer, attrs [][2]string) {
	b.WriteString("<nic")
	for _, a := range attrs {
		if a[1] == "" {
			continue
		}
		b.WriteString(" " + a[0] + `="`)
		_ = xml.EscapeText(b, []byte(a[1])) // a bytes.Buffer does not fail
		b.WriteString(`"`)
	}
	b.WriteString("/>")
}

func shorten(s string) string {
	if len(s) <= maxReason {
		return s
	}
	n := maxReason
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// putCut leaves, replaces or, with c nil, removes the NIC's mark, and keeps
// those of other interfaces.
func (t *target) putCut(s *session, c *cut) error {
	var ms []metadata
	for _, sd := range t.sides() {
		var old *cut
		var keep []cut
		for _, o := range sd.doc.cuts {
			if o.mac != t.mac {
				keep = append(keep, o)
			} else if old == nil {
				old = &o
			}
		}
		if old == nil && c == nil || old != nil && c != nil && old.equal(*c) {
			continue
		}
		if c != nil {
			keep = append(keep, *c)
		}
		text := ""
		if len(keep) > 0 {
			text = cutsXML(keep)
		}
		ms = append(ms, metadata{text, sd.flags})
	}
	return setMetadata(s, t.dom, metadataPrefix, metadataURI, ms)
}

// metadata is the text of one of our elements in one of the domain's
// definitions; empty: it goes.
type metadata struct {
	text  string
	where golibvirt.DomainModificationImpact
}

// setMetadata writes an element to both definitions in one call where it is the
// same.
func setMetadata(s *session, dom golibvirt.Domain, prefix, uri string, ms []metadata) error {
	if len(ms) == 2 && ms[0].text == ms[1].text {
		ms = []metadata{{ms[0].text, ms[0].where | ms[1].where}}
	}
	for _, m := range ms {
		var text golibvirt.OptString // nil removes the element
		if m.text != "" {
			text = golibvirt.OptString{m.text}
		}
		if err := s.l.DomainSetMetadata(dom, int32(golibvirt.DomainMetadataElement), text,
			golibvirt.OptString{prefix}, golibvirt.OptString{uri}, m.where); err != nil {
			return err
		}
	}
	return nil
}
