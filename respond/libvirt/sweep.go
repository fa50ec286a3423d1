package libvirt

import (
	"fmt"
	"slices"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/flow"
	"go.uber.org/zap"
)

// sweep removes what is left over of filters, unless one is being made just now.
// A failure only leaves them for the next time.
func (a *Adapter) sweep(s *session) {
	if !a.sweeping.TryLock() {
		return
	}
	defer a.sweeping.Unlock()
	if err := sweep(s); err != nil {
		a.log.Warn("filters left over", zap.Error(err))
	}
}

// sweep removes the filters of ours that nothing refers to any more. One that
// is only referred to where no mark of ours is (a saved state, a snapshot, a
// clone made during the block) loses its rules instead: without the filter
// such a machine could not be started any more.
func sweep(s *session) error {
	all, _, err := s.l.ConnectListAllNwfilters(1, 0)
	if err != nil {
		return fmt.Errorf("list filters: %w", err)
	}
	all = slices.DeleteFunc(all, func(f golibvirt.Nwfilter) bool { return !isOurs(f.Name) })
	if len(all) == 0 {
		return nil
	}
	refs, err := references(s)
	if err != nil {
		return err
	}
	for _, f := range all {
		switch refs.of(f.Name) {
		case unused:
			err = s.l.NwfilterUndefine(f)
		case unmarked:
			err = neutralize(s, f.Name)
		}
		if err != nil {
			return fmt.Errorf("remove the filter %s: %w", f.Name, err)
		}
	}
	return nil
}

type use int

const (
	unused use = iota
	unmarked
	marked
)

// refTexts are all XML that may refer to a filter: of the domains as they run
// and are defined, and of what can become a domain again.
type refTexts struct {
	docs  []*document
	saved []string
}

func (r refTexts) of(filter string) use {
	u := unused
	for _, d := range r.docs {
		for i := range d.ifaces {
			if d.ifaces[i].filter != filter {
				continue
			}
			u = max(u, unmarked)
			if slices.ContainsFunc(d.milder, func(m restriction) bool { return m.mac == d.ifaces[i].mac }) {
				return marked
			}
		}
	}
	if slices.ContainsFunc(r.saved, func(x string) bool { return strings.Contains(x, filter) }) {
		u = max(u, unmarked)
	}
	return u
}

func references(s *session) (refTexts, error) {
	var r refTexts
	doms, _, err := s.l.ConnectListAllDomains(1, allDomains)
	if err != nil {
		return r, fmt.Errorf("list domains: %w", err)
	}
	for _, dom := range doms {
		for _, xf := range []golibvirt.DomainXMLFlags{0, golibvirt.DomainXMLInactive} {
			raw, err := s.l.DomainGetXMLDesc(dom, xf)
			if golibvirt.IsNotFound(err) {
				break // gone since the list was made
			}
			if err != nil {
				return r, fmt.Errorf("read the XML of %s: %w", dom.Name, err)
			}
			doc, err := parseDocument(raw)
			if err != nil {
				return r, fmt.Errorf("%s: %w", dom.Name, err)
			}
			r.docs = append(r.docs, doc)
		}
		if err := r.addSaved(s, dom); err != nil {
			return r, err
		}
	}
	return r, nil
}

// addSaved reads the domain's saved state and snapshots, if it has any.
func (r *refTexts) addSaved(s *session, dom golibvirt.Domain) error {
	none := func(err error) bool { // the domain is gone, or its driver has no such thing
		c := classOf(err)
		return c == flow.ErrNotFound || c == flow.ErrUnsupported
	}
	has, err := s.l.DomainHasManagedSaveImage(dom, 0)
	if err == nil && has == 1 {
		var raw string
		raw, err = s.l.DomainManagedSaveGetXMLDesc(dom, 0)
		r.saved = append(r.saved, raw)
	}
	if err != nil && !none(err) {
		return fmt.Errorf("read the saved state of %s: %w", dom.Name, err)
	}
	snaps, _, err := s.l.DomainListAllSnapshots(dom, 1, 0)
	for _, snap := range snaps {
		var raw string
		if raw, err = s.l.DomainSnapshotGetXMLDesc(snap, 0); err != nil {
			break
		}
		r.saved = append(r.saved, raw)
	}
	if err != nil && !none(err) {
		return fmt.Errorf("read the snapshots of %s: %w", dom.Name, err)
	}
	return nil
}

// neutralize leaves of a filter of ours only the one that it includes.
func neutralize(s *session, name string) error {
	has, err := loadFilter(s, name)
	if err != nil || len(has.drops) == 0 {
		return err
	}
	_, err = s.l.NwfilterDefineXML(filterXML(name, has.former, nil))
	return err
}
