// Package respond turns findings into incidents and incidents into acts.
//
// In come findings of the detector (Handle) and orders of people (Approve,
// Release, Close); out go calls to hypervisors (Suspender), frozen evidence
// (Flows) and messages (Notifier). The state is an append-only event log (Log):
// an incident is the fold of its events, apply is a pure function, and nothing
// is done that was not stored before. Decisions are pure too (decide): time,
// findings and everything known of the tenant are arguments, the reason is one
// of a closed list and is stored.
//
// One writer: every event is built, appended and folded under one lock, so a
// decision always sees the state it is made on. An append whose outcome is not
// known is kept and repeated with the same sequence numbers before anything
// else is written; no call is made for an intent that is not acknowledged.
//
// Everything after the intent is level-triggered: Run looks at the folded
// state, finds what is still to be done (a call, a read-back, a verification,
// evidence, a notice) and does it. A restart therefore needs no special path:
// what the log says is undone is done, after reading back what the hypervisor
// says.
//
// Run owns every goroutine, save one kind: a call into an adapter that ignores
// its deadline is left behind, counted, and bars calls of the other kind to
// the same server until it returns.
//
// The package imports flow and nothing of its siblings.
package respond
