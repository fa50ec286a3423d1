package flow

import (
	"encoding/json"
	"net/netip"
	"time"
)

// State is where an incident stands.
type State string

// The states of an incident. Only the controller moves it from one to the next.
const (
	StateOpen       State = "open"              // recorded; no act follows (observe, or below the act's tier)
	StateNotified   State = "notified"          // customer and staff were written to; no act
	StateHeld       State = "held"              // an act was due, a safety held it back; Reason says which
	StateApproval   State = "awaiting_approval" // an act is due and waits for a human
	StateSuspending State = "suspending"        // intent stored; the call is under way or being retried
	StateSuspended  State = "suspended"         // the measure reads back as in force; its effect is not yet seen in the flows
	StateVerified   State = "verified"          // in force, and the flows show it: what it stops is not seen any more
	StateUnverified State = "unverified"        // in force by read-back but flows go on: a human must look
	StateFailed     State = "failed"            // the act could not be done; Reason says why
	StateReleasing  State = "releasing"         // restore intent stored
	StateReleased   State = "released"          // network given back
	StateClosed     State = "closed"            // ended without an act
)

// Live reports whether the incident still takes up new findings.
func (s State) Live() bool { return s != StateReleased && s != StateClosed }

// Cut reports whether a measure of ours is, or is about to be, in force on the
// tenant's network; Incident.Action says which.
func (s State) Cut() bool {
	switch s {
	case StateSuspending, StateSuspended, StateVerified, StateUnverified, StateReleasing:
		return true
	}
	return false
}

// Incident is one tenant's abuse from the first finding to the release. It is
// the fold of its Events.
type Incident struct {
	ID       string     `json:"id"`
	Tenant   netip.Addr `json:"tenant"`
	Holder   Holder     `json:"holder"`
	Rules    []Rule     `json:"rules"`
	Tier     Tier       `json:"tier"`
	State    State      `json:"state"`
	Reason   string     `json:"reason,omitempty"` // why it is in this state, for people
	Why      *Told      `json:"why,omitempty"`    // Reason, for programs
	Opened   time.Time  `json:"opened"`
	Updated  time.Time  `json:"updated"`
	Findings []Finding  `json:"findings"`          // the strongest per rule, port and remote
	Action   *Action    `json:"action,omitempty"`  // the measure in force, or being taken
	Restore  *Action    `json:"restore,omitempty"` // the giving back, once asked for
	// Others are measures of the incident beside Action: milder ones that it
	// replaces, and that of the fallback adapter. Each is given back when Action
	// reads back as in force, at the latest with the release.
	Others []Action `json:"others,omitempty"`
	// Would are the calls that a dry run did not make, in the adapter's words.
	Would []string `json:"would,omitempty"`
	// Refuse: offences have reached respond.refuse_after. A human decides
	// whether the customer is served further; nothing is given back by itself.
	Refuse    bool   `json:"refuse,omitempty"`
	Probation bool   `json:"probation,omitempty"` // it was opened while the holder was on probation
	Prior     int    `json:"prior,omitempty"`     // earlier incidents of the same holder that led to a cut or a notice
	Statement string `json:"statement,omitempty"` // the customer's, given at release
	// Evidence are the keys under which the incident's frozen texts are stored,
	// oldest first: the incident's id, and another for each later stage.
	Evidence []string `json:"evidence,omitempty"`
	Seq      uint64   `json:"-"` // of its last event
}

// Action is one call to a hypervisor, from intent to outcome.
type Action struct {
	Key      string    `json:"key"`  // idempotency key, stable over restarts
	Kind     string    `json:"kind"` // suspend or restore
	Adapter  string    `json:"adapter"`
	NICs     []NIC     `json:"nics"`
	Receipts []Receipt `json:"receipts,omitempty"`
	Intent   time.Time `json:"intent"`
	Called   time.Time `json:"called,omitzero"`
	Done     time.Time `json:"done,omitzero"`     // read back as wanted, the last time
	Verified time.Time `json:"verified,omitzero"` // outbound flows seen at zero
	Attempts int       `json:"attempts"`
	Error    string    `json:"error,omitempty"`
	// Measure is what is taken. Without a kind it is a cut: older logs know
	// nothing else. Taken gives the kind.
	Measure Measure   `json:"measure,omitzero"`
	HoldS   int64     `json:"hold_s,omitempty"` // seconds after it was first in force when it is given back by itself; 0: when released
	Until   time.Time `json:"until,omitzero"`   // when that is, once it was in force
	Again   time.Time `json:"again,omitzero"`   // when it was last found not in force any more, and taken up again
	Lifted  time.Time `json:"lifted,omitzero"`  // given back because another measure replaced it
}

// Taken is the kind of the action's measure.
func (a Action) Taken() MeasureKind {
	if a.Measure.Kind == "" {
		return MeasureCut
	}
	return a.Measure.Kind
}

// Expires is when the measure is given back by itself; zero: when released.
func (a Action) Expires() time.Time {
	switch {
	case !a.Until.IsZero():
		return a.Until
	case a.HoldS <= 0 || a.Done.IsZero():
		return time.Time{}
	}
	return a.Done.Add(time.Duration(a.HoldS) * time.Second)
}

// Event is one line of the append-only log. Replayed in order of Seq it gives
// every incident again.
type Event struct {
	Seq      uint64          `json:"seq"`
	Time     time.Time       `json:"time"`
	Incident string          `json:"incident"`
	Kind     string          `json:"kind"`
	Actor    string          `json:"actor"` // "detector", "controller", or the name of an API token
	Reason   string          `json:"reason,omitempty"`
	Body     json.RawMessage `json:"body,omitempty"`
}

// Mark is what we leave at the hypervisor on a NIC that we cut.
type Mark struct {
	Incident string    `json:"incident"`
	Key      string    `json:"key"`
	By       string    `json:"by"`
	Reason   string    `json:"reason"`
	At       time.Time `json:"at"`
}

// LinkState is a NIC's link as a hypervisor reports it.
type LinkState string

// The link states.
const (
	LinkUp      LinkState = "up"
	LinkDown    LinkState = "down"
	LinkUnknown LinkState = "unknown"
)

// NICStatus is what a hypervisor says of a NIC. Config is the state that the
// next power-on will have.
type NICStatus struct {
	Live    LinkState `json:"live"`
	Config  LinkState `json:"config"`
	Running bool      `json:"running"`
	Mark    *Mark     `json:"mark,omitempty"` // ours, if it carries one
	// Restrictions are the measures of ours milder than the cut that are in
	// force, at most one of each kind.
	Restrictions []Restriction `json:"restrictions,omitempty"`
}

// Cut reports whether no packet can leave the NIC now or after a power cycle.
func (s NICStatus) Cut() bool { return s.Config == LinkDown && (!s.Running || s.Live == LinkDown) }

// Receipt is what a suspender did and what it found before, so that exactly
// that can be restored.
type Receipt struct {
	NIC    NIC       `json:"nic"`
	Before NICStatus `json:"before"`
	After  NICStatus `json:"after"`
	Node   string    `json:"node,omitempty"`
	At     time.Time `json:"at"`
	// Undo is what the adapter itself needs to give back exactly what it found
	// (a filter's former name, a port's former security groups). Only the
	// adapter reads it; it holds no secret.
	Undo json.RawMessage `json:"undo,omitempty"`
}

// ErrClass says what a caller may do about a hypervisor's error.
type ErrClass string

// The classes of hypervisor errors.
const (
	ErrNotFound    ErrClass = "not_found"   // resolve again
	ErrLocked      ErrClass = "locked"      // retry later
	ErrConflict    ErrClass = "conflict"    // read again, retry
	ErrDenied      ErrClass = "denied"      // no retry, a human must look
	ErrTransient   ErrClass = "transient"   // retry
	ErrUnsupported ErrClass = "unsupported" // no retry
)

// ActError is an error of a suspender with its class.
type ActError struct {
	Class ErrClass
	Err   error
}

// Error returns the class and what was tried.
func (e *ActError) Error() string { return string(e.Class) + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ActError) Unwrap() error { return e.Err }
