// Package aggregate turns flow.Records into windows per internal address, in
// event time. A Front judges records and routes their sides, as Items in Blocks,
// to shards by tenant; each shard's Aggregator adds them to its tables and hands
// rows over in Flush. Local is both in one.
//
// Rows are partial sums: several rows of one key may be emitted, and every
// reader adds them up. The counters of all rows of a key add up exactly to what
// the records said, and the union of the rows' Ports is the exact set; so is
// that of their Remotes up to 4096, above which they are a sample that is
// united as well (flow.ServiceWindow). Pairs are bounded: one of which little is
// known gives way to a new one, and is counted.
//
// The package starts no goroutine, reads no clock (flow.Record.Received is
// "now") and does no I/O. A Front and an Aggregator belong to one goroutine each;
// Blocks may go from one to another. On Linux large tables lie in memory that is
// mapped for them and given back when the Aggregator is collected. It may import
// flow, the prefix table and the system calls for that.
package aggregate
