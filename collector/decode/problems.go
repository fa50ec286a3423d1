package decode

import (
	"maps"

	"github.com/flowcordon/flowcordon/flow"
)

// dropped begins the codes of problems that are reasons: decode.Reasons.
const dropped = "dropped."

// problemForms are the problems that the decoder sees of an exporter.
// web/src/exporters.ru.json has the same in Russian.
var problemForms = func() flow.Forms {
	f := flow.Forms{
		"rate_unknown":       "domain {0} states no sampling rate: {1} records are kept out of detection. Add under exporters.sampling: {exporter: {2}, default: N} with N of the router's 1:N (1 where it does not sample)",
		"rate_changed":       "domain {0} changed its sampling rate at {1} from 1:{2} to 1:{3}: nothing to do if that was meant; counts before and after are each scaled by their own rate",
		"rate_stale":         "domain {0} states its sampling rate 1:{1} no longer, last at {2}; it is still used. Let the router send its sampler options every 10 minutes, or set exporters.sampling: {exporter: {3}, override: N}",
		"rate_stale_unseen":  "domain {0} states its sampling rate 1:{1} no longer, last before this program kept the time; it is still used. Let the router send its sampler options every 10 minutes, or set exporters.sampling: {exporter: {2}, override: N}",
		"rate_deviates":      "sFlow source {0} states 1:{1} but took {2} samples of {3} packets, 1:{4}: check the agent's sampling; until then set exporters.sampling: {exporter: {5}, override: {4}}",
		"rate_deviates_more": "sFlow source {0} states 1:{1} but took {2} samples of {3} packets, 1:{4} (and {6} sources more): check the agent's sampling; until then set exporters.sampling: {exporter: {5}, override: {4}}",
		"samples_dropped":    "its sFlow agent left out {0} samples for want of resources, the last at {1}: sample less often there (a greater N), or its traffic is counted short",
	}
	for _, r := range reasons {
		if r.Level != LevelNote || r.Name == NoteTimesClamped {
			f[dropped+r.Name] = r.Name + ": {0}. " + r.Help
		}
	}
	return f
}()

// Sentences are the problems that the decoder tells of exporters, by code.
func Sentences() flow.Forms { return maps.Clone(problemForms) }
