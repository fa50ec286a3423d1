package respond

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// state is the fold of the whole log with the indexes that decisions need. A
// state with a parent is a draft over it: it sees the parent's entries unless
// it has its own. Folding the same events into the parent makes the draft's
// content real.
type state struct {
	parent    *state
	seq       uint64
	recs      map[string]record
	events    map[string][]flow.Event
	live      map[netip.Addr]string  // tenant → its live incident, "" none
	cut       map[string]string      // server or NIC → incident that holds it cut, "" none
	intents   []intent               // of suspensions
	holds     map[string]bool        // incident → a measure of it is, or may be, in force
	trips     []trip                 // tenants that a rule began to find worth an act
	freezes   map[flow.Rule]freeze   // by rule, "" for all; zero: lifted
	offences  map[string][]time.Time // standingKey → releases of incidents that were no mistake
	paroles   map[string]time.Time   // released incident → when, until the end of the probation was told
	log       []flow.Event           // every event, for the audit; kept at the root only
	notBefore map[string]time.Time   // tenant, server or NIC → findings must count nothing older
	released  map[string]time.Time   // holder → last release
	prior     map[string]int         // holder → incidents that led to a cut or a notice
	hits      map[string]uint64      // exemption → events that it turned into records
	active    map[string]bool        // incidents that may have something undone
}

func newState(parent *state) *state {
	s := &state{
		parent: parent, recs: map[string]record{}, events: map[string][]flow.Event{}, live: map[netip.Addr]string{},
		cut: map[string]string{}, notBefore: map[string]time.Time{}, released: map[string]time.Time{},
		prior: map[string]int{}, hits: map[string]uint64{}, active: map[string]bool{}, holds: map[string]bool{},
		freezes: map[flow.Rule]freeze{}, offences: map[string][]time.Time{}, paroles: map[string]time.Time{},
	}
	if parent != nil {
		s.seq = parent.seq
	}
	return s
}

// lookup reads key from the draft, else from what it lies over.
func lookup[K comparable, V any](s *state, in func(*state) map[K]V, key K) (V, bool) {
	for ; s != nil; s = s.parent {
		if v, ok := in(s)[key]; ok {
			return v, true
		}
	}
	var zero V
	return zero, false
}

func (s *state) rec(id string) (record, bool) {
	return lookup(s, func(s *state) map[string]record { return s.recs }, id)
}

func (s *state) liveOf(tenant netip.Addr) (record, bool) {
	id, _ := lookup(s, func(s *state) map[netip.Addr]string { return s.live }, tenant)
	if id == "" {
		return record{}, false
	}
	return s.rec(id)
}

// cutBy is the incident that holds what a key of cutKeys names cut, or "".
func (s *state) cutBy(key string) string {
	id, _ := lookup(s, func(s *state) map[string]string { return s.cut }, key)
	return id
}

// cutByOther is an incident other than own that holds the server of h, or one
// of its NICs, cut; "" if none does.
func (s *state) cutByOther(h flow.Holder, own string) string {
	for _, k := range cutKeys(h) {
		if id := s.cutBy(k); id != "" && id != own {
			return id
		}
	}
	return ""
}

func (s *state) priorOf(holder string) int {
	n, _ := lookup(s, func(s *state) map[string]int { return s.prior }, holder)
	return n
}

func (s *state) releasedOf(holder string) time.Time {
	t, _ := lookup(s, func(s *state) map[string]time.Time { return s.released }, holder)
	return t
}

// earliest is the moment before which findings for the tenant or its server
// count nothing: the end of the last incident, and the time it takes the
// traffic to settle.
func (s *state) earliest(tenant netip.Addr, h flow.Holder) time.Time {
	get := func(k string) time.Time {
		t, _ := lookup(s, func(s *state) map[string]time.Time { return s.notBefore }, k)
		return t
	}
	t := get(tenant.String())
	for _, k := range cutKeys(h) {
		if u := get(k); u.After(t) {
			t = u
		}
	}
	return t
}

// serverKey names the server of a holder; "" if the inventory does not.
func serverKey(h flow.Holder) string {
	if h.VDS == "" && len(h.NICs) == 0 {
		return ""
	}
	if h.VDS == "" {
		return h.Hypervisor + "/" + strings.Join(h.NICs, ",")
	}
	return h.Hypervisor + "/" + h.VDS
}

// cutKeys names what a cut of a holder's network occupies: the server, and
// each NIC by itself, because the inventory may name the server differently
// for two prefixes of one NIC (and a hypervisor keeps one mark on a NIC).
func cutKeys(h flow.Holder) []string {
	var keys []string
	if k := serverKey(h); k != "" {
		keys = append(keys, k)
	}
	for _, mac := range h.NICs {
		keys = append(keys, "nic:"+h.Hypervisor+"/"+strings.ToLower(mac))
	}
	return keys
}

// holderKey names who is counted for history: the server, else the customer,
// else the address.
func holderKey(tenant netip.Addr, h flow.Holder) string {
	if k := serverKey(h); k != "" {
		return k
	}
	if h.Tenant != "" {
		return "tenant:" + h.Tenant
	}
	return tenant.String()
}

// fold adds one stored event.
func (s *state) fold(ev flow.Event) error {
	old, _ := s.rec(ev.Incident)
	r, err := apply(old, ev)
	if err != nil {
		return err
	}
	b, err := readBody(ev)
	if err != nil {
		return err
	}
	s.seq = ev.Seq
	s.recs[ev.Incident] = r
	s.events[ev.Incident] = append(s.events[ev.Incident], ev)
	if s.parent == nil {
		s.log = append(s.log, ev)
	}
	if r.inc.State.Live() || slices.ContainsFunc(r.notices, func(n notice) bool { return len(n.open()) > 0 }) {
		s.active[ev.Incident] = true
	} else {
		delete(s.active, ev.Incident)
	}
	if b.Exemption != "" {
		n, _ := lookup(s, func(s *state) map[string]uint64 { return s.hits }, b.Exemption)
		s.hits[b.Exemption] = n + 1
	}
	inc := r.inc
	hk, keys := holderKey(inc.Tenant, inc.Holder), cutKeys(inc.Holder)
	if s.holds[inc.ID] = r.holdsCut(); s.parent == nil && !r.holdsCut() {
		delete(s.holds, inc.ID)
	}
	for _, k := range cutKeys(old.inc.Holder) { // the server may have got another NIC
		if s.cutBy(k) == inc.ID && !slices.Contains(keys, k) {
			s.cut[k] = ""
		}
	}
	s.foldTrips(old, r, b, ev)
	for _, k := range keys {
		if r.holdsCut() {
			s.cut[k] = inc.ID
		} else if s.cutBy(k) == inc.ID {
			s.cut[k] = ""
		}
	}
	switch ev.Kind {
	case EventOpened:
		s.live[inc.Tenant] = inc.ID
	case EventIntent:
		if b.Action != nil && b.Action.Kind == kindSuspend {
			s.intents = append(s.intents, intent{ev.Time, customerKey(inc), b.Action.Adapter})
		}
	case EventFrozen:
		s.freezes[b.Rule] = freeze{since: ev.Time, incident: ev.Incident, tenants: b.Count, by: ev.Actor, why: b.Detail}
	case EventParoleOver:
		delete(s.paroles, inc.ID)
	case EventUnfrozen:
		s.freezes[b.Rule] = freeze{}
	case EventReleased, EventClosed:
		s.live[inc.Tenant] = ""
		if Reason(ev.Reason) == ReasonQuiet {
			break // nobody judged it: what comes next may count everything
		}
		s.notBefore[inc.Tenant.String()] = ev.Time
		if len(keys) > 0 && ev.Kind == EventReleased {
			for _, k := range keys {
				s.notBefore[k] = ev.Time
			}
			s.released[hk] = ev.Time
		}
		if ev.Kind == EventReleased && offence(Reason(ev.Reason)) {
			k := standingKey(inc.Tenant, inc.Holder)
			s.offences[k] = append(slices.Clone(s.offencesOf(k)), ev.Time)
			s.paroles[inc.ID] = ev.Time
		}
	}
	if led(r) && !led(old) {
		s.prior[hk] = s.priorOf(hk) + 1
	}
	return nil
}

// led reports whether the incident came to a notice or an act.
func led(r record) bool {
	return r.inc.Action != nil || slices.ContainsFunc(r.notices, func(n notice) bool { return n.Kind == noticeNotified })
}
