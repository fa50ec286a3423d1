// Package respond turns findings into incidents and incidents into acts.
//
// In come findings of the detector (Handle), orders of people (Approve,
// Restrict, Release, Close, Undo, Unfreeze) and answers of customers
// (Statement); out go calls to hypervisors (Suspender, Restrictor), frozen
// evidence (Flows) and messages (Notifier). The state is an append-only event log (Log):
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
// A rule's ladder says which measure is taken first and which follows while the
// abuse goes on. An incident has one measure in force or under way, its Action;
// what that replaces, and what the fallback adapter took, are its Others, given
// back once the Action reads back, and all of it with the release. What must be
// in force is read back each minute, and taken up again where it is not; what
// carries our mark without an incident that holds it is an orphan.
//
// What happens without a human is bounded: caps, a freeze when many tenants
// trip a rule at once, the age of the inventory, the protected list. A bound
// that is reached holds the act and keeps the state.
//
// Run owns every goroutine, save one kind: a call into an adapter that ignores
// its deadline is left behind, counted, and bars calls of the other kind to
// the same server until it returns.
//
// The package imports flow and nothing of its siblings.
package respond
