package detect

import (
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// collect returns a function that appends copies of rows to b.
func collect(b *flow.Batch) func(*flow.Batch) {
	return func(rows *flow.Batch) {
		b.Hosts, b.Flows = append(b.Hosts, rows.Hosts...), append(b.Flows, rows.Flows...)
		for _, r := range rows.Services {
			r.Remotes = slices.Clone(r.Remotes)
			b.Services = append(b.Services, r)
		}
		for _, r := range rows.Pairs {
			r.Ports = slices.Clone(r.Ports)
			b.Pairs = append(b.Pairs, r)
		}
	}
}
