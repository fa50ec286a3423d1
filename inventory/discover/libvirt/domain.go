package libvirt

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// domain is what we read of a domain's XML.
type domain struct {
	Name, UUID string
	id         string // set only while it is running
	ids        []string
	nics       []nic
	agent      bool // a guest agent is connected
}

type nic struct {
	mac             string
	defined, filter []netip.Addr
}

func (d *domain) running() bool { return d.id != "" }

// vds is the panel's id where the metadata has exactly one, else the name.
func (d *domain) vds() string {
	if len(d.ids) == 1 {
		return d.ids[0]
	}
	return d.Name
}

const ifacePath = "domain/devices/interface"

// parse reads the domain's XML; metadataID is the local name of the element in
// its metadata with the panel's id.
func parse(raw, metadataID string) (*domain, error) {
	x := &domain{}
	d := xml.NewDecoder(strings.NewReader(raw))
	var path []string
	var text strings.Builder
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return x, nil
		}
		if err != nil {
			return nil, fmt.Errorf("parse the domain's XML: %w", err)
		}
		switch t := tok.(type) {
		case xml.StartElement:
			path = append(path, t.Name.Local)
			text.Reset()
			x.start(strings.Join(path, "/"), t)
		case xml.CharData:
			text.Write(t)
		case xml.EndElement:
			x.stop(path, strings.TrimSpace(text.String()), metadataID)
			path = path[:len(path)-1]
			text.Reset()
		}
	}
}

func (d *domain) start(path string, t xml.StartElement) {
	switch path {
	case "domain":
		d.id = attr(t, "id")
		return
	case ifacePath:
		d.nics = append(d.nics, nic{})
		return
	case "domain/devices/channel/target":
		d.agent = d.agent || attr(t, "name") == "org.qemu.guest_agent.0" && attr(t, "state") == "connected"
		return
	}
	if !strings.HasPrefix(path, ifacePath+"/") {
		return
	}
	n := &d.nics[len(d.nics)-1]
	switch path[len(ifacePath)+1:] {
	case "mac":
		n.mac = strings.ToLower(attr(t, "address"))
	case "ip":
		n.defined = appendAddr(n.defined, attr(t, "address"))
	case "filterref/parameter":
		if p := attr(t, "name"); p == "IP" || p == "IPV6" {
			n.filter = appendAddr(n.filter, attr(t, "value"))
		}
	}
}

func (d *domain) stop(path []string, text, metadataID string) {
	switch {
	case len(path) == 2 && path[1] == "name":
		d.Name = text
	case len(path) == 2 && path[1] == "uuid":
		d.UUID = text
	case len(path) > 2 && path[1] == "metadata" && path[len(path)-1] == metadataID && text != "":
		d.ids = append(d.ids, text)
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
