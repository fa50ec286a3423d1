package libvirt

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/flow"
)

// listFor is how long a list of all domains serves to find one in. It only
// says where to look: what is acted on is read again from the domain itself. A
// burst of cuts so reads a node of hundreds of domains once.
const listFor = 3 * time.Second

// finder finds domains, and remembers the last list of them.
type finder struct {
	metadataID string
	turn       chan struct{} // one list at a time: the others wait for it and use it

	mu  sync.Mutex
	all []candidate
	at  time.Time
}

// ref is where a NIC is.
type ref struct {
	dom golibvirt.Domain
	mac string
	vds string // set when the VDS named the domain, by name, UUID or metadata
}

// find resolves a NIC to an interface of one domain of the node and reads it.
func (f *finder) find(ctx context.Context, s *session, nic flow.NIC) (*target, error) {
	r, err := f.resolve(ctx, s, nic)
	if err != nil {
		return nil, err
	}
	return f.read(ctx, s, nic, r)
}

// read reads the NIC where it was found, and looks again if it is not there or
// if the domain is another one by now.
func (f *finder) read(ctx context.Context, s *session, nic flow.NIC, r ref) (*target, error) {
	t, err := load(s, r.dom, r.mac)
	if err == nil && t != nil && t.is(r.vds, f.metadataID) {
		return t, nil
	}
	if err != nil && !golibvirt.IsNotFound(err) {
		return nil, err
	}
	f.forget()
	again, err := f.resolve(ctx, s, nic)
	if err != nil {
		return nil, err
	}
	if t, err = load(s, again.dom, again.mac); err == nil && t == nil {
		err = fail(flow.ErrConflict, "%s lost the NIC %s while it was looked at", again.dom.Name, again.mac)
	}
	return t, err
}

// resolve says where the NIC is. The VDS names the domain (UUID, name or the id
// in its metadata) and the MAC the interface. Where the VDS names none the MAC
// decides alone, if one domain has it. Where both are there and contradict each
// other nothing is done: cutting the wrong customer is worse than cutting late.
func (f *finder) resolve(ctx context.Context, s *session, nic flow.NIC) (ref, error) {
	var mac string
	if nic.MAC != "" {
		hw, err := net.ParseMAC(nic.MAC)
		if err != nil {
			return ref{}, fail(flow.ErrNotFound, "the inventory's MAC %q of %s is none: write it as 52:54:00:12:34:56", nic.MAC, who(nic))
		}
		mac = hw.String()
	}
	if all := f.recent(); all != nil && mac != "" {
		// Only VDS and MAC together are sure enough: both are compared again
		// with what is read of the domain. All else is asked of the node.
		if r, err := f.choose(s, nic, mac, f.named(nic.VDS, all), all); err == nil && r.vds != "" {
			return r, nil
		}
	}
	named, err := lookup(s, nic.VDS)
	if err != nil {
		return ref{}, err
	}
	if named != nil && mac != "" {
		if t, err := load(s, named.dom, mac); err != nil || t != nil {
			return ref{named.dom, mac, nic.VDS}, err
		}
	}
	var all, byVDS []candidate
	if named == nil || mac != "" {
		if all, err = f.list(ctx, s); err != nil {
			return ref{}, err
		}
		byVDS = f.named(nic.VDS, all)
	}
	if named != nil {
		byVDS = []candidate{*named}
	}
	return f.choose(s, nic, mac, byVDS, all)
}

func (f *finder) choose(s *session, nic flow.NIC, mac string, byVDS, all []candidate) (ref, error) {
	var r ref
	var err error
	if mac == "" {
		r, err = findByIP(s, nic, byVDS, all)
	} else {
		r, err = findByMAC(s, nic, mac, byVDS, all)
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

// recent is the last list while it is young, else nil.
func (f *finder) recent() []candidate {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.at) > listFor {
		f.all = nil
	}
	return f.all
}

func (f *finder) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all, f.at = nil, time.Time{}
}

// list lists all domains, or waits for another operation's list that began
// after this call.
func (f *finder) list(ctx context.Context, s *session) ([]candidate, error) {
	called := time.Now()
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the list of domains: %w", context.Cause(ctx))
	}
	f.mu.Lock()
	all, at := f.all, f.at
	f.mu.Unlock()
	if all != nil && at.After(called) {
		return all, nil
	}
	began := time.Now()
	all, err := list(s)
	if err == nil {
		f.mu.Lock()
		f.all, f.at = all, began
		f.mu.Unlock()
	}
	return all, err
}
