package libvirt

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/flow"
	"golang.org/x/sync/errgroup"
)

const allDomains = golibvirt.ConnectListDomainsActive | golibvirt.ConnectListDomainsInactive

// candidate is a domain of the node with its current XML.
type candidate struct {
	dom golibvirt.Domain
	doc *document
}

func who(nic flow.NIC) string {
	if nic.VDS == "" {
		return nic.IP.String()
	}
	return nic.VDS
}

// lookup asks for the domain by UUID or by name; nil if there is none.
func lookup(s *session, vds string) (*golibvirt.Domain, error) {
	if vds == "" {
		return nil, nil
	}
	var dom golibvirt.Domain
	var err error
	if id, derr := hex.DecodeString(strings.ReplaceAll(vds, "-", "")); derr == nil && len(id) == golibvirt.UUIDBuflen {
		dom, err = s.l.DomainLookupByUUID(golibvirt.UUID(id))
	} else {
		dom, err = s.l.DomainLookupByName(vds)
	}
	if golibvirt.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", vds, err)
	}
	return &dom, nil
}

// readCandidate reads the domain; gone: undefined or migrated away since it was
// asked for. Of known, whose text is the same, nothing has to be parsed again.
func readCandidate(s *session, dom golibvirt.Domain, known ...candidate) (c candidate, gone bool, err error) {
	raw, err := s.l.DomainGetXMLDesc(dom, 0)
	if golibvirt.IsNotFound(err) {
		return c, true, nil
	}
	if err != nil {
		return c, false, fmt.Errorf("read the XML of %s: %w", dom.Name, err)
	}
	for _, k := range known {
		if k.doc.raw == raw {
			return candidate{dom, k.doc}, false, nil
		}
	}
	doc, err := parseDocument(raw)
	if err != nil {
		return c, false, fmt.Errorf("%s: %w", dom.Name, err)
	}
	return candidate{dom, doc}, false, nil
}

// list reads all domains of the node, running or not. An earlier listing, or
// nil, saves parsing what has not changed.
func list(s *session, before *listing) ([]candidate, error) {
	doms, _, err := s.l.ConnectListAllDomains(1, allDomains)
	if err != nil {
		return nil, fmt.Errorf("list domains: %w", err)
	}
	known := map[golibvirt.UUID][]candidate{}
	if before != nil {
		for _, c := range before.all {
			known[c.dom.UUID] = []candidate{c}
		}
	}
	all := make([]*candidate, len(doms))
	var g errgroup.Group
	g.SetLimit(listAtOnce)
	for n, d := range doms {
		g.Go(func() error {
			c, gone, err := readCandidate(s, d, known[d.UUID]...)
			if err == nil && !gone {
				all[n] = &c
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := make([]candidate, 0, len(doms))
	for _, c := range all {
		if c != nil {
			out = append(out, *c)
		}
	}
	return out, nil
}

// findByMAC chooses among the domains that have the MAC.
func findByMAC(s *session, nic flow.NIC, mac string, byVDS, owners []candidate) (ref, error) {
	hits := owners
	if len(byVDS) > 0 {
		hits = nil
		for _, o := range owners {
			if slices.ContainsFunc(byVDS, func(c candidate) bool { return c.dom.UUID == o.dom.UUID }) {
				hits = append(hits, o)
			}
		}
	}
	switch {
	case len(hits) == 1:
		return ref{dom: hits[0].dom, mac: mac}, nil
	case len(hits) > 1:
		return ref{}, fail(flow.ErrConflict, "MAC %s of %s is ambiguous: %s have it; name the domain in the inventory's vds",
			mac, who(nic), names(hits))
	case len(owners) > 0:
		return ref{}, fail(flow.ErrConflict, "the inventory says that MAC %s is of %s, but here it is of %s; put the inventory right",
			mac, names(byVDS), names(owners))
	case len(byVDS) > 0:
		return ref{}, fail(flow.ErrNotFound, "%s has no NIC %s; it has %s", names(byVDS), mac, macs(byVDS))
	}
	return ref{}, fail(flow.ErrNotFound, "neither a domain %q nor a NIC %s on node %s: migrated or deleted?", nic.VDS, mac, s.host)
}

// findByIP is for an inventory without MACs. It only takes what the operator or
// the node says of the address: the domain's single NIC, an address in its XML,
// a DHCP lease or the node's ARP table. What the guest says of itself (its
// agent) could name anybody's address.
func findByIP(s *session, nic flow.NIC, byVDS, all []candidate) (ref, error) {
	in := byVDS
	if len(in) == 0 {
		in = all
	}
	if len(byVDS) == 1 && len(byVDS[0].doc.ifaces) == 1 {
		return ref{dom: byVDS[0].dom, mac: byVDS[0].doc.ifaces[0].mac}, nil
	}
	ip := nic.IP.Unmap()
	type hit struct {
		c   candidate
		mac string
	}
	var hits []hit
	for _, c := range in {
		for _, i := range c.doc.ifaces {
			if slices.Contains(i.ips, ip) {
				hits = append(hits, hit{c, i.mac})
			}
		}
	}
	for _, src := range []golibvirt.DomainInterfaceAddressesSource{
		golibvirt.DomainInterfaceAddressesSrcLease, golibvirt.DomainInterfaceAddressesSrcArp,
	} {
		if len(hits) > 0 {
			break
		}
		for _, c := range in {
			for _, mac := range seen(s, c.dom, ip, src) {
				if len(c.doc.byMAC(mac)) > 0 {
					hits = append(hits, hit{c, mac})
				}
			}
		}
	}
	switch len(hits) {
	case 1:
		return ref{dom: hits[0].c.dom, mac: hits[0].mac}, nil
	case 0:
		return ref{}, fail(flow.ErrNotFound, "no NIC of %s is known to hold %s: write it to the inventory's entry as macs: [\"…\"]; %s",
			who(nic), ip, macs(byVDS))
	}
	var cs []candidate
	for _, h := range hits {
		cs = append(cs, h.c)
	}
	return ref{}, fail(flow.ErrConflict, "%s is ambiguous: NICs of %s hold it; write macs to the inventory's entry", ip, names(cs))
}

// seen lists the MACs of the domain that hold ip by one of the node's sources.
// A source that cannot answer (the domain is off) has seen nothing.
func seen(s *session, dom golibvirt.Domain, ip netip.Addr, src golibvirt.DomainInterfaceAddressesSource) []string {
	ifs, err := s.l.DomainInterfaceAddresses(dom, uint32(src), 0)
	if err != nil {
		return nil
	}
	var out []string
	for _, i := range ifs {
		for _, a := range i.Addrs {
			if p, err := netip.ParseAddr(a.Addr); err == nil && p.Unmap() == ip && len(i.Hwaddr) > 0 {
				out = append(out, strings.ToLower(i.Hwaddr[0]))
			}
		}
	}
	return out
}

func names(cs []candidate) string {
	var out []string
	for _, c := range cs {
		if !slices.Contains(out, c.dom.Name) {
			out = append(out, c.dom.Name)
		}
	}
	return strings.Join(out, ", ")
}

func macs(cs []candidate) string {
	var out []string
	for _, c := range cs {
		for _, i := range c.doc.ifaces {
			out = append(out, i.mac)
		}
	}
	if len(out) == 0 {
		return "no NIC"
	}
	return "its NICs are " + strings.Join(out, ", ")
}
