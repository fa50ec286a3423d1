package detect

import (
	"encoding/json"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// ExplainVersion is another number after each change of what Explain tells of an
// address at ts: who holds it with which tags, and the exporters' rates. The
// configuration is the process's.
func (d *Detector) ExplainVersion(ip netip.Addr, ts time.Time) uint64 {
	ip = ip.Unmap()
	h := d.holder(ip)
	tags := d.tags(ip, h)
	type rate struct {
		Exporter netip.Addr
		Rates    []uint32
	}
	var rates []rate
	if d.deps.Health != nil {
		for _, e := range d.deps.Health.Exporters() {
			rates = append(rates, rate{e.Exporter, ratesSeen(&e, ts)})
		}
	}
	sum := fnv.New64a()
	// Which overrides match is a matter of address, holder, plan and tags.
	_ = json.NewEncoder(sum).Encode([]any{ip, h.Tenant, tags, d.policies.of(ip, h, tags).set, rates}) // a hash takes everything
	return sum.Sum64()
}

// ratesSeen are the sampling rates of an exporter that are in force at ts, in order.
func ratesSeen(e *flow.ExporterHealth, ts time.Time) []uint32 {
	var out []uint32
	for _, s := range e.Samplers {
		if s.Rate > 0 && ts.Sub(s.LastSeen) <= rateSeen && !slices.Contains(out, s.Rate) {
			out = append(out, s.Rate)
		}
	}
	slices.Sort(out)
	return out
}
