package collector

import (
	"github.com/flowcordon/flowcordon/collector/decode"
)

// The reasons for which a datagram is dropped before it is decoded. Those of
// the decoder come on top (decode.Reasons with LevelDatagram).
const (
	// ReasonNotAllowed: the sender is not in exporters.allow.
	ReasonNotAllowed = decode.ReasonNotAllowed
	// ReasonTruncated: longer than MaxDatagram; its end would be missing.
	ReasonTruncated = "truncated"
	// ReasonShutdown: still in the kernel's buffer when the time for draining
	// was over.
	ReasonShutdown = "shutdown"
)

// ReasonStoreRefused counts rows that the sink did not take, for example because its
// spool is full: rows, not datagrams.
const ReasonStoreRefused = "store_refused"

// DatagramReasons lists every reason for which a whole datagram is dropped.
func DatagramReasons() []string {
	out := []string{ReasonTruncated, ReasonShutdown}
	for _, r := range decode.Reasons() {
		if r.Level == decode.LevelDatagram {
			out = append(out, r.Name)
		}
	}
	return out
}
