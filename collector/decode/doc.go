// Package decode turns export datagrams (NetFlow v5, v9, IPFIX, sFlow v5) into
// flow.Records.
//
// In: one UDP payload with its source address and time of receipt. Out: runs of
// records through a callback, and counts of everything that was not turned into
// one. The package starts no goroutine and does no I/O; a Decoder belongs to one
// goroutine at a time. It may import flow; goflow2 is the reference that its
// tests compare with.
//
// Every length and count is checked against the bytes that remain before it is
// used: a bad set or sample costs itself only, and memory is bounded by the
// bytes received. NetFlow v5 and sFlow are read in place. A template of v9 or
// IPFIX is compiled once into a plan (plan.go), which reads its records without
// allocation: common elements straight into the record (plan_quick.go), all
// others by the rules of record.go.
package decode
