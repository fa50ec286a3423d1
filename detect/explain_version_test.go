package detect

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// TestExplainVersion: whenever Explain tells another thing, the version is another.
func TestExplainVersion(t *testing.T) {
	cfg := Defaults()
	cfg.Overrides = []Override{{Match: Match{Tag: "busy"}, Rules: netscanOf("suspend_score", "44")}, {Match: prefix("198.18.0.0/15"), Rules: netscanOf("suspend_score", "55")}}
	holder := flow.Holder{Tenant: "c-7"}
	samplers := []flow.SamplerHealth{{Rate: 1000, LastSeen: epoch}}
	d := New(cfg, Deps{Windows: newMemWindows(),
		Health: healthFunc(func() []flow.ExporterHealth {
			return []flow.ExporterHealth{{Exporter: exporter, Records: uint64(len(samplers)), Samplers: samplers}}
		}),
		Holder: func(netip.Addr) (flow.Holder, bool) { return holder, holder.Tenant != "" }})
	ip, ts := tenant4, epoch
	was, text := d.ExplainVersion(ip, ts), fmt.Sprintf("%+v", d.Explain(ip, ts))
	for _, step := range []struct {
		name    string
		change  func()
		changed bool
	}{
		{"nothing", func() {}, false},
		{"more records of the same rate", func() { samplers[0].Records, samplers[0].LastSeen = 99, ts }, false},
		{"another rate", func() { samplers = append(samplers, flow.SamplerHealth{Rate: 500, LastSeen: ts}) }, true},
		{"the rate is as old as counts", func() { ts = epoch.Add(rateSeen); samplers[0].LastSeen = ts }, false},
		{"and older", func() { ts = ts.Add(1); samplers[0].LastSeen = ts }, true},
		{"a tag without an override", func() { holder.Tags = []string{"x"} }, true},
		{"a tag with one", func() { holder.Tags = []string{"x", "busy"} }, true},
		{"another customer", func() { holder.Tenant = "c-8" }, true},
		{"nobody", func() { holder = flow.Holder{} }, true},
		{"time", func() { ts = ts.Add(time.Minute) }, false},
		{"another address", func() { ip = netip.MustParseAddr("203.0.113.1") }, true},
	} {
		step.change()
		v, now := d.ExplainVersion(ip, ts), fmt.Sprintf("%+v", d.Explain(ip, ts))
		if (now != text) != step.changed {
			t.Errorf("%s: another answer: %v", step.name, now != text)
		}
		if (v != was) != step.changed {
			t.Errorf("%s: another version: %v", step.name, v != was)
		}
		was, text = v, now
	}
}
