package respond

import (
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// record is the fold of one incident's events. Values are never changed in
// place: apply copies what it changes.
type record struct {
	inc         flow.Incident
	entered     time.Time // when inc.State was entered
	lastFinding time.Time // of the last event that carried findings
	first, last time.Time // what all findings so far counted: first window, end of the last
	waiting     time.Time // since when a notice waits whether the abuse rises; zero: none ever did
	reason      Reason    // of the state
	notices     []notice
	evidence    time.Time        // up to when the last frozen was read
	wantLogs    time.Time        // last event that evidence must reach up to; zero: none wanted
	intents     int              // actions so far, both kinds
	touched     bool             // a measure was called for and not given back: it may be in force
	then        flow.State       // decided at the opening and not stored yet
	asked       flow.Measure     // held back or awaiting approval
	askedHold   time.Duration    // how long it would stay
	stepHeld    Reason           // why the next step is held back; "": it is not
	why         Reason           // of the last restore intent
	autoAt      time.Time        // last suspend intent that no person gave
	orphaned    map[string]bool  // strays of the incident that were told of
	overdue     string           // key of the action that staff were told of as overdue
	answers     []string         // keys of the links by which the customer answered
	took        time.Time        // when a measure first read back as in force
	step        flow.MeasureKind // of the measure last in force, and since when one of that kind is
	stepAt      time.Time
	reminded    bool
	escalated   bool
	described   time.Time // when the calls of a dry run were stored
}

// notice is one line of the outbox.
type notice struct {
	due
	At    time.Time
	inc   flow.Incident // as it was then
	done  []string      // notifiers that took it, or gave up on it
	reply Reason
	// outcome of the statement that it tells of.
	outcome string
}

func (n notice) open() []string {
	var left []string
	for _, name := range n.Notifiers {
		if !slices.Contains(n.done, name) {
			left = append(left, name)
		}
	}
	return left
}

func (r record) actionOf(key string) *flow.Action {
	if r.inc.Restore != nil && r.inc.Restore.Key == key {
		return r.inc.Restore
	}
	if r.inc.Action != nil && r.inc.Action.Key == key {
		return r.inc.Action
	}
	for i := range r.inc.Others {
		if r.inc.Others[i].Key == key {
			return &r.inc.Others[i]
		}
	}
	return nil
}

// held are the measures of the incident that are, or may be, in force.
func (r record) held() []flow.Action {
	var out []flow.Action
	if a := r.inc.Action; a != nil {
		out = append(out, *a)
	}
	for _, a := range r.inc.Others {
		if a.Lifted.IsZero() {
			out = append(out, a)
		}
	}
	return out
}

// inForce is the action whose measure reads back as in force, or nil.
func (r record) inForce() *flow.Action {
	switch r.inc.State {
	case flow.StateSuspended, flow.StateVerified, flow.StateUnverified:
		return r.inc.Action
	}
	return nil
}

// current is the action that the state is about.
func (r record) current() *flow.Action {
	if r.inc.Restore != nil {
		return r.inc.Restore
	}
	return r.inc.Action
}

// pending is the action that is still to be brought to an end, or nil.
func (r record) pending() *flow.Action {
	switch r.inc.State {
	case flow.StateSuspending:
		return r.inc.Action
	case flow.StateReleasing:
		return r.inc.Restore
	}
	return nil
}

// holdsCut reports whether this incident has, or may have, a measure in force
// on the server's network.
func (r record) holdsCut() bool { return r.inc.State.Cut() || r.touched && r.inc.State.Live() }
