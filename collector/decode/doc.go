// Package decode turns export datagrams (NetFlow v5, v9, IPFIX, sFlow v5) into
// flow.Records.
//
// In: one UDP payload with its source address and time of receipt. Out: records
// through a callback, and counts of everything that was not turned into one.
// The package starts no goroutine and does no I/O; a Decoder belongs to one
// goroutine. It may import flow and the goflow2 decoders.
//
// Nothing from the wire reaches goflow2 before a guard has walked it: the guard
// (netflow.go, template.go, sflow.go, netflow5.go) checks every length and
// count against the bytes that remain and hands over one template record, a
// bounded run of whole data records, or one sFlow flow record at a time. So a
// bad set costs that set only, and memory is bounded by the bytes received.
//
// The seam for a faster path is type plan (plan.go): a template holds the plan
// that reads its records, and the only plan so far is the one on goflow2. A
// compiled plan can take its place per template, with goflow2 as the reference.
package decode
