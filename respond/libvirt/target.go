package libvirt

import (
	"fmt"
	"slices"
	"sync"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/flow"
)

// target is one interface of one domain, read at one moment.
type target struct {
	dom          golibvirt.Domain
	mac          string
	live, config *side              // nil: the domain does not run, or has no definition
	filters      map[string]ruleset // ours that the interface refers to
}

// side is the domain as it runs or as it is defined. The two are read and
// rewritten apart: an address or an alias of the one has no place in the other.
type side struct {
	doc   *document
	nic   *iface // nil: the interface is not there
	flags golibvirt.DomainModificationImpact
}

// load reads both sides of the domain; nil if it has no interface with that MAC.
// The three questions are asked at once: under load each answer takes its time.
func load(s *session, dom golibvirt.Domain, mac string) (*target, error) {
	var (
		persistent int32
		errs       [3]error
		raw        [2]string // as it runs, and as it is defined; the same when it has but one of them
		wg         sync.WaitGroup
	)
	wg.Go(func() { persistent, errs[0] = s.l.DomainIsPersistent(dom) })
	wg.Go(func() { raw[0], errs[1] = s.l.DomainGetXMLDesc(dom, 0) })
	wg.Go(func() { raw[1], errs[2] = s.l.DomainGetXMLDesc(dom, golibvirt.DomainXMLInactive) })
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", dom.Name, err)
		}
	}
	t := &target{dom: dom, mac: mac}
	now, err := parseSide(dom, raw[0], mac, golibvirt.DomainAffectLive)
	if err != nil {
		return nil, err
	}
	if now.doc.running() {
		t.live = now
	}
	if persistent == 1 {
		if t.config, err = parseSide(dom, raw[1], mac, golibvirt.DomainAffectConfig); err != nil {
			return nil, err
		}
	}
	for _, sd := range t.sides() {
		if sd.nic != nil {
			return t, t.loadFilters(s)
		}
	}
	return nil, nil
}

func parseSide(dom golibvirt.Domain, raw, mac string, flags golibvirt.DomainModificationImpact) (*side, error) {
	doc, err := parseDocument(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dom.Name, err)
	}
	sd := &side{doc: doc, flags: flags}
	switch found := doc.byMAC(mac); len(found) {
	case 0:
	case 1:
		sd.nic = &found[0]
	default:
		return nil, fail(flow.ErrConflict, "%s has %d NICs with the MAC %s; give each its own", dom.Name, len(found), mac)
	}
	return sd, nil
}

// is reports whether the VDS still names the domain; an empty one always does.
func (t *target) is(vds, metadataID string) bool {
	return vds == "" || slices.ContainsFunc(t.sides(), func(sd *side) bool { return sd.doc.is(vds, metadataID) })
}

func (t *target) sides() []*side {
	var out []*side
	for _, sd := range []*side{t.live, t.config} {
		if sd != nil {
			out = append(out, sd)
		}
	}
	return out
}

func (sd *side) link() link {
	if sd == nil || sd.nic == nil {
		return linkNone
	}
	return sd.nic.link
}

// links are the states found, with what the definition of a transient domain
// would say: it has none, and is gone after the next power-off.
func (t *target) links() (live, config link) {
	live, config = t.live.link(), t.config.link()
	if t.config == nil {
		config = live
	}
	return live, config
}

func (t *target) status() flow.NICStatus {
	live, config := t.links()
	st := status(live, config, t.live != nil)
	if c := t.cutMark(); c != nil {
		m := c.Mark
		st.Mark = &m
	}
	st.Restrictions = t.restrictions()
	return st
}

func status(live, config link, running bool) flow.NICStatus {
	st := flow.NICStatus{Live: linkState(live), Config: linkState(config), Running: running}
	if !running {
		st.Live = flow.LinkUnknown
	}
	return st
}

func linkState(l link) flow.LinkState {
	switch l {
	case linkUp, linkAbsent:
		return flow.LinkUp
	case linkDown, linkNone: // an interface that is not there sends nothing
		return flow.LinkDown
	}
	return flow.LinkUnknown
}

// cutMark is our mark on the interface. The running machine's is the older one
// where the two differ: a panel that defines the domain anew takes the
// definition's away.
func (t *target) cutMark() *cut {
	for _, sd := range t.sides() {
		for _, c := range sd.doc.cuts {
			if c.mac == t.mac {
				return &c
			}
		}
	}
	return nil
}

// cuttable says whether libvirt can set the link, before anything is changed.
func (t *target) cuttable() error {
	for _, sd := range t.sides() {
		if sd.nic != nil && sd.nic.kind == "hostdev" {
			return fail(flow.ErrUnsupported, "%s: NIC %s is a passed-through device, whose link libvirt cannot set", t.dom.Name, t.mac)
		}
	}
	return nil
}

// mark is what a cut leaves, before anything is changed: with the state found
// now, or with what an earlier mark of the same incident found.
func (t *target) mark(m flow.Mark) (cut, error) {
	if err := t.cuttable(); err != nil {
		return cut{}, err
	}
	live, config := t.links()
	c := cut{Mark: m, mac: t.mac, live: live, config: config, running: t.live != nil}
	if old := t.cutMark(); old != nil {
		if old.Incident != m.Incident {
			return cut{}, fail(flow.ErrConflict, "%s: NIC %s is already cut for incident %s by %s",
				t.dom.Name, t.mac, old.Incident, old.By)
		}
		c = *old
		c.Key = m.Key
	}
	c.Reason = shorten(c.Reason)
	return c, nil
}

func (t *target) cut(s *session, m flow.Mark) (flow.Receipt, error) {
	c, err := t.mark(m)
	if err != nil {
		return flow.Receipt{}, err
	}
	// The mark goes first: a link that is down without it could not be told
	// from an admin's work, a mark on a link that is still up only means that
	// the cut has to be repeated.
	if err := t.putCut(s, &c); err != nil {
		return flow.Receipt{}, fmt.Errorf("mark %s: %w", t.dom.Name, err)
	}
	if err := t.setLinks(s, linkDown, linkDown); err != nil {
		return flow.Receipt{}, err
	}
	back, err := t.again(s)
	if err != nil {
		return flow.Receipt{}, err
	}
	st := back.status()
	if !st.Cut() || st.Mark == nil {
		return flow.Receipt{}, fail(flow.ErrConflict, "%s: NIC %s reads back live %s, definition %s after the cut",
			t.dom.Name, t.mac, st.Live, st.Config)
	}
	return flow.Receipt{Before: c.before(), After: st, Node: s.host}, nil
}

func (t *target) restore(s *session, m flow.Mark, r flow.Receipt) error {
	c := t.cutMark()
	if c == nil {
		return t.restored(r)
	}
	if c.Incident != m.Incident {
		return fail(flow.ErrConflict, "%s: NIC %s is cut for incident %s by %s, not for %s; it stays as it is",
			t.dom.Name, t.mac, c.Incident, c.By, m.Incident)
	}
	live, config := c.live, c.config
	if !c.running || live == linkNone {
		live = config // it was started since: as the definition would have had it
	}
	if err := t.setLinks(s, live, config); err != nil {
		return err
	}
	// The mark goes last: until it is gone a repeat knows what to restore.
	if err := t.putCut(s, nil); err != nil {
		return fmt.Errorf("take the mark off %s: %w", t.dom.Name, err)
	}
	back, err := t.again(s)
	if err != nil {
		return err
	}
	if back.cutMark() != nil || !back.stands(live, config) {
		st := back.status()
		return fail(flow.ErrConflict, "%s: NIC %s reads back live %s, definition %s after the restore",
			t.dom.Name, t.mac, st.Live, st.Config)
	}
	return nil
}

// restored answers a restore that finds no mark: nothing is left to do when the
// NIC is as the receipt says, because then an earlier call did it and only its
// answer was lost. Otherwise the state is somebody else's work.
func (t *target) restored(r flow.Receipt) error {
	want, st := r.Before, t.status()
	if want.Config == "" { // no receipt: a NIC nobody cut is up
		want = flow.NICStatus{Live: flow.LinkUp, Config: flow.LinkUp, Running: true}
	}
	live := want.Live
	if !want.Running {
		live = want.Config
	}
	if st.Config == want.Config && (!st.Running || st.Live == live) {
		return nil
	}
	return fail(flow.ErrConflict,
		"%s: NIC %s carries no mark of ours and is live %s, definition %s; somebody else set it, so it stays as it is",
		t.dom.Name, t.mac, st.Live, st.Config)
}

// stands reports whether the sides that exist are as wanted.
func (t *target) stands(live, config link) bool {
	ok := func(sd *side, l link) bool {
		return sd == nil || sd.nic == nil || l == linkNone || linkState(sd.nic.link) == linkState(l)
	}
	return ok(t.live, live) && ok(t.config, config)
}

func (t *target) setLinks(s *session, live, config link) error {
	if err := t.setLink(s, t.live, live); err != nil {
		return err
	}
	return t.setLink(s, t.config, config)
}

func (t *target) setLink(s *session, sd *side, l link) error {
	if sd == nil || sd.nic == nil || l == linkNone || sd.nic.link == l {
		return nil
	}
	err := s.l.DomainUpdateDeviceFlags(t.dom, sd.doc.withLink(*sd.nic, l), golibvirt.DomainDeviceModifyFlags(sd.flags))
	if err != nil {
		return fmt.Errorf("set the link of %s NIC %s to %s: %w", t.dom.Name, t.mac, l, err)
	}
	return nil
}

func (t *target) again(s *session) (*target, error) {
	back, err := load(s, t.dom, t.mac)
	if err == nil && back == nil {
		err = fail(flow.ErrConflict, "%s lost the NIC %s meanwhile", t.dom.Name, t.mac)
	}
	return back, err
}
