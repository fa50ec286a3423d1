// Package scenario is one tenant's traffic, packet by packet, from a small text
// file: connections in both directions with handshakes, retransmissions,
// answers, resets, TTLs and lengths; sampled at the border; exported as sFlow
// samples or through a NetFlow flow cache with timeouts. What comes in are a
// file, a seed and a sampling rate; what goes out are records, or the datagrams
// of a router (Wire). The file also says what a detector must say about it.
//
// It starts no goroutine, reads no clock, and imports flow and flowgen's export.
package scenario
