// Package load offers flow datagrams to a collector at rates that a generator
// which encodes each record could not reach. What comes in is a Config; New
// encodes a ring of datagrams per exporter, once and reproducibly; Run sends
// them from one thread, round after round, with what must be new each time
// (sequence numbers, clocks, record times) written into them. The rate may be
// changed while it runs. It imports flow.
//
// It has encoders of its own, for the fixed layouts that can be patched, so
// that a mistake in flowgen's is no mistake here.
package load
