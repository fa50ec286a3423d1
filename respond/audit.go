package respond

import (
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// AuditEntry is one event of the log as an auditor reads it: who did what to
// whom, why, by which call, and what came of it.
type AuditEntry struct {
	Seq      uint64           `json:"seq"`
	Time     time.Time        `json:"time"`
	Actor    string           `json:"actor"` // detector, controller, or the name of an API token
	Kind     string           `json:"kind"`
	Reason   string           `json:"reason,omitempty"` // one of Reasons
	Text     string           `json:"text,omitempty"`   // for people, with what the actor wrote
	Incident string           `json:"incident"`
	Tenant   netip.Addr       `json:"tenant,omitzero"`
	Customer string           `json:"customer,omitempty"`
	VDS      string           `json:"vds,omitempty"`
	Adapter  string           `json:"adapter,omitempty"`
	Key      string           `json:"key,omitempty"`     // of the action
	Measure  flow.MeasureKind `json:"measure,omitempty"` // of the action
	NICs     []string         `json:"nics,omitempty"`    // MACs
	Calls    []string         `json:"calls,omitempty"`   // of a dry run
	Outcome  string           `json:"outcome,omitempty"` // done, retry, failed, given_back, or empty
	Error    string           `json:"error,omitempty"`
}

// AuditFilter selects entries; zero fields select all.
type AuditFilter struct {
	Incident string
	Tenant   netip.Addr
	Customer string
	VDS      string
	Actor    string
	Kinds    []string
	Reason   string
	Since    time.Time // at or after
	Until    time.Time // before
}

// Page is one page of the audit, newest entries first.
type Page struct {
	Before uint64 // sequence number; 0: from the newest
	Limit  int    // 100; at most 1000
}

// maxAuditPage bounds one answer.
const maxAuditPage = 1000

// Audit lists events, newest first. next is what Page.Before must be for the
// page after this one; 0 when there is none.
func (c *Controller) Audit(f AuditFilter, p Page) (entries []AuditEntry, next uint64) {
	orDefault(&p.Limit, 100)
	p.Limit = min(max(p.Limit, 1), maxAuditPage)
	entries = []AuditEntry{}
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
		if !f.matches(ev, r.inc) {
			continue
		}
		if len(entries) == p.Limit {
			return entries, entries[len(entries)-1].Seq
		}
		entries = append(entries, entryOf(ev, r))
	}
	return entries, 0
}

func (f AuditFilter) matches(ev flow.Event, inc flow.Incident) bool {
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

func entryOf(ev flow.Event, r record) AuditEntry {
	e := AuditEntry{
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
		e.Text = explain(Reason(ev.Reason), body{Detail: b.Detail})
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
