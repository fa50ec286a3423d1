package libvirt

import (
	"context"
	"fmt"
	"slices"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/flow"
)

// ourNamespaces is what every mark of ours has in its domain's XML.
const ourNamespaces = "urn:flowcordon:"

// Marked lists the NICs of the node's domains that carry a mark of ours. Their
// VDS is the id that the panel wrote to the domain's metadata, or the domain's
// name; their MAC is what they are to be told apart by. On the way, filters of
// ours that nothing refers to are removed from the node. Its time is ctx's; the
// configured timeout is that of each domain. On an error what was read is given too.
func (a *Adapter) Marked(ctx context.Context) ([]flow.MarkedNIC, error) {
	var out []flow.MarkedNIC
	err := a.parts(ctx, "list", func(s *session, next func()) error {
		out = nil // it may be the second try
		doms, _, err := s.l.ConnectListAllDomains(1, allDomains)
		if err != nil {
			return fmt.Errorf("list domains: %w", err)
		}
		for _, dom := range doms {
			next()
			nics, err := a.markedOf(s, dom)
			if golibvirt.IsNotFound(err) {
				continue // undefined or migrated away since the list was made
			}
			if err != nil {
				return err
			}
			out = append(out, nics...)
		}
		next()
		a.sweep(s)
		return nil
	})
	return out, err
}

func (a *Adapter) markedOf(s *session, dom golibvirt.Domain) ([]flow.MarkedNIC, error) {
	var out []flow.MarkedNIC
	var macs []string
	for _, xf := range []golibvirt.DomainXMLFlags{0, golibvirt.DomainXMLInactive} {
		raw, err := s.l.DomainGetXMLDesc(dom, xf)
		if err != nil {
			return nil, fmt.Errorf("read the XML of %s: %w", dom.Name, err)
		}
		if !strings.Contains(raw, ourNamespaces) {
			continue
		}
		doc, err := parseDocument(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dom.Name, err)
		}
		for _, mac := range doc.marked() {
			if slices.Contains(macs, mac) {
				continue
			}
			macs = append(macs, mac)
			t, err := load(s, dom, mac)
			if err != nil {
				return nil, err
			}
			if t == nil {
				continue // a NIC that is no more: a server that was rebuilt
			}
			nic := flow.NIC{VDS: doc.vds(a.cfg.metadataID()), Hypervisor: a.cfg.Name, MAC: mac}
			if i := doc.byMAC(mac); len(i) == 1 && len(i[0].ips) > 0 {
				nic.IP = i[0].ips[0]
			}
			out = append(out, flow.MarkedNIC{NIC: nic, Status: t.status()})
		}
	}
	return out, nil
}

// marked are the MACs that our marks in this definition are about.
func (d *document) marked() []string {
	var out []string
	for _, c := range d.cuts {
		out = append(out, c.mac)
	}
	for _, r := range d.milder {
		out = append(out, r.mac)
	}
	return out
}

// vds is what the inventory most probably calls the domain.
func (d *document) vds(metadataID string) string {
	if ids := d.ids[metadataID]; len(ids) == 1 {
		return ids[0]
	}
	return d.name
}

// aliases are all that the inventory may call the domain.
func (d *document) aliases(metadataID string) []string {
	return append([]string{d.name, d.uuid}, d.ids[metadataID]...)
}
