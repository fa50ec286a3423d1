package collector

import (
	"maps"

	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// problemForms are the problems of an exporter that the decoder cannot see.
// web/src/exporters.ru.json has the same in Russian.
var problemForms = flow.Forms{
	"never_came":    "nothing came from {0} since the start: check its export destination, the ports under listen, and firewalls on the way",
	"no_rate":       "{0} records without a known sampling rate are kept out of detection: write exporters: {sampling: [{exporter: {1}, default: N}]} with its 1:N",
	"lost":          "{0} datagrams or records are missing by sequence number: if flowcordon_collector_kernel_drops_total grows too, raise collector.read_buffer and net.core.rmem_max; else they are lost on the way",
	"silent":        "silent since {0}: check the export on the router and the way to this host",
	"records_ahead": "its clock is ahead: {0} records ended over 60 s after they arrived; the time of arrival was used. Set its clock by NTP",
	"clock_ahead":   "its clock is {0} s ahead of ours: set it by NTP",
	"clock_behind":  "its clock is {0} s behind ours, or its datagrams take that long: set it by NTP",
	"too_late":      "{0} records ended over {1} before they arrived and were dropped: its clock is behind (set it by NTP) or its time zone is not UTC",
	"held_back":     "records wait up to {0} s in it before they are exported (99 % of them up to {1} s): set active timeout 60 s, inactive 15 s",
	"late":          "records arrive up to {0} s after they ended: its clock is behind (set it by NTP) or it holds them back (set active timeout 60 s, inactive 15 s)",
	"long_flows":    "records span up to {0} s (99 % of them up to {1} s), and what they count is spread over all of it: set active timeout 60 s",
}

// Sentences are all problems that Exporters may tell, by code.
func Sentences() flow.Forms {
	all := decode.Sentences()
	maps.Copy(all, problemForms)
	return all
}
