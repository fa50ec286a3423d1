// Package flow is the vocabulary of flowcordon: what travels between the
// packages that do the work. A datagram becomes a Record, Records become
// windows per internal IP, windows become Findings, Findings become an
// Incident, an Incident leads to an Action and is proved by Evidence.
//
// The package holds values only. It starts no goroutine, does no I/O, keeps no
// global state and imports nothing but the standard library. Times that cross
// the hot path are int64 nanoseconds since the Unix epoch, UTC; everywhere else
// they are time.Time in UTC. Counters are as exported (not multiplied by the
// sampling rate) unless a name begins with Est.
package flow
