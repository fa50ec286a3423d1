package libvirt

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/flow"
)

// How long a listing serves to find a domain in. It only says where to look:
// what is acted on is read again from the domain itself. So a burst of cuts
// reads a node of hundreds of domains once. An event of the node ends it early.
const (
	listFor = 3 * time.Second
	// aloneFor is for a MAC that nothing else confirms: a second domain with
	// the same one would not show in the first one's own XML.
	aloneFor = time.Second
)

// listAtOnce is how many domains a listing reads at a time: libvirtd takes five
// questions of one client (libvirtd.conf, max_client_requests).
const listAtOnce = 4

// finder finds domains, and remembers the last listing of them.
type finder struct {
	metadataID string
	turn       chan struct{} // one listing at a time: the others wait for it and use it

	mu      sync.Mutex
	last    *listing
	at      time.Time // when it was begun; zero: something has changed since
	changed time.Time // when something last did
}

// listing is all domains of the node at one moment.
type listing struct {
	all    []candidate
	owners map[string][]candidate // by MAC
}

func newListing(all []candidate) *listing {
	l := &listing{all: all, owners: map[string][]candidate{}}
	for _, c := range all {
		for n, i := range c.doc.ifaces {
			again := slices.ContainsFunc(c.doc.ifaces[:n], func(o iface) bool { return o.mac == i.mac })
			if i.mac != "" && !again {
				l.owners[i.mac] = append(l.owners[i.mac], c)
			}
		}
	}
	return l
}

// query is a NIC that an operation looks for. A listing that was begun after
// the operation was called tells it all that a listing of its own would.
type query struct {
	flow.NIC
	called time.Time
}

// ref is where a NIC is.
type ref struct {
	dom golibvirt.Domain
	mac string
	vds string // set when the VDS named the domain, by name, UUID or metadata
}

// find resolves a NIC to an interface of one domain of the node and reads it.
func (f *finder) find(ctx context.Context, s *session, nic flow.NIC, called time.Time) (*target, error) {
	q := query{nic, called}
	r, likely, err := f.guess(s, q)
	if err != nil {
		return nil, err
	}
	if likely {
		if t, err := f.there(s, r); t != nil || err != nil {
			return t, err
		}
	}
	if r, err = f.resolve(ctx, s, q); err != nil {
		return nil, err
	}
	return f.read(ctx, s, q, r)
}

// guess says where the NIC most probably is, with at most one question to the
// node. Only what names a domain or a MAC is guessed from, because that is
// compared again with what is read of the domain; the rest is for resolve.
func (f *finder) guess(s *session, q query) (r ref, likely bool, err error) {
	mac, err := macOf(q.NIC)
	if err != nil || mac == "" {
		return ref{}, false, err
	}
	if l, age := f.recent(); l != nil {
		r, err := f.choose(s, q.NIC, mac, f.named(q.VDS, l.all), l)
		if err == nil && (r.vds != "" || age <= aloneFor) {
			return r, true, nil
		}
	}
	dom, err := lookup(s, q.VDS)
	if err != nil || dom == nil {
		return ref{}, false, err
	}
	return ref{*dom, mac, q.VDS}, true, nil
}

// there reads the domain of a guess; nil if the NIC is not there or the domain
// is another one by now.
func (f *finder) there(s *session, r ref) (*target, error) {
	t, err := load(s, r.dom, r.mac)
	if err == nil && t != nil && t.is(r.vds, f.metadataID) {
		return t, nil
	}
	if err != nil && !golibvirt.IsNotFound(err) {
		return nil, err
	}
	f.forget()
	return nil, nil
}

// read reads the NIC where it was found, and looks again if it is not there or
// if the domain is another one by now.
func (f *finder) read(ctx context.Context, s *session, q query, r ref) (*target, error) {
	t, err := f.there(s, r)
	if t != nil || err != nil {
		return t, err
	}
	q.called = time.Now()
	again, err := f.resolve(ctx, s, q)
	if err != nil {
		return nil, err
	}
	if t, err = load(s, again.dom, again.mac); err == nil && t == nil {
		err = fail(flow.ErrConflict, "%s lost the NIC %s while it was looked at", again.dom.Name, again.mac)
	}
	return t, err
}

// macOf is the inventory's MAC as libvirt writes it; "" where it has none.
func macOf(nic flow.NIC) (string, error) {
	if nic.MAC == "" {
		return "", nil
	}
	hw, err := net.ParseMAC(nic.MAC)
	if err != nil {
		return "", fail(flow.ErrNotFound, "the inventory's MAC %q of %s is none: write it as 52:54:00:12:34:56", nic.MAC, who(nic))
	}
	return hw.String(), nil
}

// resolve says where the NIC is. The VDS names the domain (UUID, name or the id
// in its metadata) and the MAC the interface. Where the VDS names none the MAC
// decides alone, if one domain has it. Where both are there and contradict each
// other nothing is done: cutting the wrong customer is worse than cutting late.
func (f *finder) resolve(ctx context.Context, s *session, q query) (ref, error) {
	mac, err := macOf(q.NIC)
	if err != nil {
		return ref{}, err
	}
	var named *candidate
	if dom, err := lookup(s, q.VDS); err != nil {
		return ref{}, err
	} else if dom != nil {
		c, gone, err := readCandidate(s, *dom)
		if err != nil {
			return ref{}, err
		}
		if !gone {
			named = &c
		}
	}
	if named != nil && mac != "" {
		if t, err := load(s, named.dom, mac); err != nil || t != nil {
			return ref{named.dom, mac, q.VDS}, err
		}
	}
	l := &listing{}
	var byVDS []candidate
	if named == nil || mac != "" {
		if l, err = f.list(ctx, s, q.called); err != nil {
			return ref{}, err
		}
		byVDS = f.named(q.VDS, l.all)
	}
	if named != nil {
		byVDS = []candidate{*named}
	}
	return f.choose(s, q.NIC, mac, byVDS, l)
}

func (f *finder) choose(s *session, nic flow.NIC, mac string, byVDS []candidate, l *listing) (ref, error) {
	var r ref
	var err error
	if mac == "" {
		r, err = findByIP(s, nic, byVDS, l.all)
	} else {
		r, err = findByMAC(s, nic, mac, byVDS, l.owners[mac])
	}
	if len(byVDS) > 0 {
		r.vds = nic.VDS
	}
	return r, err
}

// named are the domains that the VDS names: one by name or UUID, or those with
// the id in their metadata.
func (f *finder) named(vds string, all []candidate) []candidate {
	var out []candidate
	for _, c := range all {
		if vds != "" && (c.doc.name == vds || strings.EqualFold(c.doc.uuid, vds)) {
			return []candidate{c}
		}
		if c.doc.is(vds, f.metadataID) {
			out = append(out, c)
		}
	}
	return out
}

// recent is the last listing and its age while it is young, else nil.
func (f *finder) recent() (*listing, time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if age := time.Since(f.at); age <= listFor {
		return f.last, age
	}
	return nil, 0
}

// forget says that the last listing is of the past.
func (f *finder) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.changed = time.Time{}, time.Now()
}

// list lists all domains, or waits for another operation's listing that was
// begun after called.
func (f *finder) list(ctx context.Context, s *session, called time.Time) (*listing, error) {
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the list of domains: %w", context.Cause(ctx))
	}
	f.mu.Lock()
	last, at := f.last, f.at
	f.mu.Unlock()
	if last != nil && at.After(called) {
		return last, nil
	}
	began := time.Now()
	all, err := list(s, last)
	if err != nil {
		return nil, err
	}
	l := newListing(all)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.at = l, began
	if f.changed.After(began) {
		f.at = time.Time{} // while it was being made
	}
	return l, nil
}
