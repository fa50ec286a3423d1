// Package libvirt discovers which server holds which address on a libvirt node,
// for an inventory that has nothing better.
//
// In come the node's domains as libvirtd describes them; out go entries, one
// for each NIC and source of addresses, with the source named: what the operator
// wrote (a filter's parameters, the definition) is to be believed, a lease and the
// node's neighbour table mostly, and what the guest's agent says not at all where
// it leads to an act, because a guest may name its neighbour's address.
//
// Discover does all its work in the caller's goroutine and changes nothing on
// the node. The package imports go-libvirt and no sibling; the connection comes
// from whoever has one.
package libvirt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// Source is where an address of a NIC is known from.
type Source string

// The sources, the most trustworthy first.
const (
	SourceDefinition Source = "definition" // the NIC itself and the <ip> elements in it
	SourceFilter     Source = "filter"     // the parameters IP and IPV6 of its network filter, which the node enforces
	SourceLease      Source = "lease"      // libvirt's own DHCP server
	SourceARP        Source = "arp"        // the node's neighbour table
	SourceAgent      Source = "agent"      // the guest's own word
)

// Entry is a NIC with the addresses that one source knows. A NIC has an entry
// of SourceDefinition always, with no prefixes where the definition names none.
type Entry struct {
	Prefixes   []netip.Prefix `json:"prefixes"` // single addresses, sorted
	VDS        string         `json:"vds"`      // the panel's id in the metadata, or the domain's name
	Name       string         `json:"name"`     // of the domain
	UUID       string         `json:"uuid"`
	MAC        string         `json:"mac"` // lower case
	Hypervisor string         `json:"hypervisor"`
	Source     Source         `json:"source"`
	Running    bool           `json:"running"`
	Seen       time.Time      `json:"seen"`
}

// Count is how a source did over all domains of the node.
type Count struct {
	Asked    int    `json:"asked"` // domains
	Answered int    `json:"answered"`
	Error    string `json:"error,omitempty"` // the last one
}

// Listing is what a node knows at one moment.
type Listing struct {
	Entries []Entry          `json:"entries"` // by VDS, MAC and source
	Counts  map[Source]Count `json:"counts"`
	Seen    time.Time        `json:"seen"`
}

// maxAddresses bounds what one source may say of one NIC: a guest's agent may
// list as many as it likes. A VDS with more has a prefix in the inventory.
const maxAddresses = 64

const defaultTimeout = time.Minute

// Config says what to ask the node for.
type Config struct {
	Hypervisor string // the node's name in the inventory
	// Sources to ask; empty: all but the agent. The definition is always read.
	Sources []Source
	// MetadataID is the local name of the element in a domain's <metadata>
	// that holds the panel's VDS id; empty: "id".
	MetadataID string
	Timeout    time.Duration // of one Discover; 0: 1 min
}

// Validate reports every mistake in the configuration at once.
func (c Config) Validate() error {
	var errs []error
	if c.Hypervisor == "" {
		errs = append(errs, errors.New("hypervisor: missing; it is the node's name in the inventory"))
	}
	for _, s := range c.Sources {
		if !slices.Contains(allSources, s) {
			errs = append(errs, fmt.Errorf("sources: %q is none; write definition, filter, lease, arp or agent", s))
		}
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout: %v is negative; write a duration such as 1m", c.Timeout))
	}
	return errors.Join(errs...)
}

var (
	allSources     = []Source{SourceDefinition, SourceFilter, SourceLease, SourceARP, SourceAgent}
	defaultSources = allSources[:4]
)

// Node gives a connection to the daemon for the length of fn, closes it when ctx
// ends, and may call fn again if the connection turns out dead.
type Node interface {
	Do(ctx context.Context, fn func(*golibvirt.Libvirt) error) error
}

// Deps are what a Discoverer works with.
type Deps struct {
	Node Node
	Now  func() time.Time // nil: time.Now
}

// Discoverer lists one node. It is safe for concurrent use.
type Discoverer struct {
	cfg  Config
	deps Deps
}

// New returns a Discoverer. It does no I/O.
func New(cfg Config, deps Deps) *Discoverer {
	if len(cfg.Sources) == 0 {
		cfg.Sources = defaultSources
	}
	if cfg.MetadataID == "" {
		cfg.MetadataID = "id"
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &Discoverer{cfg, deps}
}

// Discover reads all domains of the node, running or not. An error means that
// the list is not complete and must not replace an earlier one; a source that
// does not answer for some domains shows in Counts only.
func (d *Discoverer) Discover(ctx context.Context) (Listing, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	var out Listing
	err := d.deps.Node.Do(ctx, func(l *golibvirt.Libvirt) error {
		out = Listing{Counts: map[Source]Count{}, Seen: d.deps.Now().UTC()} // it may be the second try
		doms, _, err := l.ConnectListAllDomains(1, golibvirt.ConnectListDomainsActive|golibvirt.ConnectListDomainsInactive)
		if err != nil {
			return fmt.Errorf("list domains: %w", err)
		}
		for _, dom := range doms {
			if err := d.domain(l, dom, &out); err != nil {
				return fmt.Errorf("%s: %w", dom.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return Listing{}, err
	}
	slices.SortFunc(out.Entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.VDS, b.VDS), cmp.Compare(a.Name, b.Name), cmp.Compare(a.MAC, b.MAC),
			cmp.Compare(slices.Index(allSources, a.Source), slices.Index(allSources, b.Source)))
	})
	return out, nil
}

func (d *Discoverer) domain(l *golibvirt.Libvirt, dom golibvirt.Domain, out *Listing) error {
	raw, err := l.DomainGetXMLDesc(dom, 0)
	if golibvirt.IsNotFound(err) {
		return nil // undefined or migrated away since the list was made
	}
	if err != nil {
		return fmt.Errorf("read the XML: %w", err)
	}
	x, err := parse(raw, d.cfg.MetadataID)
	if err != nil {
		return err
	}
	add := func(n nic, s Source, addrs []netip.Addr) {
		out.Entries = append(out.Entries, Entry{
			Prefixes: prefixes(addrs), VDS: x.vds(), Name: x.Name, UUID: x.UUID, MAC: n.mac,
			Hypervisor: d.cfg.Hypervisor, Source: s, Running: x.running(), Seen: out.Seen,
		})
	}
	for _, n := range x.nics {
		add(n, SourceDefinition, n.defined)
		if len(n.filter) > 0 && slices.Contains(d.cfg.Sources, SourceFilter) {
			add(n, SourceFilter, n.filter)
		}
	}
	if !x.running() {
		return nil // nobody else knows of it
	}
	for _, s := range d.cfg.Sources {
		flag, ok := asked[s]
		if !ok || len(x.nics) == 0 || s == SourceAgent && !x.agent {
			continue
		}
		ifs, err := l.DomainInterfaceAddresses(dom, uint32(flag), 0)
		if err != nil && !isReply(err) {
			return fmt.Errorf("ask for its addresses by %s: %w", s, err)
		}
		out.count(s, err)
		for _, n := range x.nics {
			if addrs := held(ifs, n.mac); len(addrs) > 0 {
				add(n, s, addrs)
			}
		}
	}
	return nil
}

// asked are the sources that libvirt is asked for one by one.
var asked = map[Source]golibvirt.DomainInterfaceAddressesSource{
	SourceLease: golibvirt.DomainInterfaceAddressesSrcLease,
	SourceARP:   golibvirt.DomainInterfaceAddressesSrcArp,
	SourceAgent: golibvirt.DomainInterfaceAddressesSrcAgent,
}

func (l *Listing) count(s Source, err error) {
	c := l.Counts[s]
	c.Asked++
	if err == nil {
		c.Answered++
	} else {
		c.Error = err.Error()
	}
	l.Counts[s] = c
}

// isReply reports whether the daemon answered.
func isReply(err error) bool {
	var le golibvirt.Error
	return errors.As(err, &le)
}

// held are the addresses that libvirt's answer gives to the MAC.
func held(ifs []golibvirt.DomainInterface, mac string) []netip.Addr {
	var out []netip.Addr
	for _, i := range ifs {
		if len(i.Hwaddr) == 0 || !strings.EqualFold(i.Hwaddr[0], mac) {
			continue
		}
		for _, a := range i.Addrs {
			out = appendAddr(out, a.Addr)
		}
	}
	return out
}

// prefixes are the addresses, each as its own prefix, without doubles.
func prefixes(addrs []netip.Addr) []netip.Prefix {
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	out := make([]netip.Prefix, 0, len(addrs))
	for _, a := range addrs[:min(len(addrs), maxAddresses)] {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

// appendAddr appends what is a host's own address; others are of no use in an
// inventory.
func appendAddr(to []netip.Addr, s string) []netip.Addr {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil || a.Zone() != "" {
		return to
	}
	a = a.Unmap()
	if a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return to
	}
	return append(to, a)
}
