package libvirt

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// document is one domain XML as libvirt printed it, with the places of what we
// look at. The text itself stays as it is, so that whatever we do not know of
// (filters, bandwidth, driver options) goes back byte for byte.
type document struct {
	raw    string
	name   string
	uuid   string
	ids    map[string][]string // leaf elements in <metadata>: local name → texts
	ifaces []iface
	cuts   []cut // our marks
}

// iface is one <interface> element.
type iface struct {
	start, end         int // of the element in raw
	inner              int // where its end tag begins
	linkStart, linkEnd int // of its <link> child; equal when it has none
	kind               string
	mac                string // lower case
	dev                string
	link               link
	ips                []netip.Addr // addresses that the definition ties to it
}

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
			p.start(t, at)
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
	in   bool // inside our own metadata element
}

const ifacePath = "domain/devices/interface"

func (p *docParser) start(t xml.StartElement, at int) {
	p.path = append(p.path, t.Name.Local)
	p.text.Reset()
	path := strings.Join(p.path, "/")
	switch {
	case len(p.path) == 3 && p.path[1] == "metadata":
		p.in = t.Name.Space == metadataURI
	case p.in && len(p.path) == 4 && p.path[1] == "metadata":
		p.doc.cuts = append(p.doc.cuts, cutFromXML(t))
	case path == ifacePath:
		p.doc.ifaces = append(p.doc.ifaces, iface{start: at, kind: attr(t, "type"), link: linkAbsent})
	case strings.HasPrefix(path, ifacePath+"/"):
		p.child(t, path[len(ifacePath)+1:], at)
	}
}

func (p *docParser) child(t xml.StartElement, path string, at int) {
	i := &p.doc.ifaces[len(p.doc.ifaces)-1]
	switch path {
	case "mac":
		i.mac = strings.ToLower(attr(t, "address"))
	case "target":
		i.dev = attr(t, "dev")
	case "link":
		i.linkStart = at
		i.link = link(attr(t, "state"))
	case "ip":
		i.addIP(attr(t, "address"))
	case "filterref/parameter":
		if n := attr(t, "name"); n == "IP" || n == "IPV6" {
			i.addIP(attr(t, "value"))
		}
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
	case path == ifacePath+"/link":
		p.doc.ifaces[len(p.doc.ifaces)-1].linkEnd = after
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
	if i.linkEnd > i.linkStart {
		return d.raw[i.start:i.linkStart] + el + d.raw[i.linkEnd:i.end]
	}
	return d.raw[i.start:i.inner] + el + d.raw[i.inner:i.end]
}

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
