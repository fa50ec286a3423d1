// Package collector takes flow exports in by UDP and hands windows per internal
// address to a Sink: sockets → lanes (decode, route) → shards (aggregate) → sink.
//
// Each listen address has as many sockets as there are workers, all on its port.
// A program in the kernel picks the socket by the exporter's address, so that all
// datagrams of one exporter meet one reader and one lane: templates and sequence
// numbers are the exporter's. A lane's front judges records and sends their sides
// to the shards by tenant, so that one exporter's load uses all cores. With one
// worker the reader does it all itself, without a hand-off; with several, shards
// have a worker each and a bounded number of blocks: a reader that finds none
// waits, and datagrams with it, in the kernel's buffer, which counts its drops.
//
// A reader takes what a socket has in batches, and naps once it ran empty, since
// to be woken up for each datagram costs more than all else does. Run owns all
// goroutines. Every datagram and every record is accounted for:
//
//	received = decoded + Σ dropped{reason}
//	records = aggregated + Σ dropped{reason}
//
// The package imports flow and its own decode and aggregate.
package collector
