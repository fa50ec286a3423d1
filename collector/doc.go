// Package collector takes flow exports in by UDP and hands windows per internal
// address to a Sink: sockets → queues → decode → aggregate → sink.
//
// Each socket has one reader, which does nothing but check the sender against
// the allow-list and enqueue; it never blocks. Each shard has one worker with
// its own decoder and aggregator, and all datagrams of one exporter go to one
// shard, because templates and sequence numbers are the exporter's. Run owns
// all goroutines. Every datagram is accounted for:
//
//	received = decoded + Σ dropped{reason}
//
// The package imports flow and its own decode and aggregate.
package collector
