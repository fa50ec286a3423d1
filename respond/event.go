package respond

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// The kinds of events. A state and the notices it causes are one event, so
// that no crash can store one without the other.
const (
	EventOpened        = "opened"         // first finding of a tenant: Holder, Findings
	EventFinding       = "finding"        // new or stronger findings
	EventNotified      = "notified"       // customer and staff are to be written to
	EventHeld          = "held"           // an act was due and is held back
	EventApprovalAsked = "approval_asked" // an act waits for a human
	EventIntent        = "action_intent"  // Action: a cut or a restore is about to be tried
	EventCalled        = "action_called"  // a call goes out: attempt, and each NIC's state before
	EventError         = "action_error"   // an attempt failed and will be repeated
	EventDone          = "action_done"    // the cut reads back
	EventWaiting       = "verify_waiting" // verification cannot tell yet
	EventVerified      = "action_verified"
	EventUnverified    = "action_unverified"
	EventFailed        = "action_failed"
	EventEvidence      = "evidence_frozen" // hashes of the texts
	EventNoticeSent    = "notice_sent"
	EventNoticeFailed  = "notice_failed"
	EventReleased      = "released"
	EventClosed        = "closed"
	EventStepHeld      = "step_held"       // the next step is held back; what is in force stays
	EventLifted        = "measure_lifted"  // Key: replaced by another measure and given back
	EventAgain         = "action_again"    // what must be in force is not, or is elsewhere: Action, if so
	EventFallback      = "fallback_intent" // Action: the fallback adapter is about to be asked
	EventDescribed     = "dry_run"         // Calls that were not made
	EventFrozen        = "acts_frozen"     // Rule, Count tenants
	EventUnfrozen      = "acts_unfrozen"   // Rule
	EventOverdue       = "action_overdue"  // not given up, and tried for longer than a human should not know of
	EventStatement     = "statement"       // Key of the link, Statement of the customer
	EventReminded      = "reminded"        // the customer owes an answer
	EventEscalated     = "escalated"       // nobody answered in time: staff decide
	EventParoleOver    = "probation_ended"
	EventOrphan        = "orphan" // NIC with our mark that nothing holds; Receipts
)

// Kinds of an action.
const (
	kindSuspend = "suspend"
	kindRestore = "restore"
)

const (
	actorDetector   = "detector"
	actorController = "controller"
)

// due is a notice that an event causes, with the notifiers that it is for.
type due struct {
	Key       string   `json:"key"`
	Kind      string   `json:"kind"`
	Notifiers []string `json:"notifiers"`
}

type logSum struct {
	Form   string `json:"form"`
	SHA256 string `json:"sha256"`
}

// body is what events carry beyond kind, actor and reason. Absent fields mean
// "unchanged".
type body struct {
	Tenant    string         `json:"tenant,omitempty"`
	Holder    *flow.Holder   `json:"holder,omitempty"`
	Findings  []flow.Finding `json:"findings,omitempty"`
	Prior     int            `json:"prior,omitempty"`
	Exemption string         `json:"exemption,omitempty"`
	Action    *flow.Action   `json:"action,omitempty"`
	Key       string         `json:"key,omitempty"` // of the action, or of the evidence
	Attempt   int            `json:"attempt,omitempty"`
	Receipts  []flow.Receipt `json:"receipts,omitempty"`
	Class     flow.ErrClass  `json:"class,omitempty"`
	Error     string         `json:"error,omitempty"`
	Statement string         `json:"statement,omitempty"`
	Detail    string         `json:"detail,omitempty"` // for people
	Notices   []due          `json:"notices,omitempty"`
	Notice    string         `json:"notice,omitempty"`
	Notifier  string         `json:"notifier,omitempty"`
	Logs      []logSum       `json:"logs,omitempty"`
	Rows      int            `json:"rows,omitempty"`
	Frozen    time.Time      `json:"frozen,omitzero"` // when the evidence was read
	Truncated bool           `json:"truncated,omitempty"`
	Measure   *flow.Measure  `json:"measure,omitempty"` // that is held back or asked for
	HoldS     int64          `json:"hold_s,omitempty"`  // seconds that it would stay
	Rule      flow.Rule      `json:"rule,omitempty"`    // of a freeze; empty: all
	Count     int            `json:"count,omitempty"`   // tenants of a freeze
	Calls     []string       `json:"calls,omitempty"`   // of a dry run
	Refuse    bool           `json:"refuse,omitempty"`  // with the intent: too many offences
	Probation bool           `json:"probation,omitempty"`
	// Then is the state that was decided on together with the opening. An
	// incident that is still open without it was left there by a decision.
	Then flow.State `json:"then,omitempty"`
}

// newEvent builds an event; Seq is given when it is appended.
func newEvent(incident, kind, actor string, reason Reason, ts time.Time, b body) flow.Event {
	raw, err := json.Marshal(b)
	if err != nil {
		panic(fmt.Sprintf("respond: event body cannot be written: %v", err)) // values only, no way to fail
	}
	return flow.Event{Time: ts.UTC(), Incident: incident, Kind: kind, Actor: actor, Reason: string(reason), Body: raw}
}

func readBody(ev flow.Event) (body, error) {
	var b body
	if len(ev.Body) == 0 {
		return b, nil
	}
	if err := json.Unmarshal(ev.Body, &b); err != nil {
		return b, fmt.Errorf("event %d (%s of %s): %w", ev.Seq, ev.Kind, ev.Incident, err)
	}
	return b, nil
}
