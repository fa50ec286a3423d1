// Package exempt keeps the exemptions: findings that they cover are recorded and
// not acted on. Those of the configuration come in at the start, those that people
// make while the service runs over Create, Change and Remove, and are kept in an
// append-only log; out goes the answer whether a finding is covered, and by which.
// How often each was needed is counted and kept too.
//
// Run owns the one goroutine, which stores the counts. The package imports flow and
// internal/journal.
package exempt
