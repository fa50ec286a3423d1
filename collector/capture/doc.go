// Package capture reads export datagrams from files: pcap and pcapng (the
// payloads of UDP datagrams, fragments put together), and raw files that hold
// one datagram or several one after the other.
//
// In: a path. Out: datagrams with source address, time and payload, in the
// order of the file. The same file always gives the same datagrams: a raw file
// has no clock, so the time that its export header states is used, and never
// that of the file. The package starts no goroutine and knows no export
// protocol beyond the header fields that raw files are cut and timed by.
package capture
