package libvirt

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// document is one domain XML as libvirt printed it, with the places of what we
// look at. The text itself stays as it is, so that whatever we do not know of
// (filters, bandwidth, driver options) goes back byte for byte.
type document struct {
	raw    string
	name   string
	uuid   string
	id     string              // libvirt gives it one only while it runs
	ids    map[string][]string // leaf elements in <metadata>: local name → texts
	ifaces []iface
	cuts   []cut         // our marks
	milder []restriction // and those of milder measures
}

// iface is one <interface> element.
type iface struct {
	span
	inner   int // where its end tag begins
	kind    string
	mac     string // lower case
	dev     string
	network string // of type network: its name
	port    string // type of its <virtualport>
	link    link
	ips     []netip.Addr // addresses that the definition ties to it

	linkAt, filterAt, bandwidthAt span // of the child of that name; empty when it has none
	filterIn                      span // of what is inside of <filterref>
	filter                        string
	inbound                       span // of <inbound> in <bandwidth>
	outbound                      uint64
}

// span is a piece of a document's text.
type span struct{ start, end int }

// link is the state attribute of <link>.
type link string

// The states. An interface without <link> is up; that is kept apart so that a
// restore leaves exactly what was there.
const (
	linkAbsent link = "default"
	linkUp     link = "up"
	linkDown   link = "down"
	linkNone   link = "none" // no such interface there, or the machine does not run
)

func parseDocument(raw string) (*document, error) {
	p := docParser{doc: &document{raw: raw, ids: map[string][]string{}}}
	d := xml.NewDecoder(strings.NewReader(raw))
	for {
		at := int(d.InputOffset())
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return p.doc, nil
		}
		if err != nil {
			return nil, fmt.Errorf("parse the domain's XML: %w", err)
		}
		switch t := tok.(type) {
		case xml.StartElement:
			p.start(t, at, int(d.InputOffset()))
		case xml.CharData:
			p.text.Write(t)
		case xml.EndElement:
			p.stop(at, int(d.InputOffset()))
		}
	}
}

type docParser struct {
	doc  *document
	path []string
	text strings.Builder
	ours string // the namespace of our own metadata element, while inside of one
}

const ifacePath = "domain/devices/interface"

func (p *docParser) start(t xml.StartElement, at, after int) {
	p.path = append(p.path, t.Name.Local)
	p.text.Reset()
	path := strings.Join(p.path, "/")
	inMetadata := len(p.path) > 2 && p.path[1] == "metadata"
	switch {
	case inMetadata && len(p.path) == 3:
		p.ours = t.Name.Space
	case inMetadata && len(p.path) == 4 && p.ours == metadataURI:
		p.doc.cuts = append(p.doc.cuts, cutFromXML(t))
	case inMetadata && len(p.path) == 4 && p.ours == restrictURI:
		p.doc.milder = append(p.doc.milder, restrictionFromXML(t))
	case len(p.path) == 1:
		p.doc.id = attr(t, "id")
	case path == ifacePath:
		p.doc.ifaces = append(p.doc.ifaces, iface{span: span{start: at}, kind: attr(t, "type"), link: linkAbsent})
	case strings.HasPrefix(path, ifacePath+"/"):
		p.child(t, path[len(ifacePath)+1:], at, after)
	}
}

func (p *docParser) child(t xml.StartElement, path string, at, after int) {
	i := &p.doc.ifaces[len(p.doc.ifaces)-1]
	switch path {
	case "mac":
		i.mac = strings.ToLower(attr(t, "address"))
	case "target":
		i.dev = attr(t, "dev")
	case "source":
		i.network = attr(t, "network")
	case "virtualport":
		i.port = attr(t, "type")
	case "link":
		i.linkAt.start = at
		i.link = link(attr(t, "state"))
	case "ip":
		i.addIP(attr(t, "address"))
	case "filterref":
		i.filterAt.start, i.filterIn.start, i.filter = at, after, attr(t, "filter")
	case "filterref/parameter":
		if n := attr(t, "name"); n == "IP" || n == "IPV6" {
			i.addIP(attr(t, "value"))
		}
	case "bandwidth":
		i.bandwidthAt.start = at
	case "bandwidth/inbound":
		i.inbound.start = at
	case "bandwidth/outbound":
		i.outbound, _ = strconv.ParseUint(attr(t, "average"), 10, 64)
	}
}

func (i *iface) addIP(s string) {
	if a, err := netip.ParseAddr(s); err == nil {
		i.ips = append(i.ips, a.Unmap())
	}
}

func (p *docParser) stop(at, after int) {
	path := strings.Join(p.path, "/")
	text := strings.TrimSpace(p.text.String())
	switch {
	case path == ifacePath:
		i := &p.doc.ifaces[len(p.doc.ifaces)-1]
		i.inner, i.end = at, after
	case strings.HasPrefix(path, ifacePath+"/"):
		p.doc.ifaces[len(p.doc.ifaces)-1].close(path[len(ifacePath)+1:], at, after)
	case path == "domain/name":
		p.doc.name = text
	case path == "domain/uuid":
		p.doc.uuid = text
	case len(p.path) > 2 && p.path[1] == "metadata" && text != "":
		leaf := p.path[len(p.path)-1]
		p.doc.ids[leaf] = append(p.doc.ids[leaf], text)
	}
	p.path = p.path[:len(p.path)-1]
	p.text.Reset()
}

func (i *iface) close(path string, at, after int) {
	switch path {
	case "link":
		i.linkAt.end = after
	case "filterref":
		i.filterAt.end, i.filterIn.end = after, at
	case "bandwidth":
		i.bandwidthAt.end = after
	case "bandwidth/inbound":
		i.inbound.end = after
	}
}

func attr(t xml.StartElement, name string) string {
	for _, a := range t.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// withLink is the interface's XML with nothing but the link's state changed.
func (d *document) withLink(i iface, l link) string {
	el := "<link state='" + string(l) + "'/>"
	if l == linkAbsent {
		el = ""
	}
	return d.with(i, i.linkAt, el)
}

// with is the interface's XML with nothing but one child changed: el in its
// place, or as the last one where there is none yet.
func (d *document) with(i iface, child span, el string) string {
	if child.end <= child.start {
		child = span{i.inner, i.inner}
	}
	return d.raw[i.start:child.start] + el + d.raw[child.end:i.end]
}

func (d *document) text(s span) string { return d.raw[s.start:s.end] }

// running reports whether this is the XML of a running domain. It says so of
// the very moment that it describes, which a question of its own would not.
func (d *document) running() bool { return d.id != "" }

// byMAC returns the interfaces with that MAC.
func (d *document) byMAC(mac string) []iface {
	var out []iface
	for _, i := range d.ifaces {
		if i.mac == mac {
			out = append(out, i)
		}
	}
	return out
}

// is reports whether vds names this domain.
func (d *document) is(vds, metadataID string) bool {
	if vds == "" {
		return false
	}
	if d.name == vds || strings.EqualFold(d.uuid, vds) {
		return true
	}
	for _, id := range d.ids[metadataID] {
		if id == vds {
			return true
		}
	}
	return false
}
