// Package aggregate turns flow.Records into windows per internal address, in
// event time. Records come in by Add, rows that are due go out by Flush.
//
// Rows are partial sums: several rows of one key may be emitted, and every
// reader adds them up. The counters of all rows of a key add up exactly to what
// the records said; the union of the rows' Remotes and Ports is the exact set.
//
// The package starts no goroutine, reads no clock (flow.Record.Received is
// "now") and does no I/O. An Aggregator belongs to one goroutine. It may import
// flow and the prefix table.
package aggregate
