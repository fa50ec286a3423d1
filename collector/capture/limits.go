package capture

// Limits on what a file may ask for.
const (
	// maxRawFile is the largest raw file read (into memory). IPFIX files of
	// probes are some MB; larger archives belong into pcap, which is streamed.
	maxRawFile = 256 << 20

	// maxPacket is the largest packet of a capture, as in libpcap
	// (MAXIMUM_SNAPLEN).
	maxPacket = 262144

	// maxFragments bounds the IP packets that wait for their other fragments;
	// the oldest gives way. A capture of exporters has a handful at a time.
	maxFragments = 256

	// maxIPPacket is what the fragments of one packet may add up to (RFC 791
	// §3.1: total length has 16 bits).
	maxIPPacket = 65535

	// maxFiles bounds a directory.
	maxFiles = 100_000

	maxVLANTags = 4
	maxIPv6Ext  = 10 // RFC 8200 §4.1 lists 7
)
