package respond

import (
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// maxAuditPage bounds one answer.
const maxAuditPage = 1000

// Audit lists events, newest first. next is what AuditPage.Before must be for the
// page after this one; 0 when there is none.
func (c *Controller) Audit(f flow.AuditFilter, p flow.AuditPage) (entries []flow.AuditEntry, next uint64) {
	orDefault(&p.Limit, 100)
	p.Limit = min(max(p.Limit, 1), maxAuditPage)
	entries = []flow.AuditEntry{}
	c.mu.RLock()
	defer c.mu.RUnlock()
	log := c.st.log
	end := len(log)
	if p.Before > 0 {
		end, _ = slices.BinarySearchFunc(log, p.Before, func(ev flow.Event, seq uint64) int {
			switch {
			case ev.Seq < seq:
				return -1
			case ev.Seq > seq:
				return 1
			}
			return 0
		})
	}
	for i := end - 1; i >= 0; i-- {
		ev := log[i]
		r := c.st.recs[ev.Incident]
		if !audited(f, ev, r.inc) {
			continue
		}
		if len(entries) == p.Limit {
			return entries, entries[len(entries)-1].Seq
		}
		entries = append(entries, entryOf(ev, r))
	}
	return entries, 0
}

func audited(f flow.AuditFilter, ev flow.Event, inc flow.Incident) bool {
	return (f.Incident == "" || f.Incident == ev.Incident) && (!f.Tenant.IsValid() || f.Tenant == inc.Tenant) &&
		(f.Customer == "" || f.Customer == inc.Holder.Tenant) && (f.VDS == "" || f.VDS == inc.Holder.VDS) &&
		(f.Actor == "" || f.Actor == ev.Actor) && (len(f.Kinds) == 0 || slices.Contains(f.Kinds, ev.Kind)) &&
		(f.Reason == "" || f.Reason == ev.Reason) && (f.Since.IsZero() || !ev.Time.Before(f.Since)) &&
		(f.Until.IsZero() || ev.Time.Before(f.Until))
}

// outcomes of an event's kind.
var outcomes = map[string]string{
	EventDone: resultDone, EventError: resultRetry, EventFailed: resultFailed, EventReleased: "given_back", EventLifted: "given_back",
	EventVerified: resultVerified, EventUnverified: resultUnverified, EventNoticeSent: resultSent, EventNoticeFailed: resultGivenUp,
}

func entryOf(ev flow.Event, r record) flow.AuditEntry {
	e := flow.AuditEntry{
		Seq: ev.Seq, Time: ev.Time, Actor: ev.Actor, Kind: ev.Kind, Reason: ev.Reason, Incident: ev.Incident, Tenant: r.inc.Tenant,
		Customer: r.inc.Holder.Tenant, VDS: r.inc.Holder.VDS, Outcome: outcomes[ev.Kind],
	}
	b, err := readBody(ev)
	if err != nil {
		e.Error = err.Error() // it was folded, so it cannot be
		return e
	}
	e.Key, e.Error, e.Calls = b.Key, b.Error, b.Calls
	if ev.Reason != "" {
		why := told(Reason(ev.Reason), body{Detail: b.Detail})
		e.Text, e.Why = say(why), &why
	} else {
		e.Text = b.Detail
	}
	if b.Statement != "" {
		e.Text += "; statement: " + b.Statement
	}
	if h := b.Holder; h != nil { // who it was then
		e.Customer, e.VDS = h.Tenant, h.VDS
	}
	a := b.Action
	if a == nil && b.Key != "" {
		a = r.actionOf(b.Key)
	}
	if a != nil {
		e.Key, e.Adapter = a.Key, a.Adapter
		if a.Kind == kindSuspend {
			e.Measure = a.Taken()
		}
		for _, n := range a.NICs {
			e.NICs = append(e.NICs, n.MAC)
		}
	} else if b.Measure != nil {
		e.Measure = b.Measure.Kind
	}
	return e
}
